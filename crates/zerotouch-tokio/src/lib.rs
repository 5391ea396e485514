#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod connection;
mod driver;

use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot};
use zerotouch_device::{CertificateSummary, Config, Event};
use zerotouch_driver::{SetupError, TlsDialler, device_rng};
use zerotouch_hub::Telemetry;
use zerotouch_store::{Store, StoreError};
use zerotouch_tls::Roots;

pub use zerotouch_driver::{RenewError, SendError};

use driver::{Command, Driver};

/// How many commands may wait for the device; a further one waits for its place.
const COMMANDS: usize = 64;
/// How many events a receiver may lag behind.
const EVENTS: usize = 256;

/// Why a device was not started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// No randomness, or no TLS.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The stored identity cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Prepares a device.
#[derive(Debug)]
pub struct Builder {
    config: Config,
    roots: Roots,
    resumption: bool,
}

impl Builder {
    /// Whom to believe that a server is who it says; default the platform's roots.
    #[must_use]
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Whether reconnections may resume the TLS session; default true.
    #[must_use]
    pub fn tls_resumption(mut self, resumption: bool) -> Self {
        self.resumption = resumption;
        self
    }

    /// Starts the device on the current tokio runtime, with the identity in `store`. The receiver
    /// misses nothing.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn spawn(
        self,
        mut store: impl Store + Send + 'static,
    ) -> Result<(Device, broadcast::Receiver<Event>), StartError> {
        let tls = TlsDialler::new(&self.roots)?.resumption(self.resumption);
        let rng = device_rng()?;
        let engine = zerotouch_device::Device::new(self.config, store.load()?, rng);
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (events, receiver) = broadcast::channel(EVENTS);
        let driver = Driver::new(engine, Box::new(store), tls, inbox, events.clone());
        tokio::spawn(driver.run());
        Ok((Device { commands, events }, receiver))
    }
}

/// A handle on a running device. When the last one is dropped the device says goodbye and stops.
#[derive(Clone, Debug)]
pub struct Device {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Event>,
}

impl Device {
    /// Begins to describe a device.
    pub fn builder(config: Config) -> Builder {
        Builder { config, roots: Roots::Platform, resumption: true }
    }

    /// Events from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Sends telemetry and waits until the hub has acknowledged it.
    ///
    /// Cancel safe in that nothing breaks; the message may have been sent.
    pub async fn send_telemetry(&self, telemetry: Telemetry) -> Result<(), SendError> {
        let (done, outcome) = oneshot::channel();
        self.command(Command::SendTelemetry(telemetry, done)).await;
        outcome.await.unwrap_or(Err(SendError::Stopped))
    }

    /// Renews the certificate and waits until a hub has accepted the new one.
    ///
    /// Cancel safe: the renewal goes on.
    pub async fn renew(&self) -> Result<CertificateSummary, RenewError> {
        let (done, outcome) = oneshot::channel();
        self.command(Command::Renew(done)).await;
        outcome.await.unwrap_or(Err(RenewError::Stopped))
    }

    /// Says goodbye and waits until the device has stopped, at most for `Config::close_timeout` and
    /// what the operating system adds to it.
    ///
    /// Cancel safe: the device stops all the same.
    pub async fn close(&self) {
        let (done, outcome) = oneshot::channel();
        self.command(Command::Close(done)).await;
        // An error is a device that has stopped already.
        let _ = outcome.await;
    }

    /// A command to a device that has stopped is dropped, and with it its sender: whoever waits learns
    /// of it there.
    async fn command(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }
}
