//! Commands of the application, and who waits for which event.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};
use zerotouch_device::{
    Config, Credential, Device, DropReason, Event, Failure, FailureClass, HubAccess,
    IssuedCertificate, TelemetryHandle,
};
use zerotouch_hub::{MethodCall, Properties, ReportHandle, Telemetry, TwinEvent};
use zerotouch_store::{RecordQueue, StoreError};
use zerotouch_time::{Instant, Now};

use crate::observer::Observer;
use crate::outbox::{Outbox, Write, Written};
use crate::{ConnectError, DeviceRng, RenewError, ReportError, RespondError, SendError};

/// Is told what came of a command. One that is dropped untold belonged to a device that has stopped.
pub type Done<T> = Box<dyn FnOnce(T) + Send>;

/// A command of the application, on its way from a handle to the driver.
pub enum Command {
    /// Told when the message is acknowledged or dropped.
    SendTelemetry(Telemetry, Done<Result<(), SendError>>),
    /// Told when the message is taken: where there is a queue on disk, when it is on disk.
    EnqueueTelemetry(Telemetry, Done<Result<(), SendError>>),
    /// Told when the hub has taken the report, with the version after it if the hub said so.
    ReportProperties(Map<String, Value>, Done<Result<Option<u64>, ReportError>>),
    /// Told when the answer is on its way.
    Respond {
        /// Which call.
        call: MethodCall,
        /// The application's status.
        status: i32,
        /// JSON or nothing.
        payload: Vec<u8>,
        /// Whom to tell.
        done: Done<Result<(), RespondError>>,
    },
    /// Told at once what is known.
    DesiredProperties(Done<Option<Properties>>),
    /// Told at once with what requests to the hub are made, if there is one now.
    HubAccess(Done<Option<HubAccess>>),
    /// Told when the renewed certificate is active, or why it is not. The device takes one renewal at a
    /// time, so there is one to wait for.
    Renew(Done<Result<IssuedCertificate, RenewError>>),
    /// Told when the device has stopped and the driver that owns the [`Waiters`] has been dropped. As
    /// that driver's last field they are dropped when its store and connection are: whoever was told
    /// may open the store again.
    Close(Done<()>),
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SendTelemetry(..) => "SendTelemetry",
            Self::EnqueueTelemetry(..) => "EnqueueTelemetry",
            Self::ReportProperties(..) => "ReportProperties",
            Self::Respond { .. } => "Respond",
            Self::DesiredProperties(_) => "DesiredProperties",
            Self::HubAccess(_) => "HubAccess",
            Self::Renew(_) => "Renew",
            Self::Close(_) => "Close",
        })
    }
}

/// Gives commands to the device, remembers who waits for their completion, and tells them. However a
/// device ends, everybody is told. What happens is also told to `tracing` and `metrics`.
pub struct Waiters {
    observer: Observer,
    outbox: Option<Outbox>,
    connected: Option<Done<Result<(), ConnectError>>>,
    /// And when it was given to the device.
    telemetry: BTreeMap<TelemetryHandle, (Instant, Done<Result<(), SendError>>)>,
    reports: BTreeMap<ReportHandle, Done<Result<Option<u64>, ReportError>>>,
    renewal: Option<Done<Result<IssuedCertificate, RenewError>>>,
    issued: Option<IssuedCertificate>,
    refused: Option<Failure>,
    stop: Vec<Done<()>>,
}

impl Waiters {
    /// `connected` is told of the first connection to a hub, or of the first failure after which there
    /// is no point in waiting for one.
    pub fn new(config: &Config, connected: Option<Done<Result<(), ConnectError>>>) -> Self {
        Self {
            observer: Observer::new(config.registration.registration_id.as_str()),
            outbox: None,
            connected,
            telemetry: BTreeMap::new(),
            reports: BTreeMap::new(),
            renewal: None,
            issued: None,
            refused: None,
            stop: Vec::new(),
        }
    }

    /// Keeps telemetry in `queue` from now on, and gives the device what waits there; before it is
    /// started.
    pub fn attach(
        &mut self,
        queue: Box<dyn RecordQueue + Send>,
        device: &mut Device<DeviceRng>,
        now: Now,
    ) -> Result<(), StoreError> {
        let (outbox, lost) = Outbox::open(queue, device, now)?;
        self.observer.lost(lost);
        self.outbox = Some(outbox);
        Ok(())
    }

    /// Gives a command to the device, or holds it until [`Waiters::poll_write`] was done.
    pub fn command(&mut self, device: &mut Device<DeviceRng>, command: Command, now: Now) {
        let command = match &mut self.outbox {
            Some(outbox) => outbox.hold(device, command, now),
            None => Some(command),
        };
        if let Some(command) = command {
            self.give(device, command, 0, now);
        }
    }

    /// What is to be written to disk next: for once in every turn of a driver's loop, after the commands.
    /// Answer with [`Waiters::written`] before anything else.
    pub fn poll_write(&mut self) -> Option<Write> {
        self.outbox.as_mut()?.poll_write()
    }

    /// What came of a [`Write`], `None` if it panicked: the commands that waited go to the device.
    pub fn written(&mut self, device: &mut Device<DeviceRng>, written: Option<Written>, now: Now) {
        let Some(outbox) = &mut self.outbox else { return };
        for (command, number) in outbox.written(written) {
            match (command, number) {
                (
                    Command::SendTelemetry(_, done) | Command::EnqueueTelemetry(_, done),
                    Err(error),
                ) => done(Err(error)),
                (command, number) => {
                    self.give(device, command, number.unwrap_or_default(), now);
                }
            }
        }
    }

    /// `number` is the message's on disk.
    fn give(&mut self, device: &mut Device<DeviceRng>, command: Command, number: u64, now: Now) {
        match command {
            Command::SendTelemetry(telemetry, done) => {
                match self.give_telemetry(device, telemetry, number, now) {
                    Ok(handle) => drop(self.telemetry.insert(handle, (now.monotonic, done))),
                    Err(error) => done(Err(error)),
                }
            }
            Command::EnqueueTelemetry(telemetry, done) => {
                done(self.give_telemetry(device, telemetry, number, now).map(drop));
            }
            Command::ReportProperties(patch, done) => match device.report_properties(&patch, now) {
                Ok(handle) => drop(self.reports.insert(handle, done)),
                Err(error) => done(Err(error.into())),
            },
            Command::Respond { call, status, payload, done } => {
                done(device.respond(call, status, &payload, now).map_err(Into::into));
            }
            Command::DesiredProperties(done) => done(device.twin().desired().cloned()),
            Command::HubAccess(done) => done(device.hub_access(now)),
            Command::Renew(done) => match device.renew(now) {
                Ok(()) => self.renewal = Some(done),
                Err(error) => done(Err(error.into())),
            },
            Command::Close(done) => {
                self.stop.push(done);
                device.close(now);
            }
        }
    }

    fn give_telemetry(
        &mut self,
        device: &mut Device<DeviceRng>,
        telemetry: Telemetry,
        number: u64,
        now: Now,
    ) -> Result<TelemetryHandle, SendError> {
        let given = device.send_telemetry(telemetry, now);
        if let Some(outbox) = &mut self.outbox {
            match given {
                Ok(handle) => outbox.given(handle, number),
                Err(_) => outbox.finish(number),
            }
        }
        Ok(given?)
    }

    /// For once in every turn of a driver's loop.
    pub fn measure(&self, device: &Device<DeviceRng>, now: Now) {
        self.observer.measure(device, now);
    }

    /// An event of the device.
    pub fn observe(&mut self, event: &Event, now: Now) {
        self.observer.observe(event);
        match event {
            Event::Connected { .. } => self.end_connecting(Ok(())),
            Event::TelemetryAcknowledged(handle) => {
                if let Some((given, _)) = self.telemetry.get(handle) {
                    self.observer.acknowledged(now.monotonic - *given);
                }
                self.finish(*handle);
                self.end_telemetry(*handle, Ok(()));
            }
            Event::TelemetryDropped { handle, reason } => {
                // At the end it stays on disk, for the next start.
                if *reason != DropReason::Stopped {
                    self.finish(*handle);
                }
                self.end_telemetry(*handle, Err(SendError::Dropped(*reason)));
            }
            Event::Twin(TwinEvent::Reported { handle, version }) => {
                self.end_report(*handle, Ok(*version));
            }
            Event::Twin(TwinEvent::ReportFailed { handle, error }) => {
                self.end_report(*handle, Err(error.clone().into()));
            }
            Event::CertificateIssued(issued) => self.issued = Some(issued.clone()),
            Event::Activated { .. } => {
                if let Some(issued) = self.issued.take() {
                    self.end_renewal(Ok(issued));
                }
            }
            Event::RenewalFailed { failure, .. } => self.end_renewal(Err(failure.clone().into())),
            Event::AttemptFailed { credential, failure, class, retry_in, .. } => {
                self.refused = Some(failure.clone());
                let hopeless = match class {
                    FailureClass::Retryable => false,
                    // Otherwise there is another credential to show.
                    FailureClass::IdentityTerminal => {
                        *credential == Credential::Bootstrap && *retry_in != Some(Duration::ZERO)
                    }
                    FailureClass::Terminal => true,
                };
                if hopeless || retry_in.is_none() {
                    self.end_connecting(Err(failure.clone().into()));
                }
            }
            Event::RolledBack { .. } => {
                self.issued = None;
                if let Some(failure) = self.refused.take() {
                    self.end_renewal(Err(RenewError::RolledBack(failure)));
                }
            }
            Event::Stopped => self.end(),
            _ => {}
        }
    }

    fn finish(&mut self, handle: TelemetryHandle) {
        if let Some(outbox) = &mut self.outbox {
            outbox.finish_handle(handle);
        }
    }

    fn end_connecting(&mut self, result: Result<(), ConnectError>) {
        if let Some(done) = self.connected.take() {
            done(result);
        }
    }

    fn end_telemetry(&mut self, handle: TelemetryHandle, result: Result<(), SendError>) {
        if let Some((_, done)) = self.telemetry.remove(&handle) {
            done(result);
        }
    }

    fn end_report(&mut self, handle: ReportHandle, result: Result<Option<u64>, ReportError>) {
        if let Some(done) = self.reports.remove(&handle) {
            done(result);
        }
    }

    fn end_renewal(&mut self, result: Result<IssuedCertificate, RenewError>) {
        if let Some(done) = self.renewal.take() {
            done(result);
        }
    }

    fn end(&mut self) {
        self.end_connecting(Err(ConnectError::Stopped));
        for (_, done) in std::mem::take(&mut self.telemetry).into_values() {
            done(Err(SendError::Stopped));
        }
        for done in std::mem::take(&mut self.reports).into_values() {
            done(Err(ReportError::Stopped));
        }
        self.end_renewal(Err(RenewError::Stopped));
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiters")
            .field("telemetry", &self.telemetry.len())
            .field("reports", &self.reports.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Waiters {
    fn drop(&mut self) {
        self.end();
        // Whoever is told may open it again.
        self.outbox = None;
        for done in self.stop.drain(..) {
            done(());
        }
    }
}
