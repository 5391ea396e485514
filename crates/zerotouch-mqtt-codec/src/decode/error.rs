//! What may be wrong with bytes, and which rule of the standard says so.

use core::fmt;

use crate::packet::{PacketType, Sender};

/// Bytes that are no packet: what is wrong, where, and in which packet type.
///
/// Whatever it is, the standard has the receiver close the connection `[MQTT-4.8.0-1]`: what follows
/// on the stream has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    kind: DecodeErrorKind,
    offset: usize,
    packet_type: Option<PacketType>,
}

impl DecodeError {
    #[cold]
    pub(crate) const fn new(
        kind: DecodeErrorKind,
        offset: usize,
        packet_type: Option<PacketType>,
    ) -> Self {
        Self { kind, offset, packet_type }
    }

    /// What is wrong.
    pub const fn kind(&self) -> DecodeErrorKind {
        self.kind
    }

    /// Where, in bytes from the first byte of the packet.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// The type of the packet; `None` if its first byte names none.
    pub const fn packet_type(&self) -> Option<PacketType> {
        self.packet_type
    }

    /// The rule that is broken: see [`DecodeErrorKind::rule`].
    pub const fn rule(&self) -> &'static str {
        self.kind.rule()
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.packet_type {
            Some(packet_type) => write!(f, "malformed {packet_type}")?,
            None => f.write_str("malformed packet")?,
        }
        write!(f, " at byte {}: {} {}", self.offset, self.kind, self.rule())
    }
}

impl core::error::Error for DecodeError {}

/// What is wrong with the bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// Packet types 0 and 15 are forbidden.
    #[error("packet type {0} is reserved")]
    ReservedPacketType(u8),
    /// The other end may not send this type.
    #[error("a {0} does not send this packet")]
    WrongDirection(Sender),
    /// The flags of the fixed header are not those of the type.
    #[error("the fixed header's flags are {found:#06b}, not {required:#06b}")]
    ReservedFlags {
        /// The packet type, which decides the rule's number.
        packet_type: PacketType,
        /// The flags found, 0 to 15.
        found: u8,
        /// The flags this type has.
        required: u8,
    },
    /// A PUBLISH with both bits of its quality of service set.
    #[error("quality of service 3 does not exist")]
    InvalidQoS,
    /// A PUBLISH with quality of service 0 and DUP.
    #[error("a QoS 0 message cannot be a duplicate")]
    DupOnQoS0,
    /// The remaining length goes on after its fourth byte.
    #[error("the remaining length has more than four bytes")]
    RemainingLengthTooLong,
    /// The remaining length is none this packet type can have.
    #[error("the remaining length is {found}; this packet has {}", Range(*least, *most))]
    ImpossibleLength {
        /// The remaining length, in bytes.
        found: u32,
        /// The least this type has.
        least: u32,
        /// The most this type has.
        most: u32,
    },
    /// The packet is larger than this decoder's limit. (The limit is the receiver's own, not the
    /// standard's.)
    #[error("the packet has {size} bytes, the limit here is {limit}")]
    PacketTooLarge {
        /// The size of the whole packet, in bytes.
        size: u32,
        /// The limit, in bytes.
        limit: u32,
    },
    /// No memory to gather the packet in.
    #[error("no memory for a packet of {size} bytes")]
    OutOfMemory {
        /// The size of the whole packet, in bytes.
        size: u32,
    },
    /// The packet ends before, or within, a field it must have.
    #[error("the packet ends within the {0}")]
    Truncated(Field),
    /// Bytes behind the last field of a CONNECT.
    #[error("{count} bytes behind the last field")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// The protocol's name is not `MQTT`. (MQTT 3.1 says `MQIsdp`.)
    #[error("the protocol name is not \"MQTT\"")]
    InvalidProtocolName,
    /// Another version of MQTT, such as 3 (MQTT 3.1) or 5 (MQTT 5.0). A server answers with CONNACK
    /// return code 1.
    #[error("protocol level {0} is not 4 (MQTT 3.1.1)")]
    UnsupportedProtocolLevel(u8),
    /// Bit 0 of the connect flags is set.
    #[error("the reserved connect flag is set")]
    ReservedConnectFlag,
    /// A will quality of service without a will.
    #[error("a will QoS without a will")]
    WillQoSWithoutWill,
    /// Will retain without a will.
    #[error("will retain without a will")]
    WillRetainWithoutWill,
    /// Both bits of the will quality of service are set.
    #[error("will QoS 3 does not exist")]
    InvalidWillQoS,
    /// The password flag without the user name flag.
    #[error("a password without a user name")]
    PasswordWithoutUserName,
    /// Text that is not UTF-8: a stray or missing continuation byte, an overlong form, a surrogate.
    #[error("the {0} is not well-formed UTF-8")]
    IllFormedUtf8(Field),
    /// Text that contains U+0000.
    #[error("the {0} contains U+0000")]
    NulCharacter(Field),
    /// A topic name or filter without a character.
    #[error("the {0} is empty")]
    EmptyTopic(Field),
    /// A topic name with `+` or `#`.
    #[error("the {0} contains a wildcard")]
    WildcardInTopicName(Field),
    /// A `#` in a topic filter that is not the whole last level.
    #[error("`#` is not the whole last level of the topic filter")]
    MisplacedMultiLevelWildcard,
    /// A `+` in a topic filter that is not a whole level.
    #[error("`+` is not a whole level of the topic filter")]
    MisplacedSingleLevelWildcard,
    /// Packet identifier 0.
    #[error("the packet identifier is 0")]
    ZeroPacketIdentifier {
        /// The packet type, which decides the rule's number.
        packet_type: PacketType,
    },
    /// A SUBSCRIBE or UNSUBSCRIBE without a topic filter.
    #[error("there is no topic filter")]
    NoTopicFilters {
        /// The packet type, which decides the rule's number.
        packet_type: PacketType,
    },
    /// A SUBSCRIBE asks for a quality of service above 2, or sets a reserved bit beside it.
    #[error("the requested QoS is {0:#04x}, not 0, 1 or 2")]
    InvalidRequestedQoS(u8),
    /// A CONNACK with a reserved bit of its acknowledge flags set.
    #[error("the acknowledge flags are {0:#04x}; only bit 0 is defined")]
    ReservedAcknowledgeFlags(u8),
    /// A CONNACK with a return code above 5.
    #[error("return code {0} is reserved")]
    ReservedConnectReturnCode(u8),
    /// A CONNACK that refuses the connection and has a session.
    #[error("a refused connection cannot have a session present")]
    SessionPresentOnRefusal,
    /// A SUBACK without a return code.
    #[error("there is no return code")]
    NoReturnCodes,
    /// A SUBACK with a return code other than 0, 1, 2 and 0x80.
    #[error("return code {0:#04x} is reserved")]
    ReservedSubAckReturnCode(u8),
}

/// Writes the lengths a packet may have.
struct Range(u32, u32);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(least, most) = self;
        if least == most { write!(f, "{least}") } else { write!(f, "{least} to {most}") }
    }
}

impl DecodeErrorKind {
    /// The rule that is broken: the normative statement's number, such as `[MQTT-3.1.2-22]`, or where
    /// the standard has the rule but no number, the section or table. What is this receiver's own
    /// affair refers to the section that gives it the right.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::ReservedPacketType(_) | Self::WrongDirection(_) => "[Table 2.1]",
            Self::ReservedFlags { packet_type, .. } => match packet_type {
                PacketType::PubRel => "[MQTT-3.6.1-1]",
                PacketType::Subscribe => "[MQTT-3.8.1-1]",
                PacketType::Unsubscribe => "[MQTT-3.10.1-1]",
                PacketType::Disconnect => "[MQTT-3.14.1-1]",
                _ => "[MQTT-2.2.2-2]",
            },
            Self::InvalidQoS => "[MQTT-3.3.1-4]",
            Self::DupOnQoS0 => "[MQTT-3.3.1-2]",
            Self::RemainingLengthTooLong | Self::ImpossibleLength { .. } => "[section 2.2.3]",
            Self::PacketTooLarge { .. } | Self::OutOfMemory { .. } => "[MQTT-4.8.0-2]",
            Self::Truncated(field) => field.required_by(),
            Self::TrailingBytes { .. } => "[MQTT-3.1.4-1]",
            Self::InvalidProtocolName => "[MQTT-3.1.2-1]",
            Self::UnsupportedProtocolLevel(_) => "[MQTT-3.1.2-2]",
            Self::ReservedConnectFlag => "[MQTT-3.1.2-3]",
            Self::WillQoSWithoutWill => "[MQTT-3.1.2-13]",
            Self::WillRetainWithoutWill => "[MQTT-3.1.2-15]",
            Self::InvalidWillQoS => "[MQTT-3.1.2-14]",
            Self::PasswordWithoutUserName => "[MQTT-3.1.2-22]",
            Self::IllFormedUtf8(_) => "[MQTT-1.5.3-1]",
            Self::NulCharacter(_) => "[MQTT-1.5.3-2]",
            Self::EmptyTopic(_) => "[MQTT-4.7.3-1]",
            Self::WildcardInTopicName(Field::TopicName) => "[MQTT-3.3.2-2]",
            Self::WildcardInTopicName(_) => "[MQTT-4.7.1-1]",
            Self::MisplacedMultiLevelWildcard => "[MQTT-4.7.1-2]",
            Self::MisplacedSingleLevelWildcard => "[MQTT-4.7.1-3]",
            Self::ZeroPacketIdentifier { packet_type } => match packet_type {
                PacketType::SubAck | PacketType::UnsubAck => "[MQTT-2.3.1-7]",
                PacketType::Publish | PacketType::Subscribe | PacketType::Unsubscribe => {
                    "[MQTT-2.3.1-1]"
                }
                _ => "[MQTT-2.3.1-6]",
            },
            Self::NoTopicFilters { packet_type: PacketType::Unsubscribe } => "[MQTT-3.10.3-2]",
            Self::NoTopicFilters { .. } => "[MQTT-3.8.3-3]",
            Self::InvalidRequestedQoS(_) => "[MQTT-3.8.3-4]",
            Self::ReservedAcknowledgeFlags(_) => "[section 3.2.2.1]",
            Self::ReservedConnectReturnCode(_) => "[Table 3.1]",
            Self::SessionPresentOnRefusal => "[MQTT-3.2.2-4]",
            Self::NoReturnCodes => "[MQTT-3.8.4-5]",
            Self::ReservedSubAckReturnCode(_) => "[MQTT-3.9.3-2]",
        }
    }
}

/// A field of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// CONNECT: the protocol's name.
    ProtocolName,
    /// CONNECT: the protocol's level.
    ProtocolLevel,
    /// CONNECT: the connect flags.
    ConnectFlags,
    /// CONNECT: the keep alive.
    KeepAlive,
    /// CONNECT: the client identifier.
    ClientId,
    /// CONNECT: the will's topic.
    WillTopic,
    /// CONNECT: the will's message.
    WillMessage,
    /// CONNECT: the user name.
    UserName,
    /// CONNECT: the password.
    Password,
    /// PUBLISH: the topic name.
    TopicName,
    /// The packet identifier.
    PacketIdentifier,
    /// SUBSCRIBE and UNSUBSCRIBE: a topic filter.
    TopicFilter,
    /// SUBSCRIBE: the quality of service asked for.
    RequestedQoS,
    /// CONNACK: the acknowledge flags, and the return code behind them.
    AcknowledgeFlags,
}

impl Field {
    /// The rule by which the packet has this field.
    const fn required_by(self) -> &'static str {
        match self {
            Self::ProtocolName => "[MQTT-3.1.2-1]",
            Self::ProtocolLevel => "[section 3.1.2.2]",
            Self::ConnectFlags => "[section 3.1.2.3]",
            Self::KeepAlive => "[section 3.1.2.10]",
            Self::ClientId => "[MQTT-3.1.3-3]",
            Self::WillTopic | Self::WillMessage => "[MQTT-3.1.2-9]",
            Self::UserName => "[MQTT-3.1.2-19]",
            Self::Password => "[MQTT-3.1.2-21]",
            Self::TopicName => "[MQTT-3.3.2-1]",
            Self::PacketIdentifier => "[MQTT-2.3.1-1]",
            Self::TopicFilter => "[section 1.5.3]",
            Self::RequestedQoS => "[section 3.8.3]",
            Self::AcknowledgeFlags => "[section 3.2.2]",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ProtocolName => "protocol name",
            Self::ProtocolLevel => "protocol level",
            Self::ConnectFlags => "connect flags",
            Self::KeepAlive => "keep alive",
            Self::ClientId => "client identifier",
            Self::WillTopic => "will topic",
            Self::WillMessage => "will message",
            Self::UserName => "user name",
            Self::Password => "password",
            Self::TopicName => "topic name",
            Self::PacketIdentifier => "packet identifier",
            Self::TopicFilter => "topic filter",
            Self::RequestedQoS => "requested QoS",
            Self::AcknowledgeFlags => "acknowledge flags",
        })
    }
}
