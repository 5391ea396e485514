//! All of a client but its framer, which lends packets while this is changed by them.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use zerotouch_mqtt_codec::{ConnAck, Connect, Packet, PacketIdentifier, PacketType, Publish};
use zerotouch_time::Instant;

use super::config::ClientConfig;
use super::event::{ClientEvent, ConnectError, SubscribeError, SubscribeHandle};
use crate::incoming::{Incoming, Received};
use crate::outbox::Outbox;
use crate::outgoing::{Acknowledged, Outgoing};
use crate::{CloseReason, Violation};

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Disconnected,
    Connecting {
        deadline: Instant,
        keep_alive: Duration,
        last_sent: Instant,
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

#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: ClientConfig,
    pub(super) state: State,
    /// Whose session it is.
    client_id: String,
    /// Whether the session ends with the connection.
    clean_session: bool,
    pub(super) outbox: Outbox,
    pub(super) outgoing: Outgoing,
    incoming: Incoming,
    pending: Vec<Pending>,
    last_subscribe: u64,
    pub(super) events: VecDeque<ClientEvent<'static>>,
    pub(super) strays: u64,
}

impl Core {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self {
            state: State::Disconnected,
            client_id: String::new(),
            clean_session: true,
            outbox: Outbox::new(config.max_transmit_buffer),
            outgoing: Outgoing::new(config.max_in_flight, config.max_packet_size),
            incoming: Incoming::new(config.max_unreleased),
            pending: Vec::new(),
            last_subscribe: 0,
            events: VecDeque::new(),
            strays: 0,
            config,
        }
    }

    pub(super) fn connect(
        &mut self,
        connect: &Connect<'_>,
        now: Instant,
    ) -> Result<(), ConnectError> {
        if !matches!(self.state, State::Disconnected) {
            return Err(ConnectError::AlreadyConnected);
        }
        let packet = Packet::Connect(*connect);
        let (size, limit) = (packet.encoded_len()?, self.config.max_packet_size);
        if u32::try_from(size).is_ok_and(|size| size > limit) {
            return Err(ConnectError::TooLarge { size, limit });
        }
        self.outbox.clear();
        self.outbox.push(&packet)?;
        let client_id = connect.client_id.as_str();
        if connect.clean_session || self.client_id != client_id {
            self.end_session();
            self.client_id.clear();
            self.client_id.push_str(client_id);
        }
        self.clean_session = connect.clean_session;
        self.state = State::Connecting {
            deadline: now + self.config.connack_timeout,
            keep_alive: Duration::from_secs(connect.keep_alive.into()),
            last_sent: now,
        };
        Ok(())
    }

    pub(super) fn disconnect(&mut self) {
        if matches!(self.state, State::Disconnected) {
            return;
        }
        let waiting = self.outbox.push(&Packet::Disconnect);
        debug_assert!(waiting.is_ok(), "DISCONNECT has no variable part");
        self.end_connection();
        self.events.push_back(ClientEvent::Closed(CloseReason::Disconnected));
    }

    pub(super) fn handle_packet<'a>(
        &mut self,
        packet: Packet<'a>,
        now: Instant,
    ) -> ClientEvent<'a> {
        match (&mut self.state, packet) {
            (&mut State::Connecting { keep_alive, last_sent, .. }, Packet::ConnAck(connack)) => {
                let connected = State::Connected {
                    keep_alive,
                    last_sent,
                    last_received: now,
                    pingresp_due: None,
                };
                self.handle_connack(connack, connected, now)
            }
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
        connected: State,
        now: Instant,
    ) -> ClientEvent<'static> {
        let session_present = match connack {
            ConnAck::Refused(refusal) => return self.close(CloseReason::Refused(refusal)),
            ConnAck::Accepted { session_present } => session_present,
        };
        if session_present && self.clean_session {
            return self.close(CloseReason::Violation(Violation::SessionPresentOnClean));
        }
        self.state = connected;
        if !session_present {
            self.end_session();
        } else if self.outgoing.len() > 0 {
            if self.outgoing.resend(&mut self.outbox).is_err() {
                return self.close(CloseReason::SlowPeer);
            }
            self.sent(now);
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
        let (new, answer) = match self.incoming.receive(publish.delivery)? {
            Received::New => {
                (true, publish.packet_identifier().and_then(|id| self.incoming.take(id)))
            }
            Received::Repeated(answer) => (false, Some(answer)),
            Received::Owed => (false, None),
        };
        if let Some(answer) = answer {
            // The message has been taken, so it is passed on even if this ends the connection.
            let event = self.answer(answer, now);
            self.keep(event);
        }
        Ok(new)
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
        self.sent(now);
        ClientEvent::Progress
    }

    fn sent(&mut self, now: Instant) {
        if let State::Connecting { last_sent, .. } | State::Connected { last_sent, .. } =
            &mut self.state
        {
            *last_sent = now;
        }
    }

    fn take_pending(&mut self, id: PacketIdentifier, subscribe: bool) -> Option<Pending> {
        let position =
            self.pending.iter().position(|p| p.id == id && p.filters.is_some() == subscribe)?;
        self.outgoing.free_identifier(id);
        Some(self.pending.remove(position))
    }

    pub(super) fn request<'p>(
        &mut self,
        filters: Option<usize>,
        now: Instant,
        packet: impl Fn(PacketIdentifier) -> Packet<'p>,
    ) -> Result<SubscribeHandle, SubscribeError> {
        if !matches!(self.state, State::Connected { .. }) {
            return Err(SubscribeError::NotConnected);
        }
        let limit = self.config.max_pending_subscriptions;
        if self.pending.len() >= limit {
            return Err(SubscribeError::TooManyPending { limit });
        }
        self.outgoing.check_room(&packet(PacketIdentifier::MIN), &self.outbox)?;
        let id = self.outgoing.take_identifier()?;
        self.outbox.push(&packet(id))?;
        self.sent(now);
        self.last_subscribe += 1;
        let handle = SubscribeHandle(self.last_subscribe);
        self.pending.push(Pending { handle, id, filters });
        Ok(handle)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let deadline = match self.state {
            State::Disconnected => None,
            State::Connecting { deadline, .. } => Some(deadline),
            State::Connected { pingresp_due, .. } => pingresp_due,
        };
        [deadline, self.ping_due()].into_iter().flatten().min()
    }

    /// When PINGREQ is due. Nothing sent for a keep-alive must not be [MQTT-3.1.2-23], whatever else
    /// is awaited; nothing received for as long makes us ask whether the server is there.
    fn ping_due(&self) -> Option<Instant> {
        let (keep_alive, idle_since) = match self.state {
            State::Disconnected => return None,
            State::Connecting { keep_alive, last_sent, .. }
            | State::Connected { keep_alive, last_sent, pingresp_due: Some(_), .. } => {
                (keep_alive, last_sent)
            }
            State::Connected { keep_alive, last_sent, last_received, pingresp_due: None } => {
                (keep_alive, last_sent.min(last_received))
            }
        };
        (!keep_alive.is_zero()).then(|| idle_since + keep_alive)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let overdue = match self.state {
            State::Connecting { deadline, .. } if now >= deadline => {
                Some(CloseReason::HandshakeTimeout(PacketType::ConnAck))
            }
            State::Connected { pingresp_due: Some(due), .. } if now >= due => {
                Some(CloseReason::KeepAliveTimeout)
            }
            _ => None,
        };
        if let Some(reason) = overdue {
            let closed = self.close(reason);
            self.keep(closed);
        } else if self.ping_due().is_some_and(|due| now >= due) {
            if let State::Connected { pingresp_due, .. } = &mut self.state {
                pingresp_due.get_or_insert(now + self.config.pingresp_timeout);
            }
            let event = self.answer(Packet::PingReq, now);
            self.keep(event);
        }
    }

    /// Ends the connection at once: what waits for the transport is dropped.
    pub(super) fn close(&mut self, reason: CloseReason) -> ClientEvent<'static> {
        self.outbox.clear();
        self.end_connection();
        ClientEvent::Closed(reason)
    }

    fn end_connection(&mut self) {
        self.state = State::Disconnected;
        for Pending { handle, id, .. } in self.pending.drain(..) {
            self.outgoing.free_identifier(id);
            self.events.push_back(ClientEvent::SubscribeLost(handle));
        }
        if self.clean_session {
            self.end_session();
        }
    }

    fn end_session(&mut self) {
        self.incoming.clear();
        self.events.extend(self.outgoing.lose().map(ClientEvent::PublishLost));
    }

    pub(super) fn keep(&mut self, event: ClientEvent<'static>) {
        if !matches!(event, ClientEvent::Progress) {
            self.events.push_back(event);
        }
    }
}
