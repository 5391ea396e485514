//! A driver for a device without an operating system: `core`, `alloc`, one loop. It is built twice, for
//! this machine by `main.rs` and without std, over a heap of [`HEAP`], by `cargo xtask no-std`.

use rand_core::CryptoRng;
use zerotouch_device::{
    Action, Config, ConnectionId, Device, Event, TlsIdentity, TransportFailure,
    TransportFailureKind,
};
use zerotouch_store::{Identity, MemoryStore, Store};
use zerotouch_time::{Instant, Now};

/// What the allocator has to give out, in bytes: enough for a whole life, with a third to spare.
pub(crate) const HEAP: usize = 64 * 1024;

/// How much is read at a time, in bytes.
const RECEIVE_BUFFER: usize = 512;

/// What a board has to offer: a clock, and one connection of a modem or a stack that speaks TLS.
pub(crate) trait Board {
    /// What both clocks say.
    fn now(&self) -> Now;
    /// Connects with TLS, presenting `identity`. Blocks.
    fn dial(&mut self, host: &str, port: u16, identity: Option<&TlsIdentity>) -> bool;
    /// Closes the connection.
    fn hang_up(&mut self);
    /// Sends as much as it takes now, and says how much.
    fn transmit(&mut self, bytes: &[u8]) -> usize;
    /// Receives what is there now; `None` once the connection has ended.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize>;
    /// Sleeps until then, or until there is something to receive.
    fn sleep(&mut self, until: Option<Instant>);
}

/// A device, where it keeps its identity, and its one connection.
pub(crate) struct Firmware<R> {
    /// The engine, for the application's commands.
    pub(crate) device: Device<R>,
    /// In a product this is flash: see `zerotouch_store::Store`.
    store: MemoryStore,
    connection: Option<ConnectionId>,
    received: [u8; RECEIVE_BUFFER],
}

impl<R: CryptoRng> Firmware<R> {
    /// A device that begins to live with the first turn.
    pub(crate) fn new(mut config: Config, rng: R) -> Self {
        // An answer with three certificates has some 3 KiB.
        config.mqtt.max_packet_size = 8 * 1024;
        config.mqtt.max_transmit_buffer = 4 * 1024;
        config.mqtt.max_in_flight = 4;
        let device = Device::new(config, Identity::default(), rng);
        let (store, received) = (MemoryStore::new(), [0; RECEIVE_BUFFER]);
        Self { device, store, connection: None, received }
    }

    /// One turn of the loop: does what the device asks, moves bytes, sleeps. `on_event` gets what
    /// happened.
    pub(crate) fn turn(
        &mut self,
        board: &mut impl Board,
        mut on_event: impl FnMut(&mut Device<R>, Event),
    ) {
        self.device.start(board.now());
        while let Some(event) = self.device.poll_event() {
            on_event(&mut self.device, event);
        }
        if let Some(action) = self.device.poll_action() {
            return self.act(action, board);
        }
        let Self { device, connection, received, .. } = self;
        if let Some(id) = *connection {
            if let Some(bytes) = device.poll_transmit() {
                let taken = board.transmit(bytes);
                return device.handle_transmitted(taken, board.now());
            }
            match board.receive(received) {
                Some(0) => {}
                Some(n) => return device.handle_bytes(id, &received[..n], board.now()),
                None => {
                    *connection = None;
                    let ended = TransportFailure::closed();
                    return device.handle_disconnected(id, ended, board.now());
                }
            }
        }
        board.sleep(device.poll_timeout());
        let now = board.now();
        if device.poll_timeout().is_some_and(|due| due <= now.monotonic) {
            device.handle_timeout(now);
        }
    }

    fn act(&mut self, action: Action, board: &mut impl Board) {
        match action {
            Action::Dial(dial) => {
                let id = dial.connection;
                if board.dial(&dial.host, dial.port, dial.identity.as_ref()) {
                    self.connection = Some(id);
                    self.device.handle_dialled(id, board.now());
                } else {
                    let kind = TransportFailureKind::Unreachable;
                    let failure = TransportFailure::new(kind, "no connection");
                    self.device.handle_dial_failed(id, failure, board.now());
                }
            }
            Action::HangUp(_) => {
                self.connection = None;
                board.hang_up();
            }
            Action::Store(change) => {
                let stored = self.store.apply(&change);
                self.device.handle_stored(stored, board.now());
            }
            _ => {}
        }
    }
}
