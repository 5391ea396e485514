//! The engines over a transport of the standard's kind: ordered, lossless, a stream of bytes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use zerotouch_mqtt_codec::{Connect, QoS};
use zerotouch_mqtt_session::{
    Client, ClientConfig, ClientEvent, ConnectionId, PlainBroker, Server, ServerLimits,
};

use crate::support::*;

/// A client publishes to itself, through a broker on a loopback port; yields what came back.
fn over_tcp() -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let broker = std::thread::spawn(move || serve(&listener.accept().unwrap().0));

    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut client = Client::new(ClientConfig::default());
    let connect = Connect { keep_alive: 0, ..hello("c", true) };
    client.connect(&connect, T0).unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 7];
    loop {
        while let Some(bytes) = client.poll_transmit() {
            let written = socket.write(bytes).unwrap();
            client.handle_transmitted(written);
        }
        if client.is_closed() {
            break;
        }
        let length = socket.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "the broker stays until the client leaves");
        let mut input = &buffer[..length];
        while let Some(event) = client.handle_bytes(&mut input, T0) {
            match event {
                ClientEvent::Connected { .. } => {
                    client.subscribe(&[(filter("t/#"), QoS::ExactlyOnce)], T0).unwrap();
                }
                ClientEvent::Subscribed(..) => {
                    for (name, qos) in [("t/0", QoS::AtMostOnce), ("t/2", QoS::ExactlyOnce)] {
                        client.publish(topic(name), b"x", qos, false, T0).unwrap();
                    }
                }
                ClientEvent::Message(message) => {
                    received.push(message.topic.as_str().to_owned());
                }
                ClientEvent::Published(_) => client.disconnect(),
                _ => {}
            }
        }
    }
    drop(socket);
    broker.join().unwrap();
    received
}

/// Serves one connection until it ends.
fn serve(mut socket: &TcpStream) {
    let mut server = Server::new(PlainBroker::default(), ServerLimits::default());
    let id = ConnectionId(1);
    server.handle_open(id, T0).unwrap();
    let mut buffer = [0; 5];
    while let Ok(length @ 1..) = socket.read(&mut buffer) {
        server.handle_bytes(id, &buffer[..length], T0);
        while let Some(bytes) = server.poll_transmit(id) {
            let written = socket.write(bytes).unwrap();
            server.handle_transmitted(id, written, T0);
        }
    }
}

#[test]
fn mqtt_7_1_1_1() {
    assert_eq!(over_tcp(), ["t/0", "t/2"]);
}

#[test]
fn mqtt_7_1_2_1() {
    assert_eq!(over_tcp(), ["t/0", "t/2"]);
}

// Peers that were made by others, of which only bytes are known here: nothing but the standard's packets
// is needed on either side. Whole clients and servers of others are the interoperability tests'.
#[test]
fn mqtt_7_0_0_2() {
    let mut world = World::new();
    world.open(1);
    let foreign = b"\x10\x13\x00\x04MQTT\x04\x02\x00\x3C\x00\x07foreign\
        \x82\x08\x00\x01\x00\x03a/b\x01\
        \x32\x08\x00\x03a/b\x00\x02x\xE0\x00";
    assert_eq!(
        world.send(1, foreign),
        [&CONNACK[..], &suback(1, &[1]), &puback(2), &qos1(1, "a/b", "x")].concat()
    );
    assert!(world.is_closed(1));

    let mut client = connected();
    client.subscribe(&[(filter("a/b"), QoS::AtLeastOnce)], T0).unwrap();
    assert_eq!(sent(&mut client), b"\x82\x08\x00\x01\x00\x03a/b\x01");
    let foreign = b"\x90\x03\x00\x01\x01\x32\x08\x00\x03a/b\x00\x01x";
    assert_eq!(receive(&mut client, foreign).len(), 2);
    assert_eq!(sent(&mut client), b"\x40\x02\x00\x01");
}
