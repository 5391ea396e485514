//! What happened and nobody has fetched yet.

use std::collections::VecDeque;

/// An event that can be kept.
pub(crate) trait Logged {
    /// How many bytes it holds whose number a client chose.
    fn payload_bytes(&self) -> usize;
    /// Says how many were dropped before.
    fn missed(count: u64) -> Self;
}

/// The events nobody has fetched yet, bounded in number and in bytes.
#[derive(Debug)]
pub(crate) struct EventLog<E> {
    waiting: VecDeque<E>,
    payload_bytes: usize,
    missed: u64,
}

impl<E> Default for EventLog<E> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), payload_bytes: 0, missed: 0 }
    }
}

impl<E: Logged> EventLog<E> {
    /// An onlooker that sleeps must not cost memory without bound; the newest events are kept.
    const CAPACITY: usize = 16 * 1024;
    /// What clients' bytes may take of it.
    const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;

    pub(crate) fn push(&mut self, event: E) {
        self.payload_bytes += event.payload_bytes();
        self.waiting.push_back(event);
        while self.waiting.len() > Self::CAPACITY || self.payload_bytes > Self::MAX_PAYLOAD_BYTES {
            self.take();
            self.missed += 1;
        }
    }

    pub(crate) fn pop(&mut self) -> Option<E> {
        match std::mem::take(&mut self.missed) {
            0 => self.take(),
            count => Some(E::missed(count)),
        }
    }

    fn take(&mut self) -> Option<E> {
        let event = self.waiting.pop_front()?;
        self.payload_bytes -= event.payload_bytes();
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::CloudEvent;

    // What was dropped is said, once, before what remains.
    #[test]
    fn a_full_log_says_what_it_lost() {
        let mut log = EventLog::default();
        for n in 0..EventLog::<CloudEvent>::CAPACITY + 3 {
            log.push(CloudEvent::TwinRead { device_id: n.to_string() });
        }
        assert_eq!(log.pop(), Some(CloudEvent::Missed { count: 3 }));
        assert_eq!(log.pop(), Some(CloudEvent::TwinRead { device_id: "3".into() }));
    }

    // Few events can be large, too.
    #[test]
    fn large_messages_fill_the_log_sooner() {
        let message = |byte: u8| CloudEvent::Telemetry {
            device_id: "d".into(),
            properties: Vec::new(),
            payload: vec![byte; EventLog::<CloudEvent>::MAX_PAYLOAD_BYTES / 4],
        };
        let mut log = EventLog::default();
        (0..6).for_each(|byte| log.push(message(byte)));
        assert_eq!(log.pop(), Some(CloudEvent::Missed { count: 2 }));
        assert_eq!(log.pop(), Some(message(2)));
        (6..7).for_each(|byte| log.push(message(byte)));
        assert_eq!(log.pop(), Some(message(3)));
    }
}
