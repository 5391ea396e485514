//! What a driver needs before its first dial.

use std::io;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use thiserror::Error;
use zerotouch_store::StoreError;
use zerotouch_tls::TlsConfigError;

/// Why a device was not started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The operating system gave no randomness, so no key can be made.
    #[error("the operating system gave no randomness: {0}")]
    Randomness(getrandom::Error),
    /// There are no roots to trust, or no TLS provider.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// The stored identity cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// The generator of a device under a std driver.
pub type DeviceRng = ChaCha20Rng;

/// A generator for one device, seeded by the operating system. A failure to seed is an error, never a
/// weak generator.
pub fn device_rng() -> Result<DeviceRng, StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(StartError::Randomness)?;
    Ok(DeviceRng::from_seed(seed))
}
