//! One connection: the dial, and bytes both ways.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use zerotouch_device::{ConnectionId, Dial, TransportFailure};
use zerotouch_driver::{ADDRESS_TIMEOUT, Channel, Dialler, Way, Ways, transport_failure};

/// As much as TLS puts into one record.
pub(crate) const READ_BUFFER: usize = 16 * 1024;
/// How long a farewell may take, and a peer that broke a write to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(crate) enum Connection {
    None,
    Dialling { id: ConnectionId, dial: JoinHandle<Result<Open, TransportFailure>> },
    Open { id: ConnectionId, open: Open },
}

/// A socket, and what stands between it and MQTT.
pub(crate) struct Open {
    tcp: TcpStream,
    channel: Box<Channel>,
}

/// What a connection has to tell.
pub(crate) enum Outcome {
    Dialled(ConnectionId),
    DialFailed(ConnectionId, TransportFailure),
    /// So many bytes from the socket: see [`Connection::received`].
    Received(ConnectionId, usize),
    /// So many bytes of the device's are on their way.
    Sent(usize),
    Ended(ConnectionId, TransportFailure),
}

impl Connection {
    pub(crate) fn dial(dialler: &Dialler, dial: &Dial) -> Self {
        let id = dial.connection;
        let ways = dialler.ways(dial);
        Self::Dialling { id, dial: tokio::spawn(async move { connect(ways?).await }) }
    }

    /// Gives up a dial, or closes the connection; the farewell is sent in the background.
    pub(crate) fn hang_up(&mut self) {
        match std::mem::replace(self, Self::None) {
            Self::None => {}
            Self::Dialling { dial, .. } => dial.abort(),
            Self::Open { mut open, .. } => {
                open.channel.close();
                tokio::spawn(timeout(LAST_WORDS, async move {
                    // The peer may be gone: it need not hear it.
                    let _ = open.flush().await;
                    let _ = open.tcp.shutdown().await;
                }));
            }
        }
    }

    /// Waits for the next thing this connection has to tell. Cancel safe: it is asked in a `select!`.
    pub(crate) async fn next(&mut self, transmit: Option<&[u8]>, buffer: &mut [u8]) -> Outcome {
        match self {
            Self::None => std::future::pending().await,
            Self::Dialling { id, dial } => {
                let id = *id;
                match dial.await {
                    Ok(Ok(open)) => {
                        *self = Self::Open { id, open };
                        Outcome::Dialled(id)
                    }
                    Ok(Err(failure)) => self.failed(Outcome::DialFailed(id, failure)),
                    Err(error) => {
                        let failure = transport_failure(&io::Error::other(error));
                        self.failed(Outcome::DialFailed(id, failure))
                    }
                }
            }
            Self::Open { id, open } => {
                let id = *id;
                match open.next(transmit, buffer).await {
                    Ok(Moved::In(n)) => Outcome::Received(id, n),
                    Ok(Moved::Out(n)) => Outcome::Sent(n),
                    Err(failure) => self.failed(Outcome::Ended(id, failure)),
                }
            }
        }
    }

    /// Takes the bytes of [`Outcome::Received`]; `on_bytes` gets MQTT's among them.
    pub(crate) fn received(
        &mut self,
        bytes: &[u8],
        on_bytes: impl FnMut(&[u8]),
    ) -> Result<(), TransportFailure> {
        let Self::Open { open, .. } = self else { return Ok(()) };
        let received = open.channel.handle_bytes(bytes, on_bytes);
        if received.is_err() {
            self.hang_up();
        }
        received
    }

    fn failed(&mut self, outcome: Outcome) -> Outcome {
        *self = Self::None;
        outcome
    }
}

enum Moved {
    In(usize),
    Out(usize),
}

impl Open {
    /// Moves some bytes. Cancel safe.
    async fn next(
        &mut self,
        transmit: Option<&[u8]>,
        buffer: &mut [u8],
    ) -> Result<Moved, TransportFailure> {
        let (mut reader, mut writer) = self.tcp.split();
        loop {
            let write = async {
                match (self.channel.poll_transmit(), transmit) {
                    (Some(bytes), _) => writer.write(bytes).await.map(Some),
                    (None, Some(_)) => Ok(None),
                    (None, None) => std::future::pending().await,
                }
            };
            let written = tokio::select! {
                read = reader.read(buffer) => return match read {
                    Ok(0) => Err(TransportFailure::closed()),
                    Ok(n) => Ok(Moved::In(n)),
                    Err(error) => Err(transport_failure(&error)),
                },
                written = write => written,
            };
            match written {
                Ok(Some(n)) => self.channel.handle_transmitted(n),
                Ok(None) => return self.channel.send(transmit.unwrap_or_default()).map(Moved::Out),
                Err(error) => {
                    // Under TLS 1.3 a refused certificate breaks a write first; the alert that says so
                    // waits to be read.
                    let alert = match timeout(LAST_WORDS, reader.read(buffer)).await {
                        Ok(Ok(n)) => self.channel.handle_bytes(&buffer[..n], |_| {}).err(),
                        _ => None,
                    };
                    return Err(alert.unwrap_or_else(|| transport_failure(&error)));
                }
            }
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        while let Some(bytes) = self.channel.poll_transmit() {
            let n = self.tcp.write(bytes).await?;
            self.channel.handle_transmitted(n);
        }
        Ok(())
    }
}

async fn connect(mut ways: Ways) -> Result<Open, TransportFailure> {
    while let Some(mut way) = ways.next_way() {
        let connected = match way.timeout {
            Some(limit) => timeout(limit, go(&mut way)).await,
            None => Ok(go(&mut way).await),
        };
        match connected {
            Ok(Ok(tcp)) => return Ok(Open { tcp, channel: ways.succeeded(way) }),
            Ok(Err(failure)) => ways.failed(failure),
            Err(_) => ways.failed(way.timed_out()),
        }
    }
    Err(ways.into_failure())
}

/// Resolves the name anew, tries every address in turn, and shakes hands with whoever accepts.
async fn go(way: &mut Way) -> Result<TcpStream, TransportFailure> {
    let resolved = spawn_blocking(way.resolve()).await;
    let mut last = io::ErrorKind::NotFound.into();
    for address in resolved.map_err(|error| transport_failure(&io::Error::other(error)))?? {
        match timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return shake_hands(tcp, &mut way.channel).await,
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(transport_failure(&last))
}

async fn shake_hands(
    mut tcp: TcpStream,
    channel: &mut Channel,
) -> Result<TcpStream, TransportFailure> {
    let failed = |error: io::Error| transport_failure(&error);
    // MQTT's packets are small and each is waited for.
    tcp.set_nodelay(true).map_err(failed)?;
    let mut buffer = vec![0; READ_BUFFER];
    let mut fate = Ok(());
    loop {
        while let Some(bytes) = channel.poll_transmit() {
            let n = tcp.write(bytes).await.map_err(failed)?;
            channel.handle_transmitted(n);
        }
        fate?;
        if channel.is_open() {
            return Ok(tcp);
        }
        let n = tcp.read(&mut buffer).await.map_err(failed)?;
        if n == 0 {
            return Err(TransportFailure::closed());
        }
        // Even a failure may have last words.
        fate = channel.handle_bytes(&buffer[..n], |_| {});
    }
}
