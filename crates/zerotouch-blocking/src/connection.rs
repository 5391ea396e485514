//! One connection: the dial, a thread that reads the socket, and TLS on the driver's thread.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use rustls::ClientConnection;
use zerotouch_device::{ConnectionId, Dial, TransportFailure};
use zerotouch_driver::{TlsDialler, transport_failure};

use crate::driver::Input;

/// How long one address may take, and how long the TLS handshake.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the peer may leave a full socket unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// As much as TLS puts into one record, and its framing.
const READ_BUFFER: usize = 17 * 1024;

/// A dialled connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    tls: ClientConnection,
    tcp: TcpStream,
    /// A write failed: nothing more is sent, and the reading thread will tell why.
    broken: bool,
}

/// Dials on a thread of its own and sends the outcome to `inputs`.
pub(crate) fn dial(tls: &TlsDialler, dial: Dial, inputs: &SyncSender<Input>) {
    let (id, tls) = (dial.connection, tls.clone());
    let dialling = thread::Builder::new().name("zerotouch-dial".into()).spawn({
        let inputs = inputs.clone();
        move || {
            let outcome = connect(&tls, &dial);
            // The driver may have gone meanwhile.
            let _ = inputs.send(match outcome {
                Ok((tls, tcp)) => {
                    Input::Dialled(Box::new(Connection { id, tls, tcp, broken: false }))
                }
                Err(failure) => Input::DialFailed(id, failure),
            });
        }
    });
    if let Err(error) = dialling {
        // The driver's own thread: it must not wait for a place in its own queue.
        let _ = inputs.try_send(Input::DialFailed(id, transport_failure(&error)));
    }
}

/// Resolves the name anew and tries every address in turn.
fn connect(
    tls: &TlsDialler,
    dial: &Dial,
) -> Result<(ClientConnection, TcpStream), TransportFailure> {
    let failed = |error: &io::Error| transport_failure(error);
    let (config, name) = tls.prepare(dial)?;
    let addresses =
        (dial.host.as_str(), dial.port).to_socket_addrs().map_err(|error| failed(&error))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, STEP_TIMEOUT) {
            Err(error) => last = error,
            Ok(tcp) => {
                let client = ClientConnection::new(config, name)
                    .map_err(|error| failed(&io::Error::new(io::ErrorKind::InvalidData, error)))?;
                return handshake(client, tcp).map_err(|error| failed(&error));
            }
        }
    }
    Err(failed(&last))
}

fn handshake(
    mut tls: ClientConnection,
    mut tcp: TcpStream,
) -> io::Result<(ClientConnection, TcpStream)> {
    // MQTT's packets are small and each is waited for.
    tcp.set_nodelay(true)?;
    zerotouch_tls::handshake(&mut tls, &mut tcp, STEP_TIMEOUT)?;
    tcp.set_write_timeout(Some(WRITE_TIMEOUT))?;
    Ok((tls, tcp))
}

impl Connection {
    /// Starts the thread that reads the socket, until it ends or is shut down.
    pub(crate) fn start_reading(&self, inputs: SyncSender<Input>) -> io::Result<()> {
        let (id, mut tcp) = (self.id, self.tcp.try_clone()?);
        let reading = move || {
            loop {
                let mut bytes = vec![0; READ_BUFFER];
                let read = tcp.read(&mut bytes).map(|n| {
                    bytes.truncate(n);
                    bytes
                });
                let over = !matches!(&read, Ok(bytes) if !bytes.is_empty());
                if inputs.send(Input::Read(id, read)).is_err() || over {
                    return;
                }
            }
        };
        thread::Builder::new().name("zerotouch-read".into()).spawn(reading).map(drop)
    }

    /// Decrypts what the socket gave; `on_bytes` gets the plain text in pieces.
    pub(crate) fn received(
        &mut self,
        read: io::Result<Vec<u8>>,
        mut on_bytes: impl FnMut(&[u8]),
    ) -> Result<(), TransportFailure> {
        let bytes = read.map_err(|error| transport_failure(&error))?;
        if bytes.is_empty() {
            return Err(TransportFailure::closed());
        }
        let mut rest = &bytes[..];
        let mut plain = [0; 4096];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).map_err(|error| transport_failure(&error))?;
            let state = self.tls.process_new_packets().map_err(|error| {
                // Whatever rustls wants to tell the peer about it.
                let _ = self.tls.write_tls(&mut self.tcp);
                transport_failure(&io::Error::new(io::ErrorKind::InvalidData, error))
            })?;
            loop {
                match self.tls.reader().read(&mut plain) {
                    Ok(0) => return Err(TransportFailure::closed()),
                    Ok(n) => on_bytes(&plain[..n]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(transport_failure(&error)),
                }
            }
            if state.peer_has_closed() {
                return Err(TransportFailure::closed());
            }
        }
        // Key updates and the like.
        self.flush().map_err(|error| transport_failure(&error))
    }

    /// Encrypts and sends all of `bytes`; `false` if that failed, now or before.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        if !self.broken {
            self.broken = self.write(bytes).is_err();
        }
        !self.broken
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.tls.writer().write(bytes)?;
            bytes = &bytes[taken..];
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.tcp)?;
        }
        Ok(())
    }

    /// Says goodbye to TLS and shuts the socket, which ends the reading thread.
    pub(crate) fn hang_up(mut self) {
        self.tls.send_close_notify();
        // The peer may be gone: it need not hear it.
        let _ = self.flush();
        let _ = self.tcp.shutdown(Shutdown::Both);
    }
}
