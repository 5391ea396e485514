//! The state a device is in, for whoever waits for one.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use zerotouch_device::State;

#[derive(Debug)]
pub(crate) struct States {
    state: Mutex<State>,
    changed: Condvar,
}

impl Default for States {
    fn default() -> Self {
        Self { state: Mutex::new(State::Idle), changed: Condvar::new() }
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

    pub(crate) fn wait(&self, patience: Duration, wanted: impl Fn(&State) -> bool) -> State {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, patience, |state| !wanted(state));
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}
