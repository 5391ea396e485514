//! What the threads share: the cloud behind a lock, and what waits to be written.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as StdInstant};

use tokio::sync::{Notify, mpsc};
use zerotouch_time::{Instant, Now, UnixTime};

use super::storage::Storage;
use super::unix_seconds;
use crate::cloud::{Action, Cloud, CloudEvent, ConnectionId};

/// How much may wait to be written to one client before it is taken for dead.
const MAX_QUEUED: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something happened that [`Shared::next_event`] may wait for.
    happened: Condvar,
    /// The cloud wants to be woken earlier than before.
    pub(super) earlier: Notify,
    /// The origin of the cloud's monotonic clock.
    origin: StdInstant,
}

#[derive(Debug)]
struct State {
    cloud: Cloud,
    queues: HashMap<ConnectionId, Queue>,
    /// How far the wall clock was put forward.
    advanced: Duration,
    /// When the timer will ring.
    alarm: Option<Instant>,
    storage: Option<Storage>,
    /// Which of the cloud's changes are stored.
    stored: u64,
}

impl State {
    /// Stores what the cloud has learned, before anybody is told of it.
    fn store(&mut self) {
        let changes = self.cloud.changes();
        if let Some(storage) = self.storage.as_ref().filter(|_| changes != self.stored) {
            match storage.save(self.cloud.snapshot()) {
                Ok(()) => self.stored = changes,
                // A test tool goes on without its memory, and says so; the next call tries again.
                Err(error) => eprintln!("zerotouch emulator: {error}"),
            }
        }
    }

    /// Hands bytes to a writer, or ends it; yields a connection that has too many waiting.
    fn carry_out(&mut self, action: Action) -> Option<ConnectionId> {
        let (connection, bytes) = match action {
            Action::Transmit { connection, bytes } => (connection, bytes),
            Action::Close { connection } => {
                self.queues.remove(&connection);
                return None;
            }
        };
        let queue = self.queues.get(&connection)?;
        let queued = queue.length.fetch_add(bytes.len(), Ordering::Relaxed);
        // The writer is gone only if the connection is about to be closed anyway.
        let _ = queue.chunks.send(bytes);
        if queued <= MAX_QUEUED {
            return None;
        }
        self.queues.remove(&connection);
        Some(connection)
    }
}

/// What waits for one connection's writer.
#[derive(Debug)]
struct Queue {
    chunks: mpsc::UnboundedSender<Vec<u8>>,
    length: Arc<AtomicUsize>,
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct Output {
    chunks: mpsc::UnboundedReceiver<Vec<u8>>,
    length: Arc<AtomicUsize>,
}

impl Output {
    /// The next bytes to write; `None` once the connection is to be closed.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        let chunk = self.chunks.recv().await?;
        self.length.fetch_sub(chunk.len(), Ordering::Relaxed);
        Some(chunk)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

impl Shared {
    pub(super) fn new(cloud: Cloud, storage: Option<Storage>) -> Self {
        let state = State {
            stored: cloud.changes(),
            cloud,
            queues: HashMap::new(),
            advanced: Duration::ZERO,
            alarm: None,
            storage,
        };
        Self {
            state: Mutex::new(state),
            happened: Condvar::new(),
            earlier: Notify::new(),
            origin: StdInstant::now(),
        }
    }

    /// A connection has passed TLS.
    pub(super) fn open(&self, connection: ConnectionId, chain: Vec<Vec<u8>>) -> Output {
        let (sender, chunks) = mpsc::unbounded_channel();
        let length = Arc::new(AtomicUsize::new(0));
        let queue = Queue { chunks: sender, length: Arc::clone(&length) };
        let mut state = self.lock();
        state.queues.insert(connection, queue);
        self.drive(&mut state, |cloud, now| cloud.handle_open(connection, chain, now));
        Output { chunks, length }
    }

    pub(super) fn received(&self, connection: ConnectionId, bytes: &[u8]) {
        self.with(|cloud, now| cloud.handle_bytes(connection, bytes, now));
    }

    pub(super) fn closed(&self, connection: ConnectionId) {
        let mut state = self.lock();
        state.queues.remove(&connection);
        self.drive(&mut state, |cloud, now| cloud.handle_closed(connection, now));
    }

    /// Calls the cloud and carries out what it wants done.
    pub(super) fn with<R>(&self, call: impl FnOnce(&mut Cloud, Now) -> R) -> R {
        self.drive(&mut self.lock(), call)
    }

    fn drive<R>(&self, state: &mut State, call: impl FnOnce(&mut Cloud, Now) -> R) -> R {
        let now = self.now(state);
        let result = call(&mut state.cloud, now);
        state.store();
        while let Some(action) = state.cloud.poll_action() {
            if let Some(dead) = state.carry_out(action) {
                state.cloud.handle_closed(dead, now);
            }
        }
        let next = state.cloud.poll_timeout();
        if next.is_some_and(|next| state.alarm.is_none_or(|alarm| next < alarm)) {
            self.earlier.notify_one();
        }
        self.happened.notify_all();
        result
    }

    /// How long the timer may sleep.
    pub(super) fn until_timeout(&self) -> Option<Duration> {
        let mut state = self.lock();
        state.alarm = state.cloud.poll_timeout();
        let now = self.now(&state).monotonic;
        state.alarm.map(|alarm| alarm.since(now))
    }

    pub(super) fn next_event(&self, timeout: Duration) -> Option<CloudEvent> {
        // A timeout beyond the clock's range is as good as this.
        const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        let deadline = StdInstant::now() + timeout.min(LONG);
        let mut state = self.lock();
        loop {
            if let Some(event) = state.cloud.poll_event() {
                return Some(event);
            }
            let left = deadline.checked_duration_since(StdInstant::now())?;
            let waited = self.happened.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn advance_clock(&self, by: Duration) {
        let mut state = self.lock();
        state.advanced = state.advanced.saturating_add(by);
    }

    fn now(&self, state: &State) -> Now {
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        Now {
            monotonic: Instant::from_micros(micros),
            wall: Some(UnixTime::from_secs(unix_seconds()) + state.advanced),
        }
    }

    /// A panic while the lock was held has ended one connection; the rest are served on.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
