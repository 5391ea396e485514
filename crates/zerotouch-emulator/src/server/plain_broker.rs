//! A plain MQTT broker behind sockets, without TLS: for tests of clients and of this one's engines.

use std::future::ready;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use zerotouch_mqtt_session::{BrokerEvent, ConnectionId, PlainBroker, Server, ServerAction};
pub use zerotouch_mqtt_session::{PlainBrokerConfig, ServerConfig, ServerLimits};
use zerotouch_time::{Instant, Now};

use super::StartError;
use super::engine::{Engine, Transmit};
use super::host::{Host, listen};
use crate::event_log::{EventLog, Logged};

/// The port of MQTT without TLS.
pub const PLAIN_MQTT_PORT: u16 = 1883;

/// The most that is handed to a socket at once.
const CHUNK: usize = 64 * 1024;

/// A running broker: MQTT 3.1.1 in plaintext, on the loopback interface and nowhere else. Everyone may
/// connect; sessions and retained messages live as long as it does. Dropping it closes its connections
/// and frees its port.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use std::time::Duration;
/// use zerotouch_emulator::PlainBrokerServer;
/// use zerotouch_emulator::server::PlainBrokerEvent;
///
/// let broker = PlainBrokerServer::builder().start()?;
/// let mut socket = TcpStream::connect(broker.address())?;
/// socket.write_all(b"\x10\x0D\0\x04MQTT\x04\x02\0\x3C\0\x01c")?; // CONNECT of client c
/// let mut connack = [0; 4];
/// socket.read_exact(&mut connack)?;
/// assert_eq!(connack, *b"\x20\x02\0\0");
///
/// let event = broker.next_event(Duration::from_secs(10));
/// assert!(matches!(event, Some(PlainBrokerEvent::Connected { client_id, .. }) if client_id == "c"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PlainBrokerServer(Host<Broker>);

/// How a broker shall be.
#[derive(Clone, Debug)]
pub struct PlainBrokerServerBuilder {
    port: u16,
    config: PlainBrokerConfig,
    limits: ServerLimits,
}

impl PlainBrokerServerBuilder {
    /// The port of the loopback interface to listen on; default 0, a free one. Clients dial
    /// [`PLAIN_MQTT_PORT`] unless told otherwise.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// What may be subscribed and retained; default [`PlainBrokerConfig::default`].
    #[must_use]
    pub fn config(mut self, config: PlainBrokerConfig) -> Self {
        self.config = config;
        self
    }

    /// What connections and sessions may use up; default [`ServerLimits::default`], but packets of up
    /// to 256 MiB, and queues of 100,000 messages and 256 MiB: whoever tests a client sends it more
    /// than a device would.
    #[must_use]
    pub fn limits(mut self, limits: ServerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Starts it; when this returns it accepts connections.
    pub fn start(self) -> Result<PlainBrokerServer, StartError> {
        let listener = listen(&format!("127.0.0.1:{}", self.port))?;
        let max_connections = self.limits.max_connections;
        let engine = Broker {
            server: Server::new(PlainBroker::new(self.config), self.limits),
            events: EventLog::default(),
        };
        let plaintext = |_: &_| |stream| ready(Ok(Some((stream, ()))));
        Host::start(engine, vec![listener], plaintext, max_connections).map(PlainBrokerServer)
    }
}

impl PlainBrokerServer {
    /// A broker on a free port.
    pub fn builder() -> PlainBrokerServerBuilder {
        let defaults = ServerLimits::default();
        let limits = ServerLimits {
            connection: ServerConfig { max_packet_size: 256 * 1024 * 1024, ..defaults.connection },
            max_queued: 100_000,
            max_queued_bytes: 256 * 1024 * 1024,
            ..defaults
        };
        PlainBrokerServerBuilder { port: 0, config: PlainBrokerConfig::default(), limits }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.0.address.port()
    }

    /// The next thing that happened, waiting for it no longer than `timeout`.
    pub fn next_event(&self, timeout: Duration) -> Option<PlainBrokerEvent> {
        self.0.shared.next_event(timeout)
    }
}

/// What happened at a broker. Serialises to one JSON object whose member `event` names the variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum PlainBrokerEvent {
    /// A client was let in.
    Connected {
        /// Counts connections.
        connection: u64,
        /// Its identifier, its own or one assigned.
        client_id: String,
        /// Whether it went on with a session it had.
        session_present: bool,
    },
    /// A connection ended.
    Closed {
        /// Which.
        connection: u64,
        /// Whose, if it got that far.
        client_id: Option<String>,
        /// Why.
        reason: String,
    },
    /// A session was ended because a message had no room in its queue.
    SessionDiscarded {
        /// Whose it was.
        client_id: String,
    },
    /// There was no room to retain a Will.
    WillRefused {
        /// What it would have been published to.
        topic: String,
    },
    /// So many events before this one were dropped because nobody fetched them.
    Missed {
        /// How many.
        count: u64,
    },
}

impl PlainBrokerEvent {
    /// `None` for what is not told.
    fn new(event: BrokerEvent) -> Option<Self> {
        Some(match event {
            BrokerEvent::Connected { connection, client_id, session_present } => {
                Self::Connected { connection: connection.0, client_id, session_present }
            }
            BrokerEvent::Closed { connection, client_id, reason } => {
                Self::Closed { connection: connection.0, client_id, reason: reason.to_string() }
            }
            BrokerEvent::SessionDiscarded { client_id } => Self::SessionDiscarded { client_id },
            BrokerEvent::WillRefused { topic } => Self::WillRefused { topic },
            _ => return None,
        })
    }
}

impl Logged for PlainBrokerEvent {
    fn payload_bytes(&self) -> usize {
        match self {
            Self::Connected { client_id: text, .. }
            | Self::Closed { client_id: Some(text), .. }
            | Self::SessionDiscarded { client_id: text }
            | Self::WillRefused { topic: text } => text.len(),
            Self::Closed { client_id: None, .. } | Self::Missed { .. } => 0,
        }
    }

    fn missed(count: u64) -> Self {
        Self::Missed { count }
    }
}

/// The engine, and what it has told.
#[derive(Debug)]
struct Broker {
    server: Server<PlainBroker>,
    events: EventLog<PlainBrokerEvent>,
}

impl Engine for Broker {
    type Peer = ();
    type Event = PlainBrokerEvent;

    fn handle_open(&mut self, id: ConnectionId, (): (), now: Now) -> bool {
        self.server.handle_open(id, now.monotonic).is_ok()
    }

    fn handle_bytes(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        self.server.handle_bytes(id, bytes, now.monotonic);
    }

    fn handle_closed(&mut self, id: ConnectionId, now: Now) {
        self.server.handle_closed(id, now.monotonic);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.server.handle_timeout(now.monotonic);
    }

    fn transmit(&mut self, id: ConnectionId, chunk: &mut Vec<u8>, now: Now) -> Transmit {
        if !chunk.is_empty() {
            self.server.handle_transmitted(id, chunk.len(), now.monotonic);
            chunk.clear();
        }
        if let Some(bytes) = self.server.poll_transmit(id) {
            chunk.extend_from_slice(&bytes[..bytes.len().min(CHUNK)]);
            return Transmit::Write;
        }
        if self.server.is_open(id) { Transmit::Wait } else { Transmit::Close }
    }

    fn settle(&mut self, ready: &mut Vec<ConnectionId>, _: Now) {
        while let Some(action) = self.server.poll_action() {
            let (ServerAction::Transmit(id) | ServerAction::Close(id)) = action;
            ready.push(id);
        }
        while let Some(event) = self.server.poll_event() {
            if let Some(event) = PlainBrokerEvent::new(event) {
                self.events.push(event);
            }
        }
    }

    fn poll_event(&mut self) -> Option<PlainBrokerEvent> {
        self.events.pop()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.server.poll_timeout()
    }
}
