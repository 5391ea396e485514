//! An identity in files that survive any crash.
//!
//! ```text
//! <state-dir>/<registration-id>/   0700
//!     identity.json     which generation is what, the assignment, a checksum of each bundle
//!     generation-3.pem  key and chain in one file; `openssl` reads it
//!     generation-2.pem
//!     pending-4.pem     a key whose certificate has been requested
//!     lock              held while a process has the store open; contains its pid
//! ```
//!
//! # How a change becomes durable
//!
//! A bundle is written once and never changed. Every change ends in the replacement of one file,
//! `identity.json`, so that key, chain and assignment change together:
//!
//! ```text
//! bundle   create temporary · write · fsync · rename · fsync directory      (if there is a new one)
//! pointer  create temporary · write · fsync · rename · fsync directory
//! sweep    overwrite and unlink what the pointer no longer names
//! ```
//!
//! After a crash at any instant the store opens to the identity before the change or after it. That
//! is tested by enumerating the crash states of every change: any prefix of the operations, any
//! un-synced data lost or torn, any un-synced renames lost or reordered.
//!
//! # What it refuses
//!
//! A key that others could have read or replaced: looser modes than 0600 and 0700, another owner,
//! symbolic and hard links, anything that is no regular file. It refuses with the command that
//! mends it, and never mends by itself, because a key that was readable may have been read.
//!
//! Overwriting a discarded key is best effort: copy-on-write file systems and flash translation
//! layers keep old blocks. Who needs more encrypts the disk or keeps keys in hardware.

mod bundle;
mod directory;
mod error;
mod os;
mod pointer;
mod vault;

#[cfg(test)]
mod crashes;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::vec::Vec;

pub use self::error::{Damage, DamageReason, FileError, Operation};
use self::os::{Lock, OsDirectory};
use self::vault::Vault;
use crate::model::{Change, Identity};
use crate::store::{Store, StoreError};

/// The identity of one registration, in files. See the [module documentation](self).
#[derive(Debug)]
pub struct FileStore {
    vault: Vault<OsDirectory>,
    path: PathBuf,
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
        let directory = OsDirectory::open(state_dir, registration_id)?;
        let lock = directory.lock()?;
        let path = directory.path().to_path_buf();
        let mut vault = Vault::open(directory, registration_id)?;
        vault.probe()?;
        Ok(Self { vault, path, _lock: lock })
    }

    /// The directory the identity rests in.
    pub fn path(&self) -> &Path {
        &self.path
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

/// Whether `registration_id` is safe as the name of a directory: the service's alphabet (letters,
/// digits, `-`, `.`, `_`, `:`), at most 128 characters, not beginning with a dot.
fn is_directory_name(registration_id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    (1..=128).contains(&registration_id.len())
        && registration_id.bytes().all(allowed)
        && !registration_id.starts_with('.')
}

/// Names in a directory that belong to this store and may be swept.
fn is_swept(name: &str) -> bool {
    name.starts_with(directory::TEMPORARY_PREFIX)
        || ((name.starts_with("generation-") || name.starts_with("pending-"))
            && Path::new(name).extension().is_some_and(|extension| extension == "pem"))
}

type Names = Vec<std::string::String>;
