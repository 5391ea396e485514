//! A key in a token, behind the one signer trait.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use p256::pkcs8::EncodePublicKey;
use sha2::{Digest, Sha256, Sha384};
use zeroize::Zeroizing;
use zerotouch_credentials::{KeyAlgorithm, SignError, Signer, verify_signature};

use crate::token;
use crate::uri::KeyUri;

/// `CKA_EC_PARAMS` of the curves: the DER of their object identifiers (RFC 5480 §2.1.1.1).
const P256: &[u8] = &[0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22];

/// A private key that never leaves its token. One session is kept open and used by one thread at a
/// time; a token is slower than any queue for it.
pub struct Pkcs11Signer {
    session: Mutex<Session>,
    key: ObjectHandle,
    algorithm: KeyAlgorithm,
    public_key: Vec<u8>,
}

/// Why a key in a token cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Pkcs11Error {
    /// The module is not a PKCS#11 library, or does not start.
    #[error("the PKCS#11 module {path} cannot be used: {source}")]
    Module {
        /// Its path.
        path: PathBuf,
        /// What it, or the loader, says.
        source: cryptoki::error::Error,
    },
    /// Not exactly one token fits.
    #[error("{found} tokens fit the URI, one must; name it by token=LABEL or serial=NUMBER")]
    Token {
        /// How many fit.
        found: usize,
    },
    /// The file that should hold the PIN cannot be read.
    #[error("the PIN cannot be read from {path}: {source}")]
    PinSource {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The token did not accept the PIN.
    #[error("the token did not accept the PIN; mind that it counts failures ({source})")]
    Login {
        /// What the token says.
        source: cryptoki::error::Error,
    },
    /// Not exactly one EC private key fits.
    #[error(
        "{found} EC private keys fit the URI, one must; check object= and id=, and whether the key \
         can be seen without a PIN (pin-source=)"
    )]
    Key {
        /// How many fit.
        found: usize,
    },
    /// The key wants the PIN before every signature.
    #[error(
        "the key asks for the PIN before every signature, which an unattended device cannot do"
    )]
    AlwaysAuthenticate,
    /// There is no public key object with the private key's identifier, or it has no point.
    #[error("the token has no usable public key object with the private key's CKA_ID")]
    NoPublicKey,
    /// The key is on another curve.
    #[error("the key's curve is not supported (P-256 and P-384 are)")]
    UnsupportedCurve,
    /// The private key does not sign for the public one.
    #[error("the token's private and public key of that name do not belong together")]
    KeyMismatch,
    /// The token failed.
    #[error("the token failed: {0}")]
    Failed(#[from] cryptoki::error::Error),
}

impl Pkcs11Signer {
    /// Opens the key that `uri` names, with the PIN from its `pin-source` if it has one.
    ///
    /// One signature is made and verified, so that a key that opens is a key that works.
    pub fn open(uri: &KeyUri) -> Result<Self, Pkcs11Error> {
        let pin = uri.pin_source.as_deref().map(read_pin).transpose()?;
        Self::open_with_pin(uri, pin.as_ref())
    }

    /// As [`Pkcs11Signer::open`], with a PIN of the caller's.
    pub fn open_with_pin(
        uri: &KeyUri,
        pin: Option<&Zeroizing<String>>,
    ) -> Result<Self, Pkcs11Error> {
        let session = token::open_session(uri, pin)?;
        let key = token::find_private_key(&session, uri)?;
        let (curve, point) = token::read_public_key(&session, key)?;
        let (algorithm, public_key) = public_key(&curve, &point)?;
        let signer = Self { session: Mutex::new(session), key, algorithm, public_key };
        let challenge = b"zerotouch: does this key work?";
        let signature = signer.sign_raw(challenge)?;
        verify_signature(&signer.public_key, challenge, &signature)
            .map_err(|_| Pkcs11Error::KeyMismatch)?;
        Ok(signer)
    }

    /// Signs, with the hash computed here: `CKM_ECDSA` over a digest is the one mechanism that every
    /// token with EC keys has.
    fn sign_raw(&self, message: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        let digest = match self.algorithm {
            KeyAlgorithm::EcdsaP256 => Sha256::digest(message).to_vec(),
            KeyAlgorithm::EcdsaP384 => Sha384::digest(message).to_vec(),
            _ => return Err(Pkcs11Error::UnsupportedCurve),
        };
        // A panic elsewhere while signing leaves no state of ours behind.
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = session.sign(&Mechanism::Ecdsa, self.key, &digest)?;
        signature_der(self.algorithm, &pair).ok_or(Pkcs11Error::KeyMismatch)
    }
}

impl Signer for Pkcs11Signer {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.sign_raw(message).map_err(|error| SignError::Device(Box::new(error)))
    }
}

impl fmt::Debug for Pkcs11Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pkcs11Signer({}, ..)", self.algorithm)
    }
}

fn read_pin(path: &Path) -> Result<Zeroizing<String>, Pkcs11Error> {
    let mut pin = fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|source| Pkcs11Error::PinSource { path: path.to_path_buf(), source })?;
    if pin.ends_with('\n') {
        pin.pop();
    }
    Ok(pin)
}

/// The algorithm and the `SubjectPublicKeyInfo` of a key as PKCS#11 has it: the curve as an object
/// identifier, the point in an OCTET STRING, which some tokens leave away.
fn public_key(curve: &[u8], point: &[u8]) -> Result<(KeyAlgorithm, Vec<u8>), Pkcs11Error> {
    let (algorithm, len) = match curve {
        P256 => (KeyAlgorithm::EcdsaP256, 65),
        P384 => (KeyAlgorithm::EcdsaP384, 97),
        _ => return Err(Pkcs11Error::UnsupportedCurve),
    };
    // Both points are shorter than 128 bytes, so the header is two bytes: tag 4, length.
    let point = match point {
        [0x04, length, inner @ ..] if inner.len() == len && usize::from(*length) == len => inner,
        bare => bare,
    };
    let document = match algorithm {
        KeyAlgorithm::EcdsaP256 => p256::PublicKey::from_sec1_bytes(point)
            .ok()
            .and_then(|key| key.to_public_key_der().ok()),
        _ => p384::PublicKey::from_sec1_bytes(point)
            .ok()
            .and_then(|key| key.to_public_key_der().ok()),
    };
    let document = document.ok_or(Pkcs11Error::NoPublicKey)?;
    Ok((algorithm, document.into_vec()))
}

/// Tokens return r and s side by side, each as long as the field; the world wants DER.
fn signature_der(algorithm: KeyAlgorithm, pair: &[u8]) -> Option<Vec<u8>> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => {
            let signature = p256::ecdsa::Signature::from_slice(pair).ok()?;
            Some(signature.to_der().as_bytes().to_vec())
        }
        KeyAlgorithm::EcdsaP384 => {
            let signature = p384::ecdsa::Signature::from_slice(pair).ok()?;
            Some(signature.to_der().as_bytes().to_vec())
        }
        _ => None,
    }
}
