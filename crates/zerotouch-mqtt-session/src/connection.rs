//! One connection, seen from the server.
//!
//! | state | input | next |
//! |---|---|---|
//! | `Waiting` | CONNECT | `Deciding`: the policy answers with `accept` or `refuse` |
//! | | a first byte that is not CONNECT's, the deadline | `Closed` |
//! | | CONNECT of another protocol level, or an empty id that must not be | CONNACK 1 or 2, `Closed` |
//! | `Deciding` | `accept` | `Connected` |
//! | | `refuse` | CONNACK 2–5, `Closed` |
//! | `Connected` | packets | `Connected`; the policy answers |
//! | | DISCONNECT, silence for 1.5 times the keep-alive or too long, a violation, `close` | `Closed` |
//!
//! The engine keeps the protocol; who may connect, what may be subscribed and where a message goes
//! is the policy's, which answers each event before it feeds more bytes.

use alloc::collections::VecDeque;
use core::time::Duration;

use zerotouch_mqtt_codec::{
    ConnAck, Connect, ConnectRefusal, DecodeErrorKind, Decoder, Framer, Packet, PacketIdentifier,
    PacketType, Publish, QoS, Sender, SubAck, SubAckReturnCode, SubAckReturnCodes, Subscribe,
    TopicName, Unsubscribe,
};
use zerotouch_time::Instant;

use crate::incoming::{Incoming, Received};
use crate::outbox::Outbox;
use crate::outgoing::{Acknowledged, Outgoing};
use crate::{CloseReason, PublishError, PublishHandle, Violation};

/// Limits and deadlines of a connection.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The largest packet taken or sent, in bytes; default 320 KiB.
    pub max_packet_size: u32,
    /// How many messages to the client may await acknowledgement; default 64.
    pub max_in_flight: u16,
    /// How many received QoS 2 messages may await release, and how many of QoS 1 or 2 the policy's
    /// acknowledgement; default 64.
    pub max_unreleased: u16,
    /// How many bytes may wait for the transport before a publish is refused; default 1 MiB.
    pub max_transmit_buffer: usize,
    /// How long CONNECT may take; default 30 s.
    pub connect_timeout: Duration,
    /// How long a client may be silent whatever keep-alive it asked for, and if it asked for none;
    /// default without a limit.
    pub max_silence: Option<Duration>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_packet_size: 320 * 1024,
            max_in_flight: 64,
            max_unreleased: 64,
            max_transmit_buffer: 1024 * 1024,
            connect_timeout: Duration::from_secs(30),
            max_silence: None,
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServerEvent<'a> {
    /// A client introduces itself: answer with [`ServerConnection::accept`] or
    /// [`ServerConnection::refuse`]. No more input is taken before.
    Connect(Connect<'a>),
    /// A message: answer with [`ServerConnection::acknowledge`] once it is taken, in the order in which
    /// messages came. QoS 2 messages come once however often they are sent.
    Publish(Publish<'a>),
    /// Filters: answer with [`ServerConnection::suback`].
    Subscribe(Subscribe<'a>),
    /// Filters: answer with [`ServerConnection::unsuback`].
    Unsubscribe(Unsubscribe<'a>),
    /// A message of the server's was acknowledged in full.
    Acknowledged(PublishHandle),
    /// The connection ended. What is still to transmit has to be, then the transport is closed. The
    /// Will is due unless the reason is [`CloseReason::Disconnected`].
    Closed(CloseReason),
    /// A packet was taken that means nothing to the policy.
    Progress,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waiting {
        deadline: Instant,
    },
    Deciding {
        keep_alive: Duration,
        clean_session: bool,
    },
    /// `max_silence` is what the keep-alive allows, or the policy.
    Connected {
        max_silence: Option<Duration>,
        last_received: Instant,
    },
    Closed,
}

/// What of a session outlives its connection: messages in flight to the client, and the identifiers
/// of exactly-once messages from it that are not released. See [`ServerConnection::take_session`].
#[derive(Debug)]
pub struct SessionState {
    outgoing: Outgoing,
    incoming: Incoming,
}

impl SessionState {
    /// How many messages to the client await acknowledgement.
    pub fn in_flight(&self) -> usize {
        self.outgoing.len()
    }
}

/// The server side of one connection.
#[derive(Debug)]
pub struct ServerConnection {
    framer: Framer,
    core: Core,
}

#[derive(Debug)]
struct Core {
    state: State,
    max_silence: Option<Duration>,
    outbox: Outbox,
    outgoing: Outgoing,
    incoming: Incoming,
    events: VecDeque<ServerEvent<'static>>,
}

impl ServerConnection {
    /// A transport was accepted; CONNECT is awaited from now.
    pub fn new(config: &ServerConfig, now: Instant) -> Self {
        let decoder = Decoder::from_sender(Sender::Client).max_packet_size(config.max_packet_size);
        Self {
            framer: Framer::new(decoder),
            core: Core {
                state: State::Waiting { deadline: now + config.connect_timeout },
                max_silence: config.max_silence,
                outbox: Outbox::new(config.max_transmit_buffer),
                outgoing: Outgoing::new(config.max_in_flight, config.max_packet_size),
                incoming: Incoming::new(config.max_unreleased),
                events: VecDeque::new(),
            },
        }
    }

    /// Takes at most one packet off the front of `input` and tells what it meant; `None` once the
    /// input is used up, or while CONNECT awaits its answer. To be called until then.
    pub fn handle_bytes<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        now: Instant,
    ) -> Option<ServerEvent<'a>> {
        match self.core.state {
            State::Deciding { .. } => return None,
            State::Closed => {
                *input = &[];
                return None;
            }
            // The first byte decides, before anything is buffered for a stranger.
            State::Waiting { .. }
                if !self.framer.is_mid_packet()
                    && input
                        .first()
                        .is_some_and(|first| first >> 4 != PacketType::Connect as u8) =>
            {
                let violation = Violation::FirstPacketNotConnect;
                return Some(self.core.close(CloseReason::Violation(violation)));
            }
            _ => {}
        }
        match self.framer.next_packet(input) {
            Ok(None) => None,
            Ok(Some(packet)) => Some(self.core.handle_packet(packet, now)),
            Err(error) => {
                let unsupported =
                    matches!(error.kind(), DecodeErrorKind::UnsupportedProtocolLevel(_));
                if unsupported && matches!(self.core.state, State::Waiting { .. }) {
                    Some(self.core.refuse(ConnectRefusal::UnacceptableProtocolVersion))
                } else {
                    Some(self.core.close(CloseReason::Malformed(error)))
                }
            }
        }
    }

    /// Accepts the client of [`ServerEvent::Connect`]. A session is never present if the client asked
    /// for a clean one `[MQTT-3.2.2-1]`.
    pub fn accept(&mut self, session_present: bool, now: Instant) {
        if let State::Deciding { keep_alive, clean_session } = self.core.state {
            let session_present = session_present && !clean_session;
            // [MQTT-3.1.2-24]: one and a half times the interval.
            let asked_for = (!keep_alive.is_zero()).then(|| keep_alive * 3 / 2);
            let max_silence = asked_for.into_iter().chain(self.core.max_silence).min();
            self.core.state = State::Connected { max_silence, last_received: now };
            self.core.answer(Packet::ConnAck(ConnAck::Accepted { session_present }));
        }
    }

    /// Accepts the client of [`ServerEvent::Connect`] and goes on with its session: what it has not
    /// acknowledged is sent again, in order, behind CONNACK `[MQTT-4.4.0-1]`. A client that asked for a
    /// clean session gets one, and `session` is dropped.
    pub fn resume(&mut self, session: SessionState, now: Instant) {
        let State::Deciding { clean_session, .. } = self.core.state else { return };
        self.accept(true, now);
        if !clean_session {
            self.core.outgoing.adopt(session.outgoing);
            self.core.incoming.adopt(session.incoming);
            if self.core.outgoing.resend(&mut self.core.outbox).is_err() {
                self.end(CloseReason::SlowPeer);
            }
        }
    }

    /// Takes the session's state out, for [`ServerConnection::resume`] on the client's next
    /// connection. To be called once this one is closed; it has none left afterwards.
    pub fn take_session(&mut self) -> SessionState {
        let Core { outgoing, incoming, .. } = &mut self.core;
        let mut kept = Incoming::new(incoming.limit());
        let mut sent = outgoing.emptied();
        core::mem::swap(incoming, &mut kept);
        core::mem::swap(outgoing, &mut sent);
        kept.forget_owed();
        SessionState { outgoing: sent, incoming: kept }
    }

    /// Refuses the client of [`ServerEvent::Connect`]: CONNACK, then the end.
    pub fn refuse(&mut self, refusal: ConnectRefusal) {
        if matches!(self.core.state, State::Deciding { .. }) {
            let closed = self.core.refuse(refusal);
            self.core.events.push_back(closed);
        }
    }

    /// The policy has taken the message: PUBACK or, for QoS 2, PUBREC. Nothing happens if no message
    /// of that identifier awaits it.
    pub fn acknowledge(&mut self, id: PacketIdentifier) {
        if let Some(answer) = self.core.incoming.take(id) {
            self.core.answer(answer);
        }
    }

    /// Answers a SUBSCRIBE with one code for each of its filters.
    pub fn suback(&mut self, id: PacketIdentifier, codes: &[SubAckReturnCode]) {
        if let Some(return_codes) = SubAckReturnCodes::new(codes) {
            self.core.answer(Packet::SubAck(SubAck { id, return_codes }));
        }
    }

    /// Answers an UNSUBSCRIBE.
    pub fn unsuback(&mut self, id: PacketIdentifier) {
        self.core.answer(Packet::UnsubAck(id));
    }

    /// Sends a message to the client. `None` for QoS 0, which nothing completes.
    pub fn publish(
        &mut self,
        topic: TopicName<'_>,
        payload: &[u8],
        qos: QoS,
        retain: bool,
    ) -> Result<Option<PublishHandle>, PublishError> {
        let Core { state: State::Connected { .. }, outgoing, outbox, .. } = &mut self.core else {
            return Err(PublishError::NotConnected);
        };
        outgoing.publish(topic, payload, (qos, retain), outbox)
    }

    /// Ends the connection; what waits is transmitted first.
    pub fn close(&mut self) {
        self.end(CloseReason::Closed);
    }

    /// The transport ended.
    pub fn handle_closed(&mut self) {
        self.core.outbox.clear();
        self.end(if self.framer.is_mid_packet() {
            CloseReason::Truncated
        } else {
            CloseReason::Ended
        });
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        self.core.outbox.clear();
        self.end(match self.core.state {
            State::Connected { .. } => CloseReason::KeepAliveTimeout,
            _ => CloseReason::HandshakeTimeout(PacketType::Connect),
        });
    }

    fn end(&mut self, reason: CloseReason) {
        if !self.is_closed() {
            self.core.state = State::Closed;
            self.core.events.push_back(ServerEvent::Closed(reason));
        }
    }

    /// The next event that no packet brought.
    pub fn poll_event(&mut self) -> Option<ServerEvent<'static>> {
        self.core.events.pop_front()
    }

    /// Bytes for the transport; [`ServerConnection::handle_transmitted`] tells how many it took.
    pub fn poll_transmit(&mut self) -> Option<&[u8]> {
        self.core.outbox.pending()
    }

    /// The transport took the first `n` bytes of [`ServerConnection::poll_transmit`].
    pub fn handle_transmitted(&mut self, n: usize) {
        self.core.outbox.transmitted(n);
    }

    /// How many messages to the client await acknowledgement.
    pub fn in_flight(&self) -> usize {
        self.core.outgoing.len()
    }

    /// When [`ServerConnection::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.core.state {
            State::Waiting { deadline } => Some(deadline),
            State::Connected { max_silence, last_received } => {
                max_silence.map(|max_silence| last_received + max_silence)
            }
            State::Deciding { .. } | State::Closed => None,
        }
    }

    /// Has the connection ended? Then, once [`ServerConnection::poll_transmit`] is empty, the
    /// transport is to be closed.
    pub fn is_closed(&self) -> bool {
        matches!(self.core.state, State::Closed)
    }
}

impl Core {
    fn handle_packet<'a>(&mut self, packet: Packet<'a>, now: Instant) -> ServerEvent<'a> {
        match (&mut self.state, packet) {
            (State::Waiting { .. }, Packet::Connect(connect)) => {
                if connect.client_id.as_str().is_empty() && !connect.clean_session {
                    // [MQTT-3.1.3-8]
                    return self.refuse(ConnectRefusal::IdentifierRejected);
                }
                let keep_alive = Duration::from_secs(connect.keep_alive.into());
                self.state = State::Deciding { keep_alive, clean_session: connect.clean_session };
                ServerEvent::Connect(connect)
            }
            (State::Connected { last_received, .. }, packet) => {
                *last_received = now;
                self.handle_connected(packet)
            }
            _ => self.close(CloseReason::Violation(Violation::FirstPacketNotConnect)),
        }
    }

    fn handle_connected<'a>(&mut self, packet: Packet<'a>) -> ServerEvent<'a> {
        match packet {
            Packet::Publish(publish) => match self.incoming.receive(publish.delivery) {
                Ok(Received::New) => ServerEvent::Publish(publish),
                Ok(Received::Repeated(answer)) => self.answer(answer),
                Ok(Received::Owed) => ServerEvent::Progress,
                Err(violation) => self.close(CloseReason::Violation(violation)),
            },
            Packet::Subscribe(subscribe) => ServerEvent::Subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => ServerEvent::Unsubscribe(unsubscribe),
            Packet::PubAck(id) => {
                let acknowledged = self.outgoing.acknowledge(id);
                self.acknowledged(&acknowledged, id)
            }
            Packet::PubRec(id) => {
                let acknowledged = self.outgoing.receive(id);
                self.acknowledged(&acknowledged, id)
            }
            Packet::PubComp(id) => {
                let acknowledged = self.outgoing.finish(id);
                self.acknowledged(&acknowledged, id)
            }
            Packet::PubRel(id) => {
                self.incoming.release(id);
                self.answer(Packet::PubComp(id))
            }
            Packet::PingReq => self.answer(Packet::PingResp),
            Packet::Disconnect => self.close(CloseReason::Disconnected),
            Packet::Connect(_) => self.close(CloseReason::Violation(Violation::SecondConnect)),
            // The framer lets nothing through that only a server may send.
            _ => ServerEvent::Progress,
        }
    }

    fn acknowledged(
        &mut self,
        acknowledged: &Acknowledged,
        id: PacketIdentifier,
    ) -> ServerEvent<'static> {
        match acknowledged {
            Acknowledged::Complete(handle) => ServerEvent::Acknowledged(*handle),
            Acknowledged::Release => self.answer(Packet::PubRel(id)),
            Acknowledged::Stray => ServerEvent::Progress,
        }
    }

    /// Sends an answer the protocol owes; a client that asks and does not read is dropped.
    fn answer(&mut self, packet: Packet<'_>) -> ServerEvent<'static> {
        if matches!(self.state, State::Closed) {
            return ServerEvent::Progress;
        }
        if self.outbox.push(&packet).is_err() || self.outbox.is_overfull() {
            self.outbox.clear();
            let closed = self.close(CloseReason::SlowPeer);
            self.events.push_back(closed);
        }
        ServerEvent::Progress
    }

    fn refuse(&mut self, refusal: ConnectRefusal) -> ServerEvent<'static> {
        self.answer(Packet::ConnAck(ConnAck::Refused(refusal)));
        self.state = State::Closed;
        ServerEvent::Closed(CloseReason::Refused(refusal))
    }

    fn close(&mut self, reason: CloseReason) -> ServerEvent<'static> {
        self.state = State::Closed;
        ServerEvent::Closed(reason)
    }
}
