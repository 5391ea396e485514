//! One connection: its MQTT engine, and whom it turned out to be.

use std::time::Duration;

use zerotouch_mqtt_codec::TopicName;
use zerotouch_mqtt_session::{
    CloseReason, PublishError, PublishHandle, ServerConnection, ServerEvent,
};
use zerotouch_time::Instant;

use super::effects::{Command, Delivery, Message};
use super::{dps, hub};

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) mqtt: ServerConnection,
    pub(super) peer: Peer,
    /// What awaits acknowledgement.
    unacknowledged: Vec<(PublishHandle, Delivery)>,
    trickle: Option<Trickle>,
}

/// The pace at which bytes go out, one by one.
#[derive(Clone, Copy, Debug)]
struct Trickle {
    interval: Duration,
    next: Instant,
}

/// Who is at the other end.
#[derive(Debug)]
pub(super) enum Peer {
    /// Not yet known. The chain is DER, leaf first; TLS has proved possession of the leaf's key.
    Stranger {
        chain: Vec<Vec<u8>>,
    },
    Dps(Box<dps::Session>),
    Hub(Box<hub::Session>),
}

impl Connection {
    pub(super) fn new(mqtt: ServerConnection, chain: Vec<Vec<u8>>) -> Self {
        Self { mqtt, peer: Peer::Stranger { chain }, unacknowledged: Vec::new(), trickle: None }
    }

    /// Carries out what a service decided; yields what is delivered thereby.
    pub(super) fn carry_out(&mut self, command: Command, now: Instant) -> Option<Delivery> {
        match command {
            Command::Accept { session_present } => self.mqtt.accept(session_present, now),
            Command::Refuse(refusal) => self.mqtt.refuse(refusal),
            Command::Acknowledge(id) => self.mqtt.acknowledge(id),
            Command::Suback(id, codes) => self.mqtt.suback(id, &codes),
            Command::Unsuback(id) => self.mqtt.unsuback(id),
            Command::Publish(message) => return self.publish(message),
            Command::Trickle(interval) => self.trickle = Some(Trickle { interval, next: now }),
            Command::Close => self.mqtt.close(),
        }
        None
    }

    /// Sends a message. A client that does not acknowledge those before, or a topic that its own
    /// request id has made too long, ends the connection: nothing is dropped without a sign.
    fn publish(&mut self, message: Message) -> Option<Delivery> {
        let Message { topic, payload, qos, delivery } = message;
        let topic = TopicName::new(&topic).ok();
        let sent = topic.map(|topic| self.mqtt.publish(topic, &payload, qos, false));
        match sent {
            Some(Ok(Some(handle))) => {
                self.unacknowledged.extend(delivery.map(|delivery| (handle, delivery)));
                None
            }
            // At most once: sent is delivered.
            Some(Ok(None)) => delivery,
            Some(Err(PublishError::NotConnected)) => None,
            Some(Err(_)) | None => {
                self.mqtt.close();
                None
            }
        }
    }

    /// The client acknowledged a message; yields what it brought.
    pub(super) fn acknowledged(&mut self, handle: PublishHandle) -> Option<Delivery> {
        let index = self.unacknowledged.iter().position(|(awaited, _)| *awaited == handle)?;
        Some(self.unacknowledged.swap_remove(index).1)
    }

    /// Bytes to be sent now.
    pub(super) fn transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        let bytes = self.mqtt.poll_transmit()?;
        let bytes = match &mut self.trickle {
            Some(Trickle { next, .. }) if now < *next => return None,
            Some(Trickle { interval, next }) => {
                *next = now + *interval;
                bytes[..1].to_vec()
            }
            None => bytes.to_vec(),
        };
        self.mqtt.handle_transmitted(bytes.len());
        Some(bytes)
    }

    /// When something is due.
    pub(super) fn timeout(&mut self) -> Option<Instant> {
        let trickle = self.trickle.filter(|_| self.mqtt.poll_transmit().is_some());
        let next = trickle.map(|trickle| trickle.next);
        next.into_iter().chain(self.mqtt.poll_timeout()).min()
    }

    /// Why the connection has ended, if it has and has not said so before.
    pub(super) fn ended(&mut self) -> Option<CloseReason> {
        std::iter::from_fn(|| self.mqtt.poll_event()).find_map(|event| match event {
            ServerEvent::Closed(reason) => Some(reason),
            _ => None,
        })
    }
}
