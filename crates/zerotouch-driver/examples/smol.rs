//! A device on smol: all that a driver of another runtime is.
//!
//!     cargo run -p zerotouch-driver --example smol

mod cloud;

use std::error::Error;
use std::io;
use std::time::Duration;

use smol::Timer;
use smol::future::{or, pending};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpStream, resolve};
use zerotouch_device::{Action, ConnectionId, Device, Event, State, TransportFailure};
use zerotouch_driver::{
    ADDRESS_TIMEOUT, Channel, Clock, DeviceRng, Dialler, Way, Ways, device_rng, transport_failure,
};
use zerotouch_hub::Telemetry;
use zerotouch_store::{MemoryStore, Store};

use cloud::LocalCloud;

type Dialling = smol::Task<Result<(TcpStream, Box<Channel>), TransportFailure>>;

enum Connection {
    None,
    Dialling(ConnectionId, Dialling),
    Open(ConnectionId, TcpStream, Box<Channel>),
}

/// What the loop was woken by.
enum Woken {
    Dialled(Result<(TcpStream, Box<Channel>), TransportFailure>),
    Read(io::Result<usize>),
    Time,
}

/// Provisions, connects, sends one message, closes.
pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let cloud = LocalCloud::start()?;
    let device = Device::new(cloud.config("smol-1")?, MemoryStore::new().load()?, device_rng()?);
    smol::block_on(run(device, MemoryStore::new(), &cloud.dialler()?))?;
    let heard = cloud.heard();
    if heard != ["smol-1"] {
        return Err(format!("the cloud has heard {heard:?}").into());
    }
    Ok(())
}

async fn run(
    mut device: Device<DeviceRng>,
    mut store: MemoryStore,
    dialler: &Dialler,
) -> Result<(), Box<dyn Error>> {
    let clock = Clock::new();
    let mut connection = Connection::None;
    let mut buffer = vec![0; 16 * 1024];
    device.start(clock.now());
    while device.state() != State::Stopped {
        while let Some(event) = device.poll_event() {
            println!("{event:?}");
            match event {
                Event::Connected { .. } => {
                    device.send_telemetry(Telemetry::new("21.5"), clock.now())?;
                }
                Event::TelemetryAcknowledged(_) => device.close(clock.now()),
                _ => {}
            }
        }
        if let Some(action) = device.poll_action() {
            match action {
                Action::Dial(dial) => {
                    let (id, ways) = (dial.connection, dialler.ways(&dial));
                    let task = smol::spawn(async move { connect(ways?).await });
                    connection = Connection::Dialling(id, task);
                }
                Action::HangUp(_) => {
                    if let Connection::Open(_, tcp, channel) = &mut connection {
                        channel.close();
                        // The peer may be gone: it need not hear it.
                        let _ = flush(tcp, channel).await;
                    }
                    connection = Connection::None;
                }
                Action::Store(change) => {
                    device.handle_stored(store.apply(&change), clock.now());
                }
                _ => {}
            }
            continue;
        }
        if let Connection::Open(_, tcp, channel) = &mut connection
            && let Some(bytes) = device.poll_transmit()
        {
            let sent = channel.send(bytes)?;
            device.handle_transmitted(sent, clock.now());
            // What breaks here is heard when reading.
            let _ = flush(tcp, channel).await;
            if sent > 0 {
                continue;
            }
        }
        let due = device.poll_timeout().map(|due| clock.until(due));
        let woken = or(wait(&mut connection, &mut buffer), async {
            match due {
                Some(due) => Timer::after(due).await,
                None => pending().await,
            };
            Woken::Time
        });
        let woken = woken.await;
        let now = clock.now();
        connection = match (woken, connection) {
            (Woken::Dialled(Ok((tcp, channel))), Connection::Dialling(id, _)) => {
                device.handle_dialled(id, now);
                Connection::Open(id, tcp, channel)
            }
            (Woken::Dialled(Err(failure)), Connection::Dialling(id, _)) => {
                device.handle_dial_failed(id, failure, now);
                Connection::None
            }
            (Woken::Read(read), Connection::Open(id, mut tcp, mut channel)) => {
                let read = read.map_err(|error| transport_failure(&error));
                let handled = read.and_then(|n| match n {
                    0 => Err(TransportFailure::closed()),
                    n => channel
                        .handle_bytes(&buffer[..n], |mqtt| device.handle_bytes(id, mqtt, now)),
                });
                let _ = flush(&mut tcp, &mut channel).await;
                match handled {
                    Ok(()) => Connection::Open(id, tcp, channel),
                    Err(failure) => {
                        device.handle_disconnected(id, failure, now);
                        Connection::None
                    }
                }
            }
            (_, connection) => {
                device.handle_timeout(now);
                connection
            }
        };
    }
    Ok(())
}

async fn wait(connection: &mut Connection, buffer: &mut [u8]) -> Woken {
    match connection {
        Connection::None => pending().await,
        Connection::Dialling(_, task) => Woken::Dialled(task.await),
        Connection::Open(_, tcp, _) => Woken::Read(tcp.read(buffer).await),
    }
}

async fn connect(mut ways: Ways) -> Result<(TcpStream, Box<Channel>), TransportFailure> {
    while let Some(mut way) = ways.next_way() {
        let limit = way.timeout;
        match timeout(limit, go(&mut way)).await {
            Some(Ok(tcp)) => return Ok((tcp, ways.succeeded(way))),
            Some(Err(failure)) => ways.failed(failure),
            None => ways.failed(way.timed_out()),
        }
    }
    Err(ways.into_failure())
}

async fn go(way: &mut Way) -> Result<TcpStream, TransportFailure> {
    let failed = |error: io::Error| transport_failure(&error);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolve((way.host.as_str(), way.port)).await.map_err(failed)? {
        match timeout(Some(ADDRESS_TIMEOUT), TcpStream::connect(address)).await {
            Some(Ok(tcp)) => return shake_hands(tcp, &mut way.channel).await,
            Some(Err(error)) => last = error,
            None => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed(last))
}

async fn shake_hands(
    mut tcp: TcpStream,
    channel: &mut Channel,
) -> Result<TcpStream, TransportFailure> {
    let mut buffer = vec![0; 16 * 1024];
    let mut fate = Ok(());
    loop {
        flush(&mut tcp, channel).await.map_err(|error| transport_failure(&error))?;
        fate?;
        if channel.is_open() {
            return Ok(tcp);
        }
        match tcp.read(&mut buffer).await.map_err(|error| transport_failure(&error))? {
            0 => return Err(TransportFailure::closed()),
            n => fate = channel.handle_bytes(&buffer[..n], |_| {}),
        }
    }
}

async fn flush(tcp: &mut TcpStream, channel: &mut Channel) -> io::Result<()> {
    while let Some(bytes) = channel.poll_transmit() {
        let n = tcp.write(bytes).await?;
        channel.handle_transmitted(n);
    }
    Ok(())
}

/// `None` if it took longer than that.
async fn timeout<T>(limit: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
    let over = async {
        match limit {
            Some(limit) => Timer::after(limit).await,
            None => pending().await,
        };
        None
    };
    or(async { Some(future.await) }, over).await
}
