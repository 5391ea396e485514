#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod connection;
mod driver;

use std::io;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;

use thiserror::Error;
use zerotouch_device::{CertificateSummary, Config, Event};
use zerotouch_driver::{SetupError, TlsDialler, device_rng};
use zerotouch_hub::Telemetry;
use zerotouch_store::{Store, StoreError};
use zerotouch_tls::Roots;

pub use zerotouch_driver::{RenewError, SendError};

use driver::{Driver, Input};

/// How many inputs may wait for the device: commands, and what its connection has read.
const INPUTS: usize = 64;
/// How many events may wait for the application.
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
    /// The operating system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
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

    /// Starts the device on a thread of its own, with the identity in `store`.
    pub fn spawn(
        self,
        mut store: impl Store + Send + 'static,
    ) -> Result<(Device, Receiver<Event>), StartError> {
        let tls = TlsDialler::new(&self.roots)?.resumption(self.resumption);
        let rng = device_rng()?;
        let engine = zerotouch_device::Device::new(self.config, store.load()?, rng);
        let (inputs, inbox) = mpsc::sync_channel(INPUTS);
        let (events, receiver) = mpsc::sync_channel(EVENTS);
        let driver = Driver::new(engine, Box::new(store), tls, (inputs.clone(), inbox), events);
        let thread = thread::Builder::new().name("zerotouch".into());
        thread.spawn(move || driver.run()).map_err(StartError::Thread)?;
        Ok((Device { inputs }, receiver))
    }
}

/// A handle on a running device. It keeps running when the last one is dropped; [`Device::close`] ends
/// it.
#[derive(Clone, Debug)]
pub struct Device {
    inputs: SyncSender<Input>,
}

impl Device {
    /// Begins to describe a device.
    pub fn builder(config: Config) -> Builder {
        Builder { config, roots: Roots::Platform, resumption: true }
    }

    /// Sends telemetry and waits until the hub has acknowledged it.
    pub fn send_telemetry(&self, telemetry: Telemetry) -> Result<(), SendError> {
        self.ask(|done| Input::SendTelemetry(telemetry, done)).unwrap_or(Err(SendError::Stopped))
    }

    /// Renews the certificate and waits until a hub has accepted the new one.
    pub fn renew(&self) -> Result<CertificateSummary, RenewError> {
        self.ask(Input::Renew).unwrap_or(Err(RenewError::Stopped))
    }

    /// Says goodbye and waits until the device has stopped.
    pub fn close(&self) {
        // No answer comes from a device that has stopped already.
        let _: Option<()> = self.ask(Input::Close);
    }

    fn ask<T>(&self, input: impl FnOnce(Sender<T>) -> Input) -> Option<T> {
        let (done, outcome) = mpsc::channel();
        self.inputs.send(input(done)).ok()?;
        outcome.recv().ok()
    }
}
