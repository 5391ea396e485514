//! Telemetry on its way: from the application's call until the hub has acknowledged it, over as many
//! connections as that takes.
//!
//! | a message | input | next |
//! |---|---|---|
//! | none | `push`, there is room | waiting |
//! | | `push`, no room | by policy: refused, dropped, or waiting in an older one's place |
//! | | `restore`, from an earlier life | waiting |
//! | waiting | a connection has room | in flight |
//! | | its time to live is over | dropped |
//! | in flight | acknowledged | none |
//! | | the connection ended | waiting, in its old place |

use alloc::collections::VecDeque;
use core::time::Duration;

use thiserror::Error;
use zerotouch_hub::Telemetry;
use zerotouch_mqtt_session::PublishHandle;
use zerotouch_time::Instant;

use crate::{SendError, TelemetryHandle};

/// What becomes of a message for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It is refused: the application decides.
    #[default]
    Reject,
    /// It is dropped.
    DropNewest,
    /// The oldest that are not in flight are dropped in its favour.
    DropOldest,
}

/// How much telemetry may wait, and how long.
#[derive(Clone, Copy, Debug)]
pub struct QueuePolicy {
    /// How many messages; default 1,000.
    pub max_messages: usize,
    /// How many bytes of payload; default 1 MiB.
    pub max_bytes: usize,
    /// What then; default [`WhenFull::Reject`].
    pub when_full: WhenFull,
    /// How long a message may wait to be sent; default for ever.
    pub time_to_live: Option<Duration>,
}

impl Default for QueuePolicy {
    fn default() -> Self {
        Self {
            max_messages: 1_000,
            max_bytes: 1024 * 1024,
            when_full: WhenFull::default(),
            time_to_live: None,
        }
    }
}

/// How full the queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// Messages that are not acknowledged yet.
    pub messages: usize,
    /// Their payloads' bytes.
    pub bytes: usize,
    /// How many were dropped since the start.
    pub dropped: u64,
}

/// Why telemetry was dropped unsent, or perhaps sent but not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DropReason {
    /// There was no room.
    #[error("the queue is full")]
    QueueFull,
    /// It waited longer than it may.
    #[error("it waited longer than it may")]
    Expired,
    /// MQTT takes no such message.
    #[error("it fits into no packet")]
    Unsendable,
    /// The device has stopped.
    #[error("the device has stopped")]
    Stopped,
}

#[derive(Debug)]
struct Message {
    handle: TelemetryHandle,
    telemetry: Telemetry,
    expires: Option<Instant>,
    /// While it is in flight on the connection of the hour.
    sent: Option<PublishHandle>,
}

/// What is not acknowledged yet, in the order of the application's calls.
#[derive(Debug)]
pub(crate) struct Queue {
    policy: QueuePolicy,
    messages: VecDeque<Message>,
    bytes: usize,
    last: u64,
    dropped: u64,
    /// Told with the next [`Queue::poll_dropped`].
    news: VecDeque<(TelemetryHandle, DropReason)>,
}

impl Queue {
    pub(crate) fn new(policy: QueuePolicy) -> Self {
        Self {
            policy,
            messages: VecDeque::new(),
            bytes: 0,
            last: 0,
            dropped: 0,
            news: VecDeque::new(),
        }
    }

    pub(crate) fn status(&self) -> QueueStatus {
        QueueStatus { messages: self.messages.len(), bytes: self.bytes, dropped: self.dropped }
    }

    /// Takes a message, or says that there is no room for it.
    pub(crate) fn push(
        &mut self,
        telemetry: Telemetry,
        now: Instant,
    ) -> Result<TelemetryHandle, SendError> {
        let size = telemetry.payload.len();
        // One that fits nowhere takes no others with it.
        if self.policy.when_full == WhenFull::DropOldest && size <= self.policy.max_bytes {
            while !self.has_room(size) && self.drop_oldest() {}
        }
        self.check(&telemetry)?;
        if self.has_room(size) {
            return Ok(self.restore(telemetry, Duration::ZERO, now));
        }
        self.last += 1;
        let handle = TelemetryHandle(self.last);
        self.tell(handle, DropReason::QueueFull);
        Ok(handle)
    }

    /// Whether a message would be refused for want of room.
    pub(crate) fn check(&self, telemetry: &Telemetry) -> Result<(), SendError> {
        let rejects = self.policy.when_full == WhenFull::Reject;
        if rejects && !self.has_room(telemetry.payload.len()) {
            return Err(SendError::QueueFull);
        }
        Ok(())
    }

    /// Takes a message that was taken before, whatever room there is.
    pub(crate) fn restore(
        &mut self,
        telemetry: Telemetry,
        age: Duration,
        now: Instant,
    ) -> TelemetryHandle {
        self.last += 1;
        let handle = TelemetryHandle(self.last);
        let expires = self.policy.time_to_live.map(|time| now + time.saturating_sub(age));
        self.bytes += telemetry.payload.len();
        self.messages.push_back(Message { handle, telemetry, expires, sent: None });
        handle
    }

    fn has_room(&self, size: usize) -> bool {
        self.messages.len() < self.policy.max_messages && self.bytes + size <= self.policy.max_bytes
    }

    /// Drops the oldest message that is not in flight; says whether there was one.
    fn drop_oldest(&mut self) -> bool {
        let oldest = self.messages.iter().position(|message| message.sent.is_none());
        oldest.is_some_and(|position| {
            self.drop_at(position, DropReason::QueueFull);
            true
        })
    }

    fn drop_at(&mut self, position: usize, reason: DropReason) {
        if let Some(handle) = self.remove(position) {
            self.tell(handle, reason);
        }
    }

    fn remove(&mut self, position: usize) -> Option<TelemetryHandle> {
        let message = self.messages.remove(position)?;
        self.bytes -= message.telemetry.payload.len();
        Some(message.handle)
    }

    fn tell(&mut self, handle: TelemetryHandle, reason: DropReason) {
        self.dropped += 1;
        self.news.push_back((handle, reason));
    }

    /// Drops what has waited too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let due = |message: &Message| {
            message.sent.is_none() && message.expires.is_some_and(|expires| expires <= now)
        };
        while let Some(position) = self.messages.iter().position(due) {
            self.drop_at(position, DropReason::Expired);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.policy.time_to_live?;
        // Of those from an earlier life the age may be unknown, so the first is not always the next.
        let waiting = self.messages.iter().filter(|message| message.sent.is_none());
        waiting.filter_map(|message| message.expires).min()
    }

    /// Hands messages that wait to `send`, in order, until it has no room.
    pub(crate) fn pump(&mut self, mut send: impl FnMut(&Telemetry) -> Sent) {
        // What is in flight lies before what waits: it was sent in order.
        let first = self.messages.partition_point(|message| message.sent.is_some());
        let mut position = first;
        while let Some(message) = self.messages.get_mut(position) {
            match send(&message.telemetry) {
                Sent::InFlight(handle) => {
                    message.sent = Some(handle);
                    position += 1;
                }
                Sent::NoRoom => return,
                Sent::Never => self.drop_at(position, DropReason::Unsendable),
            }
        }
    }

    /// A message was acknowledged; whose, if it is one of these.
    pub(crate) fn acknowledged(&mut self, published: PublishHandle) -> Option<TelemetryHandle> {
        let position = self.messages.iter().position(|m| m.sent == Some(published))?;
        self.remove(position)
    }

    /// The connection ended: what was in flight is to be sent again.
    pub(crate) fn interrupt(&mut self) {
        for message in &mut self.messages {
            message.sent = None;
        }
    }

    /// The device has stopped.
    pub(crate) fn stop(&mut self) {
        while !self.messages.is_empty() {
            self.drop_at(0, DropReason::Stopped);
        }
    }

    /// What was dropped, to be told.
    pub(crate) fn poll_dropped(&mut self) -> Option<(TelemetryHandle, DropReason)> {
        self.news.pop_front()
    }
}

/// What became of a message that was to be sent.
pub(crate) enum Sent {
    InFlight(PublishHandle),
    NoRoom,
    Never,
}
