//! What the threads share: an engine behind a lock, and how to wake each connection's writer.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as StdInstant};

use tokio::sync::Notify;
use zerotouch_mqtt_session::ConnectionId;
use zerotouch_time::{Instant, Now, UnixTime};

use super::engine::{Engine, Transmit};
use super::unix_seconds;

#[derive(Debug)]
pub(super) struct Shared<E> {
    state: Mutex<State<E>>,
    /// Something happened that [`Shared::next_event`] may wait for.
    happened: Condvar,
    /// The engine wants to be woken earlier than before.
    pub(super) earlier: Notify,
    /// The origin of the engine's monotonic clock.
    origin: StdInstant,
}

#[derive(Debug)]
struct State<E> {
    engine: E,
    writers: HashMap<ConnectionId, Arc<Notify>>,
    /// Empty between calls; kept for its memory.
    ready: Vec<ConnectionId>,
    /// When the timer will ring.
    alarm: Option<Instant>,
    /// How many wait in [`Shared::next_event`].
    onlookers: usize,
}

impl<E: Engine> Shared<E> {
    pub(super) fn new(engine: E) -> Self {
        let state =
            State { engine, writers: HashMap::new(), ready: Vec::new(), alarm: None, onlookers: 0 };
        Self {
            state: Mutex::new(state),
            happened: Condvar::new(),
            earlier: Notify::new(),
            origin: StdInstant::now(),
        }
    }

    /// A connection is ready to speak MQTT; yields what wakes its writer, or `None` if there is no
    /// room.
    pub(super) fn open(&self, id: ConnectionId, peer: E::Peer) -> Option<Arc<Notify>> {
        let mut state = self.lock();
        if !self.drive(&mut state, |engine, now| engine.handle_open(id, peer, now)) {
            return None;
        }
        let wake = Arc::new(Notify::new());
        // It begins by asking, so nothing is missed.
        state.writers.insert(id, Arc::clone(&wake));
        Some(wake)
    }

    pub(super) fn received(&self, id: ConnectionId, bytes: &[u8]) {
        self.with(|engine, now| engine.handle_bytes(id, bytes, now));
    }

    pub(super) fn transmit(&self, id: ConnectionId, chunk: &mut Vec<u8>) -> Transmit {
        self.with(|engine, now| engine.transmit(id, chunk, now))
    }

    pub(super) fn closed(&self, id: ConnectionId) {
        let mut state = self.lock();
        state.writers.remove(&id);
        self.drive(&mut state, |engine, now| engine.handle_closed(id, now));
    }

    /// Calls the engine and carries out what it wants done.
    pub(super) fn with<R>(&self, call: impl FnOnce(&mut E, Now) -> R) -> R {
        self.drive(&mut self.lock(), call)
    }

    fn drive<R>(&self, state: &mut State<E>, call: impl FnOnce(&mut E, Now) -> R) -> R {
        let now = self.now();
        let State { engine, writers, ready, alarm, onlookers, .. } = state;
        let result = call(engine, now);
        engine.settle(ready, now);
        for id in ready.drain(..) {
            if let Some(wake) = writers.get(&id) {
                wake.notify_one();
            }
        }
        let next = engine.poll_timeout();
        if next.is_some_and(|next| alarm.is_none_or(|alarm| next < alarm)) {
            self.earlier.notify_one();
        }
        if *onlookers > 0 {
            self.happened.notify_all();
        }
        result
    }

    /// How long the timer may sleep.
    pub(super) fn until_timeout(&self) -> Option<Duration> {
        let mut state = self.lock();
        state.alarm = state.engine.poll_timeout();
        let now = self.now().monotonic;
        state.alarm.map(|alarm| alarm.since(now))
    }

    pub(super) fn next_event(&self, timeout: Duration) -> Option<E::Event> {
        // A timeout beyond the clock's range is as good as this.
        const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        let deadline = StdInstant::now() + timeout.min(LONG);
        let mut state = self.lock();
        loop {
            if let Some(event) = state.engine.poll_event() {
                return Some(event);
            }
            let left = deadline.checked_duration_since(StdInstant::now())?;
            state.onlookers += 1;
            let waited = self.happened.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.onlookers -= 1;
        }
    }

    fn now(&self) -> Now {
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        Now {
            monotonic: Instant::from_micros(micros),
            wall: Some(UnixTime::from_secs(unix_seconds())),
        }
    }

    /// Where panics unwind, one while the lock was held has ended one connection; the rest are served on.
    /// The engine is then as far as it got.
    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
