//! CONNECT and CONNACK (sections 3.1 and 3.2).

use core::fmt;

use super::Length;
use crate::text::Text;
use crate::topic::TopicName;
use crate::types::QoS;

/// CONNECT: a client asks for a connection (section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connect<'a> {
    /// The client identifier. Empty asks the server to assign one, which needs `clean_session`
    /// `[MQTT-3.1.3-7]`: without it, the packet does not encode. It does decode, because a server
    /// answers it with [`ConnectRefusal::IdentifierRejected`] `[MQTT-3.1.3-8]`.
    pub client_id: Text<'a>,
    /// Whether to start afresh rather than resume the session kept under this client identifier.
    pub clean_session: bool,
    /// The longest time between two packets of the client, in seconds; 0 for no limit.
    pub keep_alive: u16,
    /// The message the server publishes if the client vanishes.
    pub will: Option<Will<'a>>,
    /// Who the client says it is.
    pub login: Option<Login<'a>>,
}

/// A user name, and perhaps a password.
///
/// One type for both, because a password without a user name is forbidden `[MQTT-3.1.2-22]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Login<'a> {
    /// May be empty.
    pub username: Text<'a>,
    /// Binary, up to 65,535 bytes.
    pub password: Option<&'a [u8]>,
}

impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .field("password", &self.password.map(|_| format_args!("<redacted>")))
            .finish()
    }
}

/// The message the server publishes when the connection ends without a DISCONNECT (section 3.1.2.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Will<'a> {
    /// Where it is published.
    pub topic: TopicName<'a>,
    /// Its payload: binary, up to 65,535 bytes, may be empty.
    pub message: &'a [u8],
    /// How it is published.
    pub qos: QoS,
    /// Whether it is kept as the topic's retained message.
    pub retain: bool,
}

impl fmt::Debug for Will<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Will")
            .field("topic", &self.topic)
            .field("message", &Length(self.message.len()))
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .finish()
    }
}

/// CONNACK: the server's answer to CONNECT (section 3.2).
///
/// Only an accepted connection has a session `[MQTT-3.2.2-4]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnAck {
    /// Return code 0.
    Accepted {
        /// Whether the server still holds a session of this client.
        session_present: bool,
    },
    /// Another return code; the server closes the connection `[MQTT-3.2.2-5]`.
    Refused(ConnectRefusal),
}

/// Why a server refuses a connection, with the return code on the wire (Table 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum ConnectRefusal {
    /// The server does not speak this level of the protocol.
    #[error("unacceptable protocol version")]
    UnacceptableProtocolVersion = 1,
    /// The client identifier is well-formed but not allowed.
    #[error("identifier rejected")]
    IdentifierRejected = 2,
    /// The connection is made but the MQTT service is not available.
    #[error("server unavailable")]
    ServerUnavailable = 3,
    /// The data in the user name or password is malformed.
    #[error("bad user name or password")]
    BadUserNameOrPassword = 4,
    /// The client is not authorised to connect.
    #[error("not authorized")]
    NotAuthorized = 5,
}

impl ConnectRefusal {
    /// The refusal of that return code; `None` for 0 (accepted) and for 6 to 255 (reserved).
    pub const fn from_u8(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::UnacceptableProtocolVersion,
            2 => Self::IdentifierRejected,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }
}
