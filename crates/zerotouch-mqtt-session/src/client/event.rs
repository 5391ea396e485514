//! What a client tells its application: handles, events, and why a command was not taken.

use thiserror::Error;
use zerotouch_mqtt_codec::{EncodeError, Publish, SubAckReturnCodes};

use crate::{CloseReason, PublishError, PublishHandle};

/// Names a subscribe or unsubscribe request until it is answered or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscribeHandle(pub(super) u64);

/// Why CONNECT was not sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The engine has a connection already.
    #[error("already connected")]
    AlreadyConnected,
    /// The packet would be larger than allowed.
    #[error("CONNECT would have {size} bytes, {limit} are allowed")]
    TooLarge {
        /// The packet's size in bytes.
        size: usize,
        /// The configured limit in bytes.
        limit: u32,
    },
    /// The packet cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Why a subscribe or unsubscribe request was not taken. Nothing has been sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// There is no accepted connection.
    #[error("not connected")]
    NotConnected,
    /// No filter was given.
    #[error("no topic filter given")]
    NoFilter,
    /// As many requests await their answer as the configuration allows.
    #[error("{limit} requests await their answer already")]
    TooManyPending {
        /// The configured limit.
        limit: usize,
    },
    /// The packet cannot be written or is too large, too much waits for the transport, or no packet
    /// identifier is free.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl From<EncodeError> for SubscribeError {
    fn from(error: EncodeError) -> Self {
        Self::Publish(PublishError::Encode(error))
    }
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientEvent<'a> {
    /// CONNACK accepted the connection.
    Connected {
        /// The server resumed a stored session.
        session_present: bool,
    },
    /// A message arrived. It is acknowledged already.
    Message(Publish<'a>),
    /// A message was acknowledged in full.
    Published(PublishHandle),
    /// The session ended before a message was acknowledged: it may have arrived or not.
    PublishLost(PublishHandle),
    /// SUBACK arrived: one return code for each filter, in order. A code may be a refusal.
    Subscribed(SubscribeHandle, SubAckReturnCodes<'a>),
    /// UNSUBACK arrived.
    Unsubscribed(SubscribeHandle),
    /// The connection ended before a subscribe or unsubscribe request was answered.
    SubscribeLost(SubscribeHandle),
    /// The connection ended. What is still to transmit has to be, then the transport is closed. The
    /// events that name what was lost with it come from [`Client::poll_event`](crate::Client).
    Closed(CloseReason),
    /// A packet was taken that means nothing to the application.
    Progress,
}
