//! What a device's identity rests on: the file store, over a directory in memory, and what goes wrong
//! with that.

use std::collections::{BTreeMap, BTreeSet};

use chacha20::ChaCha8Rng;
use chacha20::rand_core::SeedableRng;
use rand_core::Rng;
use zerotouch_store::file::Damage;
use zerotouch_store::file::simulation::{Fault, Simulated, SimulatedStore, Slip};
use zerotouch_store::{Change, Identity, Store, StoreError};

/// A device's disk.
#[derive(Debug)]
pub(crate) struct Disk {
    name: String,
    slip: Option<Slip>,
    directory: Simulated,
    /// The store, while a process has it open.
    store: Option<SimulatedStore>,
    /// What it held last, for as long as it is closed.
    identity: Identity,
    /// Which incident strikes at which operation, and how.
    fuses: BTreeMap<usize, (usize, Fault)>,
    /// By which incidents it is full.
    full: BTreeSet<usize>,
    strikes: u32,
}

/// What came of work on a disk.
#[derive(Debug)]
pub(crate) struct Worked {
    pub(crate) result: Result<(), StoreError>,
    /// The incident that has cut the power meanwhile.
    pub(crate) cut: Option<usize>,
}

impl Disk {
    pub(crate) fn new(name: &str, slip: Option<Slip>) -> Self {
        Self::over(Simulated::new(), name, slip)
    }

    fn over(directory: Simulated, name: &str, slip: Option<Slip>) -> Self {
        Self {
            name: name.to_owned(),
            slip,
            directory,
            store: None,
            identity: Identity::default(),
            fuses: BTreeMap::new(),
            full: BTreeSet::new(),
            strikes: 0,
        }
    }

    /// Another disk with the same files.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::over(self.directory.fork(), &self.name, self.slip);
        copy.directory.mend();
        copy
    }

    pub(crate) fn identity(&self) -> &Identity {
        self.store.as_ref().map_or(&self.identity, SimulatedStore::identity)
    }

    /// What could not be read when the store was opened.
    pub(crate) fn damage(&self) -> &[Damage] {
        self.store.as_ref().map_or(&[], SimulatedStore::damage)
    }

    /// How many operations on files there have been, and how many of them incidents struck.
    pub(crate) fn counts(&self) -> (usize, u32) {
        (self.directory.operations(), self.strikes)
    }

    /// After so many more operations the incident strikes.
    pub(crate) fn arm(&mut self, incident: usize, operations: usize, fault: Fault) {
        self.fuses.insert(incident, (self.directory.operations() + operations, fault));
    }

    /// The incident is over.
    pub(crate) fn disarm(&mut self, incident: usize) {
        self.fuses.remove(&incident);
        if self.full.remove(&incident) && self.full.is_empty() {
            self.directory.mend();
        }
    }

    /// A process begins.
    pub(crate) fn open(&mut self) -> Worked {
        self.close();
        self.work(|disk| {
            disk.store = Some(SimulatedStore::open(&disk.directory, &disk.name, disk.slip)?);
            Ok(())
        })
    }

    pub(crate) fn apply(&mut self, change: &Change) -> Worked {
        self.work(|disk| match &mut disk.store {
            Some(store) => store.apply(change),
            None => Err(StoreError::Other("the store is closed".into())),
        })
    }

    fn work(&mut self, work: impl FnOnce(&mut Self) -> Result<(), StoreError>) -> Worked {
        let next = self.fuses.iter().min_by_key(|(_, (at, _))| *at);
        let next = next.map(|(incident, (at, fault))| (*incident, *at, *fault));
        if let Some((_, at, fault)) = next {
            self.directory.arm(at.saturating_sub(self.directory.operations()), fault);
        }
        let result = work(self);
        let struck = next.filter(|_| self.directory.has_struck());
        self.directory.disarm();
        let Some((incident, _, fault)) = struck else { return Worked { result, cut: None } };
        self.strikes += 1;
        self.fuses.remove(&incident);
        if fault == Fault::Full {
            self.full.insert(incident);
        }
        Worked { result, cut: (fault == Fault::Crash).then_some(incident) }
    }

    /// The process ends.
    pub(crate) fn close(&mut self) {
        if let Some(store) = self.store.take() {
            self.identity = store.identity().clone();
        }
    }

    /// The power goes: `state` says which of the states the disk is left in.
    pub(crate) fn lose_power(&mut self, state: u64) {
        self.close();
        let mut rng = ChaCha8Rng::seed_from_u64(state);
        self.directory.lose_power(|states| {
            let drawn = rng.next_u64() % (states as u64).max(1);
            usize::try_from(drawn).unwrap_or(0)
        });
    }
}
