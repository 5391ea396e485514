//! Packets as bytes, a client to feed them to, and a broker with clients made of bytes.

use std::time::Duration;

use zerotouch_mqtt_codec::{
    ConnAck, Connect, Delivery, Packet, PacketIdentifier, Publish, QoS, SubAck, SubAckReturnCode,
    SubAckReturnCodes, Subscribe, Subscriptions, Text, TopicFilter, TopicFilters, TopicName,
    Unsubscribe, Will,
};
use zerotouch_mqtt_session::{
    BrokerEvent, Client, ClientConfig, ClientEvent, CloseReason, ConnectionId, PlainBroker,
    PlainBrokerConfig, PublishError, PublishHandle, Server, ServerAction, ServerLimits,
};
use zerotouch_time::Instant;

pub(crate) const T0: Instant = Instant::from_micros(5);
pub(crate) const PINGREQ: [u8; 2] = [0xC0, 0];
pub(crate) const PINGRESP: [u8; 2] = [0xD0, 0];
pub(crate) const DISCONNECT: [u8; 2] = [0xE0, 0];
pub(crate) const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
pub(crate) const CONNACK_RESUMED: [u8; 4] = [0x20, 2, 1, 0];

pub(crate) fn after(seconds: u64) -> Instant {
    T0 + Duration::from_secs(seconds)
}

/// Packets, as bytes. What the codec makes of them is tested with the codec.
pub(crate) fn bytes(packet: impl Into<Packet<'static>>) -> Vec<u8> {
    encode(&packet.into())
}

fn encode(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode_to(&mut bytes).unwrap();
    bytes
}

pub(crate) fn id(number: u16) -> PacketIdentifier {
    PacketIdentifier::new(number).unwrap()
}

pub(crate) fn topic(name: &str) -> TopicName<'_> {
    TopicName::new(name).unwrap()
}

pub(crate) fn filter(filter: &str) -> TopicFilter<'_> {
    TopicFilter::new(filter).unwrap()
}

/// CONNECT with a keep-alive of 10 s.
/// A CONNECT without Will and login.
pub(crate) fn hello(client_id: &str, clean_session: bool) -> Connect<'_> {
    let client_id = Text::new(client_id).unwrap();
    Connect { client_id, clean_session, keep_alive: 10, will: None, login: None }
}

pub(crate) fn connect_packet(client_id: &str, clean_session: bool) -> Vec<u8> {
    connect_with_will(client_id, clean_session, None)
}

/// The same with a Will: topic, message, quality of service, retained.
pub(crate) fn connect_with_will(
    client_id: &str,
    clean_session: bool,
    will: Option<(&str, &str, QoS, bool)>,
) -> Vec<u8> {
    let will = will.map(|(name, message, qos, retain)| Will {
        topic: topic(name),
        message: message.as_bytes(),
        qos,
        retain,
    });
    let connect = Connect { will, ..hello(client_id, clean_session) };
    encode(&Packet::Connect(connect))
}

pub(crate) fn connack(session_present: bool) -> Vec<u8> {
    bytes(ConnAck::Accepted { session_present })
}

fn message(name: &str, payload: &str, delivery: Delivery) -> Vec<u8> {
    let payload = payload.as_bytes();
    encode(&Publish { topic: topic(name), payload, retain: false, delivery }.into())
}

pub(crate) fn qos0(topic: &str, payload: &str) -> Vec<u8> {
    message(topic, payload, Delivery::AtMostOnce)
}

pub(crate) fn qos1(number: u16, topic: &str, payload: &str) -> Vec<u8> {
    message(topic, payload, Delivery::AtLeastOnce { id: id(number), dup: false })
}

pub(crate) fn qos2(number: u16, topic: &str, payload: &str) -> Vec<u8> {
    message(topic, payload, Delivery::ExactlyOnce { id: id(number), dup: false })
}

/// PUBLISH with DUP.
pub(crate) fn dup(mut publish: Vec<u8>) -> Vec<u8> {
    publish[0] |= 0b1000;
    publish
}

/// PUBLISH with RETAIN.
pub(crate) fn retained(mut publish: Vec<u8>) -> Vec<u8> {
    publish[0] |= 0b0001;
    publish
}

pub(crate) fn puback(number: u16) -> Vec<u8> {
    bytes(Packet::PubAck(id(number)))
}

pub(crate) fn pubrec(number: u16) -> Vec<u8> {
    bytes(Packet::PubRec(id(number)))
}

pub(crate) fn pubrel(number: u16) -> Vec<u8> {
    bytes(Packet::PubRel(id(number)))
}

pub(crate) fn pubcomp(number: u16) -> Vec<u8> {
    bytes(Packet::PubComp(id(number)))
}

pub(crate) fn subscribe(number: u16, filters: &[(&str, QoS)]) -> Vec<u8> {
    let filters: Vec<_> = filters.iter().map(|(name, qos)| (filter(name), *qos)).collect();
    let filters = Subscriptions::new(&filters).unwrap();
    encode(&Subscribe { id: id(number), filters }.into())
}

pub(crate) fn suback(number: u16, codes: &[u8]) -> Vec<u8> {
    let codes: Vec<_> = codes.iter().map(|c| SubAckReturnCode::from_u8(*c).unwrap()).collect();
    let return_codes = SubAckReturnCodes::new(&codes).unwrap();
    encode(&SubAck { id: id(number), return_codes }.into())
}

pub(crate) fn unsubscribe(number: u16, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<_> = filters.iter().map(|name| filter(name)).collect();
    let filters = TopicFilters::new(&filters).unwrap();
    encode(&Unsubscribe { id: id(number), filters }.into())
}

pub(crate) fn unsuback(number: u16) -> Vec<u8> {
    bytes(Packet::UnsubAck(id(number)))
}

// A client.

pub(crate) fn connecting(clean_session: bool, config: ClientConfig) -> Client {
    let mut client = Client::new(config);
    connect(&mut client, clean_session);
    client
}

pub(crate) fn connect(client: &mut Client, clean_session: bool) {
    let connect = hello("c", clean_session);
    client.connect(&connect, T0).unwrap();
    assert_eq!(sent(client)[0], 0x10);
}

pub(crate) fn connected() -> Client {
    let mut client = connecting(true, ClientConfig::default());
    assert_eq!(receive(&mut client, &CONNACK), ["Connected { session_present: false }"]);
    client
}

/// The connection ends and the next one resumes the session: what is sent again.
pub(crate) fn reconnected(client: &mut Client) -> Vec<u8> {
    client.handle_closed();
    drained(client);
    connect(client, false);
    assert_eq!(receive(client, &CONNACK_RESUMED), ["Connected { session_present: true }"]);
    sent(client)
}

/// Everything the engine wants to send now.
pub(crate) fn sent(client: &mut Client) -> Vec<u8> {
    let bytes = client.poll_transmit().unwrap_or_default().to_vec();
    client.handle_transmitted(bytes.len());
    bytes
}

/// Feeds bytes and yields the events, written out.
pub(crate) fn receive(client: &mut Client, mut input: &[u8]) -> Vec<String> {
    let mut events = Vec::new();
    while let Some(event) = client.handle_bytes(&mut input, T0) {
        if !matches!(event, ClientEvent::Progress) {
            events.push(format!("{event:?}"));
        }
    }
    events.extend(drained(client));
    events
}

pub(crate) fn drained(client: &mut Client) -> Vec<String> {
    std::iter::from_fn(|| client.poll_event()).map(|event| format!("{event:?}")).collect()
}

/// Publishes to the topic "t".
pub(crate) fn publish(
    client: &mut Client,
    payload: &str,
    qos: QoS,
) -> Result<Option<PublishHandle>, PublishError> {
    client.publish(topic("t"), payload.as_bytes(), qos, false, T0)
}

#[track_caller]
pub(crate) fn assert_closed(client: &mut Client, input: &[u8], reason: &CloseReason) {
    assert_eq!(receive(client, input), [format!("Closed({reason:?})")]);
    assert!(client.is_closed());
    assert_eq!(client.poll_timeout(), None);
    assert_eq!(sent(client), b"", "nothing is said to a peer that broke the protocol");
}

// A broker.

/// A plain broker, and clients that are what they send.
pub(crate) struct World {
    pub(crate) server: Server<PlainBroker>,
    pub(crate) now: Instant,
    closed: Vec<u64>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(ServerLimits::default(), PlainBrokerConfig::default())
    }

    pub(crate) fn with(limits: ServerLimits, config: PlainBrokerConfig) -> Self {
        let server = Server::new(PlainBroker::new(config), limits);
        Self { server, now: T0, closed: Vec::new() }
    }

    pub(crate) fn open(&mut self, connection: u64) {
        self.server.handle_open(ConnectionId(connection), self.now).unwrap();
    }

    /// A client sends bytes; yields what it gets.
    pub(crate) fn send(&mut self, connection: u64, bytes: &[u8]) -> Vec<u8> {
        self.server.handle_bytes(ConnectionId(connection), bytes, self.now);
        self.received(connection)
    }

    /// What a client got since it last looked.
    pub(crate) fn received(&mut self, connection: u64) -> Vec<u8> {
        let id = ConnectionId(connection);
        let mut received = Vec::new();
        loop {
            let bytes = self.server.poll_transmit(id).unwrap_or_default();
            if bytes.is_empty() {
                return received;
            }
            let length = bytes.len();
            received.extend_from_slice(bytes);
            self.server.handle_transmitted(id, length, self.now);
        }
    }

    /// A client connects; yields CONNACK and what follows it.
    pub(crate) fn connect(&mut self, connection: u64, client_id: &str, clean: bool) -> Vec<u8> {
        self.open(connection);
        self.send(connection, &connect_packet(client_id, clean))
    }

    /// A client connects with a clean session and subscribes.
    pub(crate) fn subscriber(&mut self, connection: u64, filters: &[(&str, QoS)]) {
        self.connect(connection, &format!("subscriber {connection}"), true);
        self.send(connection, &subscribe(100, filters));
    }

    /// A client with a clean session.
    pub(crate) fn publisher(&mut self, connection: u64) {
        self.connect(connection, &format!("publisher {connection}"), true);
    }

    /// A transport ends.
    pub(crate) fn cut(&mut self, connection: u64) {
        self.server.handle_closed(ConnectionId(connection), self.now);
    }

    /// Has the server closed this connection?
    pub(crate) fn is_closed(&mut self, connection: u64) -> bool {
        while let Some(action) = self.server.poll_action() {
            if let ServerAction::Close(ConnectionId(closed)) = action {
                self.closed.push(closed);
            }
        }
        self.closed.contains(&connection)
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.server.handle_timeout(self.now);
    }

    pub(crate) fn events(&mut self) -> Vec<BrokerEvent> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }
}
