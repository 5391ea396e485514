//! A cloud on disk: what it was made from, and what it has learned, in one file.
//!
//! The file is replaced as a whole, and before the answer that makes it true leaves: a device that was
//! told of its registration is known after any crash.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use zerotouch_time::UnixTime;

use super::{StartError, random_numbers};
use crate::cloud::Snapshot;

const FILE: &str = "emulator.json";
const FORMAT: u32 = 2;

/// Why the data directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A system call failed.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not one of this version's.
    #[error("{path} cannot be read ({reason}); move it away to begin anew")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Everything the next run needs. From the seed come all keys of the emulator.
#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    seed: [u8; 32],
    created: i64,
    #[serde(flatten)]
    snapshot: Snapshot,
}

/// A data directory.
#[derive(Debug)]
pub(super) struct Storage {
    directory: PathBuf,
    seed: [u8; 32],
    created: UnixTime,
}

impl Storage {
    /// Opens a directory, or makes it and begins with `seed` at `now`. What an earlier run has learned
    /// comes with it.
    pub(super) fn open(
        directory: &Path,
        seed: Option<u64>,
        now: UnixTime,
    ) -> Result<(Self, Option<Snapshot>), StartError> {
        let path = directory.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => {
                let record = read(&bytes)
                    .map_err(|reason| StorageError::Unreadable { path: path.clone(), reason })?;
                let created = UnixTime::from_secs(record.created);
                let storage = Self { directory: directory.into(), seed: record.seed, created };
                Ok((storage, Some(record.snapshot)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_private(directory)
                    .map_err(|source| StorageError::Io { path: directory.into(), source })?;
                let seed = random_numbers(seed)?.get_seed();
                let storage = Self { directory: directory.into(), seed, created: now };
                storage.save(Snapshot::default())?;
                Ok((storage, None))
            }
            Err(source) => Err(StorageError::Io { path, source }.into()),
        }
    }

    /// The random numbers that the cloud was first made with.
    pub(super) fn rng(&self) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(self.seed)
    }

    /// When the cloud was first made.
    pub(super) fn created(&self) -> UnixTime {
        self.created
    }

    /// Makes a snapshot durable.
    pub(super) fn save(&self, snapshot: Snapshot) -> Result<(), StorageError> {
        let record =
            Record { format: FORMAT, seed: self.seed, created: self.created.as_secs(), snapshot };
        self.write(&record)
            .map_err(|source| StorageError::Io { path: self.directory.join(FILE), source })
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        // Made with mode 0600: it holds keys.
        let mut file = NamedTempFile::new_in(&self.directory)?;
        serde_json::to_writer(&mut file, record)?;
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(self.directory.join(FILE)).map_err(|error| error.error)?;
        // The new name is durable once the directory is. Windows has no such call.
        if cfg!(unix) { File::open(&self.directory)?.sync_all() } else { Ok(()) }
    }
}

fn read(bytes: &[u8]) -> Result<Record, String> {
    let record: Record = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if record.format == FORMAT {
        Ok(record)
    } else {
        Err(format!("its format is {}, not {FORMAT}", record.format))
    }
}

fn make_private(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(directory)
}
