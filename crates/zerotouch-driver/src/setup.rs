//! What a driver needs before its first dial.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use thiserror::Error;
use zerotouch_tls::TlsConfigError;

/// Why a driver cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The operating system gave no randomness, so no key can be made.
    #[error("the operating system gave no randomness: {0}")]
    Randomness(getrandom::Error),
    /// There are no roots to trust, or no TLS provider.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
}

/// The generator of a device under a std driver.
pub type DeviceRng = ChaCha20Rng;

/// A generator for one device, seeded by the operating system. A failure to seed is an error, never a
/// weak generator.
pub fn device_rng() -> Result<DeviceRng, SetupError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(SetupError::Randomness)?;
    Ok(DeviceRng::from_seed(seed))
}
