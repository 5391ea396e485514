//! What a server may use up.

use core::time::Duration;

use crate::ServerConfig;

/// Limits and deadlines of a [`Server`](crate::Server).
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Those of each connection. By default as [`ServerConfig::default`], except that every identifier
    /// may await release (at two bytes each): clients of QoS 2 know no window, and would be cut off in
    /// the middle of a burst.
    pub connection: ServerConfig,
    /// How many connections may be open; one more is refused by
    /// [`Server::handle_open`](crate::Server::handle_open); default 10,000.
    pub max_connections: usize,
    /// How many sessions may exist, connected or not; a client that needs one more gets CONNACK 3;
    /// default 10,000.
    pub max_sessions: usize,
    /// How many messages may wait for a client, beside those in flight. A message with QoS 1 or 2
    /// beyond it ends the session; default 10,000.
    pub max_queued: usize,
    /// How many bytes of topic and payload may wait for a client; likewise; default 16 MiB.
    pub max_queued_bytes: usize,
    /// How long a client may take to read the last bytes of a connection that is over; default 10 s.
    pub linger: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connection: ServerConfig { max_unreleased: u16::MAX, ..ServerConfig::default() },
            max_connections: 10_000,
            max_sessions: 10_000,
            max_queued: 10_000,
            max_queued_bytes: 16 * 1024 * 1024,
            linger: Duration::from_secs(10),
        }
    }
}
