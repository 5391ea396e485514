//! The policy of a [`Server`](crate::Server): who may connect, what may be subscribed, where a
//! message goes.

mod plain;
mod retained;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::fmt;

use zerotouch_mqtt_codec::{
    Connect, ConnectRefusal, QoS, SubAckReturnCode, TopicFilter, TopicName,
};

pub use self::plain::{PlainBroker, PlainBrokerConfig};

/// The caller's name for a transport connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.0)
    }
}

/// Names a client's session for as long as it lives, over all its connections. A session that ended
/// and one that begins under the same client identifier have different names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) u64);

/// What a [`Server`](crate::Server) asks of whoever decides.
///
/// The server keeps the protocol: connections, sessions, acknowledgements, queues, Wills. The policy is
/// asked about one packet at a time, and answers before the next is looked at.
pub trait Broker {
    /// May this client connect? `connection` tells what the transport knows of it.
    fn connect(
        &mut self,
        connection: ConnectionId,
        connect: &Connect<'_>,
    ) -> Result<(), ConnectRefusal>;

    /// A session begins. `client_id` is the client's, or one that was assigned to it.
    fn session_began(&mut self, session: SessionId, client_id: &str) {
        let _ = (session, client_id);
    }

    /// A client subscribes: record it and say what is granted. What is to be sent because of it, such as
    /// retained messages, goes into `deliveries`; it is sent behind SUBACK.
    fn subscribe(
        &mut self,
        session: SessionId,
        filter: TopicFilter<'_>,
        qos: QoS,
        deliveries: &mut Deliveries,
    ) -> SubAckReturnCode;

    /// A client subscribes no longer. It may never have.
    fn unsubscribe(&mut self, session: SessionId, filter: TopicFilter<'_>);

    /// A message of a client's, or its Will, arrived: put into `deliveries` whom it concerns.
    fn publish(
        &mut self,
        session: SessionId,
        publication: &Publication,
        deliveries: &mut Deliveries,
    ) -> Verdict;

    /// A session is over: its subscriptions are too.
    fn session_ended(&mut self, session: SessionId);
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is acknowledged, wherever it went.
    Accept,
    /// The connection it came on is closed: MQTT 3.1.1 has no other way to say no
    /// `[MQTT-3.3.5-2]`.
    Refuse,
}

/// A message that a client publishes.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Topic and payload.
    pub message: Message,
    /// With which quality of service it came.
    pub qos: QoS,
    /// Whether it is to be kept for later subscribers.
    pub retain: bool,
}

/// Topic and payload of a message, shared by all who have it in their queue.
#[derive(Clone)]
pub struct Message(Arc<Content>);

struct Content {
    topic: Box<str>,
    payload: Box<[u8]>,
}

impl Message {
    /// Copies topic and payload, once for all subscribers.
    pub fn new(topic: TopicName<'_>, payload: &[u8]) -> Self {
        Self(Arc::new(Content { topic: topic.as_str().into(), payload: payload.into() }))
    }

    /// What it is published to.
    #[expect(clippy::expect_used, reason = "the text was a topic name when it was copied")]
    #[expect(clippy::missing_panics_doc, reason = "and so it never does")]
    pub fn topic(&self) -> TopicName<'_> {
        TopicName::new(&self.0.topic).expect("made from a topic name")
    }

    /// Its content.
    pub fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    /// Bytes of topic and payload, which limits count.
    pub fn size(&self) -> usize {
        self.0.topic.len() + self.0.payload.len()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.0.topic)
            .field("payload", &format_args!("<{} bytes>", self.0.payload.len()))
            .finish()
    }
}

/// Messages on their way to sessions, in order.
#[derive(Debug, Default)]
pub struct Deliveries(VecDeque<Delivery>);

#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) to: SessionId,
    pub(crate) message: Message,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

impl Deliveries {
    /// A message for a session, behind those that were there before. `retain` tells the client that it
    /// was retained before its subscription. A session that is over gets nothing; one whose client is
    /// away keeps what has QoS 1 or 2.
    pub fn deliver(&mut self, to: SessionId, message: &Message, qos: QoS, retain: bool) {
        self.0.push_back(Delivery { to, message: message.clone(), qos, retain });
    }

    pub(crate) fn next(&mut self) -> Option<Delivery> {
        self.0.pop_front()
    }
}
