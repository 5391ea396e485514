//! PUBLISH (section 3.3).

use core::fmt;

use super::Length;
use crate::topic::TopicName;
use crate::types::{PacketIdentifier, QoS};

/// PUBLISH: a message (section 3.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Publish<'a> {
    /// What it is published to.
    pub topic: TopicName<'a>,
    /// Its content: binary, may be empty.
    pub payload: &'a [u8],
    /// To a server: keep it as the topic's retained message. From a server: it was retained before
    /// the subscription was made.
    pub retain: bool,
    /// How it is delivered.
    pub delivery: Delivery,
}

/// How a message is delivered.
///
/// One type for quality of service, identifier and DUP, because a QoS 0 message has neither of the
/// latter `[MQTT-2.3.1-5]`, `[MQTT-3.3.1-2]`, and the others have both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// What PUBACK will carry.
        id: PacketIdentifier,
        /// Whether it may have been sent before.
        dup: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// What PUBREC, PUBREL and PUBCOMP will carry.
        id: PacketIdentifier,
        /// Whether it may have been sent before.
        dup: bool,
    },
}

impl Delivery {
    /// The quality of service.
    pub const fn qos(self) -> QoS {
        match self {
            Self::AtMostOnce => QoS::AtMostOnce,
            Self::AtLeastOnce { .. } => QoS::AtLeastOnce,
            Self::ExactlyOnce { .. } => QoS::ExactlyOnce,
        }
    }

    /// Whether the message may have been sent before.
    pub const fn dup(self) -> bool {
        match self {
            Self::AtMostOnce => false,
            Self::AtLeastOnce { dup, .. } | Self::ExactlyOnce { dup, .. } => dup,
        }
    }

    /// The packet identifier; QoS 0 has none.
    pub const fn packet_identifier(self) -> Option<PacketIdentifier> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce { id, .. } | Self::ExactlyOnce { id, .. } => Some(id),
        }
    }
}

impl Publish<'_> {
    /// The quality of service.
    pub const fn qos(&self) -> QoS {
        self.delivery.qos()
    }

    /// Whether the message may have been sent before.
    pub const fn dup(&self) -> bool {
        self.delivery.dup()
    }

    /// The packet identifier; QoS 0 has none.
    pub const fn packet_identifier(&self) -> Option<PacketIdentifier> {
        self.delivery.packet_identifier()
    }
}

impl fmt::Debug for Publish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("topic", &self.topic)
            .field("payload", &Length(self.payload.len()))
            .field("retain", &self.retain)
            .field("delivery", &self.delivery)
            .finish()
    }
}
