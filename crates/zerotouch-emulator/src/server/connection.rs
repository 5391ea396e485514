//! Accepting connections, and copying bytes between each and the cloud.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::shared::{Output, Shared};
use crate::cloud::{Cloud, ConnectionId};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long a client may take to read what one write hands to it.
const WRITE: Duration = Duration::from_secs(30);
/// How long a closed connection is still read from, so that the client gets what was written last: a
/// socket closed over unread bytes discards it.
const LINGER: Duration = Duration::from_secs(1);
/// How long to wait when the system has no more sockets.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How much is read at once.
const READ_BUFFER: usize = 8 * 1024;

/// Serves until stopped.
pub(super) async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    max_connections: usize,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    tokio::select! {
        () = accept(&listener, config, max_connections, &shared) => {}
        () = keep_time(&shared) => {}
        // An error means that the handle is gone: stopped, too.
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

async fn accept(
    listener: &TcpListener,
    config: Arc<ServerConfig>,
    max_connections: usize,
    shared: &Arc<Shared>,
) {
    let acceptor = TlsAcceptor::from(config);
    let places = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
    let mut next_id = 0;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(EXHAUSTED).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        next_id += 1;
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(shared));
        tokio::spawn(async move {
            // Whatever ends a connection ends it alone; the cloud tells what it meant.
            let _ = connection(stream, &acceptor, &shared, ConnectionId(next_id)).await;
            drop(place);
        });
    }
}

/// Wakes the cloud when it wants to be.
async fn keep_time(shared: &Shared) {
    loop {
        let alarm = async {
            match shared.until_timeout() {
                Some(left) => sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = alarm => shared.with(Cloud::handle_timeout),
            () = shared.earlier.notified() => {}
        }
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    shared: &Shared,
    id: ConnectionId,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let tls = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
    let output = shared.open(id, chain);
    let (mut reader, mut writer) = tokio::io::split(tls);
    let ended = tokio::select! {
        ended = read(&mut reader, shared, id) => ended,
        ended = write(&mut writer, output) => {
            // The cloud has closed it: nothing that still arrives matters.
            let _ = timeout(LINGER, tokio::io::copy(&mut reader, &mut tokio::io::sink())).await;
            ended
        }
    };
    shared.closed(id);
    ended
}

/// Reads until the client closes.
async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    shared: &Shared,
    id: ConnectionId,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(()),
            length => shared.received(id, &buffer[..length]),
        }
    }
}

/// Writes until the cloud closes.
async fn write(writer: &mut (impl AsyncWrite + Unpin), mut output: Output) -> io::Result<()> {
    while let Some(chunk) = output.next().await {
        timeout(WRITE, writer.write_all(&chunk)).await??;
        if output.is_empty() {
            timeout(WRITE, writer.flush()).await??;
        }
    }
    timeout(WRITE, writer.shutdown()).await?
}
