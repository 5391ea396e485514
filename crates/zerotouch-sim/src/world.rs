//! Virtual time: whatever is due next happens next.

use std::collections::VecDeque;
use std::time::Duration;

use chacha20::rand_core::SeedableRng;
use chacha20::{ChaCha8Rng, ChaCha20Rng};
use thiserror::Error;
use zerotouch_device::{
    Action, Attestation, Config, Device, State, TransportFailure, TransportFailureKind,
};
use zerotouch_dps::{IdError, IdScope, RegistrationId};
use zerotouch_emulator::cloud::{self, Cloud, CloudError, CloudEvent, Fixture};
use zerotouch_hub::Telemetry;
use zerotouch_store::{MemoryStore, Store, StoreError};
use zerotouch_time::{Instant, Now, UnixTime};

use crate::network::{Delivery, LinkId, Network};
use crate::{Faults, Node};

/// The wall clock when a world begins: 2026-09-21T12:53:20Z.
const GENESIS: UnixTime = UnixTime::from_secs(1_790_000_000);
/// How many lines of the story are kept.
const STORY: usize = 200;

/// Why there is no world.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The cloud could not be made.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// A device's name is no registration id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The world has no group to enrol devices in.
    #[error("the fixture has no group {}", Fixture::DEFAULT_GROUP)]
    NoGroup,
    /// What was waited for did not happen.
    #[error(transparent)]
    Stuck(#[from] Stuck),
}

/// What was waited for did not happen, or something happened that must not. With the seed and the
/// faults it happens again.
#[derive(Debug, Error)]
#[error("seed {seed}: {what} at {at:?}\n{story}")]
pub struct Stuck {
    /// The world's seed.
    pub seed: u64,
    /// What is wrong.
    pub what: String,
    /// When, from the world's beginning.
    pub at: Duration,
    /// The last events, oldest first.
    pub story: String,
}

/// Devices, one cloud, a network, and the time.
#[derive(Debug)]
pub struct World {
    seed: u64,
    now: Instant,
    nodes: Vec<Node>,
    cloud: Cloud,
    network: Network,
    story: VecDeque<String>,
}

impl World {
    /// A world of `devices` devices that know nothing but their bootstrap keys.
    pub fn new(seed: u64, devices: usize, faults: Faults) -> Result<Self, WorldError> {
        let cloud = Cloud::new(Fixture::default(), ChaCha20Rng::seed_from_u64(seed), GENESIS)?;
        let group_key = cloud.group_key(Fixture::DEFAULT_GROUP).ok_or(WorldError::NoGroup)?;
        let mut nodes = Vec::new();
        for number in 0..devices {
            let registration_id = format!("device-{number}");
            let attestation = Attestation::SymmetricKey(group_key.derive(&registration_id));
            let scope = IdScope::new(cloud.id_scope())?;
            let mut config =
                Config::new(scope, RegistrationId::new(&registration_id)?, attestation);
            config.hub.hosts.allow("localhost");
            let rng = ChaCha20Rng::seed_from_u64(seed ^ (number as u64 + 1) << 32);
            nodes.push(Node {
                device: Device::new(config, zerotouch_store::Identity::default(), rng),
                store: MemoryStore::new(),
                registration_id,
                unacknowledged: Vec::new(),
                sent: 0,
                acknowledged: Vec::new(),
                arrived: Vec::new(),
                ever_active: false,
                connections: 0,
            });
        }
        let network = Network::new(faults, ChaCha8Rng::seed_from_u64(seed));
        let mut world =
            Self { seed, now: Instant::ZERO, nodes, cloud, network, story: VecDeque::new() };
        let now = world.clocks();
        for device in 0..devices {
            world.nodes[device].device.start(now);
            world.pump(device);
        }
        Ok(world)
    }

    /// The devices.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The virtual time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.now - Instant::ZERO
    }

    /// What has happened lately, oldest first.
    pub fn story(&self) -> impl Iterator<Item = &str> {
        self.story.iter().map(String::as_str)
    }

    /// From now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.network.faults = faults;
    }

    /// Is every device connected to its hub?
    pub fn all_connected(&self) -> bool {
        self.nodes.iter().all(|node| node.state() == State::Connected)
    }

    /// The device says its next number, at once or when it is connected.
    pub fn send_telemetry(&mut self, device: usize) -> bool {
        let now = self.clocks();
        let node = &mut self.nodes[device];
        let sent = node.device.send_telemetry(Telemetry::new(node.sent.to_string()), now);
        if let Ok(handle) = sent {
            node.unacknowledged.push((handle, node.sent));
            node.sent += 1;
        }
        self.pump(device);
        sent.is_ok()
    }

    /// Asks a device to renew its certificate; `false` if it cannot now.
    pub fn renew(&mut self, device: usize) -> bool {
        let now = self.clocks();
        let begun = self.nodes[device].device.renew(now).is_ok();
        self.pump(device);
        begun
    }

    /// Lets happen what is due until `done`, for `limit` of virtual time at most. The invariants are
    /// checked after every step.
    pub fn run_until(
        &mut self,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), Stuck> {
        let end = self.now + limit;
        while !done(self) {
            match self.next().filter(|at| *at <= end) {
                Some(at) => self.step(at)?,
                None => return Err(self.stuck(format!("nothing more happens within {limit:?}"))),
            }
        }
        Ok(())
    }

    /// Lets `duration` of virtual time pass.
    pub fn run_for(&mut self, duration: Duration) -> Result<(), Stuck> {
        let end = self.now + duration;
        while let Some(at) = self.next().filter(|at| *at <= end) {
            self.step(at)?;
        }
        self.now = end;
        Ok(())
    }

    fn next(&self) -> Option<Instant> {
        let devices = self.nodes.iter().filter_map(|node| node.device.poll_timeout());
        devices.chain(self.network.next()).chain(self.cloud.poll_timeout()).min()
    }

    fn step(&mut self, at: Instant) -> Result<(), Stuck> {
        self.now = self.now.max(at);
        let now = self.clocks();
        if self.network.next().is_some_and(|due| due <= self.now) {
            if let Some(delivery) = self.network.pop() {
                self.deliver(delivery);
            }
        } else if self.cloud.poll_timeout().is_some_and(|due| due <= self.now) {
            self.cloud.handle_timeout(now);
            self.pump_cloud();
        } else {
            let due =
                |node: &Node| node.device.poll_timeout().is_some_and(|due| due <= now.monotonic);
            if let Some(device) = self.nodes.iter().position(due) {
                self.nodes[device].device.handle_timeout(now);
                self.pump(device);
            }
        }
        self.check()
    }

    fn deliver(&mut self, delivery: Delivery) {
        let now = self.clocks();
        match delivery {
            Delivery::DialFailed { device, connection } => {
                let failure =
                    TransportFailure::new(TransportFailureKind::Unreachable, "simulated refusal");
                self.nodes[device].device.handle_dial_failed(connection, failure, now);
                self.pump(device);
            }
            Delivery::Dialled(id) => {
                if let Some(link) = self.network.link(id) {
                    let (device, connection) = (link.device, link.connection);
                    self.cloud.handle_open(cloud::ConnectionId(id.0), link.chain.clone(), now);
                    self.nodes[device].device.handle_dialled(connection, now);
                    self.pump(device);
                }
            }
            Delivery::ToCloud(id, bytes) => {
                self.cloud.handle_bytes(cloud::ConnectionId(id.0), &bytes, now);
                self.pump_cloud();
            }
            Delivery::ToDevice(id, bytes) => {
                if let Some(link) = self.network.link(id) {
                    let (device, connection) = (link.device, link.connection);
                    self.nodes[device].device.handle_bytes(connection, &bytes, now);
                    self.pump(device);
                }
            }
            Delivery::CloudEnd(id) => {
                self.cloud.handle_closed(cloud::ConnectionId(id.0), now);
                self.pump_cloud();
            }
            Delivery::DeviceEnd(id) => {
                if let Some(link) = self.network.forget(id) {
                    let node = &mut self.nodes[link.device];
                    node.device.handle_disconnected(
                        link.connection,
                        TransportFailure::closed(),
                        now,
                    );
                    self.pump(link.device);
                }
            }
        }
    }

    /// Does what a device asks until it asks no more.
    fn pump(&mut self, device: usize) {
        let now = self.clocks();
        loop {
            let node = &mut self.nodes[device];
            while let Some(event) = node.device.poll_event() {
                node.observe(&event);
                let line = format!(
                    "{:>12.6} {} {event:?}",
                    (self.now - Instant::ZERO).as_secs_f64(),
                    node.registration_id
                );
                self.story.push_back(line);
            }
            self.story.drain(..self.story.len().saturating_sub(STORY));
            match node.device.poll_action() {
                Some(Action::Dial(dial)) => {
                    let identity = dial.identity.iter().flat_map(|identity| identity.chain.iter());
                    let chain = identity.map(|certificate| certificate.as_der().to_vec()).collect();
                    self.network.dial(device, dial.connection, chain, self.now);
                }
                Some(Action::HangUp(connection)) => {
                    self.network.hang_up(device, connection, self.now);
                }
                Some(Action::Store(change)) => {
                    let result = if self.network.store_fails() {
                        Err(StoreError::Other("simulated failure of the store".into()))
                    } else {
                        node.store.apply(&change)
                    };
                    node.device.handle_stored(result, now);
                }
                Some(_) => {}
                None => {
                    let Some(connection) = node.device.connection() else { return };
                    let Some(link) = self.network.link_of(device, connection) else { return };
                    let Some(bytes) = node.device.poll_transmit() else { return };
                    let length = bytes.len();
                    self.network.send_to_cloud(link, bytes, self.now);
                    node.device.handle_transmitted(length, now);
                }
            }
        }
    }

    fn pump_cloud(&mut self) {
        while let Some(action) = self.cloud.poll_action() {
            match action {
                cloud::Action::Transmit { connection, bytes } => {
                    self.network.send_to_device(LinkId(connection.0), &bytes, self.now);
                }
                cloud::Action::Close { connection } => {
                    self.network.close(LinkId(connection.0), self.now);
                }
            }
        }
        while let Some(event) = self.cloud.poll_event() {
            if let CloudEvent::Telemetry { device_id, payload, .. } = event
                && let Some(node) =
                    self.nodes.iter_mut().find(|node| node.registration_id == device_id)
                && let Some(number) =
                    std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok())
            {
                node.arrived.push(number);
            }
        }
    }

    /// What must hold after every step.
    fn check(&self) -> Result<(), Stuck> {
        for node in &self.nodes {
            let identity = node.device.identity();
            if node.ever_active && identity.active.is_none() {
                return Err(self.stuck(format!("{} lost its identity", node.registration_id)));
            }
            let missing = node.acknowledged.iter().find(|number| !node.arrived.contains(number));
            if let Some(number) = missing {
                let what = format!(
                    "{}: telemetry {number} was acknowledged and never arrived",
                    node.registration_id
                );
                return Err(self.stuck(what));
            }
        }
        Ok(())
    }

    fn stuck(&self, what: String) -> Stuck {
        let story = self.story().collect::<Vec<_>>().join("\n");
        Stuck { seed: self.seed, what, at: self.elapsed(), story }
    }

    fn clocks(&self) -> Now {
        Now { monotonic: self.now, wall: Some(GENESIS + self.elapsed()) }
    }
}
