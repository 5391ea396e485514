//! CONNECT, CONNACK, DISCONNECT and PINGREQ, seen from the server.

use std::collections::BTreeSet;
use std::time::Duration;

use zerotouch_mqtt_codec::QoS;
use zerotouch_mqtt_session::{
    BrokerEvent, CloseReason, PlainBrokerConfig, ServerConfig, ServerLimits, Violation,
};

use crate::support::*;

const Q0: QoS = QoS::AtMostOnce;

/// Sends these bytes on a new connection: what comes back, and that the connection is closed.
#[track_caller]
fn refused(bytes: &[u8]) -> Vec<u8> {
    let mut world = World::new();
    world.open(1);
    let answer = world.send(1, bytes);
    assert!(world.is_closed(1), "{bytes:02x?}");
    answer
}

/// A client with a Will that leaves in some way; what a subscriber to the Will's topic gets, and what a
/// later one gets.
fn will_after(
    will: Option<(&str, &str, QoS, bool)>,
    leave: impl FnOnce(&mut World),
) -> (Vec<u8>, Vec<u8>) {
    let mut world = World::new();
    world.subscriber(2, &[("w", QoS::ExactlyOnce)]);
    world.open(1);
    world.send(1, &connect_with_will("c", true, will));
    leave(&mut world);
    let live = world.received(2);
    world.publisher(3);
    let mut later = world.send(3, &subscribe(1, &[("w", QoS::ExactlyOnce)]));
    assert_eq!(later.drain(..5).as_slice(), suback(1, &[2]));
    (live, later)
}

#[test]
fn mqtt_3_1_0_1_server() {
    for packet in [
        connack(false),
        qos0("t", "x"),
        puback(1),
        pubrec(1),
        pubrel(1),
        pubcomp(1),
        subscribe(1, &[("t", Q0)]),
        suback(1, &[0]),
        unsubscribe(1, &["t"]),
        unsuback(1),
        PINGREQ.to_vec(),
        PINGRESP.to_vec(),
        DISCONNECT.to_vec(),
    ] {
        assert_eq!(refused(&packet), b"");
    }
}

#[test]
fn mqtt_3_1_0_2() {
    let mut world = World::new();
    world.publisher(1);
    assert_eq!(world.send(1, &connect_packet("c", true)), b"");
    assert!(world.is_closed(1));
    let reason = CloseReason::Violation(Violation::SecondConnect);
    assert!(world.events().iter().any(
        |event| matches!(event, BrokerEvent::Closed { reason: ended, .. } if *ended == reason)
    ));
}

#[test]
fn mqtt_3_1_2_1_server() {
    for name in [b"MQTX", b"mqtt"] {
        let mut connect = connect_packet("c", true);
        connect[4..8].copy_from_slice(name);
        assert_eq!(refused(&connect), b"");
    }
    let older = b"\x10\x0F\x00\x06MQIsdp\x03\x02\x00\x0A\x00\x01c";
    assert_eq!(refused(older), b"");
}

#[test]
fn mqtt_3_1_2_2_server() {
    for level in [3, 5, 6, 0x84] {
        let mut connect = connect_packet("c", true);
        connect[8] = level;
        assert_eq!(refused(&connect), [0x20, 2, 0, 1], "level {level}");
    }
}

#[test]
fn mqtt_3_1_2_3_server() {
    let mut connect = connect_packet("c", true);
    connect[9] |= 1;
    assert_eq!(refused(&connect), b"");
}

#[test]
fn mqtt_3_1_2_8() {
    let will = Some(("w", "gone", Q0, false));
    let gone = qos0("w", "gone");
    assert_eq!(will_after(will, |world| world.cut(1)).0, gone, "the network fails");
    let silence = |world: &mut World| {
        world.wait(Duration::from_secs(14));
        world.send(2, &PINGREQ);
        world.wait(Duration::from_secs(1));
    };
    assert_eq!(will_after(will, silence).0, gone, "silence");
    let malformed = |world: &mut World| drop(world.send(1, &[0xFF]));
    assert_eq!(will_after(will, malformed).0, gone, "a protocol error");
    let taken_over = |world: &mut World| drop(world.connect(9, "c", true));
    assert_eq!(will_after(will, taken_over).0, gone, "closed by the server");
    let leave = |world: &mut World| drop(world.send(1, &DISCONNECT));
    assert_eq!(will_after(will, leave).0, b"");
}

#[test]
fn mqtt_3_1_2_10() {
    let mut world = World::new();
    world.subscriber(2, &[("w", Q0)]);
    for (connection, will, expected) in
        [(3, Some(("w", "1", Q0, false)), qos0("w", "1")), (4, None, vec![])]
    {
        world.open(connection);
        world.send(connection, &connect_with_will("c", false, will));
        world.cut(connection);
        assert_eq!(world.received(2), expected, "the Will of that connection, once");
    }
}

#[test]
fn mqtt_3_1_2_12() {
    assert_eq!(will_after(None, |world| world.cut(1)), (vec![], vec![]));
}

#[test]
fn mqtt_3_1_2_16() {
    let (live, later) = will_after(Some(("w", "x", QoS::AtLeastOnce, false)), |world| world.cut(1));
    assert_eq!((live, later), (qos1(1, "w", "x"), vec![]));
}

#[test]
fn mqtt_3_1_2_17() {
    let (live, later) = will_after(Some(("w", "x", QoS::ExactlyOnce, true)), |world| world.cut(1));
    assert_eq!((live, later), (qos2(1, "w", "x"), retained(qos2(1, "w", "x"))));
}

#[test]
fn mqtt_3_1_2_24() {
    for (keep_alive, allowed) in [(1_u16, 1_500_u64), (10, 15_000), (65_535, 98_302_500)] {
        let mut connect = connect_packet("c", true);
        connect[10..12].copy_from_slice(&keep_alive.to_be_bytes());
        let mut world = World::new();
        world.open(1);
        world.send(1, &connect);
        let almost = Duration::from_micros(allowed * 1_000 - 1);
        for packet in [PINGREQ.to_vec(), qos0("t", "x"), subscribe(1, &[("s", Q0)])] {
            world.wait(almost);
            world.send(1, &packet);
        }
        world.wait(almost);
        assert!(!world.is_closed(1), "any packet counts");
        world.wait(Duration::from_micros(1));
        assert!(world.is_closed(1));
    }
    let mut connect = connect_packet("c", true);
    connect[11] = 0;
    let mut world = World::new();
    world.open(1);
    world.send(1, &connect);
    world.wait(Duration::from_secs(1_000_000_000));
    assert!(!world.is_closed(1), "0 is no limit");
}

#[test]
fn mqtt_3_1_3_5() {
    let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let longer = "a".repeat(128);
    let ids = [&all[..1], &all[..23], &all[20..43], &all[39..], &longer, "-:.+%_#*?!(),=@;$'"];
    for client_id in ids {
        assert_eq!(World::new().connect(1, client_id, true), CONNACK, "{client_id}");
    }
}

#[test]
fn mqtt_3_1_3_6() {
    let mut world = World::new();
    for connection in 0..3 {
        // One that looks like an assigned one is somebody's own.
        let client_id = if connection == 1 { "auto-2" } else { "" };
        assert_eq!(world.connect(connection, client_id, true), CONNACK);
    }
    let names: BTreeSet<_> = world
        .events()
        .into_iter()
        .filter_map(|event| match event {
            BrokerEvent::Connected { client_id, .. } => Some(client_id),
            _ => None,
        })
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.iter().all(|name| !name.is_empty()));
    assert!((0..3).all(|connection| !world.is_closed(connection)), "none took another's place");
}

#[test]
fn mqtt_3_1_3_8() {
    let empty_and_kept = [0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 10, 0, 0];
    assert_eq!(refused(&empty_and_kept), [0x20, 2, 0, 2]);
}

#[test]
fn mqtt_3_1_3_9() {
    use zerotouch_mqtt_codec::ConnectRefusal;
    use zerotouch_mqtt_session::{ServerConfig, ServerConnection};

    let mut server = ServerConnection::new(&ServerConfig::default(), T0);
    let connect = connect_packet("not of this hub", true);
    assert!(server.handle_bytes(&mut &connect[..], T0).is_some());
    server.refuse(ConnectRefusal::IdentifierRejected);
    assert_eq!(server.poll_transmit(), Some(&[0x20, 2, 0, 2][..]));
    assert!(server.is_closed());
}

#[test]
fn mqtt_3_1_4_1_server() {
    // Each byte of the variable header and each length, spoiled.
    let connect = connect_with_will("c", true, Some(("w", "x", Q0, false)));
    for (position, value) in [(2, 1), (3, 5), (4, b'X'), (9, 0x3F), (13, 9), (16, 0xFF), (17, 0x23)]
    {
        let mut spoiled = connect.clone();
        assert_ne!(spoiled[position], value);
        spoiled[position] = value;
        assert_eq!(refused(&spoiled), b"", "byte {position}");
    }
}

#[test]
fn mqtt_3_1_4_2() {
    let mut world = World::new();
    for clean in [true, false, true] {
        let mut world = World::new();
        world.connect(1, "c", true);
        world.connect(2, "c", clean);
        assert!(world.is_closed(1));
        assert!(!world.is_closed(2));
    }
    world.connect(1, "c", true);
    world.connect(2, "C", true);
    assert!(!world.is_closed(1), "another client");
    world.connect(3, "c", true);
    assert!(
        world.events().iter().any(|event| matches!(
            event,
            BrokerEvent::Closed { reason: CloseReason::TakenOver, .. }
        ))
    );
}

#[test]
fn mqtt_3_1_4_3() {
    let mut world = World::new();
    world.connect(1, "c", false);
    world.send(1, &subscribe(1, &[("t", Q0)]));
    world.cut(1);
    assert_eq!(world.connect(2, "c", false), connack(true));
    assert_eq!(world.send(2, &qos0("t", "x")), qos0("t", "x"), "subscribed still");
    world.cut(2);
    assert_eq!(world.connect(3, "c", true), connack(false));
    assert_eq!(world.send(3, &qos0("t", "x")), b"", "starts afresh");
}

#[test]
fn mqtt_3_1_4_4() {
    assert_eq!(World::new().connect(1, "c", true), [0x20, 2, 0, 0]);
}

#[test]
fn mqtt_3_1_4_5() {
    let mut level_5 = connect_packet("c", true);
    level_5[8] = 5;
    let mut world = World::new();
    world.subscriber(2, &[("#", Q0)]);
    world.open(1);
    assert_eq!(
        world.send(1, &[level_5, qos0("t", "x"), PINGREQ.to_vec()].concat()),
        [0x20, 2, 0, 1],
        "and no PINGRESP"
    );
    assert_eq!(world.send(1, &PINGREQ), b"");
    assert_eq!(world.received(2), b"");
}

#[test]
fn mqtt_3_2_0_1_server() {
    let mut world = World::new();
    world.connect(1, "c", false);
    world.send(1, &subscribe(1, &[("t", QoS::AtLeastOnce)]));
    world.cut(1);
    world.publisher(2);
    world.send(2, &qos1(1, "t", "waits"));
    world.open(1);
    let bytes = [connect_packet("c", false), PINGREQ.to_vec()].concat();
    let received = world.send(1, &bytes);
    assert_eq!(received[..4], connack(true), "before anything that waits");
    assert_eq!(received.len(), 4 + qos1(1, "t", "waits").len() + PINGRESP.len());
}

#[test]
fn mqtt_3_2_2_1_server() {
    let mut world = World::new();
    world.connect(1, "c", false);
    world.cut(1);
    assert_eq!(world.connect(2, "c", true), [0x20, 2, 0, 0]);
}

#[test]
fn mqtt_3_2_2_2() {
    let mut world = World::new();
    world.connect(1, "c", false);
    world.cut(1);
    assert_eq!(world.connect(2, "c", false), [0x20, 2, 1, 0]);
}

#[test]
fn mqtt_3_2_2_3_server() {
    let mut world = World::new();
    assert_eq!(world.connect(1, "c", false), [0x20, 2, 0, 0], "never seen");
    world.connect(2, "d", true);
    world.cut(2);
    assert_eq!(world.connect(3, "d", false), [0x20, 2, 0, 0], "was clean");
}

#[test]
fn mqtt_3_2_2_5_server() {
    let mut level_5 = connect_packet("c", true);
    level_5[8] = 5;
    assert_eq!(refused(&level_5)[3], 1);
}

#[test]
fn mqtt_3_12_4_1() {
    let mut world = World::new();
    world.publisher(1);
    assert_eq!(world.send(1, &PINGREQ.repeat(3)), PINGRESP.repeat(3));
}

#[test]
fn mqtt_3_14_4_3() {
    let leave = |world: &mut World| {
        world.send(1, &DISCONNECT);
        world.cut(1);
    };
    assert_eq!(will_after(Some(("w", "x", Q0, true)), leave), (vec![], vec![]));
}

#[test]
fn mqtt_4_8_0_1_server() {
    let violations: [&[u8]; 8] = [
        &[0x00, 0],
        &[0x36, 5, 0, 1, b't', 0, 1],
        &[0x31, 4, 0, 2, b'+'],
        &[0x82, 2, 0, 1],
        &[0x80, 6, 0, 1, 0, 1, b'f', 0],
        &[0xD0, 0],
        &[0x40, 2, 0, 0],
        &[0xC0, 0xFF, 0xFF, 0xFF, 0xFF],
    ];
    for violation in violations {
        for split in 0..violation.len() {
            let mut world = World::new();
            world.publisher(1);
            world.publisher(2);
            world.send(1, &violation[..split]);
            let rest = [&violation[split..], &PINGREQ].concat();
            assert_eq!(world.send(1, &rest), b"", "{violation:02x?}");
            assert!(world.is_closed(1), "{violation:02x?} at {split}");
            assert_eq!(world.send(2, &PINGREQ), PINGRESP, "that connection and no other");
        }
    }
}

#[test]
fn mqtt_4_8_0_2_server() {
    // More unreleased messages than there is memory set aside for.
    let connection = ServerConfig { max_unreleased: 64, ..ServerConfig::default() };
    let limits = ServerLimits { connection, ..ServerLimits::default() };
    let mut world = World::with(limits, PlainBrokerConfig::default());
    world.publisher(1);
    for number in 1..=64 {
        assert_eq!(world.send(1, &qos2(number, "t", "x")), pubrec(number));
    }
    assert_eq!(world.send(1, &qos2(65, "t", "x")), b"");
    assert!(world.is_closed(1));
}
