//! What a person reads in a log.

use zerotouch_mqtt_codec::{DecodeErrorKind, Decoder, Sender};

use crate::{accept, hex, reject};

/// An error names the packet, the byte, what is wrong, and the rule.
#[test]
fn errors_read_as_sentences() {
    for (bytes, expected) in [
        ("00 00", "malformed packet at byte 0: packet type 0 is reserved [Table 2.1]"),
        (
            "10 10 0004 4d515454 04 42 003c 0001 64 0001 70",
            "malformed CONNECT at byte 9: a password without a user name [MQTT-3.1.2-22]",
        ),
        (
            "10 0d 0004 4d515454 05 02 003c 0001 64",
            "malformed CONNECT at byte 8: protocol level 5 is not 4 (MQTT 3.1.1) [MQTT-3.1.2-2]",
        ),
        (
            "62 03 000100",
            "malformed PUBREL at byte 1: the remaining length is 3; this packet has 2 [section 2.2.3]",
        ),
        (
            "10 ff ff ff 7f",
            "malformed CONNECT at byte 1: the remaining length is 268435455; this packet has 0 to \
             327695 [section 2.2.3]",
        ),
        (
            "61 02 0001",
            "malformed PUBREL at byte 0: the fixed header's flags are 0b0001, not 0b0010 \
             [MQTT-3.6.1-1]",
        ),
        (
            "30 05 0003 612f2b",
            "malformed PUBLISH at byte 6: the topic name contains a wildcard [MQTT-3.3.2-2]",
        ),
        (
            "82 07 0001 0001 61 00 00",
            "malformed SUBSCRIBE at byte 8: the packet ends within the topic filter [section 1.5.3]",
        ),
    ] {
        assert_eq!(reject(&hex(bytes)).to_string(), expected);
    }
    let small = Decoder::from_sender(Sender::Client).max_packet_size(100);
    assert_eq!(
        small.decode(&hex("30 ff 01")).unwrap_err().to_string(),
        "malformed PUBLISH at byte 1: the packet has 258 bytes, the limit here is 100 [MQTT-4.8.0-2]"
    );
}

/// Neither a password nor what a message says is in a log line by accident.
#[test]
fn debug_shows_no_contents() {
    let bytes = hex(
        "10 23 0004 4d515454 04 c6 003c 0001 64 0001 77 0006 736563726574 0001 75 0006 736563726574",
    );
    let debug = format!("{:?}", accept(&bytes));
    assert!(debug.contains("<redacted>") && debug.contains("<6 bytes>"), "{debug}");
    assert!(!debug.contains("secret") && !debug.contains("115"), "{debug}");
    let debug = format!("{:?}", accept(&hex("30 09 0001 61 736563726574")));
    assert_eq!(
        debug,
        r#"Publish(Publish { topic: "a", payload: <6 bytes>, retain: false, delivery: AtMostOnce })"#
    );
}

/// A server that answers another version with CONNACK 1 needs the level; nothing else has it.
#[test]
fn the_protocol_level_is_in_the_error() {
    for level in [3, 5, 6, 0x84] {
        let bytes = [&hex("10 0d 0004 4d515454")[..], &[level], &hex("02 003c 0001 64")].concat();
        assert_eq!(reject(&bytes).kind(), DecodeErrorKind::UnsupportedProtocolLevel(level));
    }
}
