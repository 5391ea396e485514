//! The flows of QoS 0, 1 and 2 (section 4.3), seen from either end.

use zerotouch_mqtt_codec::QoS;

use crate::support::*;

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

/// A publisher on connection 1 and a subscriber to "t" on connection 2.
fn world() -> World {
    let mut world = World::new();
    world.publisher(1);
    world.subscriber(2, &[("t", Q2)]);
    world
}

#[test]
fn mqtt_4_3_1_1_client() {
    let mut client = connected();
    assert_eq!(publish(&mut client, "x", Q0), Ok(None));
    assert_eq!(sent(&mut client), [0x30, 4, 0, 1, b't', b'x']);
    client.handle_closed();
    assert_eq!(drained(&mut client), ["Closed(Ended)"], "nothing awaits it");
}

#[test]
fn mqtt_4_3_1_1_server() {
    let mut world = world();
    world.send(1, &qos0("t", "x"));
    assert_eq!(world.received(2), [0x30, 4, 0, 1, b't', b'x']);
}

#[test]
fn mqtt_4_3_2_1_client() {
    let mut client = connected();
    let handles = [(); 3].map(|()| publish(&mut client, "x", Q1).unwrap().unwrap());
    assert_eq!(
        sent(&mut client),
        [qos1(1, "t", "x"), qos1(2, "t", "x"), qos1(3, "t", "x")].concat()
    );
    for (number, left) in [(2, 2), (2, 2), (3, 1), (1, 0), (1, 0)] {
        receive(&mut client, &puback(number));
        assert_eq!(client.in_flight(), left, "each acknowledgement completes one message at most");
    }
    assert!(handles.is_sorted());
}

#[test]
fn mqtt_4_3_2_1_server() {
    let mut world = world();
    world.send(1, &[qos1(9, "t", "1"), qos1(9, "t", "2")].concat());
    assert_eq!(world.received(2), [qos1(1, "t", "1"), qos1(2, "t", "2")].concat());
    world.send(2, &puback(1));
    world.send(1, &qos1(9, "t", "3"));
    assert_eq!(world.received(2), qos1(3, "t", "3"), "2 awaits its acknowledgement");
}

#[test]
fn mqtt_4_3_2_2_client() {
    let mut client = connected();
    for message in [qos1(7, "t", "x"), dup(qos1(7, "t", "x"))] {
        assert_eq!(receive(&mut client, &message).len(), 1);
        assert_eq!(sent(&mut client), puback(7), "a new message, whatever DUP says");
    }
}

#[test]
fn mqtt_4_3_2_2_server() {
    let mut world = world();
    for message in [qos1(7, "t", "x"), dup(qos1(7, "t", "x"))] {
        assert_eq!(world.send(1, &message), puback(7));
    }
    assert_eq!(world.received(2), [qos1(1, "t", "x"), qos1(2, "t", "x")].concat());
}

#[test]
fn mqtt_4_3_3_1_client() {
    let mut client = connected();
    let handle = publish(&mut client, "x", Q2).unwrap().unwrap();
    assert_eq!(sent(&mut client), qos2(1, "t", "x"));
    for stray in [puback(1), pubcomp(1), pubrec(2)] {
        assert_eq!(receive(&mut client, &stray), [""; 0]);
        assert_eq!(sent(&mut client), b"", "not what it awaits");
    }
    for _ in 0..2 {
        assert_eq!(receive(&mut client, &pubrec(1)), [""; 0]);
        assert_eq!(sent(&mut client), pubrel(1));
    }
    assert_eq!(receive(&mut client, &pubcomp(1)), [format!("Published({handle:?})")]);
    assert_eq!(client.in_flight(), 0);

    // After PUBREL the message itself is never sent again.
    let mut client = connecting(false, zerotouch_mqtt_session::ClientConfig::default());
    receive(&mut client, &CONNACK);
    publish(&mut client, "x", Q2).unwrap();
    assert_eq!(reconnected(&mut client), dup(qos2(1, "t", "x")));
    receive(&mut client, &pubrec(1));
    assert_eq!(reconnected(&mut client), pubrel(1));
}

#[test]
fn mqtt_4_3_3_1_server() {
    let mut world = world();
    world.send(1, &qos2(5, "t", "x"));
    assert_eq!(world.received(2), qos2(1, "t", "x"));
    assert_eq!(world.send(2, &[puback(1), pubcomp(1)].concat()), b"");
    assert_eq!(world.send(2, &pubrec(1).repeat(2)), pubrel(1).repeat(2));
    assert_eq!(world.send(2, &pubcomp(1)), b"");
    assert_eq!(world.send(2, &pubrec(1)), b"", "complete");
}

#[test]
fn mqtt_4_3_3_2_client() {
    let mut client = connected();
    for (repeated, events) in [(qos2(7, "t", "x"), 1), (dup(qos2(7, "t", "x")), 0)] {
        assert_eq!(receive(&mut client, &repeated).len(), events);
        assert_eq!(sent(&mut client), pubrec(7));
    }
    for _ in 0..2 {
        receive(&mut client, &pubrel(7));
        assert_eq!(sent(&mut client), pubcomp(7), "an unknown identifier as well");
    }
    assert_eq!(receive(&mut client, &qos2(7, "t", "y")).len(), 1, "new again");
}

#[test]
fn mqtt_4_3_3_2_server() {
    let mut world = world();
    assert_eq!(world.send(1, &qos2(7, "t", "1")), pubrec(7));
    assert_eq!(world.send(1, &dup(qos2(7, "t", "1"))), pubrec(7));
    assert_eq!(world.send(1, &pubrel(7).repeat(2)), pubcomp(7).repeat(2));
    assert_eq!(world.send(1, &qos2(7, "t", "2")), pubrec(7));
    assert_eq!(world.received(2), [qos2(1, "t", "1"), qos2(2, "t", "2")].concat());
}
