//! The server engine with the plain broker: what it does beyond the normative statements, its limits
//! above all.

use std::time::Duration;

use proptest::prelude::*;
use zerotouch_mqtt_codec::{
    Connect, ConnectRefusal, QoS, SubAckReturnCode, TopicFilter, TopicName,
};
use zerotouch_mqtt_session::{
    Broker, BrokerEvent, CloseReason, ConnectionId, Deliveries, Matches, Message, OpenError,
    PlainBrokerConfig, Publication, Server, ServerAction, ServerConfig, ServerLimits, SessionId,
    SubscriptionTrie, Verdict,
};

use crate::support::*;

fn with_limits(limits: ServerLimits) -> World {
    World::with(limits, PlainBrokerConfig::default())
}

#[test]
fn connections_are_bounded() {
    let mut world = with_limits(ServerLimits { max_connections: 2, ..ServerLimits::default() });
    world.open(1);
    assert_eq!(
        world.server.handle_open(ConnectionId(1), T0),
        Err(OpenError::InUse(ConnectionId(1)))
    );
    world.open(2);
    assert_eq!(
        world.server.handle_open(ConnectionId(3), T0),
        Err(OpenError::TooManyConnections { limit: 2 })
    );
    world.cut(1);
    world.open(3);
}

#[test]
fn sessions_are_bounded() {
    let mut world = with_limits(ServerLimits { max_sessions: 1, ..ServerLimits::default() });
    world.connect(1, "kept", false);
    world.cut(1);
    assert_eq!(world.connect(2, "other", true), [0x20, 2, 0, 3], "no room: server unavailable");
    assert!(world.is_closed(2));
    assert_eq!(world.connect(3, "kept", false), CONNACK_RESUMED, "that one needs none");
    world.send(3, &DISCONNECT);
    assert_eq!(world.connect(4, "kept", true), CONNACK, "nor does what replaces it");
    world.send(4, &DISCONNECT);
    assert_eq!(world.connect(5, "other", true), CONNACK);
}

// A queue that is full is not a reason to lose a promised message in silence.
#[test]
fn a_session_whose_queue_is_full_ends_visibly() {
    let mut world = with_limits(ServerLimits { max_queued: 2, ..ServerLimits::default() });
    world.publisher(9);
    world.connect(1, "away", false);
    world.send(1, &subscribe(1, &[("t", QoS::AtLeastOnce)]));
    world.cut(1);
    world.events();
    for number in 1..=3 {
        assert_eq!(world.send(9, &qos1(number, "t", "x")), puback(number));
    }
    assert_eq!(world.events(), [BrokerEvent::SessionDiscarded { client_id: "away".into() }]);
    assert_eq!(world.connect(2, "away", false), CONNACK, "the client learns that it is gone");
}

#[test]
fn bytes_that_wait_for_a_client_are_bounded() {
    let limits = ServerLimits { max_queued_bytes: 100, ..ServerLimits::default() };
    let mut world = with_limits(limits);
    world.publisher(9);
    world.connect(1, "away", false);
    world.send(1, &subscribe(1, &[("t", QoS::AtLeastOnce)]));
    world.cut(1);
    world.send(9, &qos1(1, "t", &"x".repeat(99)));
    assert_eq!(world.server.session_count(), 2);
    world.send(9, &qos1(2, "t", ""));
    assert_eq!(world.server.session_count(), 1);
}

// A client that reads slowly: what is at most once is dropped and counted, what is promised ends the
// session. Its Will goes out, and those who get it may be slow themselves.
#[test]
fn a_client_that_does_not_read_is_dropped() {
    let limits = ServerLimits {
        connection: ServerConfig { max_transmit_buffer: 50, ..ServerConfig::default() },
        max_queued: 2,
        ..ServerLimits::default()
    };
    let mut world = with_limits(limits);
    world.publisher(9);
    world.subscriber(7, &[("gone", QoS::AtMostOnce)]);
    world.open(1);
    world.send(1, &connect_with_will("slow", true, Some(("gone", "slow", QoS::AtMostOnce, false))));
    world.send(1, &subscribe(1, &[("t", QoS::AtLeastOnce)]));
    let payload = "x".repeat(40);
    let server = |world: &mut World, bytes: &[u8]| {
        world.server.handle_bytes(ConnectionId(9), bytes, T0);
    };
    for _ in 0..4 {
        server(&mut world, &qos0("t", &payload));
    }
    assert_eq!(world.server.dropped_messages(), 1, "one is on its way, two wait");
    assert!(!world.is_closed(1));
    server(&mut world, &qos1(1, "t", &payload));
    assert_eq!(world.received(7), qos0("gone", "slow"));
    assert_eq!(world.received(1), qos0("t", &payload), "what was on its way may be read still");
    assert!(world.is_closed(1));
    assert!(world.events().iter().any(|event| matches!(
        event,
        BrokerEvent::Closed { connection: ConnectionId(1), reason: CloseReason::SlowPeer, .. }
    )));
}

// At most once means now: a client that comes back is not told yesterday's news.
#[test]
fn what_is_at_most_once_does_not_wait_for_a_client_that_is_away() {
    let connection = ServerConfig { max_transmit_buffer: 50, ..ServerConfig::default() };
    let mut world = with_limits(ServerLimits { connection, ..ServerLimits::default() });
    world.publisher(9);
    world.connect(1, "c", false);
    world.send(1, &subscribe(1, &[("t", QoS::AtLeastOnce)]));
    let payload = "x".repeat(40);
    for message in [qos0("t", &payload), qos0("t", "waits"), qos1(1, "t", "waits too")] {
        world.server.handle_bytes(ConnectionId(9), &message, T0);
    }
    world.cut(1);
    world.send(9, &qos0("t", "away"));
    assert_eq!(world.connect(2, "c", false), [connack(true), qos1(1, "t", "waits too")].concat());
}

// Clients know no window for QoS 2: a burst of any size is one.
#[test]
fn a_burst_of_exactly_once_is_taken() {
    let mut world = World::new();
    world.publisher(1);
    let burst: Vec<u8> = (1..=2_000).flat_map(|number| qos2(number, "t", "x")).collect();
    let answers: Vec<u8> = (1..=2_000).flat_map(pubrec).collect();
    assert_eq!(world.send(1, &burst), answers);
}

// Whoever keeps a closed connection open keeps its memory: not for long.
#[test]
fn a_closed_connection_lingers_for_a_while() {
    let mut world = World::new();
    world.open(1);
    let foreign_level = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 10, 0, 1, b'd'];
    assert!(world.server.is_open(ConnectionId(1)));
    world.server.handle_bytes(ConnectionId(1), &foreign_level, T0);
    assert!(!world.server.is_open(ConnectionId(1)));
    assert_eq!(world.server.poll_action(), Some(ServerAction::Transmit(ConnectionId(1))));
    assert_eq!(world.server.poll_action(), None, "not before its last bytes are taken");
    world.wait(Duration::from_secs(9));
    assert!(!world.is_closed(1));
    world.wait(Duration::from_secs(1));
    assert!(world.is_closed(1));
    assert_eq!((world.server.connection_count(), world.server.poll_timeout()), (0, None));
}

#[test]
fn retained_messages_are_bounded() {
    let config = PlainBrokerConfig {
        max_retained: 2,
        max_retained_bytes: 20,
        ..PlainBrokerConfig::default()
    };
    let mut world = World::with(ServerLimits::default(), config);
    world.publisher(1);
    for (topic, payload, taken) in
        [("a", "1", true), ("b", "2", true), ("a", "replaced", true), ("c", "3", false)]
    {
        let answer = world.send(1, &retained(qos1(1, topic, payload)));
        assert_eq!(answer == puback(1), taken, "{topic}");
    }
    assert!(world.is_closed(1), "there is no other way to say no");
    world.publisher(2);
    assert_eq!(world.send(2, &retained(qos1(1, "a", ""))), puback(1), "makes room");
    assert_eq!(world.send(2, &retained(qos1(1, "c", "3"))), puback(1));
    assert_eq!(world.send(2, &retained(qos1(1, "c", &"3".repeat(18)))), b"", "too many bytes");
}

// Test suites want one subscription that fails. Its neighbours in the packet do not.
#[test]
fn a_filter_is_refused_to_the_letter() {
    let refused_filters = ["no/+".into()].into();
    let config = PlainBrokerConfig { refused_filters, ..PlainBrokerConfig::default() };
    let mut world = World::with(ServerLimits::default(), config);
    world.publisher(1);
    let filters = [("a", QoS::AtMostOnce), ("no/+", QoS::AtLeastOnce), ("no/x", QoS::ExactlyOnce)];
    assert_eq!(world.send(1, &subscribe(7, &filters)), suback(7, &[0, 0x80, 2]));
    assert_eq!(world.send(1, &qos0("no/y", "1")), b"", "nothing was subscribed");
    assert_eq!(world.send(1, &qos0("no/x", "1")), qos0("no/x", "1"));
}

// A Will has nobody left to tell: the onlooker is told.
#[test]
fn a_will_that_cannot_be_retained_is_reported() {
    let config = PlainBrokerConfig { max_retained: 0, ..PlainBrokerConfig::default() };
    let mut world = World::with(ServerLimits::default(), config);
    world.open(1);
    world.send(1, &connect_with_will("c", true, Some(("w", "x", QoS::AtMostOnce, true))));
    world.cut(1);
    assert_eq!(world.events().pop(), Some(BrokerEvent::WillRefused { topic: "w".into() }));
}

// The window is the client's pace: what is beyond it waits its turn, in order.
#[test]
fn messages_wait_for_the_window() {
    let connection = ServerConfig { max_in_flight: 2, ..ServerConfig::default() };
    let mut world = with_limits(ServerLimits { connection, ..ServerLimits::default() });
    world.publisher(9);
    world.subscriber(1, &[("t", QoS::AtLeastOnce)]);
    for number in 1..=4 {
        world.send(9, &qos1(number, "t", &number.to_string()));
    }
    assert_eq!(world.received(1), [qos1(1, "t", "1"), qos1(2, "t", "2")].concat());
    assert_eq!(world.send(1, &puback(1)), qos1(3, "t", "3"));
    assert_eq!(world.send(1, &[puback(2), puback(3)].concat()), qos1(4, "t", "4"));
}

// What waits for the transport goes out when the transport has room, without another packet's help.
#[test]
fn messages_wait_for_the_transport() {
    let connection = ServerConfig { max_transmit_buffer: 50, ..ServerConfig::default() };
    let mut world = with_limits(ServerLimits { connection, ..ServerLimits::default() });
    world.publisher(9);
    world.subscriber(1, &[("t", QoS::AtMostOnce)]);
    let message = qos0("t", &"x".repeat(40));
    world.server.handle_bytes(ConnectionId(9), &message.repeat(4), T0);
    assert_eq!(world.received(1), message.repeat(4));
}

// Limits are on what is kept, not on what has passed.
#[test]
fn what_is_gone_makes_room() {
    let limits = ServerLimits { max_queued: 2, max_queued_bytes: 50, ..ServerLimits::default() };
    let config = PlainBrokerConfig { max_retained_bytes: 50, ..PlainBrokerConfig::default() };
    let mut world = World::with(limits, config);
    world.publisher(9);
    world.subscriber(1, &[("t", QoS::AtLeastOnce)]);
    let payload = "x".repeat(40);
    for number in 1..=100 {
        assert_eq!(world.send(9, &retained(qos1(number, "t", &payload))), puback(number));
        assert_eq!(world.received(1), qos1(number, "t", &payload));
        world.send(1, &puback(number));
    }
}

// A policy that is not the plain one: it knows its clients by name, refuses, and speaks up itself.
#[test]
fn a_policy_decides() {
    #[derive(Debug, Default)]
    struct Hub {
        sessions: Vec<(SessionId, String)>,
    }

    impl Broker for Hub {
        fn connect(
            &mut self,
            connection: ConnectionId,
            connect: &Connect<'_>,
        ) -> Result<(), ConnectRefusal> {
            match (connection, connect.client_id.as_str()) {
                (ConnectionId(1), "stranger") => Err(ConnectRefusal::NotAuthorized),
                _ => Ok(()),
            }
        }

        fn session_began(&mut self, session: SessionId, client_id: &str) {
            self.sessions.push((session, client_id.into()));
        }

        fn subscribe(
            &mut self,
            _: SessionId,
            filter: TopicFilter<'_>,
            _: QoS,
            _: &mut Deliveries,
        ) -> SubAckReturnCode {
            if filter.as_str().starts_with("$hub/") {
                SubAckReturnCode::Granted(QoS::AtMostOnce)
            } else {
                SubAckReturnCode::Failure
            }
        }

        fn unsubscribe(&mut self, _: SessionId, _: TopicFilter<'_>) {}

        fn publish(
            &mut self,
            session: SessionId,
            publication: &Publication,
            deliveries: &mut Deliveries,
        ) -> Verdict {
            if publication.message.topic().as_str() != "$hub/ask" {
                return Verdict::Refuse;
            }
            let answer = Message::new(topic("$hub/answer"), publication.message.payload());
            deliveries.deliver(session, &answer, QoS::AtMostOnce, false);
            Verdict::Accept
        }

        fn session_ended(&mut self, session: SessionId) {
            self.sessions.retain(|(known, _)| *known != session);
        }
    }

    let mut server = Server::new(Hub::default(), ServerLimits::default());
    let mut talk = |connection: u64, bytes: &[u8]| {
        let id = ConnectionId(connection);
        let _ = server.handle_open(id, T0);
        server.handle_bytes(id, bytes, T0);
        let sent = server.poll_transmit(id).unwrap_or_default().to_vec();
        server.handle_transmitted(id, sent.len(), T0);
        (sent, server.broker().sessions.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>())
    };
    assert_eq!(talk(1, &connect_packet("stranger", true)), (vec![0x20, 2, 0, 5], vec![]));
    assert_eq!(talk(2, &connect_packet("d", true)), (connack(false), vec!["d".to_owned()]));
    let filters = [("t", QoS::AtMostOnce), ("$hub/#", QoS::AtLeastOnce)];
    assert_eq!(talk(2, &subscribe(1, &filters)).0, suback(1, &[0x80, 0]));
    assert_eq!(
        talk(2, &qos1(2, "$hub/ask", "?")).0,
        [puback(2), qos0("$hub/answer", "?")].concat()
    );
    assert_eq!(talk(2, &qos1(3, "elsewhere", "?")), (vec![], vec![]), "closed, and forgotten");
}

/// Filters and names that meet: few levels of few words.
fn levels(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 1..5).prop_map(|levels| levels.join("/"))
}

proptest! {
    // The trie against the definition: one filter at a time.
    #[test]
    fn the_trie_finds_what_matches(
        filters in prop::collection::vec(
            (levels(&["a", "b", "", "+", "+", "#", "$s"]), 0..4_u8, 0..3_u8), 1..40),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        names in prop::collection::vec(levels(&["a", "b", "", "$s"]), 1..20),
    ) {
        let mut trie = SubscriptionTrie::new(8);
        let mut model = std::collections::BTreeMap::new();
        for (filter, subscriber, qos) in &filters {
            let qos = QoS::from_u8(*qos).unwrap();
            if let Ok(parsed) = TopicFilter::new(filter) {
                let before = model.insert((filter.as_str(), *subscriber), qos);
                prop_assert_eq!(trie.insert(parsed, *subscriber, qos), Ok(before));
            }
        }
        for index in removed {
            let (filter, subscriber, _) = index.get(&filters);
            if let Ok(parsed) = TopicFilter::new(filter) {
                let existed = model.remove(&(filter.as_str(), *subscriber)).is_some();
                prop_assert_eq!(trie.remove(parsed, *subscriber), existed);
            }
        }
        let mut matches = Matches::default();
        for name in &names {
            let Ok(name) = TopicName::new(name) else { continue };
            let mut expected = std::collections::BTreeMap::new();
            for ((filter, subscriber), qos) in &model {
                if TopicFilter::new(filter).unwrap().matches(name) {
                    let strongest = expected.entry(*subscriber).or_insert(*qos);
                    *strongest = (*qos).max(*strongest);
                }
            }
            let expected: Vec<_> = expected.into_iter().collect();
            prop_assert_eq!(trie.find(name, &mut matches), expected);
        }
    }
}
