//! What must not creep in: an allocation in the steady state of a connection.

use allocation_counter::measure;
use zerotouch_mqtt_codec::QoS;
use zerotouch_mqtt_session::{Client, ClientEvent, ServerConfig, ServerConnection, ServerEvent};

use crate::support::*;

/// Payloads from small to larger than any buffer that is kept without need.
const PAYLOADS: [usize; 3] = [16, 1_000, 20_000];

/// How many allocations 100 rounds take once 10 have gone before.
fn steady(mut round: impl FnMut(u16)) -> u64 {
    (1..=10).for_each(&mut round);
    measure(|| (11..=110).for_each(&mut round)).count_total
}

fn feed_client(client: &mut Client, mut input: &[u8]) -> usize {
    let mut events = 0;
    while let Some(event) = client.handle_bytes(&mut input, T0) {
        events += usize::from(!matches!(event, ClientEvent::Progress));
    }
    events
}

fn drain_client(client: &mut Client) {
    let length = client.poll_transmit().unwrap_or_default().len();
    client.handle_transmitted(length);
}

#[test]
fn a_client_publishes_without_allocating() {
    for size in PAYLOADS {
        let payload = vec![7; size];
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut client = connected();
            let count = steady(|number| {
                let [high, low] = number.to_be_bytes();
                let handle = client.publish(topic("t"), &payload, qos, false, T0).unwrap();
                drain_client(&mut client);
                let answers: &[u8] = match qos {
                    QoS::AtMostOnce => &[],
                    QoS::AtLeastOnce => &[0x40, 2, high, low],
                    QoS::ExactlyOnce => &[0x50, 2, high, low, 0x70, 2, high, low],
                };
                let completed = feed_client(&mut client, answers);
                assert_eq!(completed == 1, handle.is_some());
                drain_client(&mut client);
            });
            assert_eq!(count, 0, "{size} bytes with {qos:?}");
        }
    }
}

// With a window of messages in flight, as a client has that does not wait for each answer.
#[test]
fn a_client_with_a_full_window_publishes_without_allocating() {
    let mut client = connected();
    for _ in 0..64 {
        publish(&mut client, "sixteen bytes ..", QoS::AtLeastOnce).unwrap();
    }
    drain_client(&mut client);
    let count = steady(|number| {
        let [high, low] = number.to_be_bytes();
        assert_eq!(feed_client(&mut client, &[0x40, 2, high, low]), 1);
        publish(&mut client, "sixteen bytes ..", QoS::AtLeastOnce).unwrap();
        drain_client(&mut client);
    });
    assert_eq!(count, 0);
}

#[test]
fn a_client_receives_without_allocating() {
    for size in PAYLOADS {
        let payload = "x".repeat(size);
        for message in [qos0("t", &payload), qos1(7, "t", &payload), qos2(7, "t", &payload)] {
            let mut client = connected();
            let count = steady(|_| {
                assert_eq!(feed_client(&mut client, &message), 1);
                assert_eq!(feed_client(&mut client, &[0x62, 2, 0, 7]), 0);
                drain_client(&mut client);
            });
            assert_eq!(count, 0, "{size} bytes");
        }
    }
}

fn accepted() -> ServerConnection {
    let mut server = ServerConnection::new(&ServerConfig::default(), T0);
    server.handle_bytes(&mut &connect_packet("c", true)[..], T0);
    server.accept(false, T0);
    server
}

fn drain_server(server: &mut ServerConnection) {
    let length = server.poll_transmit().unwrap_or_default().len();
    server.handle_transmitted(length);
}

#[test]
fn a_server_connection_receives_without_allocating() {
    for message in [qos0("t", "x"), qos1(7, "t", "x"), qos2(7, "t", "x")] {
        let mut server = accepted();
        let count = steady(|_| {
            let mut input = &message[..];
            let Some(ServerEvent::Publish(publish)) = server.handle_bytes(&mut input, T0) else {
                panic!();
            };
            if let Some(id) = publish.packet_identifier() {
                server.acknowledge(id);
            }
            let mut input: &[u8] = &[0x62, 2, 0, 7];
            assert!(server.handle_bytes(&mut input, T0).is_some());
            drain_server(&mut server);
        });
        assert_eq!(count, 0);
    }
}

#[test]
fn a_server_connection_publishes_without_allocating() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut server = accepted();
        let count = steady(|number| {
            let [high, low] = number.to_be_bytes();
            server.publish(topic("t"), b"sixteen bytes ..", qos, false).unwrap();
            drain_server(&mut server);
            let mut input: &[u8] = &[0x40, 2, high, low];
            assert!(server.handle_bytes(&mut input, T0).is_some());
        });
        assert_eq!(count, 0, "{qos:?}");
    }
}
