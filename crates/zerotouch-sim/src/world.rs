//! Virtual time: whatever is due next happens next.
//!
//! | phase | until | next |
//! |---|---|---|
//! | `Busy` | the applications have done what they do, and the last incident is over | `Recovering` |
//! | `Recovering` | all devices are connected and all telemetry is acknowledged | `Proving` |
//! | `Proving` | one more message of each is acknowledged | the end |
//! | any | an invariant is broken, or its bound has passed | a [`Violation`] |
//!
//! What is due at one instant happens in this order: the network and what is scheduled, in the order in
//! which it was scheduled; the cloud; the devices by their numbers.

mod drive;
mod incidents;
mod wishes;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use chacha20::rand_core::SeedableRng;
use chacha20::{ChaCha8Rng, ChaCha20Rng};
use rand_core::Rng;
use thiserror::Error;
use zerotouch_credentials::{KeyAlgorithm, PrivateKeyError};
use zerotouch_device::State;
use zerotouch_dps::IdError;
use zerotouch_emulator::cloud::{
    Cloud, CloudError, CredentialPolicy, DpsSettings, EnrollmentGroup, Fixture, HubSettings,
    RecordError,
};
use zerotouch_emulator::pki::PkiError;
use zerotouch_time::{Instant, Now, UnixTime};

use crate::disk::Disk;
use crate::factory::Factory;
use crate::invariants::{Breach, Scene, Seen};
use crate::network::{Deed, Due, LinkId, Network, Weather};
use crate::node::{Manners, Node};
use crate::plan::{At, Fault, Incident, Plan, Service};
use crate::signer::{self, Slots};
use crate::unit::{Mutant, Unit};

pub use self::incidents::bound;
pub(crate) use self::wishes::Wishes;

/// The wall clock when a world begins: 2026-09-21T12:53:20Z.
pub(crate) const GENESIS: UnixTime = UnixTime::from_secs(1_790_000_000);
pub(crate) const PROVISIONING: &str = "dps.sim";
pub(crate) const HUBS: [&str; 2] = ["alpha.sim", "beta.sim"];
pub(crate) const GROUP: &str = "fleet";
/// Of those with a certificate from the factory.
pub(crate) const CERTIFIED_GROUP: &str = "certified";
/// As many steps as in one instant of virtual time no healthy world takes.
const STEPS_AT_ONCE: u64 = 100_000;

/// Why there is no world.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The cloud could not be made.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// A device's certificate from the factory could not be made.
    #[error(transparent)]
    Factory(#[from] PkiError),
    /// Nor its key.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// A device's name is no registration id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The world has no group to enrol devices in.
    #[error("the fixture has no group {GROUP}")]
    NoGroup,
    /// The cloud did not come back.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The cloud refused its operator.
    #[error("the cloud answered {status} to its operator")]
    Operator {
        /// The status.
        status: u16,
    },
    /// An invariant was broken.
    #[error(transparent)]
    Violation(#[from] Box<Violation>),
}

/// An invariant was broken.
#[derive(Clone, Debug, Error)]
#[error("{invariant}: {what}, {at:?} after the beginning")]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// How.
    pub what: String,
    /// When, from the world's beginning.
    pub at: Duration,
    /// What each party saw, if that was asked for.
    pub trace: Vec<String>,
}

/// What is not in the plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What is broken about the devices.
    pub mutant: Option<Mutant>,
    /// Whether to write down what each party sees.
    pub trace: bool,
    /// How long pieces take.
    pub weather: Weather,
    /// `Config::retry.connect_spread` of the devices.
    pub connect_spread: Duration,
}

/// A world that came to a good end.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// How many steps it took.
    pub steps: u64,
    /// How long, in virtual time.
    pub elapsed: Duration,
    /// How many certificates became active.
    pub activations: u32,
    /// In which steps renewals began that the application asked for, and certificates became active.
    pub milestones: Milestones,
    /// How often hubs accepted a device.
    pub connections: u32,
    /// How many messages were acknowledged.
    pub acknowledged: u32,
    /// How many operations on files the devices' stores have made.
    pub file_operations: usize,
    /// How many of those an incident struck.
    pub file_faults: u32,
    /// What each party saw, if that was asked for.
    pub trace: Vec<String>,
}

/// Steps of note.
#[derive(Clone, Debug, Default)]
pub struct Milestones {
    /// Where the application asked for a renewal.
    pub renewals: Vec<u64>,
    /// Where a certificate became active.
    pub activations: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Busy,
    Recovering,
    Proving,
}

/// Devices, one cloud, a network, and the time.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) cloud: Cloud,
    pub(crate) network: Network,
    manners: Manners,
    timers: BTreeSet<(Instant, usize)>,
    timer_of: Vec<Option<Instant>>,
    phase: Phase,
    /// A device that was not settled when that was asked last.
    unsettled: Cell<usize>,
    steps: u64,
    steps_at_once: u64,
    /// Incidents that begin at a step, the next last.
    by_step: Vec<(u64, usize)>,
    /// Incidents that have begun and are not over, or have not begun.
    open: BTreeSet<usize>,
    /// The last end of anything.
    calm: Instant,
    rules: BTreeMap<usize, u64>,
    /// What a cloud that forgets comes back with.
    committed: Option<BTreeMap<(&'static str, String), String>>,
    records: BTreeMap<(&'static str, String), String>,
    dead_hubs: BTreeSet<String>,
    requests: u64,
    decoders: BTreeMap<LinkId, Ears>,
    trace: Option<Vec<String>>,
    milestones: Milestones,
    /// When connections reached a service, for whoever draws that.
    arrivals: Vec<(Instant, Service)>,
    /// How many of them hubs refused.
    refusals: usize,
}

/// Bytes of packets that are not whole yet, at the device's end.
#[derive(Debug, Default)]
struct Ears {
    outbound: Vec<u8>,
    inbound: Vec<u8>,
}

fn fixture(plan: &Plan) -> Fixture {
    let mut policy = CredentialPolicy::new(Fixture::DEFAULT_POLICY);
    policy.leaf_validity = Duration::from_secs(plan.validity_hours.max(1) * 3600);
    let mut groups = vec![EnrollmentGroup::symmetric(GROUP)];
    if plan.certified > 0 {
        groups.push(EnrollmentGroup::x509(CERTIFIED_GROUP, Vec::new()));
    }
    let (mut dps, mut hub) = (DpsSettings::default(), HubSettings::default());
    if let Some(quotas) = plan.quotas {
        dps.registrations = quotas.registrations;
        hub.connections = Some(quotas.connections);
    }
    Fixture {
        dps,
        hub,
        hubs: HUBS.map(str::to_owned).to_vec(),
        ca_algorithm: KeyAlgorithm::EcdsaP256,
        credential_policies: vec![policy],
        enrollment_groups: groups,
        individual_enrollments: Vec::new(),
        ..Fixture::default()
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn is_connected(node: &Node) -> bool {
    node.unit.as_ref().is_some_and(|unit| unit.state() == State::Connected)
}

/// Whether there is something that a device, which is no copy, waits for.
fn waits(node: &Node) -> bool {
    let is_done = node.waiting.is_empty() && node.wishes.are_met() && is_connected(node);
    node.twin_of.is_none() && !is_done
}

impl World {
    /// A world of devices that know nothing but their bootstrap keys.
    pub fn new(plan: &Plan, options: Options) -> Result<Self, WorldError> {
        let rng = ChaCha20Rng::seed_from_u64(plan.seed);
        let cloud = Cloud::with_signer(fixture(plan), signer::of_authority, rng, GENESIS)?;
        let certified =
            (0..plan.certified.min(plan.devices)).map(|device| format!("device-{device}"));
        let factory = Factory::new(&cloud, certified, plan.seed)?;
        let manners = Manners {
            seed: plan.seed,
            id_scope: cloud.id_scope().to_owned(),
            factory: Rc::new(factory),
            hears_wishes: plan.wishes > 0,
            mutant: options.mutant,
            connect_spread: options.connect_spread,
        };
        let network = Network::new(options.weather, ChaCha8Rng::seed_from_u64(plan.seed));
        let mut world = Self {
            plan: plan.clone(),
            now: Instant::ZERO,
            nodes: Vec::new(),
            cloud,
            network,
            manners,
            timers: BTreeSet::new(),
            timer_of: Vec::new(),
            phase: Phase::Busy,
            unsettled: Cell::new(0),
            steps: 0,
            steps_at_once: 0,
            by_step: Vec::new(),
            open: BTreeSet::new(),
            calm: Instant::ZERO,
            rules: BTreeMap::new(),
            committed: None,
            records: BTreeMap::new(),
            dead_hubs: BTreeSet::new(),
            requests: 0,
            decoders: BTreeMap::new(),
            trace: options.trace.then(Vec::new),
            milestones: Milestones::default(),
            arrivals: Vec::new(),
            refusals: 0,
        };
        world.schedule();
        let slip = options.mutant.and_then(Mutant::slip);
        for device in 0..plan.devices {
            let name = format!("device-{device}");
            let disk = Disk::new(&name, slip);
            let mut node = Node::new(name, None, disk);
            node.slots = plan.hardware.then(|| Arc::new(Slots::new(device)));
            world.add(node);
        }
        // After the incidents that begin at once: these may strike the first start.
        for device in 0..plan.devices {
            world.network.schedule(Instant::ZERO, Due::Start(device));
        }
        Ok(world)
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.timer_of.push(None);
        self.nodes.len() - 1
    }

    /// What the applications do, and when incidents begin.
    fn schedule(&mut self) {
        const MESSAGES: u64 = 6;
        let mut rng = ChaCha8Rng::seed_from_u64(!self.plan.seed);
        let end = self.plan.minutes * 60_000;
        for device in 0..self.plan.devices {
            for _ in 0..MESSAGES {
                let at = Instant::ZERO + millis(rng.next_u64() % end.max(1));
                self.network.schedule(at, Due::Application(device, Deed::Telemetry));
            }
            // A long life has two renewals.
            for _ in 0..u64::from(self.plan.minutes > 0) + u64::from(self.plan.minutes >= 20) {
                let at = Instant::ZERO + millis(end / 3 + rng.next_u64() % (end / 2).max(1));
                self.network.schedule(at, Due::Application(device, Deed::Renew));
            }
        }
        for device in 0..self.plan.devices {
            for deed in [Deed::Desire, Deed::Call, Deed::Command, Deed::Report] {
                for _ in 0..self.plan.wishes {
                    let at = Instant::ZERO + millis(rng.next_u64() % end.max(1));
                    self.network.schedule(at, Due::Application(device, deed));
                }
            }
        }
        self.calm = Instant::ZERO + millis(end);
        for (number, incident) in self.plan.incidents.iter().enumerate() {
            self.open.insert(number);
            match incident.at {
                At::Millis(at) => {
                    self.network.schedule(Instant::ZERO + millis(at), Due::Begin(number));
                }
                At::Step(step) => self.by_step.push((step, number)),
            }
        }
        self.by_step.sort_by_key(|one| std::cmp::Reverse(*one));
        let forgets = |one: &Incident| matches!(one.fault, Fault::CloudRestart { forgets: true });
        if self.plan.incidents.iter().any(forgets) {
            self.committed = Some(BTreeMap::new());
        }
    }

    /// Runs a plan to its end.
    pub fn run(plan: &Plan, options: Options) -> Result<Story, WorldError> {
        Self::new(plan, options)?.finish()
    }

    /// Runs to the end.
    pub fn finish(mut self) -> Result<Story, WorldError> {
        while !self.is_over()? {
            let Some(at) = self.next() else {
                return Err(self.violation("return", "nothing happens any more".into()));
            };
            self.step(at)?;
        }
        Ok(Story {
            steps: self.steps,
            elapsed: self.elapsed(),
            activations: self.nodes.iter().map(|node| node.activations).sum(),
            milestones: self.milestones,
            connections: self.nodes.iter().map(|node| node.connections).sum(),
            acknowledged: self.nodes.iter().map(|node| node.acknowledged).sum(),
            file_operations: self.nodes.iter().map(|node| node.disk.counts().0).sum(),
            file_faults: self.nodes.iter().map(|node| node.disk.counts().1).sum(),
            trace: self.trace.unwrap_or_default(),
        })
    }

    /// The virtual time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.now - Instant::ZERO
    }

    /// Is every device connected to its hub?
    pub fn all_connected(&self) -> bool {
        self.devices().all(is_connected)
    }

    /// Is there nothing that any device waits for?
    fn is_settled(&self) -> bool {
        // Asked after every step: a device that waited waits as a rule.
        if self.nodes.get(self.unsettled.get()).is_some_and(waits) {
            return false;
        }
        let waiting = self.nodes.iter().position(waits);
        self.unsettled.set(waiting.unwrap_or(0));
        waiting.is_none()
    }

    /// What each party has seen so far, if that was asked for.
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// The process of a device ends and begins anew, at once.
    pub fn restart(&mut self, device: usize) -> Result<(), WorldError> {
        self.power_off(device, usize::MAX, None);
        self.nodes[device].off.clear();
        self.boot(device)
    }

    /// A device's application sends two messages.
    pub fn send_telemetry(&mut self, device: usize) -> Result<(), WorldError> {
        self.application(device, Deed::Telemetry)
    }

    /// Whether all telemetry has been acknowledged.
    pub fn all_acknowledged(&self) -> bool {
        self.devices().all(|node| node.waiting.is_empty())
    }

    /// When a connection has reached which service, from the world's beginning.
    pub fn arrivals(&self) -> impl Iterator<Item = (Duration, Service)> {
        self.arrivals.iter().map(|(at, service)| (*at - Instant::ZERO, *service))
    }

    /// How many connections hubs have refused.
    pub fn refusals(&self) -> usize {
        self.refusals
    }

    /// Without copies.
    fn devices(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.twin_of.is_none())
    }

    /// Runs until `done`, for `limit` of virtual time at most; says whether that came.
    pub fn run_until(
        &mut self,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Result<bool, WorldError> {
        let end = self.now + limit;
        while !done(self) {
            let Some(at) = self.next().filter(|at| *at <= end) else {
                self.now = end;
                return Ok(false);
            };
            self.step(at)?;
        }
        Ok(true)
    }

    fn is_over(&mut self) -> Result<bool, WorldError> {
        match self.phase {
            Phase::Busy => {
                if self.open.is_empty() && self.next().is_none_or(|next| next > self.calm) {
                    self.phase = Phase::Recovering;
                    self.note(|| "the faults have ceased".into());
                    return self.is_over();
                }
            }
            Phase::Recovering if self.is_settled() => {
                self.phase = Phase::Proving;
                for device in 0..self.plan.devices {
                    self.application(device, Deed::Telemetry)?;
                    if self.plan.wishes > 0 {
                        self.application(device, Deed::Call)?;
                    }
                }
            }
            Phase::Proving if self.is_settled() => return Ok(true),
            Phase::Recovering | Phase::Proving => {
                let bound = self.calm + bound(&self.plan);
                if self.next().is_none_or(|next| next > bound) {
                    let late = self.nodes.iter().find(|node| waits(node));
                    let what = late.map_or_else(String::new, |node| {
                        let state = node.unit.as_ref().map(Unit::state);
                        format!(
                            "{} is {}, has {} messages unacknowledged and {:?}, {:?} after the faults \
                             ceased",
                            node.name,
                            state.map_or_else(|| "off".into(), |state| state.to_string()),
                            node.waiting.len(),
                            node.wishes,
                            bound - self.calm
                        )
                    });
                    return Err(self.violation("return", what));
                }
            }
        }
        Ok(false)
    }

    fn next(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.network.next(), self.cloud.poll_timeout()].into_iter().flatten().min()
    }

    fn step(&mut self, at: Instant) -> Result<(), WorldError> {
        self.steps_at_once = if at > self.now { 0 } else { self.steps_at_once + 1 };
        if self.steps_at_once > STEPS_AT_ONCE {
            return Err(self.violation("memory", "time stands still".into()));
        }
        self.now = self.now.max(at);
        self.steps += 1;
        while let Some((_, number)) = self.by_step.pop_if(|(step, _)| *step <= self.steps) {
            self.begin(number)?;
        }
        if self.network.next().is_some_and(|due| due <= self.now) {
            if let Some(due) = self.network.pop() {
                self.happen(due)?;
            }
        } else if self.cloud.poll_timeout().is_some_and(|due| due <= self.now) {
            self.cloud.handle_timeout(self.truth());
            self.pump_cloud()?;
        } else if let Some((_, device)) = self.timers.first().copied()
            && let Some(unit) = &mut self.nodes[device].unit
        {
            let due = unit.poll_timeout();
            if due.is_some_and(|due| due <= self.now) {
                let now = self.clocks(device);
                if let Some(unit) = &mut self.nodes[device].unit {
                    unit.handle_timeout(now);
                }
            }
            self.pump(device)?;
        }
        self.check_bounds()
    }

    fn see(&mut self, device: usize, seen: &Seen<'_>) -> Result<(), WorldError> {
        let node = &mut self.nodes[device];
        let scene = Scene { at: self.now, device, identity: node.disk.identity() };
        match node.invariants.see(scene, seen) {
            Ok(()) => Ok(()),
            Err(Breach { invariant, what }) => Err(self.violation(invariant, what)),
        }
    }

    fn check_bounds(&mut self) -> Result<(), WorldError> {
        const CONNECTIONS: usize = 200;
        let most = CONNECTIONS * self.nodes.len();
        if self.cloud.connection_count() > most || self.network.links() > 2 * most {
            return Err(self.violation("memory", "connections pile up".into()));
        }
        Ok(())
    }

    fn violation(&mut self, invariant: &'static str, what: String) -> WorldError {
        self.note(|| format!("VIOLATION {invariant}: {what}"));
        let trace = self.trace.take().unwrap_or_default();
        WorldError::Violation(Box::new(Violation { invariant, what, at: self.elapsed(), trace }))
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let mut text = format!("{:>14.6} ", (self.now - Instant::ZERO).as_secs_f64());
            // A String takes everything.
            let _ = write!(text, "{}", line());
            trace.push(text);
        }
    }

    fn wall(&self) -> UnixTime {
        GENESIS + self.elapsed()
    }

    /// As the cloud reads them, before its own faults.
    fn truth(&self) -> Now {
        Now { monotonic: self.now, wall: Some(self.wall()) }
    }

    fn clocks(&self, device: usize) -> Now {
        self.nodes[device].now(self.now, self.wall())
    }
}
