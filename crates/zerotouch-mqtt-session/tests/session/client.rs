//! The client engine against scripted servers, hostile ones among them. Each test is a sequence of
//! bytes and times.

use zerotouch_mqtt_codec::{Connect, ConnectRefusal, QoS, SubAckReturnCode, TopicFilter};
use zerotouch_mqtt_session::{
    Client, ClientConfig, ClientEvent, CloseReason, ConnectError, PublishError, SubscribeError,
};

use crate::support::{
    CONNACK, CONNACK_RESUMED, T0, after, assert_closed, connect, connected, connecting, drained,
    hello, publish, receive, reconnected, sent,
};

#[test]
fn each_refusal_is_reported() {
    for (code, refusal) in [
        (1, ConnectRefusal::UnacceptableProtocolVersion),
        (2, ConnectRefusal::IdentifierRejected),
        (3, ConnectRefusal::ServerUnavailable),
        (4, ConnectRefusal::BadUserNameOrPassword),
        (5, ConnectRefusal::NotAuthorized),
    ] {
        let mut client = connecting(true, ClientConfig::default());
        assert_closed(&mut client, &[0x20, 2, 0, code], &CloseReason::Refused(refusal));
    }
}

#[test]
fn a_silent_server_ends_at_the_deadline() {
    let mut client = connecting(true, ClientConfig::default());
    client.handle_timeout(after(29));
    assert_eq!(sent(&mut client), [0xC0, 0], "the keep-alive of 10 s counts from CONNECT");
    assert_eq!(client.poll_timeout(), Some(after(30)));
    assert!(!client.is_closed());
    client.handle_timeout(after(30));
    assert_eq!(drained(&mut client), ["Closed(HandshakeTimeout(ConnAck))"]);
}

// A refusal is an answer, and it is visible as one.
#[test]
fn suback_codes_reach_the_application() {
    let mut client = connected();
    let filters = [
        (TopicFilter::new("a").unwrap(), QoS::AtLeastOnce),
        (TopicFilter::new("b/#").unwrap(), QoS::AtMostOnce),
    ];
    let handle = client.subscribe(&filters, T0).unwrap();
    assert_eq!(sent(&mut client), [0x82, 12, 0, 1, 0, 1, b'a', 1, 0, 3, b'b', b'/', b'#', 0]);
    let mut input: &[u8] = &[0x90, 4, 0, 1, 0x80, 0];
    let Some(ClientEvent::Subscribed(answered, codes)) = client.handle_bytes(&mut input, T0) else {
        panic!()
    };
    assert_eq!(answered, handle);
    assert!(
        codes.iter().eq([SubAckReturnCode::Failure, SubAckReturnCode::Granted(QoS::AtMostOnce)])
    );
}

#[test]
fn qos_2_goes_through_all_four_steps() {
    let mut client = connected();
    let handle = publish(&mut client, "x", QoS::ExactlyOnce).unwrap().unwrap();
    sent(&mut client);
    assert_eq!(
        receive(&mut client, &[0x70, 2, 0, 1]),
        [""; 0],
        "PUBCOMP before PUBREC completes nothing"
    );
    for _ in 0..2 {
        receive(&mut client, &[0x50, 2, 0, 1]);
        assert_eq!(sent(&mut client), [0x62, 2, 0, 1], "each PUBREC is answered by PUBREL");
    }
    assert_eq!(receive(&mut client, &[0x70, 2, 0, 1]), [format!("Published({handle:?})")]);

    // And the other way round: passed on once, however often it is sent before PUBREL.
    let message = [0x34, 6, 0, 1, b't', 0, 7, b'x'];
    assert_eq!(receive(&mut client, &message).len(), 1);
    assert_eq!(sent(&mut client), [0x50, 2, 0, 7]);
    assert_eq!(receive(&mut client, &message).len(), 0);
    assert_eq!(sent(&mut client), [0x50, 2, 0, 7]);
    receive(&mut client, &[0x62, 2, 0, 7]);
    assert_eq!(sent(&mut client), [0x70, 2, 0, 7]);
    assert_eq!(receive(&mut client, &message).len(), 1, "after PUBREL the identifier is new again");
}

#[test]
fn received_messages_are_acknowledged_by_their_qos() {
    let mut client = connected();
    let events =
        receive(&mut client, &[0x30, 4, 0, 1, b't', b'0', 0x32, 6, 0, 1, b't', 1, 2, b'1']);
    assert_eq!(events.len(), 2);
    assert_eq!(sent(&mut client), [0x40, 2, 1, 2]);
}

// A window is a promise of bounded memory: the application is told, nothing is dropped silently.
#[test]
fn limits_refuse_before_sending() {
    let config = ClientConfig {
        max_in_flight: 1,
        max_packet_size: 64,
        max_transmit_buffer: 20,
        ..ClientConfig::default()
    };
    let mut client = connecting(true, config);
    assert_eq!(publish(&mut client, "early", QoS::AtMostOnce), Err(PublishError::NotConnected));
    receive(&mut client, &CONNACK);
    assert!(publish(&mut client, "1", QoS::AtLeastOnce).unwrap().is_some());
    assert_eq!(
        publish(&mut client, "2", QoS::AtLeastOnce),
        Err(PublishError::WindowFull { limit: 1 })
    );
    assert_eq!(
        publish(&mut client, "longer than the buffer", QoS::AtMostOnce),
        Err(PublishError::TransmitBufferFull { limit: 20 })
    );
    assert_eq!(sent(&mut client), [0x32, 6, 0, 1, b't', 0, 1, b'1'], "only what was accepted");
    assert_eq!(
        publish(&mut client, &"x".repeat(64), QoS::AtMostOnce),
        Err(PublishError::TooLarge { size: 69, limit: 64 })
    );
    assert!(matches!(client.subscribe(&[], T0), Err(SubscribeError::NoFilter)));
}

// [MQTT-4.4.0-1]: what was not acknowledged goes out again, marked, in order; PUBREL as PUBREL.
#[test]
fn a_resumed_session_sends_again_in_order() {
    let mut client = connecting(false, ClientConfig::default());
    receive(&mut client, &CONNACK);
    for payload in ["a", "b", "c"] {
        publish(&mut client, payload, QoS::AtLeastOnce).unwrap();
    }
    publish(&mut client, "d", QoS::ExactlyOnce).unwrap();
    receive(&mut client, &[0x40, 2, 0, 2, 0x50, 2, 0, 4]);
    sent(&mut client);
    client.handle_closed();
    assert_eq!(drained(&mut client), ["Closed(Ended)"], "the session lives on");
    connect(&mut client, false);
    receive(&mut client, &CONNACK_RESUMED);
    assert_eq!(
        sent(&mut client),
        [0x3A, 6, 0, 1, b't', 0, 1, b'a', 0x3A, 6, 0, 1, b't', 0, 3, b'c', 0x62, 2, 0, 4]
    );
}

// What was lost is named: the application decides whether to send it again.
#[test]
fn a_lost_session_names_what_was_lost() {
    let mut client = connecting(false, ClientConfig::default());
    receive(&mut client, &CONNACK);
    let lost = publish(&mut client, "a", QoS::AtLeastOnce).unwrap().unwrap();
    let subscribe =
        client.subscribe(&[(TopicFilter::new("f").unwrap(), QoS::AtMostOnce)], T0).unwrap();
    client.handle_closed();
    assert_eq!(
        drained(&mut client),
        [format!("SubscribeLost({subscribe:?})"), "Closed(Ended)".into()]
    );
    connect(&mut client, false);
    assert_eq!(
        receive(&mut client, &CONNACK),
        ["Connected { session_present: false }".into(), format!("PublishLost({lost:?})")]
    );
    assert_eq!(sent(&mut client), b"");
}

#[test]
fn keep_alive_pings_when_idle_and_gives_up_without_an_answer() {
    let mut client = connected();
    assert_eq!(client.poll_timeout(), Some(after(10)));
    client.handle_timeout(after(9));
    assert_eq!(sent(&mut client), b"");
    client.handle_timeout(after(10));
    assert_eq!(sent(&mut client), [0xC0, 0]);
    let mut pingresp: &[u8] = &[0xD0, 0];
    client.handle_bytes(&mut pingresp, after(11));
    assert_eq!(client.poll_timeout(), Some(after(20)));
    // An answer that is awaited does not excuse silence: the server may wait 15 s, not 40.
    for seconds in [20, 30, 40] {
        assert_eq!(client.poll_timeout(), Some(after(seconds)));
        client.handle_timeout(after(seconds));
        assert_eq!(sent(&mut client), [0xC0, 0]);
    }
    client.handle_timeout(after(50));
    assert_eq!(drained(&mut client), ["Closed(KeepAliveTimeout)"], "30 s after the first of them");
}

#[test]
fn bytes_that_are_not_mqtt_close() {
    let mut client = connecting(true, ClientConfig::default());
    let events = receive(&mut client, b"HTTP/1.1 302 Found\r\n");
    assert!(matches!(&events[..], [event] if event.starts_with("Closed(Malformed")), "{events:?}");
}

// A peer that asks and never reads must not make us grow.
#[test]
fn a_peer_that_never_reads_is_left() {
    let config = ClientConfig { max_transmit_buffer: 100, ..ClientConfig::default() };
    let mut client = connecting(true, config);
    receive(&mut client, &CONNACK);
    let mut events = Vec::new();
    for _ in 0..1000 {
        events.extend(receive(&mut client, &[0x62, 2, 0, 1]));
    }
    assert_eq!(events, ["Closed(SlowPeer)"]);
}

// An acknowledgement can be what overfills the buffer: the end has to be told then, too.
#[test]
fn a_peer_that_publishes_and_never_reads_is_left() {
    let config = ClientConfig { max_transmit_buffer: 100, ..ClientConfig::default() };
    let mut client = connecting(true, config);
    receive(&mut client, &CONNACK);
    let mut events = Vec::new();
    for _ in 0..1000 {
        events.extend(receive(&mut client, &[0x32, 5, 0, 1, b't', 0, 1]));
    }
    assert_eq!(events.pop().unwrap(), "Closed(SlowPeer)");
    assert_eq!(events.len(), 51, "each message that was taken is passed on");
}

// PUBRELs are sent again in the order of the PUBRECs, which need not be that of the messages.
#[test]
fn a_resumed_session_releases_in_order() {
    let mut client = connecting(false, ClientConfig::default());
    receive(&mut client, &CONNACK);
    for payload in ["a", "b", "c"] {
        publish(&mut client, payload, QoS::ExactlyOnce).unwrap();
    }
    receive(&mut client, &[0x50, 2, 0, 2, 0x50, 2, 0, 1, 0x50, 2, 0, 2]);
    assert_eq!(
        reconnected(&mut client),
        [0x3C, 6, 0, 1, b't', 0, 3, b'c', 0x62, 2, 0, 2, 0x62, 2, 0, 1],
        "and a message is never sent again once its PUBREC has come"
    );
}

// What a session sends again is no backlog: its first acknowledgement must not end the connection.
#[test]
fn a_large_session_resumes() {
    let config = ClientConfig { max_transmit_buffer: 100, ..ClientConfig::default() };
    let mut client = connecting(false, config);
    receive(&mut client, &CONNACK);
    for _ in 0..10 {
        publish(&mut client, &"x".repeat(80), QoS::AtLeastOnce).unwrap();
        sent(&mut client);
    }
    client.handle_closed();
    drained(&mut client);
    connect(&mut client, false);
    assert_eq!(
        receive(&mut client, &[&CONNACK_RESUMED[..], &[0x62, 2, 0, 1]].concat()),
        ["Connected { session_present: true }"]
    );
    assert_eq!(sent(&mut client).len(), 10 * 87 + 4);
}

// [MQTT-3.1.3-2]: what one identifier's session has in flight is no other's.
#[test]
fn another_client_identifier_is_another_session() {
    let mut client = connecting(false, ClientConfig::default());
    receive(&mut client, &CONNACK);
    let lost = publish(&mut client, "x", QoS::AtLeastOnce).unwrap().unwrap();
    client.handle_closed();
    drained(&mut client);
    let other = hello("e", false);
    client.connect(&other, T0).unwrap();
    sent(&mut client);
    assert_eq!(drained(&mut client), [format!("PublishLost({lost:?})")]);
    receive(&mut client, &CONNACK_RESUMED);
    assert_eq!(sent(&mut client), b"");
}

// The limits of a publish are those of every request: a long filter is a large packet too.
#[test]
fn requests_keep_to_the_limits() {
    let config = ClientConfig {
        max_packet_size: 64,
        max_transmit_buffer: 20,
        max_pending_subscriptions: 2,
        ..ClientConfig::default()
    };
    let mut client = connecting(true, config);
    receive(&mut client, &CONNACK);
    let long = "f".repeat(64);
    let mut subscribe = |filter: &str| {
        client.subscribe(&[(TopicFilter::new(filter).unwrap(), QoS::AtMostOnce)], T0)
    };
    assert_eq!(
        subscribe(&long),
        Err(SubscribeError::Publish(PublishError::TooLarge { size: 71, limit: 64 }))
    );
    assert!(subscribe("f").is_ok());
    assert_eq!(
        subscribe(&long[..20]),
        Err(SubscribeError::Publish(PublishError::TransmitBufferFull { limit: 20 }))
    );
    assert!(subscribe("g").is_ok());
    assert_eq!(subscribe("h"), Err(SubscribeError::TooManyPending { limit: 2 }));

    let mut client = Client::new(ClientConfig { max_packet_size: 64, ..ClientConfig::default() });
    let connect = Connect { keep_alive: 0, ..hello(&long, true) };
    assert_eq!(client.connect(&connect, T0), Err(ConnectError::TooLarge { size: 78, limit: 64 }));
    assert!(client.is_closed());
}

// A request's identifier is taken from the same store as a message's, and comes back.
#[test]
fn requests_and_messages_share_the_identifiers() {
    let mut client = connected();
    let filter = TopicFilter::new("f").unwrap();
    client.subscribe(&[(filter, QoS::AtMostOnce)], T0).unwrap();
    publish(&mut client, "x", QoS::AtLeastOnce).unwrap();
    client.unsubscribe(&[filter], T0).unwrap();
    assert_eq!(
        sent(&mut client)[..],
        [
            &[0x82, 6, 0, 1, 0, 1, b'f', 0][..],
            &[0x32, 6, 0, 1, b't', 0, 2, b'x'],
            &[0xA2, 5, 0, 3, 0, 1, b'f'],
        ]
        .concat()
    );
    assert_eq!(receive(&mut client, &[0xB0, 2, 0, 3]).len(), 1);
    assert_eq!(
        receive(&mut client, &[0xB0, 2, 0, 1]).len(),
        0,
        "UNSUBACK does not answer SUBSCRIBE"
    );
}

// A request that is answered gives its identifier back, or a client that lives long runs out of them.
#[test]
fn answered_requests_give_their_identifiers_back() {
    let mut client = connected();
    let filter = TopicFilter::new("f").unwrap();
    for round in 0..70_000_u32 {
        let number = u16::try_from(round % 65_535 + 1).unwrap();
        let [high, low] = number.to_be_bytes();
        let answer = if round % 2 == 0 {
            client.subscribe(&[(filter, QoS::AtMostOnce)], T0).unwrap();
            vec![0x90, 3, high, low, 0]
        } else {
            client.unsubscribe(&[filter], T0).unwrap();
            vec![0xB0, 2, high, low]
        };
        sent(&mut client);
        assert_eq!(receive(&mut client, &answer).len(), 1, "{round}");
    }
}

// What a connection took with it must not stay in use: after some of them nothing could be sent.
#[test]
fn lost_messages_and_requests_give_their_identifiers_back() {
    let config = ClientConfig { max_in_flight: u16::MAX, ..ClientConfig::default() };
    let mut client = connecting(true, config);
    for _ in 0..2 {
        receive(&mut client, &CONNACK);
        client.subscribe(&[(TopicFilter::new("f").unwrap(), QoS::AtMostOnce)], T0).unwrap();
        for _ in 2..=u16::MAX {
            publish(&mut client, "", QoS::AtLeastOnce).unwrap();
            sent(&mut client);
        }
        assert!(publish(&mut client, "", QoS::AtLeastOnce).is_err(), "all are in use");
        client.handle_closed();
        assert_eq!(drained(&mut client).len(), 65_536);
        connect(&mut client, true);
    }
}
