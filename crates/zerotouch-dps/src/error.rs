//! How a registration fails.

use alloc::boxed::Box;
use alloc::string::String;
use core::time::Duration;

use thiserror::Error;
use zerotouch_wire::ServiceError;

use crate::wire::MAX_MESSAGE_LENGTH;

/// Why a registration ended without an assignment. The service's words and numbers are kept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// The service answered with another status than 200 and 202, and not with one that asks for patience
    /// (429, 5xx).
    #[error("registration refused with status {status}: {error}")]
    Refused {
        /// The status in the topic.
        status: u16,
        /// The body.
        error: Box<ServiceError>,
        /// The delay the service asks for before another try.
        retry_after: Option<Duration>,
    },
    /// The operation ended with `failed`; this arrives on status 200.
    #[error("the registration failed: {error}")]
    Failed {
        /// `errorCode` and `errorMessage` of the registration state, and `retry-after` of the topic.
        error: Box<ServiceError>,
    },
    /// The enrolment is disabled; this arrives on status 200 too.
    #[error("the enrolment is disabled")]
    Disabled,
    /// Assigned, but without a hub or a device id of legal length and letters.
    #[error("assigned without a usable {missing}")]
    Incomplete {
        /// Which member.
        missing: &'static str,
    },
    /// Assigned, but the certificate asked for did not come.
    #[error(
        "assigned, but no certificate was issued for the request: the enrolment has no credential policy"
    )]
    ChainMissing,
    /// The body is not what the protocol says.
    #[error("status {status} with an unreadable body: {excerpt:?}")]
    Unreadable {
        /// The status in the topic.
        status: u16,
        /// The body's first characters.
        excerpt: String,
    },
    /// The request is larger than the service takes. It was not sent.
    #[error("the request has {length} bytes, the service takes {MAX_MESSAGE_LENGTH}")]
    TooLarge {
        /// Its length.
        length: usize,
    },
    /// The service did not answer a request, or did not finish, in time.
    #[error("no {what} within {} s", after.as_secs())]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
}

impl RegistrationError {
    /// The delay the service asks for before another try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Failed { error } => error.retry_after(),
            _ => None,
        }
    }
}
