//! Two devices in one thread, on readiness alone: no runtime, no task, one loop.
//!
//!     cargo run -p zerotouch-driver --example mio

mod cloud;

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::ToSocketAddrs;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use zerotouch_device::{Action, ConnectionId, Device, Event, State, TransportFailure};
use zerotouch_driver::{
    Channel, Clock, DeviceRng, Dialler, Way, Ways, device_rng, transport_failure,
};
use zerotouch_hub::Telemetry;
use zerotouch_store::{MemoryStore, Store};

use cloud::LocalCloud;

/// A device and its one connection.
struct Node {
    token: Token,
    device: Device<DeviceRng>,
    store: MemoryStore,
    dialler: Dialler,
    connection: Option<Connection>,
}

struct Connection {
    id: ConnectionId,
    tcp: TcpStream,
    stage: Stage,
}

enum Stage {
    /// Boxed, as it is there for a moment only.
    Dialling(Box<(Ways, Way)>),
    Open(Box<Channel>),
}

/// Provisions, connects and closes two devices, each of which sends one message.
pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let cloud = LocalCloud::start()?;
    let (clock, mut poll) = (Clock::new(), Poll::new()?);
    let mut nodes = Vec::new();
    for (index, id) in ["mio-1", "mio-2"].into_iter().enumerate() {
        let mut store = MemoryStore::new();
        let device = Device::new(cloud.config(id)?, store.load()?, device_rng()?);
        let (token, dialler) = (Token(index), cloud.dialler()?);
        nodes.push(Node { token, device, store, dialler, connection: None });
    }
    for node in &mut nodes {
        node.device.start(clock.now());
    }
    let mut ready = Events::with_capacity(16);
    loop {
        for node in &mut nodes {
            node.act(&clock, poll.registry())?;
        }
        if nodes.iter().all(|node| node.device.state() == State::Stopped) {
            break;
        }
        let due = nodes.iter().filter_map(|node| node.device.poll_timeout()).min();
        poll.poll(&mut ready, due.map(|due| clock.until(due)))?;
        for event in &ready {
            nodes[event.token().0].ready(&clock);
        }
        let now = clock.now();
        for node in &mut nodes {
            if node.device.poll_timeout().is_some_and(|due| due <= now.monotonic) {
                node.device.handle_timeout(now);
            }
        }
    }
    let mut heard = cloud.heard();
    heard.sort();
    if heard != ["mio-1", "mio-2"] {
        return Err(format!("the cloud has heard {heard:?}").into());
    }
    Ok(())
}

impl Node {
    /// Does what the device asks until it asks no more.
    fn act(&mut self, clock: &Clock, registry: &Registry) -> Result<(), Box<dyn Error>> {
        loop {
            while let Some(event) = self.device.poll_event() {
                println!("{}: {event:?}", self.token.0);
                match event {
                    Event::Connected { .. } => {
                        self.device.send_telemetry(Telemetry::new("21.5"), clock.now())?;
                    }
                    Event::TelemetryAcknowledged(_) => self.device.close(clock.now()),
                    _ => {}
                }
            }
            match self.device.poll_action() {
                Some(Action::Dial(dial)) => {
                    let id = dial.connection;
                    let dialled =
                        self.dialler.ways(&dial).and_then(|ways| self.go(id, ways, registry));
                    if let Err(failure) = dialled {
                        self.device.handle_dial_failed(id, failure, clock.now());
                    }
                }
                Some(Action::HangUp(_)) => {
                    if let Some(Connection { mut tcp, stage: Stage::Open(mut channel), .. }) =
                        self.connection.take()
                    {
                        channel.close();
                        // The peer may be gone, or the socket full: it need not hear it.
                        let _ = flush(&mut tcp, &mut channel);
                    }
                }
                Some(Action::Store(change)) => {
                    let stored = self.store.apply(&change);
                    self.device.handle_stored(stored, clock.now());
                }
                Some(_) => {}
                None if self.transmit(clock) => {}
                None => return Ok(()),
            }
        }
    }

    /// Begins to connect. A driver for more than an example resolves names elsewhere, tries every address
    /// and every way.
    fn go(
        &mut self,
        id: ConnectionId,
        mut ways: Ways,
        registry: &Registry,
    ) -> Result<(), TransportFailure> {
        let Some(way) = ways.next_way() else { return Err(ways.into_failure()) };
        let failed = |error: io::Error| transport_failure(&error);
        let mut addresses = (way.host.as_str(), way.port).to_socket_addrs().map_err(failed)?;
        let address = addresses.next().ok_or_else(|| failed(ErrorKind::NotFound.into()))?;
        let mut tcp = TcpStream::connect(address).map_err(failed)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut tcp, self.token, interest).map_err(failed)?;
        let stage = Stage::Dialling(Box::new((ways, way)));
        self.connection = Some(Connection { id, tcp, stage });
        Ok(())
    }

    /// Sends what the device wants sent; `false` if that is nothing, or the socket is full.
    fn transmit(&mut self, clock: &Clock) -> bool {
        let Some(Connection { tcp, stage: Stage::Open(channel), .. }) = &mut self.connection else {
            return false;
        };
        // What breaks here is heard when reading.
        let _ = flush(tcp, channel);
        let Some(bytes) = self.device.poll_transmit() else { return false };
        let taken = channel.send(bytes).unwrap_or(0);
        self.device.handle_transmitted(taken, clock.now());
        taken > 0
    }

    /// The socket can be read or written, or has failed.
    fn ready(&mut self, clock: &Clock) {
        let Some(connection) = &mut self.connection else { return };
        let (id, now) = (connection.id, clock.now());
        let device = &mut self.device;
        let moved = connection.read(|mqtt| device.handle_bytes(id, mqtt, now));
        match (moved, self.connection.take()) {
            (Ok(()), Some(Connection { tcp, stage: Stage::Dialling(dialling), .. }))
                if dialling.1.channel.is_open() =>
            {
                let (ways, way) = *dialling;
                let stage = Stage::Open(ways.succeeded(way));
                self.connection = Some(Connection { id, tcp, stage });
                self.device.handle_dialled(id, now);
            }
            (Ok(()), connection) => self.connection = connection,
            (Err(failure), Some(Connection { stage: Stage::Dialling(_), .. })) => {
                self.device.handle_dial_failed(id, failure, now);
            }
            (Err(failure), _) => self.device.handle_disconnected(id, failure, now),
        }
    }
}

impl Connection {
    /// Reads all there is, as mio tells only once of it.
    fn read(&mut self, mut on_bytes: impl FnMut(&[u8])) -> Result<(), TransportFailure> {
        let channel = match &mut self.stage {
            Stage::Dialling(dialling) => &mut dialling.1.channel,
            Stage::Open(channel) => channel,
        };
        let mut buffer = [0; 4096];
        loop {
            flush(&mut self.tcp, channel).map_err(|error| transport_failure(&error))?;
            match self.tcp.read(&mut buffer) {
                Ok(0) => return Err(TransportFailure::closed()),
                Ok(n) => {
                    let handled = channel.handle_bytes(&buffer[..n], &mut on_bytes);
                    if handled.is_err() {
                        let _ = flush(&mut self.tcp, channel);
                    }
                    handled?;
                }
                Err(error) if is_not_yet(&error) => return Ok(()),
                Err(error) => return Err(transport_failure(&error)),
            }
        }
    }
}

fn flush(tcp: &mut TcpStream, channel: &mut Channel) -> io::Result<()> {
    while let Some(bytes) = channel.poll_transmit() {
        match tcp.write(bytes) {
            Ok(n) => channel.handle_transmitted(n),
            Err(error) if is_not_yet(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The socket is empty, full, or not connected yet.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}
