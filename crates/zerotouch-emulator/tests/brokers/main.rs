//! The client engine on real sockets, against mosquitto and against the plain broker: what one takes
//! for granted the other must do, too.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what a test needs and does not get fails it"
)]

mod client;
mod mosquitto;
mod server;

use std::any::Any;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use zerotouch_emulator::PlainBrokerServer;
use zerotouch_mqtt_codec::{Connect, ConnectRefusal, Login, QoS, Text, TopicName, Will};
use zerotouch_mqtt_session::CloseReason;

use client::{Client, Message, Socket, hello, hello_again};

const PATIENCE: Duration = Duration::from_secs(20);
const USERNAME: &str = "pump";
const PASSWORD: &[u8] = b"well water";
const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A broker that runs for as long as this does.
pub(crate) struct Broker {
    name: &'static str,
    dial: Box<dyn Fn() -> Box<dyn Socket>>,
    _running: Box<dyn Any>,
}

impl Broker {
    fn new(
        name: &'static str,
        dial: impl Fn() -> Box<dyn Socket> + 'static,
        running: impl Any,
    ) -> Self {
        Self { name, dial: Box::new(dial), _running: Box::new(running) }
    }

    /// One that speaks plaintext.
    fn at(name: &'static str, address: SocketAddr, running: impl Any) -> Self {
        Self::new(name, move || Box::new(socket(address)), running)
    }
}

fn socket(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn plain_broker() -> Broker {
    let server = PlainBrokerServer::builder().start().unwrap();
    Broker::at("the plain broker", server.address(), server)
}

fn on_every_broker(test: impl Fn(&Broker)) {
    for broker in mosquitto::brokers().into_iter().chain([plain_broker()]) {
        println!("{}", broker.name);
        test(&broker);
    }
}

fn numbered(topic: &str, numbers: std::ops::Range<u32>, qos: QoS) -> Vec<Message> {
    numbers.map(|number| Message::new(topic, number.to_string(), qos)).collect()
}

// More of each than any window takes at once: none lost, none twice, in order, all acknowledged.
#[test]
fn messages_arrive_once_and_in_order() {
    on_every_broker(|broker| {
        for (qos, count) in ALL.into_iter().zip([100, 300, 300]) {
            let mut subscriber = Client::subscribed(broker, "subscriber", &[("t/+", qos)]);
            let mut publisher = Client::connected(broker, "publisher");
            for message in numbered("t/1", 0..count, qos) {
                publisher.publish(&message.topic, &message.payload, qos);
            }
            let acknowledged = publisher.all_acknowledged();
            let awaited = if qos == QoS::AtMostOnce { 0 } else { count as usize };
            assert_eq!(acknowledged, awaited, "{}", broker.name);
            assert_eq!(subscriber.messages(count as usize), numbered("t/1", 0..count, qos));
            assert_eq!(subscriber.rest(), []);
        }
    });
}

// The weaker promise of the two holds, in both directions.
#[test]
fn a_subscription_bounds_the_quality_of_service() {
    on_every_broker(|broker| {
        for granted in ALL {
            let mut client = Client::subscribed(broker, "c", &[("t", granted)]);
            for qos in ALL {
                client.publish("t", "x", qos);
                assert_eq!(client.messages(1), [Message::new("t", "x", qos.min(granted))]);
            }
        }
    });
}

// Far beyond a socket's buffer, and of every byte: what arrives is what was sent.
#[test]
fn a_large_message_stays_whole() {
    let payload: Vec<u8> = (0..1_250_000_u32).flat_map(u32::to_le_bytes).collect();
    on_every_broker(|broker| {
        let mut client = Client::subscribed(broker, "c", &[("t", QoS::ExactlyOnce)]);
        client.publish("t", &payload, QoS::ExactlyOnce);
        let arrived = client.messages(1);
        assert!(arrived == [Message::new("t", &payload, QoS::ExactlyOnce)], "{}", broker.name);
        assert_eq!(client.all_acknowledged(), 1);
    });
}

// The last one is kept for those who come later, marked; an empty one takes it back.
#[test]
fn retained_messages_wait_for_subscribers() {
    on_every_broker(|broker| {
        let mut publisher = Client::connected(broker, "publisher");
        for qos in ALL {
            publisher.publish_retained("r/1", "old", qos);
            publisher.publish_retained("r/1", "new", qos);
            publisher.publish_retained("r/2", "gone", qos);
            publisher.publish_retained("r/2", "", qos);
            publisher.all_acknowledged();
            publisher.rest();
            let filters = [("r/#", QoS::ExactlyOnce)];
            let mut subscriber = Client::subscribed(broker, "subscriber", &filters);
            assert_eq!(subscriber.messages(1), [Message::new("r/1", "new", qos).retained()]);
            assert_eq!(subscriber.rest(), [], "{}", broker.name);
            publisher.publish_retained("r/1", "now", qos);
            publisher.all_acknowledged();
            assert_eq!(subscriber.messages(1), [Message::new("r/1", "now", qos)], "it was there");
        }
    });
}

// Said for a client whose socket is cut, and not for one that takes its leave.
#[test]
fn a_will_is_for_those_who_go_without_a_word() {
    on_every_broker(|broker| {
        let mut heir = Client::subscribed(broker, "heir", &[("will", QoS::AtLeastOnce)]);
        let topic = TopicName::new("will").unwrap();
        let will = Will { topic, message: b"farewell", qos: QoS::AtLeastOnce, retain: false };
        let connect = Connect { will: Some(will), ..hello("testator") };
        let mut testator = Client::new();
        testator.connect(broker, &connect).unwrap();
        testator.disconnect();
        assert_eq!(heir.rest(), [], "{}", broker.name);
        testator.connect(broker, &connect).unwrap();
        testator.cut();
        assert_eq!(heir.messages(1), [Message::new("will", "farewell", QoS::AtLeastOnce)]);
    });
}

// Subscriptions and what came meanwhile outlive the connection, and a clean session ends them.
#[test]
fn a_session_waits_for_its_client() {
    on_every_broker(|broker| {
        let mut publisher = Client::connected(broker, "publisher");
        let mut sleeper = Client::new();
        assert_eq!(sleeper.connect(broker, &hello_again("sleeper")), Ok(false));
        sleeper.granted(&[("one", QoS::AtLeastOnce), ("two", QoS::ExactlyOnce)]);
        sleeper.disconnect();
        for (topic, qos) in [("one", QoS::AtLeastOnce), ("two", QoS::ExactlyOnce)] {
            for message in numbered(topic, 0..50, qos) {
                publisher.publish(topic, &message.payload, qos);
            }
        }
        publisher.all_acknowledged();
        assert_eq!(sleeper.connect(broker, &hello_again("sleeper")), Ok(true), "{}", broker.name);
        assert_eq!(sleeper.messages(50), numbered("one", 0..50, QoS::AtLeastOnce));
        assert_eq!(sleeper.messages(50), numbered("two", 0..50, QoS::ExactlyOnce));
        assert_eq!(sleeper.rest(), []);
        sleeper.disconnect();
        assert_eq!(sleeper.connect(broker, &hello("sleeper")), Ok(false));
        publisher.publish("one", "", QoS::AtLeastOnce);
        publisher.all_acknowledged();
        assert_eq!(sleeper.rest(), []);
    });
}

// Acknowledgements on their way to us are lost: we send again, and exactly once stays exactly once.
#[test]
fn what_we_sent_before_a_cut_arrives() {
    on_every_broker(|broker| {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut subscriber = Client::subscribed(broker, "subscriber", &[("t", qos)]);
            let mut publisher = Client::new();
            publisher.connect(broker, &hello_again("publisher")).unwrap();
            for number in 0..10 {
                publisher.publish("t", number.to_string(), qos);
            }
            // They have arrived, and what says so is never read.
            let mut arrived = subscriber.messages(usize::from(qos == QoS::AtLeastOnce) * 10);
            publisher.cut();
            assert_eq!(publisher.connect(broker, &hello_again("publisher")), Ok(true));
            assert_eq!(publisher.all_acknowledged(), 10, "{}", broker.name);
            arrived.extend(subscriber.messages(10));
            let expected = numbered("t", 0..10, qos);
            match qos {
                QoS::ExactlyOnce => assert_eq!(arrived, expected),
                _ => assert_eq!(arrived, [expected.clone(), expected].concat(), "each twice"),
            }
            assert_eq!(subscriber.rest(), []);
            publisher.disconnect();
            assert_eq!(publisher.connect(broker, &hello("publisher")), Ok(false));
        }
    });
}

// Our acknowledgements are lost: the broker sends again, marked, and the engine knows what it has had.
#[test]
fn what_was_sent_to_us_before_a_cut_comes_again() {
    on_every_broker(|broker| {
        let mut publisher = Client::connected(broker, "publisher");
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut subscriber = Client::new();
            assert_eq!(subscriber.connect(broker, &hello_again("subscriber")), Ok(false));
            subscriber.granted(&[("t", qos)]);
            for number in 0..10 {
                publisher.publish("t", number.to_string(), qos);
            }
            publisher.all_acknowledged();
            let expected = numbered("t", 0..10, qos);
            assert_eq!(subscriber.only_read(10), expected, "{}", broker.name);
            subscriber.cut();
            assert_eq!(subscriber.connect(broker, &hello_again("subscriber")), Ok(true));
            if qos == QoS::AtLeastOnce {
                let again: Vec<_> = expected.into_iter().map(Message::again).collect();
                assert_eq!(subscriber.messages(10), again, "{}", broker.name);
            }
            publisher.publish("t", "more", qos);
            publisher.all_acknowledged();
            assert_eq!(subscriber.messages(1), [Message::new("t", "more", qos)]);
            assert_eq!(subscriber.rest(), []);
            subscriber.disconnect();
            assert_eq!(subscriber.connect(broker, &hello("subscriber")), Ok(false));
            subscriber.disconnect();
        }
    });
}

// One identifier, one connection: the older one ends, and the session goes over.
#[test]
fn the_later_connection_takes_over() {
    on_every_broker(|broker| {
        let mut first = Client::new();
        first.connect(broker, &hello_again("c")).unwrap();
        first.granted(&[("t", QoS::AtLeastOnce)]);
        let mut second = Client::new();
        assert_eq!(second.connect(broker, &hello_again("c")), Ok(true), "{}", broker.name);
        assert_eq!(first.ended(), CloseReason::Ended);
        second.publish("t", "here", QoS::AtLeastOnce);
        // A broker may have tried the connection that is gone before.
        let mut arrived = second.messages(1);
        for message in &mut arrived {
            message.dup = false;
        }
        assert_eq!(arrived, [Message::new("t", "here", QoS::AtLeastOnce)]);
    });
}

#[test]
fn filters_choose() {
    on_every_broker(|broker| {
        let filters = [("+/b", QoS::AtLeastOnce), ("a/#", QoS::AtMostOnce), ("#", QoS::AtMostOnce)];
        let mut client = Client::subscribed(broker, "c", &filters);
        client.unsubscribe("#");
        for topic in ["a/b", "a", "x/b", "x/b/c", "/b", "$a/b", "a/"] {
            client.publish(topic, topic, QoS::AtLeastOnce);
        }
        client.all_acknowledged();
        let mut arrived: Vec<_> = client.rest().into_iter().map(|message| message.topic).collect();
        // Whether overlapping subscriptions bring one copy or several is the broker's choice.
        arrived.dedup();
        assert_eq!(arrived, ["a/b", "a", "x/b", "/b", "a/"], "{}", broker.name);
    });
}

#[test]
fn an_identifier_may_be_left_to_the_broker() {
    on_every_broker(|broker| {
        let mut nameless = Client::connected(broker, "");
        let mut another = Client::subscribed(broker, "", &[("t", QoS::AtMostOnce)]);
        nameless.publish("t", "x", QoS::AtMostOnce);
        assert_eq!(another.messages(1), [Message::new("t", "x", QoS::AtMostOnce)]);
    });
}

// Only mosquitto knows passwords.
#[test]
fn a_wrong_password_is_refused_by_code() {
    for broker in mosquitto::brokers() {
        for password in [Some(&b"salt water"[..]), None] {
            let connect = Connect {
                login: Some(Login { username: Text::new(USERNAME).unwrap(), password }),
                ..hello("c")
            };
            let refused = CloseReason::Refused(ConnectRefusal::NotAuthorized);
            assert_eq!(Client::new().connect(&broker, &connect), Err(refused), "{}", broker.name);
        }
    }
}
