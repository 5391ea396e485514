//! Packets that own their bytes.

use bytes::Bytes;
use proptest::prelude::*;
use zerotouch_mqtt_codec::owned::{OwnedPacket, OwnedPublish, OwnedText};

use crate::arbitrary::parts;
use crate::{accept, encoded, hex, text};

proptest! {
    /// Keeping a packet changes nothing about it, whether it came in (its bytes are shared) or is made
    /// here (they are copied).
    #[test]
    fn an_owned_packet_is_the_packet(parts in parts()) {
        parts.with_packet(|packet| {
            let made_here = OwnedPacket::new(packet, &Bytes::new());
            assert_eq!(made_here.as_packet(), *packet);

            let source = Bytes::from(encoded(packet));
            let came_in = OwnedPacket::new(&accept(&source), &source);
            assert_eq!(came_in.as_packet(), *packet);
            assert_eq!(came_in, made_here);
            assert_eq!(encoded(&came_in.as_packet()), source);
            drop(source);
            assert_eq!(came_in.clone(), made_here);
        });
    }
}

/// Keeping a packet that came in allocates nothing; only `Bytes` are counted up.
#[test]
fn keeping_a_packet_copies_nothing() {
    for bytes in [
        "32 0c 0003 612f62 0007 68656c6c6f",
        "10 1f 0004 4d515454 04 f6 000a 0003 636964 0003 772f74 0003 627965 0001 75 0001 70",
        "82 12 0a0b 0001 61 00 0003 622f23 01 0003 2b2f63 02",
        "90 06 0a0b 00010280",
        "a2 05 0001 0001 61",
    ] {
        let source = Bytes::from_owner(hex(bytes));
        let packet = accept(&source);
        let info = allocation_counter::measure(|| {
            let owned = OwnedPacket::new(&packet, &source);
            assert_eq!(owned.as_packet(), packet);
        });
        assert_eq!(info.count_total, 0, "{bytes}");
    }
}

/// A part that lies in other bytes is copied rather than mistaken for a part of the source.
#[test]
fn foreign_bytes_are_copied() {
    let (bytes, other) = (hex("30 04 0001 61 78"), Bytes::from_static(b"something else"));
    let zerotouch_mqtt_codec::Packet::Publish(publish) = accept(&bytes) else { panic!() };
    let owned = OwnedPublish::new(&publish, &other);
    drop(bytes.clone());
    assert_eq!((owned.topic.as_str(), &owned.payload[..]), ("a", &b"x"[..]));
    assert_eq!(OwnedText::from(text("text")).into_bytes(), "text");
}

/// A password does not show, in this form either.
#[test]
fn debug_redacts_the_password() {
    let source = Bytes::from(hex("10 17 0004 4d515454 04 c2 003c 0001 64 0001 75 0005 6875736821"));
    let debug = format!("{:?}", OwnedPacket::new(&accept(&source), &source));
    assert!(debug.contains("<redacted>") && !debug.contains("hush"), "{debug}");
    assert!(!debug.contains("104"), "{debug}");
}
