//! Accepting connections, and copying bytes between each and the engine.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{sleep, timeout};
use zerotouch_mqtt_session::ConnectionId;

use super::engine::{Engine, Transmit};
use super::shared::Shared;

/// How long a client that is written to may take nothing.
const WRITE: Duration = Duration::from_secs(30);
/// How long a closed connection is still read from, so that the client gets what was written last: a
/// socket closed over unread bytes discards it.
const LINGER: Duration = Duration::from_secs(1);
/// How long to wait when the system has no more sockets.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How much is read at once.
const READ_BUFFER: usize = 16 * 1024;

thread_local! {
    /// Where a thread reads to. A connection that is idle, as most are, needs none of its own.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER].into());
}

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What makes of a socket a stream of MQTT, and tells who is at its other end; or nothing, if the client
/// had something else in mind. It limits the time it takes itself.
pub(super) trait Secure<P>:
    Fn(TcpStream) -> Self::Securing + Clone + Send + Sync + 'static
{
    type Securing: Future<Output = io::Result<Option<(Self::Stream, P)>>> + Send;
    type Stream: AsyncRead + AsyncWrite + Send;
}

impl<P, S, F, R> Secure<P> for F
where
    F: Fn(TcpStream) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = io::Result<Option<(S, P)>>> + Send,
    S: AsyncRead + AsyncWrite + Send,
{
    type Securing = R;
    type Stream = S;
}

/// Serves until stopped.
pub(super) async fn serve<E: Engine>(
    listeners: Vec<TcpListener>,
    secure: impl Secure<E::Peer>,
    max_connections: usize,
    shared: Arc<Shared<E>>,
    mut stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
    let last_id = AtomicU64::new(0);
    let accepting = listeners
        .iter()
        .map(|listener| accept(listener, secure.clone(), &places, &last_id, &shared));
    tokio::select! {
        _ = join_all(accepting) => {}
        () = keep_time(&shared) => {}
        // An error means that the handle is gone: stopped, too.
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

async fn accept<E: Engine>(
    listener: &TcpListener,
    secure: impl Secure<E::Peer>,
    places: &Arc<Semaphore>,
    last_id: &AtomicU64,
    shared: &Arc<Shared<E>>,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The client's affair.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(_) => {
                sleep(EXHAUSTED).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(places).try_acquire_owned() else { continue };
        let id = ConnectionId(last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let (secure, shared) = (secure.clone(), Arc::clone(shared));
        tokio::spawn(async move {
            // Whatever ends a connection ends it alone; the engine tells what it meant.
            let _ = connection(stream, &secure, &shared, id).await;
            drop(place);
        });
    }
}

/// Wakes the engine when it wants to be.
async fn keep_time<E: Engine>(shared: &Shared<E>) {
    loop {
        let alarm = async {
            match shared.until_timeout() {
                Some(left) => sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = alarm => shared.with(Engine::handle_timeout),
            () = shared.earlier.notified() => {}
        }
    }
}

async fn connection<E: Engine>(
    stream: TcpStream,
    secure: &impl Secure<E::Peer>,
    shared: &Shared<E>,
    id: ConnectionId,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some((stream, peer)) = secure(stream).await? else { return Ok(()) };
    let Some(wake) = shared.open(id, peer) else { return Ok(()) };
    let (mut reader, mut writer) = tokio::io::split(stream);
    let ended = tokio::select! {
        ended = read(&mut reader, shared, id) => ended,
        ended = write(&mut writer, shared, id, &wake) => {
            // The engine has closed it: nothing that still arrives matters.
            let _ = timeout(LINGER, tokio::io::copy(&mut reader, &mut tokio::io::sink())).await;
            ended
        }
    };
    shared.closed(id);
    ended
}

/// Reads until the client closes.
async fn read<E: Engine>(
    reader: &mut (impl AsyncRead + Unpin),
    shared: &Shared<E>,
    id: ConnectionId,
) -> io::Result<()> {
    while poll_fn(|context| {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *reader).poll_read(context, &mut buffer))?;
            let bytes = buffer.filled();
            if !bytes.is_empty() {
                shared.received(id, bytes);
            }
            Poll::Ready(io::Result::Ok(!bytes.is_empty()))
        })
    })
    .await?
    {}
    Ok(())
}

/// Writes until the engine closes.
async fn write<E: Engine>(
    writer: &mut (impl AsyncWrite + Unpin),
    shared: &Shared<E>,
    id: ConnectionId,
    wake: &Notify,
) -> io::Result<()> {
    let mut chunk = Vec::new();
    loop {
        match shared.transmit(id, &mut chunk) {
            Transmit::Write => {
                let mut rest = &chunk[..];
                while !rest.is_empty() {
                    let written = timeout(WRITE, writer.write(rest)).await??;
                    if written == 0 {
                        return Err(ErrorKind::WriteZero.into());
                    }
                    rest = &rest[written..];
                }
            }
            Transmit::Wait => {
                timeout(WRITE, writer.flush()).await??;
                wake.notified().await;
            }
            Transmit::Close => break,
        }
    }
    timeout(WRITE, writer.shutdown()).await?
}
