//! How a store is opened, when the defaults do not fit, and how one looks at it without opening it.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::vec::Vec;

use super::FileStore;
use super::directory::Directory;
use super::error::{Condition, Damage, FileError};
use super::names::LOCK;
use super::os::{Checks, OsDirectory};
use super::survey::{Survey, survey};
use super::vault::{Terms, Vault};
use crate::model::{Change, DEFAULT_RETAINED, Identity};
use crate::store::StoreError;

/// Space held for a certificate: more than any bundle and pointer together.
const RESERVE_LEN: usize = 64 * 1024;
/// Twice what an operation at IoT Hub lives (`operationExpires`, about 12 hours), since the request
/// may have left late.
const DEFAULT_PENDING_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How a [`FileStore`] is opened.
#[derive(Clone, Debug)]
pub struct FileStoreOptions {
    retained: usize,
    pending_lifetime: Duration,
    checks: Checks,
}

impl FileStoreOptions {
    /// The defaults: one previous generation, pending keys for a day, strict checks.
    pub const fn new() -> Self {
        Self {
            retained: DEFAULT_RETAINED,
            pending_lifetime: DEFAULT_PENDING_LIFETIME,
            checks: Checks::Strict,
        }
    }

    /// How many previous generations are kept for going back. Those that are more than that are
    /// erased when the next generation becomes active.
    #[must_use]
    pub const fn retained(mut self, generations: usize) -> Self {
        self.retained = generations;
        self
    }

    /// How old a pending key may be when the store is opened. The answer to its request is not
    /// waited for any more, and the key is erased.
    #[must_use]
    pub const fn pending_lifetime(mut self, lifetime: Duration) -> Self {
        self.pending_lifetime = lifetime;
        self
    }

    /// Uses keys although their modes or owners let others read or replace them. Links and special
    /// files are refused all the same.
    #[must_use]
    pub const fn insecure_permissions(mut self, insecure: bool) -> Self {
        self.checks = if insecure { Checks::Insecure } else { Checks::Strict };
        self
    }

    /// As [`FileStore::open`], with these options.
    pub fn open(&self, state_dir: &Path, registration_id: &str) -> Result<FileStore, StoreError> {
        let directory = OsDirectory::make(state_dir, registration_id, self.checks)?;
        let lock = directory.lock(LOCK)?;
        let path = directory.path().to_path_buf();
        let terms = Terms { retained: self.retained, reserve: RESERVE_LEN };
        let mut vault = Vault::open(directory, registration_id, terms)?;
        let condition = Condition::of(vault.identity(), vault.damage());
        vault.probe()?;
        let age = vault.pending_name().and_then(|name| vault.directory().age(&name));
        if age.is_some_and(|age| age > self.pending_lifetime) {
            vault.apply(&Change::DiscardPending)?;
        }
        Ok(FileStore { vault, path, condition, _lock: lock })
    }

    /// Looks at what rests there, for a report: takes no lock, waits for nobody, writes nothing,
    /// and may be done while a device is using the store.
    ///
    /// A directory that does not exist is a [`FileError::Io`] of that kind.
    pub fn inspect(
        &self,
        state_dir: &Path,
        registration_id: &str,
    ) -> Result<Inspection, FileError> {
        let directory = OsDirectory::open(state_dir, registration_id, self.checks)?;
        let Survey { mut identity, damage, .. } = survey(&directory, registration_id)?;
        identity.retained = self.retained;
        let damage: Vec<Damage> = damage
            .into_iter()
            .map(|(name, reason)| Damage { path: directory.path_of(&name), reason })
            .collect();
        Ok(Inspection { identity, damage, path: directory.path().to_path_buf() })
    }
}

impl Default for FileStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What a look at a store has shown.
#[derive(Debug)]
pub struct Inspection {
    /// The identity. Keys in hardware are not attached.
    pub identity: Identity,
    /// What could not be read.
    pub damage: Vec<Damage>,
    /// The directory.
    pub path: PathBuf,
}

impl Inspection {
    /// How much could be read.
    pub fn condition(&self) -> Condition {
        Condition::of(&self.identity, &self.damage)
    }
}
