//! A client engine and a server engine back to back, over a network that ends connections at any byte:
//! whatever an application, a policy and the network do, and in whatever order, the promises hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use zerotouch_mqtt_codec::{Connect, Decoded, Packet, PacketIdentifier, QoS, decode};
use zerotouch_mqtt_session::{
    Client, ClientConfig, ClientEvent, CloseReason, PublishError, PublishHandle, ServerConfig,
    ServerConnection, ServerEvent, SessionState,
};

use crate::support::*;

const WINDOW: u16 = 4;
const BUFFER: usize = 64;
/// What a message of these tests takes on the wire, at most.
const PACKET: usize = 16;
/// Twice the buffer, what a resumed session sends again, and one answer: no more may wait.
const MOST_WAITING: usize = 2 * BUFFER + WINDOW as usize * PACKET + 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The application, or the policy, publishes.
    ClientPublishes(QoS),
    ServerPublishes(QoS),
    Subscribes,
    /// The transport takes so many bytes.
    Up(usize),
    Down(usize),
    /// So many of them arrive.
    UpArrives(usize),
    DownArrives(usize),
    /// The policy takes the oldest message it has not taken.
    Takes,
    /// The connection ends, with all that is on its way; the next one begins.
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    let qos = prop::sample::select(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][..]);
    let count = 1..40_usize;
    prop_oneof![
        3 => qos.clone().prop_map(Step::ClientPublishes),
        3 => qos.prop_map(Step::ServerPublishes),
        1 => Just(Step::Subscribes),
        4 => count.clone().prop_map(Step::Up),
        4 => count.clone().prop_map(Step::Down),
        4 => count.clone().prop_map(Step::UpArrives),
        4 => count.prop_map(Step::DownArrives),
        3 => Just(Step::Takes),
        1 => Just(Step::Cut),
    ]
}

/// One direction: what was published, what is in flight, and what arrived.
#[derive(Default)]
struct Flow {
    published: u16,
    in_flight: BTreeMap<PublishHandle, (PacketIdentifier, u16)>,
    promised: BTreeMap<u16, QoS>,
    arrived: Vec<(u16, QoS)>,
}

impl Flow {
    /// A message was taken by its sender; `wire` begins with it.
    fn sent(&mut self, qos: QoS, handle: Option<PublishHandle>, wire: &[u8]) {
        let Ok(Decoded::Complete { packet: Packet::Publish(publish), .. }) = decode(wire) else {
            panic!("no PUBLISH: {wire:?}");
        };
        assert_eq!((handle.is_some(), publish.dup()), (qos != QoS::AtMostOnce, false));
        if let (Some(handle), Some(id)) = (handle, publish.packet_identifier()) {
            assert!(self.in_flight.values().all(|(used, _)| *used != id), "{id} is in use");
            self.in_flight.insert(handle, (id, self.published));
            self.promised.insert(self.published, qos);
        }
        self.published += 1;
        assert!(self.in_flight.len() <= usize::from(WINDOW));
    }

    fn completed(&mut self, handle: PublishHandle) {
        let (_, number) = self.in_flight.remove(&handle).expect("completed once, under its handle");
        assert!(
            self.arrived.iter().any(|(arrived, _)| *arrived == number),
            "completed before it arrived"
        );
    }

    fn arrived(&mut self, payload: &[u8], qos: QoS) {
        let number = u16::from_be_bytes(payload.try_into().unwrap());
        let before = self.arrived.iter().any(|(arrived, _)| *arrived == number);
        assert!(!before || qos == QoS::AtLeastOnce, "{number} arrived twice with {qos:?}");
        if !before {
            // Repetitions apart, messages of one quality of service arrive in order.
            let latest = self.arrived.iter().filter(|(_, q)| *q == qos).map(|(n, _)| *n).max();
            assert!(latest.is_none_or(|latest| latest < number), "{number} after {latest:?}");
        }
        self.arrived.push((number, qos));
    }

    fn assert_all_arrived(&self) {
        assert!(self.in_flight.is_empty(), "{:?} in flight", self.in_flight);
        let arrived: BTreeSet<_> = self.arrived.iter().map(|(number, _)| *number).collect();
        for (number, qos) in &self.promised {
            assert!(arrived.contains(number), "{number} with {qos:?} never arrived");
        }
    }
}

struct Pair {
    client: Client,
    server: ServerConnection,
    /// The session, while no connection has it.
    parked: Option<SessionState>,
    accepted: bool,
    up: VecDeque<u8>,
    down: VecDeque<u8>,
    /// What the policy has not taken yet.
    held: VecDeque<(PacketIdentifier, Vec<u8>, QoS)>,
    to_server: Flow,
    to_client: Flow,
}

fn server() -> ServerConnection {
    let config = ServerConfig {
        max_in_flight: WINDOW,
        max_unreleased: WINDOW,
        max_transmit_buffer: BUFFER,
        ..ServerConfig::default()
    };
    ServerConnection::new(&config, T0)
}

impl Pair {
    fn new() -> Self {
        let config = ClientConfig {
            max_in_flight: WINDOW,
            max_unreleased: WINDOW,
            max_transmit_buffer: BUFFER,
            ..ClientConfig::default()
        };
        let mut pair = Self {
            client: Client::new(config),
            server: server(),
            parked: None,
            accepted: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
            held: VecDeque::new(),
            to_server: Flow::default(),
            to_client: Flow::default(),
        };
        pair.connect();
        pair
    }

    fn connect(&mut self) {
        let connect = Connect { keep_alive: 0, ..hello("c", false) };
        self.client.connect(&connect, T0).unwrap();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::ClientPublishes(qos) => {
                let before = self.client.poll_transmit().map_or(0, <[u8]>::len);
                let payload = self.to_server.published.to_be_bytes();
                match self.client.publish(topic("up"), &payload, qos, false, T0) {
                    Ok(handle) => {
                        let wire = &self.client.poll_transmit().unwrap()[before..];
                        self.to_server.sent(qos, handle, wire);
                    }
                    Err(error) => assert_visible(&error),
                }
            }
            Step::ServerPublishes(qos) => {
                let before = self.server.poll_transmit().map_or(0, <[u8]>::len);
                let payload = self.to_client.published.to_be_bytes();
                match self.server.publish(topic("down"), &payload, qos, false) {
                    Ok(handle) => {
                        let wire = &self.server.poll_transmit().unwrap()[before..];
                        self.to_client.sent(qos, handle, wire);
                    }
                    Err(error) => assert_visible(&error),
                }
            }
            Step::Subscribes => {
                // Takes an identifier away from the messages; refused visibly where it cannot.
                let _ = self.client.subscribe(&[(filter("f"), QoS::AtMostOnce)], T0);
            }
            Step::Up(count) => {
                let bytes = self.client.poll_transmit().unwrap_or_default();
                let count = count.min(bytes.len());
                self.up.extend(&bytes[..count]);
                self.client.handle_transmitted(count);
            }
            Step::Down(count) => {
                let bytes = self.server.poll_transmit().unwrap_or_default();
                let count = count.min(bytes.len());
                self.down.extend(&bytes[..count]);
                self.server.handle_transmitted(count);
            }
            Step::UpArrives(count) => {
                let bytes: Vec<u8> = self.up.drain(..count.min(self.up.len())).collect();
                self.server_receives(&bytes);
            }
            Step::DownArrives(count) => {
                let bytes: Vec<u8> = self.down.drain(..count.min(self.down.len())).collect();
                self.client_receives(&bytes);
            }
            Step::Takes => {
                if let Some((id, payload, qos)) = self.held.pop_front() {
                    self.to_server.arrived(&payload, qos);
                    self.server.acknowledge(id);
                }
            }
            Step::Cut => self.cut(),
        }
        self.heed_the_end();
        let waiting = [self.client.poll_transmit(), self.server.poll_transmit()];
        for waiting in waiting.map(|bytes| bytes.map_or(0, <[u8]>::len)) {
            assert!(waiting <= MOST_WAITING, "{waiting} bytes wait");
        }
        assert!(self.client.in_flight() <= usize::from(WINDOW));
        assert!(self.server.in_flight() <= usize::from(WINDOW));
    }

    /// An engine may end the connection by itself, because the other side does not read.
    fn heed_the_end(&mut self) {
        let mut ended = false;
        while let Some(event) = self.client.poll_event() {
            match event {
                ClientEvent::Closed(CloseReason::SlowPeer) => ended = true,
                ClientEvent::SubscribeLost(_) => {}
                other => panic!("{other:?}"),
            }
        }
        while let Some(event) = self.server.poll_event() {
            let ServerEvent::Closed(CloseReason::SlowPeer) = event else { panic!("{event:?}") };
            ended = true;
        }
        if ended {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.client.handle_closed();
        self.server.handle_closed();
        while self.client.poll_event().is_some() {}
        if self.accepted {
            self.parked = Some(self.server.take_session());
        }
        self.accepted = false;
        self.server = server();
        self.up.clear();
        self.down.clear();
        // What was not taken is not the policy's.
        self.held.clear();
        self.connect();
    }

    fn server_receives(&mut self, mut bytes: &[u8]) {
        while let Some(event) = self.server.handle_bytes(&mut bytes, T0) {
            match event {
                ServerEvent::Connect(_) => {
                    match self.parked.take() {
                        Some(session) => self.server.resume(session, T0),
                        None => self.server.accept(false, T0),
                    }
                    self.accepted = true;
                }
                ServerEvent::Publish(publish) => match publish.packet_identifier() {
                    None => self.to_server.arrived(publish.payload, publish.qos()),
                    Some(id) => {
                        self.held.push_back((id, publish.payload.to_vec(), publish.qos()));
                    }
                },
                ServerEvent::Subscribe(subscribe) => {
                    let id = subscribe.id;
                    self.server.suback(id, &[zerotouch_mqtt_codec::SubAckReturnCode::Failure]);
                }
                ServerEvent::Acknowledged(handle) => self.to_client.completed(handle),
                ServerEvent::Progress => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn client_receives(&mut self, mut bytes: &[u8]) {
        while let Some(event) = self.client.handle_bytes(&mut bytes, T0) {
            match event {
                ClientEvent::Message(message) => {
                    self.to_client.arrived(message.payload, message.qos());
                }
                ClientEvent::Published(handle) => self.to_server.completed(handle),
                ClientEvent::Connected { .. }
                | ClientEvent::Subscribed(..)
                | ClientEvent::Progress => {}
                ClientEvent::Closed(CloseReason::SlowPeer) => {
                    self.cut();
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The network works from now on, and the policy takes everything.
    fn settle(&mut self) {
        for _ in 0..100 {
            for step in [
                Step::Up(usize::MAX),
                Step::UpArrives(usize::MAX),
                Step::Takes,
                Step::Takes,
                Step::Down(usize::MAX),
                Step::DownArrives(usize::MAX),
            ] {
                self.step(step);
            }
        }
    }
}

fn assert_visible(error: &PublishError) {
    assert!(
        matches!(
            error,
            PublishError::NotConnected
                | PublishError::WindowFull { limit: WINDOW }
                | PublishError::TransmitBufferFull { limit: BUFFER }
        ),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn promises_hold_over_every_connection(steps in prop::collection::vec(step(), 1..200)) {
        let mut pair = Pair::new();
        for step in steps {
            pair.step(step);
        }
        pair.settle();
        pair.to_server.assert_all_arrived();
        pair.to_client.assert_all_arrived();
    }
}
