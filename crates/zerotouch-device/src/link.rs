//! One connection on its way up: dial, CONNECT, the subscriptions that make it usable.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use zerotouch_mqtt_codec::{Connect, QoS, SubAckReturnCode, TopicFilter};
use zerotouch_mqtt_session::{
    Client, ClientConfig, ClientEvent, CloseReason, PublishHandle, SubscribeHandle,
};
use zerotouch_time::Instant;

use crate::{ConnectionId, Failure};

#[derive(Debug)]
enum Stage {
    Dialling { deadline: Instant, limit: Duration },
    Connecting,
    Subscribing { handle: SubscribeHandle, deadline: Instant },
    Up,
}

/// A topic filter that is subscribed to before a connection is used.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) filter: String,
    /// Whether the connection is of no use without it.
    pub(crate) required: bool,
    pub(crate) granted: bool,
}

impl Subscription {
    pub(crate) fn required(filter: impl Into<String>) -> Self {
        Self { filter: filter.into(), required: true, granted: false }
    }

    pub(crate) fn optional(filter: impl Into<String>) -> Self {
        Self { required: false, ..Self::required(filter) }
    }
}

/// A connection whose use begins when its subscriptions are answered.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: ConnectionId,
    pub(crate) mqtt: Client,
    stage: Stage,
    subscriptions: Vec<Subscription>,
    subscribe_timeout: Duration,
}

/// What a connection did, once nothing is borrowed from it any more.
#[derive(Debug)]
pub(crate) enum LinkStep {
    /// Nothing of note, or a message that was handed on.
    Progress,
    /// It is usable.
    Up,
    /// A published message was acknowledged.
    Published(PublishHandle),
    /// Subscriptions were answered.
    Subscribed { handle: SubscribeHandle, granted: Vec<bool> },
    /// It ended, or will not come up.
    Failed(Failure),
}

impl Link {
    pub(crate) fn new(
        connection: ConnectionId,
        mqtt: ClientConfig,
        subscriptions: Vec<Subscription>,
        (dial_timeout, subscribe_timeout): (Duration, Duration),
        now: Instant,
    ) -> Self {
        let stage = Stage::Dialling { deadline: now + dial_timeout, limit: dial_timeout };
        Self { connection, mqtt: Client::new(mqtt), stage, subscriptions, subscribe_timeout }
    }

    pub(crate) fn is_dialling(&self) -> bool {
        matches!(self.stage, Stage::Dialling { .. })
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up)
    }

    /// The transport is there.
    pub(crate) fn connect(&mut self, connect: &Connect<'_>, now: Instant) -> Result<(), Failure> {
        self.mqtt.connect(connect, now)?;
        self.stage = Stage::Connecting;
        Ok(())
    }

    /// Takes one packet off `input`; a message is handed to `on_message` with its topic.
    pub(crate) fn handle_bytes(
        &mut self,
        input: &mut &[u8],
        now: Instant,
        on_message: impl FnOnce(&str, &[u8]),
    ) -> Option<LinkStep> {
        let step = match self.mqtt.handle_bytes(input, now)? {
            ClientEvent::Message(message) => {
                on_message(message.topic.as_str(), message.payload);
                LinkStep::Progress
            }
            event => digest(event),
        };
        Some(self.climb(step, now))
    }

    /// The next step that no packet brought.
    pub(crate) fn poll_step(&mut self, now: Instant) -> Option<LinkStep> {
        let step = digest(self.mqtt.poll_event()?);
        Some(self.climb(step, now))
    }

    /// CONNACK and the awaited SUBACK lead upwards.
    fn climb(&mut self, step: LinkStep, now: Instant) -> LinkStep {
        match (&self.stage, step) {
            (Stage::Connecting, LinkStep::Up) => match self.subscribe(now) {
                Ok(None) => {
                    self.stage = Stage::Up;
                    LinkStep::Up
                }
                Ok(Some(handle)) => {
                    let deadline = now + self.subscribe_timeout;
                    self.stage = Stage::Subscribing { handle, deadline };
                    LinkStep::Progress
                }
                Err(failure) => LinkStep::Failed(failure),
            },
            (
                Stage::Subscribing { handle: awaited, .. },
                LinkStep::Subscribed { handle, granted },
            ) if *awaited == handle => {
                for (subscription, granted) in self.subscriptions.iter_mut().zip(granted) {
                    subscription.granted = granted;
                }
                let refused = self.subscriptions.iter().find(|s| s.required && !s.granted);
                if let Some(Subscription { filter, .. }) = refused {
                    let filter = filter.clone();
                    return LinkStep::Failed(Failure::SubscriptionRefused { filter });
                }
                self.stage = Stage::Up;
                LinkStep::Up
            }
            (_, LinkStep::Up) => LinkStep::Progress,
            (_, step) => step,
        }
    }

    /// Asks for all subscriptions in one packet; `None` if there are none.
    fn subscribe(&mut self, now: Instant) -> Result<Option<SubscribeHandle>, Failure> {
        if self.subscriptions.is_empty() {
            return Ok(None);
        }
        let Self { mqtt, subscriptions, .. } = self;
        let mut filters = Vec::with_capacity(subscriptions.len());
        for Subscription { filter, .. } in &*subscriptions {
            let name = TopicFilter::new(filter)
                .map_err(|_| Failure::SubscriptionRefused { filter: filter.clone() })?;
            filters.push((name, QoS::AtLeastOnce));
        }
        Ok(Some(mqtt.subscribe(&filters, now)?))
    }

    /// Whether this filter was granted.
    pub(crate) fn hears(&self, filter: &str) -> bool {
        self.subscriptions.iter().any(|s| s.granted && s.filter == filter)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Failure> {
        match self.stage {
            Stage::Dialling { deadline, limit } if now >= deadline => {
                return Some(Failure::DialTimeout { after: limit });
            }
            Stage::Subscribing { deadline, .. } if now >= deadline => {
                let first = self.subscriptions.first();
                let filter = first.map(|s| s.filter.clone()).unwrap_or_default();
                let after = self.subscribe_timeout;
                return Some(Failure::SubscriptionTimeout { filter, after });
            }
            _ => {}
        }
        self.mqtt.handle_timeout(now);
        None
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.stage {
            Stage::Dialling { deadline, .. } | Stage::Subscribing { deadline, .. } => {
                Some(deadline)
            }
            Stage::Connecting | Stage::Up => None,
        };
        [own, self.mqtt.poll_timeout()].into_iter().flatten().min()
    }
}

/// Keeps of an event what outlives the borrow from the connection.
fn digest(event: ClientEvent<'_>) -> LinkStep {
    match event {
        ClientEvent::Connected { .. } => LinkStep::Up,
        ClientEvent::Published(handle) => LinkStep::Published(handle),
        ClientEvent::Subscribed(handle, codes) => {
            let granted = codes.iter().map(|code| code != SubAckReturnCode::Failure).collect();
            LinkStep::Subscribed { handle, granted }
        }
        ClientEvent::Closed(CloseReason::Disconnected) => LinkStep::Progress,
        ClientEvent::Closed(reason) => LinkStep::Failed(reason.into()),
        _ => LinkStep::Progress,
    }
}
