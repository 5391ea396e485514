//! Verifying ECDSA signatures of authorities and requesters, in one place.
//!
//! The same four pairs of curve and hash serve rustls-webpki (chains) and PKCS#10 (requests).

use core::fmt;

use der::Decode;
use der::asn1::ObjectIdentifier;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use rustls_pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};
use sha2::{Digest, Sha256, Sha384};
use spki::SubjectPublicKeyInfoRef;

use crate::oid::{CURVE_P256, CURVE_P384, EC_PUBLIC_KEY, ECDSA_SHA256, ECDSA_SHA384};
use crate::signer::KeyAlgorithm;

/// Why a signature was not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The key or the signature algorithm is none of ECDSA P-256/P-384 with SHA-256/SHA-384.
    #[error("the key or signature algorithm is not supported (ECDSA P-256 and P-384 are)")]
    UnsupportedAlgorithm,
    /// The signature was not made by this key over this message.
    #[error("the signature does not verify")]
    Invalid,
}

/// Verifies what a [`Signer`](crate::Signer) made: `signature` (DER) over `message` by the key whose
/// `SubjectPublicKeyInfo` is `public_key`, with the hash that belongs to its algorithm.
pub fn verify_signature(
    public_key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let algorithm = match key_algorithm(public_key)? {
        KeyAlgorithm::EcdsaP256 => ECDSA_SHA256,
        KeyAlgorithm::EcdsaP384 => ECDSA_SHA384,
    };
    verify_with(public_key, algorithm, message, signature)
}

/// As [`verify_signature`], with the signature algorithm that the signed structure names.
pub(crate) fn verify_with(
    public_key: &[u8],
    algorithm: ObjectIdentifier,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let curve = key_algorithm(public_key)?;
    let hash = match algorithm {
        ECDSA_SHA256 => Hash::Sha256,
        ECDSA_SHA384 => Hash::Sha384,
        _ => return Err(SignatureError::UnsupportedAlgorithm),
    };
    let point = SubjectPublicKeyInfoRef::from_der(public_key)
        .ok()
        .and_then(|spki| spki.subject_public_key.as_bytes())
        .ok_or(SignatureError::UnsupportedAlgorithm)?;
    Ecdsa { curve, hash }
        .verify_signature(point, message, signature)
        .map_err(|_| SignatureError::Invalid)
}

/// The algorithm of a `SubjectPublicKeyInfo`; named curves only.
pub(crate) fn key_algorithm(public_key: &[u8]) -> Result<KeyAlgorithm, SignatureError> {
    let spki = SubjectPublicKeyInfoRef::from_der(public_key)
        .map_err(|_| SignatureError::UnsupportedAlgorithm)?;
    let curve =
        spki.algorithm.parameters_oid().map_err(|_| SignatureError::UnsupportedAlgorithm)?;
    curve_algorithm(spki.algorithm.oid, curve).ok_or(SignatureError::UnsupportedAlgorithm)
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

#[derive(Clone, Copy)]
enum Hash {
    Sha256,
    Sha384,
}

#[derive(Clone, Copy)]
struct Ecdsa {
    curve: KeyAlgorithm,
    hash: Hash,
}

/// What rustls-webpki may verify with. Anything else is refused as unsupported: SHA-1, DSA, small
/// curves and RSA among it. (Authorities of Azure Device Registry are ECC only.)
pub(crate) static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    &Ecdsa { curve: KeyAlgorithm::EcdsaP384, hash: Hash::Sha384 },
    &Ecdsa { curve: KeyAlgorithm::EcdsaP256, hash: Hash::Sha256 },
    &Ecdsa { curve: KeyAlgorithm::EcdsaP384, hash: Hash::Sha256 },
    &Ecdsa { curve: KeyAlgorithm::EcdsaP256, hash: Hash::Sha384 },
];

impl fmt::Debug for Ecdsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = match self.hash {
            Hash::Sha256 => "SHA-256",
            Hash::Sha384 => "SHA-384",
        };
        write!(f, "{} with {hash}", self.curve)
    }
}

impl SignatureVerificationAlgorithm for Ecdsa {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        match self.hash {
            Hash::Sha256 => {
                verify_prehash(self.curve, public_key, &Sha256::digest(message), signature)
            }
            Hash::Sha384 => {
                verify_prehash(self.curve, public_key, &Sha384::digest(message), signature)
            }
        }
        .ok_or(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        match self.curve {
            KeyAlgorithm::EcdsaP256 => alg_id::ECDSA_P256,
            KeyAlgorithm::EcdsaP384 => alg_id::ECDSA_P384,
        }
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        match self.hash {
            Hash::Sha256 => alg_id::ECDSA_SHA256,
            Hash::Sha384 => alg_id::ECDSA_SHA384,
        }
    }
}

fn verify_prehash(
    curve: KeyAlgorithm,
    point: &[u8],
    digest: &[u8],
    signature: &[u8],
) -> Option<()> {
    match curve {
        KeyAlgorithm::EcdsaP256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(point)
            .ok()?
            .verify_prehash(digest, &p256::ecdsa::DerSignature::from_bytes(signature).ok()?)
            .ok(),
        KeyAlgorithm::EcdsaP384 => p384::ecdsa::VerifyingKey::from_sec1_bytes(point)
            .ok()?
            .verify_prehash(digest, &p384::ecdsa::DerSignature::from_bytes(signature).ok()?)
            .ok(),
    }
}
