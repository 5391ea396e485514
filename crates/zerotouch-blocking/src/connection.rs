//! One connection: the dial, a thread that reads the socket, and what stands between it and MQTT on the
//! driver's thread.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::SyncSender;
use std::thread;

use zerotouch_device::{ConnectionId, Dial, TransportFailure};
use zerotouch_driver::blocking::{connect, flush, send};
use zerotouch_driver::{Channel, Dialler, transport_failure};

use crate::driver::Input;

/// As much as TLS puts into one record, and its framing.
const READ_BUFFER: usize = 17 * 1024;

/// A dialled connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    channel: Box<Channel>,
    tcp: TcpStream,
    /// A write failed: nothing more is sent, and the reading thread will tell why.
    broken: bool,
}

/// Dials on a thread of its own and sends the outcome to `inputs`.
pub(crate) fn dial(dialler: &Dialler, dial: &Dial, inputs: &SyncSender<Input>) {
    let (id, ways) = (dial.connection, dialler.ways(dial));
    let dialling = thread::Builder::new().name("zerotouch-dial".into()).spawn({
        let inputs = inputs.clone();
        move || {
            // The driver may have gone meanwhile.
            let _ = inputs.send(match ways.and_then(connect) {
                Ok((tcp, channel)) => {
                    Input::Dialled(Connection { id, channel, tcp, broken: false })
                }
                Err(failure) => Input::DialFailed(id, failure),
            });
        }
    });
    if let Err(error) = dialling {
        // The driver's own thread: it must not wait for a place in its own queue.
        let _ = inputs.try_send(Input::DialFailed(id, transport_failure(&error)));
    }
}

impl Connection {
    /// Starts the thread that reads the socket, until it ends or is shut down.
    pub(crate) fn start_reading(&self, inputs: SyncSender<Input>) -> io::Result<()> {
        let (id, mut tcp) = (self.id, self.tcp.try_clone()?);
        let reading = move || {
            loop {
                let mut bytes = vec![0; READ_BUFFER];
                let read = tcp.read(&mut bytes).map(|n| {
                    bytes.truncate(n);
                    bytes
                });
                let over = !matches!(&read, Ok(bytes) if !bytes.is_empty());
                if inputs.send(Input::Read(id, read)).is_err() || over {
                    return;
                }
            }
        };
        thread::Builder::new().name("zerotouch-read".into()).spawn(reading).map(drop)
    }

    /// Takes what the socket gave; `on_bytes` gets MQTT's bytes among it.
    pub(crate) fn received(
        &mut self,
        read: io::Result<Vec<u8>>,
        on_bytes: impl FnMut(&[u8]),
    ) -> Result<(), TransportFailure> {
        let bytes = read.map_err(|error| transport_failure(&error))?;
        if bytes.is_empty() {
            return Err(TransportFailure::closed());
        }
        let received = self.channel.handle_bytes(&bytes, on_bytes);
        // An alert, a pong, a new key. The peer may be gone: the reading thread will tell.
        let _ = flush(&mut self.tcp, &mut self.channel);
        received
    }

    /// Sends all of `bytes`; `false` if that failed, now or before.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.broken = self.broken || send(&mut self.tcp, &mut self.channel, bytes).is_err();
        !self.broken
    }

    /// Says goodbye and shuts the socket, which ends the reading thread.
    pub(crate) fn hang_up(mut self) {
        self.channel.close();
        // The peer may be gone: it need not hear it.
        let _ = flush(&mut self.tcp, &mut self.channel);
        let _ = self.tcp.shutdown(Shutdown::Both);
    }
}
