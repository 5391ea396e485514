//! The other end of the agent's socket: a command of the same user.

use std::path::Path;

use serde_json::Value;

use crate::failure::CliError;
#[cfg(unix)]
use crate::limit::within;
use crate::request::Request;

/// A connection to an agent that runs.
pub(crate) struct Client {
    #[cfg(unix)]
    stream: tokio::io::BufStream<tokio::net::UnixStream>,
    last_id: u64,
}

impl Client {
    /// `None` where no agent is.
    #[cfg(unix)]
    pub(crate) async fn connect(socket: &Path) -> Result<Option<Self>, CliError> {
        use std::io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
        match tokio::net::UnixStream::connect(socket).await {
            Ok(stream) => Ok(Some(Self { stream: tokio::io::BufStream::new(stream), last_id: 0 })),
            // One that a killed agent left refuses.
            Err(error) if matches!(error.kind(), NotFound | NotADirectory | ConnectionRefused) => {
                Ok(None)
            }
            Err(source) => Err(CliError::Socket { path: socket.into(), source }),
        }
    }

    #[cfg(not(unix))]
    pub(crate) async fn connect(_: &Path) -> Result<Option<Self>, CliError> {
        Ok(None)
    }

    /// Asks, and waits for what came of it.
    #[cfg(unix)]
    pub(crate) async fn request(&mut self, request: &Request) -> Result<Value, CliError> {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
        self.last_id += 1;
        let line = request.to_line(self.last_id) + "\n";
        self.stream.write_all(line.as_bytes()).await.map_err(CliError::AgentGone)?;
        self.stream.flush().await.map_err(CliError::AgentGone)?;
        let mut answer = String::new();
        let read = within("result from the agent", self.stream.read_line(&mut answer)).await?;
        if read.map_err(CliError::AgentGone)? == 0 {
            return Err(CliError::AgentGone(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let mut answer: Value = serde_json::from_str(&answer)
            .map_err(|error| CliError::AgentGone(std::io::Error::other(error)))?;
        match answer["ok"] {
            Value::Bool(true) => Ok(answer["value"].take()),
            _ => Err(CliError::Agent(answer["error"].take())),
        }
    }

    #[cfg(not(unix))]
    pub(crate) async fn request(&mut self, _: &Request) -> Result<Value, CliError> {
        Err(CliError::Stopped)
    }
}
