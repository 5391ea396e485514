#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod connection;
mod driver;
mod states;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use zerotouch_device::{Config, Event, IssuedCertificate, State};
use zerotouch_driver::{Clock, Command, Dialler, Done, prepare};
use zerotouch_hub::{MethodCall, Properties, Telemetry};
use zerotouch_store::{RecordQueue, Store};
use zerotouch_tls::Roots;

#[cfg(feature = "file-upload")]
pub use zerotouch_driver::UploadError;
pub use zerotouch_driver::{
    ConnectError, Network, Proxy, ProxyError, RenewError, ReportError, Resolver, RespondError,
    SendError, StartError, Transport,
};

use driver::{Driver, Input};
use states::States;

/// How many inputs may wait for the device: commands, and what its connection has read.
const INPUTS: usize = 64;
/// How many events may wait for the application.
const EVENTS: usize = 256;
/// How long to wait before another look at a full queue.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// Prepares a device.
#[derive(Debug)]
pub struct Builder {
    config: Config,
    roots: Roots,
    resumption: bool,
    network: Network,
    queue: Option<Box<dyn RecordQueue + Send>>,
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

    /// Over which transport and through which proxy to connect; default as MQTT over TLS, directly.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Keeps telemetry in this queue until it is acknowledged, as a
    /// [`FileQueue`](https://docs.rs/zerotouch-store) does on disk; default in memory alone. What waits
    /// in it is sent first. The bounds are those of `Config::queue`.
    #[must_use]
    pub fn queue(mut self, queue: impl RecordQueue + Send + 'static) -> Self {
        self.queue = Some(Box::new(queue));
        self
    }

    /// Starts the device on a thread of its own, with the identity in `store`.
    pub fn spawn(
        self,
        store: impl Store + Send + 'static,
    ) -> Result<(Device, Receiver<Event>), StartError> {
        self.start(store, None)
    }

    /// Starts the device as [`Builder::spawn`] does and waits until it is connected to its hub for the
    /// first time. After an error the device stops.
    ///
    /// Failures that time may mend are waited out, for ever if need be: for a deadline use
    /// [`Builder::spawn`] and [`Device::wait_for_state`], or let `Config::retry` count the attempts.
    pub fn connect(
        self,
        store: impl Store + Send + 'static,
    ) -> Result<(Device, Receiver<Event>), ConnectError> {
        let (done, outcome) = answer();
        let (device, events) = self.start(store, Some(done))?;
        let outcome = outcome.recv().unwrap_or(Err(ConnectError::Stopped));
        if let Err(error) = outcome {
            device.close();
            return Err(error);
        }
        Ok((device, events))
    }

    fn start(
        self,
        mut store: impl Store + Send + 'static,
        connected: Option<Done<Result<(), ConnectError>>>,
    ) -> Result<(Device, Receiver<Event>), StartError> {
        let dialler = Dialler::new(&self.roots, self.network)?.tls_resumption(self.resumption);
        #[cfg(feature = "file-upload")]
        let uploads = dialler.clone();
        let clock = Clock::new();
        let prepared = prepare(self.config, &mut store, self.queue, clock, connected)?;
        let (inputs, inbox) = mpsc::sync_channel(INPUTS);
        let (events, receiver) = mpsc::sync_channel(EVENTS);
        let states = Arc::new(States::default());
        let application = (events, Arc::clone(&states));
        let queue = (inputs.clone(), inbox);
        let driver = Driver::new(prepared, Box::new(store), dialler, queue, application, clock);
        let thread = thread::Builder::new().name("zerotouch".into());
        thread.spawn(move || driver.run()).map_err(StartError::Thread)?;
        let device = Device {
            inputs,
            states,
            #[cfg(feature = "file-upload")]
            dialler: uploads,
        };
        Ok((device, receiver))
    }
}

/// A handle on a running device. It keeps running when the last one is dropped; [`Device::close`] ends
/// it.
#[derive(Clone, Debug)]
pub struct Device {
    inputs: SyncSender<Input>,
    states: Arc<States>,
    #[cfg(feature = "file-upload")]
    dialler: Dialler,
}

impl Device {
    /// Begins to describe a device.
    pub fn builder(config: Config) -> Builder {
        let (roots, network) = (Roots::Platform, Network::default());
        Builder { config, roots, resumption: true, network, queue: None }
    }

    /// Where the device is in its life.
    pub fn state(&self) -> State {
        self.states.get()
    }

    /// Waits until the device is in a state that is `wanted`, at most for `patience`; yields the state
    /// it is in then. States that pass between two looks are not seen; the events have each.
    pub fn wait_for_state(&self, patience: Duration, wanted: impl Fn(&State) -> bool) -> State {
        self.states.wait(patience, wanted)
    }

    /// How many events were dropped because 256 were waiting already.
    pub fn missed_events(&self) -> u64 {
        self.states.missed()
    }

    /// Sends telemetry and waits until the hub has acknowledged it, over as many connections as that
    /// takes.
    pub fn send_telemetry(&self, telemetry: Telemetry) -> Result<(), SendError> {
        let command = |done| Command::SendTelemetry(telemetry, done);
        self.ask(command).unwrap_or(Err(SendError::Stopped))
    }

    /// Hands telemetry over and waits until it is taken: with [`Builder::queue`] until it is on disk and
    /// will be sent even after a restart, otherwise until the device has it in memory. What becomes of it
    /// is an event.
    pub fn enqueue_telemetry(&self, telemetry: Telemetry) -> Result<(), SendError> {
        let command = |done| Command::EnqueueTelemetry(telemetry, done);
        self.ask(command).unwrap_or(Err(SendError::Stopped))
    }

    /// Reports properties of the twin and waits until the hub has taken them; yields their version if
    /// the hub tells it. A `null` deletes. Wants `Config::hub.twin` and a connection.
    pub fn report_properties(&self, patch: Map<String, Value>) -> Result<Option<u64>, ReportError> {
        let command = |done| Command::ReportProperties(patch, done);
        self.ask(command).unwrap_or(Err(ReportError::Stopped))
    }

    /// What the cloud wants of this device, as far as it is known: `None` without `Config::hub.twin`,
    /// until the twin was read for the first time, and after the end. Changes are
    /// [`Event::Twin`].
    pub fn desired_properties(&self) -> Option<Properties> {
        self.ask(Command::DesiredProperties).flatten()
    }

    /// Answers a method call of [`Event::Method`] with a status and JSON or nothing, and waits until
    /// the answer is on its way.
    pub fn respond(
        &self,
        call: MethodCall,
        status: i32,
        payload: impl Into<Vec<u8>>,
    ) -> Result<(), RespondError> {
        let payload = payload.into();
        let command = |done| Command::Respond { call, status, payload, done };
        self.ask(command).unwrap_or(Err(RespondError::Stopped))
    }

    /// Uploads a file to the storage of the hub, under a name of the device's choice, and yields the name
    /// that the hub gave it. It is one attempt, beside the device's connection: `Config::hub.https_port`.
    #[cfg(feature = "file-upload")]
    pub fn upload_file(&self, blob_name: &str, file: &[u8]) -> Result<String, UploadError> {
        let access = self.ask(Command::HubAccess).ok_or(UploadError::Stopped)?;
        let access = access.ok_or(UploadError::NotConnected)?;
        zerotouch_driver::upload(&self.dialler, &access, blob_name, file)
    }

    /// Renews the certificate and waits until a hub has accepted the new one.
    pub fn renew(&self) -> Result<IssuedCertificate, RenewError> {
        self.ask(Command::Renew).unwrap_or(Err(RenewError::Stopped))
    }

    /// Sends what waits, says goodbye and waits until the device has stopped. The device gives itself
    /// `Config::close_timeout` for that.
    pub fn close(&self) {
        // No answer comes from a device that has stopped already.
        let _: Option<()> = self.ask(Command::Close);
    }

    /// As [`Device::close`], waiting at most for `patience`; `false` if the device was still at it then.
    pub fn close_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let (done, outcome) = answer();
        let mut close = Input::Command(Command::Close(done));
        while let Err(refused) = self.inputs.try_send(close) {
            close = match refused {
                TrySendError::Disconnected(_) => return true,
                TrySendError::Full(_) if Instant::now() >= deadline => return false,
                TrySendError::Full(close) => close,
            };
            thread::sleep(FULL_PAUSE);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        outcome.recv_timeout(left) != Err(RecvTimeoutError::Timeout)
    }

    /// `None` from a device that has stopped: it drops its commands, and with them whom to tell.
    fn ask<T: Send + 'static>(&self, command: impl FnOnce(Done<T>) -> Command) -> Option<T> {
        let (done, outcome) = answer();
        self.inputs.send(Input::Command(command(done))).ok()?;
        outcome.recv().ok()
    }
}

/// Whoever has stopped listening need not be told.
fn answer<T: Send + 'static>() -> (Done<T>, Receiver<T>) {
    let (done, outcome) = mpsc::sync_channel(1);
    (Box::new(move |value| drop(done.send(value))), outcome)
}
