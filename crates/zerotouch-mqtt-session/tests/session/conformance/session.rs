//! Sessions on the server: what outlives a connection, and what does not.

use std::collections::BTreeSet;

use zerotouch_mqtt_codec::{Decoded, Packet, QoS, decode};
use zerotouch_mqtt_session::{PublishError, ServerConfig, ServerConnection};

use crate::support::*;

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

/// A publisher on connection 1, and a client "c" that has subscribed to "t" and left.
fn away() -> World {
    let mut world = World::new();
    world.publisher(1);
    world.connect(2, "c", false);
    world.send(2, &subscribe(1, &[("t", Q2)]));
    world.send(2, &DISCONNECT);
    world
}

#[test]
fn mqtt_2_3_1_4() {
    let config = ServerConfig { max_in_flight: u16::MAX, ..ServerConfig::default() };
    let mut server = ServerConnection::new(&config, T0);
    server.handle_bytes(&mut &connect_packet("c", true)[..], T0);
    server.accept(false, T0);
    server.handle_transmitted(4);
    let mut ids = BTreeSet::new();
    let mut send = |server: &mut ServerConnection| {
        server.publish(topic("t"), b"", Q1, false)?;
        let sent = server.poll_transmit().unwrap();
        let Ok(Decoded::Complete { packet: Packet::Publish(publish), used }) = decode(sent) else {
            panic!("{sent:?}");
        };
        assert!(ids.insert(publish.packet_identifier().unwrap()), "in use");
        server.handle_transmitted(used);
        Ok(publish_id(ids.last()))
    };
    for _ in 1..=u16::MAX {
        send(&mut server).unwrap();
    }
    assert_eq!(send(&mut server), Err(PublishError::WindowFull { limit: u16::MAX }));
    // The client's own use of an identifier does not concern the server's.
    server.handle_bytes(&mut &qos1(77, "t", "x")[..], T0);
    server.acknowledge(id(77));
    assert_eq!(server.poll_transmit(), Some(&puback(77)[..]));
    assert_eq!(server.in_flight(), 65_535);
}

fn publish_id(id: Option<&zerotouch_mqtt_codec::PacketIdentifier>) -> u16 {
    id.map_or(0, |id| id.get())
}

#[test]
fn mqtt_3_1_2_4_server() {
    let mut world = away();
    assert_eq!(world.connect(3, "c", false), connack(true));
    world.send(1, &qos0("t", "x"));
    assert_eq!(world.received(3), qos0("t", "x"), "subscribed still");
    world.cut(3);
    assert_eq!(world.connect(4, "c", false), connack(true), "however the connection ends");
}

#[test]
fn mqtt_3_1_2_5() {
    let mut world = away();
    world.send(
        1,
        &[qos1(1, "t", "1"), qos2(2, "t", "2"), qos0("t", "0"), qos1(3, "t", "3")].concat(),
    );
    assert_eq!(
        world.connect(3, "c", false),
        [connack(true), qos1(1, "t", "1"), qos2(2, "t", "2"), qos1(3, "t", "3")].concat(),
        "sent for the first time, so without DUP"
    );
}

#[test]
fn mqtt_3_1_2_6_server() {
    let mut world = away();
    world.send(1, &qos1(1, "t", "waits"));
    assert_eq!(world.connect(3, "c", true), connack(false));
    world.send(1, &qos1(2, "t", "x"));
    assert_eq!(world.received(3), b"", "neither messages nor subscriptions");
    world.send(3, &subscribe(1, &[("t", Q1)]));
    world.send(3, &DISCONNECT);
    world.send(1, &qos1(3, "t", "x"));
    assert_eq!(world.connect(4, "c", false), connack(false), "nor is a clean one used later");
    world.send(1, &qos1(4, "t", "x"));
    assert_eq!(world.received(4), b"");
}

// Printed as MQTT-3.1.2.7 in the standard.
#[test]
fn mqtt_3_1_2_7() {
    let mut world = World::new();
    world.publisher(1);
    world.send(1, &retained(qos1(1, "t", "stays")));
    world.send(1, &DISCONNECT);
    world.cut(1);
    assert_eq!(world.server.session_count(), 0);
    world.publisher(2);
    assert_eq!(
        world.send(2, &subscribe(1, &[("t", Q0)])),
        [suback(1, &[0]), retained(qos0("t", "stays"))].concat()
    );
}

#[test]
fn mqtt_3_1_3_2_server() {
    let mut world = away();
    world.send(1, &qos1(1, "t", "for c"));
    assert_eq!(world.connect(3, "d", false), connack(false));
    assert_eq!(world.connect(4, "c", false), [connack(true), qos1(1, "t", "for c")].concat());
}

#[test]
fn mqtt_4_1_0_1_server() {
    let mut world = away();
    for round in 0_u16..5 {
        world.send(1, &qos2(round + 1, "t", "x"));
        let connection = 10 + u64::from(round);
        let received = world.connect(connection, "c", false);
        assert_eq!(received[..4], connack(true));
        let expected: usize = (0..=round).map(|_| qos2(1, "t", "x").len()).sum();
        assert_eq!(received.len(), 4 + expected, "everything that is not acknowledged");
        world.cut(connection);
    }
}

#[test]
fn mqtt_4_1_0_2_server() {
    let mut world = World::new();
    world.publisher(1);
    world.subscriber(2, &[("t", Q2)]);
    world.send(1, &qos2(1, "t", "x"));
    world.received(2);
    for connection in 3..6 {
        world.connect(connection, "c", true);
        world.cut(connection);
    }
    assert_eq!(world.send(2, &pubrec(1)), pubrel(1), "a clean session lives with its connection");
    assert_eq!(world.server.session_count(), 2);
}

#[test]
fn mqtt_4_4_0_1_server() {
    let mut world = away();
    world.connect(3, "c", false);
    for number in 1..=3 {
        world.send(1, &qos2(number, "t", &number.to_string()));
    }
    world.send(3, &[pubrec(1), pubcomp(1), pubrec(2)].concat());
    world.cut(3);
    for connection in 4..6 {
        assert_eq!(
            world.connect(connection, "c", false),
            [connack(true), dup(qos2(3, "t", "3")), pubrel(2)].concat(),
            "as often as it takes"
        );
        world.cut(connection);
    }
}
