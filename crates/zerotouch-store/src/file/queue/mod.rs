//! A queue of records in files that survive any crash.
//!
//! ```text
//! <state-dir>/<registration-id>/   0700
//!     queue-7.log   records: messages, and which are finished
//!     queue-8.log
//!     queue.lock    held while a process has the queue open; contains its pid
//! ```
//!
//! Messages are appended to the last file and made durable by one `fsync`, however many they are. That a
//! message is finished is written behind them and not waited for. A file goes once nothing in it, or in
//! one before it, waits; what waits in a file that has become mostly empty is moved to the end. So the
//! queue takes on disk at most twice what waits and 1 MiB, however long it lives.
//!
//! A file to which anything failed is not written again: its messages were refused, and the next go into
//! a new one. So does what is written after a restart, which leaves a torn record behind it alone.

mod segment;
mod spool;

#[cfg(test)]
mod crashes;

use std::ops::Range;
use std::path::Path;
use std::vec::Vec;

use self::spool::{Spool, Terms};
use super::os::{Checks, Lock, OsDirectory};
use crate::queue::{RecordQueue, Waiting};
use crate::store::StoreError;

/// Held by the process that has the queue open.
const LOCK: &str = "queue.lock";
const TERMS: Terms = Terms { segment_len: 512 * 1024, block_len: 4096 };
/// The longest record, in bytes: what the hub takes, with all its properties, has less.
pub const MAX_RECORD_LEN: usize = 400 * 1024;

/// The queue of one registration, in files. See the [module documentation](self).
///
/// It may share its directory with a [`FileStore`](crate::FileStore).
#[derive(Debug)]
pub struct FileQueue {
    spool: Spool<OsDirectory>,
    // Held, not read: dropping it lets the next process in.
    _lock: Lock,
}

impl FileQueue {
    /// Opens the queue of `registration_id` under `state_dir`, making both directories if they are
    /// missing, and takes its lock.
    pub fn open(state_dir: &Path, registration_id: &str) -> Result<Self, StoreError> {
        let directory = OsDirectory::make(state_dir, registration_id, Checks::Strict)?;
        let lock = directory.lock(LOCK)?;
        Ok(Self { spool: Spool::open(directory, TERMS)?, _lock: lock })
    }
}

impl RecordQueue for FileQueue {
    fn load(&mut self) -> Result<Waiting, StoreError> {
        Ok(self.spool.load()?)
    }

    fn append(&mut self, records: &[Vec<u8>]) -> Result<Range<u64>, StoreError> {
        Ok(self.spool.append(records)?)
    }

    fn finish(&mut self, numbers: &[u64]) -> Result<(), StoreError> {
        Ok(self.spool.finish(numbers)?)
    }
}
