//! PUBLISH through the server: DUP, retained messages, whom it reaches.

use zerotouch_mqtt_codec::QoS;
use zerotouch_mqtt_session::PlainBrokerConfig;
use zerotouch_mqtt_session::ServerLimits;

use crate::support::*;

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

/// A broker and a client that publishes on connection 1.
fn world() -> World {
    let mut world = World::new();
    world.publisher(1);
    world
}

/// What a subscriber that comes now gets behind its SUBACK.
fn newcomer(world: &mut World, connection: u64, filter: &str) -> Vec<u8> {
    world.publisher(connection);
    let mut received = world.send(connection, &subscribe(1, &[(filter, Q2)]));
    assert_eq!(received.drain(..5).as_slice(), suback(1, &[2]));
    received
}

#[test]
fn mqtt_2_3_1_6_server() {
    let mut world = world();
    world.subscriber(2, &[("t", Q2)]);
    for number in [1, 7, 0x1234, 65_535] {
        assert_eq!(world.send(1, &qos1(number, "t", "x")), puback(number));
        assert_eq!(world.send(1, &qos2(number, "t", "x")), pubrec(number));
        assert_eq!(world.send(1, &pubrel(number)), pubcomp(number));
    }
    world.received(2);
    assert_eq!(world.send(2, &pubrec(2)), pubrel(2));
    assert_eq!(world.send(2, &[puback(999), pubcomp(999)].concat()), b"", "nothing awaits these");
}

#[test]
fn mqtt_3_3_1_1_server() {
    let mut world = world();
    world.connect(2, "c", false);
    world.send(2, &subscribe(1, &[("t", Q2)]));
    world.send(1, &[qos1(1, "t", "1"), qos2(2, "t", "2")].concat());
    assert_eq!(world.received(2), [qos1(1, "t", "1"), qos2(2, "t", "2")].concat());
    world.cut(2);
    assert_eq!(
        world.connect(3, "c", false),
        [connack(true), dup(qos1(1, "t", "1")), dup(qos2(2, "t", "2"))].concat()
    );
}

#[test]
fn mqtt_3_3_1_3() {
    let mut world = world();
    world.subscriber(2, &[("t", Q2)]);
    world.send(1, &[dup(qos1(9, "t", "1")), dup(qos2(8, "t", "2"))].concat());
    assert_eq!(world.received(2), [qos1(1, "t", "1"), qos2(2, "t", "2")].concat());
}

#[test]
fn mqtt_3_3_1_5() {
    let mut world = world();
    world.send(1, &retained(qos1(1, "t", "first")));
    world.send(1, &retained(qos1(1, "t", "last")));
    assert_eq!(newcomer(&mut world, 2, "t"), retained(qos1(1, "t", "last")), "with its QoS");
}

#[test]
fn mqtt_3_3_1_6() {
    let mut world = world();
    for topic in ["a", "a/b", "a/b/c", "ab", "b"] {
        world.send(1, &retained(qos0(topic, topic)));
    }
    let each = |topics: &[&str]| -> Vec<u8> {
        topics.iter().flat_map(|topic| retained(qos0(topic, topic))).collect()
    };
    for (connection, filter, topics) in [
        (2, "a", &["a"][..]),
        (3, "a/#", &["a", "a/b", "a/b/c"]),
        (4, "+", &["a", "ab", "b"]),
        (5, "a/+", &["a/b"]),
        (6, "+/b/#", &["a/b", "a/b/c"]),
        (7, "#", &["a", "a/b", "a/b/c", "ab", "b"]),
        (8, "a/b/c/d", &[]),
    ] {
        assert_eq!(newcomer(&mut world, connection, filter), each(topics), "{filter}");
    }
}

#[test]
fn mqtt_3_3_1_7() {
    let mut world = world();
    world.send(1, &retained(qos1(1, "t", "old")));
    world.send(1, &retained(qos0("t", "new")));
    assert_eq!(newcomer(&mut world, 2, "t"), retained(qos0("t", "new")));
}

#[test]
fn mqtt_3_3_1_8() {
    let mut world = world();
    world.send(1, &retained(qos0("t", "x")));
    assert_eq!(newcomer(&mut world, 2, "t")[0], 0x31);
}

#[test]
fn mqtt_3_3_1_9() {
    let mut world = world();
    world.subscriber(2, &[("t", Q0)]);
    world.send(1, &retained(qos0("t", "x")));
    assert_eq!(world.received(2), qos0("t", "x"));
}

#[test]
fn mqtt_3_3_1_10() {
    let mut world = world();
    world.send(1, &retained(qos0("t", "x")));
    world.subscriber(2, &[("t", Q0)]);
    world.received(2);
    world.send(1, &retained(qos0("t", "")));
    assert_eq!(world.received(2), qos0("t", ""), "as any message");
    assert_eq!(newcomer(&mut world, 3, "t"), b"", "and nothing for later");
}

#[test]
fn mqtt_3_3_1_11() {
    let mut world = world();
    world.send(1, &retained(qos0("t", "")));
    assert_eq!(newcomer(&mut world, 2, "#"), b"");
}

#[test]
fn mqtt_3_3_1_12() {
    let mut world = world();
    world.send(1, &qos0("t", "never kept"));
    assert_eq!(newcomer(&mut world, 2, "t"), b"");
    world.send(1, &retained(qos0("t", "kept")));
    world.send(1, &[qos0("t", "passes"), qos0("t", "")].concat());
    assert_eq!(newcomer(&mut world, 3, "t"), retained(qos0("t", "kept")));
}

// Random filters and names are held against each other in `the_trie_finds_what_matches`.
#[test]
fn mqtt_3_3_2_3() {
    let mut world = world();
    world.subscriber(2, &[("a/+/c", Q0)]);
    for name in ["a/b/c", "a//c", "a/b", "a/b/c/d", "b/b/c", "a/b/C"] {
        world.send(1, &qos0(name, "x"));
    }
    assert_eq!(world.received(2), [qos0("a/b/c", "x"), qos0("a//c", "x")].concat());
}

#[test]
fn mqtt_3_3_4_1_server() {
    let mut world = world();
    assert_eq!(world.send(1, &qos0("t", "x")), b"");
    assert_eq!(world.send(1, &qos1(5, "t", "x")), puback(5));
    assert_eq!(world.send(1, &qos2(6, "t", "x")), pubrec(6));
}

#[test]
fn mqtt_3_3_5_1() {
    let mut world = world();
    world.subscriber(2, &[("a/#", Q0), ("a/+", Q1), ("a/b", Q0)]);
    world.send(1, &qos2(1, "a/b", "x"));
    assert_eq!(world.received(2), qos1(1, "a/b", "x"), "once, with the greatest");
}

#[test]
fn mqtt_3_3_5_2() {
    // What this broker's limits forbid to be retained.
    let config = PlainBrokerConfig { max_retained: 0, ..PlainBrokerConfig::default() };
    let mut world = World::with(ServerLimits::default(), config);
    world.publisher(1);
    world.subscriber(2, &[("t", Q0)]);
    assert_eq!(world.send(1, &retained(qos1(1, "t", "x"))), b"");
    assert!(world.is_closed(1));
    assert_eq!(world.received(2), b"", "it was not taken, so nobody has it");
}

#[test]
fn mqtt_4_5_0_1() {
    let mut world = world();
    world.connect(2, "away", false);
    world.send(2, &subscribe(1, &[("t/#", Q1)]));
    world.cut(2);
    world.subscriber(3, &[("t/+", Q1)]);
    world.subscriber(4, &[("+/a", Q0)]);
    world.subscriber(5, &[("u/#", Q1)]);
    world.send(1, &qos1(1, "t/a", "x"));
    assert_eq!(world.received(3), qos1(1, "t/a", "x"));
    assert_eq!(world.received(4), qos0("t/a", "x"));
    assert_eq!(world.received(5), b"");
    assert_eq!(world.connect(6, "away", false)[4..], qos1(1, "t/a", "x"));
}

/// Messages of both streams interleaved, with a window that is smaller than what is sent.
fn ordered(topics: [&str; 2]) {
    let mut world = world();
    world.publisher(2);
    world.subscriber(3, &[("#", Q2)]);
    let mut expected = Vec::new();
    for number in 1..=200 {
        let payload = number.to_string();
        world.send(1, &qos1(number, topics[0], &payload));
        world.send(2, &qos1(number, topics[1], &payload));
        expected.push(qos1(2 * number - 1, topics[0], &payload));
        expected.push(qos1(2 * number, topics[1], &payload));
    }
    let mut received = world.received(3);
    for number in 1..=400 {
        received.extend(world.send(3, &puback(number)));
    }
    assert_eq!(received, expected.concat());
}

#[test]
fn mqtt_4_6_0_5() {
    ordered(["t", "t"]);
}

#[test]
fn mqtt_4_6_0_6() {
    ordered(["a", "b"]);
}

#[test]
fn mqtt_4_7_2_1_server() {
    let mut world = world();
    world.send(1, &retained(qos0("$dps/x", "kept")));
    for (connection, filter) in [(2, "#"), (3, "+/x"), (4, "+/#")] {
        assert_eq!(newcomer(&mut world, connection, filter), b"");
    }
    assert_eq!(newcomer(&mut world, 5, "$dps/#"), retained(qos0("$dps/x", "kept")));
    world.send(1, &qos0("$dps/x", "live"));
    for connection in 2..5 {
        assert_eq!(world.received(connection), b"");
    }
    assert_eq!(world.received(5), qos0("$dps/x", "live"));
}

#[test]
fn mqtt_4_7_3_4_server() {
    let mut world = world();
    let composed = "\u{e9}";
    let decomposed = "e\u{301}";
    world.subscriber(2, &[(composed, Q0), ("a", Q0), ("b/", Q0)]);
    for name in [decomposed, "A", "a/", "/a", "b", "b//", composed] {
        world.send(1, &qos0(name, "x"));
    }
    assert_eq!(world.received(2), qos0(composed, "x"));
}
