//! A cloud on disk: what it was made from, and its records, in one database.
//!
//! Records are durable before the answer that makes them true leaves: a device that was told of its
//! registration is known after any crash.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::path::{Path, PathBuf};

use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};
use zerotouch_time::{Instant, Now, UnixTime};

use super::{StartError, random_numbers};
use crate::cloud::{Cloud, Record, RecordError};

const FILE: &str = "emulator.redb";
/// As it was before there was a database.
const FORMER_FILE: &str = "emulator.json";
const FORMAT: u64 = 3;

/// Table and entry, and what the entry is.
const RECORDS: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("records");
/// What the cloud was made from.
const ORIGIN: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("origin");

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
    /// Another emulator has it.
    #[error("{path} is in use by another emulator: end that one, or choose another directory")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The fixture has other hubs than the cloud that is kept there.
    #[error("{path} is of another fixture: {source}")]
    Fixture {
        /// The file.
        path: PathBuf,
        /// What has changed.
        source: RecordError,
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

/// A data directory.
#[derive(Debug)]
pub(super) struct Storage {
    path: PathBuf,
    database: Database,
    /// From it come the keys of the server itself.
    seed: [u8; 32],
    created: UnixTime,
}

impl Storage {
    /// Opens a directory, or makes it and begins with `seed` at `now`.
    pub(super) fn open(
        directory: &Path,
        seed: Option<u64>,
        now: UnixTime,
    ) -> Result<Self, StartError> {
        let path = directory.join(FILE);
        let io_error = |path: &Path| {
            let path = path.to_path_buf();
            move |source| StorageError::Io { path, source }
        };
        let former = directory.join(FORMER_FILE);
        if former.exists() {
            let reason = "it is of an older version".into();
            return Err(StorageError::Unreadable { path: former, reason }.into());
        }
        if let Err(error) = fs::metadata(&path) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(io_error(&path)(error).into());
            }
            make_private(directory).map_err(io_error(directory))?;
            make_file(&path).map_err(io_error(&path))?;
        }
        let database = Builder::new().create(&path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StorageError::InUse { path: path.clone() },
            error => failed(&path, error),
        })?;
        let origin = read_origin(&database).map_err(|error| failed(&path, error))?;
        let (seed, created) = if let Some(origin) = origin {
            origin.map_err(|reason| StorageError::Unreadable { path: path.clone(), reason })?
        } else {
            let seed = random_numbers(seed)?.get_seed();
            write_origin(&database, &seed, now).map_err(|error| failed(&path, error))?;
            (seed, now)
        };
        Ok(Self { path, database, seed, created })
    }

    /// The random numbers that the cloud was first made with.
    pub(super) fn rng(&self) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(self.seed)
    }

    /// When the cloud was first made.
    pub(super) fn created(&self) -> UnixTime {
        self.created
    }

    /// Makes of a cloud what an earlier one has left, if there was one.
    pub(super) fn restore(&self, cloud: &mut Cloud, now: UnixTime) -> Result<(), StartError> {
        let records = self.read().map_err(|error| failed(&self.path, error))?;
        if records.is_empty() {
            return Ok(());
        }
        let records = records.iter().map(|(table, key, value)| (&**table, &**key, &**value));
        let now = Now { monotonic: Instant::ZERO, wall: Some(now) };
        let path = self.path.clone();
        Ok(cloud.restore(records, random_numbers(None)?, now).map_err(|error| match error {
            source @ RecordError::Hubs { .. } => StorageError::Fixture { path, source },
            error => StorageError::Unreadable { path, reason: error.to_string() },
        })?)
    }

    fn read(&self) -> Result<Vec<(String, String, String)>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(RECORDS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut records = Vec::new();
        for entry in table.iter()? {
            let (place, value) = entry?;
            let (table, key) = place.value();
            records.push((table.into(), key.into(), value.value().into()));
        }
        Ok(records)
    }

    /// Makes records durable, all or none.
    pub(super) fn save(&self, records: &[Record]) -> Result<(), StorageError> {
        self.write(records).map_err(|error| failed(&self.path, error))
    }

    fn write(&self, records: &[Record]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(RECORDS)?;
            for Record { table: name, key, value } in records {
                match value {
                    Some(value) => table.insert((*name, &**key), &**value)?,
                    None => table.remove((*name, &**key))?,
                };
            }
        }
        Ok(transaction.commit()?)
    }
}

type Origin = ([u8; 32], UnixTime);

fn read_origin(database: &Database) -> Result<Option<Result<Origin, String>>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(ORIGIN) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let read = |name: &str| {
        let value = table.get(name)?;
        Ok::<_, redb::Error>(value.map(|value| value.value().to_vec()).unwrap_or_default())
    };
    let format = u64::from_le_bytes(read("format")?.try_into().unwrap_or_default());
    if format != FORMAT {
        return Ok(Some(Err(format!("its format is {format}, not {FORMAT}"))));
    }
    let (seed, created) = (read("seed")?.try_into(), read("created")?.try_into());
    Ok(Some(match (seed, created) {
        (Ok(seed), Ok(created)) => Ok((seed, UnixTime::from_secs(i64::from_le_bytes(created)))),
        _ => Err("it does not say what it was made from".into()),
    }))
}

fn write_origin(database: &Database, seed: &[u8; 32], now: UnixTime) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(ORIGIN)?;
        table.insert("format", &FORMAT.to_le_bytes()[..])?;
        table.insert("seed", &seed[..])?;
        table.insert("created", &now.as_secs().to_le_bytes()[..])?;
    }
    Ok(transaction.commit()?)
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> StorageError {
    let path = path.to_path_buf();
    match error.into() {
        redb::Error::Io(source) => StorageError::Io { path, source },
        error => StorageError::Unreadable { path, reason: error.to_string() },
    }
}

fn make_private(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(directory)
}

/// Nobody else can read it, and its name is durable.
fn make_file(path: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?;
    match path.parent() {
        // Windows has no such call.
        Some(directory) if cfg!(unix) => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}
