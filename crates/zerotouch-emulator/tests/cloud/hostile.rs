//! Whatever a client sends ends at most its own connection.

use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zerotouch_emulator::cloud::{ConnectionId, Fixture};
use zerotouch_mqtt_codec::{
    Connect, Delivery, Login, Packet, PacketIdentifier, Publish, QoS, Subscribe, Subscriptions,
    Text, TopicFilter, TopicName,
};

use crate::support::{DPS_VERSION, Got, HUB_VERSION, World, dps_username, private_key};

// A port scan, a browser, a client of another protocol.
#[test]
fn what_is_not_mqtt_is_closed_at_once() {
    let mut world = World::new(Fixture::default());
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\0",
        &[0xFF; 64],
        &[0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        b"\x30\x05\0\x01axx",
        b"\xC0\0",
    ] {
        let connection = world.open(Vec::new());
        world.send_bytes(connection, bytes);
        assert!(world.is_closed(connection), "{bytes:?}");
        assert_eq!(world.received(connection), []);
    }
    let connection = world.open(Vec::new());
    world.wait(Duration::from_secs(29));
    assert!(!world.is_closed(connection));
    world.wait(Duration::from_secs(1));
    assert!(world.is_closed(connection), "a client that says nothing is not waited for");
    assert_eq!(world.cloud.connection_count(), 0);
    assert_eq!(world.cloud.poll_timeout(), None);
}

// A stranger to the level of the protocol, or without a name it needs, is told so.
#[test]
fn connacks_of_the_protocol_itself() {
    let mut world = World::new(Fixture::default());
    let mqtt5 = world.open(Vec::new());
    world.send_bytes(mqtt5, b"\x10\x0E\0\x04MQTT\x05\x02\0\0\0\0\x01d");
    assert_eq!(world.received(mqtt5), [Got::Refused(1)]);
    let nameless = world.open(Vec::new());
    world.send_bytes(nameless, b"\x10\x0C\0\x04MQTT\x04\0\0\0\0\0");
    assert_eq!(world.received(nameless), [Got::Refused(2)]);
    assert!(world.is_closed(mqtt5) && world.is_closed(nameless));
}

// Bytes may come one at a time, or all packets in one piece: it is one stream.
#[test]
fn pieces_and_wholes_mean_the_same() {
    let world = World::new(Fixture::default());
    let token = world.dps_token(&world.device_key("d"), "d");
    let username = dps_username(world.cloud.id_scope(), "d", DPS_VERSION);
    let login = Login { username: Text::new(&username).unwrap(), password: Some(token.as_bytes()) };
    let filters = [(TopicFilter::new("$dps/registrations/res/#").unwrap(), QoS::AtLeastOnce)];
    let id = PacketIdentifier::MIN;
    let topic = "$dps/registrations/PUT/iotdps-register/?$rid=1";
    let packets = [
        Packet::Connect(Connect {
            client_id: Text::new("d").unwrap(),
            clean_session: true,
            keep_alive: 0,
            will: None,
            login: Some(login),
        }),
        Packet::Subscribe(Subscribe { id, filters: Subscriptions::new(&filters).unwrap() }),
        Packet::Publish(Publish {
            topic: TopicName::new(topic).unwrap(),
            payload: b"{}",
            retain: false,
            delivery: Delivery::AtLeastOnce { id, dup: false },
        }),
        Packet::PingReq,
    ];
    let mut stream = Vec::new();
    for packet in packets {
        packet.encode_to(&mut stream).unwrap();
    }
    let mut outcomes = Vec::new();
    for size in [1, 7, stream.len()] {
        let mut world = World::new(Fixture::default());
        let connection = world.open(Vec::new());
        for piece in stream.chunks(size) {
            world.send_bytes(connection, piece);
        }
        outcomes.push(world.received(connection));
    }
    assert!(
        matches!(&outcomes[0][..],
        [Got::Accepted { .. }, Got::SubAck(_), Got::PubAck(1), Got::Message { topic, .. }, Got::PingResp]
            if topic.contains("/202/")),
        "{:?}",
        outcomes[0]
    );
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
}

// Noise after a valid beginning, on both services: nothing panics, the others are served on.
#[test]
fn noise_ends_one_connection_only() {
    let mut world = World::new(Fixture::default());
    let identity = world.provision("d", &private_key(1));
    let steady = world.connect_dps("steady", DPS_VERSION);
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    for round in 0..400_u32 {
        let connection = match round % 3 {
            0 => world.open(vec![vec![0x30; 40]]),
            1 => world.connect_dps("noisy", DPS_VERSION),
            _ => world.try_hub(&identity, HUB_VERSION, true),
        };
        let mut noise = vec![0; 48];
        rng.fill_bytes(&mut noise);
        // Half of them begin like a packet that makes sense there.
        if round % 2 == 0 {
            let header = [0x30 | (noise[0] & 0x0F), 46, 0, noise[2] & 0x1F];
            noise[..4].copy_from_slice(&header);
        }
        world.send_bytes(connection, &noise);
        world.received(connection);
        if !world.is_closed(connection) {
            world.cut(connection);
        }
    }
    world.register(steady, b"");
    assert!(world.message(steady).0.contains("/202/"));
}

// Topics that begin rightly and go on wrongly; bodies of every wrong kind.
#[test]
fn odd_requests_are_survived() {
    let mut world = World::new(Fixture::default());
    let identity = world.provision("d", &private_key(1));
    let deep = "[".repeat(200_000);
    let bodies = [&b""[..], b"null", b"{", b"\"", b"\xFF\xFE", b"{\"csr\":{}}", deep.as_bytes()];
    let long = format!("$dps/registrations/PUT/iotdps-register/?$rid={}", "r".repeat(65_400));
    let dps = [
        "$dps/registrations/PUT/iotdps-register/?",
        "$dps/registrations/PUT/iotdps-register/?$rid=",
        "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId=",
        "$dps/registrations/GET/iotdps-get-operationstatus/?&&&===%",
        &long,
        "$dps/",
    ];
    for topic in dps {
        for body in bodies {
            let connection = world.connect_dps("e", DPS_VERSION);
            world.publish(connection, topic, body);
        }
    }
    let hub = [
        "$iothub/credentials/POST/issueCertificate/?$rid=1",
        "$iothub/twin/PATCH/properties/reported/?$rid=1",
        "$iothub/twin/GET/?$rid=%",
        "$iothub/methods/res/999/?$rid=1",
        "$iothub/methods/res/x/?",
        "devices/d/messages/events/%&=%zz&&&a",
    ];
    for topic in hub {
        for body in bodies {
            let connection = world.connect_hub(&identity, true);
            world.subscribe(connection, "$iothub/credentials/res/#");
            world.subscribe(connection, "$iothub/twin/res/#");
            world.publish(connection, topic, body);
        }
    }
    world.wait(Duration::from_secs(1));
    let connection = world.connect_hub(&identity, true);
    assert!(!world.is_closed(connection));
}

// Inputs for connections that are not there any more are dropped.
#[test]
fn late_inputs_are_dropped() {
    let mut world = World::new(Fixture::default());
    let now = world.now;
    let connection = world.connect_dps("d", DPS_VERSION);
    world.send(connection, Packet::Disconnect);
    assert!(world.is_closed(connection));
    world.cloud.handle_bytes(connection, b"\xC0\0", now);
    world.cloud.handle_closed(connection, now);
    world.cloud.handle_closed(ConnectionId(u64::MAX), now);
    world.cloud.handle_timeout(now);
    assert_eq!(world.cloud.poll_action(), None);
    // Nor does the cloud wake for what is gone.
    let stranger = world.open(Vec::new());
    assert!(world.cloud.poll_timeout().is_some());
    world.cut(stranger);
    assert_eq!(world.cloud.poll_timeout(), None);
}

// A client that lets its messages lie unacknowledged is not sent to without end, nor are its answers
// dropped in silence.
#[test]
fn a_client_that_never_acknowledges_is_closed() {
    let mut world = World::new(Fixture::default());
    let connection = world.connect_dps("d", DPS_VERSION);
    world.acknowledge = false;
    for registration in 0..100 {
        if world.is_closed(connection) {
            assert!(registration > 10, "so few are nothing");
            return;
        }
        world.register(connection, b"");
    }
    panic!("the connection is still open");
}
