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
//! clean, and ends when the server does not know it any more, or when the next connection is made
//! under another client identifier.

mod config;
mod engine;
mod event;

use zerotouch_mqtt_codec::{
    Connect, Decoder, Framer, QoS, Sender, Subscribe, Subscriptions, TopicFilter, TopicFilters,
    TopicName, Unsubscribe,
};
use zerotouch_time::Instant;

pub use self::config::ClientConfig;
use self::engine::{Core, State};
pub use self::event::{ClientEvent, ConnectError, SubscribeError, SubscribeHandle};
use crate::{CloseReason, PublishError, PublishHandle};

/// The client side of a connection and its session.
#[derive(Debug)]
pub struct Client {
    framer: Framer,
    core: Core,
}

impl Client {
    /// A client without connection or session.
    pub fn new(config: ClientConfig) -> Self {
        Self { framer: framer(&config), core: Core::new(config) }
    }

    /// A transport is there: introduce yourself on it.
    ///
    /// A clean session ends the session before it, and so does another client identifier
    /// `[MQTT-3.1.3-2]`: what was in flight is reported as [`ClientEvent::PublishLost`].
    pub fn connect(&mut self, connect: &Connect<'_>, now: Instant) -> Result<(), ConnectError> {
        self.core.connect(connect, now)?;
        self.framer = framer(&self.core.config);
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

    /// Publishes. `None` for QoS 0, which nothing completes.
    pub fn publish(
        &mut self,
        topic: TopicName<'_>,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        now: Instant,
    ) -> Result<Option<PublishHandle>, PublishError> {
        let Core { state: State::Connected { last_sent, .. }, outgoing, outbox, .. } =
            &mut self.core
        else {
            return Err(PublishError::NotConnected);
        };
        let handle = outgoing.publish(topic, payload, (qos, retain), outbox)?;
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
        self.core.disconnect();
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
        self.core.poll_timeout()
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
