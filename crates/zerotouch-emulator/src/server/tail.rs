//! Events for whoever listens over HTTP, beside those for [`Emulator::next_event`](super::Emulator).
//!
//! Each reader has a log of its own: who reads slowly loses events and is told how many, and nobody else
//! loses any.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::http::Content;
use crate::cloud::{CloudEvent, EventFilter};
use crate::event_log::{EventLog, Logged};

/// How many may listen at once: each may keep as much as an [`EventLog`] holds.
const MAX_READERS: usize = 16;
/// How often a silent stream says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub(super) struct Tail {
    readers: Vec<(EventFilter, Weak<Queue>)>,
    /// How many events there have been.
    count: u64,
}

/// Somebody who listens, until it is dropped.
#[derive(Debug)]
pub(super) struct Reader(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    log: Mutex<EventLog<Text>>,
    wake: Notify,
}

/// One event as it is sent.
#[derive(Clone, Debug)]
struct Text(Arc<str>);

impl Logged for Text {
    fn payload_bytes(&self) -> usize {
        self.0.len()
    }

    fn missed(count: u64) -> Self {
        let json = format!(r#"{{"event":"missed","count":{count}}}"#);
        Self(format!("event: missed\ndata: {json}\n\n").into())
    }
}

impl Tail {
    /// Lets somebody listen from now on; `None` if as many do as may.
    pub(super) fn open(&mut self, filter: EventFilter) -> Option<Reader> {
        self.readers.retain(|(_, reader)| reader.strong_count() > 0);
        if self.readers.len() >= MAX_READERS {
            return None;
        }
        let queue = Arc::new(Queue::default());
        self.readers.push((filter, Arc::downgrade(&queue)));
        Some(Reader(queue))
    }

    pub(super) fn tell(&mut self, event: &CloudEvent) {
        self.count += 1;
        if self.readers.is_empty() {
            return;
        }
        // Texts and numbers: nothing in it can fail to serialise.
        let json = serde_json::to_value(event).unwrap_or_default();
        let name = json["event"].as_str().unwrap_or_default();
        let text: Arc<str> = format!("id: {}\nevent: {name}\ndata: {json}\n\n", self.count).into();
        self.readers.retain(|(filter, reader)| {
            let Some(queue) = reader.upgrade() else { return false };
            if filter.passes(&json) {
                queue.log.lock().unwrap_or_else(PoisonError::into_inner).push(Text(text.clone()));
                queue.wake.notify_one();
            }
            true
        });
    }
}

impl Reader {
    /// The events as they come, without an end.
    pub(super) fn into_body(self) -> Content {
        let events = stream::unfold(self, |reader| async {
            let text = reader.next().await;
            Some((Ok(Frame::data(text)), reader))
        });
        StreamBody::new(events).boxed_unsync()
    }

    /// The next event, or after a while a sign that there was none.
    async fn next(&self) -> Bytes {
        loop {
            let text = self.0.log.lock().unwrap_or_else(PoisonError::into_inner).pop();
            if let Some(Text(text)) = text {
                return Bytes::copy_from_slice(text.as_bytes());
            }
            if timeout(HEARTBEAT, self.0.wake.notified()).await.is_err() {
                return Bytes::from_static(b":\n\n");
            }
        }
    }
}
