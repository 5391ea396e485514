//! What is put behind sockets: an engine of many connections.

use zerotouch_mqtt_session::ConnectionId;
use zerotouch_time::{Instant, Now};

/// Connections by number, bytes and times in; bytes, events and a deadline out.
///
/// One at a time calls it. After each call but those that only ask, [`Engine::settle`] is called.
pub(super) trait Engine: Send + 'static {
    /// What the transport has learned of a client.
    type Peer: Send;
    type Event;

    /// A transport was accepted; `false` if there is no room for it. No id comes twice.
    fn handle_open(&mut self, id: ConnectionId, peer: Self::Peer, now: Now) -> bool;

    fn handle_bytes(&mut self, id: ConnectionId, bytes: &[u8], now: Now);

    /// A transport ended, whoever ended it.
    fn handle_closed(&mut self, id: ConnectionId, now: Now);

    fn handle_timeout(&mut self, now: Now);

    /// Takes what is to be written next on a connection. `chunk` holds what was taken the last time,
    /// all of it written by now, and is replaced.
    fn transmit(&mut self, id: ConnectionId, chunk: &mut Vec<u8>, now: Now) -> Transmit;

    /// Does what the last call has left to do, and names the connections on which there is something
    /// to [`Engine::transmit`].
    fn settle(&mut self, ready: &mut Vec<ConnectionId>, now: Now);

    fn poll_event(&mut self) -> Option<Self::Event>;

    fn poll_timeout(&self) -> Option<Instant>;
}

/// What a writer has to do.
pub(super) enum Transmit {
    /// Write the chunk, and ask again.
    Write,
    /// Wait to be told.
    Wait,
    /// End the transport: everything is written, or in vain.
    Close,
}
