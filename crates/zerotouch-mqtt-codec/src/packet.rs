//! The fourteen control packets, borrowed from where their bytes lie.
//!
//! Rules that concern one packet alone are built into the types: a password cannot be without a user
//! name, a QoS 0 message has neither identifier nor DUP, a refusal has no session.

mod connect;
mod publish;
mod subscribe;

use core::fmt;

pub use self::connect::{ConnAck, Connect, ConnectRefusal, Login, Will};
pub use self::publish::{Delivery, Publish};
pub(crate) use self::subscribe::Entries;
pub use self::subscribe::{
    SubAck, SubAckReturnCode, SubAckReturnCodes, Subscribe, Subscriptions, TopicFilters,
    Unsubscribe,
};
use crate::types::PacketIdentifier;

/// A control packet (section 2.2.1, Table 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packet<'a> {
    /// A client asks for a connection (section 3.1).
    Connect(Connect<'a>),
    /// The server's answer to it (section 3.2).
    ConnAck(ConnAck),
    /// A message (section 3.3).
    Publish(Publish<'a>),
    /// Acknowledges a QoS 1 message (section 3.4).
    PubAck(PacketIdentifier),
    /// Acknowledges a QoS 2 message: received (section 3.5).
    PubRec(PacketIdentifier),
    /// Answers PUBREC: the identifier is released (section 3.6).
    PubRel(PacketIdentifier),
    /// Answers PUBREL: complete (section 3.7).
    PubComp(PacketIdentifier),
    /// A client subscribes (section 3.8).
    Subscribe(Subscribe<'a>),
    /// The server's answer to it (section 3.9).
    SubAck(SubAck<'a>),
    /// A client ends subscriptions (section 3.10).
    Unsubscribe(Unsubscribe<'a>),
    /// The server's answer to it (section 3.11).
    UnsubAck(PacketIdentifier),
    /// A client says it is alive (section 3.12).
    PingReq,
    /// The server's answer to it (section 3.13).
    PingResp,
    /// A client says it is leaving (section 3.14).
    Disconnect,
}

impl Packet<'_> {
    /// Which of the fourteen it is.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect => PacketType::Disconnect,
        }
    }
}

macro_rules! into_packet {
    ($($variant:ident($type:ty)),*) => {$(
        impl<'a> From<$type> for Packet<'a> {
            #[inline]
            fn from(packet: $type) -> Self {
                Self::$variant(packet)
            }
        }
    )*};
}

into_packet!(
    Connect(Connect<'a>),
    ConnAck(ConnAck),
    Publish(Publish<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>)
);

/// The type of a control packet, with its number on the wire (Table 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// CONNECT
    Connect = 1,
    /// CONNACK
    ConnAck = 2,
    /// PUBLISH
    Publish = 3,
    /// PUBACK
    PubAck = 4,
    /// PUBREC
    PubRec = 5,
    /// PUBREL
    PubRel = 6,
    /// PUBCOMP
    PubComp = 7,
    /// SUBSCRIBE
    Subscribe = 8,
    /// SUBACK
    SubAck = 9,
    /// UNSUBSCRIBE
    Unsubscribe = 10,
    /// UNSUBACK
    UnsubAck = 11,
    /// PINGREQ
    PingReq = 12,
    /// PINGRESP
    PingResp = 13,
    /// DISCONNECT
    Disconnect = 14,
}

impl PacketType {
    /// The type of that number; `None` for 0 and 15, which are forbidden (Table 2.1).
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            _ => return None,
        })
    }

    /// The flags in the low half of the first byte (Table 2.2); `None` for PUBLISH, whose flags mean
    /// something.
    pub const fn fixed_flags(self) -> Option<u8> {
        match self {
            Self::Publish => None,
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => Some(0b0010),
            _ => Some(0b0000),
        }
    }

    /// Whether `sender` may send this type (Table 2.1, direction of flow).
    pub const fn may_be_sent_by(self, sender: Sender) -> bool {
        match self {
            Self::Connect
            | Self::Subscribe
            | Self::Unsubscribe
            | Self::PingReq
            | Self::Disconnect => matches!(sender, Sender::Client),
            Self::ConnAck | Self::SubAck | Self::UnsubAck | Self::PingResp => {
                matches!(sender, Sender::Server)
            }
            Self::Publish | Self::PubAck | Self::PubRec | Self::PubRel | Self::PubComp => true,
        }
    }

    /// The name the standard gives it, such as `"PUBLISH"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which end of the connection sent the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The end that sent CONNECT.
    Client,
    /// The end that answers it.
    Server,
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// `Debug` for message bytes: how many, not which. What a device publishes may be confidential, and a
/// 64 KiB payload makes no readable line.
pub(crate) struct Length(pub(crate) usize);

impl fmt::Debug for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}
