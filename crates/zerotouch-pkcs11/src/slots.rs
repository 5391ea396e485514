//! Places in a token where keys are made.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cryptoki::error::{Error, RvError};
use zerotouch_credentials::{KeyAlgorithm, KeySlots, SignError, Signer};

use crate::signer::{Pkcs11Error, Pkcs11Signer, read_pin};
use crate::token::{self, Access};
use crate::uri::{KeyUri, KeyUriError};

/// A few labels of a token, under each of which a device may keep one key that never leaves it. Two are
/// enough for a device that renews.
///
/// A PIN that the token has refused is not tried again: tokens count failures, and a device that is left
/// alone would lock its own.
///
/// ```
/// use zerotouch_pkcs11::Pkcs11Slots;
///
/// let token = |object: &str| {
///     format!("pkcs11:token=press;object={object}?module-path=/usr/lib/softhsm/libsofthsm2.so")
/// };
/// Pkcs11Slots::new([token("identity-a"), token("identity-b")])?;
/// # Ok::<(), zerotouch_pkcs11::KeyUriError>(())
/// ```
pub struct Pkcs11Slots {
    /// As they were given, which is as they are stored.
    slots: Vec<(String, KeyUri)>,
    pin_refused: AtomicBool,
}

impl Pkcs11Slots {
    /// Each URI names one place by its label (`object`). Keys that are there already, and are none that
    /// the device uses, are replaced when their place is needed.
    pub fn new(uris: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, KeyUriError> {
        let parse = |uri: String| {
            let parsed: KeyUri = uri.parse()?;
            if parsed.object.is_none() { Err(KeyUriError::NoKey) } else { Ok((uri, parsed)) }
        };
        let slots = uris.into_iter().map(|uri| parse(uri.into())).collect::<Result<_, _>>()?;
        Ok(Self { slots, pin_refused: AtomicBool::new(false) })
    }

    fn free(&self, in_use: &[&str]) -> Option<&(String, KeyUri)> {
        self.slots.iter().find(|(address, _)| !in_use.contains(&address.as_str()))
    }

    fn guarded<T>(&self, call: impl FnOnce() -> Result<T, Pkcs11Error>) -> Result<T, SignError> {
        let refused = self.pin_refused.load(Ordering::Relaxed);
        let outcome = if refused { Err(Pkcs11Error::PinRefused) } else { call() };
        if let Err(Pkcs11Error::Login {
            source: Error::Pkcs11(RvError::PinIncorrect | RvError::PinLocked, _),
        }) = &outcome
        {
            self.pin_refused.store(true, Ordering::Relaxed);
        }
        outcome.map_err(|error| SignError::Device(Box::new(error)))
    }
}

impl KeySlots for Pkcs11Slots {
    fn has_room(&self, in_use: &[&str]) -> bool {
        self.free(in_use).is_some()
    }

    fn create(
        &self,
        algorithm: KeyAlgorithm,
        in_use: &[&str],
    ) -> Result<(String, Arc<dyn Signer>), SignError> {
        self.guarded(|| {
            let (address, uri) = self.free(in_use).ok_or(Pkcs11Error::NoFreeSlot)?;
            let pin = uri.pin_source.as_deref().map(read_pin).transpose()?;
            let session = token::open_session(uri, pin.as_ref(), Access::Write)?;
            token::replace_key_pair(&session, uri, algorithm)?;
            let signer: Arc<dyn Signer> = Arc::new(Pkcs11Signer::open(uri)?);
            Ok((address.clone(), signer))
        })
    }

    fn open(&self, address: &str) -> Result<Arc<dyn Signer>, SignError> {
        self.guarded(|| {
            let slot = self.slots.iter().find(|(known, _)| known == address);
            let (_, uri) = slot.ok_or(Pkcs11Error::Key { found: 0 })?;
            let signer: Arc<dyn Signer> = Arc::new(Pkcs11Signer::open(uri)?);
            Ok(signer)
        })
    }
}

impl fmt::Debug for Pkcs11Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pkcs11Slots({})", self.slots.len())
    }
}
