//! Percent-encoding as the services compare it: everything but the unreserved characters of
//! RFC 3986 is encoded, with upper-case digits.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Encodes every byte of `text` that is not unreserved (`A–Z a–z 0–9 - . _ ~`).
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    percent_encode_to(&mut encoded, text);
    encoded
}

/// Appends the encoded `text`, for those whose buffer matters: a secret's is wiped.
pub fn percent_encode_to(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 0xF)]));
        }
    }
}

/// Decodes `%XX` in either case of digit; every other character, `+` included, stands for itself.
pub fn percent_decode(text: &str) -> Result<String, PercentDecodeError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else {
                return Err(PercentDecodeError);
            };
            u8::try_from(high << 4 | low).map_err(|_| PercentDecodeError)?
        } else {
            byte
        });
    }
    String::from_utf8(decoded).map_err(|_| PercentDecodeError)
}

/// A `%` without two hexadecimal digits behind it, or bytes that are no UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentDecodeError;

impl fmt::Display for PercentDecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed percent-encoding")
    }
}

impl core::error::Error for PercentDecodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    // The service compares the encoded resource byte for byte: the encoded set is part of the protocol.
    #[test]
    fn encodes_all_but_unreserved() {
        assert_eq!(
            percent_encode("scope/registrations/a:b+c=~_-."),
            "scope%2Fregistrations%2Fa%3Ab%2Bc%3D~_-."
        );
        assert_eq!(percent_encode("é"), "%C3%A9");
    }

    #[test]
    fn decodes_what_clients_write() {
        assert_eq!(percent_decode("%2f%2F+%C3%A9").unwrap(), "//+é");
        for malformed in ["%", "%2", "%zz", "%+1", "%ff"] {
            assert_eq!(percent_decode(malformed), Err(PercentDecodeError), "{malformed}");
        }
    }
}
