//! Bytes of no goodwill, in any pieces and at any times: nothing panics, nothing grows, and what is over
//! stays over.

use std::time::Duration;

use proptest::prelude::*;
use zerotouch_mqtt_codec::QoS;
use zerotouch_mqtt_session::{Client, ClientConfig, ServerConfig, ServerLimits};

use crate::support::*;

/// Packets, some of them spoiled, that follow each other in pieces.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let packet = prop::sample::select(vec![
        connect_packet("c", true),
        connect_packet("c", false),
        connect_packet("d", false),
        connect_with_will("c", true, Some(("t", "gone", QoS::AtLeastOnce, true))),
        connack(false),
        connack(true),
        qos0("t", "x"),
        qos1(1, "t", "x"),
        qos1(2, "t/a", "x"),
        qos2(1, "t", "x"),
        retained(qos2(3, "t/a", "x")),
        retained(qos0("t/a", "")),
        puback(1),
        pubrec(1),
        pubrec(2),
        pubrel(1),
        pubcomp(1),
        subscribe(1, &[("t", QoS::ExactlyOnce), ("t/#", QoS::AtLeastOnce)]),
        suback(1, &[0, 1]),
        unsubscribe(2, &["t"]),
        unsuback(1),
        PINGREQ.to_vec(),
        PINGRESP.to_vec(),
        DISCONNECT.to_vec(),
    ]);
    let spoiled = (packet.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut packet, position, value)| {
            let position = position.index(packet.len());
            packet[position] = value;
            packet
        },
    );
    let piece = prop_oneof![
        12 => packet,
        2 => spoiled,
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

const LIMIT: usize = 200;

proptest! {
    #[test]
    fn a_client_bears_anything(
        inputs in prop::collection::vec((stream(), 1..50_usize, 0..20_000_u64, 0..6_u8), 1..10),
    ) {
        let config = ClientConfig { max_transmit_buffer: LIMIT, ..ClientConfig::default() };
        let mut client = Client::new(config);
        let mut now = T0;
        for (bytes, piece, millis, command) in inputs {
            if client.is_closed() {
                connect(&mut client, command % 2 == 0);
            }
            for bytes in bytes.chunks(piece) {
                let mut input = bytes;
                while client.handle_bytes(&mut input, now).is_some() {}
                prop_assert!(input.is_empty(), "all input is taken");
            }
            match command {
                0 => drop(publish(&mut client, "x", QoS::ExactlyOnce)),
                1 => drop(client.subscribe(&[(filter("f"), QoS::AtMostOnce)], now)),
                2 => client.disconnect(),
                3 => client.handle_closed(),
                _ => {}
            }
            now = now + Duration::from_millis(millis);
            client.handle_timeout(now);
            let waiting = client.poll_transmit().map_or(0, <[u8]>::len);
            prop_assert!(waiting <= 2 * LIMIT + 64 * 10, "{waiting}");
            prop_assert!(client.is_closed() == client.poll_timeout().is_none());
            while client.poll_event().is_some() {}
        }
    }

    #[test]
    fn a_server_bears_anything(
        inputs in prop::collection::vec(
            (0..3_u64, stream(), 1..50_usize, 0..20_000_u64, any::<bool>()), 1..20),
    ) {
        let limits = ServerLimits {
            connection: ServerConfig { max_transmit_buffer: LIMIT, ..ServerConfig::default() },
            max_queued: 4,
            ..ServerLimits::default()
        };
        let mut world = World::with(limits, zerotouch_mqtt_session::PlainBrokerConfig::default());
        for (connection, bytes, piece, millis, reads) in inputs {
            let id = zerotouch_mqtt_session::ConnectionId(connection);
            let _ = world.server.handle_open(id, world.now);
            for bytes in bytes.chunks(piece) {
                world.server.handle_bytes(id, bytes, world.now);
            }
            let waiting = world.server.poll_transmit(id).map_or(0, <[u8]>::len);
            prop_assert!(waiting <= 2 * LIMIT + 64 * 20, "{waiting}");
            if reads {
                world.received(connection);
            }
            world.wait(Duration::from_millis(millis));
            world.is_closed(connection);
            let due = world.server.poll_timeout();
            prop_assert!(due.is_none_or(|due| due > world.now), "a timeout was not handled");
            prop_assert!(world.server.connection_count() <= 3);
            // Client identifiers of these packets, and those assigned to spoiled ones.
            prop_assert!(world.server.session_count() <= 3 + 20);
        }
    }
}
