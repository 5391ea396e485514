//! One device: its engine while it runs, and what outlives it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use zerotouch_credentials::{KeyAlgorithm, SymmetricKey};
use zerotouch_device::{Attestation, Config, Device, TelemetryHandle};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_hub::Telemetry;
use zerotouch_store::{MemoryStore, Store};
use zerotouch_time::{Instant, Now, UnixTime};

use crate::invariants::Invariants;
use crate::network::LinkId;
use crate::signer::Slots;
use crate::unit::{Mutant, Unit};
use crate::world::{HUBS, PROVISIONING, WorldError};

/// A device of the world.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Which device's identity it has a copy of.
    pub(crate) twin_of: Option<usize>,
    /// Its engine, while it runs.
    pub(crate) unit: Option<Unit>,
    pub(crate) store: MemoryStore,
    pub(crate) link: Option<LinkId>,
    /// The host of that.
    pub(crate) host: String,
    /// Telemetry that is not acknowledged, as its application has it on disk.
    pub(crate) waiting: Vec<(TelemetryHandle, u32)>,
    pub(crate) sent: u32,
    pub(crate) acknowledged: u32,
    pub(crate) activations: u32,
    pub(crate) connections: u32,
    /// By which incidents it is off.
    pub(crate) off: BTreeSet<usize>,
    /// The incident that cuts its power at the next change of identity, and whether after it.
    pub(crate) cut: Option<(usize, bool)>,
    pub(crate) disk_full: u32,
    pub(crate) clock: WallClock,
    pub(crate) invariants: Invariants,
    /// Where its keys are, if not in its store.
    pub(crate) slots: Option<Arc<Slots>>,
    boots: u64,
}

/// How a device's wall clock is wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WallClock {
    pub(crate) unset: u32,
    pub(crate) ahead: i64,
    /// Millionths, and since when.
    pub(crate) drift: Option<(i64, Instant)>,
}

impl WallClock {
    fn read(&self, truth: UnixTime, now: Instant) -> Option<UnixTime> {
        if self.unset > 0 {
            return None;
        }
        let drifted = self.drift.map_or(0, |(ppm, since)| {
            i64::try_from((now - since).as_secs()).unwrap_or(0).saturating_mul(ppm) / 1_000_000
        });
        Some(UnixTime::from_secs(truth.as_secs() + self.ahead + drifted))
    }
}

/// What devices are told, beside who they are.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    pub(crate) seed: u64,
    pub(crate) id_scope: String,
    pub(crate) group_key: SymmetricKeyOf,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) start_spread: Duration,
}

/// Derives the key of a device.
#[derive(Clone, Debug)]
pub(crate) struct SymmetricKeyOf(pub(crate) std::rc::Rc<SymmetricKey>);

impl Node {
    pub(crate) fn new(name: String, twin_of: Option<usize>, store: MemoryStore) -> Self {
        Self {
            name,
            twin_of,
            unit: None,
            store,
            link: None,
            host: String::new(),
            waiting: Vec::new(),
            sent: 0,
            acknowledged: 0,
            activations: 0,
            connections: 0,
            off: BTreeSet::new(),
            cut: None,
            disk_full: 0,
            clock: WallClock::default(),
            invariants: Invariants::new(),
            slots: None,
            boots: 0,
        }
    }

    /// Both clocks as it reads them.
    pub(crate) fn now(&self, monotonic: Instant, truth: UnixTime) -> Now {
        Now { monotonic, wall: self.clock.read(truth, monotonic) }
    }

    /// Its process begins, with what its store holds and what its application has not got acknowledged.
    pub(crate) fn boot(
        &mut self,
        number: usize,
        manners: &Manners,
        now: Now,
    ) -> Result<(), WorldError> {
        self.boots += 1;
        let key = manners.group_key.0.derive(&self.name);
        let mut config = Config::new(
            IdScope::new(&manners.id_scope)?,
            RegistrationId::new(&self.name)?,
            Attestation::SymmetricKey(key),
        );
        PROVISIONING.clone_into(&mut config.provisioning_host);
        config.key_algorithm = KeyAlgorithm::EcdsaP256;
        config.key_slots = self.slots.clone().map(|slots| slots as _);
        config.retry.start_spread = manners.start_spread;
        for hub in HUBS {
            config.hub.hosts.allow(hub);
        }
        let seed = manners.seed ^ (number as u64 + 1) << 32 ^ self.boots << 56;
        let rng = ChaCha20Rng::seed_from_u64(seed);
        let mut unit = Unit::new(Device::new(config, self.store.load()?, rng), manners.mutant);
        for (handle, number) in &mut self.waiting {
            *handle = unit.restore_telemetry(Telemetry::new(number.to_string()), now);
        }
        unit.start(now);
        self.unit = Some(unit);
        Ok(())
    }
}
