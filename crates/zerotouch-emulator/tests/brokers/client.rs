//! The client engine over a blocking socket.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Instant as StdInstant;

use zerotouch_mqtt_codec::{Connect, Login, QoS, SubAckReturnCode, Text, TopicFilter, TopicName};
use zerotouch_mqtt_session::{
    Client as Engine, ClientConfig, ClientEvent, CloseReason, PublishError,
};
use zerotouch_time::Instant;

use super::{Broker, PASSWORD, USERNAME};

pub(crate) trait Socket: Read + Write + Send {}

impl<S: Read + Write + Send> Socket for S {}

/// CONNECT as the brokers want it, with a clean session.
pub(crate) fn hello(client_id: &str) -> Connect<'_> {
    let login = Some(Login { username: Text::new(USERNAME).unwrap(), password: Some(PASSWORD) });
    let client_id = Text::new(client_id).unwrap();
    Connect { client_id, clean_session: true, keep_alive: 60, will: None, login }
}

/// The same, for a session that outlives the connection.
pub(crate) fn hello_again(client_id: &str) -> Connect<'_> {
    Connect { clean_session: false, ..hello(client_id) }
}

/// A message as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
}

impl Message {
    pub(crate) fn new(topic: &str, payload: impl AsRef<[u8]>, qos: QoS) -> Self {
        let (topic, payload) = (topic.into(), payload.as_ref().into());
        Self { topic, payload, qos, retain: false, dup: false }
    }

    pub(crate) fn retained(self) -> Self {
        Self { retain: true, ..self }
    }

    pub(crate) fn again(self) -> Self {
        Self { dup: true, ..self }
    }
}

pub(crate) struct Client {
    engine: Engine,
    socket: Option<Box<dyn Socket>>,
    origin: StdInstant,
    messages: VecDeque<Message>,
    /// Return codes of answers to SUBSCRIBE, none for those to UNSUBSCRIBE.
    answers: VecDeque<Vec<SubAckReturnCode>>,
    connected: Option<Result<bool, CloseReason>>,
    published: usize,
}

impl Client {
    /// Not connected. It takes large packets, and as many at once as a broker likes.
    pub(crate) fn new() -> Self {
        let config = ClientConfig {
            max_packet_size: 16 * 1024 * 1024,
            max_unreleased: u16::MAX,
            ..ClientConfig::default()
        };
        Self {
            engine: Engine::new(config),
            socket: None,
            origin: StdInstant::now(),
            messages: VecDeque::new(),
            answers: VecDeque::new(),
            connected: None,
            published: 0,
        }
    }

    /// Connected with a clean session.
    pub(crate) fn connected(broker: &Broker, client_id: &str) -> Self {
        let mut client = Self::new();
        assert_eq!(client.connect(broker, &hello(client_id)), Ok(false), "{}", broker.name);
        client
    }

    /// The same, with subscriptions that are granted.
    pub(crate) fn subscribed(broker: &Broker, client_id: &str, filters: &[(&str, QoS)]) -> Self {
        let mut client = Self::connected(broker, client_id);
        client.granted(filters);
        client
    }

    /// Yields whether there was a session, or why there is no connection.
    pub(crate) fn connect(
        &mut self,
        broker: &Broker,
        connect: &Connect<'_>,
    ) -> Result<bool, CloseReason> {
        self.socket = Some((broker.dial)());
        self.connected = None;
        self.engine.connect(connect, self.now()).unwrap();
        loop {
            self.step();
            if let Some(outcome) = self.connected.clone() {
                return outcome;
            }
        }
    }

    pub(crate) fn granted(&mut self, filters: &[(&str, QoS)]) {
        let codes: Vec<_> =
            filters.iter().map(|(_, qos)| SubAckReturnCode::Granted(*qos)).collect();
        assert_eq!(self.subscribe(filters), codes);
    }

    pub(crate) fn subscribe(&mut self, filters: &[(&str, QoS)]) -> Vec<SubAckReturnCode> {
        let filters: Vec<_> =
            filters.iter().map(|(filter, qos)| (TopicFilter::new(filter).unwrap(), *qos)).collect();
        self.engine.subscribe(&filters, self.now()).unwrap();
        self.answer()
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        let now = self.now();
        self.engine.unsubscribe(&[TopicFilter::new(filter).unwrap()], now).unwrap();
        assert_eq!(self.answer(), []);
    }

    fn answer(&mut self) -> Vec<SubAckReturnCode> {
        loop {
            self.step();
            if let Some(codes) = self.answers.pop_front() {
                return codes;
            }
        }
    }

    /// Publishes as soon as the window lets it.
    pub(crate) fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: QoS) {
        self.send(topic, payload.as_ref(), qos, false);
    }

    pub(crate) fn publish_retained(&mut self, topic: &str, payload: &str, qos: QoS) {
        self.send(topic, payload.as_bytes(), qos, true);
    }

    fn send(&mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool) {
        let topic = TopicName::new(topic).unwrap();
        loop {
            let now = self.now();
            match self.engine.publish(topic, payload, qos, retain, now) {
                Ok(_) => return self.transmit(),
                Err(PublishError::WindowFull { .. }) => self.step(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until everything is acknowledged; yields how many messages were, so far.
    pub(crate) fn all_acknowledged(&mut self) -> usize {
        while self.engine.in_flight() > 0 {
            self.step();
        }
        self.published
    }

    /// Waits for so many messages.
    pub(crate) fn messages(&mut self, count: usize) -> Vec<Message> {
        while self.messages.len() < count {
            self.step();
        }
        self.messages.drain(..count).collect()
    }

    /// What has arrived once the broker has answered a question that was asked last.
    pub(crate) fn rest(&mut self) -> Vec<Message> {
        self.unsubscribe("nothing");
        self.messages.drain(..).collect()
    }

    /// Reads until so many messages have come, and answers nothing.
    pub(crate) fn only_read(&mut self, count: usize) -> Vec<Message> {
        while self.messages.len() < count {
            self.read();
        }
        self.messages.drain(..).collect()
    }

    /// Takes its leave, and waits until the broker has understood.
    pub(crate) fn disconnect(&mut self) {
        self.engine.disconnect();
        self.transmit();
        let socket = self.socket.as_mut().expect("a socket");
        let ended = socket.read_to_end(&mut Vec::new());
        assert!(!matches!(ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock));
        self.end();
    }

    /// The socket is gone, with whatever was on its way.
    pub(crate) fn cut(&mut self) {
        self.engine.handle_closed();
        self.end();
    }

    fn end(&mut self) {
        self.socket = None;
        while self.engine.poll_event().is_some() {}
    }

    /// Waits for the broker to end the connection.
    pub(crate) fn ended(&mut self) -> CloseReason {
        loop {
            self.step();
            if let Some(Err(reason)) = self.connected.clone() {
                return reason;
            }
        }
    }

    fn step(&mut self) {
        self.transmit();
        self.read();
    }

    pub(crate) fn transmit(&mut self) {
        let socket = self.socket.as_mut().expect("a socket");
        while let Some(bytes) = self.engine.poll_transmit() {
            let length = bytes.len();
            socket.write_all(bytes).unwrap();
            self.engine.handle_transmitted(length);
        }
        socket.flush().unwrap();
    }

    /// Waits for bytes, for as long as the socket's timeout.
    fn read(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let socket = self.socket.as_mut().expect("a socket");
        match socket.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("nothing comes"),
            Ok(0) | Err(_) => self.engine.handle_closed(),
            Ok(length) => {
                let (mut input, now) = (&buffer[..length], self.now());
                while let Some(event) = self.engine.handle_bytes(&mut input, now) {
                    match event {
                        ClientEvent::Message(publish) => self.messages.push_back(Message {
                            topic: publish.topic.as_str().into(),
                            payload: publish.payload.into(),
                            qos: publish.qos(),
                            retain: publish.retain,
                            dup: publish.delivery.dup(),
                        }),
                        ClientEvent::Subscribed(_, codes) => {
                            self.answers.push_back(codes.iter().collect());
                        }
                        ClientEvent::Unsubscribed(_) => self.answers.push_back(Vec::new()),
                        ClientEvent::Published(_) => self.published += 1,
                        ClientEvent::Connected { session_present } => {
                            self.connected = Some(Ok(session_present));
                        }
                        ClientEvent::Closed(reason) => self.connected = Some(Err(reason)),
                        _ => {}
                    }
                }
            }
        }
        while let Some(event) = self.engine.poll_event() {
            if let ClientEvent::Closed(reason) = event {
                self.connected = Some(Err(reason));
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }
}
