//! What a driver needs before its first dial.

use std::io;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use thiserror::Error;
use zerotouch_device::{Config, ConfigError, Device};
use zerotouch_store::{RecordQueue, Store, StoreError};
use zerotouch_tls::TlsConfigError;

use crate::{Clock, ConnectError, Done, Waiters};

/// Why a device was not started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system gave no randomness, so no key can be made.
    #[error("the operating system gave no randomness: {0}")]
    Randomness(getrandom::Error),
    /// There are no roots to trust, or no TLS provider.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// The stored identity, or the queue on disk, cannot be read.
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

/// A device with the identity in `store`, the telemetry that waits in `queue`, and a generator of its own.
/// `connected` is told as [`Waiters::new`] says.
pub fn prepare(
    config: Config,
    store: &mut dyn Store,
    queue: Option<Box<dyn RecordQueue + Send>>,
    clock: Clock,
    connected: Option<Done<Result<(), ConnectError>>>,
) -> Result<(Device<DeviceRng>, Waiters), StartError> {
    config.validate()?;
    let rng = device_rng()?;
    let mut waiters = Waiters::new(&config, connected);
    let mut device = Device::new(config, store.load()?, rng);
    if let Some(queue) = queue {
        waiters.attach(queue, &mut device, clock.now())?;
    }
    Ok((device, waiters))
}
