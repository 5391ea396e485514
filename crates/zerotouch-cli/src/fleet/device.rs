//! What one device of a fleet does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use zerotouch_credentials::{CertificateChain, CertificateRequest, ChainPolicy, SasToken, Signer};
use zerotouch_device::{Failure, Scope, TlsIdentity, TransportFailure, TransportFailureKind};
use zerotouch_dps::{Config, Event, Registered, Registration, RegistrationId, SUBSCRIPTION};
use zerotouch_driver::device_rng;
use zerotouch_hub::Telemetry;
use zerotouch_mqtt_codec::{Connect, Login, QoS, Text, TopicName};
use zerotouch_mqtt_session::{ClientEvent, CloseReason};

use super::link::Link;
use super::tally::Histogram;
use super::{Credential, Fleet, KEEP_ALIVE, PATIENCE, Phase};
use crate::arguments::FleetMode;

const TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);
const CLIENT_VERSION: &str = concat!("zerotouch-fleet/", env!("CARGO_PKG_VERSION"));

type Result<T = ()> = std::result::Result<T, (Scope, Failure)>;

fn at_dps(failure: impl Into<Failure>) -> (Scope, Failure) {
    (Scope::Dps, failure.into())
}

fn at_hub(failure: impl Into<Failure>) -> (Scope, Failure) {
    (Scope::Hub, failure.into())
}

/// From nothing to what the fleet is for. `place` is given back as soon as another device may begin.
pub(super) async fn live(fleet: Arc<Fleet>, number: usize, place: OwnedSemaphorePermit) {
    let device = Device { name: fleet.name(number), number, fleet };
    if let Err((scope, failure)) = device.live(place).await {
        device.fleet.tally().failed(scope, failure);
    }
}

struct Device {
    fleet: Arc<Fleet>,
    number: usize,
    name: String,
}

/// Whom a device is to connect to, and as whom.
struct Assigned {
    host: String,
    device_id: String,
    identity: Option<TlsIdentity>,
    username: Option<String>,
}

impl Device {
    async fn live(&self, place: OwnedSemaphorePermit) -> Result {
        let began = Instant::now();
        let assigned =
            if self.fleet.arguments.broker { self.at_broker() } else { self.provision().await? };
        let link = self.connect(&assigned).await.map_err(at_hub)?;
        drop(place);
        if !self.fleet.arguments.broker {
            let mut tally = self.fleet.tally();
            let now = Instant::now();
            tally.provisioned.push(now);
            tally.provisioning.record(now - began);
        }
        if self.fleet.arguments.mode == FleetMode::Provision {
            link.leave().await;
            return Ok(());
        }
        self.fleet.tally().connected += 1;
        let stayed = match self.fleet.arguments.mode {
            FleetMode::Telemetry => self.send(link, &assigned.device_id).await,
            _ => self.stay(link, &assigned.device_id).await,
        };
        if stayed.is_err() {
            self.fleet.tally().lost += 1;
        }
        stayed.map_err(at_hub)
    }

    /// A broker knows no provisioning: who is let in is between its TLS and its configuration.
    fn at_broker(&self) -> Assigned {
        Assigned {
            host: self.fleet.arguments.host.clone(),
            device_id: self.name.clone(),
            identity: self.bootstrap_identity(),
            username: None,
        }
    }

    fn signer(&self) -> &Arc<dyn Signer> {
        &self.fleet.keys[self.number % self.fleet.keys.len()]
    }

    fn bootstrap_identity(&self) -> Option<TlsIdentity> {
        let Credential::Certificates(chains) = &self.fleet.credential else { return None };
        let signer = Arc::clone(self.signer());
        Some(TlsIdentity { signer, chain: chains[self.number].clone() })
    }

    /// Registers with a certificate request, and holds the chain that comes back against it.
    async fn provision(&self) -> Result<Assigned> {
        let registered = self.register().await.map_err(at_dps)?;
        let (assignment, signer) = (registered.assignment, self.signer());
        let policy = ChainPolicy {
            now: self.fleet.clock.now().wall,
            ..ChainPolicy::new(signer.public_key(), &assignment.device_id)
        };
        let chain = CertificateChain::accept(registered.issued_certificate_chain, &policy)
            .map_err(at_dps)?;
        Ok(Assigned {
            username: Some(zerotouch_hub::username(
                &assignment.assigned_hub,
                &assignment.device_id,
                zerotouch_hub::DEFAULT_API_VERSION,
                CLIENT_VERSION,
                None,
            )),
            host: assignment.assigned_hub,
            device_id: assignment.device_id,
            identity: Some(TlsIdentity { signer: Arc::clone(signer), chain }),
        })
    }

    async fn register(&self) -> std::result::Result<Registered, Failure> {
        let Fleet { id_scope, clock, arguments, .. } = &*self.fleet;
        let mut rng = device_rng().map_err(|error| broken(error.to_string()))?;
        let request = CertificateRequest::new(&**self.signer(), &self.name)?;
        let id = RegistrationId::new(&self.name).map_err(|error| broken(error.to_string()))?;
        let config = Config::new(id_scope.clone(), id);
        let username = config.username();
        let token = match &self.fleet.credential {
            Credential::GroupKey(group) => {
                let expiry = clock.now().wall.ok_or(Failure::ClockUnset)? + TOKEN_LIFETIME;
                let key = group.derive(&self.name);
                Some(SasToken::for_dps(&key, id_scope.as_str(), &self.name, expiry))
            }
            _ => None,
        };
        let mut registration = Registration::new(config, Some(request.to_base64()), &mut rng);

        let mut link = self.open(&arguments.host, self.bootstrap_identity().as_ref()).await?;
        let password = token.as_ref().map(|token| token.as_str().as_bytes());
        link.connect(&Connect {
            client_id: Text::new(&self.name)?,
            clean_session: true,
            keep_alive: KEEP_ALIVE,
            will: None,
            login: Some(Login { username: Text::new(&username)?, password }),
        })
        .await?;
        link.subscribe(SUBSCRIPTION).await?;
        registration.start(link.now());
        loop {
            while let Some(event) = registration.poll_event() {
                match event {
                    Event::Assigned(registered) => {
                        link.leave().await;
                        return Ok(*registered);
                    }
                    Event::Failed(error) => return Err(error.into()),
                    _ => {}
                }
            }
            while let Some(request) = registration.poll_request() {
                publish(&mut link, &request.topic, &request.payload)?;
            }
            let until = registration.poll_timeout();
            let clock = *clock;
            link.turn(until, |event| {
                if let ClientEvent::Message(message) = event {
                    let now = clock.now().monotonic;
                    let topic = message.topic.as_str();
                    registration.handle_message(topic, message.payload, now, &mut rng);
                }
            })
            .await?;
            registration.handle_timeout(link.now());
        }
    }

    async fn connect(&self, assigned: &Assigned) -> std::result::Result<Link, Failure> {
        let mut link = self.open(&assigned.host, assigned.identity.as_ref()).await?;
        let username = assigned.username.as_deref().map(Text::new).transpose()?;
        link.connect(&Connect {
            client_id: Text::new(&assigned.device_id)?,
            clean_session: true,
            keep_alive: KEEP_ALIVE,
            will: None,
            login: username.map(|username| Login { username, password: None }),
        })
        .await?;
        Ok(link)
    }

    async fn open(
        &self,
        host: &str,
        identity: Option<&TlsIdentity>,
    ) -> std::result::Result<Link, Failure> {
        let address = self.fleet.places.address(host).await?;
        Link::open(&self.fleet.dialler, (host, address), identity, self.fleet.clock).await
    }

    /// Does nothing until it is over; then a message that is acknowledged proves that it was there.
    async fn stay(&self, mut link: Link, device_id: &str) -> std::result::Result<(), Failure> {
        let mut phase = self.fleet.phase.subscribe();
        let over = phase.wait_for(|phase| *phase == Phase::Over);
        tokio::pin!(over);
        loop {
            tokio::select! {
                turned = link.turn(None, |_| {}) => turned?,
                _ = &mut over => break,
            }
        }
        let topic = Telemetry::new("").topic(device_id);
        let mut sender = Sender::new(&topic, b"here", 1);
        sender.fill(&mut link)?;
        let ended = self.drain(&mut link, &mut sender).await;
        self.report(&sender);
        ended?;
        link.leave().await;
        Ok(())
    }

    /// Sends, with so many messages unacknowledged at once, from when all are there until it is over.
    async fn send(&self, mut link: Link, device_id: &str) -> std::result::Result<(), Failure> {
        let mut phase = self.fleet.phase.subscribe();
        loop {
            tokio::select! {
                turned = link.turn(None, |_| {}) => turned?,
                _ = phase.wait_for(|phase| *phase != Phase::Gathering) => break,
            }
        }
        let topic = Telemetry::new("").topic(device_id);
        let payload = vec![b'x'; self.fleet.arguments.payload as usize];
        let mut sender = Sender::new(&topic, &payload, self.fleet.arguments.window.into());
        let mut ended = Ok(());
        while ended.is_ok() && *phase.borrow() == Phase::Under {
            ended = sender.fill(&mut link);
            if ended.is_ok() {
                tokio::select! {
                    turned = sender.turn(&mut link) => ended = turned,
                    _ = phase.changed() => {}
                }
            }
        }
        if ended.is_ok() {
            ended = self.drain(&mut link, &mut sender).await;
        }
        self.report(&sender);
        ended?;
        link.leave().await;
        Ok(())
    }

    /// Waits for what is not acknowledged yet.
    async fn drain(
        &self,
        link: &mut Link,
        sender: &mut Sender<'_>,
    ) -> std::result::Result<(), Failure> {
        let drained = timeout(PATIENCE, async {
            while !sender.waiting.is_empty() {
                sender.turn(link).await?;
            }
            Ok(())
        });
        drained.await.unwrap_or(Err(CloseReason::KeepAliveTimeout.into()))
    }

    fn report(&self, sender: &Sender<'_>) {
        let mut tally = self.fleet.tally();
        tally.sent += sender.sent;
        tally.acknowledged += sender.sent - sender.waiting.len() as u64;
        tally.acknowledgement.add(&sender.times);
    }
}

/// Messages of one device.
struct Sender<'a> {
    topic: &'a str,
    payload: &'a [u8],
    window: usize,
    sent: u64,
    /// When those were sent that are not acknowledged yet, in the order in which they will be
    /// [MQTT-4.6.0-2].
    waiting: VecDeque<Instant>,
    times: Histogram,
}

impl<'a> Sender<'a> {
    fn new(topic: &'a str, payload: &'a [u8], window: usize) -> Self {
        let (waiting, times) = (VecDeque::with_capacity(window), Histogram::default());
        Self { topic, payload, window, sent: 0, waiting, times }
    }

    fn fill(&mut self, link: &mut Link) -> std::result::Result<(), Failure> {
        let now = Instant::now();
        while self.waiting.len() < self.window {
            publish(link, self.topic, self.payload)?;
            self.sent += 1;
            self.waiting.push_back(now);
        }
        Ok(())
    }

    async fn turn(&mut self, link: &mut Link) -> std::result::Result<(), Failure> {
        let Self { waiting, times, .. } = self;
        link.turn(None, |event| {
            if let ClientEvent::Published(_) = event
                && let Some(sent) = waiting.pop_front()
            {
                times.record(sent.elapsed());
            }
        })
        .await
    }
}

fn publish(link: &mut Link, topic: &str, payload: &[u8]) -> std::result::Result<(), Failure> {
    let topic = TopicName::new(topic).map_err(|error| broken(error.to_string()))?;
    let now = link.now();
    let sent = link.mqtt.publish(topic, payload, QoS::AtLeastOnce, false, now);
    sent.map(drop).map_err(|error| broken(error.to_string()))
}

/// What has nothing to do with any service.
fn broken(detail: String) -> Failure {
    TransportFailure::new(TransportFailureKind::Broken, detail).into()
}
