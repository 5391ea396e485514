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
