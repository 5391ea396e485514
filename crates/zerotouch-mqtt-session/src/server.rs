//! A server of many connections: sessions, takeover, Wills, queues, around a policy.
//!
//! ```text
//!   handle_open, handle_bytes, ─►┌ connections ─► sessions ┐─► poll_action (transmit, close)
//!   handle_closed                │      │            ▲     │
//!   handle_timeout ─────────────►│      ▼ asks       │     │─► poll_event  (what happened)
//!                                │    Broker ──► deliveries│─► poll_timeout
//!                                └─────────────────────────┘
//! ```
//!
//! | state of a session | input | next |
//! |---|---|---|
//! | none | CONNECT | connected |
//! | connected | its connection ends, not clean | parked: what is in flight and queued is kept |
//! | | its connection ends, clean | none |
//! | | CONNECT of the same identifier | its connection is closed; then as below |
//! | parked | CONNECT, not clean | connected: resumed |
//! | | CONNECT, clean | none, then connected |
//! | connected or parked | a message with QoS 1 or 2 for which there is no room | none |

mod config;
mod event;
mod packet;
mod session;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use zerotouch_mqtt_codec::{QoS, SubAckReturnCode};
use zerotouch_time::Instant;

pub use self::config::ServerLimits;
pub use self::event::{BrokerEvent, OpenError, ServerAction};
use self::session::{Link, Sessions};
use crate::CloseReason;
use crate::broker::{Broker, ConnectionId, Deliveries, Delivery, Publication, SessionId, Verdict};
use crate::connection::{ServerConnection, ServerEvent};

/// A server engine: connections by number, bytes and times in, bytes out.
///
/// After each `handle_*`, [`Server::poll_action`] and [`Server::poll_event`] are to be drained and
/// [`Server::poll_timeout`] asked.
#[derive(Debug)]
pub struct Server<B> {
    broker: B,
    limits: ServerLimits,
    connections: BTreeMap<ConnectionId, Connection>,
    sessions: Sessions,
    work: Work,
    codes: Vec<SubAckReturnCode>,
    /// Connections of which the caller has not heard yet that there is something to do.
    ready: BTreeSet<ConnectionId>,
    /// For each connection with a deadline, a time not later than that.
    timers: BTreeSet<(Instant, ConnectionId)>,
    events: VecDeque<BrokerEvent>,
    dropped: u64,
    last_assigned: u64,
}

/// What one packet leaves to do, in order, so that nothing calls itself: a message may end a session,
/// whose Will is another message.
#[derive(Debug, Default)]
struct Work {
    deliveries: Deliveries,
    wills: VecDeque<(SessionId, Publication)>,
    ended: VecDeque<SessionId>,
}

#[derive(Debug)]
struct Connection {
    mqtt: ServerConnection,
    stage: Stage,
    /// Its entry among the timers.
    timer: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    /// No CONNECT was accepted yet.
    Stranger,
    Client {
        session: SessionId,
        will: Option<Publication>,
    },
    /// It is over but for the last bytes, which may take until then.
    Ended {
        linger: Instant,
    },
}

impl<B: Broker> Server<B> {
    /// Without connections and sessions.
    pub fn new(broker: B, limits: ServerLimits) -> Self {
        Self {
            broker,
            limits,
            connections: BTreeMap::new(),
            sessions: Sessions::default(),
            work: Work::default(),
            codes: Vec::new(),
            ready: BTreeSet::new(),
            timers: BTreeSet::new(),
            events: VecDeque::new(),
            dropped: 0,
            last_assigned: 0,
        }
    }

    /// A transport was accepted. If it is not taken, it is to be closed.
    pub fn handle_open(&mut self, id: ConnectionId, now: Instant) -> Result<(), OpenError> {
        if self.connections.contains_key(&id) {
            return Err(OpenError::InUse(id));
        }
        let limit = self.limits.max_connections;
        if self.connections.len() >= limit {
            return Err(OpenError::TooManyConnections { limit });
        }
        let mqtt = ServerConnection::new(&self.limits.connection, now);
        self.connections.insert(id, Connection { mqtt, stage: Stage::Stranger, timer: None });
        self.set_timer(id);
        Ok(())
    }

    /// Bytes arrived. Those for a connection that is over, or unknown, are dropped.
    pub fn handle_bytes(&mut self, id: ConnectionId, mut bytes: &[u8], now: Instant) {
        while let Some(step) = self.next_step(id, &mut bytes, now) {
            self.carry_out(id, step, now);
            self.work_off(now);
        }
        self.settle(id, now);
    }

    /// A transport ended: nothing more can be sent on it.
    pub fn handle_closed(&mut self, id: ConnectionId, now: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.mqtt.handle_closed();
            self.settle(id, now);
            self.forget(id);
        }
    }

    /// The transport took the first `n` bytes of [`Server::poll_transmit`].
    pub fn handle_transmitted(&mut self, id: ConnectionId, n: usize, now: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.mqtt.handle_transmitted(n);
            // What waits still was announced before; what comes now, or the end, was not.
            if connection.mqtt.poll_transmit().is_none() {
                self.settle(id, now);
            }
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((due, id)) = self.timers.first().copied()
            && due <= now
        {
            self.timers.pop_first();
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.timer = None;
            match connection.stage {
                // Whoever does not read the last bytes does without them.
                Stage::Ended { linger } if linger <= now => connection.mqtt.handle_closed(),
                _ => connection.mqtt.handle_timeout(now),
            }
            self.settle(id, now);
        }
    }

    /// What the caller has to do next.
    pub fn poll_action(&mut self) -> Option<ServerAction> {
        while let Some(id) = self.ready.pop_first() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if connection.mqtt.poll_transmit().is_some() {
                return Some(ServerAction::Transmit(id));
            }
            if connection.mqtt.is_closed() {
                self.forget(id);
                return Some(ServerAction::Close(id));
            }
        }
        None
    }

    /// Bytes for a connection's transport; [`Server::handle_transmitted`] tells how many it took.
    pub fn poll_transmit(&mut self, id: ConnectionId) -> Option<&[u8]> {
        self.connections.get_mut(&id)?.mqtt.poll_transmit()
    }

    /// Is this connection open? Once it is not, and [`Server::poll_transmit`] is empty, its transport is
    /// to be closed: for callers that look after one connection each, and so do without actions.
    pub fn is_open(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|connection| !connection.mqtt.is_closed())
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<BrokerEvent> {
        self.events.pop_front()
    }

    /// When [`Server::handle_timeout`] wants to be called: at times somewhat early.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// The policy.
    pub fn broker(&self) -> &B {
        &self.broker
    }

    /// The policy, for what it offers beside its answers.
    pub fn broker_mut(&mut self) -> &mut B {
        &mut self.broker
    }

    /// How many connections are open.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// How many sessions there are, connected or not.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// How many messages were not delivered and do not end a session: those with QoS 0 for a client
    /// that does not read, and those larger than a packet may be.
    pub fn dropped_messages(&self) -> u64 {
        self.dropped
    }
}

/// What follows from a packet.
impl<B: Broker> Server<B> {
    /// Hands out deliveries, ends sessions that have no room for them, publishes their Wills, until
    /// nothing is left to do.
    fn work_off(&mut self, now: Instant) {
        loop {
            if let Some(delivery) = self.work.deliveries.next() {
                self.deliver(delivery, now);
            } else if let Some(session) = self.work.ended.pop_front() {
                self.broker.session_ended(session);
            } else if let Some((session, will)) = self.work.wills.pop_front() {
                let verdict = self.broker.publish(session, &will, &mut self.work.deliveries);
                if verdict == Verdict::Refuse {
                    let topic = will.message.topic().as_str().into();
                    self.events.push_back(BrokerEvent::WillRefused { topic });
                }
            } else {
                return;
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery, now: Instant) {
        let (to, qos) = (delivery.to, delivery.qos);
        let Some(session) = self.sessions.get_mut(to) else { return };
        let connection = match session.link {
            Link::Connected(connection) => Some(connection),
            Link::Parked(_) if qos == QoS::AtMostOnce => return,
            Link::Parked(_) => None,
        };
        if session.queue.push(delivery, &self.limits) {
            if let Some(connection) = connection {
                self.pump(connection);
            }
        } else if qos == QoS::AtMostOnce {
            self.dropped += 1;
        } else {
            // A message that is promised to arrive cannot be dropped in silence: the client learns
            // from CONNACK that its session is gone.
            if let Some(id) = connection {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.mqtt.close();
                }
                self.end(id, CloseReason::SlowPeer, now);
            }
            if let Some(client_id) = self.end_session(to) {
                self.events.push_back(BrokerEvent::SessionDiscarded { client_id });
            }
        }
    }

    /// Sends what waits for a client, as far as there is room.
    fn pump(&mut self, id: ConnectionId) {
        let Some(Connection { mqtt, stage, .. }) = self.connections.get_mut(&id) else { return };
        if let Stage::Client { session, .. } = stage
            && let Some(session) = self.sessions.get_mut(*session)
        {
            self.dropped += session.queue.pump(mqtt);
        }
        self.ready.insert(id);
    }

    /// Brings a connection in order after it was touched.
    fn settle(&mut self, id: ConnectionId, now: Instant) {
        while let Some(event) =
            self.connections.get_mut(&id).and_then(|connection| connection.mqtt.poll_event())
        {
            if let ServerEvent::Closed(reason) = event {
                self.end(id, reason, now);
            }
        }
        self.work_off(now);
        self.pump(id);
        self.set_timer(id);
    }

    /// A connection is over, but for its last bytes.
    fn end(&mut self, id: ConnectionId, reason: CloseReason, now: Instant) {
        let linger = now + self.limits.linger;
        let Some(Connection { mqtt, stage, .. }) = self.connections.get_mut(&id) else { return };
        let client_id = match core::mem::replace(stage, Stage::Ended { linger }) {
            Stage::Ended { linger } => {
                *stage = Stage::Ended { linger };
                return;
            }
            Stage::Stranger => None,
            Stage::Client { session: session_id, will } => {
                let state = mqtt.take_session();
                let session = self.sessions.get_mut(session_id);
                let client_id = session.as_ref().map(|session| session.client_id.clone());
                match session {
                    Some(session) if session.persistent => {
                        session.link = Link::Parked(state);
                        session.queue.drop_at_most_once();
                    }
                    _ => drop(self.end_session(session_id)),
                }
                // [MQTT-3.1.2-8], [MQTT-3.1.2-10], [MQTT-3.14.4-3]
                if let Some(will) = will.filter(|_| reason != CloseReason::Disconnected) {
                    self.work.wills.push_back((session_id, will));
                }
                client_id
            }
        };
        self.ready.insert(id);
        self.set_timer(id);
        self.events.push_back(BrokerEvent::Closed { connection: id, client_id, reason });
    }

    /// Ends a session and names its client.
    fn end_session(&mut self, id: SessionId) -> Option<String> {
        let session = self.sessions.end(id)?;
        self.work.ended.push_back(id);
        Some(session.client_id)
    }

    /// Deadlines mostly move away, with each packet: only one that comes nearer is entered, and one
    /// that comes too early is looked at again.
    fn set_timer(&mut self, id: ConnectionId) {
        let Some(Connection { mqtt, stage, timer }) = self.connections.get_mut(&id) else { return };
        let due = match stage {
            Stage::Ended { linger } => mqtt.poll_transmit().map(|_| *linger),
            _ => mqtt.poll_timeout(),
        };
        if let Some(due) = due
            && timer.is_none_or(|timer| due < timer)
        {
            if let Some(timer) = timer.replace(due) {
                self.timers.remove(&(timer, id));
            }
            self.timers.insert((due, id));
        }
    }

    fn forget(&mut self, id: ConnectionId) {
        if let Some(Connection { timer: Some(timer), .. }) = self.connections.remove(&id) {
            self.timers.remove(&(timer, id));
        }
        self.ready.remove(&id);
    }
}
