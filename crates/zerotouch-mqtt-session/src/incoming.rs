//! Receiving with acknowledgement: what has been passed on, and what is still owed for it.
//!
//! | QoS 2 message | input | next |
//! |---|---|---|
//! | new | PUBLISH | owed: passed on, PUBREC is due once it is taken |
//! | owed | taken | unreleased, PUBREC is sent |
//! | | PUBLISH again | owed: neither passed on nor answered a second time |
//! | unreleased | PUBLISH again | unreleased, PUBREC is sent |
//! | any | PUBREL | gone, PUBCOMP is sent |

use alloc::collections::VecDeque;

use zerotouch_mqtt_codec::{Delivery, Packet, PacketIdentifier, QoS};

use crate::Violation;
use crate::identifiers::IdentifierSet;

/// What a message that arrived leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// It is to be passed on.
    New,
    /// It was passed on before: this answers it.
    Repeated(Packet<'static>),
    /// It was passed on before and its answer is still to come.
    Owed,
}

/// Messages that were received and not yet finished.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Passed on and not yet taken, in the order they came.
    owed: VecDeque<(PacketIdentifier, QoS)>,
    /// QoS 2 messages that PUBREC has promised to know again until PUBREL.
    unreleased: IdentifierSet,
    limit: u16,
}

impl Incoming {
    pub(crate) fn new(limit: u16) -> Self {
        Self { owed: VecDeque::new(), unreleased: IdentifierSet::default(), limit }
    }

    pub(crate) fn limit(&self) -> u16 {
        self.limit
    }

    /// Keeps what another connection of the same session has received, under this one's limit.
    pub(crate) fn adopt(&mut self, mut session: Self) {
        session.limit = self.limit;
        *self = session;
    }

    /// A message arrived. QoS 2 messages are passed on once [MQTT-4.3.3-2], QoS 1 messages each
    /// time [MQTT-4.3.2-2].
    pub(crate) fn receive(&mut self, delivery: Delivery) -> Result<Received, Violation> {
        let Some(id) = delivery.packet_identifier() else { return Ok(Received::New) };
        let (qos, limit) = (delivery.qos(), self.limit);
        if qos == QoS::ExactlyOnce {
            if self.unreleased.contains(id) {
                return Ok(Received::Repeated(Packet::PubRec(id)));
            }
            if self.owed.contains(&(id, qos)) {
                return Ok(Received::Owed);
            }
            if self.unreleased.len() >= usize::from(limit) {
                return Err(Violation::TooManyUnreleased { limit });
            }
        }
        if self.owed.len() >= usize::from(limit) {
            return Err(Violation::TooManyUnacknowledged { limit });
        }
        self.owed.push_back((id, qos));
        Ok(Received::New)
    }

    /// The first message of that identifier that is owed an answer is taken: this is the answer.
    pub(crate) fn take(&mut self, id: PacketIdentifier) -> Option<Packet<'static>> {
        let position = self.owed.iter().position(|(owed, _)| *owed == id)?;
        let (_, qos) = self.owed.remove(position)?;
        if qos == QoS::ExactlyOnce {
            self.unreleased.insert(id);
            return Some(Packet::PubRec(id));
        }
        Some(Packet::PubAck(id))
    }

    /// PUBREL.
    pub(crate) fn release(&mut self, id: PacketIdentifier) {
        self.unreleased.remove(id);
        self.owed.retain(|owed| *owed != (id, QoS::ExactlyOnce));
    }

    /// The connection ended before these were taken: the sender will send them again.
    pub(crate) fn forget_owed(&mut self) {
        self.owed.clear();
    }

    pub(crate) fn clear(&mut self) {
        self.owed.clear();
        self.unreleased.clear();
    }
}
