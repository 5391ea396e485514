//! Receiving with `QoS` 2: which messages have been passed on and not yet released.

use alloc::collections::BTreeSet;

use zerotouch_mqtt_codec::PacketIdentifier;

use crate::Violation;

/// The identifiers of messages that were passed on and not yet released by PUBREL.
#[derive(Debug)]
pub(crate) struct Incoming {
    unreleased: BTreeSet<PacketIdentifier>,
    limit: u16,
}

impl Incoming {
    pub(crate) fn new(limit: u16) -> Self {
        Self { unreleased: BTreeSet::new(), limit }
    }

    /// A `QoS` 2 message arrived: `true` if it is new and must be passed on [MQTT-4.3.3-2].
    pub(crate) fn receive(&mut self, id: PacketIdentifier) -> Result<bool, Violation> {
        if self.unreleased.contains(&id) {
            return Ok(false);
        }
        if self.unreleased.len() >= usize::from(self.limit) {
            return Err(Violation::TooManyUnreleased { limit: self.limit });
        }
        Ok(self.unreleased.insert(id))
    }

    pub(crate) fn contains(&self, id: PacketIdentifier) -> bool {
        self.unreleased.contains(&id)
    }

    pub(crate) fn release(&mut self, id: PacketIdentifier) {
        self.unreleased.remove(&id);
    }

    pub(crate) fn clear(&mut self) {
        self.unreleased.clear();
    }
}
