//! Why a connection ends.

use thiserror::Error;
use zerotouch_mqtt_codec::{ConnectRefusal, DecodeError, PacketType};

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// CONNACK said no (given by the client to its application, and by the server to its log).
    #[error("connection refused: {0}")]
    Refused(ConnectRefusal),
    /// No CONNECT (server) or CONNACK (client) in time.
    #[error("no {0} in time")]
    HandshakeTimeout(PacketType),
    /// The other side was silent for longer than the keep-alive allows: no PINGRESP (client), nothing
    /// for one and a half times the interval (server).
    #[error("keep-alive timeout")]
    KeepAliveTimeout,
    /// Bytes that are no MQTT 3.1.1 packet.
    #[error("malformed packet: {0}")]
    Malformed(DecodeError),
    /// A packet that the protocol does not allow here.
    #[error("protocol violation: {0}")]
    Violation(Violation),
    /// The other side sends faster than it reads: what waits for it has reached the limit.
    #[error("the peer does not read: the transmit buffer is full")]
    SlowPeer,
    /// The transport ended between two packets.
    #[error("connection ended by the peer")]
    Ended,
    /// The transport ended inside a packet.
    #[error("connection ended inside a packet")]
    Truncated,
    /// DISCONNECT was sent (client) or received (server).
    #[error("disconnected")]
    Disconnected,
    /// Another connection of the same client has taken its place [MQTT-3.1.4-2].
    #[error("the client has connected again")]
    TakenOver,
    /// [`ServerConnection::close`](crate::ServerConnection::close) was called.
    #[error("closed by the server")]
    Closed,
}

/// What the other side did that MQTT 3.1.1 forbids, though each packet was well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// A client's first packet must be CONNECT.
    #[error("the first packet is not CONNECT [MQTT-3.1.0-1]")]
    FirstPacketNotConnect,
    /// A client sends CONNECT once.
    #[error("a second CONNECT [MQTT-3.1.0-2]")]
    SecondConnect,
    /// A server's first packet must be CONNACK, and it is sent once.
    #[error("{0} where CONNACK was due [MQTT-3.2.0-1]")]
    NotConnack(PacketType),
    /// A server sends CONNACK once.
    #[error("a second CONNACK [MQTT-3.2.0-1]")]
    SecondConnack,
    /// A clean session cannot be present.
    #[error("session present after a clean start [MQTT-3.2.2-1]")]
    SessionPresentOnClean,
    /// One return code for each filter asked for.
    #[error("SUBACK with {received} return codes for {requested} filters [MQTT-3.8.4-5]")]
    SubAckCount {
        /// Filters in the SUBSCRIBE.
        requested: usize,
        /// Return codes in the SUBACK.
        received: usize,
    },
    /// More unfinished exactly-once messages than `max_unreleased` allows.
    #[error("more than {limit} unreleased QoS 2 messages")]
    TooManyUnreleased {
        /// The limit.
        limit: u16,
    },
    /// More messages that the server's policy has not taken yet than `max_unreleased` allows.
    #[error("more than {limit} messages before their acknowledgement")]
    TooManyUnacknowledged {
        /// The limit.
        limit: u16,
    },
}
