//! Why renewals fail, and what may come of them.

use alloc::boxed::Box;
use alloc::string::String;
use core::time::Duration;

use thiserror::Error;
use zerotouch_time::UnixTime;
use zerotouch_wire::ServiceError;

use crate::wire::MAX_CSR_LENGTH;

/// Why a renewal ended without a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RenewalError {
    /// The hub refused.
    #[error("the hub refused to renew with status {status}: {error}")]
    Refused {
        /// The status in the topic.
        status: u16,
        /// The body.
        error: Box<ServiceError>,
        /// The delay the service asks for before another try.
        retry_after: Option<Duration>,
    },
    /// Status 200 without a list of certificates.
    #[error("the hub answered status 200 without certificates: {excerpt:?}")]
    Unreadable {
        /// The body's first characters.
        excerpt: String,
    },
    /// No answer in time.
    #[error("the hub gave no {what} within {} s", after.as_secs())]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The service does not keep the operation any longer.
    #[error("the operation has expired ({at})")]
    Expired {
        /// When it did.
        at: UnixTime,
    },
    /// The request is no base64.
    #[error("the certificate request is not the base64 of anything")]
    NotBase64,
    /// The request is larger than the hub takes.
    #[error(
        "the certificate request has {length} characters of base64, the hub takes {MAX_CSR_LENGTH}"
    )]
    TooLarge {
        /// Its length.
        length: usize,
    },
}

/// What may come of a renewal that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// The same request may be made again, no sooner than after this time.
    Retry {
        /// What the service asked for, or what suits its error.
        floor: Duration,
    },
    /// The request is spent: another may be made, with another key.
    NewRequest,
    /// Somebody has to set something up at the service.
    ServiceSetup,
    /// The hub does not know the device.
    UnknownDevice,
}

impl RenewalError {
    /// What may come of it. By the status first: the codes below it were seen in two generations.
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Refused { status, error, retry_after } => {
                let own = match error.error_code {
                    Some(500_001) => Duration::from_secs(300),
                    Some(503_001) => Duration::from_secs(5),
                    _ => Duration::from_secs(1),
                };
                match (status, error.error_code) {
                    (400, Some(400_001)) | (412, Some(412_005)) => Recovery::ServiceSetup,
                    (400, _) => Recovery::NewRequest,
                    (404, _) => Recovery::UnknownDevice,
                    (401..=408 | 410 | 411 | 413..=428, _) => Recovery::ServiceSetup,
                    // 409: an operation in the way ends when it expires.
                    _ => Recovery::Retry { floor: retry_after.unwrap_or_default().max(own) },
                }
            }
            Self::TimedOut { .. } => Recovery::Retry { floor: Duration::ZERO },
            Self::Unreadable { .. }
            | Self::Expired { .. }
            | Self::TooLarge { .. }
            | Self::NotBase64 => Recovery::NewRequest,
        }
    }
}
