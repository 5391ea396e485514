//! What the standard asks of clients.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use zerotouch_mqtt_codec::{Connect, Decoded, EncodeError, Packet, QoS, decode};
use zerotouch_mqtt_session::{Client, ClientConfig, ConnectError, PublishError, SubscribeError};
use zerotouch_time::Instant;

use crate::support::*;

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

/// A client of a session that outlives its connections.
fn persistent() -> Client {
    let mut client = connecting(false, ClientConfig::default());
    receive(&mut client, &CONNACK);
    client
}

#[test]
fn mqtt_2_3_1_2() {
    let config = ClientConfig { max_in_flight: u16::MAX, ..ClientConfig::default() };
    let mut client = connecting(true, config);
    receive(&mut client, &CONNACK);
    let mut ids = BTreeSet::new();
    for _ in 1..=u16::MAX {
        publish(&mut client, "", Q1).unwrap();
        let sent = sent(&mut client);
        let Ok(Decoded::Complete { packet: Packet::Publish(publish), .. }) = decode(&sent) else {
            panic!("{sent:?}");
        };
        assert!(ids.insert(publish.packet_identifier().unwrap()), "in use");
    }
    assert_eq!(publish(&mut client, "", Q1), Err(PublishError::WindowFull { limit: u16::MAX }));
    assert_eq!(
        client.subscribe(&[(filter("f"), Q0)], T0),
        Err(SubscribeError::Publish(PublishError::WindowFull { limit: u16::MAX })),
        "requests share them"
    );
    receive(&mut client, &puback(300));
    publish(&mut client, "", Q1).unwrap();
    assert_eq!(sent(&mut client), qos1(300, "t", ""), "past all that are in use");
}

#[test]
fn mqtt_2_3_1_3() {
    let mut client = persistent();
    publish(&mut client, "1", Q1).unwrap();
    publish(&mut client, "2", Q2).unwrap();
    receive(&mut client, &pubrec(2));
    assert_eq!(reconnected(&mut client), [dup(qos1(1, "t", "1")), pubrel(2)].concat());
    // All others come round before the two that are in use are skipped.
    for number in 3..=u16::MAX {
        publish(&mut client, "", Q0).unwrap();
        publish(&mut client, "", Q1).unwrap();
        sent(&mut client);
        receive(&mut client, &puback(number));
    }
    publish(&mut client, "", Q1).unwrap();
    assert_eq!(sent(&mut client), qos1(3, "t", ""));
    receive(&mut client, &[puback(3), puback(1), pubcomp(2)].concat());
    assert_eq!(client.in_flight(), 0, "now they are free");
}

#[test]
fn mqtt_2_3_1_6_client() {
    let mut client = connected();
    for number in [1, 7, 0x1234, 65_535] {
        let messages = [qos1(number, "t", "x"), qos2(number, "t", "x"), pubrel(number)].concat();
        receive(&mut client, &messages);
        assert_eq!(sent(&mut client), [puback(number), pubrec(number), pubcomp(number)].concat());
    }
    publish(&mut client, "x", Q2).unwrap();
    sent(&mut client);
    receive(&mut client, &[pubrec(9), pubrec(1)].concat());
    assert_eq!(sent(&mut client), pubrel(1), "and an unknown identifier answers nothing");
}

#[test]
fn mqtt_2_3_1_7_client() {
    let mut client = connected();
    let first = client.subscribe(&[(filter("a"), Q0)], T0).unwrap();
    let second = client.subscribe(&[(filter("b"), Q1)], T0).unwrap();
    let third = client.unsubscribe(&[filter("c")], T0).unwrap();
    assert_eq!(
        receive(
            &mut client,
            &[suback(9, &[0]), unsuback(3), suback(2, &[1]), suback(1, &[0])].concat()
        ),
        [
            format!("Unsubscribed({third:?})"),
            format!("Subscribed({second:?}, [Granted(AtLeastOnce)])"),
            format!("Subscribed({first:?}, [Granted(AtMostOnce)])"),
        ]
    );
}

#[test]
fn mqtt_3_1_0_1_client() {
    let mut client = Client::new(ClientConfig::default());
    assert_eq!(publish(&mut client, "x", Q0), Err(PublishError::NotConnected));
    assert_eq!(client.subscribe(&[(filter("f"), Q0)], T0), Err(SubscribeError::NotConnected));
    assert_eq!(client.unsubscribe(&[filter("f")], T0), Err(SubscribeError::NotConnected));
    client.disconnect();
    client.handle_timeout(after(1_000));
    assert_eq!(receive(&mut client, &qos2(1, "t", "x")), [""; 0]);
    assert_eq!(client.poll_transmit(), None, "there is no way to send anything before");
    connect(&mut client, true);
}

#[test]
fn mqtt_3_1_2_4_client() {
    let mut client = persistent();
    publish(&mut client, "x", Q1).unwrap();
    receive(&mut client, &qos2(5, "t", "once"));
    for _ in 0..3 {
        assert_eq!(reconnected(&mut client), dup(qos1(1, "t", "x")));
        assert_eq!(receive(&mut client, &dup(qos2(5, "t", "once"))), [""; 0]);
    }
}

#[test]
fn mqtt_3_1_2_6_client() {
    let mut client = persistent();
    let lost = publish(&mut client, "x", Q1).unwrap().unwrap();
    receive(&mut client, &qos2(5, "t", "x"));
    client.handle_closed();
    drained(&mut client);
    connect(&mut client, true);
    assert_eq!(drained(&mut client), [format!("PublishLost({lost:?})")]);
    receive(&mut client, &CONNACK);
    assert_eq!(sent(&mut client), b"");
    assert_eq!(receive(&mut client, &qos2(5, "t", "x")).len(), 1, "no identifier is remembered");
    let lost = publish(&mut client, "x", Q1).unwrap().unwrap();
    client.handle_closed();
    assert_eq!(
        drained(&mut client),
        [format!("PublishLost({lost:?})"), "Closed(Ended)".into()],
        "and none of a clean session is later"
    );
}

proptest! {
    // Whatever else happens, and whenever: between two packets the client sends, or after its last
    // one, never more than a keep-alive passes, if timeouts are handled when they are due.
    #[test]
    fn mqtt_3_1_2_23(
        events in prop::collection::vec((0_u64..25_000, 0..4_u8), 1..60),
        connack_after in 0_u64..25_000,
    ) {
        let keep_alive = Duration::from_secs(10);
        let mut client = connecting(true, ClientConfig::default());
        let (mut now, mut last_sent) = (T0, T0);
        let steps = std::iter::once((connack_after, 4)).chain(events);
        for (wait, event) in steps {
            let until = now + Duration::from_millis(wait);
            while let Some(due) = client.poll_timeout().filter(|due| *due <= until) {
                now = due.max(now);
                client.handle_timeout(now);
                observe(&mut client, now, keep_alive, &mut last_sent)?;
                if client.is_closed() {
                    return Ok(());
                }
            }
            now = until;
            match event {
                0 => drop(client.publish(topic("t"), b"x", Q0, false, now)),
                1 => drop(client.handle_bytes(&mut &qos0("t", "x")[..], now)),
                2 => drop(client.handle_bytes(&mut &qos1(1, "t", "x")[..], now)),
                3 => drop(client.handle_bytes(&mut &PINGRESP[..], now)),
                _ => drop(client.handle_bytes(&mut &CONNACK[..], now)),
            }
            observe(&mut client, now, keep_alive, &mut last_sent)?;
        }
    }
}

/// Notes when bytes are sent.
fn observe(
    client: &mut Client,
    now: Instant,
    keep_alive: Duration,
    last_sent: &mut Instant,
) -> Result<(), TestCaseError> {
    prop_assert!(
        now <= *last_sent + keep_alive || client.is_closed(),
        "silent since {last_sent:?}"
    );
    if !sent(client).is_empty() {
        *last_sent = now;
    }
    Ok(())
}

#[test]
fn mqtt_3_1_3_2_client() {
    let mut client = persistent();
    publish(&mut client, "x", Q1).unwrap();
    client.handle_closed();
    let other = Connect { keep_alive: 0, ..hello("d", false) };
    client.connect(&other, T0).unwrap();
    sent(&mut client);
    receive(&mut client, &CONNACK_RESUMED);
    assert_eq!(sent(&mut client), b"", "d has not published it");
}

#[test]
fn mqtt_3_1_3_7_client() {
    let mut client = Client::new(ClientConfig::default());
    let mut connect = Connect { keep_alive: 0, ..hello("", false) };
    assert_eq!(client.connect(&connect, T0), Err(ConnectError::Encode(EncodeError::EmptyClientId)));
    assert_eq!(client.poll_transmit(), None);
    connect.clean_session = true;
    assert_eq!(client.connect(&connect, T0), Ok(()));
}

#[test]
fn mqtt_3_2_0_1_client() {
    for packet in [
        qos0("t", "x"),
        qos1(1, "t", "x"),
        puback(1),
        pubrec(1),
        pubrel(1),
        pubcomp(1),
        suback(1, &[0]),
        unsuback(1),
        PINGRESP.to_vec(),
    ] {
        let mut client = connecting(true, ClientConfig::default());
        let events = receive(&mut client, &[&packet[..], &CONNACK].concat());
        assert!(events[0].starts_with("Closed(Violation(NotConnack("), "{events:?}");
        assert_eq!((events.len(), sent(&mut client).len()), (1, 0));
    }
}

#[test]
fn mqtt_3_2_2_1_client() {
    let mut client = connecting(true, ClientConfig::default());
    let events = receive(&mut client, &CONNACK_RESUMED);
    assert_eq!(events, ["Closed(Violation(SessionPresentOnClean))"]);
}

#[test]
fn mqtt_3_2_2_3_client() {
    let mut client = persistent();
    let lost = publish(&mut client, "x", Q1).unwrap().unwrap();
    receive(&mut client, &qos2(5, "t", "x"));
    client.handle_closed();
    drained(&mut client);
    connect(&mut client, false);
    assert_eq!(
        receive(&mut client, &CONNACK),
        ["Connected { session_present: false }".into(), format!("PublishLost({lost:?})")]
    );
    assert_eq!(sent(&mut client), b"");
    assert_eq!(receive(&mut client, &qos2(5, "t", "x")).len(), 1, "both ends start afresh");
}

#[test]
fn mqtt_3_2_2_5_client() {
    for code in 1..=5 {
        let mut client = connecting(false, ClientConfig::default());
        let events = receive(&mut client, &[&[0x20, 2, 0, code], &qos1(1, "t", "x")[..]].concat());
        assert!(events[0].starts_with("Closed(Refused("), "{events:?}");
        assert_eq!((events.len(), sent(&mut client).len()), (1, 0));
        assert_eq!(publish(&mut client, "x", Q0), Err(PublishError::NotConnected));
    }
}

#[test]
fn mqtt_3_3_1_1_client() {
    let mut client = persistent();
    publish(&mut client, "1", Q1).unwrap();
    publish(&mut client, "2", Q2).unwrap();
    assert_eq!(sent(&mut client), [qos1(1, "t", "1"), qos2(2, "t", "2")].concat());
    for _ in 0..2 {
        let again = [dup(qos1(1, "t", "1")), dup(qos2(2, "t", "2"))].concat();
        assert_eq!(reconnected(&mut client), again, "the rest is the same, byte for byte");
    }
}

#[test]
fn mqtt_3_3_4_1_client() {
    let mut client = connected();
    for (message, answer) in
        [(qos0("t", "x"), vec![]), (qos1(5, "t", "x"), puback(5)), (qos2(6, "t", "x"), pubrec(6))]
    {
        receive(&mut client, &message);
        assert_eq!(sent(&mut client), answer);
    }
}

#[test]
fn mqtt_3_8_4_5_client() {
    for (codes, fits) in [(&[0, 0x80][..], true), (&[0], false), (&[0, 1, 2], false)] {
        let mut client = connected();
        client.subscribe(&[(filter("a"), Q0), (filter("b"), Q2)], T0).unwrap();
        let events = receive(&mut client, &suback(1, codes));
        assert_eq!(events[0].starts_with("Subscribed("), fits, "{events:?}");
        assert_eq!(client.is_closed(), !fits);
    }
}

#[test]
fn mqtt_3_9_3_1_client() {
    let mut client = connected();
    let filters = [(filter("a"), Q2), (filter("b"), Q2), (filter("c"), Q2)];
    client.subscribe(&filters, T0).unwrap();
    assert_eq!(
        receive(&mut client, &suback(1, &[2, 0x80, 0])),
        ["Subscribed(SubscribeHandle(1), [Granted(ExactlyOnce), Failure, Granted(AtMostOnce)])"]
    );
}

#[test]
fn mqtt_3_12_4_1_client() {
    let mut client = connected();
    client.handle_timeout(after(10));
    assert_eq!(sent(&mut client), PINGREQ);
    client.handle_timeout(after(39));
    assert!(!client.is_closed());
    client.handle_timeout(after(40));
    assert_eq!(drained(&mut client), ["Closed(KeepAliveTimeout)"], "30 s is a reasonable time");
}

#[test]
fn mqtt_3_14_4_1() {
    let mut client = connected();
    client.disconnect();
    assert!(client.is_closed(), "to be closed once this is sent");
    assert_eq!(sent(&mut client), DISCONNECT);
    assert_eq!(drained(&mut client), ["Closed(Disconnected)"]);
    assert_eq!(client.poll_transmit(), None);
}

#[test]
fn mqtt_3_14_4_2() {
    let mut client = connected();
    publish(&mut client, "before", Q0).unwrap();
    client.disconnect();
    assert_eq!(publish(&mut client, "after", Q0), Err(PublishError::NotConnected));
    assert_eq!(client.subscribe(&[(filter("f"), Q0)], T0), Err(SubscribeError::NotConnected));
    receive(&mut client, &[qos1(1, "t", "x"), pubrel(2)].concat());
    client.handle_timeout(after(100));
    client.disconnect();
    assert_eq!(sent(&mut client), [&qos0("t", "before")[..], &DISCONNECT].concat());
}

#[test]
fn mqtt_4_1_0_1_client() {
    let mut client = persistent();
    let handles = [Q1, Q2, Q2].map(|qos| publish(&mut client, "x", qos).unwrap().unwrap());
    receive(&mut client, &pubrec(3));
    for _ in 0..5 {
        reconnected(&mut client);
        assert_eq!(client.in_flight(), 3);
    }
    assert_eq!(
        receive(&mut client, &[puback(1), pubrec(2), pubcomp(2), pubcomp(3)].concat()),
        handles.map(|handle| format!("Published({handle:?})")),
        "and each is completed under the handle it had"
    );
}

#[test]
fn mqtt_4_1_0_2_client() {
    let mut client = connected();
    receive(&mut client, &qos2(5, "t", "x"));
    let handle = publish(&mut client, "x", Q2).unwrap().unwrap();
    for seconds in 1..100 {
        let mut pingresp = &PINGRESP[..];
        client.handle_timeout(after(seconds * 10));
        client.handle_bytes(&mut pingresp, after(seconds * 10));
    }
    assert_eq!(receive(&mut client, &dup(qos2(5, "t", "x"))), [""; 0], "still known");
    let events = receive(&mut client, &[pubrec(1), pubcomp(1)].concat());
    assert_eq!(events, [format!("Published({handle:?})")]);
}

#[test]
fn mqtt_4_4_0_1_client() {
    // The connection fails after each byte of what the server sends in turn.
    let answers = [puback(1), pubrec(2), pubcomp(2), pubrec(3)].concat();
    for cut in 0..=answers.len() {
        let mut client = persistent();
        for (payload, qos) in [("1", Q1), ("2", Q2), ("3", Q2)] {
            publish(&mut client, payload, qos).unwrap();
        }
        receive(&mut client, &answers[..cut]);
        let expected = match cut / 4 {
            0 => [dup(qos1(1, "t", "1")), dup(qos2(2, "t", "2")), dup(qos2(3, "t", "3"))].concat(),
            1 => [dup(qos2(2, "t", "2")), dup(qos2(3, "t", "3"))].concat(),
            2 => [dup(qos2(3, "t", "3")), pubrel(2)].concat(),
            3 => dup(qos2(3, "t", "3")),
            _ => pubrel(3),
        };
        client.handle_closed();
        connect(&mut client, false);
        assert_eq!(
            client.poll_transmit(),
            None,
            "not before CONNACK says that the session is there"
        );
        receive(&mut client, &CONNACK_RESUMED);
        assert_eq!(sent(&mut client), expected, "after {cut} bytes");
    }
}

#[test]
fn mqtt_4_5_0_2() {
    let mut client = connected();
    let mut input = &[qos1(1, "never/asked/for", "x"), qos2(2, "nor/this", "")].concat()[..];
    while client.handle_bytes(&mut input, T0).is_some() {}
    assert_eq!(sent(&mut client), [puback(1), pubrec(2)].concat(), "whatever becomes of it");
}

proptest! {
    #[test]
    fn mqtt_4_6_0_1(
        qos in prop::collection::vec(prop::bool::ANY, 1..60),
        acknowledged in prop::collection::btree_set(1_u16..60, 0..60),
    ) {
        let mut client = persistent();
        let mut left = Vec::new();
        for (number, exactly_once) in (1..).zip(&qos) {
            let payload = number.to_string();
            publish(&mut client, &payload, if *exactly_once { Q2 } else { Q1 }).unwrap();
            let message = if *exactly_once { qos2 } else { qos1 };
            if *exactly_once || !acknowledged.contains(&number) {
                left.push(dup(message(number, "t", &payload)));
            }
        }
        sent(&mut client);
        for number in acknowledged {
            receive(&mut client, &puback(number));
        }
        prop_assert_eq!(reconnected(&mut client), left.concat());
    }

    #[test]
    fn mqtt_4_6_0_2(ids in prop::collection::vec(1_u16.., 1..60)) {
        let mut client = connected();
        receive(&mut client, &ids.iter().flat_map(|n| qos1(*n, "t", "x")).collect::<Vec<_>>());
        prop_assert_eq!(sent(&mut client), ids.iter().flat_map(|n| puback(*n)).collect::<Vec<_>>());
    }

    #[test]
    fn mqtt_4_6_0_3(ids in prop::collection::vec(1_u16.., 1..60)) {
        let mut client = connected();
        receive(&mut client, &ids.iter().flat_map(|n| qos2(*n, "t", "x")).collect::<Vec<_>>());
        prop_assert_eq!(sent(&mut client), ids.iter().flat_map(|n| pubrec(*n)).collect::<Vec<_>>());
    }

    #[test]
    fn mqtt_4_6_0_4(order in Just((1..=40).collect::<Vec<u16>>()).prop_shuffle(), first in 0..40_usize) {
        let mut client = persistent();
        for _ in 0..40 {
            publish(&mut client, "x", Q2).unwrap();
        }
        sent(&mut client);
        let (before, after) = order.split_at(first);
        receive(&mut client, &before.iter().flat_map(|n| pubrec(*n)).collect::<Vec<_>>());
        let released = before.iter().flat_map(|n| pubrel(*n)).collect::<Vec<_>>();
        prop_assert_eq!(sent(&mut client), &released[..]);
        // And when they are sent again: behind the messages, which were sent before them.
        prop_assert!(reconnected(&mut client).ends_with(&released));
        receive(&mut client, &after.iter().flat_map(|n| pubrec(*n)).collect::<Vec<_>>());
        prop_assert_eq!(sent(&mut client), after.iter().flat_map(|n| pubrel(*n)).collect::<Vec<_>>());
    }
}

#[test]
fn mqtt_4_8_0_1_client() {
    let violations: [&[u8]; 8] = [
        &[0x00, 0],
        &[0x36, 5, 0, 1, b't', 0, 1],
        &[0x31, 4, 0, 2, b'+', b'x'],
        &[0xC0, 0],
        &[0x20, 2, 0, 0],
        &[0x90, 3, 0, 1, 3],
        &[0x60, 2, 0, 1],
        &[0xD0, 0xFF, 0xFF, 0xFF, 0xFF],
    ];
    for violation in violations {
        for split in 0..violation.len() {
            let mut client = connected();
            let mut events = receive(&mut client, &violation[..split]);
            events
                .extend(receive(&mut client, &[&violation[split..], &qos1(1, "t", "x")].concat()));
            assert!(events[0].starts_with("Closed("), "{violation:02x?}: {events:?}");
            assert_eq!((events.len(), sent(&mut client).len()), (1, 0), "once, and without a word");
        }
    }
}

#[test]
fn mqtt_4_8_0_2_client() {
    let config = ClientConfig { max_unreleased: 2, ..ClientConfig::default() };
    let mut client = connecting(true, config);
    receive(&mut client, &CONNACK);
    let messages = [qos2(1, "t", "x"), qos2(2, "t", "x"), qos2(3, "t", "x")].concat();
    assert_eq!(
        receive(&mut client, &messages).last().unwrap(),
        "Closed(Violation(TooManyUnreleased { limit: 2 }))"
    );
}
