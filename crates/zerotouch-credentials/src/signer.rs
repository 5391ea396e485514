//! The one thing that signs: certificate requests and TLS handshakes alike.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt::{self, Debug};

/// The kind of a key pair, and with it the one signature the project makes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// NIST P-256, signing with ECDSA over SHA-256.
    EcdsaP256,
    /// NIST P-384, signing with ECDSA over SHA-384.
    EcdsaP384,
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
        })
    }
}

/// A private key that signs, wherever it lives. It never leaves through this trait.
pub trait Signer: Send + Sync + Debug {
    /// The kind of key.
    fn algorithm(&self) -> KeyAlgorithm;

    /// The public half, as the DER of a `SubjectPublicKeyInfo` (RFC 5280 §4.1).
    fn public_key(&self) -> &[u8];

    /// Signs `message`, hashing it as [`KeyAlgorithm`] says; the signature is the DER
    /// `ECDSA-Sig-Value` of RFC 3279 §2.2.3.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Why a signature was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// A key in software could not sign.
    #[error("the private key could not sign")]
    Software,
    /// The device that holds the key (a token, an HSM, a TPM) refused or failed.
    #[error("the device holding the private key did not sign")]
    Device(#[source] Box<dyn Error + Send + Sync>),
}
