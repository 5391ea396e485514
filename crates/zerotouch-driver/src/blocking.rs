//! A dial on a thread that may wait.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use zerotouch_device::TransportFailure;

use crate::{ADDRESS_TIMEOUT, Channel, Way, Ways, transport_failure};

/// How long the other side may take for one step of a handshake.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the peer may leave a full socket unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// As much as TLS puts into one record, and its framing.
const READ_BUFFER: usize = 17 * 1024;

/// Goes the ways of a dial, in order, until one leads to an open channel.
pub fn connect(mut ways: Ways) -> Result<(TcpStream, Box<Channel>), TransportFailure> {
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

/// Writes what the channel has for the socket.
pub fn flush(tcp: &mut TcpStream, channel: &mut Channel) -> io::Result<()> {
    while let Some(bytes) = channel.poll_transmit() {
        let n = tcp.write(bytes)?;
        channel.handle_transmitted(n);
    }
    Ok(())
}

/// Sends all of `bytes`.
pub fn send(tcp: &mut TcpStream, channel: &mut Channel, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        flush(tcp, channel)?;
        let taken = channel.send(bytes).map_err(io::Error::other)?;
        bytes = &bytes[taken..];
    }
    flush(tcp, channel)
}
