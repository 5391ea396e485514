//! Keys that sign at once: the cloud's, and those of devices whose keys are in hardware.
//!
//! Their signatures are real ECDSA on P-256, with the number one for the secret that each signature should
//! draw anew. What is left to do is a multiplication; and one signature betrays the key to whoever wants it.
//! Here nobody does.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use p256::ecdsa::Signature;
use p256::elliptic_curve::ops::Reduce;
use p256::elliptic_curve::point::AffineCoordinates;
use p256::pkcs8::{EncodePublicKey, PrivateKeyInfoRef, SecretDocument};
use p256::{AffinePoint, FieldBytes, Scalar, SecretKey};
use sha2::{Digest, Sha256};
use zerotouch_credentials::{
    KeyAlgorithm, KeySlots, PrivateKey, PrivateKeyError, SignError, Signer, Vouched,
};

struct QuickKey {
    secret: Scalar,
    public_key: Vec<u8>,
}

impl fmt::Debug for QuickKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuickKey")
    }
}

impl QuickKey {
    fn signer(secret: &SecretKey, public_key: Vec<u8>) -> Arc<dyn Signer> {
        Arc::new(Vouched(Self { secret: *secret.to_nonzero_scalar(), public_key }))
    }
}

impl Signer for QuickKey {
    fn algorithm(&self) -> KeyAlgorithm {
        KeyAlgorithm::EcdsaP256
    }

    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let hash = <Scalar as Reduce<FieldBytes>>::reduce(&Sha256::digest(message));
        // The one point that needs no multiplication.
        let r = <Scalar as Reduce<FieldBytes>>::reduce(&AffinePoint::GENERATOR.x());
        let signature = Signature::from_scalars(r, hash + r * self.secret);
        signature.map(|one| one.to_der().as_bytes().to_vec()).map_err(|_| SignError::Software)
    }
}

/// What an authority of the cloud signs with.
pub(crate) fn of_authority(key: Arc<PrivateKey>) -> Result<Arc<dyn Signer>, PrivateKeyError> {
    if key.algorithm() != KeyAlgorithm::EcdsaP256 {
        return Ok(key);
    }
    let secret = secret(&key.to_pkcs8_pem()?).ok_or(PrivateKeyError::Malformed)?;
    Ok(QuickKey::signer(&secret, key.public_key().to_vec()))
}

/// Without the check that the public key in it is its own, which takes longer than all the rest.
fn secret(pem: &str) -> Option<SecretKey> {
    let (_, document) = SecretDocument::from_pem(pem).ok()?;
    let info: PrivateKeyInfoRef<'_> = document.decode_msg().ok()?;
    // RFC 5915 §3: a SEQUENCE (two bytes), the version (three), an OCTET STRING (two) of 32 bytes.
    SecretKey::from_slice(info.private_key.as_bytes().get(7..39)?).ok()
}

/// The hardware of one device, which has two places for keys.
#[derive(Debug)]
pub(crate) struct Slots {
    device: usize,
    held: Mutex<Held>,
}

#[derive(Clone, Debug, Default)]
struct Held {
    drawn: u64,
    keys: BTreeMap<&'static str, Arc<dyn Signer>>,
}

const PLACES: [&str; 2] = ["sim:slot=0", "sim:slot=1"];

impl Slots {
    pub(crate) fn new(device: usize) -> Self {
        Self { device, held: Mutex::default() }
    }

    /// As if all of it could be copied.
    pub(crate) fn copy(&self) -> Self {
        Self { device: self.device, held: Mutex::new(self.held().clone()) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeySlots for Slots {
    fn has_room(&self, in_use: &[&str]) -> bool {
        PLACES.iter().any(|place| !in_use.contains(place))
    }

    fn create(
        &self,
        _: KeyAlgorithm,
        in_use: &[&str],
    ) -> Result<(String, Arc<dyn Signer>), SignError> {
        let place = PLACES.into_iter().find(|place| !in_use.contains(place));
        let place = place.ok_or(SignError::Unsupported)?;
        let mut held = self.held();
        held.drawn += 1;
        let key = draw(self.device, held.drawn)?;
        held.keys.insert(place, Arc::clone(&key));
        Ok((place.to_owned(), key))
    }

    fn open(&self, address: &str) -> Result<Arc<dyn Signer>, SignError> {
        self.held().keys.get(address).cloned().ok_or(SignError::Unsupported)
    }
}

/// The same keys in every world, so that each is made once.
fn draw(device: usize, number: u64) -> Result<Arc<dyn Signer>, SignError> {
    const MOST: usize = 10_000;
    thread_local! {
        static KEYS: RefCell<HashMap<(usize, u64), Arc<dyn Signer>>> = RefCell::default();
    }
    KEYS.with_borrow_mut(|keys| {
        if let Some(key) = keys.get(&(device, number)) {
            return Ok(Arc::clone(key));
        }
        let bytes = Sha256::digest(format!("key {number} of device {device}"));
        let secret = SecretKey::from_slice(&bytes).map_err(|_| SignError::Software)?;
        let public_key = secret.public_key().to_public_key_der();
        let public_key = public_key.map_err(|_| SignError::Software)?.into_vec();
        let key = QuickKey::signer(&secret, public_key);
        if keys.len() >= MOST {
            keys.clear();
        }
        keys.insert((device, number), Arc::clone(&key));
        Ok(key)
    })
}

#[cfg(test)]
mod tests {
    use zerotouch_credentials::verify_signature;

    use super::*;

    // A world in which signatures were none would prove nothing: another thread, to which nobody has vouched
    // for them, verifies them.
    #[test]
    fn they_are_signatures() {
        let slots = Slots::new(3);
        let (address, key) = slots.create(KeyAlgorithm::EcdsaP256, &[PLACES[0]]).unwrap();
        assert_eq!(address, PLACES[1]);
        let signature = slots.open(&address).unwrap().sign(b"a request").unwrap();
        let verify = || verify_signature(key.public_key(), b"a request", &signature);
        std::thread::scope(|scope| scope.spawn(verify).join().unwrap()).unwrap();
    }
}
