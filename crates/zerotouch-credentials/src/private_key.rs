//! Private keys kept in software.

#[cfg(feature = "rsa")]
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use p256::ecdsa::signature::Signer as _;
#[cfg(feature = "rsa")]
use pkcs8::EncodePrivateKey;
use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::{Decode, Encode, Reader, SliceReader, Tag};
use pkcs8::{
    DecodePrivateKey, Document, EncodePublicKey, LineEnding, PrivateKeyInfoRef, SecretDocument,
    SubjectPublicKeyInfoRef,
};
use rand_core::TryCryptoRng;
use sec1::EcPrivateKey;
use zeroize::Zeroizing;

use crate::oid::RSA_ENCRYPTION;
use crate::random::{RandomnessError, fill_secret};
#[cfg(feature = "rsa")]
use crate::rsa_key::RsaKey;
use crate::signer::{KeyAlgorithm, SignError, Signer};
use crate::verify::curve_algorithm;

/// A private key in this process's memory, wiped when dropped.
///
/// Deliberately neither `Clone` nor `Display`; `Debug` prints its algorithm alone. Signatures are
/// deterministic (ECDSA: RFC 6979), so signing needs no randomness. The text forms it is read from and
/// written to are the caller's to wipe; the ones it returns wipe themselves.
pub struct PrivateKey {
    key: Key,
    public_key: Vec<u8>,
}

enum Key {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    #[cfg(feature = "rsa")]
    Rsa(Box<RsaKey>),
}

/// Why there is no private key. No variant carries any part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateKeyError {
    /// A new key could not be drawn.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// The PEM is encrypted.
    #[error("the private key is encrypted; decrypt it first (openssl pkey -in KEY -out KEY.pem)")]
    Encrypted,
    /// The text is not a PEM private key of a kind this crate reads.
    #[error("no private key found (PEM of PKCS#8, SEC1 or PKCS#1)")]
    NotPem,
    /// The encoding inside is broken, or its public half belongs to another key.
    #[error("the private key is malformed")]
    Malformed,
    /// A key of another algorithm, curve or length.
    #[error(
        "the private key's algorithm is not supported (ECDSA P-256 and P-384 are, and RSA of 2048, \
         3072 and 4096 bits where the feature `rsa` is on)"
    )]
    UnsupportedAlgorithm,
}

impl PrivateKey {
    /// Draws a new key.
    ///
    /// A generator that fails or is visibly stuck is an error and never a key.
    pub fn generate(
        algorithm: KeyAlgorithm,
        rng: &mut (impl TryCryptoRng + ?Sized),
    ) -> Result<Self, PrivateKeyError> {
        #[cfg(feature = "rsa")]
        if let Some(bits) = algorithm.rsa_bits() {
            return Self::new(Key::Rsa(Box::new(RsaKey::generate(bits, rng)?)));
        }
        // A draw is outside the group's order once in 2^32 (P-256) or 2^192 (P-384) draws; four
        // such in a row are a broken generator.
        for _ in 0..4 {
            let key = match algorithm {
                KeyAlgorithm::EcdsaP256 => {
                    let mut scalar = Zeroizing::new([0; 32]);
                    fill_secret(rng, &mut *scalar)?;
                    p256::ecdsa::SigningKey::from_slice(&*scalar).map(Key::P256)
                }
                KeyAlgorithm::EcdsaP384 => {
                    let mut scalar = Zeroizing::new([0; 48]);
                    fill_secret(rng, &mut *scalar)?;
                    p384::ecdsa::SigningKey::from_slice(&*scalar).map(Key::P384)
                }
                _ => return Err(PrivateKeyError::UnsupportedAlgorithm),
            };
            if let Ok(key) = key {
                return Self::new(key);
            }
        }
        Err(RandomnessError::Failed.into())
    }

    /// Reads a key from a file's bytes, whatever its form: PEM as [`PrivateKey::from_pem`] reads it,
    /// or DER as [`PrivateKey::from_der`] does.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PrivateKeyError> {
        match core::str::from_utf8(bytes) {
            Ok(text) if text.contains("-----BEGIN ") => Self::from_pem(text),
            // The tag of a SEQUENCE.
            _ if bytes.first() == Some(&0x30) => Self::from_der(bytes),
            _ => Err(PrivateKeyError::NotPem),
        }
    }

    /// Reads a PEM private key: `PRIVATE KEY` (PKCS#8, RFC 5958), `EC PRIVATE KEY` (SEC1, RFC 5915)
    /// or `RSA PRIVATE KEY` (PKCS#1, RFC 8017). Other blocks before and after it, such as
    /// certificates, are passed over.
    pub fn from_pem(pem: &str) -> Result<Self, PrivateKeyError> {
        type Read = fn(&[u8]) -> Result<PrivateKey, PrivateKeyError>;
        let kinds: [(&str, Read); 3] = [
            ("PRIVATE KEY", Self::from_pkcs8_der),
            ("EC PRIVATE KEY", Self::from_sec1_der),
            ("RSA PRIVATE KEY", Self::from_pkcs1_der),
        ];
        for (label, read) in kinds {
            let Some(block) = pem_block(pem, label) else { continue };
            // The old way to lock a key, by a header inside the block (RFC 1421).
            if block.contains("Proc-Type:") {
                return Err(PrivateKeyError::Encrypted);
            }
            let (_, document) =
                SecretDocument::from_pem(block).map_err(|_| PrivateKeyError::Malformed)?;
            return read(document.as_bytes());
        }
        if pem_block(pem, "ENCRYPTED PRIVATE KEY").is_some() {
            return Err(PrivateKeyError::Encrypted);
        }
        Err(PrivateKeyError::NotPem)
    }

    /// Reads the DER of a key: PKCS#8, SEC1 or PKCS#1, told apart by what stands second in them.
    pub fn from_der(der: &[u8]) -> Result<Self, PrivateKeyError> {
        let (first, second) = first_two_tags(der).map_err(|_| PrivateKeyError::Malformed)?;
        match (first, second) {
            (Tag::Integer, Tag::Sequence) => Self::from_pkcs8_der(der),
            (Tag::Integer, Tag::OctetString) => Self::from_sec1_der(der),
            (Tag::Integer, Tag::Integer) => Self::from_pkcs1_der(der),
            (Tag::Sequence, Tag::OctetString) => Err(PrivateKeyError::Encrypted),
            _ => Err(PrivateKeyError::Malformed),
        }
    }

    /// Reads the DER of a PKCS#8 `PrivateKeyInfo`.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, PrivateKeyError> {
        let info = PrivateKeyInfoRef::from_der(der).map_err(|_| PrivateKeyError::Malformed)?;
        if info.algorithm.oid == RSA_ENCRYPTION {
            return Self::from_pkcs1_der(info.private_key.as_bytes());
        }
        let curve =
            info.algorithm.parameters_oid().map_err(|_| PrivateKeyError::UnsupportedAlgorithm)?;
        match curve_algorithm(info.algorithm.oid, curve) {
            Some(KeyAlgorithm::EcdsaP256) => {
                p256::ecdsa::SigningKey::from_pkcs8_der(der).map(Key::P256)
            }
            Some(KeyAlgorithm::EcdsaP384) => {
                p384::ecdsa::SigningKey::from_pkcs8_der(der).map(Key::P384)
            }
            _ => return Err(PrivateKeyError::UnsupportedAlgorithm),
        }
        .map_err(|_| PrivateKeyError::Malformed)
        .and_then(Self::new)
    }

    #[cfg(feature = "rsa")]
    fn from_pkcs1_der(der: &[u8]) -> Result<Self, PrivateKeyError> {
        Self::new(Key::Rsa(Box::new(RsaKey::from_pkcs1_der(der)?)))
    }

    #[cfg(not(feature = "rsa"))]
    fn from_pkcs1_der(_: &[u8]) -> Result<Self, PrivateKeyError> {
        Err(PrivateKeyError::UnsupportedAlgorithm)
    }

    /// A SEC1 key names its curve or shows it by its length; each curve's parser refuses the other.
    fn from_sec1_der(der: &[u8]) -> Result<Self, PrivateKeyError> {
        if let Ok(secret) = p256::SecretKey::from_sec1_der(der) {
            return Self::new(Key::P256(secret.into()));
        }
        if let Ok(secret) = p384::SecretKey::from_sec1_der(der) {
            return Self::new(Key::P384(secret.into()));
        }
        Err(match AnyRef::from_der(der) {
            Ok(_) => PrivateKeyError::UnsupportedAlgorithm,
            Err(_) => PrivateKeyError::Malformed,
        })
    }

    /// The PEM of the key in PKCS#8, in a buffer that wipes itself.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, PrivateKeyError> {
        #[cfg(feature = "rsa")]
        if let Key::Rsa(key) = &self.key {
            let pem = key.encode().to_pkcs8_pem(LineEnding::LF);
            return pem.map_err(|_| PrivateKeyError::Malformed);
        }
        let pem = self.to_pkcs8_der()?.to_pem("PRIVATE KEY", LineEnding::LF);
        pem.map_err(|_| PrivateKeyError::Malformed)
    }

    /// The same without its armour, for keys of elliptic curves.
    pub(crate) fn to_pkcs8_der(&self) -> Result<SecretDocument, PrivateKeyError> {
        match &self.key {
            Key::P256(key) => self.wrap(&Zeroizing::new(key.to_bytes())),
            Key::P384(key) => self.wrap(&Zeroizing::new(key.to_bytes())),
            #[cfg(feature = "rsa")]
            Key::Rsa(_) => return Err(PrivateKeyError::UnsupportedAlgorithm),
        }
        .map_err(|_| PrivateKeyError::Malformed)
    }

    /// What the curves' own encoders do, which first compute the public half that is known here: for them
    /// that is nearly all of the work.
    fn wrap(&self, secret: &[u8]) -> der::Result<SecretDocument> {
        let SubjectPublicKeyInfoRef { algorithm, subject_public_key } =
            SubjectPublicKeyInfoRef::from_der(&self.public_key)?;
        let public_key = subject_public_key.as_bytes();
        let key = EcPrivateKey { private_key: secret, parameters: None, public_key };
        let key = Zeroizing::new(key.to_der()?);
        SecretDocument::encode_msg(&PrivateKeyInfoRef::new(algorithm, OctetStringRef::new(&key)?))
    }

    fn new(key: Key) -> Result<Self, PrivateKeyError> {
        let public_key = match &key {
            Key::P256(key) => key.verifying_key().to_public_key_der().map(Document::into_vec),
            Key::P384(key) => key.verifying_key().to_public_key_der().map(Document::into_vec),
            #[cfg(feature = "rsa")]
            Key::Rsa(key) => key.to_public_key_der(),
        }
        .map_err(|_| PrivateKeyError::Malformed)?;
        Ok(Self { key, public_key })
    }
}

impl Signer for PrivateKey {
    fn algorithm(&self) -> KeyAlgorithm {
        match &self.key {
            Key::P256(_) => KeyAlgorithm::EcdsaP256,
            Key::P384(_) => KeyAlgorithm::EcdsaP384,
            #[cfg(feature = "rsa")]
            Key::Rsa(key) => key.algorithm(),
        }
    }

    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.key {
            Key::P256(key) => key
                .try_sign(message)
                .map(|signature: p256::ecdsa::DerSignature| signature.as_bytes().to_vec()),
            Key::P384(key) => key
                .try_sign(message)
                .map(|signature: p384::ecdsa::DerSignature| signature.as_bytes().to_vec()),
            #[cfg(feature = "rsa")]
            Key::Rsa(key) => return key.sign(message),
        }
        .map_err(|_| SignError::Software)
    }

    fn sign_pss(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.key {
            #[cfg(feature = "rsa")]
            Key::Rsa(key) => key.sign_pss(message),
            Key::P256(_) | Key::P384(_) => {
                let _ = message;
                Err(SignError::Unsupported)
            }
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, ..)", self.algorithm())
    }
}

/// What a SEQUENCE begins with.
fn first_two_tags(der: &[u8]) -> der::Result<(Tag, Tag)> {
    SliceReader::new(der)?.sequence(|sequence| {
        let first = Tag::peek(sequence)?;
        sequence.tlv_bytes()?;
        let second = Tag::peek(sequence)?;
        sequence.drain(sequence.remaining_len())?;
        Ok((first, second))
    })
}

/// The first PEM block with this label, its boundaries included.
fn pem_block<'a>(pem: &'a str, label: &str) -> Option<&'a str> {
    let begin = pem.find(&["-----BEGIN ", label, "-----"].concat())?;
    let end_line = ["-----END ", label, "-----"].concat();
    let end = begin + pem[begin..].find(&end_line)? + end_line.len();
    Some(&pem[begin..end])
}

#[cfg(test)]
mod tests {
    use chacha20::ChaCha20Rng;
    use chacha20::rand_core::SeedableRng;
    use pkcs8::EncodePrivateKey as _;

    use super::*;

    // Byte for byte what the curves' own encoders write, of which many readers are known.
    #[test]
    fn pkcs8_is_written_as_the_curves_write_it() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384] {
            let key = PrivateKey::generate(algorithm, &mut rng).unwrap();
            let theirs = match &key.key {
                Key::P256(key) => key.to_pkcs8_pem(LineEnding::LF),
                Key::P384(key) => key.to_pkcs8_pem(LineEnding::LF),
                #[cfg(feature = "rsa")]
                Key::Rsa(_) => unreachable!("a key of a curve was made"),
            };
            assert_eq!(*key.to_pkcs8_pem().unwrap(), *theirs.unwrap(), "{algorithm}");
        }
    }
}
