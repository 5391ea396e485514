//! Verifying the signatures of authorities and requesters, in one place.
//!
//! The same pairs of key and hash serve rustls-webpki (chains) and PKCS#10 (requests).

use core::fmt;

use der::Decode;
use der::asn1::ObjectIdentifier;
use rustls_pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};
use spki::SubjectPublicKeyInfoRef;

#[cfg(not(feature = "aws-lc-rs"))]
use self::rust_crypto::verify as verify_ecdsa;
#[cfg(feature = "aws-lc-rs")]
use crate::aws_lc::verify as verify_ecdsa;
use crate::certificate::Certificate;
use crate::oid::{CURVE_P256, CURVE_P384, EC_PUBLIC_KEY, ECDSA_SHA256, ECDSA_SHA384, RSA_SHA256};
#[cfg(feature = "rsa")]
use crate::oid::{RSA_ENCRYPTION, RSA_SHA384, RSA_SHA512};
#[cfg(feature = "rsa")]
use crate::rsa_key;
use crate::signer::KeyAlgorithm;
#[cfg(feature = "simulation")]
use crate::vouched;

/// Why a signature was not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The key or the signature algorithm is none of ECDSA on P-256 and P-384 with SHA-256 and
    /// SHA-384, and (feature `rsa`) RSA of 2,048 to 4,096 bits with SHA-2.
    #[error(
        "the key or signature algorithm is not supported (ECDSA P-256 and P-384 are, and RSA of 2048 \
         to 4096 bits where the feature `rsa` is on)"
    )]
    UnsupportedAlgorithm,
    /// The signature was not made by this key over this message.
    #[error("the signature does not verify")]
    Invalid,
}

/// Verifies what a [`Signer`](crate::Signer) made: `signature` over `message` by the key whose
/// `SubjectPublicKeyInfo` is `public_key`, with the hash that belongs to its algorithm.
pub fn verify_signature(
    public_key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    verify_with(public_key, signature_oid(key_algorithm(public_key)?), message, signature)
}

/// How a [`Signer`](crate::Signer) with a key of this kind signs.
pub(crate) const fn signature_oid(algorithm: KeyAlgorithm) -> ObjectIdentifier {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => ECDSA_SHA256,
        KeyAlgorithm::EcdsaP384 => ECDSA_SHA384,
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => RSA_SHA256,
    }
}

/// As [`verify_signature`], with the signature algorithm that the signed structure names.
pub(crate) fn verify_with(
    public_key: &[u8],
    algorithm: ObjectIdentifier,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let (key, bits) = key(public_key).ok_or(SignatureError::UnsupportedAlgorithm)?;
    let hash = match (key, algorithm) {
        (Key::P256 | Key::P384, ECDSA_SHA256) => Hash::Sha256,
        (Key::P256 | Key::P384, ECDSA_SHA384) => Hash::Sha384,
        #[cfg(feature = "rsa")]
        (Key::Rsa, RSA_SHA256) => Hash::Sha256,
        #[cfg(feature = "rsa")]
        (Key::Rsa, RSA_SHA384) => Hash::Sha384,
        #[cfg(feature = "rsa")]
        (Key::Rsa, RSA_SHA512) => Hash::Sha512,
        _ => return Err(SignatureError::UnsupportedAlgorithm),
    };
    Algorithm { key, hash }
        .verify_signature(bits, message, signature)
        .map_err(|_| SignatureError::Invalid)
}

/// The algorithm of a `SubjectPublicKeyInfo`: named curves, and RSA of the lengths that are signed
/// with here.
pub(crate) fn key_algorithm(public_key: &[u8]) -> Result<KeyAlgorithm, SignatureError> {
    match key(public_key) {
        Some((Key::P256, _)) => Ok(KeyAlgorithm::EcdsaP256),
        Some((Key::P384, _)) => Ok(KeyAlgorithm::EcdsaP384),
        #[cfg(feature = "rsa")]
        Some((Key::Rsa, bits)) => rsa_key::accepted_bits(bits)
            .and_then(KeyAlgorithm::rsa)
            .ok_or(SignatureError::UnsupportedAlgorithm),
        None => Err(SignatureError::UnsupportedAlgorithm),
    }
}

/// The algorithm that an `AlgorithmIdentifier` with a named curve stands for.
pub(crate) fn curve_algorithm(
    algorithm: ObjectIdentifier,
    curve: ObjectIdentifier,
) -> Option<KeyAlgorithm> {
    match (algorithm, curve) {
        (EC_PUBLIC_KEY, CURVE_P256) => Some(KeyAlgorithm::EcdsaP256),
        (EC_PUBLIC_KEY, CURVE_P384) => Some(KeyAlgorithm::EcdsaP384),
        _ => None,
    }
}

/// What verifies with the key, and the bits of the key without their wrapping.
fn key(public_key: &[u8]) -> Option<(Key, &[u8])> {
    let spki = SubjectPublicKeyInfoRef::from_der(public_key).ok()?;
    let bits = spki.subject_public_key.as_bytes()?;
    #[cfg(feature = "rsa")]
    if spki.algorithm.oid == RSA_ENCRYPTION {
        return rsa_key::accepted_bits(bits).map(|_| (Key::Rsa, bits));
    }
    match curve_algorithm(spki.algorithm.oid, spki.algorithm.parameters_oid().ok()?)? {
        KeyAlgorithm::EcdsaP256 => Some((Key::P256, bits)),
        KeyAlgorithm::EcdsaP384 => Some((Key::P384, bits)),
        _ => None,
    }
}

/// What verifies the signatures of a key of this kind, and the bits of the key.
#[cfg(feature = "simulation")]
pub(crate) fn signs_with(public_key: &[u8]) -> Option<(Algorithm, &[u8])> {
    let (key, bits) = key(public_key)?;
    let hash = match key {
        Key::P384 => Hash::Sha384,
        _ => Hash::Sha256,
    };
    Some((Algorithm { key, hash }, bits))
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    #[cfg(feature = "rsa")]
    Sha512,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    P256,
    P384,
    #[cfg(feature = "rsa")]
    Rsa,
}

#[derive(Clone, Copy)]
pub(crate) struct Algorithm {
    pub(crate) key: Key,
    pub(crate) hash: Hash,
}

/// ECDSA on P-256 with SHA-256, for whoever verifies with rustls-webpki.
pub static ECDSA_P256_SHA256: &dyn SignatureVerificationAlgorithm =
    &Algorithm { key: Key::P256, hash: Hash::Sha256 };

/// ECDSA on P-256 with SHA-384, for whoever verifies with rustls-webpki.
pub static ECDSA_P256_SHA384: &dyn SignatureVerificationAlgorithm =
    &Algorithm { key: Key::P256, hash: Hash::Sha384 };

/// What rustls-webpki may verify with. Anything else is refused as unsupported: SHA-1, DSA, small
/// curves and small moduli among it.
pub(crate) static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    &Algorithm { key: Key::P384, hash: Hash::Sha384 },
    &Algorithm { key: Key::P256, hash: Hash::Sha256 },
    &Algorithm { key: Key::P384, hash: Hash::Sha256 },
    &Algorithm { key: Key::P256, hash: Hash::Sha384 },
    #[cfg(feature = "rsa")]
    &Algorithm { key: Key::Rsa, hash: Hash::Sha256 },
    #[cfg(feature = "rsa")]
    &Algorithm { key: Key::Rsa, hash: Hash::Sha384 },
    #[cfg(feature = "rsa")]
    &Algorithm { key: Key::Rsa, hash: Hash::Sha512 },
];

impl fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {:?}", self.key, self.hash)
    }
}

impl SignatureVerificationAlgorithm for Algorithm {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let verify = || match (self.key, self.hash) {
            #[cfg(feature = "rsa")]
            (Key::Rsa, hash) => rsa_key::verify(public_key, hash, message, signature),
            (curve, hash) => verify_ecdsa(curve, hash, public_key, message, signature),
        };
        #[cfg(feature = "simulation")]
        let verify = || vouched::unless_known(*self, [public_key, message, signature], verify);
        verify().ok_or(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        match self.key {
            Key::P256 => alg_id::ECDSA_P256,
            Key::P384 => alg_id::ECDSA_P384,
            #[cfg(feature = "rsa")]
            Key::Rsa => alg_id::RSA_ENCRYPTION,
        }
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        match (self.key, self.hash) {
            #[cfg(feature = "rsa")]
            (Key::Rsa, Hash::Sha256) => alg_id::RSA_PKCS1_SHA256,
            #[cfg(feature = "rsa")]
            (Key::Rsa, Hash::Sha384) => alg_id::RSA_PKCS1_SHA384,
            #[cfg(feature = "rsa")]
            (Key::Rsa, Hash::Sha512) => alg_id::RSA_PKCS1_SHA512,
            (_, Hash::Sha256) => alg_id::ECDSA_SHA256,
            (_, Hash::Sha384) => alg_id::ECDSA_SHA384,
            #[cfg(feature = "rsa")]
            (_, Hash::Sha512) => alg_id::ECDSA_SHA512,
        }
    }
}

/// A signature that has been verified.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link<'a> {
    /// The bits of the issuer's key.
    key: &'a [u8],
    signed: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Link<'a> {
    /// What `certificate` has of `issuer`, which is verified already.
    pub(crate) fn new(certificate: &'a Certificate, issuer: &'a Certificate) -> Option<Self> {
        let (signed, signature) = certificate.signed_parts()?;
        Some(Self { key: key(issuer.public_key())?.1, signed, signature })
    }
}

/// An algorithm that knows some signatures to be good, down to the last byte of key and message.
#[derive(Debug)]
pub(crate) struct Verified<'a> {
    pub(crate) links: &'a [Link<'a>],
    pub(crate) algorithm: &'static dyn SignatureVerificationAlgorithm,
}

impl SignatureVerificationAlgorithm for Verified<'_> {
    fn verify_signature(
        &self,
        key: &[u8],
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        if self.links.contains(&Link { key, signed, signature }) {
            return Ok(());
        }
        self.algorithm.verify_signature(key, signed, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}

#[cfg(any(test, not(feature = "aws-lc-rs")))]
mod rust_crypto {
    use p256::ecdsa::signature::hazmat::PrehashVerifier;
    use sha2::{Digest, Sha256, Sha384};

    use super::{Hash, Key};

    pub(super) fn verify(
        key: Key,
        hash: Hash,
        point: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Option<()> {
        match (key, hash) {
            (Key::P256, Hash::Sha256) => p256(point, &Sha256::digest(message), signature),
            (Key::P256, Hash::Sha384) => p256(point, &Sha384::digest(message), signature),
            (Key::P384, Hash::Sha256) => p384(point, &Sha256::digest(message), signature),
            (Key::P384, Hash::Sha384) => p384(point, &Sha384::digest(message), signature),
            #[cfg(feature = "rsa")]
            _ => None,
        }
    }

    fn p256(point: &[u8], digest: &[u8], signature: &[u8]) -> Option<()> {
        p256::ecdsa::VerifyingKey::from_sec1_bytes(point)
            .ok()?
            .verify_prehash(digest, &p256::ecdsa::DerSignature::from_bytes(signature).ok()?)
            .ok()
    }

    fn p384(point: &[u8], digest: &[u8], signature: &[u8]) -> Option<()> {
        p384::ecdsa::VerifyingKey::from_sec1_bytes(point)
            .ok()?
            .verify_prehash(digest, &p384::ecdsa::DerSignature::from_bytes(signature).ok()?)
            .ok()
    }
}

#[cfg(all(test, feature = "aws-lc-rs"))]
mod tests {
    use alloc::vec::Vec;

    use chacha20::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::aws_lc::{self, AwsLcKey};
    use crate::private_key::PrivateKey;
    use crate::request::CertificateRequest;
    use crate::signer::Signer;

    // Which of the two is built in must not be seen: neither takes what the other refuses.
    #[test]
    fn both_implementations_judge_alike() {
        const MESSAGE: &[u8] = b"a certificate";
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for (algorithm, curve, hash) in [
            (KeyAlgorithm::EcdsaP256, Key::P256, Hash::Sha256),
            (KeyAlgorithm::EcdsaP384, Key::P384, Hash::Sha384),
        ] {
            let key = PrivateKey::generate(algorithm, &mut rng).unwrap();
            let fast = AwsLcKey::new(&key).unwrap();
            assert_eq!((fast.public_key(), fast.algorithm()), (key.public_key(), algorithm));
            // A device does not verify its request, as whoever gets it does.
            CertificateRequest::new(&fast, "press-7").unwrap().verify().unwrap();
            let (_, point) = super::key(key.public_key()).unwrap();
            let judge = |message: &[u8], signature: &[u8]| {
                let fast = aws_lc::verify(curve, hash, point, message, signature);
                let slow = rust_crypto::verify(curve, hash, point, message, signature);
                assert_eq!(fast, slow, "{signature:02x?}");
                fast
            };
            for signature in [key.sign(MESSAGE).unwrap(), fast.sign(MESSAGE).unwrap()] {
                assert_eq!(judge(MESSAGE, &signature), Some(()));
                assert_eq!(judge(b"another", &signature), None);
                for position in 0..signature.len() {
                    let mut damaged: Vec<u8> = signature.clone();
                    damaged[position] ^= 1;
                    assert_eq!(judge(MESSAGE, &damaged), None, "{position}");
                }
                assert_eq!(judge(MESSAGE, &signature[1..]), None);
                assert_eq!(judge(MESSAGE, &[&signature[..], &[0]].concat()), None);
            }
            let other = if matches!(hash, Hash::Sha256) { Hash::Sha384 } else { Hash::Sha256 };
            let signature = key.sign(MESSAGE).unwrap();
            assert_eq!(aws_lc::verify(curve, other, point, MESSAGE, &signature), None);
        }
    }
}
