//! Bytes on their way to the transport, bounded.

use alloc::vec::Vec;

use zerotouch_mqtt_codec::{EncodeError, Packet};

/// Capacity that is kept while nothing is waiting; a larger burst gives its memory back.
const KEPT_CAPACITY: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    limit: usize,
}

impl Outbox {
    pub(crate) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), sent: 0, limit }
    }

    /// What the transport has not taken yet.
    pub(crate) fn pending(&self) -> Option<&[u8]> {
        let pending = self.bytes.get(self.sent..).unwrap_or_default();
        (!pending.is_empty()).then_some(pending)
    }

    /// The transport took the first `n` pending bytes.
    pub(crate) fn transmitted(&mut self, n: usize) {
        self.sent = (self.sent + n).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            self.clear();
        } else if self.sent >= self.limit {
            // A transport that never quite catches up must not let the sent part grow.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_CAPACITY);
        self.sent = 0;
    }

    /// Room for a packet of `size` bytes? An empty outbox takes a packet of any size: its limit is
    /// the packet limit then.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        let waiting = self.bytes.len() - self.sent;
        waiting == 0 || waiting + size <= self.limit
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Appends a packet, whatever the limit: the caller has asked [`Outbox::has_room`], or the packet
    /// is an answer the protocol owes.
    pub(crate) fn push(&mut self, packet: &Packet<'_>) -> Result<(), EncodeError> {
        packet.encode_to(&mut self.bytes).map(drop)
    }

    /// Appends an encoded packet.
    pub(crate) fn push_encoded(&mut self, packet: &[u8]) {
        self.bytes.extend_from_slice(packet);
    }

    /// Has the peer been owed more than twice the limit? Answers are appended past the limit, so this
    /// is what stops a peer that sends and never reads.
    pub(crate) fn is_overfull(&self) -> bool {
        self.bytes.len() - self.sent > self.limit.saturating_mul(2)
    }
}
