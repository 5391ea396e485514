//! The one thing that signs: certificate requests and TLS handshakes alike.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt::{self, Debug};

/// The kind of a key pair, and with it how requests and certificates are signed with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// NIST P-256, signing with ECDSA over SHA-256.
    EcdsaP256,
    /// NIST P-384, signing with ECDSA over SHA-384.
    EcdsaP384,
    /// RSA with a modulus of 2,048 bits, signing by PKCS #1 v1.5 over SHA-256.
    Rsa2048,
    /// RSA with a modulus of 3,072 bits, signing by PKCS #1 v1.5 over SHA-256.
    Rsa3072,
    /// RSA with a modulus of 4,096 bits, signing by PKCS #1 v1.5 over SHA-256.
    Rsa4096,
}

impl KeyAlgorithm {
    /// The RSA keys of `bits`.
    pub const fn rsa(bits: usize) -> Option<Self> {
        match bits {
            2048 => Some(Self::Rsa2048),
            3072 => Some(Self::Rsa3072),
            4096 => Some(Self::Rsa4096),
            _ => None,
        }
    }

    /// How long the modulus is, in bits; `None` for keys that are not RSA.
    pub const fn rsa_bits(self) -> Option<usize> {
        match self {
            Self::Rsa2048 => Some(2048),
            Self::Rsa3072 => Some(3072),
            Self::Rsa4096 => Some(4096),
            Self::EcdsaP256 | Self::EcdsaP384 => None,
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
            Self::Rsa2048 => "RSA-2048",
            Self::Rsa3072 => "RSA-3072",
            Self::Rsa4096 => "RSA-4096",
        })
    }
}

/// A private key that signs, wherever it lives. It never leaves through this trait.
pub trait Signer: Send + Sync + Debug {
    /// The kind of key.
    fn algorithm(&self) -> KeyAlgorithm;

    /// The public half, as the DER of a `SubjectPublicKeyInfo` (RFC 5280 §4.1).
    fn public_key(&self) -> &[u8];

    /// Signs `message`, hashing it as [`KeyAlgorithm`] says. An ECDSA signature is the DER
    /// `ECDSA-Sig-Value` of RFC 3279 §2.2.3; an RSA signature is that of RFC 8017 §8.2.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;

    /// Whether a request it has signed is verified before it leaves; `true` unless there is a reason.
    ///
    /// That finds a token that signs with another key than it shows, or in another form; and it keeps
    /// back a signature that a fault has spoilt, which together with a good one of the same message gives
    /// the key away if its nonce was drawn from the message, as RFC 6979 does.
    fn is_verified(&self) -> bool {
        true
    }

    /// Signs `message` by RSASSA-PSS (RFC 8017 §8.1) over SHA-256 with a salt of 32 bytes: the one
    /// signature that TLS 1.3 takes from an RSA key. Keys of other kinds have none.
    fn sign_pss(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let _ = message;
        Err(SignError::Unsupported)
    }
}

/// Where keys are made that never leave it: a few places, each of which holds one key and has an address.
///
/// Like signing, these are direct calls: they are functions, not I/O that a driver does.
pub trait KeySlots: Send + Sync + Debug {
    /// Whether a key can be made without touching those at these addresses.
    fn has_room(&self, in_use: &[&str]) -> bool;

    /// Makes a new key in a place that is not in use, instead of whatever is there: its address, and
    /// what signs with it.
    fn create(
        &self,
        algorithm: KeyAlgorithm,
        in_use: &[&str],
    ) -> Result<(String, Arc<dyn Signer>), SignError>;

    /// Opens the key at this address.
    fn open(&self, address: &str) -> Result<Arc<dyn Signer>, SignError>;
}

/// Why a signature was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// A key in software could not sign.
    #[error("the private key could not sign")]
    Software,
    /// The key makes no signature of the kind that was asked for.
    #[error("the private key makes no signature of this kind")]
    Unsupported,
    /// The device that holds the key (a token, an HSM, a TPM) refused or failed.
    #[error("the device holding the private key did not sign")]
    Device(#[source] Box<dyn Error + Send + Sync>),
}
