//! A key in a token, behind the one signer trait.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use p256::pkcs8::EncodePublicKey;
use rsa::BoxedUint;
use sha2::{Digest, Sha256, Sha384};
use zeroize::Zeroizing;
use zerotouch_credentials::{KeyAlgorithm, SignError, Signer, verify_signature};

use crate::token::{self, Access, PublicKey};
use crate::uri::KeyUri;

/// `CKA_EC_PARAMS` of the curves: the DER of their object identifiers (RFC 5480 §2.1.1.1).
pub(crate) const P256: &[u8] = &[0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
pub(crate) const P384: &[u8] = &[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22];

/// What stands before a SHA-256 hash in a PKCS #1 v1.5 signature (RFC 8017 §9.2, note 1).
const SHA256_DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// A private key that never leaves its token. One session is kept open and used by one thread at a
/// time; a token is slower than any queue for it.
///
/// A session or login that is lost is opened anew, once for each signature, if the PIN is in a file
/// ([`Pkcs11Signer::open`]) or none is needed.
pub struct Pkcs11Signer {
    opened: Mutex<Opened>,
    uri: KeyUri,
    /// Whether `uri` is enough to open the key again.
    reopens: bool,
    algorithm: KeyAlgorithm,
    public_key: Vec<u8>,
}

struct Opened {
    session: Session,
    key: ObjectHandle,
}

/// The two ways in which an RSA key signs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Padding {
    Pkcs1,
    Pss,
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
        source: Error,
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
        source: Error,
    },
    /// The token has refused the PIN before.
    #[error(
        "the token has refused the PIN, which is not tried again: put the right one there and restart"
    )]
    PinRefused,
    /// All places for keys are taken.
    #[error("every slot for keys holds one that is in use")]
    NoFreeSlot,
    /// Not exactly one private key fits.
    #[error(
        "{found} private keys fit the URI, one must; check object= and id=, and whether the key \
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
    /// There is no public key object with the private key's identifier, or it lacks a part.
    #[error("the token has no usable public key object with the private key's CKA_ID")]
    NoPublicKey,
    /// The key is of another kind, on another curve or of another length.
    #[error(
        "the key is not supported (EC on P-256 and P-384, and RSA of 2048, 3072 and 4096 bits are)"
    )]
    UnsupportedKey,
    /// The private key does not sign for the public one.
    #[error("the token's private and public key of that name do not belong together")]
    KeyMismatch,
    /// The session with the token, or the login, is gone: another program reset the token, or it was
    /// away for a moment. It can be opened anew.
    #[error("the session with the token was lost; open the key again ({source})")]
    SessionLost {
        /// What the token says.
        source: Error,
    },
    /// The token is not there any more.
    #[error("the token was removed; put it back ({source})")]
    TokenRemoved {
        /// What the module says.
        source: Error,
    },
    /// The token failed in another way.
    #[error("the token failed: {source}")]
    Failed {
        /// What it says.
        source: Error,
    },
}

impl From<Error> for Pkcs11Error {
    fn from(source: Error) -> Self {
        use RvError as Rv;
        match &source {
            Error::Pkcs11(
                Rv::SessionHandleInvalid
                | Rv::SessionClosed
                | Rv::UserNotLoggedIn
                | Rv::KeyHandleInvalid
                | Rv::ObjectHandleInvalid
                | Rv::CryptokiNotInitialized,
                _,
            ) => Self::SessionLost { source },
            Error::Pkcs11(
                Rv::DeviceRemoved
                | Rv::TokenNotPresent
                | Rv::TokenNotRecognized
                | Rv::SlotIdInvalid,
                _,
            ) => Self::TokenRemoved { source },
            _ => Self::Failed { source },
        }
    }
}

impl Pkcs11Signer {
    /// Opens the key that `uri` names, with the PIN from its `pin-source` if it has one.
    ///
    /// One signature is made and verified, so that a key that opens is a key that works.
    pub fn open(uri: &KeyUri) -> Result<Self, Pkcs11Error> {
        let pin = uri.pin_source.as_deref().map(read_pin).transpose()?;
        Self::open_and_try(uri, pin.as_ref(), true)
    }

    /// As [`Pkcs11Signer::open`], with a PIN of the caller's, which is not kept.
    pub fn open_with_pin(
        uri: &KeyUri,
        pin: Option<&Zeroizing<String>>,
    ) -> Result<Self, Pkcs11Error> {
        Self::open_and_try(uri, pin, pin.is_none())
    }

    fn open_and_try(
        uri: &KeyUri,
        pin: Option<&Zeroizing<String>>,
        reopens: bool,
    ) -> Result<Self, Pkcs11Error> {
        let (opened, algorithm, public_key) = open_key(uri, pin)?;
        let opened = Mutex::new(opened);
        let signer = Self { opened, uri: uri.clone(), reopens, algorithm, public_key };
        let challenge = b"zerotouch: does this key work?";
        let signature = signer.sign_raw(challenge, Padding::Pkcs1)?;
        verify_signature(&signer.public_key, challenge, &signature)
            .map_err(|_| Pkcs11Error::KeyMismatch)?;
        Ok(signer)
    }

    fn sign_raw(&self, message: &[u8], padding: Padding) -> Result<Vec<u8>, Pkcs11Error> {
        // A panic elsewhere while signing leaves no state of ours behind.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        match opened.sign(self.algorithm, message, padding) {
            Err(Pkcs11Error::SessionLost { source }) if self.reopens => {
                let pin = self.uri.pin_source.as_deref().map(read_pin).transpose()?;
                let (again, _, public_key) =
                    open_key(&self.uri, pin.as_ref()).map_err(|error| match error {
                        Pkcs11Error::Token { found: 0 } => Pkcs11Error::TokenRemoved { source },
                        error => error,
                    })?;
                // Whoever reset the token may have put another key there by the same name.
                if public_key != self.public_key {
                    return Err(Pkcs11Error::KeyMismatch);
                }
                *opened = again;
                opened.sign(self.algorithm, message, padding)
            }
            outcome => outcome,
        }
    }
}

impl Opened {
    /// Signs, with the hash computed here: every token signs a digest, and not every one can hash.
    fn sign(
        &self,
        algorithm: KeyAlgorithm,
        message: &[u8],
        padding: Padding,
    ) -> Result<Vec<u8>, Pkcs11Error> {
        let sign = |mechanism: &Mechanism<'_>, input: &[u8]| {
            self.session.sign(mechanism, self.key, input).map_err(Pkcs11Error::from)
        };
        let ecdsa = |digest: &[u8]| {
            let pair = sign(&Mechanism::Ecdsa, digest)?;
            signature_der(algorithm, &pair).ok_or(Pkcs11Error::KeyMismatch)
        };
        match algorithm {
            KeyAlgorithm::EcdsaP256 => ecdsa(&Sha256::digest(message)),
            KeyAlgorithm::EcdsaP384 => ecdsa(&Sha384::digest(message)),
            _ if padding == Padding::Pss => {
                let parameters = PkcsPssParams {
                    hash_alg: MechanismType::SHA256,
                    mgf: PkcsMgfType::MGF1_SHA256,
                    s_len: 32.into(),
                };
                sign(&Mechanism::RsaPkcsPss(parameters), &Sha256::digest(message))
            }
            _ => {
                let digest_info = [&SHA256_DIGEST_INFO[..], &Sha256::digest(message)].concat();
                sign(&Mechanism::RsaPkcs, &digest_info)
            }
        }
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
        self.sign_raw(message, Padding::Pkcs1).map_err(|error| SignError::Device(Box::new(error)))
    }

    fn sign_pss(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        if self.algorithm.rsa_bits().is_none() {
            return Err(SignError::Unsupported);
        }
        self.sign_raw(message, Padding::Pss).map_err(|error| SignError::Device(Box::new(error)))
    }
}

fn open_key(
    uri: &KeyUri,
    pin: Option<&Zeroizing<String>>,
) -> Result<(Opened, KeyAlgorithm, Vec<u8>), Pkcs11Error> {
    let session = token::open_session(uri, pin, Access::Read)?;
    let key = token::find_private_key(&session, uri)?;
    let (algorithm, public_key) = match token::read_public_key(&session, key)? {
        PublicKey::Ec { curve, point } => ec_public_key(&curve, &point)?,
        PublicKey::Rsa { modulus, exponent } => rsa_public_key(&modulus, &exponent)?,
    };
    Ok((Opened { session, key }, algorithm, public_key))
}

impl fmt::Debug for Pkcs11Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pkcs11Signer({}, ..)", self.algorithm)
    }
}

pub(crate) fn read_pin(path: &Path) -> Result<Zeroizing<String>, Pkcs11Error> {
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
fn ec_public_key(curve: &[u8], point: &[u8]) -> Result<(KeyAlgorithm, Vec<u8>), Pkcs11Error> {
    let (algorithm, len) = match curve {
        P256 => (KeyAlgorithm::EcdsaP256, 65),
        P384 => (KeyAlgorithm::EcdsaP384, 97),
        _ => return Err(Pkcs11Error::UnsupportedKey),
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

fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Result<(KeyAlgorithm, Vec<u8>), Pkcs11Error> {
    let number = BoxedUint::from_be_slice_vartime;
    let (modulus, exponent) = (number(modulus), number(exponent));
    let bits = usize::try_from(modulus.bit_width()).ok();
    let algorithm = bits.and_then(KeyAlgorithm::rsa).ok_or(Pkcs11Error::UnsupportedKey)?;
    let document = rsa::PublicKey::new(modulus, exponent)
        .ok()
        .and_then(|key| key.to_public_key_der().ok())
        .ok_or(Pkcs11Error::NoPublicKey)?;
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
