//! One device: its engine while it runs, and what outlives it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use zerotouch_credentials::KeyAlgorithm;
use zerotouch_device::{Config, Device, TelemetryHandle};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_hub::Telemetry;
use zerotouch_time::{Instant, Now, UnixTime};

use crate::disk::Disk;
use crate::factory::Factory;
use crate::invariants::Invariants;
use crate::network::LinkId;
use crate::signer::Slots;
use crate::unit::{Mutant, Unit};
use crate::world::{HUBS, PROVISIONING, Wishes, WorldError};

/// A device of the world.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Which device's identity it has a copy of.
    pub(crate) twin_of: Option<usize>,
    /// Its engine, while it runs.
    pub(crate) unit: Option<Unit>,
    pub(crate) disk: Disk,
    pub(crate) link: Option<LinkId>,
    /// The host of that.
    pub(crate) host: String,
    /// Telemetry that is not acknowledged, as its application has it on disk.
    pub(crate) waiting: Vec<(TelemetryHandle, u32)>,
    /// What its operator wants of it.
    pub(crate) wishes: Wishes,
    pub(crate) sent: u32,
    pub(crate) acknowledged: u32,
    pub(crate) activations: u32,
    pub(crate) connections: u32,
    /// By which incidents it is off.
    pub(crate) off: BTreeSet<usize>,
    /// Its store could not be opened, and it will be tried again.
    pub(crate) starts_later: bool,
    pub(crate) clock: WallClock,
    pub(crate) invariants: Invariants,
    /// Where its keys are, if not in its store.
    pub(crate) slots: Option<Arc<Slots>>,
    boots: u64,
}

/// How a device's wall clock is wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct WallClock {
    pub(crate) unset: u32,
    pub(crate) ahead: i64,
    /// By which incidents it drifts: millionths, and since when.
    pub(crate) drift: BTreeMap<usize, (i64, Instant)>,
}

impl WallClock {
    fn read(&self, truth: UnixTime, now: Instant) -> Option<UnixTime> {
        if self.unset > 0 {
            return None;
        }
        let drifted = self.drift.values().map(|(ppm, since)| {
            i64::try_from((now - *since).as_secs()).unwrap_or(0).saturating_mul(*ppm) / 1_000_000
        });
        Some(UnixTime::from_secs(truth.as_secs() + self.ahead + drifted.sum::<i64>()))
    }
}

/// What devices are told, beside who they are.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    pub(crate) seed: u64,
    pub(crate) id_scope: String,
    pub(crate) factory: Rc<Factory>,
    pub(crate) hears_wishes: bool,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) connect_spread: Duration,
}

impl Node {
    pub(crate) fn new(name: String, twin_of: Option<usize>, disk: Disk) -> Self {
        Self {
            name,
            twin_of,
            unit: None,
            disk,
            link: None,
            host: String::new(),
            waiting: Vec::new(),
            wishes: Wishes::default(),
            sent: 0,
            acknowledged: 0,
            activations: 0,
            connections: 0,
            off: BTreeSet::new(),
            starts_later: false,
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

    /// Its process goes on with what its store holds and what its application has not got acknowledged.
    pub(crate) fn boot(
        &mut self,
        number: usize,
        manners: &Manners,
        now: Now,
    ) -> Result<(), WorldError> {
        self.boots += 1;
        self.wishes.restart();
        let mut config = Config::new(
            IdScope::new(&manners.id_scope)?,
            RegistrationId::new(&self.name)?,
            manners.factory.attestation(&self.name),
        );
        PROVISIONING.clone_into(&mut config.provisioning_host);
        config.key_algorithm = KeyAlgorithm::EcdsaP256;
        config.key_slots = self.slots.clone().map(|slots| slots as _);
        config.hub.twin = manners.hears_wishes;
        config.hub.methods = manners.hears_wishes;
        config.retry.connect_spread = manners.connect_spread;
        for hub in HUBS {
            config.hub.hosts.allow(hub);
        }
        let seed = manners.seed ^ (number as u64 + 1) << 32 ^ self.boots << 56;
        let rng = ChaCha20Rng::seed_from_u64(seed);
        let mut unit =
            Unit::new(Device::new(config, self.disk.identity().clone(), rng), manners.mutant);
        for (handle, number) in &mut self.waiting {
            *handle = unit.restore_telemetry(Telemetry::new(number.to_string()), now);
        }
        unit.start(now);
        self.unit = Some(unit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Two incidents that overlap are two: the end of one does not end the other.
    #[test]
    fn drifts_add_up_and_end_one_by_one() {
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let mut clock = WallClock::default();
        let ahead = |clock: &WallClock, seconds| {
            clock.read(UnixTime::from_secs(0), at(seconds)).map(UnixTime::as_secs)
        };
        clock.drift.insert(1, (10_000, at(0)));
        clock.drift.insert(2, (-20_000, at(500)));
        assert_eq!(ahead(&clock, 1000), Some(10 - 10));
        clock.drift.remove(&2);
        assert_eq!(ahead(&clock, 1000), Some(10));
    }
}
