//! The loop between the engine and the world.

use std::future::pending;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use zerotouch_device::{Action, ConnectionId, Device, Event, State};
use zerotouch_driver::{Clock, Command, DeviceRng, Dialler, Waiters};
use zerotouch_store::{Change, Store, StoreError};

use crate::connection::{Connection, Outcome, READ_BUFFER};

pub(crate) struct Driver {
    device: Device<DeviceRng>,
    store: Option<Box<dyn Store + Send>>,
    dialler: Dialler,
    clock: Clock,
    connection: Connection,
    /// `None` once the last handle is gone.
    commands: Option<mpsc::Receiver<Command>>,
    events: broadcast::Sender<Event>,
    states: watch::Sender<State>,
    /// The last field: see [`Waiters::stop`].
    waiters: Waiters,
}

/// What the loop was woken by.
enum Woken {
    Command(Option<Command>),
    Connection(Outcome),
    Time,
}

impl Driver {
    pub(crate) fn new(
        (device, waiters): (Device<DeviceRng>, Waiters),
        store: Box<dyn Store + Send>,
        dialler: Dialler,
        (commands, events, states): (
            mpsc::Receiver<Command>,
            broadcast::Sender<Event>,
            watch::Sender<State>,
        ),
        clock: Clock,
    ) -> Self {
        Self {
            device,
            store: Some(store),
            dialler,
            clock,
            connection: Connection::None,
            commands: Some(commands),
            events,
            states,
            waiters,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut buffer = vec![0; READ_BUFFER];
        self.device.start(self.clock.now());
        loop {
            self.act().await;
            if let Some(write) = self.waiters.poll_write() {
                let written = spawn_blocking(|| write.run()).await.ok();
                self.waiters.written(&mut self.device, written, self.clock.now());
                continue;
            }
            self.waiters.measure(&self.device, self.clock.now());
            if self.device.state() == State::Stopped {
                return;
            }
            let deadline = self.device.poll_timeout().map(|due| self.clock.until(due));
            let timer = async {
                match deadline {
                    Some(duration) => sleep(duration).await,
                    None => pending().await,
                }
            };
            let commands = &mut self.commands;
            let command = async {
                match commands {
                    Some(commands) => commands.recv().await,
                    None => pending().await,
                }
            };
            let woken = tokio::select! {
                outcome = self.connection.next(self.device.poll_transmit(), &mut buffer) => Woken::Connection(outcome),
                command = command => Woken::Command(command),
                () = timer => Woken::Time,
            };
            let now = self.clock.now();
            match woken {
                Woken::Time => self.device.handle_timeout(now),
                Woken::Command(command) => self.command(command),
                Woken::Connection(outcome) => match outcome {
                    Outcome::Dialled(id) => self.device.handle_dialled(id, now),
                    Outcome::DialFailed(id, failure) => {
                        self.device.handle_dial_failed(id, failure, now);
                    }
                    Outcome::Received(id, n) => self.received(id, &buffer[..n]),
                    Outcome::Sent(n) => self.device.handle_transmitted(n, now),
                    Outcome::Ended(id, failure) => {
                        self.device.handle_disconnected(id, failure, now);
                    }
                },
            }
        }
    }

    fn received(&mut self, id: ConnectionId, bytes: &[u8]) {
        let (device, now) = (&mut self.device, self.clock.now());
        let received = self.connection.received(bytes, |mqtt| device.handle_bytes(id, mqtt, now));
        if let Err(failure) = received {
            self.device.handle_disconnected(id, failure, now);
        }
    }

    /// Does what the engine asks until it asks no more.
    async fn act(&mut self) {
        loop {
            while let Some(event) = self.device.poll_event() {
                if let Event::StateChanged(state) = &event {
                    self.states.send_replace(state.clone());
                }
                self.waiters.observe(&event, self.clock.now());
                // Nobody need listen.
                let _ = self.events.send(event);
            }
            match self.device.poll_action() {
                None => return,
                Some(Action::Dial(dial)) => {
                    self.connection = Connection::dial(&self.dialler, &dial);
                }
                Some(Action::HangUp(_)) => self.connection.hang_up(),
                Some(Action::Store(change)) => {
                    let result = self.apply(change).await;
                    self.device.handle_stored(result, self.clock.now());
                }
                Some(_) => {}
            }
        }
    }

    /// A store waits for the disk, so it does so on a thread that may wait.
    async fn apply(&mut self, change: Change) -> Result<(), StoreError> {
        let lost = || StoreError::Other("the store panicked and is lost".into());
        let mut store = self.store.take().ok_or_else(lost)?;
        let applied = spawn_blocking(move || {
            let result = store.apply(&change);
            (store, result)
        });
        let (store, result) = applied.await.map_err(|_| lost())?;
        self.store = Some(store);
        result
    }

    fn command(&mut self, command: Option<Command>) {
        let now = self.clock.now();
        let Some(command) = command else {
            self.commands = None;
            return self.device.close(now);
        };
        self.waiters.command(&mut self.device, command, now);
        // Messages that come together wait for the disk together.
        while let Some(Ok(command)) = self.commands.as_mut().map(mpsc::Receiver::try_recv) {
            self.waiters.command(&mut self.device, command, now);
        }
    }
}
