//! One connection of one device: a socket, TLS, MQTT, and nothing that need not be in memory ten thousand
//! times.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use zerotouch_device::{Failure, TlsIdentity, TransportFailure};
use zerotouch_driver::{Channel, Clock, Dialler, transport_failure};
use zerotouch_mqtt_codec::{Connect, QoS, SubAckReturnCode, TopicFilter};
use zerotouch_mqtt_session::{Client, ClientConfig, ClientEvent};
use zerotouch_time::Instant;

use super::PATIENCE;

/// As much as TLS puts into one record.
const READ_BUFFER: usize = 16 * 1024;

pub(super) struct Link {
    tcp: TcpStream,
    channel: Box<Channel>,
    pub(super) mqtt: Client,
    clock: Clock,
}

impl Link {
    /// Connects, and shakes hands.
    pub(super) async fn open(
        dialler: &Dialler,
        (host, address): (&str, SocketAddr),
        identity: Option<&TlsIdentity>,
        clock: Clock,
    ) -> Result<Self, Failure> {
        let mut channel = dialler.channel(host, identity)?;
        let shake_hands = async {
            let connected = TcpStream::connect(address).await;
            let tcp = connected.map_err(|error| transport_failure(&error))?;
            tcp.set_nodelay(true).map_err(|error| transport_failure(&error))?;
            let mut fate = Ok(());
            loop {
                // The end of the handshake goes out with what MQTT says first.
                if fate.is_ok() && channel.is_open() {
                    return Ok::<_, TransportFailure>(tcp);
                }
                flush(&tcp, &mut channel).await?;
                fate?;
                tcp.readable().await.map_err(|error| transport_failure(&error))?;
                // Even a failure may have last words.
                fate = read(&tcp, |bytes| channel.handle_bytes(bytes, |_| {})).map(drop);
            }
        };
        let tcp = timeout(PATIENCE, shake_hands)
            .await
            .map_err(|_| Failure::DialTimeout { after: PATIENCE })??;
        Ok(Self { tcp, channel, mqtt: Client::new(ClientConfig::default()), clock })
    }

    /// Introduces the device, and waits until it is let in.
    pub(super) async fn connect(&mut self, connect: &Connect<'_>) -> Result<(), Failure> {
        self.mqtt.connect(connect, self.now())?;
        let mut is_connected = false;
        while !is_connected {
            self.turn(None, |event| {
                is_connected |= matches!(event, ClientEvent::Connected { .. });
            })
            .await?;
        }
        Ok(())
    }

    /// Subscribes, and waits until that is granted.
    pub(super) async fn subscribe(&mut self, filter: &'static str) -> Result<(), Failure> {
        let refused = || Failure::SubscriptionRefused { filter: filter.into() };
        let topic = TopicFilter::new(filter).map_err(|_| refused())?;
        self.mqtt.subscribe(&[(topic, QoS::AtLeastOnce)], self.now())?;
        let until = self.now() + PATIENCE;
        let mut granted = None;
        while granted.is_none() {
            self.turn(Some(until), |event| {
                if let ClientEvent::Subscribed(_, codes) = event {
                    granted = Some(codes.iter().all(|code| code != SubAckReturnCode::Failure));
                }
            })
            .await?;
            if granted.is_none() && self.now() >= until {
                let filter = filter.into();
                return Err(Failure::SubscriptionTimeout { filter, after: PATIENCE });
            }
        }
        if granted == Some(true) { Ok(()) } else { Err(refused()) }
    }

    /// Sends what there is, then takes what comes next; returns at `until` at the latest. Cancel safe.
    pub(super) async fn turn(
        &mut self,
        until: Option<Instant>,
        mut on_event: impl FnMut(ClientEvent<'_>),
    ) -> Result<(), Failure> {
        self.flush().await?;
        if !self.receive(&mut on_event)? {
            let due = [self.mqtt.poll_timeout(), until].into_iter().flatten().min();
            let alarm = async {
                match due {
                    Some(due) => sleep(self.clock.until(due)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = self.tcp.readable() => {
                    ready.map_err(|error| transport_failure(&error))?;
                    self.receive(&mut on_event)?;
                }
                () = alarm => {
                    self.mqtt.handle_timeout(self.clock.now().monotonic);
                    while let Some(event) = self.mqtt.poll_event() {
                        if let ClientEvent::Closed(reason) = event {
                            return Err(reason.into());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Says goodbye; whether it is heard makes no difference.
    pub(super) async fn leave(mut self) {
        self.mqtt.disconnect();
        // All in one write.
        if let Some(bytes) = self.mqtt.poll_transmit() {
            let _ = self.channel.send(bytes);
        }
        self.channel.close();
        let _ = flush(&self.tcp, &mut self.channel).await;
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now().monotonic
    }

    /// Takes what has arrived; `false` if nothing has.
    fn receive(&mut self, on_event: &mut impl FnMut(ClientEvent<'_>)) -> Result<bool, Failure> {
        let Self { tcp, channel, mqtt, clock } = self;
        let mut closed = None;
        let received = read(tcp, |bytes| {
            let now = clock.now().monotonic;
            channel.handle_bytes(bytes, |mut plain| {
                while let Some(event) = mqtt.handle_bytes(&mut plain, now) {
                    match event {
                        ClientEvent::Closed(reason) => closed = Some(reason),
                        event => on_event(event),
                    }
                }
            })
        });
        // What MQTT says is the cause of what the socket says.
        closed.map_or(Ok(received?), |reason| Err(reason.into()))
    }

    async fn flush(&mut self) -> Result<(), TransportFailure> {
        loop {
            if let Some(bytes) = self.mqtt.poll_transmit() {
                let taken = self.channel.send(bytes)?;
                self.mqtt.handle_transmitted(taken);
            }
            flush(&self.tcp, &mut self.channel).await?;
            if self.mqtt.poll_transmit().is_none() {
                return Ok(());
            }
        }
    }
}

async fn flush(tcp: &TcpStream, channel: &mut Channel) -> Result<(), TransportFailure> {
    while let Some(bytes) = channel.poll_transmit() {
        match tcp.try_write(bytes) {
            Ok(written) => channel.handle_transmitted(written),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                tcp.writable().await.map_err(|error| transport_failure(&error))?;
            }
            Err(error) => return Err(transport_failure(&error)),
        }
    }
    Ok(())
}

/// Reads once, into a buffer that is not kept; `false` if there is nothing to read.
fn read(
    tcp: &TcpStream,
    take: impl FnOnce(&[u8]) -> Result<(), TransportFailure>,
) -> Result<bool, TransportFailure> {
    let mut buffer = [0; READ_BUFFER];
    match tcp.try_read(&mut buffer) {
        Ok(0) => Err(TransportFailure::closed()),
        Ok(length) => take(&buffer[..length]).map(|()| true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(transport_failure(&error)),
    }
}
