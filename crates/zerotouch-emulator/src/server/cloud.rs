//! The cloud behind sockets: what waits to be written, and what is kept on disk.

use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot};
use zerotouch_mqtt_session::ConnectionId;
use zerotouch_time::{Instant, Now};

use super::engine::{Engine, Transmit};
use super::storage::Storage;
use super::tail::{Reader, Tail};
use crate::cloud::{
    Action, Cloud, CloudEvent, HttpRequest, HttpResponse, Record, RequestId, WebhookRequest,
};
use crate::event_log::EventLog;

/// How much may wait to be written to one client before it is taken for dead.
const MAX_QUEUED: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct StoredCloud {
    pub(super) cloud: Cloud,
    queues: HashMap<ConnectionId, Queue>,
    /// Who waits for the answer to a request.
    answers: HashMap<RequestId, oneshot::Sender<Answer>>,
    last_request: u64,
    /// To whoever carries questions to webhooks.
    questions: mpsc::UnboundedSender<WebhookRequest>,
    /// What happened and [`Engine::poll_event`] has not taken yet.
    events: EventLog<CloudEvent>,
    tail: Tail,
    storage: Option<Storage>,
    /// Of the cloud, not stored yet.
    records: Vec<Record>,
    keep_events: bool,
}

/// The answer to a request, and the events behind it.
pub(super) type Answer = (HttpResponse, Option<Reader>);

/// What waits for one connection's writer.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Nothing comes behind it.
    is_last: bool,
}

impl StoredCloud {
    pub(super) fn new(
        cloud: Cloud,
        storage: Option<Storage>,
        questions: mpsc::UnboundedSender<WebhookRequest>,
        keep_events: bool,
    ) -> Self {
        Self {
            cloud,
            queues: HashMap::new(),
            answers: HashMap::new(),
            last_request: 0,
            questions,
            events: EventLog::default(),
            tail: Tail::default(),
            storage,
            records: Vec::new(),
            keep_events,
        }
    }

    /// Asks the cloud; its answer comes once what it says is stored.
    pub(super) fn handle_request(
        &mut self,
        request: &HttpRequest,
        now: Now,
    ) -> oneshot::Receiver<Answer> {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        let (sender, receiver) = oneshot::channel();
        self.answers.insert(id, sender);
        self.cloud.handle_request(id, request, now);
        receiver
    }

    /// Stores what the cloud has learned.
    fn store(&mut self) {
        let Some(storage) = &self.storage else { return };
        self.records.extend(std::iter::from_fn(|| self.cloud.poll_record()));
        if self.records.is_empty() {
            return;
        }
        match storage.save(&self.records) {
            Ok(()) => self.records.clear(),
            // A test tool goes on without its memory, and says so; the next call tries again.
            Err(error) => eprintln!("zerotouch emulator: {error}"),
        }
    }
}

impl Engine for StoredCloud {
    /// The chain that the client presented in TLS.
    type Peer = Vec<Vec<u8>>;
    type Event = CloudEvent;

    fn handle_open(&mut self, id: ConnectionId, chain: Self::Peer, now: Now) -> bool {
        self.queues.insert(id, Queue::default());
        self.cloud.handle_open(id, chain, now);
        true
    }

    fn handle_bytes(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        self.cloud.handle_bytes(id, bytes, now);
    }

    fn handle_closed(&mut self, id: ConnectionId, now: Now) {
        self.queues.remove(&id);
        self.cloud.handle_closed(id, now);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.cloud.handle_timeout(now);
    }

    fn transmit(&mut self, id: ConnectionId, chunk: &mut Vec<u8>, _: Now) -> Transmit {
        chunk.clear();
        let Some(queue) = self.queues.get_mut(&id) else { return Transmit::Close };
        if !queue.bytes.is_empty() {
            std::mem::swap(chunk, &mut queue.bytes);
            Transmit::Write
        } else if queue.is_last {
            Transmit::Close
        } else {
            Transmit::Wait
        }
    }

    fn settle(&mut self, ready: &mut Vec<ConnectionId>, now: Now) {
        // Before anybody is told of it.
        self.store();
        while let Some(question) = self.cloud.poll_webhook() {
            // Nobody carries any when the emulator ends.
            let _ = self.questions.send(question);
        }
        while let Some((request, response)) = self.cloud.poll_response() {
            if let Some(waiting) = self.answers.remove(&request) {
                let reader = response.events.clone().and_then(|filter| self.tail.open(filter));
                // Who has hung up need not know.
                let _ = waiting.send((response, reader));
            }
        }
        while let Some(action) = self.cloud.poll_action() {
            let (Action::Transmit { connection, .. } | Action::Close { connection }) = &action;
            let id = *connection;
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            ready.push(id);
            match action {
                Action::Transmit { bytes, .. } => queue.bytes.extend_from_slice(&bytes),
                Action::Close { .. } => queue.is_last = true,
            }
            if queue.bytes.len() > MAX_QUEUED {
                self.queues.remove(&id);
                self.cloud.handle_closed(id, now);
            }
        }
        while let Some(event) = self.cloud.poll_event() {
            self.tail.tell(&event);
            if self.keep_events {
                self.events.push(event);
            }
        }
    }

    fn poll_event(&mut self) -> Option<CloudEvent> {
        self.events.pop()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.cloud.poll_timeout()
    }
}
