//! The client engine.
//!
//! | state | input | next |
//! |---|---|---|
//! | `Disconnected` | `connect` | `Connecting` |
//! | `Connecting` | CONNACK 0 | `Connected`; unacknowledged messages go out again |
//! | | CONNACK 1–5, any other packet, the deadline | `Disconnected`, `Closed` |
//! | `Connected` | packets | `Connected` |
//! | | PINGRESP overdue, malformed bytes, a violation | `Disconnected`, `Closed` |
//! | | `disconnect` | `Disconnected` once DISCONNECT is transmitted |
//! | any | `handle_closed` | `Disconnected`, `Closed` |
//!
//! The session (messages in flight, exactly-once identifiers) outlives the connection unless it was
//! clean, and ends when the server does not know it any more.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use thiserror::Error;
use zerotouch_mqtt_codec::{
    ConnAck, Connect, Decoder, Delivery, EncodeError, Framer, Packet, PacketIdentifier, PacketType,
    Publish, QoS, Sender, SubAckReturnCodes, Subscribe, Subscriptions, TopicFilter, TopicFilters,
    TopicName, Unsubscribe,
};
use zerotouch_time::Instant;

use crate::incoming::Incoming;
use crate::outbox::Outbox;
use crate::outgoing::{Acknowledged, Outgoing};
use crate::{CloseReason, PublishError, PublishHandle, Violation};

/// Limits and deadlines of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The largest packet taken or sent, in bytes; default 320 KiB.
    pub max_packet_size: u32,
    /// How many messages may await acknowledgement; default 64.
    pub max_in_flight: u16,
    /// How many received `QoS` 2 messages may await release; default 64.
    pub max_unreleased: u16,
    /// How many subscribe and unsubscribe requests may await their answer; default 16.
    pub max_pending_subscriptions: usize,
    /// How many bytes may wait for the transport before a publish is refused; default 1 MiB.
    pub max_transmit_buffer: usize,
    /// How long CONNACK may take; default 30 s.
    pub connack_timeout: Duration,
    /// How long PINGRESP may take; default 30 s.
    pub pingresp_timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            max_packet_size: 320 * 1024,
            max_in_flight: 64,
            max_unreleased: 64,
            max_pending_subscriptions: 16,
            max_transmit_buffer: 1024 * 1024,
            connack_timeout: Duration::from_secs(30),
            pingresp_timeout: Duration::from_secs(30),
        }
    }
}

/// Names a subscribe or unsubscribe request until it is answered or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscribeHandle(u64);

/// Why CONNECT was not sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The engine has a connection already.
    #[error("already connected")]
    AlreadyConnected,
    /// The packet cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Why a subscribe or unsubscribe request was not taken. Nothing has been sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// There is no accepted connection.
    #[error("not connected")]
    NotConnected,
    /// No filter was given.
    #[error("no topic filter given")]
    NoFilter,
    /// As many requests await their answer as the configuration allows.
    #[error("{limit} requests await their answer already")]
    TooManyPending {
        /// The configured limit.
        limit: usize,
    },
    /// The packet cannot be written, or no packet identifier is free.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl From<EncodeError> for SubscribeError {
    fn from(error: EncodeError) -> Self {
        Self::Publish(PublishError::Encode(error))
    }
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientEvent<'a> {
    /// CONNACK accepted the connection.
    Connected {
        /// The server resumed a stored session.
        session_present: bool,
    },
    /// A message arrived. It is acknowledged already.
    Message(Publish<'a>),
    /// A message was acknowledged in full.
    Published(PublishHandle),
    /// The session ended before a message was acknowledged: it may have arrived or not.
    PublishLost(PublishHandle),
    /// SUBACK arrived: one return code for each filter, in order. A code may be a refusal.
    Subscribed(SubscribeHandle, SubAckReturnCodes<'a>),
    /// UNSUBACK arrived.
    Unsubscribed(SubscribeHandle),
    /// The connection ended before a subscribe or unsubscribe request was answered.
    SubscribeLost(SubscribeHandle),
    /// The connection ended. What is still to transmit has to be, then the transport is closed.
    Closed(CloseReason),
    /// A packet was taken that means nothing to the application.
    Progress,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Disconnected,
    Connecting {
        deadline: Instant,
        clean_session: bool,
        keep_alive: Duration,
    },
    Connected {
        keep_alive: Duration,
        last_sent: Instant,
        last_received: Instant,
        pingresp_due: Option<Instant>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    handle: SubscribeHandle,
    id: PacketIdentifier,
    /// Filters asked for; `None` for an unsubscribe request.
    filters: Option<usize>,
}

/// The client side of a connection and its session.
#[derive(Debug)]
pub struct Client {
    framer: Framer,
    core: Core,
}

/// All but the framer, which lends packets while this is changed by them.
#[derive(Debug)]
struct Core {
    config: ClientConfig,
    state: State,
    /// Whether the session ends with the connection.
    clean_session: bool,
    outbox: Outbox,
    outgoing: Outgoing,
    incoming: Incoming,
    pending: Vec<Pending>,
    last_subscribe: u64,
    events: VecDeque<ClientEvent<'static>>,
    strays: u64,
}

impl Client {
    /// A client without connection or session.
    pub fn new(config: ClientConfig) -> Self {
        Self {
            framer: framer(&config),
            core: Core {
                state: State::Disconnected,
                clean_session: true,
                outbox: Outbox::new(config.max_transmit_buffer),
                outgoing: Outgoing::new(config.max_in_flight, config.max_packet_size),
                incoming: Incoming::new(config.max_unreleased),
                pending: Vec::new(),
                last_subscribe: 0,
                events: VecDeque::new(),
                strays: 0,
                config,
            },
        }
    }

    /// A transport is there: introduce yourself on it.
    pub fn connect(&mut self, connect: &Connect<'_>, now: Instant) -> Result<(), ConnectError> {
        let core = &mut self.core;
        if !matches!(core.state, State::Disconnected) {
            return Err(ConnectError::AlreadyConnected);
        }
        self.framer = framer(&core.config);
        core.outbox.clear();
        core.outbox.push(&Packet::Connect(*connect))?;
        if connect.clean_session {
            core.end_session();
        }
        core.clean_session = connect.clean_session;
        core.state = State::Connecting {
            deadline: now + core.config.connack_timeout,
            clean_session: connect.clean_session,
            keep_alive: Duration::from_secs(connect.keep_alive.into()),
        };
        Ok(())
    }

    /// Takes at most one packet off the front of `input` and tells what it meant; `None` once the
    /// input is used up. To be called until then.
    pub fn handle_bytes<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        now: Instant,
    ) -> Option<ClientEvent<'a>> {
        if matches!(self.core.state, State::Disconnected) {
            *input = &[];
            return None;
        }
        match self.framer.next_packet(input) {
            Ok(None) => None,
            Ok(Some(packet)) => Some(self.core.handle_packet(packet, now)),
            Err(error) => Some(self.core.close(CloseReason::Malformed(error))),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.core.handle_timeout(now);
    }

    /// The transport ended, or never came to be.
    pub fn handle_closed(&mut self) {
        if !matches!(self.core.state, State::Disconnected) {
            let reason = if self.framer.is_mid_packet() {
                CloseReason::Truncated
            } else {
                CloseReason::Ended
            };
            let closed = self.core.close(reason);
            self.core.keep(closed);
        }
    }

    /// Publishes. `None` for `QoS` 0, which nothing completes.
    pub fn publish(
        &mut self,
        topic: TopicName<'_>,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        now: Instant,
    ) -> Result<Option<PublishHandle>, PublishError> {
        let Core { state: State::Connected { last_sent, .. }, outgoing, outbox, pending, .. } =
            &mut self.core
        else {
            return Err(PublishError::NotConnected);
        };
        let reserved = |id| pending.iter().any(|pending| pending.id == id);
        let handle = outgoing.publish(topic, payload, (qos, retain), reserved, outbox)?;
        *last_sent = now;
        Ok(handle)
    }

    /// Asks for messages.
    pub fn subscribe(
        &mut self,
        filters: &[(TopicFilter<'_>, QoS)],
        now: Instant,
    ) -> Result<SubscribeHandle, SubscribeError> {
        let subscriptions = Subscriptions::new(filters).ok_or(SubscribeError::NoFilter)?;
        self.core
            .request(Some(filters.len()), now, |id| Subscribe { id, filters: subscriptions }.into())
    }

    /// Asks for messages no longer.
    pub fn unsubscribe(
        &mut self,
        filters: &[TopicFilter<'_>],
        now: Instant,
    ) -> Result<SubscribeHandle, SubscribeError> {
        let filters = TopicFilters::new(filters).ok_or(SubscribeError::NoFilter)?;
        self.core.request(None, now, |id| Unsubscribe { id, filters }.into())
    }

    /// Says goodbye. What waits is transmitted still; then the transport is to be closed. Without a
    /// connection this does nothing.
    pub fn disconnect(&mut self) {
        let core = &mut self.core;
        if matches!(core.state, State::Disconnected) {
            return;
        }
        let waiting = core.outbox.push(&Packet::Disconnect);
        debug_assert!(waiting.is_ok(), "DISCONNECT has no variable part");
        core.end_connection();
        core.events.push_back(ClientEvent::Closed(CloseReason::Disconnected));
    }

    /// The next event that no packet brought.
    pub fn poll_event(&mut self) -> Option<ClientEvent<'static>> {
        self.core.events.pop_front()
    }

    /// Bytes for the transport; [`Client::handle_transmitted`] tells how many it took.
    pub fn poll_transmit(&mut self) -> Option<&[u8]> {
        self.core.outbox.pending()
    }

    /// The transport took the first `n` bytes of [`Client::poll_transmit`].
    pub fn handle_transmitted(&mut self, n: usize) {
        self.core.outbox.transmitted(n);
    }

    /// When [`Client::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.core.state {
            State::Disconnected => None,
            State::Connecting { deadline, .. } => Some(deadline),
            State::Connected { pingresp_due: Some(due), .. } => Some(due),
            State::Connected { keep_alive, last_sent, last_received, .. } => {
                (!keep_alive.is_zero()).then(|| last_sent.min(last_received) + keep_alive)
            }
        }
    }

    /// Is there no connection? Then, once [`Client::poll_transmit`] is empty, the transport is to be
    /// closed.
    pub fn is_closed(&self) -> bool {
        matches!(self.core.state, State::Disconnected)
    }

    /// How many messages await acknowledgement.
    pub fn in_flight(&self) -> usize {
        self.core.outgoing.len()
    }

    /// How many acknowledgements arrived that nothing awaited. They are ignored.
    pub fn stray_acknowledgements(&self) -> u64 {
        self.core.strays
    }
}

fn framer(config: &ClientConfig) -> Framer {
    Framer::new(Decoder::from_sender(Sender::Server).max_packet_size(config.max_packet_size))
}

impl Core {
    fn handle_packet<'a>(&mut self, packet: Packet<'a>, now: Instant) -> ClientEvent<'a> {
        match (&mut self.state, packet) {
            (
                &mut State::Connecting { clean_session, keep_alive, .. },
                Packet::ConnAck(connack),
            ) => self.handle_connack(connack, clean_session, keep_alive, now),
            (State::Connecting { .. }, packet) => {
                self.close(CloseReason::Violation(Violation::NotConnack(packet.packet_type())))
            }
            (State::Connected { last_received, pingresp_due, .. }, packet) => {
                *last_received = now;
                if matches!(packet, Packet::PingResp) {
                    *pingresp_due = None;
                }
                self.handle_connected(packet, now)
            }
            (State::Disconnected, _) => ClientEvent::Progress,
        }
    }

    fn handle_connack(
        &mut self,
        connack: ConnAck,
        clean_session: bool,
        keep_alive: Duration,
        now: Instant,
    ) -> ClientEvent<'static> {
        let session_present = match connack {
            ConnAck::Refused(refusal) => return self.close(CloseReason::Refused(refusal)),
            ConnAck::Accepted { session_present } => session_present,
        };
        if session_present && clean_session {
            return self.close(CloseReason::Violation(Violation::SessionPresentOnClean));
        }
        self.state =
            State::Connected { keep_alive, last_sent: now, last_received: now, pingresp_due: None };
        if session_present {
            if self.outgoing.resend(&mut self.outbox).is_err() {
                return self.close(CloseReason::SlowPeer);
            }
        } else {
            self.end_session();
        }
        ClientEvent::Connected { session_present }
    }

    fn handle_connected<'a>(&mut self, packet: Packet<'a>, now: Instant) -> ClientEvent<'a> {
        match packet {
            Packet::Publish(publish) => match self.receive(publish, now) {
                Ok(true) => ClientEvent::Message(publish),
                Ok(false) => ClientEvent::Progress,
                Err(violation) => self.close(CloseReason::Violation(violation)),
            },
            Packet::PubAck(id) => {
                let acknowledged = self.outgoing.acknowledge(id);
                self.acknowledged(&acknowledged, id, now)
            }
            Packet::PubRec(id) => {
                let acknowledged = self.outgoing.receive(id);
                self.acknowledged(&acknowledged, id, now)
            }
            Packet::PubComp(id) => {
                let acknowledged = self.outgoing.finish(id);
                self.acknowledged(&acknowledged, id, now)
            }
            Packet::PubRel(id) => {
                self.incoming.release(id);
                self.answer(Packet::PubComp(id), now)
            }
            Packet::SubAck(suback) => {
                let received = suback.return_codes.len();
                match self.take_pending(suback.id, true) {
                    Some(Pending { filters: Some(requested), .. }) if requested != received => self
                        .close(CloseReason::Violation(Violation::SubAckCount {
                            requested,
                            received,
                        })),
                    Some(Pending { handle, .. }) => {
                        ClientEvent::Subscribed(handle, suback.return_codes)
                    }
                    None => self.stray(),
                }
            }
            Packet::UnsubAck(id) => match self.take_pending(id, false) {
                Some(Pending { handle, .. }) => ClientEvent::Unsubscribed(handle),
                None => self.stray(),
            },
            Packet::ConnAck(_) => self.close(CloseReason::Violation(Violation::SecondConnack)),
            // The framer lets nothing through that only a client may send.
            _ => ClientEvent::Progress,
        }
    }

    /// Acknowledges a message; `true` if it is to be passed on.
    fn receive(&mut self, publish: Publish<'_>, now: Instant) -> Result<bool, Violation> {
        match publish.delivery {
            Delivery::AtMostOnce => Ok(true),
            Delivery::AtLeastOnce { id, .. } => {
                self.answer(Packet::PubAck(id), now);
                Ok(true)
            }
            Delivery::ExactlyOnce { id, .. } => {
                let new = self.incoming.receive(id)?;
                self.answer(Packet::PubRec(id), now);
                Ok(new)
            }
        }
    }

    fn acknowledged(
        &mut self,
        acknowledged: &Acknowledged,
        id: PacketIdentifier,
        now: Instant,
    ) -> ClientEvent<'static> {
        match acknowledged {
            Acknowledged::Complete(handle) => ClientEvent::Published(*handle),
            Acknowledged::Release => self.answer(Packet::PubRel(id), now),
            Acknowledged::Stray => self.stray(),
        }
    }

    fn stray(&mut self) -> ClientEvent<'static> {
        self.strays += 1;
        ClientEvent::Progress
    }

    /// Sends an answer the protocol owes; a server that asks and does not read is left.
    fn answer(&mut self, packet: Packet<'_>, now: Instant) -> ClientEvent<'static> {
        if self.outbox.push(&packet).is_err() || self.outbox.is_overfull() {
            return self.close(CloseReason::SlowPeer);
        }
        if let State::Connected { last_sent, .. } = &mut self.state {
            *last_sent = now;
        }
        ClientEvent::Progress
    }

    fn take_pending(&mut self, id: PacketIdentifier, subscribe: bool) -> Option<Pending> {
        let position =
            self.pending.iter().position(|p| p.id == id && p.filters.is_some() == subscribe)?;
        Some(self.pending.remove(position))
    }

    fn request<'p>(
        &mut self,
        filters: Option<usize>,
        now: Instant,
        packet: impl FnOnce(PacketIdentifier) -> Packet<'p>,
    ) -> Result<SubscribeHandle, SubscribeError> {
        let State::Connected { last_sent, .. } = &mut self.state else {
            return Err(SubscribeError::NotConnected);
        };
        let limit = self.config.max_pending_subscriptions;
        if self.pending.len() >= limit {
            return Err(SubscribeError::TooManyPending { limit });
        }
        let pending = &self.pending;
        let id = self.outgoing.free_id(|id| pending.iter().any(|pending| pending.id == id))?;
        self.outbox.push(&packet(id))?;
        *last_sent = now;
        self.last_subscribe += 1;
        let handle = SubscribeHandle(self.last_subscribe);
        self.pending.push(Pending { handle, id, filters });
        Ok(handle)
    }

    fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Connecting { deadline, .. } if now >= *deadline => {
                let closed = self.close(CloseReason::HandshakeTimeout(PacketType::ConnAck));
                self.keep(closed);
            }
            State::Connected { pingresp_due: Some(due), .. } if now >= *due => {
                let closed = self.close(CloseReason::KeepAliveTimeout);
                self.keep(closed);
            }
            State::Connected { keep_alive, last_sent, last_received, pingresp_due: due @ None }
                if !keep_alive.is_zero()
                    && now >= (*last_sent).min(*last_received) + *keep_alive =>
            {
                *due = Some(now + self.config.pingresp_timeout);
                let event = self.answer(Packet::PingReq, now);
                self.keep(event);
            }
            _ => {}
        }
    }

    /// Ends the connection at once: what waits for the transport is dropped.
    fn close(&mut self, reason: CloseReason) -> ClientEvent<'static> {
        self.outbox.clear();
        self.end_connection();
        ClientEvent::Closed(reason)
    }

    fn end_connection(&mut self) {
        self.state = State::Disconnected;
        self.events.extend(self.pending.drain(..).map(|p| ClientEvent::SubscribeLost(p.handle)));
        if self.clean_session {
            self.end_session();
        }
    }

    fn end_session(&mut self) {
        self.incoming.clear();
        self.events.extend(self.outgoing.lose().map(ClientEvent::PublishLost));
    }

    fn keep(&mut self, event: ClientEvent<'static>) {
        if !matches!(event, ClientEvent::Progress) {
            self.events.push_back(event);
        }
    }
}
