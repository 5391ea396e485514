//! Symmetric keys: what an enrolment shares with a device.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use rand_core::TryCryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::random::{RandomnessError, fill_secret};

/// A symmetric key of 16 to 64 bytes, wiped when dropped.
///
/// Deliberately neither `Clone` nor `Display`; `Debug` prints no byte of it.
pub struct SymmetricKey(Zeroizing<Vec<u8>>);

/// Why a text is not a symmetric key. No variant carries any part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not padded base64 of the standard alphabet.
    #[error("the symmetric key is not base64 (standard alphabet, padded, no spaces)")]
    NotBase64,
    /// The decoded key is shorter or longer than the service allows.
    #[error("the symmetric key has {found} bytes; the service takes 16 to 64")]
    Length {
        /// Length of the decoded key in bytes.
        found: usize,
    },
    /// A new key could not be drawn.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

impl SymmetricKey {
    /// The shortest key the service takes, in bytes.
    pub const MIN_LEN: usize = 16;
    /// The longest key the service takes, in bytes.
    pub const MAX_LEN: usize = 64;
    /// What the service itself generates, in bytes.
    const GENERATED_LEN: usize = 64;

    /// Reads the base64 form that the portal and the CLI show.
    ///
    /// One trailing newline is taken off, as a file has it; any other white space is an error.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let bytes =
            Base64::decode_vec(text).map(Zeroizing::new).map_err(|_| KeyError::NotBase64)?;
        if !(Self::MIN_LEN..=Self::MAX_LEN).contains(&bytes.len()) {
            return Err(KeyError::Length { found: bytes.len() });
        }
        Ok(Self(bytes))
    }

    /// The base64 form, in a buffer that wipes itself.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(Base64::encode_string(&self.0))
    }

    /// Draws a new key of 64 bytes, as the service does.
    pub fn generate(rng: &mut (impl TryCryptoRng + ?Sized)) -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new(alloc::vec![0; Self::GENERATED_LEN]);
        fill_secret(rng, &mut bytes)?;
        Ok(Self(bytes))
    }

    /// The key of one device in an enrolment group, `self` being the group's key.
    ///
    /// HMAC-SHA256 over the registration id exactly as given. The id is not lower-cased: a vector
    /// published with the `az` CLI depends on it.
    #[must_use]
    pub fn derive(&self, registration_id: &str) -> Self {
        Self(Zeroizing::new(hmac_sha256(&self.0, &[registration_id.as_bytes()]).to_vec()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(..)")
    }
}

/// HMAC-SHA256 over the concatenation of `parts`.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(keyed(key, parts).finalize().into_bytes().into())
}

/// Compares `expected` with the HMAC in constant time; a wrong length is refused first.
pub(crate) fn hmac_sha256_matches(key: &[u8], parts: &[&[u8]], expected: &[u8]) -> bool {
    keyed(key, parts).verify_slice(expected).is_ok()
}

#[expect(clippy::expect_used, reason = "HMAC is defined for keys of every length")]
fn keyed(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use chacha20::ChaCha8Rng;
    use rand_core::{SeedableRng, TryRng};
    use std::format;
    use std::string::ToString;

    const GROUP_KEY: &str =
        "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";

    // S6, vector a: the derivation printed in the service's documentation.
    #[test]
    fn s06_derives_the_documented_device_key() {
        let device = SymmetricKey::from_base64(GROUP_KEY)
            .unwrap()
            .derive("sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6");
        assert_eq!(*device.to_base64(), "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=");
    }

    // S6, vector b: an upper-case letter in the id. Lower-casing it, as a widely copied sample
    // does, gives a different key. (The key of this vector is longer than the service allows, so
    // the function below the type is what is tested.)
    #[test]
    fn s06_derivation_keeps_the_case_of_the_id() {
        let key = Base64::decode_vec("AToAAQALAAMAsgAgg3GXZ0SEs/gakMyNRqXXJP1S124GUgtk8qHaGzMUaaoABgCAAEMAEAgAAAAAAAEAibym9HQP9vxCGF5dVc1QQsAGe021aUGJzNol1/gycBx3jFsTpwmWbISRwnFvflWd0w2Mc44FAAZNaJOAAxwZvG8GvyLlHh6fGKdh+mSBL4iLH2bZ4Ry22cB3CJVjXmdGoz9Y/j3/NwLndBxQC+baNvzvyVQZ4/A2YL7vzIIj2ik4y+ve9ir7U0GbNdnxskqK1KFIITVVtkTIYyyFTIR0BySjPrRIDj7r7Mh5uF9HBppGKQCBoVSVV8dI91lNazmSdpGWyqCkO7iM4VvUMv2HT/ym53aYlUrau+Qq87Tu+uQipWYgRdF11KDfcpMHqqzBQQ1NpOJVhrsTrhyJzO7KNw==").unwrap();
        let derive = |id: &str| Base64::encode_string(&*hmac_sha256(&key, &[id.as_bytes()]));
        assert_eq!(derive("myarbitrarydeviceId"), "cT/EXZvsplPEpT//p98Pc6sKh8mY3kYgSxavHwMkl7w=");
        assert!(derive("myarbitrarydeviceid").starts_with("xHAc0BVn"));
    }

    // Vector f: the same primitive as the Python SDK's signing mechanism.
    #[test]
    fn signs_like_the_python_sdk() {
        let key =
            SymmetricKey::from_base64("NMgJDvdKTxjLi+xBxxkDDEwDJxEvOE5u8BiT0mVgPeg=").unwrap();
        assert_eq!(
            *key.derive("sign this message").to_base64(),
            "8NJRMT83CcplGrAGaUVIUM/md5914KpWVNngSVoF9/M="
        );
    }

    // S7: a key pasted into a file ends in a newline; everything else odd about it is an error, and
    // the error must not repeat the secret.
    #[test]
    fn s07_text_of_a_key() {
        for text in [GROUP_KEY.to_string(), format!("{GROUP_KEY}\n"), format!("{GROUP_KEY}\r\n")] {
            assert_eq!(*SymmetricKey::from_base64(&text).unwrap().to_base64(), GROUP_KEY);
        }
        let refused = |text: &str| SymmetricKey::from_base64(text).unwrap_err();
        for text in [
            format!("{GROUP_KEY}\n\n"),
            format!(" {GROUP_KEY}"),
            GROUP_KEY.trim_end_matches('=').to_string(),
            GROUP_KEY.replace('/', "_"),
            "not base64 at all".to_string(),
        ] {
            assert_eq!(refused(&text), KeyError::NotBase64, "{text:?}");
        }
        assert_eq!(refused(""), KeyError::Length { found: 0 });
        assert_eq!(refused(&Base64::encode_string(&[1; 15])), KeyError::Length { found: 15 });
        assert_eq!(refused(&Base64::encode_string(&[1; 65])), KeyError::Length { found: 65 });
        SymmetricKey::from_base64(&Base64::encode_string(&[1; 16])).unwrap();
        SymmetricKey::from_base64(&Base64::encode_string(&[1; 64])).unwrap();
        let message = refused(&format!("{GROUP_KEY}!")).to_string();
        assert!(!message.contains(&GROUP_KEY[..8]), "{message}");
    }

    // S8: what a log line shows of a key.
    #[test]
    fn s08_debug_redacts() {
        let key = SymmetricKey::from_base64(GROUP_KEY).unwrap();
        assert_eq!(format!("{key:?}"), "SymmetricKey(..)");
    }

    struct Constant(u8);

    impl TryRng for Constant {
        type Error = core::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            Ok(u32::from_ne_bytes([self.0; 4]))
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            Ok(u64::from_ne_bytes([self.0; 8]))
        }
        fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
            dst.fill(self.0);
            Ok(())
        }
    }

    impl TryCryptoRng for Constant {}

    // C7 holds for symmetric keys too: a stuck generator makes no key.
    #[test]
    fn c07_generates_from_randomness_only() {
        let key = SymmetricKey::generate(&mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        assert_eq!(key.as_bytes().len(), 64);
        let other = SymmetricKey::generate(&mut ChaCha8Rng::seed_from_u64(2)).unwrap();
        assert_ne!(key.as_bytes(), other.as_bytes());
        for stuck in [0, 0xFF] {
            assert_eq!(
                SymmetricKey::generate(&mut Constant(stuck)).unwrap_err(),
                KeyError::Randomness(RandomnessError::Constant)
            );
        }
    }
}
