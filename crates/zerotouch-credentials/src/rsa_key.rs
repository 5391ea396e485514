//! RSA private keys in software, and the verification of RSA signatures.
//!
//! Every private operation is blinded. Blinding wants numbers an observer cannot foresee, and a
//! [`Signer`](crate::Signer) is given no randomness; so they are drawn from a generator that is
//! seeded by the key and the message, as RFC 6979 does for ECDSA. A PSS salt comes from there too.

use alloc::vec::Vec;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use pkcs8::{EncodePrivateKey, EncodePublicKey};
use rand_core::TryCryptoRng;
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey};
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, PrivateKey, Pss, PublicKey};
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use crate::key::hmac_sha256;
use crate::private_key::PrivateKeyError;
use crate::random::{RandomnessError, fill_secret};
use crate::signer::{KeyAlgorithm, SignError};
use crate::verify::Hash;

/// The moduli of authorities that are looked at, in bits: none shorter is safe, and none of a real
/// authority is longer.
const AUTHORITY_BITS: core::ops::RangeInclusive<usize> = 2048..=4096;

/// A key of two primes. Boxed where it is kept: it is larger than the others by far.
pub(crate) struct RsaKey {
    key: PrivateKey,
    algorithm: KeyAlgorithm,
    /// Known to whoever knows the key, and to nobody else.
    blinding: Zeroizing<[u8; 32]>,
}

impl RsaKey {
    pub(crate) fn generate(
        bits: usize,
        rng: &mut (impl TryCryptoRng + ?Sized),
    ) -> Result<Self, PrivateKeyError> {
        // One draw that can be looked at, as for every other key.
        let mut seed = Zeroizing::new([0; 32]);
        fill_secret(rng, &mut *seed)?;
        let key = PrivateKey::new(&mut ChaCha20Rng::from_seed(*seed), bits)
            .map_err(|_| RandomnessError::Failed)?;
        Self::new(key)
    }

    /// Reads the DER of an `RSAPrivateKey` (RFC 8017 §A.1.2). Primes and exponents are held against
    /// the modulus.
    pub(crate) fn from_pkcs1_der(der: &[u8]) -> Result<Self, PrivateKeyError> {
        Self::new(PrivateKey::from_pkcs1_der(der).map_err(|_| PrivateKeyError::Malformed)?)
    }

    fn new(key: PrivateKey) -> Result<Self, PrivateKeyError> {
        let bits = usize::try_from(key.n().bit_width()).ok();
        let algorithm =
            bits.and_then(KeyAlgorithm::rsa).ok_or(PrivateKeyError::UnsupportedAlgorithm)?;
        let der = key.to_pkcs8_der().map_err(|_| PrivateKeyError::Malformed)?;
        let blinding = hmac_sha256(der.as_bytes(), &[b"zerotouch: blinding of RSA"]);
        Ok(Self { key, algorithm, blinding })
    }

    pub(crate) fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    pub(crate) fn to_public_key_der(&self) -> spki::Result<Vec<u8>> {
        self.key.as_public_key().to_public_key_der().map(pkcs8::Document::into_vec)
    }

    pub(crate) fn encode(&self) -> &impl EncodePrivateKey {
        &self.key
    }

    /// RSASSA-PKCS1-v1_5 over SHA-256.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let scheme = Pkcs1v15Sign::new::<Sha256>();
        self.key
            .sign_with_rng(&mut self.rng(b"pkcs1", message), scheme, &Sha256::digest(message))
            .map_err(|_| SignError::Software)
    }

    /// RSASSA-PSS over SHA-256, its salt as long as the hash.
    pub(crate) fn sign_pss(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.key
            .sign_with_rng(
                &mut self.rng(b"pss", message),
                Pss::<Sha256>::new(),
                &Sha256::digest(message),
            )
            .map_err(|_| SignError::Software)
    }

    fn rng(&self, scheme: &[u8], message: &[u8]) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(*hmac_sha256(&*self.blinding, &[scheme, message]))
    }
}

/// Verifies a PKCS #1 v1.5 signature under the `RSAPublicKey` (RFC 8017 §A.1.1) in `public_key`.
pub(crate) fn verify(
    public_key: &[u8],
    hash: Hash,
    message: &[u8],
    signature: &[u8],
) -> Option<()> {
    let key = PublicKey::from_pkcs1_der(public_key).ok()?;
    if !AUTHORITY_BITS.contains(&bits(&key)) {
        return None;
    }
    match hash {
        Hash::Sha256 => {
            key.verify(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message), signature)
        }
        Hash::Sha384 => {
            key.verify(Pkcs1v15Sign::new::<Sha384>(), &Sha384::digest(message), signature)
        }
        Hash::Sha512 => {
            key.verify(Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(message), signature)
        }
    }
    .ok()
}

/// The modulus of an `RSAPublicKey` in bits, if its signatures are looked at.
pub(crate) fn accepted_bits(public_key: &[u8]) -> Option<usize> {
    let bits = bits(&PublicKey::from_pkcs1_der(public_key).ok()?);
    AUTHORITY_BITS.contains(&bits).then_some(bits)
}

fn bits(key: &PublicKey) -> usize {
    usize::try_from(key.n().bit_width()).unwrap_or(usize::MAX)
}
