//! A handshake over a blocking socket, with an end to it.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::ClientConnection;

use crate::failure::TlsFailure;

/// Completes the handshake of `connection` within `limit`. A peer that trickles has no longer than one
/// that is silent.
///
/// The error says by [`classify_io`](crate::classify_io) what became of it. The socket is left without
/// timeouts.
pub fn handshake(
    connection: &mut ClientConnection,
    socket: &mut TcpStream,
    limit: Duration,
) -> io::Result<()> {
    let began = Instant::now();
    let outcome = negotiate(connection, socket, || limit.saturating_sub(began.elapsed()));
    socket.set_read_timeout(None)?;
    socket.set_write_timeout(None)?;
    outcome.map_err(|error| match error.kind() {
        // Which of the two a timeout is depends on the system.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => handshake_timed_out(limit),
        _ => error,
    })
}

/// The error of a handshake that was not finished within `limit`, for drivers that keep the time
/// themselves.
pub fn handshake_timed_out(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, TlsFailure::HandshakeTimeout { limit })
}

fn negotiate(
    connection: &mut ClientConnection,
    socket: &mut TcpStream,
    left: impl Fn() -> Duration,
) -> io::Result<()> {
    loop {
        while connection.wants_write() {
            socket.set_write_timeout(Some(some(left())?))?;
            connection.write_tls(socket)?;
        }
        if !connection.is_handshaking() {
            return Ok(());
        }
        socket.set_read_timeout(Some(some(left())?))?;
        if connection.read_tls(socket)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Err(error) = connection.process_new_packets() {
            // The alert that tells the server why; whether it arrives changes nothing here.
            while connection.wants_write() && connection.write_tls(socket).is_ok() {}
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
}

/// To a socket, a timeout of nothing would mean none.
fn some(left: Duration) -> io::Result<Duration> {
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
