//! Cloud-to-device messages: a queue of each device (Azure docs, "Understand cloud-to-device messaging").
//!
//! | state of a message | input | next |
//! |---|---|---|
//! | none | it is sent | queued, unless 50 are |
//! | queued | its device listens | sent, its deliveries counted |
//! | sent | acknowledged, or sent at `QoS` 0 | none: success |
//! | | its connection ends | queued; after the 10th delivery none: dead-lettered |
//! | queued, sent | its time to live is over | none: expired |
//! | | purge | none: purged |
//!
//! Messages come in the order in which they were sent. A device with a clean session gets those that are
//! sent after it has subscribed; the others wait for a session that is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zerotouch_hub::wire::command_prefix;
use zerotouch_mqtt_codec::QoS;
use zerotouch_time::UnixTime;
use zerotouch_wire::percent_encode;

use crate::cloud::clock::{Clock, uuid};
use crate::cloud::effects::{Command, Delivery, Effects, Message, Timer};
use crate::cloud::event::{CloudEvent, CommandOutcome, ConnectionId};
use crate::cloud::registry::DeviceKey;
use crate::cloud::table::{Kept, Table};
use crate::cloud::text_form;

/// What follows are the service's own limits (Azure docs, "IoT Hub quotas and throttling").
const MAX_QUEUED: usize = 50;
const MAX_DELIVERIES: u32 = 10;
const MAX_COMMAND_LENGTH: usize = 64 * 1024;
const TIME_TO_LIVE: Duration = Duration::from_secs(60 * 60);
/// How many may be on their way to one device: what they take together fits into what may wait for a
/// connection.
const MAX_SENT: usize = 10;

/// Why a cloud-to-device message is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no such device.
    #[error("there is no such device")]
    NoDevice,
    /// As many wait for the device as may.
    #[error("{MAX_QUEUED} messages wait for the device already")]
    QueueFull,
    /// The message is larger than 64 KiB, or its properties do not fit into a topic.
    #[error("the message is larger than {MAX_COMMAND_LENGTH} bytes")]
    TooLarge,
    /// A property that the hub reads itself has a value that means nothing to it.
    #[error("the property {name} cannot be {value:?}")]
    Property {
        /// Which.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

/// The queues of all devices.
#[derive(Debug, Default)]
pub(in crate::cloud) struct Commands {
    messages: Table<(DeviceKey, u64), Queued>,
    /// The number of the last message: no other had it.
    last: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Queued {
    message_id: String,
    topic: String,
    #[serde(with = "text_form::one")]
    payload: Vec<u8>,
    #[serde(with = "text_form::one")]
    expires: UnixTime,
    deliveries: u32,
    #[serde(skip)]
    sent_on: Option<ConnectionId>,
}

/// A device that listens: where, how, and after which message it began to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listener {
    pub(super) connection: ConnectionId,
    pub(super) qos: QoS,
    pub(super) after: u64,
}

impl Commands {
    /// Queues a message; yields its id, drawn if its sender gave it none.
    pub(super) fn queue(
        &mut self,
        key: &DeviceKey,
        properties: &[(&str, &str)],
        payload: &[u8],
        clock: Clock,
        fx: &mut Effects,
    ) -> Result<String, CommandError> {
        let property = |wanted: &str| {
            let property = properties.iter().find(|(name, _)| *name == wanted);
            property.map(|(_, value)| *value)
        };
        let invalid = |name, value: &str| CommandError::Property { name, value: value.into() };
        let expires = match property("$.exp") {
            None => clock.wall + TIME_TO_LIVE,
            Some(text) => UnixTime::parse_rfc3339(text).ok_or_else(|| invalid("$.exp", text))?,
        };
        match property("iothub-ack") {
            None | Some("none" | "positive" | "negative" | "full") => {}
            Some(other) => return Err(invalid("iothub-ack", other)),
        }
        let topic = topic(key, properties);
        let length: usize = properties.iter().map(|(name, value)| name.len() + value.len()).sum();
        if payload.len() + length > MAX_COMMAND_LENGTH || topic.len() > usize::from(u16::MAX) {
            return Err(CommandError::TooLarge);
        }
        if self.count(key) >= MAX_QUEUED {
            return Err(CommandError::QueueFull);
        }
        let message_id = property("$.mid").map_or_else(|| uuid(&mut fx.rng), String::from);
        self.last += 1;
        let message = Queued {
            message_id: message_id.clone(),
            topic,
            payload: payload.into(),
            expires,
            deliveries: 0,
            sent_on: None,
        };
        self.messages.insert((key.clone(), self.last), message);
        self.set_timer(key, clock, fx);
        Ok(message_id)
    }

    /// Sends a device what waits for it, as far as it has acknowledged what was sent before.
    pub(super) fn deliver(&mut self, key: &DeviceKey, listener: Listener, fx: &mut Effects) {
        self.release(key, Some(listener.connection), fx);
        let sent = self.of(key).filter(|(_, message)| message.sent_on.is_some()).count();
        let next: Vec<u64> = self
            .of(key)
            .filter(|(number, message)| message.sent_on.is_none() && *number > listener.after)
            .map(|(number, _)| number)
            .take(MAX_SENT.saturating_sub(sent))
            .collect();
        for number in next {
            let Some(message) = self.messages.get_mut(&(key.clone(), number)) else { continue };
            message.sent_on = Some(listener.connection);
            message.deliveries += 1;
            let message = Message {
                topic: message.topic.clone(),
                payload: message.payload.clone(),
                qos: listener.qos,
                delivery: Some(Delivery::Command { device: key.clone(), number }),
            };
            fx.command(listener.connection, Command::Publish(message));
        }
    }

    /// A message has reached its device.
    pub(super) fn delivered(&mut self, key: &DeviceKey, number: u64, fx: &mut Effects) {
        self.settle(key, number, CommandOutcome::Success, fx);
    }

    /// What was sent on connections that have ended waits again, or has been sent too often.
    pub(super) fn release(
        &mut self,
        key: &DeviceKey,
        connected: Option<ConnectionId>,
        fx: &mut Effects,
    ) {
        let is_lost = |message: &Queued| message.sent_on.is_some() && message.sent_on != connected;
        let lost = self.of(key).filter(|(_, message)| is_lost(message));
        let lost: Vec<u64> = lost.map(|(number, _)| number).collect();
        for number in lost {
            let Some(message) = self.messages.get_mut(&(key.clone(), number)) else { continue };
            message.sent_on = None;
            if message.deliveries >= MAX_DELIVERIES {
                self.settle(key, number, CommandOutcome::DeliveryCountExceeded, fx);
            }
        }
    }

    /// A device's timer has rung: messages may have expired.
    pub(super) fn due(&mut self, key: &DeviceKey, clock: Clock, fx: &mut Effects) {
        let expired = self.of(key).filter(|(_, message)| message.expires <= clock.wall);
        let expired: Vec<u64> = expired.map(|(number, _)| number).collect();
        for number in expired {
            self.settle(key, number, CommandOutcome::Expired, fx);
        }
        self.set_timer(key, clock, fx);
    }

    /// Takes all messages out of a queue; yields how many there were.
    pub(in crate::cloud) fn purge(&mut self, key: &DeviceKey, fx: &mut Effects) -> usize {
        let all: Vec<u64> = self.of(key).map(|(number, _)| number).collect();
        for number in &all {
            self.settle(key, *number, CommandOutcome::Purged, fx);
        }
        all.len()
    }

    /// How many messages there are for a device, sent or not.
    pub(in crate::cloud) fn count(&self, key: &DeviceKey) -> usize {
        self.of(key).count()
    }

    /// The number of the last message there was for anybody.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Winds the clocks of all queues, after they were kept or the time of day was set.
    pub(super) fn wind(&mut self, clock: Clock, fx: &mut Effects) {
        let numbers = self.messages.iter().map(|((_, number), _)| *number);
        self.last = numbers.fold(self.last, u64::max);
        for ((key, _), _) in self.messages.iter() {
            self.set_timer(key, clock, fx);
        }
    }

    pub(super) fn table(&mut self) -> (&'static str, &mut dyn Kept) {
        ("commands", &mut self.messages)
    }

    fn settle(&mut self, key: &DeviceKey, number: u64, outcome: CommandOutcome, fx: &mut Effects) {
        let Some(message) = self.messages.remove(&(key.clone(), number)) else { return };
        let (device_id, message_id) = (key.device_id.clone(), message.message_id);
        fx.tell(CloudEvent::CommandSettled { device_id, message_id, outcome });
        if self.count(key) == 0 {
            fx.timers.set(Timer::Commands(key.clone()), None);
        }
    }

    fn set_timer(&self, key: &DeviceKey, clock: Clock, fx: &mut Effects) {
        let expires = self.of(key).map(|(_, message)| message.expires).min();
        let at = expires.map(|expires| clock.monotonic + expires.since(clock.wall));
        fx.timers.set(Timer::Commands(key.clone()), at);
    }

    /// The messages of a device, in the order in which they were sent.
    fn of(&self, key: &DeviceKey) -> impl Iterator<Item = (u64, &Queued)> {
        let all = (key.clone(), 0)..=(key.clone(), u64::MAX);
        self.messages.range(all).map(|((_, number), message)| (*number, message))
    }
}

/// As the hub writes it: `%24.to` of its own, then the sender's properties as they are given.
fn topic(key: &DeviceKey, properties: &[(&str, &str)]) -> String {
    let to = format!("/devices/{}/messages/devicebound", key.device_id);
    let mut topic = command_prefix(&key.device_id);
    let given = properties.iter().filter(|(name, _)| *name != "$.to");
    for (name, value) in [("$.to", &*to)].iter().chain(given) {
        if !topic.ends_with('/') {
            topic.push('&');
        }
        topic.extend([&percent_encode(name), "=", &percent_encode(value)]);
    }
    topic
}
