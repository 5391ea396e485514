//! What may come of a command.

use std::sync::Arc;

use thiserror::Error;
use zerotouch_device::{DropReason, Failure, RenewalFailure};
use zerotouch_hub::TwinError;
use zerotouch_store::StoreError;

use crate::StartError;

/// Why there is no connected device.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// It was not started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Trying on would not help until a person has mended something, or the bootstrap credential was
    /// refused, or this was the last attempt that the configuration allows.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The device was closed before.
    #[error("the device has stopped")]
    Stopped,
}

/// Why telemetry was not acknowledged, or not taken.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// It was not taken; nothing has been sent.
    #[error(transparent)]
    Rejected(#[from] zerotouch_device::SendError),
    /// It could not be kept on disk, so it was not taken; nothing has been sent.
    #[error("the message was not taken: {0}")]
    NotStored(Arc<StoreError>),
    /// It will not be sent again; if it was sent at all, it may have arrived or not.
    #[error("the message was dropped: {0}")]
    Dropped(DropReason),
    /// The device has stopped.
    #[error("the device has stopped")]
    Stopped,
}

/// Why it is not known that the hub has taken a report.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// It was not sent.
    #[error(transparent)]
    Rejected(#[from] zerotouch_hub::ReportError),
    /// The hub refused it, or its answer did not come.
    #[error(transparent)]
    Failed(#[from] TwinError),
    /// The device has stopped.
    #[error("the device has stopped")]
    Stopped,
}

/// Why an answer to a call was not taken.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum RespondError {
    /// The call is not open, or it is no answer.
    #[error(transparent)]
    Rejected(#[from] zerotouch_hub::RespondError),
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
