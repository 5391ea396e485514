//! The file store over a directory in memory that loses power: for tests and simulations of what stores
//! an identity, and for nothing else (feature `simulated`).
//!
//! It is the store of the [module above](super) but for the operating system: no modes, no owners, no lock.
//!
//! ```
//! use zerotouch_store::file::simulation::{Fault, Simulated, SimulatedStore};
//! use zerotouch_store::{Change, Store};
//! # fn main() -> Result<(), zerotouch_store::StoreError> {
//! let disk = Simulated::new();
//! let mut store = SimulatedStore::open(&disk, "press-7", None)?;
//! disk.arm(3, Fault::Crash);
//! assert!(store.apply(&Change::Forget).is_err());
//! assert!(disk.has_struck());
//!
//! disk.lose_power(|states| states - 1);
//! let store = SimulatedStore::open(&disk, "press-7", None)?;
//! assert!(store.damage().is_empty());
//! # Ok(())
//! # }
//! ```

use super::careless::Careless;
pub use super::careless::Slip;
use super::error::Damage;
pub use super::simulated::{Fault, Simulated};
use super::vault::{Terms, Vault};
use crate::model::{Change, DEFAULT_RETAINED, Identity};
use crate::store::{Store, StoreError};

/// Space held for a certificate: nothing but its being there matters here.
const RESERVE_LEN: usize = 64;

/// The file store, in memory.
#[derive(Debug)]
pub struct SimulatedStore {
    vault: Vault<Careless>,
}

impl SimulatedStore {
    /// Opens the store of `registration_id`, as [`FileStore::open`](super::FileStore::open) does. With a
    /// slip it makes that mistake all along.
    pub fn open(
        directory: &Simulated,
        registration_id: &str,
        slip: Option<Slip>,
    ) -> Result<Self, StoreError> {
        let terms = Terms { retained: DEFAULT_RETAINED, reserve: RESERVE_LEN };
        let directory = Careless::new(directory.clone(), slip);
        let mut vault = Vault::open(directory, registration_id, terms)?;
        vault.probe()?;
        Ok(Self { vault })
    }

    /// What it holds.
    pub const fn identity(&self) -> &Identity {
        self.vault.identity()
    }

    /// What could not be read when it was opened.
    pub fn damage(&self) -> &[Damage] {
        self.vault.damage()
    }
}

impl Store for SimulatedStore {
    fn load(&mut self) -> Result<Identity, StoreError> {
        Ok(self.identity().clone())
    }

    fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        self.vault.apply(change)
    }
}
