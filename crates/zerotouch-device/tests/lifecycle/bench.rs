//! A device wired to a cloud without a network between them: every answer of the driver can be held
//! back, or be another.

use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use zerotouch_credentials::SymmetricKey;
use zerotouch_device::{
    Action, Attestation, Config, Device, Dial, Event, State, TransportFailure, TransportFailureKind,
};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_emulator::cloud::{
    self, Cloud, DpsSettings, Fixture, GroupAttestation, SymmetricKeys,
};
use zerotouch_store::{Change, Identity, MemoryStore, Store, StoreError};
use zerotouch_time::{Instant, Now, UnixTime};

pub(crate) const ID: &str = "pump-17";
const GENESIS: UnixTime = UnixTime::from_secs(1_790_000_000);

/// Says how a dial fails, if it does.
type DialFails = Box<dyn FnMut(&Dial) -> Option<TransportFailureKind>>;
/// What becomes of bytes on their way to the device.
type Garbles = Box<dyn FnMut(Vec<u8>) -> Vec<u8>>;
/// Says whether a change is not stored.
type StoreFails = Box<dyn FnMut(&Change) -> bool>;

pub(crate) struct Bench {
    pub(crate) device: Device<ChaCha20Rng>,
    pub(crate) cloud: Cloud,
    pub(crate) store: MemoryStore,
    pub(crate) now: Now,
    /// What has passed and is no whole second of the wall clock yet.
    fraction: Duration,
    /// By how many seconds the device's wall clock is ahead of the cloud's.
    pub(crate) ahead: i64,
    /// Every change that was stored, in order.
    pub(crate) changes: Vec<&'static str>,
    /// Every dial, in order.
    pub(crate) dials: Vec<Dial>,
    pub(crate) events: Vec<Event>,
    /// Every state it was told of, in order.
    pub(crate) states: Vec<State>,
    /// What the device sent, and when by its clock.
    pub(crate) sent: Vec<(UnixTime, Vec<u8>)>,
    /// What the device receives instead of what was sent to it.
    pub(crate) garbles: Garbles,
    connection: Option<(zerotouch_device::ConnectionId, cloud::ConnectionId)>,
    connections: u64,
    /// What the driver answers instead of doing it.
    pub(crate) dial_fails: DialFails,
    pub(crate) store_fails: StoreFails,
}

impl Bench {
    /// A device that knows nothing but its key.
    pub(crate) fn new() -> Self {
        Self::with(fixture(), Identity::default(), |_| {})
    }

    pub(crate) fn with(
        fixture: Fixture,
        identity: Identity,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let cloud = Cloud::new(fixture, ChaCha20Rng::seed_from_u64(7), GENESIS).unwrap();
        Self::at(cloud, identity, Now { monotonic: Instant::ZERO, wall: Some(GENESIS) }, change)
    }

    /// A device with this identity, at this time, before this cloud.
    pub(crate) fn at(
        cloud: Cloud,
        identity: Identity,
        now: Now,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let key = cloud.group_key(Fixture::DEFAULT_GROUP).unwrap().derive(ID);
        let mut config = Config::new(
            IdScope::new(cloud.id_scope()).unwrap(),
            RegistrationId::new(ID).unwrap(),
            Attestation::SymmetricKey(key),
        );
        config.hub.hosts.allow("localhost");
        change(&mut config);
        let device = Device::new(config, identity.clone(), ChaCha20Rng::seed_from_u64(8));
        Self {
            device,
            cloud,
            store: MemoryStore::with_identity(identity),
            now,
            fraction: Duration::ZERO,
            ahead: 0,
            changes: Vec::new(),
            dials: Vec::new(),
            events: Vec::new(),
            states: Vec::new(),
            sent: Vec::new(),
            garbles: Box::new(|bytes| bytes),
            connection: None,
            connections: 0,
            dial_fails: Box::new(|_| None),
            store_fails: Box::new(|_| false),
        }
    }

    /// A device that has come to its hub.
    pub(crate) fn connected() -> Self {
        let mut bench = Self::new();
        bench.start();
        bench
            .run_until(|bench| bench.device.state() == State::Connected && bench.generation() == 1);
        bench
    }

    /// The next life of the device: same store, same cloud, a new process.
    pub(crate) fn restart(self, after: Duration) -> Self {
        self.restart_as(after, |_| {})
    }

    /// The same, with a store that somebody has been at.
    pub(crate) fn restart_as(self, after: Duration, change: impl FnOnce(&mut Identity)) -> Self {
        self.restart_with(after, change, |_| {})
    }

    /// The same, told other things than before.
    pub(crate) fn restart_with(
        self,
        after: Duration,
        change: impl FnOnce(&mut Identity),
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let mut cloud = self.cloud;
        if let Some((_, link)) = self.connection {
            cloud.handle_closed(link, self.now);
        }
        let wall = self.now.wall.map(|wall| wall + after);
        let now = Now { monotonic: self.now.monotonic + after, wall };
        let mut identity = self.store.identity().clone();
        change(&mut identity);
        let mut bench = Self::at(cloud, identity, now, configure);
        bench.connections = self.connections;
        bench
    }

    /// The time as the device has it.
    pub(crate) fn device_now(&self) -> Now {
        let wall = |wall: UnixTime| UnixTime::from_secs(wall.as_secs() + self.ahead);
        Now { wall: self.now.wall.map(wall), ..self.now }
    }

    pub(crate) fn start(&mut self) {
        let now = self.device_now();
        self.device.start(now);
        self.pump();
    }

    pub(crate) fn generation(&self) -> u64 {
        self.device.identity().active.as_ref().map_or(0, |active| active.number)
    }

    /// Lets what is due happen until `done`, for two hours of virtual time at most.
    #[track_caller]
    pub(crate) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        self.run_until_within(Duration::from_secs(7200), done);
    }

    #[track_caller]
    pub(crate) fn run_until_within(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now.monotonic + limit;
        while !done(self) {
            let due = self.device.poll_timeout().into_iter().chain(self.cloud.poll_timeout()).min();
            let due = due.filter(|due| *due <= end);
            self.wait_until(
                due.unwrap_or_else(|| panic!("nothing more happens: {:#?}", self.events)),
            );
        }
    }

    /// Lets what is due in that time happen.
    pub(crate) fn wait(&mut self, duration: Duration) {
        let end = self.now.monotonic + duration;
        while let Some(due) =
            self.device.poll_timeout().into_iter().chain(self.cloud.poll_timeout()).min()
            && due < end
        {
            self.wait_until(due);
        }
        self.wait_until(end);
    }

    fn wait_until(&mut self, due: Instant) {
        let passed = due.max(self.now.monotonic) - self.now.monotonic;
        self.now.monotonic = self.now.monotonic + passed;
        let passed = self.fraction + passed;
        self.fraction = Duration::from_nanos(passed.subsec_nanos().into());
        self.now.wall = self.now.wall.map(|wall| wall + passed);
        if self.cloud.poll_timeout().is_some_and(|at| at <= self.now.monotonic) {
            self.cloud.handle_timeout(self.now);
        }
        if self.device.poll_timeout().is_some_and(|at| at <= self.now.monotonic) {
            let now = self.device_now();
            self.device.handle_timeout(now);
        }
        self.pump();
    }

    /// Another cloud in the place of this one, with the same enrolment and other authorities.
    pub(crate) fn replace_cloud(&mut self, seed: u64) {
        self.replace_cloud_by(fixture(), seed);
    }

    /// Another cloud like this, where the device's group has the key it had.
    pub(crate) fn replace_cloud_by(&mut self, mut fixture: Fixture, seed: u64) {
        let key = self.cloud.group_key(Fixture::DEFAULT_GROUP).unwrap().to_base64();
        fixture.enrollment_groups[0].attestation = GroupAttestation::SymmetricKeys(SymmetricKeys {
            primary: Some(SymmetricKey::from_base64(&key).unwrap()),
            ..SymmetricKeys::default()
        });
        let rng = ChaCha20Rng::seed_from_u64(seed);
        self.cloud = Cloud::new(fixture, rng, self.now.wall.unwrap()).unwrap();
    }

    /// The connection breaks, and both ends learn of it.
    pub(crate) fn cut(&mut self) {
        let (connection, link) = self.connection.take().expect("a connection to cut");
        self.cloud.handle_closed(link, self.now);
        let now = self.device_now();
        self.device.handle_disconnected(connection, TransportFailure::closed(), now);
        self.pump();
    }

    pub(crate) fn connection(&self) -> zerotouch_device::ConnectionId {
        self.connection.expect("a connection").0
    }

    /// Does what both sides ask until neither asks any more.
    pub(crate) fn pump(&mut self) {
        loop {
            while let Some(event) = self.device.poll_event() {
                match event {
                    Event::StateChanged(state) => self.states.push(state),
                    event => self.events.push(event),
                }
            }
            if let Some(action) = self.device.poll_action() {
                self.act(action);
            } else if let Some(action) = self.cloud.poll_action() {
                self.act_of_cloud(action);
            } else if !self.transmit() {
                return;
            }
        }
    }

    fn act(&mut self, action: Action) {
        let now = self.device_now();
        match action {
            Action::Dial(dial) => {
                let id = dial.connection;
                let fails = (self.dial_fails)(&dial);
                let identity = dial.identity.iter().flat_map(|identity| identity.chain.iter());
                let chain = identity.map(|certificate| certificate.as_der().to_vec()).collect();
                self.dials.push(dial);
                if let Some(kind) = fails {
                    let failure = TransportFailure::new(kind, "as the test wants it");
                    return self.device.handle_dial_failed(id, failure, now);
                }
                self.connections += 1;
                let link = cloud::ConnectionId(self.connections);
                self.connection = Some((id, link));
                self.cloud.handle_open(link, chain, self.now);
                self.device.handle_dialled(id, now);
            }
            Action::HangUp(id) => {
                if let Some((_, link)) =
                    self.connection.take_if(|(connection, _)| *connection == id)
                {
                    self.cloud.handle_closed(link, self.now);
                }
            }
            Action::Store(change) => {
                let result = if (self.store_fails)(&change) {
                    Err(StoreError::Other("as the test wants it".into()))
                } else {
                    self.changes.push(name(&change));
                    self.store.apply(&change)
                };
                self.device.handle_stored(result, now);
            }
            other => panic!("{other:?}"),
        }
    }

    fn act_of_cloud(&mut self, action: cloud::Action) {
        let now = self.device_now();
        let of_this = |link: cloud::ConnectionId| self.connection.filter(|(_, open)| *open == link);
        match action {
            cloud::Action::Transmit { connection, bytes } => {
                if let Some((id, _)) = of_this(connection) {
                    self.device.handle_bytes(id, &(self.garbles)(bytes), now);
                }
            }
            cloud::Action::Close { connection } => {
                if let Some((id, _)) = of_this(connection) {
                    self.connection = None;
                    self.device.handle_disconnected(id, TransportFailure::closed(), now);
                }
            }
        }
    }

    fn transmit(&mut self) -> bool {
        let Some((_, link)) = self.connection else { return false };
        let Some(bytes) = self.device.poll_transmit() else { return false };
        let length = bytes.len();
        self.sent.extend(self.now.wall.map(|wall| (wall, bytes.to_vec())));
        self.cloud.handle_bytes(link, bytes, self.now);
        let now = self.device_now();
        self.device.handle_transmitted(length, now);
        true
    }
}

pub(crate) fn fixture() -> Fixture {
    let dps = DpsSettings { retry_after: Duration::ZERO, ..DpsSettings::default() };
    Fixture { dps, ..Fixture::default() }
}

fn name(change: &Change) -> &'static str {
    match change {
        Change::Begin { .. } => "begin",
        Change::Stage { .. } => "stage",
        Change::Assign(_) => "assign",
        Change::Activate => "activate",
        Change::RollBack => "roll back",
        Change::DiscardStaged => "discard staged",
        Change::DiscardPending => "discard pending",
        Change::DiscardPrevious => "discard previous",
        _ => "another",
    }
}
