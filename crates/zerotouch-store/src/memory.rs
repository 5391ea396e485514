//! An identity that lives as long as the process.

use crate::model::{Change, Identity};
use crate::store::{Store, StoreError};

/// A store in memory: for tests, simulations, and devices whose identity need not outlive them.
#[derive(Debug, Default)]
pub struct MemoryStore {
    identity: Identity,
}

impl MemoryStore {
    /// A store that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that holds `identity`.
    pub const fn with_identity(identity: Identity) -> Self {
        Self { identity }
    }

    /// What it holds.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Identity, StoreError> {
        Ok(self.identity.clone())
    }

    fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        Ok(self.identity.apply(change)?)
    }
}
