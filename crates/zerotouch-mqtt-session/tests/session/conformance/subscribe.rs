//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK, seen from the server.

use zerotouch_mqtt_codec::QoS;
use zerotouch_mqtt_session::{PlainBrokerConfig, ServerLimits};

use crate::support::*;

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

fn world() -> World {
    let mut world = World::new();
    world.publisher(1);
    world.publisher(2);
    world
}

#[test]
fn mqtt_2_3_1_7_server() {
    let mut world = world();
    for number in [1, 0x1234, 65_535] {
        assert_eq!(world.send(2, &subscribe(number, &[("t", Q1)])), suback(number, &[1]));
        assert_eq!(world.send(2, &unsubscribe(number, &["t"])), unsuback(number));
    }
}

#[test]
fn mqtt_3_8_3_2() {
    // This broker serves wildcards; what it does not serve, deep filters, it refuses.
    let config = PlainBrokerConfig { max_levels: 2, ..PlainBrokerConfig::default() };
    let mut world = World::with(ServerLimits::default(), config);
    world.publisher(1);
    assert_eq!(
        world.send(1, &subscribe(1, &[("+/+", Q0), ("+/+/#", Q0), ("a/#", Q0)])),
        suback(1, &[0, 0x80, 0])
    );
}

#[test]
fn mqtt_3_8_4_1() {
    assert_eq!(world().send(2, &subscribe(1, &[("t", Q0)]))[0], 0x90);
}

#[test]
fn mqtt_3_8_4_2() {
    assert_eq!(world().send(2, &subscribe(0xABCD, &[("t", Q0)]))[2..4], [0xAB, 0xCD]);
}

#[test]
fn mqtt_3_8_4_3() {
    let mut world = world();
    world.send(1, &retained(qos1(1, "t", "kept")));
    let kept = |number| retained(qos1(number, "t", "kept"));
    assert_eq!(world.send(2, &subscribe(1, &[("t", Q1)])), [suback(1, &[1]), kept(1)].concat());
    world.send(1, &qos1(1, "t", "in flight"));
    assert_eq!(
        world.send(2, &subscribe(2, &[("t", Q0)])),
        [qos1(2, "t", "in flight"), suback(2, &[0]), retained(qos0("t", "kept"))].concat(),
        "again, and what is on its way stays so"
    );
    world.send(1, &qos1(1, "t", "x"));
    assert_eq!(world.received(2), qos0("t", "x"), "replaced, not added");
}

#[test]
fn mqtt_3_8_4_4() {
    let mut world = world();
    let filters = [("a", Q0), ("b", Q1), ("a", Q2)];
    assert_eq!(world.send(2, &subscribe(1, &filters)), suback(1, &[0, 1, 2]), "one answer");
    world.send(1, &qos2(1, "a", "x"));
    assert_eq!(world.received(2), qos2(1, "a", "x"), "as if they had come one by one");
}

#[test]
fn mqtt_3_8_4_5_server() {
    let config = PlainBrokerConfig {
        max_subscriptions: 2,
        max_qos: QoS::AtLeastOnce,
        ..PlainBrokerConfig::default()
    };
    let mut world = World::with(ServerLimits::default(), config);
    world.publisher(1);
    assert_eq!(
        world.send(1, &subscribe(1, &[("a", Q2), ("b", Q0), ("c", Q0)])),
        suback(1, &[1, 0, 0x80]),
        "what was granted, or a refusal"
    );
}

#[test]
fn mqtt_3_8_4_6() {
    for (granted, code) in [(Q0, 0), (Q1, 1), (Q2, 2)] {
        let mut world = world();
        assert_eq!(world.send(2, &subscribe(1, &[("t", granted)])), suback(1, &[code]));
        for (published, sent) in
            [(Q0, qos0("t", "x")), (Q1, qos1(1, "t", "x")), (Q2, qos2(2, "t", "x"))]
        {
            world.send(1, &sent);
            let flags = world.received(2)[0] & 0b110;
            assert_eq!(flags >> 1, published.min(granted) as u8, "{published:?} to {granted:?}");
        }
    }
}

#[test]
fn mqtt_3_9_3_1_server() {
    let mut world = world();
    let filters = [("a", Q2), ("b", Q0), ("c", Q1), ("d", Q0)];
    assert_eq!(world.send(2, &subscribe(1, &filters)), suback(1, &[2, 0, 1, 0]));
}

#[test]
fn mqtt_3_10_4_1() {
    let mut world = world();
    world.send(2, &subscribe(1, &[("a/+", Q0)]));
    world.send(2, &unsubscribe(2, &["a/b", "a/#", "A/+", "a", "a/+/"]));
    world.send(1, &qos0("a/b", "x"));
    assert_eq!(world.received(2), qos0("a/b", "x"), "none of these is the same");
    world.send(2, &unsubscribe(3, &["a/+"]));
    world.send(1, &qos0("a/b", "x"));
    assert_eq!(world.received(2), b"");
}

#[test]
fn mqtt_3_10_4_2() {
    let mut world = world();
    world.send(2, &subscribe(1, &[("a", Q1), ("b", Q1)]));
    world.send(2, &unsubscribe(2, &["a"]));
    world.send(1, &[qos1(1, "a", "x"), qos1(2, "b", "x")].concat());
    assert_eq!(world.received(2), qos1(1, "b", "x"));
}

#[test]
fn mqtt_3_10_4_3() {
    let mut world = world();
    world.connect(3, "c", false);
    world.send(3, &subscribe(1, &[("t", Q2)]));
    world.send(1, &[qos1(1, "t", "1"), qos2(2, "t", "2")].concat());
    world.received(3);
    assert_eq!(world.send(3, &unsubscribe(2, &["t"])), unsuback(2));
    assert_eq!(world.send(3, &pubrec(2)), pubrel(2));
    world.cut(3);
    assert_eq!(
        world.connect(4, "c", false),
        [connack(true), dup(qos1(1, "t", "1")), pubrel(2)].concat(),
        "what had begun is completed"
    );
}

#[test]
fn mqtt_3_10_4_4() {
    let mut world = world();
    world.send(2, &subscribe(1, &[("t", Q0)]));
    assert_eq!(world.send(2, &unsubscribe(0xABCD, &["t"])), [0xB0, 2, 0xAB, 0xCD]);
}

#[test]
fn mqtt_3_10_4_5() {
    assert_eq!(world().send(2, &unsubscribe(1, &["never", "subscribed/#"])), unsuback(1));
}

#[test]
fn mqtt_3_10_4_6() {
    let mut world = world();
    world.send(2, &subscribe(1, &[("a", Q0), ("b", Q0), ("c", Q0)]));
    assert_eq!(world.send(2, &unsubscribe(2, &["a", "c", "a"])), unsuback(2), "one answer");
    world.send(1, &[qos0("a", "x"), qos0("b", "x"), qos0("c", "x")].concat());
    assert_eq!(world.received(2), qos0("b", "x"));
}
