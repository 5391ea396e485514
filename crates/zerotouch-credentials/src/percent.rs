//! Percent-encoding as shared access signatures use it.

use alloc::string::String;
use alloc::vec::Vec;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Appends `text` with everything but the unreserved characters of RFC 3986 §2.3 encoded, in
/// upper-case hex. That is what the vendor's clients send, and what is signed is what is sent.
pub(crate) fn encode_to(out: &mut String, text: &str) {
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 0x0F)]));
        }
    }
}

/// Decodes `%XX` in either case. `+` stays `+`: this is not form encoding. `None` if an escape is
/// cut short or not hex, or if the result is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // S1, S2: the characters that ids may hold and that encoders disagree about.
    #[test]
    fn s02_encodes_every_reserved_character_in_upper_case() {
        let mut out = String::new();
        encode_to(&mut out, "a%b+c#d@e$f'g h/i=j(k)l*m!n~o-p.q_r:s");
        assert_eq!(out, "a%25b%2Bc%23d%40e%24f%27g%20h%2Fi%3Dj%28k%29l%2Am%21n~o-p.q_r%3As");
    }

    #[test]
    fn decodes_either_case_and_refuses_broken_escapes() {
        assert_eq!(decode("a%2fb%2Fc+d").as_deref(), Some("a/b/c+d"));
        for broken in ["%", "%2", "%2g", "%+1", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    proptest! {
        // What one side encodes the other side must read back, for any text whatever.
        #[test]
        fn round_trips(text in any::<String>()) {
            let mut encoded = String::new();
            encode_to(&mut encoded, &text);
            prop_assert_eq!(decode(&encoded), Some(text));
        }
    }
}
