//! The socket on which applications of the same user reach the agent.

#[cfg(unix)]
pub(super) use self::unix::listen;

#[cfg(not(unix))]
pub(super) use self::none::listen;

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::os::unix::fs::FileTypeExt;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::time::Duration;

    use rustix::fs::Mode;
    use rustix::process::umask;
    use tokio::net::UnixListener;
    use tokio::sync::Semaphore;
    use tokio::task::JoinHandle;

    use crate::agent::peer::{Peer, serve};
    use crate::agent::shared::Shared;
    use crate::failure::CliError;

    /// How many applications may be connected; a further one waits for its place.
    const MAX_PEERS: usize = 64;
    /// Before another try where the system has no room for a connection.
    const PAUSE: Duration = Duration::from_millis(100);

    /// Listens until it is closed.
    pub(in crate::agent) struct Socket {
        path: PathBuf,
        accepting: JoinHandle<()>,
    }

    impl Socket {
        pub(in crate::agent) fn close(&mut self) {
            self.accepting.abort();
            let _ = fs::remove_file(&self.path);
        }
    }

    /// The device's store is locked by now, so a socket that is there is one that was left.
    pub(in crate::agent) fn listen(shared: &Arc<Shared>, path: &Path) -> Result<Socket, CliError> {
        let failed = |source| CliError::Socket { path: path.into(), source };
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
            fs::remove_file(path).map_err(failed)?;
        }
        // Nobody else's from its first moment.
        let before = umask(Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(path);
        umask(before);
        let accepting = tokio::spawn(accept(listener.map_err(failed)?, Arc::clone(shared)));
        Ok(Socket { path: path.into(), accepting })
    }

    async fn accept(listener: UnixListener, shared: Arc<Shared>) {
        let places = Arc::new(Semaphore::new(MAX_PEERS));
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        let (input, output) = stream.into_split();
                        serve(shared, input, output, Peer::Socket).await;
                        drop(place);
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

#[cfg(not(unix))]
mod none {
    use std::path::Path;
    use std::sync::Arc;

    use crate::agent::shared::Shared;
    use crate::failure::CliError;

    /// There are none here: applications use standard input and output.
    pub(in crate::agent) struct Socket;

    impl Socket {
        pub(in crate::agent) fn close(&mut self) {}
    }

    pub(in crate::agent) fn listen(_: &Arc<Shared>, _: &Path) -> Result<Socket, CliError> {
        Ok(Socket)
    }
}
