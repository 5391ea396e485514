//! The server engine against scripted clients, hostile ones among them.

use std::time::Duration;

use zerotouch_mqtt_codec::{PacketIdentifier, QoS, SubAckReturnCode, TopicName};
use zerotouch_mqtt_session::{CloseReason, ServerConfig, ServerConnection, ServerEvent, Violation};
use zerotouch_time::Instant;

const T0: Instant = Instant::from_micros(5);
/// Client id "d", clean session, keep-alive 10 s.
const CONNECT: &[u8] = &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 10, 0, 1, b'd'];

fn after(millis: u64) -> Instant {
    T0 + Duration::from_millis(millis)
}

fn waiting() -> ServerConnection {
    ServerConnection::new(&ServerConfig::default(), T0)
}

/// Feeds bytes to a policy that accepts everything, and yields the events, written out.
fn serve(server: &mut ServerConnection, mut input: &[u8], now: Instant) -> Vec<String> {
    enum Answer {
        None,
        Accept,
        Acknowledge(PacketIdentifier),
        SubAck(PacketIdentifier, usize),
    }
    let mut events = Vec::new();
    while let Some(event) = server.handle_bytes(&mut input, now) {
        let answer = match &event {
            ServerEvent::Connect(_) => Answer::Accept,
            ServerEvent::Publish(publish) => {
                publish.packet_identifier().map_or(Answer::None, Answer::Acknowledge)
            }
            ServerEvent::Subscribe(subscribe) => {
                Answer::SubAck(subscribe.id, subscribe.filters.len())
            }
            _ => Answer::None,
        };
        if !matches!(event, ServerEvent::Progress) {
            events.push(format!("{event:?}"));
        }
        match answer {
            Answer::None => {}
            Answer::Accept => server.accept(false, now),
            Answer::Acknowledge(id) => server.acknowledge(id),
            Answer::SubAck(id, count) => {
                server.suback(id, &vec![SubAckReturnCode::Granted(QoS::AtLeastOnce); count]);
            }
        }
    }
    events.extend(std::iter::from_fn(|| server.poll_event()).map(|event| format!("{event:?}")));
    events
}

fn connected() -> ServerConnection {
    let mut server = waiting();
    assert_eq!(serve(&mut server, CONNECT, T0).len(), 1);
    assert_eq!(sent(&mut server), [0x20, 2, 0, 0]);
    server
}

fn sent(server: &mut ServerConnection) -> Vec<u8> {
    let bytes = server.poll_transmit().unwrap_or_default().to_vec();
    server.handle_transmitted(bytes.len());
    bytes
}

// [MQTT-3.1.2-2] and [MQTT-3.1.3-8]: refused with a CONNACK, not as malformed.
#[test]
fn foreign_levels_and_empty_ids_are_answered() {
    let level_5 = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 10, 0, 1, b'd'];
    let empty_id = [0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 10, 0, 0];
    for (connect, code) in [(&level_5[..], 1), (&empty_id[..], 2)] {
        let mut server = waiting();
        let events = serve(&mut server, connect, T0);
        assert!(events[0].starts_with("Closed(Refused"), "{events:?}");
        assert_eq!(sent(&mut server), [0x20, 2, 0, code]);
    }
}

// One and a half times the interval, measured from the last packet.
#[test]
fn silence_ends_at_one_and_a_half_keep_alives() {
    let mut server = connected();
    serve(&mut server, &[0xC0, 0], after(9_000));
    assert_eq!(sent(&mut server), [0xD0, 0]);
    server.handle_timeout(after(23_999));
    assert!(!server.is_closed());
    server.handle_timeout(after(24_000));
    assert!(matches!(
        server.poll_event(),
        Some(ServerEvent::Closed(CloseReason::KeepAliveTimeout))
    ));
}

#[test]
fn a_keep_alive_of_zero_never_ends() {
    let mut server = waiting();
    let mut connect = CONNECT.to_vec();
    connect[11] = 0;
    serve(&mut server, &connect, T0);
    assert_eq!(server.poll_timeout(), None);
}

// A policy's limit holds for who asked for more, or for no end; who asked for less keeps to that.
#[test]
fn silence_has_a_limit_of_the_policys() {
    for (keep_alive, millis) in [(0, 60_000), (60, 60_000), (10, 15_000)] {
        let config =
            ServerConfig { max_silence: Some(Duration::from_secs(60)), ..ServerConfig::default() };
        let mut server = ServerConnection::new(&config, T0);
        let mut connect = CONNECT.to_vec();
        connect[11] = keep_alive;
        serve(&mut server, &connect, T0);
        assert_eq!(server.poll_timeout(), Some(after(millis)), "{keep_alive}");
    }
}

#[test]
fn the_policy_decides_when_a_message_is_acknowledged() {
    let mut server = connected();
    let events =
        serve(&mut server, &[0x32, 6, 0, 1, b't', 0, 3, b'x', 0x82, 6, 0, 4, 0, 1, b'f', 1], T0);
    assert_eq!(events.len(), 2);
    assert_eq!(sent(&mut server), [0x40, 2, 0, 3, 0x90, 3, 0, 4, 1]);
    let mut input: &[u8] = &[0x32, 6, 0, 1, b't', 0, 5, b'x'];
    assert!(matches!(server.handle_bytes(&mut input, T0), Some(ServerEvent::Publish(_))));
    assert_eq!(sent(&mut server), b"", "no acknowledgement on the engine's own account");
}

// A message is the client's until the policy has taken it: sent again meanwhile, it must be neither
// passed on nor acknowledged, or a policy that then refuses it has lost it.
#[test]
fn nothing_is_acknowledged_before_it_is_taken() {
    let mut server = connected();
    let message: &[u8] = &[0x34, 6, 0, 1, b't', 0, 5, b'x'];
    let id = PacketIdentifier::new(5).unwrap();
    let feed = |server: &mut ServerConnection| {
        let mut input = message;
        matches!(server.handle_bytes(&mut input, T0), Some(ServerEvent::Publish(_)))
    };
    assert!(feed(&mut server));
    assert!(!feed(&mut server));
    assert_eq!(sent(&mut server), b"");
    server.acknowledge(id);
    assert_eq!(sent(&mut server), [0x50, 2, 0, 5]);
    server.acknowledge(id);
    assert_eq!(sent(&mut server), b"", "once");
    assert!(!feed(&mut server));
    assert_eq!(sent(&mut server), [0x50, 2, 0, 5], "from now on a repetition is answered");

    // An identifier that QoS 2 still holds may come with QoS 1: that is answered as QoS 1.
    assert_eq!(serve(&mut server, &[0x32, 6, 0, 1, b't', 0, 5, b'y'], T0).len(), 1);
    assert_eq!(sent(&mut server), [0x40, 2, 0, 5]);
}

// A policy that takes nothing must not let a client fill the memory.
#[test]
fn messages_that_are_not_taken_are_bounded() {
    let config = ServerConfig { max_unreleased: 3, ..ServerConfig::default() };
    let mut server = ServerConnection::new(&config, T0);
    serve(&mut server, CONNECT, T0);
    let messages = [0x32, 6, 0, 1, b't', 0, 5, b'x'].repeat(4);
    let mut input = &messages[..];
    for _ in 0..3 {
        assert!(matches!(server.handle_bytes(&mut input, T0), Some(ServerEvent::Publish(_))));
    }
    let limit = CloseReason::Violation(Violation::TooManyUnacknowledged { limit: 3 });
    assert!(
        matches!(server.handle_bytes(&mut input, T0), Some(ServerEvent::Closed(reason)) if reason == limit)
    );
}

/// CONNECT of client id "d" that keeps its session.
fn resuming_connect() -> Vec<u8> {
    let mut connect = CONNECT.to_vec();
    connect[9] = 0;
    connect
}

// A session moves from one connection to the next: what is in flight with it, in both directions.
#[test]
fn a_session_moves_to_the_next_connection() {
    let mut first = waiting();
    serve(&mut first, &resuming_connect(), T0);
    let topic = TopicName::new("t").unwrap();
    let handles = [QoS::AtLeastOnce, QoS::ExactlyOnce]
        .map(|qos| first.publish(topic, b"x", qos, false).unwrap().unwrap());
    serve(&mut first, &[0x50, 2, 0, 2, 0x34, 5, 0, 1, b't', 0, 9], T0);
    // This one reaches the policy, which does not take it before the connection ends.
    let mut input: &[u8] = &[0x34, 5, 0, 1, b't', 0, 8];
    assert!(matches!(first.handle_bytes(&mut input, T0), Some(ServerEvent::Publish(_))));
    first.handle_closed();
    let session = first.take_session();
    assert_eq!(session.in_flight(), 2);
    assert_eq!(first.in_flight(), 0);

    let mut second = waiting();
    let connect = resuming_connect();
    let mut input = &connect[..];
    assert!(matches!(second.handle_bytes(&mut input, T0), Some(ServerEvent::Connect(_))));
    second.resume(session, T0);
    assert_eq!(
        sent(&mut second),
        [0x20, 2, 1, 0, 0x3A, 6, 0, 1, b't', 0, 1, b'x', 0x62, 2, 0, 2],
        "behind CONNACK, marked, in order"
    );
    let again = [0x3C, 5, 0, 1, b't', 0, 9, 0x3C, 5, 0, 1, b't', 0, 8];
    assert_eq!(serve(&mut second, &again, T0).len(), 1, "9 was taken, 8 was not");
    assert_eq!(sent(&mut second), [0x50, 2, 0, 9, 0x50, 2, 0, 8]);
    assert_eq!(
        serve(&mut second, &[0x40, 2, 0, 1, 0x70, 2, 0, 2], T0),
        handles.map(|handle| format!("Acknowledged({handle:?})"))
    );
}

// [MQTT-3.2.2-1]: whatever the policy believes to have.
#[test]
fn a_clean_session_is_never_present() {
    let mut server = waiting();
    let mut input = CONNECT;
    server.handle_bytes(&mut input, T0);
    server.accept(true, T0);
    assert_eq!(sent(&mut server), [0x20, 2, 0, 0]);

    let mut old = connected();
    old.publish(TopicName::new("t").unwrap(), b"x", QoS::AtLeastOnce, false).unwrap();
    let mut server = waiting();
    let mut input = CONNECT;
    server.handle_bytes(&mut input, T0);
    server.resume(old.take_session(), T0);
    assert_eq!(sent(&mut server), [0x20, 2, 0, 0]);
}

// One identifier or many different ones: bounded, and told once.
#[test]
fn unreleased_messages_are_bounded() {
    let mut server = connected();
    let message = |id: u8| [0x34, 6, 0, 1, b't', 0, id, b'x'];
    let mut events = Vec::new();
    for _ in 0..10_000 {
        events.extend(serve(&mut server, &message(1), T0));
        sent(&mut server);
    }
    assert_eq!(events.len(), 1);
    for id in 2..=65 {
        events.extend(serve(&mut server, &message(id), T0));
    }
    assert!(events.last().unwrap().contains("TooManyUnreleased { limit: 64 }"), "{events:?}");
}

#[test]
fn messages_to_the_client_complete_with_their_handle() {
    let mut server = connected();
    let topic = TopicName::new("t").unwrap();
    let handle = server.publish(topic, b"x", QoS::AtLeastOnce, false).unwrap().unwrap();
    assert_eq!(sent(&mut server), [0x32, 6, 0, 1, b't', 0, 1, b'x']);
    assert_eq!(serve(&mut server, &[0x40, 2, 0, 1], T0), [format!("Acknowledged({handle:?})")]);
    assert_eq!(server.publish(topic, b"x", QoS::AtMostOnce, false).unwrap(), None);
}

#[test]
fn endings_are_told_apart() {
    let ends = |bytes: &[u8]| {
        let mut server = connected();
        let mut events = serve(&mut server, bytes, T0);
        server.handle_closed();
        events.extend(std::iter::from_fn(|| server.poll_event()).map(|event| format!("{event:?}")));
        events
    };
    assert_eq!(ends(&[]), ["Closed(Ended)"]);
    assert_eq!(ends(&[0x32, 6, 0]), ["Closed(Truncated)"]);
    assert_eq!(ends(&[0xE0, 0]), ["Closed(Disconnected)"]);
}

#[test]
fn a_client_that_never_reads_is_dropped() {
    let config = ServerConfig { max_transmit_buffer: 100, ..ServerConfig::default() };
    let mut server = ServerConnection::new(&config, T0);
    serve(&mut server, CONNECT, T0);
    let events = serve(&mut server, &[0xC0, 0].repeat(1000), T0);
    assert_eq!(events, ["Closed(SlowPeer)"]);
    assert_eq!(sent(&mut server), b"");
}
