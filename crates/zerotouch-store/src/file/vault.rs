//! The order of operations that makes a change durable, over any [`Directory`].

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::string::{String, ToString};
use std::vec::Vec;

use zeroize::Zeroizing;

use super::bundle;
use super::directory::Directory;
use super::error::{Damage, DamageReason, FileError, Operation};
use super::names::{
    POINTER, RESERVE, TEMPORARY_PREFIX, damaged_name, generation_name, padding, pending_name,
};
use super::record::{PendingEntry, Record};
use super::survey::{Survey, survey};
use crate::key::Key;
use crate::model::{Change, Identity};
use crate::store::StoreError;

/// What the caller of [`Vault::open`] decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How many previous generations are kept.
    pub(crate) retained: usize,
    /// How much space is held for a certificate that has been asked for, in bytes.
    pub(crate) reserve: usize,
}

/// An identity in a directory.
pub(crate) struct Vault<D> {
    directory: D,
    registration_id: String,
    terms: Terms,
    identity: Identity,
    /// Which file the pending key is in.
    pending_number: Option<u64>,
    /// The highest revision that was read or tried.
    revision: u64,
    /// The names on disk that are the store's to sweep.
    present: BTreeSet<String>,
    damage: Vec<Damage>,
}

impl<D: Directory> Vault<D> {
    /// Reads what rests in `directory`, sets aside what cannot be used, sweeps up after a crash.
    pub(crate) fn open(
        mut directory: D,
        registration_id: &str,
        terms: Terms,
    ) -> Result<Self, FileError> {
        // A process that was killed may have left names that are seen and not yet durable. They
        // are made so before the sweep erases what only the names before them need.
        directory.sync_directory()?;
        let Survey { mut identity, pending_number, revision, present, damage } =
            survey(&directory, registration_id)?;
        identity.retained = terms.retained;
        let mut vault = Self {
            directory,
            registration_id: registration_id.to_string(),
            terms,
            identity,
            pending_number,
            revision,
            present,
            damage: Vec::new(),
        };
        vault.set_aside(damage)?;
        vault.sweep();
        Ok(vault)
    }

    /// The same vault over a copy of its directory, for tests that branch.
    #[cfg(test)]
    pub(crate) fn over(&self, directory: D) -> Self {
        Self {
            directory,
            registration_id: self.registration_id.clone(),
            terms: self.terms,
            identity: self.identity.clone(),
            pending_number: self.pending_number,
            revision: self.revision,
            present: self.present.clone(),
            damage: Vec::new(),
        }
    }

    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) const fn identity_mut(&mut self) -> &mut Identity {
        &mut self.identity
    }

    pub(crate) const fn directory(&self) -> &D {
        &self.directory
    }

    pub(crate) fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The file of the pending key.
    pub(crate) fn pending_name(&self) -> Option<String> {
        self.pending_number.map(pending_name)
    }

    /// Tries whether there is space and permission for a change.
    pub(crate) fn probe(&mut self) -> Result<(), FileError> {
        let tried = self.write_temporary(&padding(self.terms.reserve));
        let removed = tried.and_then(|name| self.remove(&name));
        removed.map_err(|error| match error {
            FileError::Io { source, .. } => {
                FileError::NotWritable { path: self.directory.path_of("."), source }
            }
            other => other,
        })
    }

    /// Makes `change` durable, then believes it.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        let mut identity = self.identity.clone();
        identity.apply(change)?;
        // A number of its own for each attempt: one that failed late may be on the disk, and must
        // not count for more than the next.
        self.revision += 1;
        let mut record = Record::new(&self.registration_id, self.revision, identity.last_number);
        record.assignment.clone_from(&identity.assignment);
        record.staged = identity.staged.as_ref().map(|staged| staged.number);
        record.active = identity.active.as_ref().map(|active| active.number);
        record.previous = identity.previous.iter().map(|previous| previous.number).collect();
        let pending_number = identity
            .pending
            .as_ref()
            .map(|_| self.pending_number.unwrap_or(identity.last_number + 1));
        record.pending = identity.pending.as_ref().zip(pending_number).map(|(pending, number)| {
            PendingEntry { generation: number, request_id: pending.request_id.clone() }
        });

        self.write(change, &identity, record, pending_number)?;
        self.identity = identity;
        self.pending_number = pending_number;
        self.sweep();
        Ok(())
    }

    /// Writes the one file of a change: that of the key it brings, or else the pointer.
    fn write(
        &mut self,
        change: &Change,
        identity: &Identity,
        mut record: Record,
        pending_number: Option<u64>,
    ) -> Result<(), FileError> {
        let brought = match (change, &identity.pending, &identity.staged) {
            (Change::Begin { .. }, Some(pending), _) => {
                pending_number.map(|number| (pending_name(number), &pending.key, None))
            }
            (Change::Stage { .. }, _, Some(staged)) => {
                Some((generation_name(staged.number), &staged.key, Some(&staged.chain)))
            }
            _ => None,
        };
        let (name, body) = match brought {
            Some((name, key, chain)) => {
                if let Key::Reference(reference) = key {
                    record.key_reference = Some(reference.uri().to_string());
                }
                let body = bundle::encode(key, chain)
                    .map_err(|error| self.not_encoded(&name, io::Error::other(error)))?;
                (name, body)
            }
            None => (POINTER.to_string(), Zeroizing::default()),
        };
        let text = record.encode(&body).map_err(|error| self.not_encoded(&name, error.into()))?;
        match change {
            Change::Begin { .. } => self.reserve()?,
            Change::Stage { .. } => {
                // Best effort: without it there may be space all the same.
                self.remove(RESERVE).ok();
            }
            _ => {}
        }
        let replaced = self.replace(&name, text.as_bytes());
        if replaced.is_err() && matches!(change, Change::Begin { .. }) {
            self.remove(RESERVE).ok();
        }
        replaced
    }

    fn not_encoded(&self, name: &str, source: io::Error) -> FileError {
        let path = self.directory.path_of(name);
        FileError::Io { operation: Operation::Encode, path, source }
    }

    /// Holds the space that the certificate will need, before it is asked for.
    fn reserve(&mut self) -> Result<(), FileError> {
        if self.present.contains(RESERVE) {
            return Ok(());
        }
        self.present.insert(RESERVE.to_string());
        let reserved = self.write_new(RESERVE, &padding(self.terms.reserve));
        if reserved.is_err() {
            self.remove(RESERVE).ok();
        }
        reserved
    }

    /// Gives `name` a new content, durably.
    fn replace(&mut self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let temporary = match self.write_temporary(bytes) {
            // What could not be made durable the system may have marked clean: that file is lost
            // whatever a second sync would say. A new one gets one chance.
            Err(FileError::Io { operation: Operation::Sync, .. }) => self.write_temporary(bytes)?,
            other => other?,
        };
        if name != POINTER {
            self.present.insert(name.to_string());
        }
        match self.directory.rename(&temporary, name) {
            Ok(()) => {
                self.present.remove(&temporary);
            }
            Err(error) => {
                self.remove(&temporary).ok();
                return Err(error);
            }
        }
        self.directory.sync_directory()
    }

    /// Writes a temporary file and says its name; after an error there is none.
    fn write_temporary(&mut self, bytes: &[u8]) -> Result<String, FileError> {
        let name = self.directory.temporary_name();
        self.present.insert(name.clone());
        match self.write_new(&name, bytes) {
            Ok(()) => Ok(name),
            Err(error) => {
                // Best effort: what stays is swept at the next change or opening.
                self.remove(&name).ok();
                Err(error)
            }
        }
    }

    fn write_new(&mut self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let mut file = self.directory.create_new(name)?;
        self.directory.write(&mut file, bytes)?;
        self.directory.sync(&file)?;
        // Read back as it will be read: a file system that keeps no modes, or not what it was
        // given, is found out before anything depends on it.
        match self.directory.read(name)? {
            Some(read) if *read == bytes => Ok(()),
            _ => Err(FileError::Io {
                operation: Operation::Write,
                path: self.directory.path_of(name),
                source: io::Error::new(io::ErrorKind::InvalidData, "it reads back differently"),
            }),
        }
    }

    fn remove(&mut self, name: &str) -> Result<(), FileError> {
        let removed = self.directory.remove(name);
        if removed.is_ok() || matches!(&removed, Err(error) if error.is_not_found()) {
            self.present.remove(name);
        }
        removed
    }

    /// Erases every file that the identity does not need. Best effort, since nothing depends on it
    /// and the next change or opening sweeps again.
    fn sweep(&mut self) {
        let kept = self.kept_names();
        let stale: Vec<String> =
            self.present.iter().filter(|name| !kept.contains(*name)).cloned().collect();
        if stale.is_empty() {
            return;
        }
        for name in stale.iter().filter(|name| !name.starts_with(TEMPORARY_PREFIX)) {
            if name == RESERVE {
                self.remove(name).ok();
                continue;
            }
            let temporary = self.directory.temporary_name();
            match self.directory.rename(name, &temporary) {
                Ok(()) => {
                    self.present.remove(name);
                    self.present.insert(temporary);
                }
                Err(error) if error.is_not_found() => {
                    self.present.remove(name);
                }
                Err(_) => {}
            }
        }
        // A crash must not bring back a name whose content is erased: that would look like damage.
        if self.directory.sync_directory().is_err() {
            return;
        }
        let temporaries: Vec<String> = self
            .present
            .iter()
            .filter(|name| name.starts_with(TEMPORARY_PREFIX))
            .cloned()
            .collect();
        for name in temporaries {
            self.directory.erase(&name).ok();
            self.remove(&name).ok();
        }
    }

    fn kept_names(&self) -> BTreeSet<String> {
        let identity = &self.identity;
        let generations = identity.staged.iter().chain(&identity.active).chain(&identity.previous);
        let mut names: BTreeSet<String> =
            generations.map(|generation| generation_name(generation.number)).collect();
        if let Some(name) = self.pending_name() {
            names.extend([name, RESERVE.to_string()]);
        }
        names.insert(POINTER.to_string());
        names
    }

    /// Keeps what could not be used out of the way, as evidence, under names that hold none yet.
    fn set_aside(&mut self, damage: Vec<(String, DamageReason)>) -> Result<(), FileError> {
        if damage.is_empty() {
            return Ok(());
        }
        let mut taken: BTreeSet<String> = self.directory.names()?.into_iter().collect();
        for (name, reason) in damage {
            if reason == DamageReason::Missing {
                self.damage.push(Damage { path: self.directory.path_of(&name), reason });
                continue;
            }
            let free = (0..).map(|attempt| damaged_name(&name, attempt));
            let aside = free.into_iter().find(|aside| !taken.contains(aside)).unwrap_or_default();
            self.directory.rename(&name, &aside)?;
            self.damage.push(Damage { path: self.directory.path_of(&aside), reason });
            taken.insert(aside);
        }
        // Before anything new is written under the old names.
        self.directory.sync_directory()
    }
}

impl<D> fmt::Debug for Vault<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("registration_id", &self.registration_id)
            .field("identity", &self.identity)
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}
