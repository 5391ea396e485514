//! Signatures that need not be verified, because they were before or because whoever made them is taken at
//! their word, and certificates that were read before: for simulated worlds, which live thousands of lives a
//! second. A thread in which nobody is taken at their word verifies and reads all it is given, and keeps
//! nothing.

extern crate std;

use alloc::vec::Vec;
use core::cell::RefCell;
use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use crate::certificate::Certificate;
use crate::signer::{KeyAlgorithm, SignError, Signer};
use crate::verify::{self, Algorithm};

/// So many signatures are known to a thread, and so many certificates; with one more it begins anew, and
/// verifies, or reads, what it has forgotten.
const MOST_SIGNATURES: usize = 1 << 14;
const MOST_CERTIFICATES: usize = 1 << 10;

#[derive(Default)]
struct Known {
    signatures: HashSet<[u8; 32]>,
    certificates: [HashMap<Vec<u8>, Certificate>; 2],
}

/// How a certificate is written.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Der,
    Base64,
}

std::thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
}

/// A signer that is taken at its word: what it signs is not verified in the thread that it signed in.
///
/// For simulations alone. Whoever has a signer that claims the key of somebody else can have this process
/// believe it. Signatures of anything else are verified as ever, and judged the same.
#[derive(Debug)]
pub struct Vouched<S>(pub S);

impl<S: Signer> Signer for Vouched<S> {
    fn algorithm(&self) -> KeyAlgorithm {
        self.0.algorithm()
    }

    fn public_key(&self) -> &[u8] {
        self.0.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = self.0.sign(message)?;
        if let Some((algorithm, key)) = verify::signs_with(self.public_key()) {
            let one = fingerprint(algorithm, key, message, &signature);
            KNOWN.with_borrow_mut(|known| known.get_or_insert_default().remember(one));
        }
        Ok(signature)
    }

    fn sign_pss(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.0.sign_pss(message)
    }
}

/// Verifies what is not known yet.
pub(crate) fn unless_known(
    algorithm: Algorithm,
    [key, message, signature]: [&[u8]; 3],
    verify: impl FnOnce() -> Option<()>,
) -> Option<()> {
    if KNOWN.with_borrow(Option::is_none) {
        return verify();
    }
    let one = fingerprint(algorithm, key, message, signature);
    KNOWN.with_borrow_mut(|known| {
        let known = known.get_or_insert_default();
        if !known.signatures.contains(&one) {
            verify()?;
            known.remember(one);
        }
        Some(())
    })
}

/// Reads a certificate that was not read yet.
pub(crate) fn read_once<E>(
    form: Form,
    bytes: &[u8],
    read: impl FnOnce(&[u8]) -> Result<Certificate, E>,
) -> Result<Certificate, E> {
    let known = |known: &Option<Known>| {
        Some(known.as_ref()?.certificates[form as usize].get(bytes).cloned())
    };
    let Some(known) = KNOWN.with_borrow(known) else { return read(bytes) };
    if let Some(certificate) = known {
        return Ok(certificate);
    }
    let certificate = read(bytes)?;
    KNOWN.with_borrow_mut(|known| {
        let certificates = &mut known.get_or_insert_default().certificates[form as usize];
        if certificates.len() >= MOST_CERTIFICATES {
            certificates.clear();
        }
        certificates.insert(bytes.to_vec(), certificate.clone());
    });
    Ok(certificate)
}

impl Known {
    fn remember(&mut self, one: [u8; 32]) {
        if self.signatures.len() >= MOST_SIGNATURES {
            self.signatures.clear();
        }
        self.signatures.insert(one);
    }
}

fn fingerprint(algorithm: Algorithm, key: &[u8], message: &[u8], signature: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([algorithm.key as u8, algorithm.hash as u8]);
    for part in [key, message, signature] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SignatureError;

    /// Signs nothing, and says that it has.
    #[derive(Debug)]
    struct Liar(Vec<u8>);

    impl Signer for Liar {
        fn algorithm(&self) -> KeyAlgorithm {
            KeyAlgorithm::EcdsaP256
        }

        fn public_key(&self) -> &[u8] {
            &self.0
        }

        fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
            Ok(b"signed".to_vec())
        }
    }

    // A simulation must judge as the world does: only what was vouched for, to the last byte, is believed.
    #[test]
    fn only_what_was_vouched_for_is_believed() {
        use rand_core::SeedableRng;
        let mut rng = chacha20::ChaCha20Rng::seed_from_u64(1);
        let mut key = || crate::PrivateKey::generate(KeyAlgorithm::EcdsaP256, &mut rng).unwrap();
        let (ours, other) = (key(), key());
        let judge = crate::verify_signature;
        assert_eq!(judge(ours.public_key(), b"this", b"signed"), Err(SignatureError::Invalid));
        let signature = Vouched(Liar(ours.public_key().to_vec())).sign(b"this").unwrap();
        assert_eq!(judge(ours.public_key(), b"this", &signature), Ok(()));
        for (key, message, signature) in [
            (&other, b"this", &signature[..]),
            (&ours, b"that", &signature[..]),
            (&ours, b"this", b"sign"),
        ] {
            let judged = judge(key.public_key(), message, signature);
            assert_eq!(judged, Err(SignatureError::Invalid));
        }
        let elsewhere = std::thread::scope(|scope| {
            scope.spawn(|| judge(ours.public_key(), b"this", &signature)).join().unwrap()
        });
        assert_eq!(elsewhere, Err(SignatureError::Invalid));
    }
}
