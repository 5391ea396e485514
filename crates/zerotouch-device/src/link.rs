//! One connection on its way up: dial, CONNECT, the subscription that makes it usable.

use alloc::string::String;
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

/// A connection whose use begins when `filter` is granted.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: ConnectionId,
    pub(crate) mqtt: Client,
    stage: Stage,
    filter: String,
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
    /// A further subscription was answered.
    Subscribed { handle: SubscribeHandle, granted: bool },
    /// It ended, or will not come up.
    Failed(Failure),
}

impl Link {
    pub(crate) fn new(
        connection: ConnectionId,
        mqtt: ClientConfig,
        filter: String,
        (dial_timeout, subscribe_timeout): (Duration, Duration),
        now: Instant,
    ) -> Self {
        let stage = Stage::Dialling { deadline: now + dial_timeout, limit: dial_timeout };
        Self { connection, mqtt: Client::new(mqtt), stage, filter, subscribe_timeout }
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
            (Stage::Connecting, LinkStep::Up) => {
                let asked = TopicFilter::new(&self.filter)
                    .map_err(|_| Failure::SubscriptionRefused { filter: self.filter.clone() })
                    .and_then(|filter| {
                        Ok(self.mqtt.subscribe(&[(filter, QoS::AtLeastOnce)], now)?)
                    });
                match asked {
                    Ok(handle) => {
                        let deadline = now + self.subscribe_timeout;
                        self.stage = Stage::Subscribing { handle, deadline };
                        LinkStep::Progress
                    }
                    Err(failure) => LinkStep::Failed(failure),
                }
            }
            (
                Stage::Subscribing { handle: awaited, .. },
                LinkStep::Subscribed { handle, granted },
            ) if *awaited == handle => {
                if !granted {
                    return LinkStep::Failed(Failure::SubscriptionRefused {
                        filter: self.filter.clone(),
                    });
                }
                self.stage = Stage::Up;
                LinkStep::Up
            }
            (_, LinkStep::Up) => LinkStep::Progress,
            (_, step) => step,
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Failure> {
        match self.stage {
            Stage::Dialling { deadline, limit } if now >= deadline => {
                return Some(Failure::DialTimeout { after: limit });
            }
            Stage::Subscribing { deadline, .. } if now >= deadline => {
                let (filter, after) = (self.filter.clone(), self.subscribe_timeout);
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
            let granted = codes.iter().all(|code| code != SubAckReturnCode::Failure);
            LinkStep::Subscribed { handle, granted }
        }
        ClientEvent::Closed(CloseReason::Disconnected) => LinkStep::Progress,
        ClientEvent::Closed(reason) => LinkStep::Failed(reason.into()),
        _ => LinkStep::Progress,
    }
}
