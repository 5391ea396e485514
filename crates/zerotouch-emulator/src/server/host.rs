//! A listener, the threads that serve it, and their end.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::StartError;
use super::connection::{self, Secure};
use super::engine::Engine;
use super::shared::Shared;

/// An engine that is served. Dropping it closes its connections and frees its port.
#[derive(Debug)]
pub(super) struct Host<E> {
    pub(super) shared: Arc<Shared<E>>,
    /// Of the first listener.
    pub(super) address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Takes an address, so that it is known to be free before anything else is done.
pub(super) fn listen(address: &str) -> Result<TcpListener, StartError> {
    let listen = || {
        let resolved: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        let listener = TcpListener::bind(&*resolved)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|source: io::Error| {
        let address = address.into();
        match source.kind() {
            io::ErrorKind::AddrInUse => StartError::AddressInUse { address },
            _ => StartError::Listen { address, source },
        }
    })
}

impl<E: Engine> Host<E> {
    /// Serves an engine; when this returns it accepts connections on all listeners.
    pub(super) fn start<S: Secure<E::Peer>>(
        engine: E,
        listeners: Vec<TcpListener>,
        secure: impl FnOnce(&Arc<Shared<E>>) -> S,
        max_connections: usize,
    ) -> Result<Self, StartError> {
        let shared = Arc::new(Shared::new(engine));
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().min(4)))
            .thread_name("zerotouch-emulator")
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let first = listeners.first().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into());
        let address = first.and_then(TcpListener::local_addr).map_err(StartError::Thread)?;
        let listeners: Vec<_> = {
            let _inside = runtime.enter();
            let listeners = listeners.into_iter().map(tokio::net::TcpListener::from_std);
            listeners.collect::<io::Result<_>>().map_err(StartError::Thread)?
        };
        let secure = {
            let _inside = runtime.enter();
            secure(&shared)
        };
        let serving =
            connection::serve(listeners, secure, max_connections, Arc::clone(&shared), stopped);
        let thread = std::thread::Builder::new()
            .name("zerotouch-emulator".into())
            .spawn(move || {
                // On the threads that serve connections: a thread of its own would have to wake one of
                // them for each.
                let _ = runtime.block_on(runtime.spawn(serving));
                // Connections are dropped where they wait; none waits for long.
                runtime.shutdown_timeout(Duration::from_secs(1));
            })
            .map_err(StartError::Thread)?;
        Ok(Self { shared, address, stop, thread: Some(thread) })
    }
}

impl<E> Drop for Host<E> {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported where it happened.
            let _ = thread.join();
        }
    }
}
