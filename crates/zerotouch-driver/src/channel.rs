//! One connection between TCP and MQTT, without a socket: a proxy's yes, TLS, WebSocket.
//!
//! | stage | done | next |
//! |---|---|---|
//! | `Tunnel`, if there is a proxy | it has said yes | `Tls` |
//! | `Tls` | the handshake is over | `WebSocket` or `Open` |
//! | `WebSocket`, if MQTT is carried by it | the handshake is over | `Open` |
//! | `Open` | | |

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection};
#[cfg(feature = "https")]
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use zeroize::Zeroizing;
use zerotouch_device::TransportFailure;

use crate::network::Proxy;
use crate::transport::transport_failure;
use crate::tunnel::{self, Tunnel};
use crate::web_socket::WebSocket;

/// How much is taken at a time, so that little more than twice this waits for the socket.
const MAX_PIECE: usize = 16 * 1024;

#[derive(Debug)]
enum Stage {
    Tunnel(Tunnel),
    Tls,
    WebSocket,
    Open,
}

/// The server behind a channel.
#[derive(Debug)]
pub(crate) struct Server<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) proxy: Option<&'a Proxy>,
    pub(crate) web_socket: bool,
}

/// Everything between a TCP socket and MQTT.
///
/// Transmit first, and after every call, what [`Channel::poll_transmit`] has; feed what the socket gives.
/// Once [`Channel::is_open`], MQTT's bytes go in by [`Channel::send`] and come out of
/// [`Channel::handle_bytes`].
#[derive(Debug)]
pub struct Channel {
    stage: Stage,
    host: String,
    port: u16,
    uses_web_socket: bool,
    tls: ClientConnection,
    web_socket: Option<WebSocket>,
    output: Zeroizing<Vec<u8>>,
    transmitted: usize,
}

impl Channel {
    pub(crate) fn new(
        server: &Server<'_>,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, TransportFailure> {
        let mut tls = ClientConnection::new(config, name).map_err(tls_failure)?;
        // It is emptied after each piece.
        tls.set_buffer_limit(None);
        let (stage, output) = match server.proxy {
            Some(proxy) => {
                let request = tunnel::request(proxy, server.host, server.port);
                (Stage::Tunnel(Tunnel::default()), request)
            }
            None => (Stage::Tls, Zeroizing::default()),
        };
        let mut channel = Self {
            stage,
            host: server.host.into(),
            port: server.port,
            uses_web_socket: server.web_socket,
            tls,
            web_socket: None,
            output,
            transmitted: 0,
        };
        channel.advance()?;
        Ok(channel)
    }

    /// Whether MQTT may speak.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// What the server has shown, its own first; nothing before it has, and in a resumed session what it
    /// showed then.
    #[cfg(feature = "https")]
    pub(crate) fn server_certificates(&self) -> &[CertificateDer<'static>] {
        self.tls.peer_certificates().unwrap_or_default()
    }

    /// Bytes from the socket; `on_bytes` gets MQTT's among them. After a failure there may be last words
    /// to transmit. What a server says before the channel is open is no MQTT, and lost.
    pub fn handle_bytes(
        &mut self,
        mut bytes: &[u8],
        mut on_bytes: impl FnMut(&[u8]),
    ) -> Result<(), TransportFailure> {
        if let Stage::Tunnel(tunnel) = &mut self.stage {
            if tunnel.handle_bytes(bytes)? {
                self.stage = Stage::Tls;
                self.advance()?;
            }
            return Ok(());
        }
        let mut ended = Ok(());
        let mut plain = [0; 4096];
        while ended.is_ok() && !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).map_err(|error| transport_failure(&error))?;
            ended = match self.tls.process_new_packets() {
                Ok(state) if state.peer_has_closed() => Err(TransportFailure::closed()),
                Ok(_) => Ok(()),
                Err(error) => Err(tls_failure(error)),
            };
            // What came before the end counts.
            while let Ok(n @ 1..) = self.tls.reader().read(&mut plain) {
                match &mut self.web_socket {
                    Some(web_socket) => {
                        let handled = web_socket.handle_bytes(&plain[..n], &mut on_bytes);
                        ended = ended.and(handled);
                    }
                    None => on_bytes(&plain[..n]),
                }
            }
            let advanced = self.advance();
            ended = ended.and(advanced);
        }
        ended
    }

    /// Takes bytes of MQTT's, how many it says: none while a whole piece before them waits for the socket.
    pub fn send(&mut self, bytes: &[u8]) -> Result<usize, TransportFailure> {
        let waiting = self.poll_transmit().map_or(0, <[u8]>::len);
        if !self.is_open() || waiting >= MAX_PIECE {
            return Ok(0);
        }
        let piece = &bytes[..bytes.len().min(MAX_PIECE)];
        match &mut self.web_socket {
            Some(web_socket) => web_socket.send(piece)?,
            None => self.encrypt(piece)?,
        }
        self.advance()?;
        Ok(piece.len())
    }

    /// Bytes for the socket.
    pub fn poll_transmit(&self) -> Option<&[u8]> {
        self.output.get(self.transmitted..).filter(|rest| !rest.is_empty())
    }

    /// The socket took the first `n` bytes of [`Channel::poll_transmit`].
    pub fn handle_transmitted(&mut self, n: usize) {
        self.transmitted += n;
        if self.transmitted >= self.output.len() {
            self.output.clear();
            self.transmitted = 0;
        }
    }

    /// Says goodbye on every floor.
    pub fn close(&mut self) {
        if let Some(web_socket) = &mut self.web_socket {
            web_socket.close();
        }
        // The socket is closed next; what cannot be said any more is not missed.
        let _ = self.advance();
        if !matches!(self.stage, Stage::Tunnel(_)) {
            self.tls.send_close_notify();
            let _ = self.collect();
        }
    }

    /// To the next stage, and everything that is to be sent into `output`.
    fn advance(&mut self) -> Result<(), TransportFailure> {
        if matches!(self.stage, Stage::Tunnel(_)) {
            return Ok(());
        }
        if matches!(self.stage, Stage::Tls) && !self.tls.is_handshaking() {
            self.stage = if self.uses_web_socket {
                self.web_socket = Some(WebSocket::new(&self.host, self.port)?);
                Stage::WebSocket
            } else {
                Stage::Open
            };
        }
        if let Some(web_socket) = &mut self.web_socket {
            if matches!(self.stage, Stage::WebSocket) && web_socket.is_open() {
                self.stage = Stage::Open;
            }
            let frames = Zeroizing::new(web_socket.take_output());
            self.encrypt(&frames)?;
        }
        self.collect()
    }

    fn encrypt(&mut self, bytes: &[u8]) -> Result<(), TransportFailure> {
        self.tls.writer().write_all(bytes).map_err(|error| transport_failure(&error))
    }

    fn collect(&mut self) -> Result<(), TransportFailure> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut *self.output).map_err(|error| transport_failure(&error))?;
        }
        Ok(())
    }
}

fn tls_failure(error: rustls::Error) -> TransportFailure {
    transport_failure(&io::Error::new(io::ErrorKind::InvalidData, error))
}
