//! A client engine and whatever a server may do to it: bytes, endings and time in any order. It does
//! not panic, does not grow, and says nothing once it is closed.
//!
//! Input: steps, each a kind and a length byte; bytes for those that carry some.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use zerotouch_fuzz::steps::steps;
use zerotouch_mqtt_codec::{Connect, QoS, Text, TopicFilter, TopicName};
use zerotouch_mqtt_session::{Client, ClientConfig};
use zerotouch_time::Instant;

const CONNACK: &[u8] = &[0x20, 2, 0, 0];

fuzz_target!(|input: &[u8]| {
    let config = ClientConfig { max_transmit_buffer: 4096, ..ClientConfig::default() };
    let mut client = Client::new(config);
    let mut now = Instant::ZERO;
    let client_id = Text::new("c").expect("a text");
    let topic = TopicName::new("t").expect("a topic");
    let filter = TopicFilter::new("f/#").expect("a filter");
    for (kind, bytes) in steps(input) {
        match kind % 8 {
            0 => {
                let clean_session = bytes.len() % 2 == 0;
                let connect =
                    Connect { client_id, clean_session, keep_alive: 10, will: None, login: None };
                let _ = client.connect(&connect, now);
                feed(&mut client, CONNACK, now);
            }
            1 => client.handle_closed(),
            2 => {
                now = now + Duration::from_secs(bytes.len() as u64);
                client.handle_timeout(now);
            }
            3 => {
                let qos = QoS::from_u8(bytes.len() as u8 % 3).expect("a QoS");
                let _ = client.publish(topic, bytes, qos, false, now);
            }
            4 => drop(client.subscribe(&[(filter, QoS::AtMostOnce)], now)),
            5 => client.disconnect(),
            6 => {
                let sent = client.poll_transmit().map_or(0, <[u8]>::len);
                client.handle_transmitted(sent);
            }
            _ => feed(&mut client, bytes, now),
        }
        while client.poll_event().is_some() {}
        assert!(client.poll_transmit().map_or(0, <[u8]>::len) <= 16 * 1024, "it grows");
        assert!(!client.is_closed() || client.poll_timeout().is_none(), "closed, and yet it waits");
    }
});

fn feed(client: &mut Client, mut bytes: &[u8], now: Instant) {
    while client.handle_bytes(&mut bytes, now).is_some() {}
    assert!(bytes.is_empty(), "bytes are left over");
}
