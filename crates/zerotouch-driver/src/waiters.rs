//! Who waits for which event.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;
use zerotouch_device::{
    CertificateSummary, DropReason, Event, Failure, RenewalFailure, TelemetryHandle,
};

/// Why telemetry was not acknowledged.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// It was not taken; nothing has been sent.
    #[error(transparent)]
    Rejected(#[from] zerotouch_device::SendError),
    /// It will not be sent again; if it was sent at all, it may have arrived or not.
    #[error("the message was dropped: {0}")]
    Dropped(DropReason),
    /// The device has stopped.
    #[error("the device has stopped")]
    Stopped,
}

/// Why there is no renewed certificate.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum RenewError {
    /// It was not begun.
    #[error(transparent)]
    Rejected(#[from] zerotouch_device::RenewError),
    /// No certificate came; the one in use stays.
    #[error(transparent)]
    Failed(#[from] RenewalFailure),
    /// The hub refused the new certificate; the one before is in use again.
    #[error("the hub refused the new certificate: {0}")]
    RolledBack(Failure),
    /// The device has stopped.
    #[error("the device has stopped")]
    Stopped,
}

type Done<T> = Box<dyn FnOnce(T) + Send>;

/// Remembers who waits for the completion of a command, and tells them. However a device ends,
/// everybody is told.
#[derive(Default)]
pub struct Waiters {
    telemetry: BTreeMap<TelemetryHandle, Done<Result<(), SendError>>>,
    renewal: Option<Done<Result<CertificateSummary, RenewError>>>,
    issued: Option<CertificateSummary>,
    refused: Option<Failure>,
    stop: Vec<Done<()>>,
}

impl Waiters {
    /// `done` is told when the message is acknowledged or dropped.
    pub fn telemetry(
        &mut self,
        handle: TelemetryHandle,
        done: impl FnOnce(Result<(), SendError>) + Send + 'static,
    ) {
        self.telemetry.insert(handle, Box::new(done));
    }

    /// `done` is told when the renewed certificate is active, or why it is not. The device takes one
    /// renewal at a time, so there is one to wait for.
    pub fn renewal(
        &mut self,
        done: impl FnOnce(Result<CertificateSummary, RenewError>) + Send + 'static,
    ) {
        self.renewal = Some(Box::new(done));
    }

    /// `done` is told when the device has stopped and the driver that owns this has been dropped. As
    /// that driver's last field this is dropped when its store and connection are: whoever was told
    /// may open the store again.
    pub fn stop(&mut self, done: impl FnOnce(()) + Send + 'static) {
        self.stop.push(Box::new(done));
    }

    /// An event of the device.
    pub fn observe(&mut self, event: &Event) {
        match event {
            Event::TelemetryAcknowledged(handle) => self.end_telemetry(*handle, Ok(())),
            Event::TelemetryDropped { handle, reason } => {
                self.end_telemetry(*handle, Err(SendError::Dropped(*reason)));
            }
            Event::CertificateIssued(summary) => self.issued = Some(summary.clone()),
            Event::Activated { .. } => {
                if let Some(summary) = self.issued.take() {
                    self.end_renewal(Ok(summary));
                }
            }
            Event::RenewalFailed { failure, .. } => self.end_renewal(Err(failure.clone().into())),
            Event::AttemptFailed { failure, .. } => self.refused = Some(failure.clone()),
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

    fn end_telemetry(&mut self, handle: TelemetryHandle, result: Result<(), SendError>) {
        if let Some(done) = self.telemetry.remove(&handle) {
            done(result);
        }
    }

    fn end_renewal(&mut self, result: Result<CertificateSummary, RenewError>) {
        if let Some(done) = self.renewal.take() {
            done(result);
        }
    }

    fn end(&mut self) {
        for done in std::mem::take(&mut self.telemetry).into_values() {
            done(Err(SendError::Stopped));
        }
        self.end_renewal(Err(RenewError::Stopped));
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiters").field("telemetry", &self.telemetry.len()).finish_non_exhaustive()
    }
}

impl Drop for Waiters {
    fn drop(&mut self) {
        self.end();
        for done in self.stop.drain(..) {
            done(());
        }
    }
}
