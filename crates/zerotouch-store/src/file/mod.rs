//! An identity in files that survive any crash.
//!
//! ```text
//! <state-dir>/<registration-id>/   0700
//!     generation-3.pem  record, key and chain in one file; `openssl` reads it
//!     generation-2.pem
//!     pending-4.pem     record, and a key whose certificate has been requested
//!     reserve           space held for that certificate
//!     identity.json     the record of a change that brought no key
//!     lock              held while a process has the store open; contains its pid
//! ```
//!
//! # How a change becomes durable
//!
//! Every change writes one file, and that is all it takes:
//!
//! ```text
//! create temporary · write · fsync · rename · fsync directory
//! ```
//!
//! Each file begins with a record that says what the device is: which generation is active, which
//! are previous, the assignment. Of all records that can be read the one with the highest revision
//! counts. So a new key and what it means for the others become durable in the same instant, and
//! every file that is lost leaves the record before it, which is the state before the change. What
//! no longer counts is swept afterwards: renamed, and once that is durable overwritten and removed.
//!
//! After a crash at any instant the store opens to the identity before the change or after it. That
//! is tested by enumerating the crash states of every change: any prefix of the operations, any
//! un-synced data lost or torn, any un-synced renames lost or reordered, crashes of the process
//! that cleans up after a crash among them.
//!
//! # What it refuses
//!
//! A key that others could have read or replaced: looser modes than 0600 and 0700, a state directory
//! that others may write to, another owner, symbolic and hard links, anything that is no regular
//! file. It refuses with the command that mends it, and never mends by itself, because a key that
//! was readable may have been read. And what a later version has written, which it leaves alone.
//!
//! # What it cannot read
//!
//! A file that is damaged is set aside as `damaged-…`, neither overwritten nor removed, and
//! reported ([`FileStore::damage`]); what could be read is used. Whether anything was left says
//! [`FileStore::condition`]. It may hold a key: remove it when you have seen what it was.
//!
//! Overwriting a discarded key is best effort: copy-on-write file systems and flash translation
//! layers keep old blocks. Who needs more encrypts the disk or keeps keys in hardware.

mod bundle;
mod directory;
mod error;
mod names;
mod options;
mod os;
pub mod queue;
mod record;
mod survey;
mod vault;

#[cfg(any(test, feature = "simulated"))]
mod careless;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod hardware;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod readers;
#[cfg(test)]
mod refusals;
#[cfg(any(test, feature = "simulated"))]
mod simulated;
#[cfg(any(test, feature = "simulated"))]
pub mod simulation;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zerotouch_credentials::Signer;

pub use self::error::{Condition, Damage, DamageReason, FileError, Operation};
pub use self::options::{FileStoreOptions, Inspection};
use self::os::{Lock, OsDirectory};
use self::vault::Vault;
use crate::key::KeyReference;
use crate::model::{Change, Identity};
use crate::store::{Store, StoreError};

/// The identity of one registration, in files. See the [module documentation](self).
///
/// ```no_run
/// use std::path::Path;
/// use zerotouch_store::{FileStore, Store};
///
/// # fn main() -> Result<(), zerotouch_store::StoreError> {
/// let state_dir = Path::new("/var/lib/press");
/// let mut store = FileStore::open(state_dir, "press-7")?;
/// let identity = store.load()?;
/// for damage in store.damage() {
///     eprintln!("{damage}");
/// }
///
/// // For a report, beside the process that has it open: no lock, no writing.
/// let seen = FileStore::options().inspect(state_dir, "press-7")?;
/// println!("{:?}: {:?}", seen.condition(), seen.identity.active);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileStore {
    vault: Vault<OsDirectory>,
    path: PathBuf,
    condition: Condition,
    // Held, not read: dropping it lets the next process in.
    _lock: Lock,
}

impl FileStore {
    /// Opens the store of `registration_id` under `state_dir`, making both directories if they are
    /// missing, and takes its lock.
    ///
    /// Whether the place can be written is tried here, before anyone asks for a certificate that
    /// could then not be kept.
    pub fn open(state_dir: &Path, registration_id: &str) -> Result<Self, StoreError> {
        FileStoreOptions::new().open(state_dir, registration_id)
    }

    /// What can be had otherwise: more previous generations, laxer checks, a look without a lock.
    pub const fn options() -> FileStoreOptions {
        FileStoreOptions::new()
    }

    /// Gives keys in hardware what signs with them. `open` yields `None` for a key it cannot open.
    pub fn attach(&mut self, open: impl FnMut(&KeyReference) -> Option<Arc<dyn Signer>>) {
        self.vault.identity_mut().attach(open);
    }

    /// The directory the identity rests in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How much could be read when the store was opened.
    pub const fn condition(&self) -> Condition {
        self.condition
    }

    /// What could not be read when the store was opened. The files are kept, renamed to
    /// `damaged-…`, for whoever wants to know why.
    pub fn damage(&self) -> &[Damage] {
        self.vault.damage()
    }
}

impl Store for FileStore {
    fn load(&mut self) -> Result<Identity, StoreError> {
        Ok(self.vault.identity().clone())
    }

    fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        self.vault.apply(change)
    }
}
