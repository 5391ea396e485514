//! Publishing with acknowledgement: what is in flight, in order, bounded.
//!
//! | state of a message | acknowledged by | next |
//! |---|---|---|
//! | `AtLeastOnce` | PUBACK | done |
//! | `ExactlyOnce` | PUBREC | `Released`, PUBREL is sent |
//! | `Released` | PUBCOMP | done |

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use thiserror::Error;
use zerotouch_mqtt_codec::{
    Delivery, EncodeError, Packet, PacketIdentifier, Publish, QoS, TopicName,
};

use crate::outbox::Outbox;

/// Names a message published with `QoS` 1 or 2 until it is acknowledged or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishHandle(u64);

/// Why a message was not taken. Nothing has been sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// There is no accepted connection.
    #[error("not connected")]
    NotConnected,
    /// As many messages await acknowledgement as the configuration allows.
    #[error("{limit} messages await acknowledgement already")]
    WindowFull {
        /// The configured window.
        limit: u16,
    },
    /// The transport has not taken what was published before.
    #[error("more than {limit} bytes wait for the transport")]
    TransmitBufferFull {
        /// The configured limit in bytes.
        limit: usize,
    },
    /// The packet would be larger than allowed.
    #[error("the packet would have {size} bytes, {limit} are allowed")]
    TooLarge {
        /// The packet's size in bytes.
        size: usize,
        /// The configured limit in bytes.
        limit: usize,
    },
    /// The packet cannot be written at all.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    AtLeastOnce,
    ExactlyOnce,
    Released,
}

#[derive(Debug)]
struct Message {
    handle: PublishHandle,
    id: PacketIdentifier,
    stage: Stage,
    /// The PUBLISH as encoded, for sending it again.
    packet: Vec<u8>,
}

/// What an acknowledgement led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// The message has arrived.
    Complete(PublishHandle),
    /// The first half of `QoS` 2: PUBREL is due.
    Release,
    /// No message awaits it: ignored and counted.
    Stray,
}

/// Messages in flight, oldest first.
#[derive(Debug)]
pub(crate) struct Outgoing {
    messages: VecDeque<Message>,
    window: u16,
    max_packet_size: usize,
    last_handle: u64,
    last_id: u16,
    /// Buffers of acknowledged messages, so that a steady flow allocates nothing.
    spare: Vec<Vec<u8>>,
}

/// A buffer larger than this is not kept for later messages.
const KEPT_BUFFER: usize = 4 * 1024;

impl Outgoing {
    pub(crate) fn new(window: u16, max_packet_size: u32) -> Self {
        Self {
            messages: VecDeque::new(),
            window,
            max_packet_size: usize::try_from(max_packet_size).unwrap_or(usize::MAX),
            last_handle: 0,
            last_id: 0,
            spare: Vec::new(),
        }
    }

    /// Encodes a message into the outbox and keeps it until it is acknowledged.
    pub(crate) fn publish(
        &mut self,
        topic: TopicName<'_>,
        payload: &[u8],
        (qos, retain): (QoS, bool),
        reserved: impl Fn(PacketIdentifier) -> bool,
        outbox: &mut Outbox,
    ) -> Result<Option<PublishHandle>, PublishError> {
        if qos != QoS::AtMostOnce && self.messages.len() >= usize::from(self.window) {
            return Err(PublishError::WindowFull { limit: self.window });
        }
        let delivery = match qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce { id: self.free_id(reserved)?, dup: false },
            QoS::ExactlyOnce => Delivery::ExactlyOnce { id: self.free_id(reserved)?, dup: false },
        };
        let packet = Packet::from(Publish { topic, payload, retain, delivery });
        let size = packet.encoded_len()?;
        if size > self.max_packet_size {
            return Err(PublishError::TooLarge { size, limit: self.max_packet_size });
        }
        if !outbox.has_room(size) {
            return Err(PublishError::TransmitBufferFull { limit: outbox.limit() });
        }
        let (id, stage) = match delivery {
            Delivery::AtMostOnce => {
                outbox.push(&packet)?;
                return Ok(None);
            }
            Delivery::AtLeastOnce { id, .. } => (id, Stage::AtLeastOnce),
            Delivery::ExactlyOnce { id, .. } => (id, Stage::ExactlyOnce),
        };
        let mut encoded = self.spare.pop().unwrap_or_default();
        packet.encode_to(&mut encoded)?;
        outbox.push_encoded(&encoded);
        self.last_handle += 1;
        let handle = PublishHandle(self.last_handle);
        self.messages.push_back(Message { handle, id, stage, packet: encoded });
        Ok(Some(handle))
    }

    /// PUBACK.
    pub(crate) fn acknowledge(&mut self, id: PacketIdentifier) -> Acknowledged {
        self.complete(id, Stage::AtLeastOnce)
    }

    /// PUBREC. A repeated one leads to PUBREL again, as [MQTT-4.3.3-1] wants until PUBCOMP.
    pub(crate) fn receive(&mut self, id: PacketIdentifier) -> Acknowledged {
        match self.messages.iter_mut().find(|message| message.id == id) {
            Some(message) if message.stage != Stage::AtLeastOnce => {
                message.stage = Stage::Released;
                Acknowledged::Release
            }
            _ => Acknowledged::Stray,
        }
    }

    /// PUBCOMP.
    pub(crate) fn finish(&mut self, id: PacketIdentifier) -> Acknowledged {
        self.complete(id, Stage::Released)
    }

    fn complete(&mut self, id: PacketIdentifier, stage: Stage) -> Acknowledged {
        let position = self.messages.iter().position(|m| m.id == id && m.stage == stage);
        match position.and_then(|position| self.messages.remove(position)) {
            Some(Message { handle, mut packet, .. }) => {
                if packet.capacity() <= KEPT_BUFFER {
                    packet.clear();
                    self.spare.push(packet);
                }
                Acknowledged::Complete(handle)
            }
            None => Acknowledged::Stray,
        }
    }

    /// Sends again, in order, what a resumed session has not acknowledged [MQTT-4.4.0-1].
    pub(crate) fn resend(&mut self, outbox: &mut Outbox) -> Result<(), EncodeError> {
        const DUP: u8 = 0b1000;
        for message in &mut self.messages {
            if message.stage == Stage::Released {
                outbox.push(&Packet::PubRel(message.id))?;
            } else {
                if let Some(first) = message.packet.first_mut() {
                    *first |= DUP;
                }
                outbox.push_encoded(&message.packet);
            }
        }
        Ok(())
    }

    /// Forgets everything and names what was lost, oldest first.
    pub(crate) fn lose(&mut self) -> impl Iterator<Item = PublishHandle> + '_ {
        self.messages.drain(..).map(|message| message.handle)
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The next identifier that neither a message nor, by `reserved`, anything else uses.
    pub(crate) fn free_id(
        &mut self,
        reserved: impl Fn(PacketIdentifier) -> bool,
    ) -> Result<PacketIdentifier, PublishError> {
        for _ in 0..u16::MAX {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if let Some(id) = PacketIdentifier::new(self.last_id)
                && !reserved(id)
                && !self.messages.iter().any(|message| message.id == id)
            {
                return Ok(id);
            }
        }
        Err(PublishError::WindowFull { limit: u16::MAX })
    }
}
