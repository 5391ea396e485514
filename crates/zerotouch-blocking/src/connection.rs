//! One connection: the dial, a thread that reads the socket, and what stands between it and MQTT on the
//! driver's thread.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use zerotouch_device::{ConnectionId, Dial, TransportFailure};
use zerotouch_driver::{ADDRESS_TIMEOUT, Channel, Dialler, Way, Ways, transport_failure};

use crate::driver::Input;

/// How long the other side may take for one step of a handshake.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the peer may leave a full socket unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// As much as TLS puts into one record, and its framing.
const READ_BUFFER: usize = 17 * 1024;

/// A dialled connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    channel: Box<Channel>,
    tcp: TcpStream,
    /// A write failed: nothing more is sent, and the reading thread will tell why.
    broken: bool,
}

/// Dials on a thread of its own and sends the outcome to `inputs`.
pub(crate) fn dial(dialler: &Dialler, dial: Dial, inputs: &SyncSender<Input>) {
    let (id, ways) = (dial.connection, dialler.ways(dial));
    let dialling = thread::Builder::new().name("zerotouch-dial".into()).spawn({
        let inputs = inputs.clone();
        move || {
            // The driver may have gone meanwhile.
            let _ = inputs.send(match ways.and_then(connect) {
                Ok((tcp, channel)) => {
                    Input::Dialled(Connection { id, channel, tcp, broken: false })
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

fn connect(mut ways: Ways) -> Result<(TcpStream, Box<Channel>), TransportFailure> {
    while let Some(mut way) = ways.next_way() {
        match go(&mut way) {
            Ok(tcp) => return Ok((tcp, ways.succeeded(way))),
            Err(failure) => ways.failed(failure),
        }
    }
    Err(ways.into_failure())
}

/// Resolves the name anew, tries every address in turn, and shakes hands with whoever accepts.
fn go(way: &mut Way) -> Result<TcpStream, TransportFailure> {
    let deadline = way.timeout.map(|timeout| Instant::now() + timeout);
    let mut last = io::ErrorKind::NotFound.into();
    for address in way.resolve()()? {
        let limit = left(deadline, ADDRESS_TIMEOUT).ok_or_else(|| way.timed_out())?;
        match TcpStream::connect_timeout(&address, limit) {
            Ok(tcp) => return shake_hands(tcp, way, deadline),
            Err(error) => last = error,
        }
    }
    Err(transport_failure(&last))
}

/// What is left until the deadline, at most `limit`; `None` if that is nothing.
fn left(deadline: Option<Instant>, limit: Duration) -> Option<Duration> {
    let left =
        deadline.map_or(limit, |deadline| deadline.saturating_duration_since(Instant::now()));
    Some(left.min(limit)).filter(|left| !left.is_zero())
}

fn shake_hands(
    mut tcp: TcpStream,
    way: &mut Way,
    deadline: Option<Instant>,
) -> Result<TcpStream, TransportFailure> {
    let failed = |error: io::Error| transport_failure(&error);
    // MQTT's packets are small and each is waited for.
    tcp.set_nodelay(true).map_err(failed)?;
    tcp.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(failed)?;
    let mut buffer = vec![0; READ_BUFFER];
    let mut fate = Ok(());
    loop {
        flush(&mut tcp, &mut way.channel).map_err(failed)?;
        fate?;
        if way.channel.is_open() {
            tcp.set_read_timeout(None).map_err(failed)?;
            return Ok(tcp);
        }
        let limit = left(deadline, STEP_TIMEOUT).ok_or_else(|| way.timed_out())?;
        tcp.set_read_timeout(Some(limit)).map_err(failed)?;
        let n = match tcp.read(&mut buffer) {
            Ok(0) => return Err(TransportFailure::closed()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(way.timed_out()),
            Err(error) => return Err(failed(error)),
        };
        // Even a failure may have last words.
        fate = way.channel.handle_bytes(&buffer[..n], |_| {});
    }
}

fn flush(tcp: &mut TcpStream, channel: &mut Channel) -> io::Result<()> {
    while let Some(bytes) = channel.poll_transmit() {
        let n = tcp.write(bytes)?;
        channel.handle_transmitted(n);
    }
    Ok(())
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

    /// Takes what the socket gave; `on_bytes` gets MQTT's bytes among it.
    pub(crate) fn received(
        &mut self,
        read: io::Result<Vec<u8>>,
        on_bytes: impl FnMut(&[u8]),
    ) -> Result<(), TransportFailure> {
        let bytes = read.map_err(|error| transport_failure(&error))?;
        if bytes.is_empty() {
            return Err(TransportFailure::closed());
        }
        let received = self.channel.handle_bytes(&bytes, on_bytes);
        // An alert, a pong, a new key. The peer may be gone: the reading thread will tell.
        let _ = flush(&mut self.tcp, &mut self.channel);
        received
    }

    /// Sends all of `bytes`; `false` if that failed, now or before.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.broken = self.broken || self.write(bytes).is_err();
        !self.broken
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            flush(&mut self.tcp, &mut self.channel)?;
            let taken = self.channel.send(bytes).map_err(io::Error::other)?;
            bytes = &bytes[taken..];
        }
        flush(&mut self.tcp, &mut self.channel)
    }

    /// Says goodbye and shuts the socket, which ends the reading thread.
    pub(crate) fn hang_up(mut self) {
        self.channel.close();
        // The peer may be gone: it need not hear it.
        let _ = flush(&mut self.tcp, &mut self.channel);
        let _ = self.tcp.shutdown(Shutdown::Both);
    }
}
