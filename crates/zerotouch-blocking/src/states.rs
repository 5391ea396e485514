//! The state a device is in, for whoever waits for one, and the events that nobody took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use zerotouch_device::State;

#[derive(Debug)]
pub(crate) struct States {
    state: Mutex<State>,
    changed: Condvar,
    missed: AtomicU64,
}

impl Default for States {
    fn default() -> Self {
        Self { state: Mutex::new(State::Idle), changed: Condvar::new(), missed: AtomicU64::new(0) }
    }
}

impl States {
    pub(crate) fn get(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.changed.notify_all();
    }

    pub(crate) fn miss(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    pub(crate) fn wait(&self, patience: Duration, wanted: impl Fn(&State) -> bool) -> State {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, patience, |state| !wanted(state));
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}
