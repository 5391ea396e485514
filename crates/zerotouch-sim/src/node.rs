//! One device and its store.

use chacha20::ChaCha20Rng;
use zerotouch_device::{Device, Event, State, TelemetryHandle};
use zerotouch_store::MemoryStore;

/// A device of the world, and what it has reported.
#[derive(Debug)]
pub struct Node {
    pub(crate) device: Device<ChaCha20Rng>,
    pub(crate) store: MemoryStore,
    pub(crate) registration_id: String,
    /// Telemetry sent and not yet acknowledged or dropped, with its number.
    pub(crate) unacknowledged: Vec<(TelemetryHandle, u32)>,
    pub(crate) sent: u32,
    /// Numbers of the messages that were acknowledged, in the order of their acknowledgements.
    pub(crate) acknowledged: Vec<u32>,
    /// Numbers of the messages that arrived at the hub, in the order of their arrival.
    pub(crate) arrived: Vec<u32>,
    pub(crate) ever_active: bool,
    pub(crate) connections: u32,
}

impl Node {
    /// Where the device is in its life.
    pub fn state(&self) -> State {
        self.device.state()
    }

    /// How often the device has connected to its hub.
    pub fn connections(&self) -> u32 {
        self.connections
    }

    /// Which telemetry the hub has acknowledged to the device.
    pub fn acknowledged(&self) -> &[u32] {
        &self.acknowledged
    }

    /// The number of the active generation, 0 without one.
    pub fn generation(&self) -> u64 {
        self.device.identity().active.as_ref().map_or(0, |active| active.number)
    }

    pub(crate) fn observe(&mut self, event: &Event) {
        match event {
            Event::Connected { .. } => self.connections += 1,
            Event::Activated { .. } => self.ever_active = true,
            Event::TelemetryAcknowledged(handle) => {
                if let Some(at) = self.unacknowledged.iter().position(|(h, _)| h == handle) {
                    self.acknowledged.push(self.unacknowledged.remove(at).1);
                }
            }
            Event::TelemetryDropped { handle, .. } => {
                self.unacknowledged.retain(|(h, _)| h != handle);
            }
            _ => {}
        }
    }
}
