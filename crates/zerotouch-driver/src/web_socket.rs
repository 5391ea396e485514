//! WebSocket (RFC 6455) as MQTT uses it: tungstenite over memory in place of a socket.

use std::io::{self, Read, Write};
use std::mem;

use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Error, Message};
use zerotouch_device::{TransportFailure, TransportFailureKind as Kind};

use crate::tunnel::authority;

/// Where the services listen (the vendor's clients, DPS and hub alike).
const PATH: &str = "/$iothub/websocket";
/// MQTT's name here (MQTT 3.1.1 §6).
const SUBPROTOCOL: &str = "mqtt";
/// Far more than a hub sends in one message.
const MAX_MESSAGE: usize = 1024 * 1024;
const READ_BUFFER: usize = 16 * 1024;

/// Where tungstenite expects a socket.
#[derive(Debug, Default)]
struct Memory {
    input: Vec<u8>,
    read: usize,
    output: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.input[self.read..];
        if rest.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.read += n;
        if self.read == self.input.len() {
            (self.input, self.read) = (Vec::new(), 0);
        }
        Ok(n)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
enum State {
    Handshake(Box<MidHandshake<ClientHandshake<Memory>>>),
    Open(Box<tungstenite::WebSocket<Memory>>),
    Failed,
}

/// The client's side of one connection.
#[derive(Debug)]
pub(crate) struct WebSocket(State);

impl WebSocket {
    /// Begins the handshake; its first bytes are there to be transmitted.
    pub(crate) fn new(host: &str, port: u16) -> Result<Self, TransportFailure> {
        let uri = format!("wss://{}{PATH}", authority(host, port));
        let mut request = uri.into_client_request().map_err(|error| failure(&error))?;
        let name = HeaderValue::from_static(SUBPROTOCOL);
        request.headers_mut().insert("Sec-WebSocket-Protocol", name);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let handshake = ClientHandshake::start(Memory::default(), request, Some(config));
        let handshake = handshake.map_err(|error| failure(&error))?;
        let mut web_socket = Self(State::Handshake(Box::new(handshake)));
        web_socket.shake()?;
        Ok(web_socket)
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.0, State::Open(_))
    }

    /// Bytes from the server; `on_bytes` gets MQTT's, which do not care for the frames' bounds.
    pub(crate) fn handle_bytes(
        &mut self,
        bytes: &[u8],
        mut on_bytes: impl FnMut(&[u8]),
    ) -> Result<(), TransportFailure> {
        if let Some(memory) = self.memory() {
            memory.input.extend_from_slice(bytes);
        }
        self.shake()?;
        let State::Open(open) = &mut self.0 else { return Ok(()) };
        loop {
            match open.read() {
                Ok(Message::Binary(bytes)) => on_bytes(&bytes),
                Ok(Message::Close(_)) => {
                    // The answer to it; the connection is over whether that is sent or not.
                    let _ = open.flush();
                    return Err(TransportFailure::closed());
                }
                Ok(Message::Text(_)) => {
                    let detail = "the server sent text over WebSocket, where MQTT is binary";
                    return Err(TransportFailure::new(Kind::Broken, detail));
                }
                // tungstenite has answered a ping.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(failure(&error)),
            }
        }
    }

    /// Sends MQTT's bytes in one frame. tungstenite writes whole frames into its log at the finest
    /// level, and a token is among these bytes: so it writes the header alone.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), TransportFailure> {
        let State::Open(open) = &mut self.0 else { return Ok(()) };
        let mut mask = [0; 4];
        getrandom::fill(&mut mask)
            .map_err(|error| TransportFailure::new(Kind::Broken, error.to_string()))?;
        let header = FrameHeader {
            opcode: OpCode::Data(Data::Binary),
            mask: Some(mask),
            ..FrameHeader::default()
        };
        let output = &mut open.get_mut().output;
        header.format(bytes.len() as u64, output).map_err(|error| failure(&error))?;
        output.extend(bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        Ok(())
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self) {
        if let State::Open(open) = &mut self.0 {
            // It fails if the server has said so before.
            let _ = open.close(None);
        }
    }

    /// What is to be transmitted.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        self.memory().map(|memory| mem::take(&mut memory.output)).unwrap_or_default()
    }

    fn memory(&mut self) -> Option<&mut Memory> {
        match &mut self.0 {
            State::Handshake(handshake) => Some(handshake.get_mut().get_mut()),
            State::Open(open) => Some(open.get_mut()),
            State::Failed => None,
        }
    }

    fn shake(&mut self) -> Result<(), TransportFailure> {
        self.0 = match mem::replace(&mut self.0, State::Failed) {
            State::Handshake(handshake) => match handshake.handshake() {
                Ok((open, _)) => State::Open(Box::new(open)),
                Err(HandshakeError::Interrupted(rest)) => State::Handshake(Box::new(rest)),
                Err(HandshakeError::Failure(error)) => return Err(failure(&error)),
            },
            other => other,
        };
        Ok(())
    }
}

fn failure(error: &Error) -> TransportFailure {
    let kind = match error {
        Error::ConnectionClosed | Error::AlreadyClosed => return TransportFailure::closed(),
        // What answers is no MQTT service, or not now.
        Error::Http(_) | Error::HttpFormat(_) | Error::Url(_) => Kind::Unreachable,
        _ => Kind::Broken,
    };
    TransportFailure::new(kind, format!("WebSocket: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::handshake::derive_accept_key;

    /// The client's request, and a server's answer to it.
    fn request() -> (WebSocket, String, String) {
        let mut web_socket = WebSocket::new("hub.example", 443).unwrap();
        let request = String::from_utf8(web_socket.take_output()).unwrap();
        let key = request.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
        });
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            derive_accept_key(key.unwrap().as_bytes()),
        );
        (web_socket, request, answer)
    }

    fn open() -> WebSocket {
        let (mut web_socket, _, answer) = request();
        let answer = format!("{answer}Sec-WebSocket-Protocol: mqtt\r\n\r\n");
        // Not byte by byte, which tungstenite takes for an attack.
        for piece in answer.as_bytes().chunks(64) {
            assert!(!web_socket.is_open());
            web_socket.handle_bytes(piece, |_| {}).unwrap();
        }
        assert!(web_socket.is_open());
        web_socket
    }

    fn fed(web_socket: &mut WebSocket, bytes: &[u8]) -> Result<Vec<u8>, Kind> {
        let mut received = Vec::new();
        let fed = web_socket.handle_bytes(bytes, |piece| received.extend_from_slice(piece));
        fed.map(|()| received).map_err(|failure| failure.kind)
    }

    // To the letter, as the services want it.
    #[test]
    fn the_request_asks_for_mqtt() {
        let (_, request, _) = request();
        let request = request.to_ascii_lowercase();
        for line in [
            "get /$iothub/websocket http/1.1\r\n",
            "\r\nhost: hub.example:443\r\n",
            "\r\nsec-websocket-protocol: mqtt\r\n",
        ] {
            assert!(request.contains(line), "{request}");
        }
    }

    // What answers may be anything: only a server that speaks MQTT over WebSocket will do.
    #[test]
    fn other_answers_are_failures() {
        let mut answered = Vec::new();
        for rest in ["\r\n", "Sec-WebSocket-Protocol: amqp\r\n\r\n"] {
            let (mut web_socket, _, answer) = request();
            answered.push(fed(&mut web_socket, format!("{answer}{rest}").as_bytes()));
        }
        for answer in ["HTTP/1.1 404 Not Found\r\n\r\n", "220 mail.example ESMTP\r\n\r\n"] {
            let (mut web_socket, _, _) = request();
            answered.push(fed(&mut web_socket, answer.as_bytes()));
        }
        let (broken, unreachable) = (Err(Kind::Broken), Err(Kind::Unreachable));
        assert_eq!(answered[..3], [broken.clone(), broken, unreachable]);
        assert!(answered[3].is_err());
    }

    // Each byte of a frame may come alone; a ping is answered, in between too.
    #[test]
    fn frames_are_put_together_and_pings_answered() {
        let mut web_socket = open();
        let frames = b"\x02\x02ab\x89\x01?\x80\x01c";
        let received: Vec<u8> =
            frames.iter().flat_map(|byte| fed(&mut web_socket, &[*byte]).unwrap()).collect();
        assert_eq!(received, b"abc");
        let pong = web_socket.take_output();
        assert_eq!(pong[..2], [0x8a, 0x81]);
        assert_eq!(pong[6] ^ pong[2], b'?');
    }

    // A client masks what it sends, each frame anew.
    #[test]
    fn what_is_sent_is_one_masked_frame() {
        let mut web_socket = open();
        let mut masks = Vec::new();
        for _ in 0..2 {
            web_socket.send(b"hello").unwrap();
            let frame = web_socket.take_output();
            assert_eq!(frame[..2], [0x82, 0x85]);
            let (mask, payload) = frame[2..].split_at(4);
            let plain: Vec<_> =
                payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
            assert_eq!(plain, b"hello");
            masks.push(mask.to_vec());
        }
        assert_ne!(masks[0], masks[1]);
    }

    // MQTT is binary; a close is answered and is the end; a message has a limit.
    #[test]
    fn what_is_no_mqtt_ends_the_connection() {
        assert_eq!(fed(&mut open(), b"\x81\x02hi"), Err(Kind::Broken), "text");
        assert_eq!(fed(&mut open(), b"\x82\x7f\0\0\0\0\x10\0\0\0"), Err(Kind::Broken), "256 MiB");
        assert_eq!(fed(&mut open(), b"\x82\x82mask.."), Err(Kind::Broken), "a masked frame");
        let mut web_socket = open();
        assert_eq!(fed(&mut web_socket, b"\x88\x00"), Err(Kind::Closed));
        assert_eq!(web_socket.take_output()[0], 0x88);
    }
}
