//! What stands between a socket of the emulator and MQTT: TLS, and perhaps a WebSocket.
//!
//! ```text
//!   socket ─► TLS ─► first byte ─┬─ of a CONNECT ─────────────────────────► MQTT
//!                                └─ a letter ─► HTTP ─┬─ a request ─► answer, and the next
//!                                                     └─ a WebSocket ─────► MQTT
//! ```
//!
//! So one port serves what the real services have on two, and a client that cannot be told another port
//! than 443 is served where the emulator listens on that.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::cloud::StoredCloud;
use super::connection::{Secure, Stream};
use super::http::Http;
use super::shared::Shared;

/// How long a client may take for the TLS handshake, and then for its first byte.
const PATIENCE: Duration = Duration::from_secs(30);
/// As much is kept between TLS and MQTT: small, for there may be thousands of connections.
const LOOK_AHEAD: usize = 64;

/// Lets a client in: yields its stream of MQTT and the chain it has shown in TLS, leaf first, empty if
/// none. `None` if it did not want MQTT and has had its answers.
pub(super) fn entrance(
    acceptor: TlsAcceptor,
    shared: &Arc<Shared<StoredCloud>>,
) -> impl Secure<Vec<Vec<u8>>> + use<> {
    let http = Http::new(Arc::clone(shared));
    move |socket: TcpStream| {
        let (handshake, http) = (acceptor.accept(socket), http.clone());
        async move {
            let stream = timeout(PATIENCE, handshake).await??;
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let chain: Vec<Vec<u8>> = chain.iter().map(|one| one.to_vec()).collect();
            let mut stream = BufReader::with_capacity(LOOK_AHEAD, stream);
            let first = timeout(PATIENCE, stream.fill_buf()).await??.first();
            let stream = if first.is_some_and(u8::is_ascii_alphabetic) {
                // Apart: what HTTP needs, the connections of MQTT need not carry about with them.
                Box::pin(http.serve(stream, &chain)).await?
            } else {
                Some(Box::new(stream) as Box<dyn Stream>)
            };
            io::Result::Ok(stream.map(|stream| (stream, chain)))
        }
    }
}
