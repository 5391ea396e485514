//! Publishing with acknowledgement: what is in flight, in order, bounded.
//!
//! | state of a message | acknowledged by | next |
//! |---|---|---|
//! | `AtLeastOnce` | PUBACK | done |
//! | `ExactlyOnce` | PUBREC | `Released`, PUBREL is sent |
//! | `Released` | PUBREC again | `Released`, PUBREL is sent |
//! | | PUBCOMP | done |

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use thiserror::Error;
use zerotouch_mqtt_codec::{
    Delivery, EncodeError, Packet, PacketIdentifier, Publish, QoS, TopicName,
};

use crate::identifiers::Identifiers;
use crate::outbox::Outbox;

/// Names a message published with QoS 1 or 2 until it is acknowledged or lost.
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

#[derive(Debug)]
enum Stage {
    /// The PUBLISH as encoded, for sending it again.
    AtLeastOnce(Vec<u8>),
    /// The same.
    ExactlyOnce(Vec<u8>),
    /// PUBREC has come: the message itself is never sent again [MQTT-4.3.3-1].
    Released,
}

#[derive(Debug)]
struct Message {
    handle: PublishHandle,
    id: PacketIdentifier,
    stage: Stage,
}

/// What an acknowledgement led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// The message has arrived.
    Complete(PublishHandle),
    /// The first half of QoS 2: PUBREL is due.
    Release,
    /// No message awaits it: ignored and counted.
    Stray,
}

/// Messages in flight, in the order in which their last packet was sent first: PUBLISH, or PUBREL for
/// those released.
#[derive(Debug)]
pub(crate) struct Outgoing {
    messages: VecDeque<Message>,
    identifiers: Identifiers,
    window: u16,
    max_packet_size: usize,
    last_handle: u64,
    spare: Spare,
}

impl Outgoing {
    pub(crate) fn new(window: u16, max_packet_size: u32) -> Self {
        Self {
            messages: VecDeque::new(),
            identifiers: Identifiers::default(),
            window,
            max_packet_size: usize::try_from(max_packet_size).unwrap_or(usize::MAX),
            last_handle: 0,
            spare: Spare::default(),
        }
    }

    /// Keeps what another connection of the same session has in flight, under this one's limits.
    pub(crate) fn adopt(&mut self, mut session: Self) {
        session.window = self.window;
        session.max_packet_size = self.max_packet_size;
        *self = session;
    }

    /// Nothing in flight, under the same limits.
    pub(crate) fn emptied(&self) -> Self {
        Self {
            messages: VecDeque::new(),
            identifiers: Identifiers::default(),
            spare: Spare::default(),
            ..*self
        }
    }

    /// Encodes a message into the outbox and keeps it until it is acknowledged.
    pub(crate) fn publish(
        &mut self,
        topic: TopicName<'_>,
        payload: &[u8],
        (qos, retain): (QoS, bool),
        outbox: &mut Outbox,
    ) -> Result<Option<PublishHandle>, PublishError> {
        if qos != QoS::AtMostOnce && self.messages.len() >= usize::from(self.window) {
            return Err(PublishError::WindowFull { limit: self.window });
        }
        let packet = |id| {
            let delivery = match qos {
                QoS::AtMostOnce => Delivery::AtMostOnce,
                QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup: false },
                QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup: false },
            };
            Packet::from(Publish { topic, payload, retain, delivery })
        };
        // Every identifier has the same size.
        self.check_room(&packet(PacketIdentifier::MIN), outbox)?;
        let stage = match qos {
            QoS::AtMostOnce => {
                outbox.push(&packet(PacketIdentifier::MIN))?;
                return Ok(None);
            }
            QoS::AtLeastOnce => Stage::AtLeastOnce,
            QoS::ExactlyOnce => Stage::ExactlyOnce,
        };
        let id = self.take_identifier()?;
        let mut encoded = self.spare.take();
        packet(id).encode_to(&mut encoded)?;
        outbox.push_encoded(&encoded);
        self.last_handle += 1;
        let handle = PublishHandle(self.last_handle);
        self.messages.push_back(Message { handle, id, stage: stage(encoded) });
        Ok(Some(handle))
    }

    /// May a packet of this size be sent, and now?
    pub(crate) fn check_room(
        &self,
        packet: &Packet<'_>,
        outbox: &Outbox,
    ) -> Result<(), PublishError> {
        let size = packet.encoded_len()?;
        if size > self.max_packet_size {
            return Err(PublishError::TooLarge { size, limit: self.max_packet_size });
        }
        if !outbox.has_room(size) {
            return Err(PublishError::TransmitBufferFull { limit: outbox.limit() });
        }
        Ok(())
    }

    /// An identifier that nothing of this session uses. Requests that are no messages take theirs
    /// here too, because messages and requests share the identifiers (section 2.3.1).
    pub(crate) fn take_identifier(&mut self) -> Result<PacketIdentifier, PublishError> {
        self.identifiers.take().ok_or(PublishError::WindowFull { limit: u16::MAX })
    }

    /// A request that is no message was answered or lost.
    pub(crate) fn free_identifier(&mut self, id: PacketIdentifier) {
        self.identifiers.free(id);
    }

    /// PUBACK.
    pub(crate) fn acknowledge(&mut self, id: PacketIdentifier) -> Acknowledged {
        self.complete(id, |stage| matches!(stage, Stage::AtLeastOnce(_)))
    }

    /// PUBREC. A repeated one leads to PUBREL again, as [MQTT-4.3.3-1] wants until PUBCOMP.
    pub(crate) fn receive(&mut self, id: PacketIdentifier) -> Acknowledged {
        let Some(position) = self.messages.iter().position(|message| message.id == id) else {
            return Acknowledged::Stray;
        };
        match &mut self.messages[position].stage {
            Stage::AtLeastOnce(_) => return Acknowledged::Stray,
            Stage::Released => {}
            Stage::ExactlyOnce(packet) => {
                self.spare.give(core::mem::take(packet));
                // To the end: PUBRELs are sent, and sent again, in the order of the PUBRECs
                // [MQTT-4.6.0-4].
                if let Some(mut message) = self.messages.remove(position) {
                    message.stage = Stage::Released;
                    self.messages.push_back(message);
                }
            }
        }
        Acknowledged::Release
    }

    /// PUBCOMP.
    pub(crate) fn finish(&mut self, id: PacketIdentifier) -> Acknowledged {
        self.complete(id, |stage| matches!(stage, Stage::Released))
    }

    fn complete(&mut self, id: PacketIdentifier, fits: impl Fn(&Stage) -> bool) -> Acknowledged {
        let position = self.messages.iter().position(|m| m.id == id && fits(&m.stage));
        match position.and_then(|position| self.messages.remove(position)) {
            Some(Message { handle, stage, .. }) => {
                if let Stage::AtLeastOnce(packet) | Stage::ExactlyOnce(packet) = stage {
                    self.spare.give(packet);
                }
                self.identifiers.free(id);
                Acknowledged::Complete(handle)
            }
            None => Acknowledged::Stray,
        }
    }

    /// Sends again, in order, what a resumed session has not acknowledged [MQTT-4.4.0-1].
    pub(crate) fn resend(&mut self, outbox: &mut Outbox) -> Result<(), EncodeError> {
        const DUP: u8 = 0b1000;
        for Message { id, stage, .. } in &mut self.messages {
            match stage {
                Stage::Released => outbox.push(&Packet::PubRel(*id))?,
                Stage::AtLeastOnce(packet) | Stage::ExactlyOnce(packet) => {
                    if let Some(first) = packet.first_mut() {
                        *first |= DUP;
                    }
                    outbox.push_encoded(packet);
                }
            }
        }
        outbox.mark_resumed();
        Ok(())
    }

    /// Forgets everything and names what was lost, oldest first.
    pub(crate) fn lose(&mut self) -> impl Iterator<Item = PublishHandle> + '_ {
        for message in &self.messages {
            self.identifiers.free(message.id);
        }
        self.messages.make_contiguous().sort_unstable_by_key(|message| message.handle);
        self.messages.drain(..).map(|message| message.handle)
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }
}

/// Buffers of acknowledged messages, so that a steady flow allocates nothing.
#[derive(Debug, Default)]
struct Spare {
    buffers: Vec<Vec<u8>>,
    capacity: usize,
}

impl Spare {
    /// The most bytes that are kept for later messages.
    const LIMIT: usize = 128 * 1024;

    fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.capacity -= buffer.capacity();
        buffer
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = self.capacity + buffer.capacity();
        if capacity <= Self::LIMIT {
            buffer.clear();
            self.buffers.push(buffer);
            self.capacity = capacity;
        }
    }
}
