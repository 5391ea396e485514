//! The codec as its users see it.
//!
//! Tests named `mqtt_…` each show one normative statement of the standard.

#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]
#![allow(clippy::doc_markdown, reason = "QoS is a word of the standard, not a name in code")]

mod allocations;
mod arbitrary;
mod conformance;
mod display;
mod framer;
#[cfg(feature = "bytes")]
mod owned;
mod round_trip;
mod topics;
mod vectors;

use zerotouch_mqtt_codec::{DecodeError, DecodeErrorKind, Decoded, Decoder, Packet, Text, decode};

/// A client identifier or user name.
fn text(text: &str) -> Text<'_> {
    Text::new(text).unwrap()
}

/// The bytes of hexadecimal text; spaces are for the reader.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<Option<u32>> =
        text.chars().filter(|c| *c != ' ').map(|c| c.to_digit(16)).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte: {text}");
    let byte =
        |pair: &[Option<u32>]| u8::try_from(pair[0].unwrap() << 4 | pair[1].unwrap()).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The packet that is all of `bytes`.
fn accept(bytes: &[u8]) -> Packet<'_> {
    match decode(bytes) {
        Ok(Decoded::Complete { packet, used }) if used == bytes.len() => packet,
        other => panic!("{bytes:02x?}: {other:?}"),
    }
}

/// Why `bytes` are refused.
#[track_caller]
fn reject(bytes: &[u8]) -> DecodeError {
    match decode(bytes) {
        Err(error) => error,
        other => panic!("{bytes:02x?}: {other:?}"),
    }
}

/// Asserts that hexadecimal bytes are refused, for this reason, at this byte.
#[track_caller]
fn rejects(text: &str, kind: DecodeErrorKind, offset: usize) {
    let error = reject(&hex(text));
    assert_eq!((error.kind(), error.offset()), (kind, offset), "{text}");
}

/// The bytes of a packet, by each of the ways to encode it, which must agree.
fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut appended = b"before".to_vec();
    let length = packet.encode_to(&mut appended).unwrap();
    assert_eq!(&appended[..6], b"before");
    let appended = appended.split_off(6);
    assert_eq!(appended.len(), length);
    assert_eq!(packet.encoded_len(), Ok(length));

    // With room to spare, what has many parts is written in one go.
    let mut roomy = Vec::with_capacity(length + 1024);
    assert_eq!(packet.encode_to(&mut roomy), Ok(length));
    assert_eq!(roomy, appended);

    let mut exact = vec![0xAA; length];
    assert_eq!(packet.encode(&mut exact), Ok(length));
    assert_eq!(exact, appended);
    assert!(packet.encode(&mut exact[1..]).is_err(), "wrote past the end");
    if let Packet::Publish(publish) = packet {
        let mut pieces = Vec::new();
        let header = publish.encode_header_to(&mut pieces).unwrap();
        assert_eq!(header, pieces.len());
        let mut slice = vec![0xAA; header];
        assert_eq!(publish.encode_header(&mut slice), Ok(header));
        assert_eq!(slice, pieces);
        pieces.extend_from_slice(publish.payload);
        assert_eq!(pieces, appended);
    }
    appended
}

/// A decoder for packets of one direction as the vectors write it.
fn decoder(direction: &str) -> Decoder {
    use zerotouch_mqtt_codec::Sender;

    match direction {
        "client->server" => Decoder::from_sender(Sender::Client),
        "server->client" => Decoder::from_sender(Sender::Server),
        "any" => Decoder::new(),
        other => panic!("direction {other}"),
    }
}
