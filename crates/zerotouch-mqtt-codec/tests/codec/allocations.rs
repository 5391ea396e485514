//! What must not creep in: an allocation where there is none today.

use allocation_counter::measure;
use zerotouch_mqtt_codec::{
    Decoded, Decoder, Delivery, Framer, Packet, PacketIdentifier, Publish, TopicName, decode,
};

use crate::vectors::valid;

/// Decoding borrows, whatever the packet.
#[test]
fn decoding_allocates_nothing() {
    for (name, bytes, _) in valid() {
        let info = measure(|| {
            let Ok(Decoded::Complete { packet, .. }) = decode(&bytes) else {
                panic!("{name}");
            };
            if let Packet::Subscribe(subscribe) = packet {
                assert!(subscribe.filters.iter().count() > 0);
            }
        });
        assert_eq!(info.count_total, 0, "{name}");
    }
}

/// Encoding to a buffer that has the room, and through it the steady state of a connection that sends
/// and acknowledges messages.
#[test]
fn encoding_to_a_warm_buffer_allocates_nothing() {
    let id = PacketIdentifier::MIN;
    let topic = TopicName::new("devices/d/messages/events/").unwrap();
    let payload = [7; 4096];
    let publish =
        |delivery| Packet::from(Publish { topic, payload: &payload, retain: false, delivery });
    let packets = [
        publish(Delivery::AtMostOnce),
        publish(Delivery::AtLeastOnce { id, dup: false }),
        Packet::PubAck(id),
    ];
    let mut out = Vec::with_capacity(10_000);
    let info = measure(|| {
        for _ in 0..100 {
            out.clear();
            for packet in &packets {
                packet.encode_to(&mut out).unwrap();
            }
        }
    });
    assert_eq!(info.count_total, 0);
}

/// A cold buffer grows once for a packet, not once for a field.
#[test]
fn encoding_to_a_cold_buffer_allocates_once() {
    for (name, bytes, _) in valid() {
        let Ok(Decoded::Complete { packet, .. }) = decode(&bytes) else { panic!("{name}") };
        let info = measure(|| {
            packet.encode_to(&mut Vec::new()).unwrap();
        });
        assert_eq!(info.count_total, 1, "{name}");
    }
}

/// Packets that arrive whole are borrowed; those that arrive in pieces are gathered in a buffer that is
/// kept.
#[test]
fn a_framer_allocates_for_its_first_gathered_packet_alone() {
    let mut stream = Vec::new();
    for number in 1..=100 {
        let delivery =
            Delivery::AtLeastOnce { id: PacketIdentifier::new(number).unwrap(), dup: false };
        let topic = TopicName::new("a/b").unwrap();
        let publish = Publish { topic, payload: &[7; 300], retain: false, delivery };
        Packet::from(publish).encode_to(&mut stream).unwrap();
    }
    let mut framer = Framer::new(Decoder::new());
    let mut run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut count = 0;
        let info = measure(|| {
            for mut piece in pieces {
                while framer.next_packet(&mut piece).unwrap().is_some() {
                    count += 1;
                }
            }
        });
        assert_eq!(count, 100);
        info.count_total
    };
    assert_eq!(run(&mut [&stream[..]].into_iter()), 0, "whole");
    // One for the fixed header, one for the packet.
    assert!(run(&mut stream.chunks(7)) <= 2, "the first in pieces");
    assert_eq!(run(&mut stream.chunks(7)), 0, "in pieces again");
    assert_eq!(run(&mut stream.chunks(1)), 0, "byte by byte");
}
