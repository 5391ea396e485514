//! What comes out of a server beside bytes.

use alloc::string::String;

use thiserror::Error;

use crate::CloseReason;
use crate::broker::ConnectionId;

/// What the caller has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerAction {
    /// Send [`Server::poll_transmit`](crate::Server::poll_transmit) and tell
    /// [`Server::handle_transmitted`](crate::Server::handle_transmitted). Not said
    /// again for the same bytes: whoever could not send all of them goes on by itself when the
    /// transport has room again.
    Transmit(ConnectionId),
    /// Close a transport, all of whose bytes were taken. The server has forgotten it.
    Close(ConnectionId),
}

/// What happened, for logs and onlookers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerEvent {
    /// A client was let in.
    Connected {
        /// On which connection.
        connection: ConnectionId,
        /// Under which identifier, its own or one assigned.
        client_id: String,
        /// Whether it went on with a session it had.
        session_present: bool,
    },
    /// A connection ended. Its transport is closed by an action of its own.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// Whose, if it got that far.
        client_id: Option<String>,
        /// Why.
        reason: CloseReason,
    },
    /// A session was ended because a message had no room in its queue.
    SessionDiscarded {
        /// Whose it was.
        client_id: String,
    },
    /// The policy did not take a Will.
    WillRefused {
        /// What it would have been published to.
        topic: String,
    },
}

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// As many are open as the limits allow.
    #[error("{limit} connections are open already")]
    TooManyConnections {
        /// The limit.
        limit: usize,
    },
    /// Its name is that of an open connection.
    #[error("{0} is open already")]
    InUse(ConnectionId),
}
