//! Any packet to bytes and back.

use proptest::collection::vec;
use proptest::prelude::*;
use zerotouch_mqtt_codec::{
    Connect, Decoded, Decoder, Delivery, EncodeError, Field, Framer, Login, Packet,
    PacketIdentifier, Publish, QoS, Subscribe, Subscriptions, Text, TextError, TopicFilter,
    TopicName, Will, decode,
};

use crate::arbitrary::parts;
use crate::{accept, encoded, text};

proptest! {
    /// A packet is what it was, after every way of encoding it.
    #[test]
    fn any_packet_is_the_same_after_encoding_and_decoding(parts in parts()) {
        parts.with_packet(|packet| {
            let bytes = encoded(packet);
            assert_eq!(accept(&bytes), *packet);
            // And from its decoded form, whose lists are wire bytes rather than slices.
            assert_eq!(encoded(&accept(&bytes)), bytes);
        });
    }

    /// A stream of packets in pieces of any size is those packets.
    #[test]
    fn any_stream_in_any_pieces_is_its_packets(
        packets in vec(parts(), 1..8),
        sizes in vec(1_usize..400, 1..20),
    ) {
        let stream: Vec<Vec<u8>> = packets.iter().map(|parts| parts.with_packet(encoded)).collect();
        let bytes = stream.concat();
        let (mut framer, mut found, mut rest) = (Framer::new(Decoder::new()), Vec::new(), &bytes[..]);
        for size in sizes.iter().cycle() {
            let (mut piece, behind) = rest.split_at(rest.len().min(*size));
            while let Some(packet) = framer.next_packet(&mut piece).unwrap() {
                found.push(encoded(&packet));
            }
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, stream);
        prop_assert!(!framer.is_mid_packet());
    }

    /// No bytes make the decoder panic, and what it accepts is within them.
    #[test]
    fn any_bytes_are_judged(bytes in vec(any::<u8>(), 0..60)) {
        match decode(&bytes) {
            Ok(Decoded::Complete { used, .. }) => prop_assert!((2..=bytes.len()).contains(&used)),
            Ok(Decoded::Incomplete { needed }) => prop_assert!(needed > 0),
            Err(error) => prop_assert!(error.offset() <= bytes.len()),
        }
    }
}

fn publish<'a>(topic: &'a str, payload: &'a [u8]) -> Packet<'a> {
    let topic = TopicName::new(topic).unwrap();
    Packet::from(Publish { topic, payload, retain: false, delivery: Delivery::AtMostOnce })
}

/// Short fields are copied in pieces that overlap, into room that is cleared first: whatever the lengths
/// and the room, exactly the packet is written, and nothing before or behind it is touched.
#[test]
fn a_message_of_any_length_is_written_and_nothing_else() {
    let letters: String = ('a'..='z').cycle().take(70).collect();
    let content: Vec<u8> = (0..=u8::MAX).collect();
    for (topic_len, payload_len) in (1..=70_u8).flat_map(|t| (0..=70_u8).map(move |p| (t, p))) {
        let (topic, payload) = (&letters[..topic_len.into()], &content[..payload_len.into()]);
        let remaining = 2 + topic_len + payload_len;
        let mut wire = vec![0x30];
        if remaining < 0x80 {
            wire.push(remaining);
        } else {
            wire.extend([remaining | 0x80, 1]);
        }
        wire.extend([0, topic_len]);
        wire.extend(topic.as_bytes());
        wire.extend(payload);
        let packet = publish(topic, payload);
        for spare in [0, 1, 63, 64, wire.len(), 500] {
            let mut out = Vec::with_capacity(3 + spare);
            out.extend(b"old");
            assert_eq!(packet.encode_to(&mut out), Ok(wire.len()));
            assert!(out.starts_with(b"old") && out[3..] == wire);
        }
        let mut out = [0xEE; 200];
        assert_eq!(packet.encode(&mut out), Ok(wire.len()));
        assert!(out.starts_with(&wire) && out[wire.len()..].iter().all(|byte| *byte == 0xEE));
        let (needed, available) = (wire.len(), wire.len() - 1);
        let short = EncodeError::BufferTooSmall { needed, available };
        assert_eq!(packet.encode(&mut out[..available]), Err(short));
    }
}

/// Where the remaining length takes another byte (Table 2.4).
#[test]
fn remaining_lengths_around_each_limit() {
    let payload = vec![7; 2_097_160];
    for (remaining, header) in [
        (127, "30 7f"),
        (128, "30 80 01"),
        (16_383, "30 ff 7f"),
        (16_384, "30 80 80 01"),
        (2_097_151, "30 ff ff 7f"),
        (2_097_152, "30 80 80 80 01"),
    ] {
        let packet = publish("a", &payload[..remaining - 3]);
        let bytes = encoded(&packet);
        let header = crate::hex(header);
        assert!(bytes.starts_with(&header), "{remaining}");
        assert_eq!(bytes.len(), header.len() + remaining);
        assert_eq!(accept(&bytes), packet);
    }
}

/// The largest packet there is, and one byte more.
#[test]
fn the_largest_packet_is_encoded_and_the_next_refused() {
    let payload = vec![0; 268_435_455 - 3 + 1];
    let most = publish("a", &payload[1..]);
    assert_eq!(most.encoded_len(), Ok(268_435_460));
    let Packet::Publish(publish_most) = most else { unreachable!() };
    let mut header = Vec::new();
    assert_eq!(publish_most.encode_header_to(&mut header), Ok(8));
    assert_eq!(header, b"\x30\xff\xff\xff\x7f\x00\x01a");

    let mut out = Vec::new();
    let error = EncodeError::PacketTooLarge { length: 268_435_456 };
    assert_eq!(publish("a", &payload).encode_to(&mut out), Err(error));
    assert_eq!(publish("a", &payload).encode(&mut [0; 16]), Err(error));
    assert!(out.is_empty(), "something was written");
}

/// What the types of a CONNECT cannot rule out is an error, never wrong bytes: a length that would be
/// cut to 16 bits, U+0000, a nameless session to be resumed.
#[test]
fn a_connect_that_cannot_be_written_is_an_error() {
    let long = "x".repeat(65_536);
    let will = |message| Will {
        topic: TopicName::new("w").unwrap(),
        message,
        qos: QoS::AtMostOnce,
        retain: false,
    };
    let good = Connect {
        client_id: text("c"),
        clean_session: false,
        keep_alive: 1,
        will: None,
        login: None,
    };
    let login = |username, password| Some(Login { username, password });
    let too_long = |field| EncodeError::FieldTooLong { field, length: 65_536 };
    for (connect, expected) in [
        (Connect { will: Some(will(long.as_bytes())), ..good }, too_long(Field::WillMessage)),
        (
            Connect { login: login(text("u"), Some(long.as_bytes())), ..good },
            too_long(Field::Password),
        ),
        (Connect { client_id: text(""), ..good }, EncodeError::EmptyClientId),
    ] {
        let mut out = Vec::new();
        assert_eq!(Packet::from(connect).encode_to(&mut out), Err(expected));
        assert_eq!(Packet::from(connect).encoded_len(), Err(expected));
        assert!(out.is_empty(), "something was written");
    }
    assert_eq!(Text::new(&long), Err(TextError::TooLong { length: 65_536 }));
    // One byte less is fine everywhere.
    let most = &long[1..];
    let connect = Connect {
        client_id: text(most),
        will: Some(will(most.as_bytes())),
        login: login(text(most), Some(most.as_bytes())),
        ..good
    };
    let packet = Packet::from(connect);
    assert_eq!(accept(&encoded(&packet)), packet);
}

/// A short output is told how much it lacks, and is left as it was.
#[test]
fn a_short_output_is_left_alone() {
    let mut out = [0xAA; 3];
    let error = EncodeError::BufferTooSmall { needed: 5, available: 3 };
    assert_eq!(publish("a", b"").encode(&mut out), Err(error));
    assert_eq!(out, [0xAA; 3]);
}

/// So are those of a CONNECT, and a buffer whose room suffices does not grow.
#[test]
fn a_connect_of_any_lengths_is_written_and_nothing_else() {
    let letters: String = ('a'..='z').cycle().take(200).collect();
    for (id_len, name_len) in (1..=20).flat_map(|id| (0..=190).map(move |name| (id, name))) {
        for password_len in [None, Some(0), Some(1), Some(133)] {
            let (client_id, username) = (&letters[..id_len], &letters[..name_len]);
            let password = password_len.map(|length| &letters.as_bytes()[..length]);
            let connect = Connect {
                client_id: text(client_id),
                clean_session: true,
                keep_alive: 0x0102,
                will: None,
                login: Some(Login { username: text(username), password }),
            };
            let flags = if password.is_some() { 0xC2 } else { 0x82 };
            let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, flags, 1, 2];
            let fields = [Some(client_id.as_bytes()), Some(username.as_bytes()), password];
            for field in fields.into_iter().flatten() {
                body.extend(u16::try_from(field.len()).unwrap().to_be_bytes());
                body.extend(field);
            }
            assert_written(&connect.into(), &framed(0x10, &body));
        }
    }
}

/// And those of a list.
#[test]
fn a_subscribe_of_any_lengths_is_written_and_nothing_else() {
    let letters: String = ('a'..='z').cycle().take(70).collect();
    for (one, other) in (1..=70).flat_map(|one| [1, 3, 8, 40, 52, 70].map(|other| (one, other))) {
        for more in [1, 50] {
            let lengths = [one, other, more];
            let entry = |length| (TopicFilter::new(&letters[..length]).unwrap(), QoS::AtLeastOnce);
            let entries = lengths.map(entry);
            let filters = Subscriptions::new(&entries).unwrap();
            let id = PacketIdentifier::new(0x0102).unwrap();
            let mut body = vec![1, 2];
            for length in lengths {
                body.extend([0, u8::try_from(length).unwrap()]);
                body.extend(&letters.as_bytes()[..length]);
                body.push(1);
            }
            assert_written(&Subscribe { id, filters }.into(), &framed(0x82, &body));
        }
    }
}

/// A packet of less than 16 KiB.
fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let low = u8::try_from(body.len() & 0x7F).unwrap();
    let mut wire = match u8::try_from(body.len() >> 7).unwrap() {
        0 => vec![first, low],
        high => vec![first, low | 0x80, high],
    };
    wire.extend(body);
    wire
}

/// What is written in one go needs more room than the packet: it is there, or not quite, or not at all.
fn assert_written(packet: &Packet<'_>, wire: &[u8]) {
    for spare in [0, 1, 7, 15, 16, 63, 64, 100, 190, 191, 192] {
        let mut out = Vec::with_capacity(3 + wire.len() + spare);
        out.extend(b"old");
        let before = out.capacity();
        assert_eq!(packet.encode_to(&mut out), Ok(wire.len()));
        assert!(out.starts_with(b"old") && out[3..] == *wire, "{packet:?} {spare}");
        assert_eq!(out.capacity(), before);
    }
}
