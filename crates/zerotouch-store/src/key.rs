//! The private key of an identity: in memory, or in hardware with the store keeping its address.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use zerotouch_credentials::{PrivateKey, SignError, Signer};

/// The longest address of a key in hardware, in bytes.
pub const MAX_KEY_URI_LEN: usize = 1024;

/// A private key, or where it is.
#[derive(Clone, Debug)]
pub enum Key {
    /// In this process's memory; a store keeps the key itself.
    Software(Arc<PrivateKey>),
    /// In hardware, which it never leaves; a store keeps its address and its public half.
    Reference(KeyReference),
}

impl Key {
    /// The public half, as the DER of a `SubjectPublicKeyInfo`.
    pub fn public_key(&self) -> &[u8] {
        match self {
            Self::Software(key) => key.public_key(),
            Self::Reference(reference) => reference.public_key(),
        }
    }

    /// What signs with it. A reference has nothing to sign with before it is attached
    /// ([`Identity::attach`](crate::Identity::attach)).
    pub fn signer(&self) -> Result<Arc<dyn Signer>, SignError> {
        match self {
            Self::Software(key) => Ok(Arc::clone(key) as _),
            Self::Reference(KeyReference { signer: Some(signer), .. }) => Ok(Arc::clone(signer)),
            Self::Reference(KeyReference { uri, .. }) => {
                Err(SignError::Device(Box::new(NotAttached { uri: uri.clone() })))
            }
        }
    }
}

impl From<PrivateKey> for Key {
    fn from(key: PrivateKey) -> Self {
        Self::Software(Arc::new(key))
    }
}

impl From<Arc<PrivateKey>> for Key {
    fn from(key: Arc<PrivateKey>) -> Self {
        Self::Software(key)
    }
}

impl From<KeyReference> for Key {
    fn from(reference: KeyReference) -> Self {
        Self::Reference(reference)
    }
}

/// The address of a key in hardware (a `pkcs11:` URI, RFC 7512, or whatever the one who opens it
/// understands) and the public half that is expected there.
#[derive(Clone)]
pub struct KeyReference {
    uri: String,
    public_key: Vec<u8>,
    signer: Option<Arc<dyn Signer>>,
}

impl KeyReference {
    /// The key that `signer` signs with, found at `uri`.
    pub fn new(uri: &str, signer: Arc<dyn Signer>) -> Result<Self, KeyReferenceError> {
        let unattached = Self::unattached(uri, signer.public_key())?;
        Ok(Self { signer: Some(signer), ..unattached })
    }

    /// A key that nobody has opened yet: for stores, which keep just this.
    pub fn unattached(uri: &str, public_key: &[u8]) -> Result<Self, KeyReferenceError> {
        if !(1..=MAX_KEY_URI_LEN).contains(&uri.len()) || !uri.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(KeyReferenceError::NotAUri);
        }
        // RFC 7512 §2.4 has the PIN as a query attribute; attribute names are lower-case there, and
        // nobody means well with another case.
        if uri.to_ascii_lowercase().contains("pin-value=") {
            return Err(KeyReferenceError::Pin);
        }
        Ok(Self { uri: uri.to_string(), public_key: public_key.to_vec(), signer: None })
    }

    /// Where the key is.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The public half, as the DER of a `SubjectPublicKeyInfo`.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Whether there is something to sign with.
    pub const fn is_attached(&self) -> bool {
        self.signer.is_some()
    }

    /// Takes `signer`, if it signs with this key and not with one that has taken its slot.
    pub(crate) fn attach(&mut self, signer: Arc<dyn Signer>) {
        if signer.public_key() == self.public_key {
            self.signer = Some(signer);
        }
    }
}

impl fmt::Debug for KeyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyReference({}, attached: {})", self.uri, self.is_attached())
    }
}

/// Why a text is not stored as the address of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyReferenceError {
    /// It is empty, too long, or holds something else than visible ASCII.
    #[error("the address of a key has 1 to {MAX_KEY_URI_LEN} visible ASCII characters")]
    NotAUri,
    /// It holds the PIN, which would be stored and logged with it.
    #[error("the address of a key must not hold its PIN (pin-value); use pin-source")]
    Pin,
}

#[derive(Debug, thiserror::Error)]
#[error("the key {uri} is in hardware and has not been opened, or another key is there")]
struct NotAttached {
    uri: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    // What is stored is printed and logged, and what has a line break in it breaks both.
    #[test]
    fn an_address_holds_no_pin_and_nothing_invisible() {
        let at =
            |uri: &str| KeyReference::unattached(uri, b"spki").map(|key| key.uri().to_string());
        let good = "pkcs11:token=a%20b;object=slot-a?pin-source=file:/run/pin";
        assert_eq!(at(good).as_deref(), Ok(good));
        assert_eq!(at("pkcs11:object=a?pin-value=1234"), Err(KeyReferenceError::Pin));
        assert_eq!(at("pkcs11:object=a?PIN-Value=1234"), Err(KeyReferenceError::Pin));
        for uri in ["", "a b", "a\nb", "ä", &"x".repeat(MAX_KEY_URI_LEN + 1)] {
            assert_eq!(at(uri), Err(KeyReferenceError::NotAUri), "{uri:?}");
        }
    }

    // A slot that was written anew holds another key, which must not sign for the old certificate.
    #[test]
    fn only_the_expected_key_is_attached() {
        let (ours, other) = (key(1), key(2));
        let mut reference = KeyReference::unattached("slot:a", ours.public_key()).unwrap();
        reference.attach(Arc::clone(&other) as _);
        let error = Key::from(reference.clone()).signer().unwrap_err();
        let cause = core::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("slot:a"), "{cause}");
        reference.attach(Arc::clone(&ours) as _);
        let signer = Key::from(reference).signer().unwrap();
        assert_eq!(signer.public_key(), ours.public_key());
    }
}
