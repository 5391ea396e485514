//! The order of operations that makes a change durable, over any [`Directory`].

use std::fmt;
use std::format;
use std::io;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use zerotouch_credentials::PrivateKeyError;

use super::bundle::{self, generation_name, pending_name};
use super::directory::Directory;
use super::error::{Damage, DamageReason, FileError, Operation};
use super::is_swept;
use super::pointer::{Entry, PendingEntry, Pointer, PointerError};
use crate::model::{Change, Generation, Identity, Pending};
use crate::store::StoreError;

const POINTER: &str = "identity.json";
/// What a probe writes: more than any bundle and pointer together.
const PROBE_LEN: usize = 64 * 1024;

/// An identity in a directory.
pub(crate) struct Vault<D> {
    directory: D,
    registration_id: String,
    identity: Identity,
    /// What `identity.json` says, in agreement with `identity`.
    pointer: Pointer,
    /// Whether a failed change may have reached the disk nevertheless.
    uncertain: bool,
    damage: Vec<Damage>,
}

impl<D: Directory> Vault<D> {
    /// Reads what rests in `directory` and sweeps up after a crash.
    pub(crate) fn open(mut directory: D, registration_id: &str) -> Result<Self, FileError> {
        // A process that was killed may have left names that are seen and not yet durable. They
        // are made so before the sweep erases what only the names before them need.
        directory.sync_directory()?;
        let pointer = read_pointer(&directory, registration_id)?;
        let mut vault = Self {
            directory,
            registration_id: registration_id.to_string(),
            identity: Identity::default(),
            pointer,
            uncertain: false,
            damage: Vec::new(),
        };
        vault.read_identity()?;
        vault.sweep();
        Ok(vault)
    }

    /// The same vault over a copy of its directory, for tests that branch.
    #[cfg(test)]
    pub(crate) fn over(&self, directory: D) -> Self {
        Self {
            directory,
            registration_id: self.registration_id.clone(),
            identity: self.identity.clone(),
            pointer: self.pointer.clone(),
            uncertain: self.uncertain,
            damage: Vec::new(),
        }
    }

    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Tries whether there is space and permission for a change.
    pub(crate) fn probe(&mut self) -> Result<(), FileError> {
        let name = self.directory.temporary_name();
        let tried = self.write_file(&name, &vec![0; PROBE_LEN]);
        let removed = self.directory.remove(&name);
        tried.and(removed).map_err(|error| match error {
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
        if self.uncertain {
            // A change failed late, so the disk may hold it. Put back what we believe before a
            // new bundle can take the name of one that the disk's pointer still means.
            self.write_pointer(&self.pointer.clone())?;
            self.uncertain = false;
        }
        let pointer = self.write_bundles(&identity)?;
        self.write_pointer(&pointer)?;
        self.identity = identity;
        self.pointer = pointer;
        self.sweep();
        Ok(())
    }

    /// Writes the bundles that `identity` needs and the disk lacks, and says what to point at.
    fn write_bundles(&mut self, identity: &Identity) -> Result<Pointer, FileError> {
        let mut pointer = Pointer {
            last_generation: identity.last_number,
            assignment: identity.assignment.clone(),
            ..Pointer::empty(&self.registration_id)
        };
        if let Some(pending) = &identity.pending {
            pointer.pending = Some(self.pending_entry(pending, identity.last_number + 1)?);
        }
        pointer.staged = self.entry(identity.staged.as_deref())?;
        pointer.active = self.entry(identity.active.as_deref())?;
        pointer.previous = self.entry(identity.previous.as_deref())?;
        Ok(pointer)
    }

    fn pending_entry(&mut self, pending: &Pending, number: u64) -> Result<PendingEntry, FileError> {
        let known = self.identity.pending.as_ref().zip(self.pointer.pending.as_ref());
        if let Some((_, entry)) = known.filter(|(known, _)| Arc::ptr_eq(&known.key, &pending.key)) {
            return Ok(entry.clone());
        }
        let name = pending_name(number);
        let bundle = bundle::encode_pending(&self.registration_id, &pending.key)
            .map_err(|error| self.not_encoded(&name, error))?;
        self.replace(&name, bundle.as_bytes())?;
        Ok(PendingEntry {
            generation: number,
            sha256: bundle::checksum(bundle.as_bytes()),
            request_id: pending.request_id.clone(),
        })
    }

    fn entry(&mut self, generation: Option<&Generation>) -> Result<Option<Entry>, FileError> {
        let Some(generation) = generation else { return Ok(None) };
        let known = [&self.pointer.staged, &self.pointer.active, &self.pointer.previous];
        let is_this = |entry: &&Entry| entry.generation == generation.number;
        if let Some(entry) = known.into_iter().flatten().find(is_this) {
            return Ok(Some(entry.clone()));
        }
        let name = generation_name(generation.number);
        let bundle = bundle::encode_generation(&self.registration_id, generation)
            .map_err(|error| self.not_encoded(&name, error))?;
        self.replace(&name, bundle.as_bytes())?;
        let sha256 = bundle::checksum(bundle.as_bytes());
        Ok(Some(Entry { generation: generation.number, sha256 }))
    }

    fn not_encoded(&self, name: &str, error: PrivateKeyError) -> FileError {
        FileError::Io {
            operation: Operation::Encode,
            path: self.directory.path_of(name),
            source: io::Error::other(error),
        }
    }

    fn write_pointer(&mut self, pointer: &Pointer) -> Result<(), FileError> {
        let bytes = pointer.encode().map_err(|error| FileError::Io {
            operation: Operation::Encode,
            path: self.directory.path_of(POINTER),
            source: error.into(),
        })?;
        self.replace(POINTER, &bytes)
    }

    /// Gives `name` a new content, durably.
    fn replace(&mut self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let temporary = self.directory.temporary_name();
        if let Err(error) = self.write_file(&temporary, bytes) {
            // Best effort: what stays is swept at the next change or opening.
            self.directory.remove(&temporary).ok();
            return Err(error);
        }
        let renamed = self.directory.rename(&temporary, name);
        let durable = renamed.and_then(|()| self.directory.sync_directory());
        // From the rename on, a failure leaves it open which content a crash would leave.
        self.uncertain |= durable.is_err();
        durable
    }

    fn write_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let mut file = self.directory.create_new(name)?;
        self.directory.write(&mut file, bytes)?;
        self.directory.sync(&file)
    }

    /// Erases every file that the pointer does not name. Best effort, since nothing depends on it
    /// and the next change or opening sweeps again.
    fn sweep(&mut self) {
        let Ok(names) = self.directory.names() else { return };
        let kept = self.kept_names();
        for name in names.iter().filter(|name| is_swept(name) && !kept.contains(name)) {
            self.directory.erase(name).ok();
            self.directory.remove(name).ok();
        }
    }

    fn kept_names(&self) -> Vec<String> {
        let pointer = &self.pointer;
        let pending = pointer.pending.iter().map(|entry| pending_name(entry.generation));
        let generations = [&pointer.staged, &pointer.active, &pointer.previous];
        let generations =
            generations.into_iter().flatten().map(|entry| generation_name(entry.generation));
        pending.chain(generations).collect()
    }

    /// Reads the bundles that the pointer names. One that cannot be used is set aside, and where
    /// the active one is lost the previous one stands in.
    fn read_identity(&mut self) -> Result<(), FileError> {
        let pointer = self.pointer.clone();
        self.identity.assignment.clone_from(&pointer.assignment);
        self.identity.last_number = pointer.last_generation;
        if let Some(entry) = &pointer.pending {
            let name = pending_name(entry.generation);
            let key = self.read_bundle(&name, &entry.sha256, bundle::decode_pending)?;
            self.identity.pending =
                key.map(|key| Pending { key, request_id: entry.request_id.clone() });
        }
        self.identity.staged = self.read_generation(pointer.staged.as_ref())?;
        self.identity.active = self.read_generation(pointer.active.as_ref())?;
        self.identity.previous = self.read_generation(pointer.previous.as_ref())?;
        if self.identity.active.is_none() {
            self.identity.active = self.identity.previous.take();
        }
        self.forget_the_lost();
        Ok(())
    }

    fn read_generation(
        &mut self,
        entry: Option<&Entry>,
    ) -> Result<Option<Arc<Generation>>, FileError> {
        let Some(entry) = entry else { return Ok(None) };
        let decode = |bytes: &[u8]| bundle::decode_generation(entry.generation, bytes);
        let generation =
            self.read_bundle(&generation_name(entry.generation), &entry.sha256, decode)?;
        Ok(generation.map(Arc::new))
    }

    fn read_bundle<T>(
        &mut self,
        name: &str,
        sha256: &str,
        decode: impl FnOnce(&[u8]) -> Result<T, DamageReason>,
    ) -> Result<Option<T>, FileError> {
        let read = match self.directory.read(name)? {
            None => Err(DamageReason::Missing),
            Some(bytes) if bundle::checksum(&bytes) != sha256 => Err(DamageReason::Checksum),
            Some(bytes) => decode(&bytes),
        };
        match read {
            Ok(value) => Ok(Some(value)),
            Err(reason) => {
                self.set_aside(name, reason);
                Ok(None)
            }
        }
    }

    /// Keeps a damaged bundle out of the sweep, as evidence.
    fn set_aside(&mut self, name: &str, reason: DamageReason) {
        let aside = format!("damaged-{name}");
        let renamed =
            reason != DamageReason::Missing && self.directory.rename(name, &aside).is_ok();
        let path = self.directory.path_of(if renamed { &aside } else { name });
        self.damage.push(Damage { path, reason });
    }

    /// Makes the pointer agree with what was readable. On disk it follows with the next change.
    fn forget_the_lost(&mut self) {
        let entries = [&self.pointer.staged, &self.pointer.active, &self.pointer.previous];
        let entries: Vec<Entry> = entries.into_iter().flatten().cloned().collect();
        let entry_of = |generation: &Option<Arc<Generation>>| {
            let number = generation.as_ref()?.number;
            entries.iter().find(|entry| entry.generation == number).cloned()
        };
        self.pointer.staged = entry_of(&self.identity.staged);
        self.pointer.active = entry_of(&self.identity.active);
        self.pointer.previous = entry_of(&self.identity.previous);
        if self.identity.pending.is_none() {
            self.pointer.pending = None;
        }
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

fn read_pointer<D: Directory>(directory: &D, registration_id: &str) -> Result<Pointer, FileError> {
    let path = || directory.path_of(POINTER);
    let Some(bytes) = directory.read(POINTER)? else {
        // Before the first change has ended there is no pointer, and at most a pending key. A
        // generation means that the pointer was lost, and with it the knowledge of what is swept.
        if directory.names()?.iter().any(|name| name.starts_with("generation-")) {
            let reason = "it is missing although there are generations".to_string();
            return Err(FileError::Corrupt { path: path(), reason });
        }
        return Ok(Pointer::empty(registration_id));
    };
    Pointer::decode(&bytes, registration_id).map_err(|error| match error {
        PointerError::Corrupt(reason) => FileError::Corrupt { path: path(), reason },
        PointerError::NewerFormat(format) => FileError::NewerFormat { path: path(), format },
    })
}
