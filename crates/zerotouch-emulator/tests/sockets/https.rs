//! HTTP and WebSocket on the port of MQTT.

use std::io::{Read, Write};

use rustls::version::{TLS12, TLS13};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};
use zerotouch_emulator::cloud::MAX_HTTP_BODY;
use zerotouch_mqtt_codec::{Connect, ConnectRefusal, Login, Packet, Text};

use crate::client::Client;
use crate::{emulator, private_key, provision, service_token};

pub(crate) fn read_head(client: &mut Client) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

// One connection, several requests, as vendors' clients keep theirs.
#[test]
fn requests_are_answered_on_the_port_of_mqtt() {
    let emulator = emulator();
    for version in [&TLS12, &TLS13] {
        let mut client = Client::dial(&emulator, "localhost", version, None).unwrap();
        for (path, expected) in [("/healthz", "HTTP/1.1 200 "), ("/nowhere", "HTTP/1.1 404 ")] {
            write!(client.stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let head = read_head(&mut client);
            assert!(head.starts_with(expected), "{head}");
            let length = if path == "/healthz" { r#"{"status":"ok"}"#.len() } else { 0 };
            assert!(head.contains(&format!("content-length: {length}\r\n")), "{head}");
            client.stream.read_exact(&mut vec![0; length]).unwrap();
        }
    }
}

// The same as an SDK would send it, over a real connection: the headers are what counts.
#[test]
fn a_message_is_sent_by_its_headers() {
    let emulator = emulator();
    let key = private_key();
    let chain = provision(&emulator, "d", &key, &TLS13);
    let token = service_token(&emulator);
    let mut service = Client::dial(&emulator, "localhost", &TLS13, None).unwrap();
    let request = format!(
        "POST /messages/deviceBound?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: {token}\r\nIoTHub-To: /devices/d/messages/deviceBound\r\n\
         IoTHub-MessageId: m1\r\nContent-Length: 2\r\n\r\ngo"
    );
    service.stream.write_all(request.as_bytes()).unwrap();
    service.stream.flush().unwrap();
    let head = read_head(&mut service);
    assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
    let mut hub = Client::dial(&emulator, "localhost", &TLS13, Some((&chain, &key))).unwrap();
    let username = "localhost/d/?api-version=2021-04-12";
    let login = Some(Login { username: Text::new(username).unwrap(), password: None });
    let client_id = Text::new("d").unwrap();
    hub.send(Connect { client_id, clean_session: false, keep_alive: 60, will: None, login })
        .unwrap();
    hub.read(|packet| assert!(matches!(packet, Packet::ConnAck(_)))).unwrap();
    hub.subscribe("devices/d/messages/devicebound/#");
    hub.read(|packet| match packet {
        Packet::Publish(publish) => {
            assert_eq!(publish.payload, b"go");
            assert!(publish.topic.as_str().ends_with("&%24.mid=m1"), "{}", publish.topic.as_str());
        }
        other => panic!("{other:?}"),
    })
    .unwrap();
}

// What is longer than the emulator takes is refused before it is in memory.
#[test]
fn an_enormous_body_is_refused() {
    let emulator = emulator();
    let mut client = Client::dial(&emulator, "localhost", &TLS13, None).unwrap();
    let length = MAX_HTTP_BODY + 1;
    let head = format!("PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    client.stream.write_all(head.as_bytes()).unwrap();
    client.stream.flush().unwrap();
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
}

// Not HTTP, though it begins with a letter.
#[test]
fn nonsense_ends_its_connection_alone() {
    let emulator = emulator();
    let mut client = Client::dial(&emulator, "localhost", &TLS13, None).unwrap();
    client.stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").unwrap();
    client.stream.flush().unwrap();
    let mut rest = Vec::new();
    // It may end with a 400 or without a word.
    let _ = client.stream.read_to_end(&mut rest);
    let mut other = Client::dial(&emulator, "localhost", &TLS13, None).unwrap();
    let connack = other.connect("d1", "for/no service", None);
    assert!(matches!(connack, zerotouch_mqtt_codec::ConnAck::Refused(_)), "{connack:?}");
}

fn web_socket(client: Client) -> WebSocket<impl Read + Write> {
    let mut request = "wss://localhost/$iothub/websocket".into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
    let (socket, response) = tungstenite::client(request, client.stream).unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "mqtt");
    socket
}

// MQTT packets may be cut and joined by messages in any way [MQTT-6.0.0].
#[test]
fn mqtt_over_websocket() {
    let emulator = emulator();
    let mut socket = web_socket(Client::dial(&emulator, "localhost", &TLS13, None).unwrap());
    let mut bytes = Vec::new();
    let login = Login { username: Text::new("for/no service").unwrap(), password: None };
    let connect = Connect {
        client_id: Text::new("d1").unwrap(),
        clean_session: true,
        keep_alive: 60,
        will: None,
        login: Some(login),
    };
    Packet::from(connect).encode_to(&mut bytes).unwrap();
    for piece in bytes.chunks(5) {
        socket.send(Message::Binary(piece.to_vec().into())).unwrap();
    }
    socket.send(Message::Ping(b"x".to_vec().into())).unwrap();
    let mut answer = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Binary(bytes)) => answer.extend_from_slice(&bytes),
            Ok(Message::Pong(_)) => {}
            _ => break,
        }
    }
    assert_eq!(answer, [0x20, 2, 0, ConnectRefusal::NotAuthorized as u8]);
}

// [MQTT-6.0.0-1] and [MQTT-6.0.0-3]: text closes, and a handshake for another protocol is refused.
#[test]
fn websocket_of_another_kind_is_refused() {
    let emulator = emulator();
    let dial = || Client::dial(&emulator, "localhost", &TLS13, None).unwrap();
    let mut socket = web_socket(dial());
    socket.send(Message::Text("CONNECT".into())).unwrap();
    assert!(matches!(socket.read(), Ok(Message::Close(_))));
    let request = "wss://localhost/$iothub/websocket".into_client_request().unwrap();
    let refused = tungstenite::client(request, dial().stream);
    assert!(refused.is_err());
    let mut plain = dial();
    plain.stream.write_all(b"GET /$iothub/websocket HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(read_head(&mut plain).starts_with("HTTP/1.1 426 "));
}
