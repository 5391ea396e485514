#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod connection;
mod driver;

use serde_json::{Map, Value};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
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

use driver::Driver;

/// How many commands may wait for the device; a further one waits for its place.
const COMMANDS: usize = 64;
/// How many events a receiver may lag behind.
const EVENTS: usize = 256;

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

    /// Starts the device on the current tokio runtime, with the identity in `store`. The receiver
    /// misses nothing.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn spawn(
        self,
        store: impl Store + Send + 'static,
    ) -> Result<(Device, broadcast::Receiver<Event>), StartError> {
        self.start(store, None)
    }

    /// Starts the device as [`Builder::spawn`] does and waits until it is connected to its hub for the
    /// first time. After an error the device stops.
    ///
    /// Failures that time may mend are waited out, for ever if need be: put
    /// [`timeout`](tokio::time::timeout) around it, or let `Config::retry` count the attempts.
    ///
    /// Cancel safe in that the device then says goodbye and stops.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn connect(
        self,
        store: impl Store + Send + 'static,
    ) -> Result<(Device, broadcast::Receiver<Event>), ConnectError> {
        let (done, outcome) = answer();
        let started = self.start(store, Some(done))?;
        outcome.await.unwrap_or(Err(ConnectError::Stopped))?;
        Ok(started)
    }

    fn start(
        self,
        mut store: impl Store + Send + 'static,
        connected: Option<Done<Result<(), ConnectError>>>,
    ) -> Result<(Device, broadcast::Receiver<Event>), StartError> {
        let dialler = Dialler::new(&self.roots, self.network)?.tls_resumption(self.resumption);
        #[cfg(feature = "file-upload")]
        let uploads = dialler.clone();
        let clock = Clock::new();
        let prepared = prepare(self.config, &mut store, self.queue, clock, connected)?;
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (events, receiver) = broadcast::channel(EVENTS);
        let (state, states) = watch::channel(State::Idle);
        let application = (inbox, events.clone(), state);
        let driver = Driver::new(prepared, Box::new(store), dialler, application, clock);
        tokio::spawn(driver.run());
        let device = Device {
            commands,
            events,
            states,
            #[cfg(feature = "file-upload")]
            dialler: uploads,
        };
        Ok((device, receiver))
    }
}

/// A handle on a running device. When the last one is dropped the device says goodbye and stops.
///
/// Every future may be dropped at any point and nothing breaks: what its method says of that is what
/// becomes of the command.
#[derive(Clone, Debug)]
pub struct Device {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Event>,
    states: watch::Receiver<State>,
    #[cfg(feature = "file-upload")]
    dialler: Dialler,
}

impl Device {
    /// Begins to describe a device.
    pub fn builder(config: Config) -> Builder {
        let (roots, network) = (Roots::Platform, Network::default());
        Builder { config, roots, resumption: true, network, queue: None }
    }

    /// Events from now on: messages from the cloud, method calls and changes of the twin among them.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Where the device is in its life.
    pub fn state(&self) -> State {
        self.states.borrow().clone()
    }

    /// Where the device is in its life, now and whenever it changes. States that pass between two looks
    /// are not seen; [`Device::events`] has each.
    pub fn states(&self) -> watch::Receiver<State> {
        self.states.clone()
    }

    /// Sends telemetry and waits until the hub has acknowledged it, over as many connections as that
    /// takes.
    ///
    /// Cancel safe in that nothing breaks; the message may have been taken, and is then sent.
    pub async fn send_telemetry(&self, telemetry: Telemetry) -> Result<(), SendError> {
        let command = |done| Command::SendTelemetry(telemetry, done);
        self.ask(command).await.unwrap_or(Err(SendError::Stopped))
    }

    /// Hands telemetry over and waits until it is taken: with [`Builder::queue`] until it is on disk and
    /// will be sent even after a restart, otherwise until the device has it in memory. What becomes of it
    /// is an event.
    ///
    /// Cancel safe in that nothing breaks; the message may have been taken.
    pub async fn enqueue_telemetry(&self, telemetry: Telemetry) -> Result<(), SendError> {
        let command = |done| Command::EnqueueTelemetry(telemetry, done);
        self.ask(command).await.unwrap_or(Err(SendError::Stopped))
    }

    /// Reports properties of the twin and waits until the hub has taken them; yields their version if
    /// the hub tells it. A `null` deletes. Wants `Config::hub.twin` and a connection.
    ///
    /// Cancel safe in that nothing breaks; the report may have been sent.
    pub async fn report_properties(
        &self,
        patch: Map<String, Value>,
    ) -> Result<Option<u64>, ReportError> {
        let command = |done| Command::ReportProperties(patch, done);
        self.ask(command).await.unwrap_or(Err(ReportError::Stopped))
    }

    /// What the cloud wants of this device, as far as it is known: `None` without `Config::hub.twin`,
    /// until the twin was read for the first time, and after the end. Changes are
    /// [`Event::Twin`].
    ///
    /// Cancel safe.
    pub async fn desired_properties(&self) -> Option<Properties> {
        self.ask(Command::DesiredProperties).await.flatten()
    }

    /// Answers a method call of [`Event::Method`] with a status and JSON or nothing, and waits until
    /// the answer is on its way.
    ///
    /// Cancel safe in that nothing breaks; the answer may have been sent.
    pub async fn respond(
        &self,
        call: MethodCall,
        status: i32,
        payload: impl Into<Vec<u8>>,
    ) -> Result<(), RespondError> {
        let payload = payload.into();
        let command = |done| Command::Respond { call, status, payload, done };
        self.ask(command).await.unwrap_or(Err(RespondError::Stopped))
    }

    /// Uploads a file to the storage of the hub, under a name of the device's choice, and yields the name
    /// that the hub gave it. It is one attempt, beside the device's connection: `Config::hub.https_port`.
    ///
    /// Cancel safe in that nothing breaks; the upload goes on.
    #[cfg(feature = "file-upload")]
    pub async fn upload_file(
        &self,
        blob_name: impl Into<String>,
        file: impl Into<Vec<u8>>,
    ) -> Result<String, UploadError> {
        let access = self.ask(Command::HubAccess).await.ok_or(UploadError::Stopped)?;
        let access = access.ok_or(UploadError::NotConnected)?;
        let (dialler, blob_name, file) = (self.dialler.clone(), blob_name.into(), file.into());
        // It waits for the network, so it does so on a thread that may wait.
        let upload = move || zerotouch_driver::upload(&dialler, &access, &blob_name, &file);
        tokio::task::spawn_blocking(upload).await.unwrap_or(Err(UploadError::Stopped))
    }

    /// Renews the certificate and waits until a hub has accepted the new one.
    ///
    /// Cancel safe: the renewal, if it has begun, goes on.
    pub async fn renew(&self) -> Result<IssuedCertificate, RenewError> {
        self.ask(Command::Renew).await.unwrap_or(Err(RenewError::Stopped))
    }

    /// Sends what waits, says goodbye and waits until the device has stopped. The device gives itself
    /// `Config::close_timeout` for that; a deadline of the caller's is a
    /// [`timeout`](tokio::time::timeout) around it.
    ///
    /// Cancel safe: once polled, the device stops all the same, unless 64 commands were before it.
    pub async fn close(&self) {
        // No answer comes from a device that has stopped already.
        let _: Option<()> = self.ask(Command::Close).await;
    }

    /// `None` from a device that has stopped: it drops its commands, and with them whom to tell.
    async fn ask<T: Send + 'static>(&self, command: impl FnOnce(Done<T>) -> Command) -> Option<T> {
        let (done, outcome) = answer();
        self.commands.send(command(done)).await.ok()?;
        outcome.await.ok()
    }
}

/// Whoever has stopped listening need not be told.
fn answer<T: Send + 'static>() -> (Done<T>, oneshot::Receiver<T>) {
    let (done, outcome) = oneshot::channel();
    (Box::new(|value| drop(done.send(value))), outcome)
}
