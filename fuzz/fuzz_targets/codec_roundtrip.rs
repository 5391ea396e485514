//! Any packet is the same after encoding and decoding, by each of the ways to encode it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zerotouch_fuzz::mqtt::Parts;
use zerotouch_mqtt_codec::{Decoded, Packet, decode};

fuzz_target!(|parts: Parts<'_>| {
    parts.with_packet(|packet| {
        let mut bytes = Vec::new();
        let Ok(length) = packet.encode_to(&mut bytes) else {
            assert!(packet.encoded_len().is_err() && bytes.is_empty());
            return;
        };
        assert_eq!((bytes.len(), packet.encoded_len()), (length, Ok(length)));
        let Ok(Decoded::Complete { packet: again, used }) = decode(&bytes) else {
            panic!("{packet:?} became {bytes:02x?}");
        };
        assert_eq!((again, used), (*packet, length));

        let mut slice = vec![0; length];
        assert_eq!(packet.encode(&mut slice), Ok(length));
        assert_eq!(slice, bytes);
        assert!(packet.encode(&mut slice[1..]).is_err());
        if let Packet::Publish(publish) = packet {
            let mut pieces = Vec::new();
            publish.encode_header_to(&mut pieces).unwrap();
            pieces.extend_from_slice(publish.payload);
            assert_eq!(pieces, bytes);
        }
    });
});
