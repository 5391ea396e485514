//! The loop between the engine and the world: one queue of inputs, one deadline.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};

use zerotouch_device::{Action, ConnectionId, Device, Event, State, TransportFailure};
use zerotouch_driver::{Clock, Command, DeviceRng, Dialler, Waiters, transport_failure};
use zerotouch_store::Store;

use crate::connection::{self, Connection};
use crate::states::States;

/// Whatever wakes the driver.
#[derive(Debug)]
pub(crate) enum Input {
    Command(Command),
    Dialled(Connection),
    DialFailed(ConnectionId, TransportFailure),
    /// Bytes from the socket, none at its end.
    Read(ConnectionId, io::Result<Vec<u8>>),
}

pub(crate) struct Driver {
    device: Device<DeviceRng>,
    store: Box<dyn Store + Send>,
    dialler: Dialler,
    clock: Clock,
    connection: Option<Connection>,
    inputs: SyncSender<Input>,
    inbox: Receiver<Input>,
    events: SyncSender<Event>,
    states: Arc<States>,
    /// The last field: see [`Waiters::stop`].
    waiters: Waiters,
}

impl Driver {
    pub(crate) fn new(
        (device, waiters): (Device<DeviceRng>, Waiters),
        store: Box<dyn Store + Send>,
        dialler: Dialler,
        (inputs, inbox): (SyncSender<Input>, Receiver<Input>),
        (events, states): (SyncSender<Event>, Arc<States>),
        clock: Clock,
    ) -> Self {
        let connection = None;
        Self { device, store, dialler, clock, connection, inputs, inbox, events, states, waiters }
    }

    pub(crate) fn run(mut self) {
        self.device.start(self.clock.now());
        loop {
            self.act();
            if let Some(write) = self.waiters.poll_write() {
                let written = write.run();
                self.waiters.written(&mut self.device, Some(written), self.clock.now());
                continue;
            }
            self.waiters.measure(&self.device, self.clock.now());
            if self.device.state() == State::Stopped {
                return;
            }
            let input = match self.device.poll_timeout() {
                Some(due) => self.inbox.recv_timeout(self.clock.until(due)),
                None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match input {
                Ok(input) => {
                    let mut next = Some(input);
                    while let Some(input) = next.take() {
                        // Messages that come together wait for the disk together.
                        if matches!(input, Input::Command(_)) {
                            next = self.inbox.try_recv().ok();
                        }
                        self.take(input);
                    }
                }
                // The queue cannot close: this driver holds a sender of it.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    self.device.handle_timeout(self.clock.now());
                }
            }
        }
    }

    /// Does what the engine asks, and sends what it wants sent, until it asks no more.
    fn act(&mut self) {
        loop {
            while let Some(event) = self.device.poll_event() {
                if let Event::StateChanged(state) = &event {
                    self.states.set(state.clone());
                }
                self.waiters.observe(&event, self.clock.now());
                // An application that does not take its events does not hold the device up.
                if let Err(TrySendError::Full(_)) = self.events.try_send(event) {
                    self.states.miss();
                }
            }
            match self.device.poll_action() {
                Some(Action::Dial(dial)) => connection::dial(&self.dialler, &dial, &self.inputs),
                Some(Action::HangUp(_)) => self.hang_up(),
                Some(Action::Store(change)) => {
                    let result = self.store.apply(&change);
                    self.device.handle_stored(result, self.clock.now());
                }
                Some(_) => {}
                None if self.transmit() => {}
                None => return,
            }
        }
    }

    /// Sends what the engine wants sent; `false` if that is nothing.
    fn transmit(&mut self) -> bool {
        let (Some(connection), Some(bytes)) = (&mut self.connection, self.device.poll_transmit())
        else {
            return false;
        };
        let length = bytes.len();
        // After a failure the reading thread is about to hear the end, or an alert that says why.
        let sent = connection.send(bytes);
        if sent {
            self.device.handle_transmitted(length, self.clock.now());
        }
        sent
    }

    fn take(&mut self, input: Input) {
        let now = self.clock.now();
        match input {
            Input::Command(command) => self.waiters.command(&mut self.device, command, now),
            Input::Dialled(connection) => {
                let id = connection.id;
                // A dial that was given up meanwhile is nobody's connection.
                if self.device.connection() != Some(id) {
                    return connection.hang_up();
                }
                match connection.start_reading(self.inputs.clone()) {
                    Ok(()) => {
                        self.connection = Some(connection);
                        self.device.handle_dialled(id, now);
                    }
                    Err(error) => {
                        self.device.handle_dial_failed(id, transport_failure(&error), now);
                    }
                }
            }
            Input::DialFailed(id, failure) => self.device.handle_dial_failed(id, failure, now),
            Input::Read(id, read) => {
                let Some(connection) = self.connection.as_mut().filter(|c| c.id == id) else {
                    return;
                };
                let device = &mut self.device;
                let read = connection.received(read, |bytes| device.handle_bytes(id, bytes, now));
                if let Err(failure) = read {
                    self.connection = None;
                    self.device.handle_disconnected(id, failure, now);
                }
            }
        }
    }

    fn hang_up(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.hang_up();
        }
    }
}
