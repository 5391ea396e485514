//! What only the plain broker's own server promises: its limits, its events, its end.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use zerotouch_emulator::PlainBrokerServer;
use zerotouch_emulator::server::{PlainBrokerEvent, StartError};
use zerotouch_mqtt_codec::{Connect, QoS, SubAckReturnCode, TopicName, Will};
use zerotouch_mqtt_session::{CloseReason, PlainBrokerConfig, ServerLimits};

use super::client::{Client, Message, hello, hello_again};
use super::{Broker, PATIENCE, socket};

fn next_event(server: &PlainBrokerServer) -> PlainBrokerEvent {
    server.next_event(PATIENCE).expect("the event does not come")
}

/// The sockets of a server that the test keeps.
fn at(server: &PlainBrokerServer) -> Broker {
    Broker::at("the plain broker", server.address(), ())
}

#[test]
fn a_refused_filter_is_answered_and_others_are_granted() {
    let refused_filters = ["test/nosubscribe".into()].into();
    let config = PlainBrokerConfig { refused_filters, ..PlainBrokerConfig::default() };
    let server = PlainBrokerServer::builder().config(config).start().unwrap();
    let mut client = Client::connected(&at(&server), "c");
    let codes =
        client.subscribe(&[("test/nosubscribe", QoS::ExactlyOnce), ("a", QoS::AtLeastOnce)]);
    let granted = SubAckReturnCode::Granted(QoS::AtLeastOnce);
    assert_eq!(codes, [SubAckReturnCode::Failure, granted]);
}

// As a script at the other end of a pipe reads them.
#[test]
fn events_tell_who_came_and_why_they_went() {
    let server = PlainBrokerServer::builder().start().unwrap();
    let mut client = Client::new();
    let mut told = Vec::new();
    for session_present in [false, true] {
        assert_eq!(client.connect(&at(&server), &hello_again("pump")), Ok(session_present));
        client.disconnect();
        told.extend([next_event(&server), next_event(&server)]);
    }
    let told: Vec<_> = told.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    assert_eq!(
        told,
        [
            r#"{"event":"connected","connection":1,"clientId":"pump","sessionPresent":false}"#,
            r#"{"event":"closed","connection":1,"clientId":"pump","reason":"disconnected"}"#,
            r#"{"event":"connected","connection":2,"clientId":"pump","sessionPresent":true}"#,
            r#"{"event":"closed","connection":2,"clientId":"pump","reason":"disconnected"}"#,
        ]
    );
    assert_eq!(server.next_event(Duration::ZERO), None);
}

// A client that is there and says nothing is missed after one and a half times its keep-alive: nothing
// but the shell's clock brings that up.
#[test]
fn silence_is_noticed() {
    let server = PlainBrokerServer::builder().start().unwrap();
    let broker = at(&server);
    let mut heir = Client::subscribed(&broker, "heir", &[("will", QoS::AtMostOnce)]);
    let topic = TopicName::new("will").unwrap();
    let will = Some(Will { topic, message: b"silent", qos: QoS::AtMostOnce, retain: false });
    let mut silent = Client::new();
    silent.connect(&broker, &Connect { keep_alive: 1, will, ..hello("silent") }).unwrap();
    assert_eq!(heir.messages(1), [Message::new("will", "silent", QoS::AtMostOnce)]);
    assert_eq!(silent.ended(), CloseReason::Ended);
}

// A flood finds a closed door, and whoever was in is served on; a place that is left is taken again.
#[test]
fn too_many_connections_are_closed() {
    let limits = ServerLimits { max_connections: 2, ..ServerLimits::default() };
    let server = PlainBrokerServer::builder().limits(limits).start().unwrap();
    let broker = at(&server);
    let mut client = Client::subscribed(&broker, "c", &[("t", QoS::AtMostOnce)]);
    let idle = socket(server.address());
    for _ in 0..100 {
        let mut refused = socket(server.address());
        let ended = refused.read(&mut [0]);
        assert!(matches!(&ended, Ok(0)) || ended.is_err_and(|e| e.kind() != ErrorKind::WouldBlock));
    }
    client.publish("t", "still here", QoS::AtMostOnce);
    assert_eq!(client.messages(1), [Message::new("t", "still here", QoS::AtMostOnce)]);
    drop(idle);
    // The broker says when it has noticed.
    while !matches!(next_event(&server), PlainBrokerEvent::Closed { client_id: None, .. }) {}
    let mut late = Client::new();
    while late.connect(&broker, &hello_again("late")).is_err() {}
}

// Whoever does not read does not stop the others, and is let go with what waits for it.
#[test]
fn a_client_that_does_not_read_ends_alone() {
    let limits = ServerLimits { max_queued_bytes: 1024 * 1024, ..ServerLimits::default() };
    let server = PlainBrokerServer::builder().limits(limits).start().unwrap();
    let broker = at(&server);
    let filters = [("t", QoS::AtLeastOnce)];
    let _sleeper = Client::subscribed(&broker, "sleeper", &filters);
    let mut reader = Client::subscribed(&broker, "reader", &filters);
    let mut publisher = Client::connected(&broker, "publisher");
    let payload = vec![b'x'; 100_000];
    // Until it is more than sockets, window and queue hold together.
    let reason = loop {
        publisher.publish("t", &payload, QoS::AtLeastOnce);
        publisher.all_acknowledged();
        assert_eq!(reader.messages(1)[0].payload.len(), payload.len());
        let events = std::iter::from_fn(|| server.next_event(Duration::ZERO));
        if let Some(PlainBrokerEvent::Closed { client_id, reason, .. }) =
            events.last().filter(|event| matches!(event, PlainBrokerEvent::Closed { .. }))
        {
            assert_eq!(client_id.as_deref(), Some("sleeper"));
            break reason;
        }
    };
    assert_eq!(reason, CloseReason::SlowPeer.to_string());
}

#[test]
fn starts_on_loopback_and_ends_with_its_handle() {
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = occupied.local_addr().unwrap().port();
    let error = PlainBrokerServer::builder().port(port).start().unwrap_err();
    assert!(matches!(error, StartError::AddressInUse { .. }), "{error}");

    let server = PlainBrokerServer::builder().start().unwrap();
    let address = server.address();
    assert!(address.ip().is_loopback());
    assert_eq!(server.port(), address.port());
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"\x10").unwrap();
    drop(server);
    let ended = socket.read_to_end(&mut Vec::new());
    assert!(!matches!(ended, Err(e) if e.kind() == ErrorKind::WouldBlock));
    TcpListener::bind(address).unwrap();
}
