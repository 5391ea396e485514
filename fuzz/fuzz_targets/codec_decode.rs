//! Any bytes: no panic, and what is accepted encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zerotouch_mqtt_codec::{Decoded, EncodeError, decode};

fuzz_target!(|bytes: &[u8]| {
    match decode(bytes) {
        Ok(Decoded::Complete { packet, used }) => {
            assert!((2..=bytes.len()).contains(&used));
            let _ = format!("{packet:?}");
            let mut again = Vec::new();
            match packet.encode_to(&mut again) {
                Ok(_) if again == bytes[..used] => {}
                // A remaining length in more bytes than it needs is accepted and never written.
                Ok(_) => {
                    assert!(again.len() < used && again[0] == bytes[0]);
                    assert!(
                        matches!(decode(&again), Ok(Decoded::Complete { packet: p, .. }) if p == packet)
                    );
                }
                // A server may receive what a client may not send.
                Err(error) => assert_eq!(error, EncodeError::EmptyClientId),
            }
        }
        Ok(Decoded::Incomplete { needed }) => assert!(needed > 0),
        Err(error) => {
            assert!(error.offset() <= bytes.len());
            let _ = error.to_string();
        }
    }
});
