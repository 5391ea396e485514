//! Cloud-to-device messages: what becomes of each.

use std::time::Duration;

use zerotouch_emulator::cloud::{CloudEvent, CommandError, CommandOutcome, ConnectionId, Fixture};
use zerotouch_mqtt_codec::{Packet, PacketIdentifier, QoS, Subscribe, Subscriptions, TopicFilter};

use crate::support::{Got, Identity, World, private_key};

const FILTER: &str = "devices/d/messages/devicebound/#";
const HOUR: Duration = Duration::from_secs(3600);

struct Bench {
    world: World,
    identity: Identity,
}

impl Bench {
    fn new() -> Self {
        let mut world = World::new(Fixture::default());
        let identity = world.provision("d", &private_key(1));
        world.events();
        Self { world, identity }
    }

    fn queue(
        &mut self,
        properties: &[(&str, &str)],
        payload: &[u8],
    ) -> Result<String, CommandError> {
        let id = self.world.cloud.send_command("d", properties, payload, self.world.now);
        self.world.drain();
        id
    }

    /// Queues messages of these names.
    fn queue_all<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            assert_eq!(self.queue(&[("$.mid", name)], name.as_bytes()), Ok(name.into()));
        }
    }

    fn connect(&mut self, clean_session: bool) -> ConnectionId {
        self.world.connect_hub(&self.identity, clean_session)
    }

    /// Connects and subscribes, if that was not kept.
    fn listen(&mut self) -> ConnectionId {
        let connection = self.connect(false);
        self.world.subscribe(connection, FILTER);
        connection
    }

    /// The bodies of the messages that have come, which have all come at `QoS` 1.
    fn got(&mut self, connection: ConnectionId) -> Vec<String> {
        let got = self.world.received(connection).into_iter();
        let bodies = got.filter_map(|got| match got {
            Got::Message { payload, qos, .. } => {
                assert_eq!(qos, QoS::AtLeastOnce);
                Some(String::from_utf8(payload).unwrap())
            }
            _ => None,
        });
        bodies.collect()
    }

    /// What became of which messages since this was last asked.
    fn settled(&mut self) -> Vec<(String, CommandOutcome)> {
        let events = self.world.events().into_iter();
        let settled = events.filter_map(|event| match event {
            CloudEvent::CommandSettled { device_id, message_id, outcome } => {
                assert_eq!(device_id, "d");
                Some((message_id, outcome))
            }
            _ => None,
        });
        settled.collect()
    }
}

fn all(names: &[&str], outcome: CommandOutcome) -> Vec<(String, CommandOutcome)> {
    names.iter().map(|name| ((*name).into(), outcome)).collect()
}

// A device that was away finds what was sent to it, in order, each message once.
#[test]
fn messages_wait_for_their_device() {
    let mut bench = Bench::new();
    bench.queue_all(["1", "2"]);
    let connection = bench.connect(false);
    assert_eq!(bench.got(connection), [""; 0], "it does not listen");
    bench.queue_all(["3"]);
    bench.world.subscribe(connection, FILTER);
    assert_eq!(bench.got(connection), ["1", "2", "3"]);
    assert_eq!(bench.settled(), all(&["1", "2", "3"], CommandOutcome::Success));
    // From now on it is there.
    bench.queue_all(["4"]);
    assert_eq!(bench.got(connection), ["4"]);
    bench.world.cut(connection);
    bench.settled();
    bench.queue_all(["5"]);
    let connection = bench.connect(false);
    assert_eq!(bench.got(connection), ["5"], "its subscription was kept, and so was the message");
    assert_eq!(bench.settled(), all(&["5"], CommandOutcome::Success));
}

// As the hub writes a topic; an id that nobody gave is for the service's side alone.
#[test]
fn properties_are_in_the_topic() {
    let mut bench = Bench::new();
    let connection = bench.listen();
    bench.world.received(connection);
    let prefix = "devices/d/messages/devicebound/%24.to=%2Fdevices%2Fd%2Fmessages%2Fdevicebound";
    let properties = [("$.mid", "m 1"), ("$.to", "elsewhere"), ("iothub-ack", "full"), ("a", "=&")];
    assert_eq!(bench.queue(&properties, b"1").as_deref(), Ok("m 1"));
    let (topic, _) = bench.world.message(connection);
    assert_eq!(topic, format!("{prefix}&%24.mid=m%201&iothub-ack=full&a=%3D%26"));
    bench.settled();
    let drawn = bench.queue(&[], b"1").unwrap();
    assert_eq!(bench.world.message(connection).0, prefix);
    assert_eq!(bench.settled(), all(&[&drawn], CommandOutcome::Success));
}

// A queue is as long as the service's, whoever waits at its end.
#[test]
fn queues_are_bounded() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        bench.queue(&[], b"x").unwrap();
    }
    assert_eq!(bench.queue(&[], b"x"), Err(CommandError::QueueFull));
    let connection = bench.listen();
    assert_eq!(bench.got(connection).len(), 50);
    assert!(bench.queue(&[], b"x").is_ok());

    let large = vec![b'x'; 64 * 1024];
    assert!(bench.queue(&[], &large).is_ok());
    assert_eq!(bench.queue(&[("a", "")], &large), Err(CommandError::TooLarge));
    // Encoded it would be longer than a topic can be.
    let long = "/".repeat(32 * 1024);
    assert_eq!(bench.queue(&[("a", &long)], b""), Err(CommandError::TooLarge));
    for (name, value) in [("$.exp", "tomorrow"), ("iothub-ack", "perhaps")] {
        let refused = bench.queue(&[(name, value)], b"");
        assert_eq!(refused, Err(CommandError::Property { name, value: value.into() }));
    }
    let nobody = bench.world.cloud.send_command("nobody", &[], b"", bench.world.now);
    assert_eq!(nobody, Err(CommandError::NoDevice));
}

// An hour unless the message says otherwise, by the time of day that an operator can set.
#[test]
fn messages_expire() {
    let mut bench = Bench::new();
    bench.queue_all(["hour"]);
    let soon = [("$.mid", "soon"), ("$.exp", "2026-09-21T14:13:25Z")];
    bench.queue(&soon, b"soon").unwrap();
    bench.world.wait(Duration::from_secs(4));
    assert_eq!(bench.settled(), []);
    bench.world.wait(Duration::from_secs(1));
    assert_eq!(bench.settled(), all(&["soon"], CommandOutcome::Expired));
    bench.queue_all(["later"]);
    bench.world.wait(Duration::from_secs(3595));
    assert_eq!(bench.settled(), all(&["hour"], CommandOutcome::Expired));
    let time = bench.world.cloud.time(bench.world.now) + HOUR;
    bench.world.cloud.set_time(time, bench.world.now);
    bench.world.wait(Duration::ZERO);
    assert_eq!(bench.settled(), all(&["later"], CommandOutcome::Expired));
    let connection = bench.listen();
    assert_eq!(bench.got(connection), [""; 0]);
    assert_eq!(bench.queue(&[], b"x").map(drop), Ok(()));
    assert_eq!(bench.got(connection), ["x"]);
    bench.world.cut(connection);
    assert_eq!(bench.world.cloud.poll_timeout(), None, "an empty queue has no clock");
}

// Not acknowledged is not delivered: it is sent again on the next connection, ten times in all.
#[test]
fn what_is_never_acknowledged_is_dead_lettered() {
    let mut bench = Bench::new();
    bench.queue_all(["1", "2"]);
    bench.world.acknowledge = false;
    for delivery in 1..=10 {
        // By turns the connection is taken over, and cut.
        let connection = bench.listen();
        assert_eq!(bench.got(connection), ["1", "2"], "{delivery}");
        bench.world.subscribe(connection, FILTER);
        assert_eq!(bench.got(connection), [""; 0], "they are on their way");
        assert_eq!(bench.settled(), []);
        if delivery % 2 == 0 {
            bench.world.cut(connection);
        }
    }
    assert_eq!(bench.settled(), all(&["1", "2"], CommandOutcome::DeliveryCountExceeded));
    let connection = bench.listen();
    assert_eq!(bench.got(connection), [""; 0]);
}

// An acknowledgement is for one message.
#[test]
fn what_is_acknowledged_is_not_sent_again() {
    let mut bench = Bench::new();
    bench.queue_all(["1", "2", "3"]);
    bench.world.acknowledge = false;
    let connection = bench.listen();
    assert_eq!(bench.got(connection), ["1", "2", "3"]);
    bench.world.send(connection, Packet::PubAck(PacketIdentifier::new(2).unwrap()));
    assert_eq!(bench.settled(), all(&["2"], CommandOutcome::Success));
    bench.world.acknowledge = true;
    let connection = bench.listen();
    assert_eq!(bench.got(connection), ["1", "3"]);
}

// A slow device is not flooded: the rest follows as it acknowledges, and nothing else suffers.
#[test]
fn few_messages_are_on_their_way_at_once() {
    let mut bench = Bench::new();
    let large = vec![b'x'; 60 * 1024];
    for _ in 0..12 {
        bench.queue(&[], &large).unwrap();
    }
    bench.world.acknowledge = false;
    let connection = bench.listen();
    assert_eq!(bench.got(connection).len(), 10);
    bench.world.send(connection, Packet::PubAck(PacketIdentifier::MIN));
    assert_eq!(bench.got(connection).len(), 1);
    assert!(!bench.world.is_closed(connection));
}

// At most once: whatever was sent has arrived.
#[test]
fn without_acknowledgements_sent_is_delivered() {
    let mut bench = Bench::new();
    for _ in 0..12 {
        bench.queue(&[], b"x").unwrap();
    }
    let connection = bench.connect(false);
    let filters = [(TopicFilter::new(FILTER).unwrap(), QoS::AtMostOnce)];
    let filters = Subscriptions::new(&filters).unwrap();
    bench.world.send(connection, Subscribe { id: PacketIdentifier::MIN, filters });
    let got = bench.world.received(connection);
    let at_most_once = |got: &&Got| matches!(got, Got::Message { qos: QoS::AtMostOnce, .. });
    assert_eq!(got.iter().filter(at_most_once).count(), 12);
    assert_eq!(bench.settled().len(), 12);
}

// The vendor's reference says so of CleanSession: "only those messages that were sent to it after it
// successfully subscribed".
#[test]
fn a_clean_session_begins_with_its_subscription() {
    let mut bench = Bench::new();
    bench.queue_all(["before"]);
    let connection = bench.connect(true);
    bench.world.subscribe(connection, FILTER);
    bench.queue_all(["after"]);
    assert_eq!(bench.got(connection), ["after"]);
    assert_eq!(bench.settled(), all(&["after"], CommandOutcome::Success));
    let connection = bench.listen();
    assert_eq!(bench.got(connection), ["before"]);
}

// Queues, ids and counts outlive the cloud; a new message is not taken for an old one.
#[test]
fn queues_are_kept() {
    let mut bench = Bench::new();
    bench.queue_all(["1", "2"]);
    bench.world.acknowledge = false;
    for _ in 0..9 {
        let connection = bench.listen();
        bench.world.cut(connection);
    }
    bench.world.restart();
    bench.settled();
    bench.queue_all(["3"]);
    let connection = bench.listen();
    assert_eq!(bench.got(connection), ["1", "2", "3"]);
    bench.world.cut(connection);
    assert_eq!(bench.settled(), all(&["1", "2"], CommandOutcome::DeliveryCountExceeded));
    bench.world.restart();
    bench.world.wait(HOUR);
    assert_eq!(bench.settled(), all(&["3"], CommandOutcome::Expired));
}
