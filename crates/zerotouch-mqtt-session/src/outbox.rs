//! Bytes on their way to the transport, bounded.

use alloc::vec::Vec;

use zerotouch_mqtt_codec::{EncodeError, Packet};

/// Capacity that is kept while nothing is waiting, in bytes, however little was sent of late.
const MIN_KEPT: usize = 4 * 1024;

#[derive(Debug)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    limit: usize,
    /// Bytes that do not count as backlog: those of a resumed session, which had them already, and of a
    /// packet beyond the limit, which an empty outbox takes.
    excused: usize,
    /// About the most bytes that waited at once of late.
    usual: usize,
}

impl Outbox {
    pub(crate) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), sent: 0, limit, excused: 0, usual: 0 }
    }

    /// What the transport has not taken yet.
    pub(crate) fn pending(&self) -> Option<&[u8]> {
        let pending = self.bytes.get(self.sent..).unwrap_or_default();
        (!pending.is_empty()).then_some(pending)
    }

    /// The transport took the first `n` pending bytes.
    pub(crate) fn transmitted(&mut self, n: usize) {
        self.sent = self.sent.saturating_add(n).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            self.clear();
        } else if self.sent >= self.limit {
            // A transport that never quite catches up must not let the sent part grow.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Drops what waits. Capacity for the usual traffic stays; that of a rare burst is given back.
    pub(crate) fn clear(&mut self) {
        self.usual = self.bytes.len().max(self.usual - self.usual / 8);
        let kept = self.usual.max(MIN_KEPT);
        self.bytes.clear();
        if self.bytes.capacity() > 2 * kept {
            self.bytes.shrink_to(kept);
        }
        self.sent = 0;
        self.excused = 0;
    }

    /// Room for a packet of `size` bytes? An empty outbox takes a packet of any size: its limit is
    /// the packet limit then.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        let waiting = self.waiting();
        waiting == 0 || waiting.saturating_add(size) <= self.limit
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Appends a packet, whatever the limit: the caller has asked [`Outbox::has_room`], or the packet
    /// is an answer the protocol owes.
    pub(crate) fn push(&mut self, packet: &Packet<'_>) -> Result<(), EncodeError> {
        let before = self.waiting();
        packet.encode_to(&mut self.bytes)?;
        self.excuse_large(before);
        Ok(())
    }

    /// Appends an encoded packet.
    pub(crate) fn push_encoded(&mut self, packet: &[u8]) {
        let before = self.waiting();
        self.bytes.extend_from_slice(packet);
        self.excuse_large(before);
    }

    fn excuse_large(&mut self, waited_before: usize) {
        if waited_before == 0 && self.waiting() > self.limit {
            self.excused = self.waiting();
        }
    }

    /// What waits now is what a resumed session has to send again.
    pub(crate) fn mark_resumed(&mut self) {
        self.excused = self.waiting();
    }

    /// Has the peer been owed more than twice the limit? Answers are appended past the limit, so this
    /// is what stops a peer that sends and never reads.
    pub(crate) fn is_overfull(&self) -> bool {
        self.waiting() > self.limit.saturating_mul(2).saturating_add(self.excused)
    }

    fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A burst must not pin its memory for the rest of the connection's life.
    #[test]
    fn a_burst_gives_its_memory_back() {
        let mut outbox = Outbox::new(1024 * 1024);
        outbox.push_encoded(&alloc::vec![0; 512 * 1024]);
        outbox.transmitted(512 * 1024);
        assert!(outbox.bytes.capacity() >= 512 * 1024, "another such burst may follow");
        for _ in 0..64 {
            outbox.push_encoded(&[0; 100]);
            outbox.transmitted(100);
        }
        assert!(outbox.bytes.capacity() <= 2 * MIN_KEPT, "{}", outbox.bytes.capacity());
    }

    // A client that is being sent a large message and pings meanwhile does read: it must not be taken
    // for one that only asks.
    #[test]
    fn answers_find_room_behind_a_large_packet() {
        let mut outbox = Outbox::new(100);
        outbox.push_encoded(&[0; 1000]);
        outbox.push_encoded(&[0; 200]);
        assert!(!outbox.is_overfull());
        outbox.push_encoded(&[0]);
        assert!(outbox.is_overfull());
        outbox.transmitted(1201);
        outbox.push_encoded(&[0; 50]);
        outbox.push_encoded(&[0; 151]);
        assert!(outbox.is_overfull(), "what was excused is gone");
    }

    // What was sent must not pile up behind a transport that always leaves a byte.
    #[test]
    fn a_transport_that_never_catches_up_costs_no_more_than_the_limit() {
        let mut outbox = Outbox::new(1000);
        outbox.push_encoded(&[0]);
        for _ in 0..1000 {
            outbox.push_encoded(&[0; 100]);
            outbox.transmitted(100);
            assert_eq!(outbox.waiting(), 1);
            assert!(outbox.bytes.len() <= 1200, "{}", outbox.bytes.len());
        }
    }
}
