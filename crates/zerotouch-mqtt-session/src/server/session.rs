//! Sessions by client identifier, each with the messages that wait for its client.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;

use zerotouch_mqtt_codec::QoS;

use super::config::ServerLimits;
use crate::broker::{ConnectionId, Delivery, SessionId};
use crate::connection::{ServerConnection, SessionState};
use crate::outgoing::PublishError;

/// A client's session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client_id: String,
    /// Whether it outlives its connection.
    pub(super) persistent: bool,
    pub(super) link: Link,
    pub(super) queue: Queue,
}

/// Where the state of a session's messages in flight is.
#[derive(Debug)]
pub(super) enum Link {
    /// With the client's connection.
    Connected(ConnectionId),
    /// Here, until the client comes back.
    Parked(SessionState),
}

/// Messages that wait for a client, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: VecDeque<Delivery>,
    bytes: usize,
}

impl Queue {
    /// Appends a message; `false`, and no change, if there is no room.
    pub(super) fn push(&mut self, delivery: Delivery, limits: &ServerLimits) -> bool {
        let bytes = self.bytes.saturating_add(delivery.message.size());
        if self.messages.len() >= limits.max_queued || bytes > limits.max_queued_bytes {
            return false;
        }
        self.bytes = bytes;
        self.messages.push_back(delivery);
        true
    }

    /// Sends what the connection has room for; yields how many messages can never be sent on it.
    pub(super) fn pump(&mut self, mqtt: &mut ServerConnection) -> u64 {
        let mut unsendable = 0;
        while let Some(Delivery { message, qos, retain, .. }) = self.messages.front() {
            match mqtt.publish(message.topic(), message.payload(), *qos, *retain) {
                Ok(_) => {}
                Err(PublishError::TooLarge { .. } | PublishError::Encode(_)) => unsendable += 1,
                Err(_) => break,
            }
            self.bytes -= message.size();
            self.messages.pop_front();
        }
        unsendable
    }

    /// The client is away: only what has QoS 1 or 2 waits for it (section 3.1.2.4).
    pub(super) fn drop_at_most_once(&mut self) {
        self.messages.retain(|delivery| delivery.qos != QoS::AtMostOnce);
        self.bytes = self.messages.iter().map(|delivery| delivery.message.size()).sum();
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: BTreeMap<SessionId, Session>,
    by_client: BTreeMap<String, SessionId>,
    last: u64,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn find(&self, client_id: &str) -> Option<SessionId> {
        self.by_client.get(client_id).copied()
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn begin(
        &mut self,
        client_id: &str,
        persistent: bool,
        connection: ConnectionId,
    ) -> SessionId {
        self.last += 1;
        let id = SessionId(self.last);
        let link = Link::Connected(connection);
        let queue = Queue::default();
        self.by_client.insert(client_id.into(), id);
        self.by_id.insert(id, Session { client_id: client_id.into(), persistent, link, queue });
        id
    }

    pub(super) fn end(&mut self, id: SessionId) -> Option<Session> {
        let session = self.by_id.remove(&id)?;
        self.by_client.remove(&session.client_id);
        Some(session)
    }
}
