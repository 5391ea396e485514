//! A plain broker on a loopback port, with a thread for each client and nothing but std. It speaks
//! plaintext: for tests and for trying clients, not for a network.
//!
//! ```sh
//! cargo run --example broker -- 127.0.0.1:1883
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zerotouch_mqtt_session::{ConnectionId, PlainBroker, Server, ServerLimits};
use zerotouch_time::Instant;

/// How often a thread looks for bytes that other clients' messages leave for its own.
const TICK: Duration = Duration::from_millis(20);

struct Shared {
    server: Mutex<Server<PlainBroker>>,
    origin: std::time::Instant,
}

impl Shared {
    fn server(&self) -> MutexGuard<'_, Server<PlainBroker>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let server = Server::new(PlainBroker::default(), ServerLimits::default());
    let shared = Arc::new(Shared { server: Mutex::new(server), origin: std::time::Instant::now() });
    for (number, socket) in (0..).zip(listener.incoming()) {
        let (shared, id, socket) = (Arc::clone(&shared), ConnectionId(number), socket?);
        if let Err(refused) = shared.server().handle_open(id, shared.now()) {
            eprintln!("{refused}");
            continue;
        }
        std::thread::spawn(move || {
            if let Err(error) = serve(&shared, id, socket) {
                eprintln!("connection {number}: {error}");
            }
            shared.server().handle_closed(id, shared.now());
        });
    }
    Ok(())
}

/// Copies bytes between a socket and the server until either has had enough.
fn serve(shared: &Shared, id: ConnectionId, mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(TICK))?;
    socket.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut buffer = [0; 16 * 1024];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => shared.server().handle_bytes(id, &buffer[..length], shared.now()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        shared.server().handle_timeout(shared.now());
        // Written without the lock: one slow client must not hold up the others.
        loop {
            let bytes = shared.server().poll_transmit(id).unwrap_or_default().to_vec();
            if bytes.is_empty() {
                break;
            }
            socket.write_all(&bytes)?;
            shared.server().handle_transmitted(id, bytes.len(), shared.now());
        }
        let mut server = shared.server();
        if !server.is_open(id) {
            return Ok(());
        }
        // Each thread asks for its own connection, so nobody needs to be told.
        while server.poll_action().is_some() || server.poll_event().is_some() {}
    }
}
