//! One connection: the dial, and bytes both ways.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zerotouch_device::{ConnectionId, Dial, TransportFailure};
use zerotouch_driver::{TlsDialler, transport_failure};
use zerotouch_tls::handshake_timed_out;

/// How long a peer that broke a write may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long the TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) enum Connection {
    None,
    Dialling {
        id: ConnectionId,
        dial: JoinHandle<Result<TlsStream<TcpStream>, TransportFailure>>,
    },
    Open {
        id: ConnectionId,
        reader: ReadHalf<TlsStream<TcpStream>>,
        writer: WriteHalf<TlsStream<TcpStream>>,
        unflushed: bool,
    },
}

/// What a connection has to tell.
pub(crate) enum Outcome {
    Dialled(ConnectionId),
    DialFailed(ConnectionId, TransportFailure),
    Received(ConnectionId, usize),
    Sent(usize),
    Ended(ConnectionId, TransportFailure),
}

impl Connection {
    pub(crate) fn dial(tls: &TlsDialler, dial: Dial) -> Self {
        let tls = tls.clone();
        Self::Dialling {
            id: dial.connection,
            dial: tokio::spawn(async move { connect(&tls, &dial).await }),
        }
    }

    /// Gives up a dial, or closes the connection; the farewell of TLS is sent in the background.
    pub(crate) fn hang_up(&mut self) {
        match std::mem::replace(self, Self::None) {
            Self::None => {}
            Self::Dialling { dial, .. } => dial.abort(),
            Self::Open { reader, writer, .. } => {
                let mut stream = reader.unsplit(writer);
                tokio::spawn(
                    async move { tokio::time::timeout(LAST_WORDS, stream.shutdown()).await },
                );
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
                    Ok(Ok(stream)) => {
                        let (reader, writer) = tokio::io::split(stream);
                        *self = Self::Open { id, reader, writer, unflushed: false };
                        Outcome::Dialled(id)
                    }
                    Ok(Err(failure)) => self.failed(Outcome::DialFailed(id, failure)),
                    Err(error) => {
                        let failure = transport_failure(&io::Error::other(error));
                        self.failed(Outcome::DialFailed(id, failure))
                    }
                }
            }
            Self::Open { id, reader, writer, unflushed } => {
                let id = *id;
                let write = async {
                    match transmit {
                        Some(bytes) => writer.write(bytes).await,
                        None if *unflushed => writer.flush().await.map(|()| 0),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    read = reader.read(buffer) => match read {
                        Ok(0) => self.failed(Outcome::Ended(id, TransportFailure::closed())),
                        Ok(n) => Outcome::Received(id, n),
                        Err(error) => self.failed(Outcome::Ended(id, transport_failure(&error))),
                    },
                    written = write => match written {
                        Ok(n) => {
                            *unflushed = transmit.is_some();
                            Outcome::Sent(n)
                        }
                        Err(error) => {
                            // Under TLS 1.3 a refused certificate breaks a write first; the alert
                            // that says so waits to be read.
                            let reason = match tokio::time::timeout(LAST_WORDS, reader.read(buffer)).await {
                                Ok(Err(alert)) => transport_failure(&alert),
                                _ => transport_failure(&error),
                            };
                            self.failed(Outcome::Ended(id, reason))
                        }
                    },
                }
            }
        }
    }

    fn failed(&mut self, outcome: Outcome) -> Outcome {
        *self = Self::None;
        outcome
    }
}

/// Resolves the name anew and tries every address in turn.
async fn connect(tls: &TlsDialler, dial: &Dial) -> Result<TlsStream<TcpStream>, TransportFailure> {
    let (config, name) = tls.prepare(dial)?;
    let tcp = TcpStream::connect((dial.host.as_str(), dial.port))
        .await
        .map_err(|error| transport_failure(&error))?;
    // MQTT's packets are small and each is waited for.
    tcp.set_nodelay(true).map_err(|error| transport_failure(&error))?;
    let handshake = TlsConnector::from(config).connect(name, tcp);
    tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .unwrap_or_else(|_| Err(handshake_timed_out(HANDSHAKE_TIMEOUT)))
        .map_err(|error| transport_failure(&error))
}
