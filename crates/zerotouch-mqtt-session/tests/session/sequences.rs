//! The collected hostile sequences that concern MQTT, each a test of its name.

use std::collections::BTreeSet;
use std::time::Duration;

use zerotouch_mqtt_codec::{ConnectRefusal, PacketType, QoS};
use zerotouch_mqtt_session::{
    BrokerEvent, ClientConfig, CloseReason, PlainBrokerConfig, ServerConfig, ServerConnection,
    ServerEvent, ServerLimits, Violation,
};

use crate::support::*;

/// Sequences that are tests of this file.
macro_rules! here {
    ($($name:ident),* $(,)?) => {
        // Mentions the functions too: a test that is gone does not compile.
        [$((stringify!($name), $name as fn())),*]
    };
}

/// Sequences of what is spoken over MQTT, and the crate whose subject each is.
const ELSEWHERE: [(&str, &str); 8] = [
    ("response_other_rid", "zerotouch-dps"),
    ("response_duplicate", "zerotouch-dps"),
    ("response_reordered", "zerotouch-dps"),
    ("response_error_then_ok", "zerotouch-dps"),
    ("assigned_without_chain", "zerotouch-device"),
    ("chain_key_mismatch", "zerotouch-device"),
    ("renewal_response_after_reconnect", "zerotouch-device"),
    ("clock_step_back", "zerotouch-device"),
];

// A row that concerns MQTT and is no test here must not go unnoticed.
#[test]
fn every_sequence_has_its_place() {
    let here = here![
        first_packet_puback,
        first_packet_big_publish_claim,
        double_connect,
        pipelined_after_bad_auth,
        half_connect_then_silence,
        trickle_connect,
        takeover,
        keepalive_expiry,
        many_qos2_same_pid,
        deep_topic,
        subscribe_flood,
        publish_before_connack,
        connack_then_connack,
        connack_sp1_on_clean,
        connack_never,
        suback_80,
        suback_count_mismatch,
        suback_unknown_pid,
        puback_unknown_pid,
        puback_duplicate,
        late_connack_after_close,
        eof_inside_packet,
    ];
    let tested: BTreeSet<_> =
        here.iter().map(|(name, _)| *name).chain(ELSEWHERE.map(|(name, _)| name)).collect();
    let rows = include_str!("../vectors/sequences.csv").lines().skip(1);
    let rows: BTreeSet<_> = rows.filter_map(|row| row.split(',').next()).collect();
    assert_eq!(tested, rows);
}

/// Sends a first packet that is none to a server, which closes without a word.
fn first_packet(packet: &[u8]) {
    let mut world = World::new();
    world.open(1);
    assert_eq!(world.send(1, packet), b"");
    assert!(world.is_closed(1));
    let reason = CloseReason::Violation(Violation::FirstPacketNotConnect);
    let connection = zerotouch_mqtt_session::ConnectionId(1);
    assert_eq!(world.events(), [BrokerEvent::Closed { connection, client_id: None, reason }]);
}

#[test]
fn first_packet_puback() {
    first_packet(&puback(1));
}

// The first byte is enough: nothing is set aside for the 256 MiB that are claimed.
#[test]
fn first_packet_big_publish_claim() {
    first_packet(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    first_packet(&[0x30]);
}

#[test]
fn double_connect() {
    let mut world = World::new();
    world.subscriber(2, &[("w", QoS::AtMostOnce)]);
    world.open(1);
    let connect = connect_with_will("c", true, Some(("w", "gone", QoS::AtMostOnce, false)));
    assert_eq!(world.send(1, &connect.repeat(2)), CONNACK, "one CONNACK");
    assert!(world.is_closed(1));
    assert_eq!(world.received(2), qos0("w", "gone"), "no graceful end");
}

#[test]
fn pipelined_after_bad_auth() {
    let mut server = ServerConnection::new(&ServerConfig::default(), T0);
    let bytes = [connect_packet("c", true), qos0("t", "x")].concat();
    let mut input = &bytes[..];
    assert!(matches!(server.handle_bytes(&mut input, T0), Some(ServerEvent::Connect(_))));
    assert!(server.handle_bytes(&mut input, T0).is_none(), "not before the policy has answered");
    server.refuse(ConnectRefusal::BadUserNameOrPassword);
    assert!(server.handle_bytes(&mut input, T0).is_none(), "and not after a refusal");
    assert!(matches!(server.poll_event(), Some(ServerEvent::Closed(CloseReason::Refused(_)))));
    assert_eq!(server.poll_transmit(), Some(&[0x20, 2, 0, 4][..]));
    assert!(server.is_closed());
}

#[test]
fn half_connect_then_silence() {
    let mut world = World::new();
    world.open(1);
    world.send(1, &connect_packet("c", true)[..5]);
    world.wait(Duration::from_secs(30) - Duration::from_micros(1));
    assert!(!world.is_closed(1));
    world.wait(Duration::from_micros(1));
    assert!(world.is_closed(1));
    assert_eq!(world.server.connection_count(), 0);
}

#[test]
fn trickle_connect() {
    let mut world = World::new();
    world.open(1);
    let mut received = Vec::new();
    for byte in connect_packet("c", true) {
        world.wait(Duration::from_millis(100));
        received.extend(world.send(1, &[byte]));
    }
    assert_eq!(received, CONNACK);
}

#[test]
fn takeover() {
    let mut world = World::new();
    world.publisher(9);
    world.connect(1, "x", false);
    world.send(1, &subscribe(1, &[("t", QoS::AtLeastOnce)]));
    world.send(9, &qos1(1, "t", "unacknowledged"));
    assert_eq!(world.received(1), qos1(1, "t", "unacknowledged"));
    assert_eq!(
        world.connect(2, "x", false),
        [connack(true), dup(qos1(1, "t", "unacknowledged"))].concat()
    );
    assert!(world.is_closed(1));
    world.send(9, &qos1(2, "t", "later"));
    assert_eq!(world.received(1), b"");
    assert_eq!(world.received(2), qos1(2, "t", "later"));
}

#[test]
fn keepalive_expiry() {
    let mut world = World::new();
    world.publisher(1);
    world.wait(Duration::from_secs(15) - Duration::from_micros(1));
    assert!(!world.is_closed(1));
    world.wait(Duration::from_micros(1));
    assert!(world.is_closed(1));
    assert!(world.events().iter().any(|event| matches!(
        event,
        BrokerEvent::Closed { reason: CloseReason::KeepAliveTimeout, .. }
    )));
}

// A million would tell no more: nothing is kept for the second one.
#[test]
fn many_qos2_same_pid() {
    let mut world = World::new();
    world.subscriber(2, &[("t", QoS::AtMostOnce)]);
    world.publisher(1);
    let message = qos2(7, "t", "x");
    for _ in 0..10_000 {
        assert_eq!(world.send(1, &message), pubrec(7));
    }
    assert_eq!(world.received(2), qos0("t", "x"), "passed on once");
}

#[test]
fn deep_topic() {
    let deep = "/".repeat(32_767);
    let mut world = World::new();
    world.subscriber(2, &[("#", QoS::AtMostOnce)]);
    world.publisher(1);
    assert_eq!(world.send(1, &subscribe(1, &[(&deep, QoS::AtMostOnce)])), suback(1, &[0x80]));
    world.send(1, &qos0(&deep, "x"));
    assert_eq!(world.received(2), qos0(&deep, "x"));

    // And where the operator allows such depths, they still take no stack.
    let config = PlainBrokerConfig { max_levels: 100_000, ..PlainBrokerConfig::default() };
    let mut world = World::with(ServerLimits::default(), config);
    world.subscriber(2, &[(&deep, QoS::AtMostOnce)]);
    world.publisher(1);
    world.send(1, &retained(qos0(&deep, "x")));
    assert_eq!(world.received(2), qos0(&deep, "x"));
    assert_eq!(world.send(2, &unsubscribe(1, &[&deep])), unsuback(1));
}

#[test]
fn subscribe_flood() {
    let mut world = World::new();
    world.publisher(1);
    let (mut granted, mut refused) = (0, 0);
    for number in 1..=10_000 {
        let answer =
            world.send(1, &subscribe(number, &[(&format!("f/{number}"), QoS::AtMostOnce)]));
        match answer[..] {
            [0x90, 3, .., 0] => granted += 1,
            [0x90, 3, .., 0x80] => refused += 1,
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!((granted, refused), (1_000, 9_000));
}

#[test]
fn publish_before_connack() {
    let mut client = connecting(true, ClientConfig::default());
    let reason = CloseReason::Violation(Violation::NotConnack(PacketType::Publish));
    assert_closed(&mut client, &qos1(1, "t", "x"), &reason);
}

#[test]
fn connack_then_connack() {
    let mut client = connected();
    let reason = CloseReason::Violation(Violation::SecondConnack);
    assert_closed(&mut client, &CONNACK, &reason);
}

#[test]
fn connack_sp1_on_clean() {
    let mut client = connecting(true, ClientConfig::default());
    let reason = CloseReason::Violation(Violation::SessionPresentOnClean);
    assert_closed(&mut client, &CONNACK_RESUMED, &reason);
}

#[test]
fn connack_never() {
    let mut client = connecting(true, ClientConfig::default());
    client.handle_timeout(after(29));
    assert!(!client.is_closed());
    client.handle_timeout(after(30));
    assert_eq!(drained(&mut client), ["Closed(HandshakeTimeout(ConnAck))"]);
    assert!(client.is_closed());
}

#[test]
fn suback_80() {
    let mut client = connected();
    client.subscribe(&[(filter("a"), QoS::AtLeastOnce)], T0).unwrap();
    let events = receive(&mut client, &[0x90, 3, 0, 1, 0x80]);
    assert_eq!(events, ["Subscribed(SubscribeHandle(1), [Failure])"]);
}

#[test]
fn suback_count_mismatch() {
    let mut client = connected();
    client
        .subscribe(&[(filter("a"), QoS::AtMostOnce), (filter("b"), QoS::AtMostOnce)], T0)
        .unwrap();
    sent(&mut client);
    let reason = CloseReason::Violation(Violation::SubAckCount { requested: 2, received: 1 });
    assert_closed(&mut client, &suback(1, &[0]), &reason);
}

#[test]
fn suback_unknown_pid() {
    let mut client = connected();
    client.subscribe(&[(filter("a"), QoS::AtMostOnce)], T0).unwrap();
    assert_eq!(receive(&mut client, &suback(2, &[0])), [""; 0], "ignored");
    assert_eq!(client.stray_acknowledgements(), 1, "and counted");
    assert_eq!(receive(&mut client, &suback(1, &[0])).len(), 1);
}

#[test]
fn puback_unknown_pid() {
    let mut client = connected();
    let handle = publish(&mut client, "x", QoS::AtLeastOnce).unwrap().unwrap();
    assert_eq!(receive(&mut client, &puback(9)), [""; 0], "ignored");
    assert_eq!(client.stray_acknowledgements(), 1, "and counted");
    assert_eq!(receive(&mut client, &puback(1)), [format!("Published({handle:?})")]);
}

#[test]
fn puback_duplicate() {
    let config = ClientConfig { max_in_flight: 2, ..ClientConfig::default() };
    let mut client = connecting(true, config);
    receive(&mut client, &CONNACK);
    let first = publish(&mut client, "1", QoS::AtLeastOnce).unwrap().unwrap();
    publish(&mut client, "2", QoS::AtLeastOnce).unwrap();
    assert_eq!(
        receive(&mut client, &puback(1).repeat(2)),
        [format!("Published({first:?})")],
        "the second one is ignored"
    );
    assert_eq!((client.stray_acknowledgements(), client.in_flight()), (1, 1));
    assert!(publish(&mut client, "3", QoS::AtLeastOnce).is_ok(), "room for one");
    assert!(publish(&mut client, "4", QoS::AtLeastOnce).is_err(), "and for no more");
}

#[test]
fn late_connack_after_close() {
    let mut client = connecting(true, ClientConfig::default());
    client.disconnect();
    assert_eq!(sent(&mut client), DISCONNECT);
    assert_eq!(drained(&mut client), ["Closed(Disconnected)"]);
    assert_eq!(receive(&mut client, &CONNACK), [""; 0]);
    client.disconnect();
    client.handle_closed();
    assert_eq!((sent(&mut client).len(), drained(&mut client).len()), (0, 0));
}

// Every packet, cut everywhere, at either end.
#[test]
fn eof_inside_packet() {
    for packet in [
        connack(false),
        qos0("t", "x"),
        qos2(1, "t", "x"),
        puback(1),
        pubrel(1),
        pubcomp(1),
        suback(1, &[0, 0x80]),
        unsuback(1),
        PINGRESP.to_vec(),
    ] {
        for cut in 1..packet.len() {
            let mut client = if packet[0] == 0x20 {
                connecting(true, ClientConfig::default())
            } else {
                connected()
            };
            assert_eq!(receive(&mut client, &packet[..cut]), [""; 0]);
            client.handle_closed();
            assert_eq!(drained(&mut client), ["Closed(Truncated)"], "{packet:?} at {cut}");
        }
    }
    for packet in [
        connect_packet("c", true),
        qos1(1, "t", "x"),
        pubrec(1),
        subscribe(1, &[("a", QoS::AtMostOnce)]),
        unsubscribe(1, &["a"]),
        PINGREQ.to_vec(),
        DISCONNECT.to_vec(),
    ] {
        for cut in 1..packet.len() {
            let mut world = World::new();
            if packet[0] == 0x10 {
                world.open(1);
            } else {
                world.publisher(1);
            }
            assert_eq!(world.send(1, &packet[..cut]), b"");
            world.cut(1);
            let end = world.events().pop();
            assert!(
                matches!(end, Some(BrokerEvent::Closed { reason: CloseReason::Truncated, .. })),
                "{packet:?} at {cut}: {end:?}"
            );
        }
    }
}
