#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | | |
//! |---|---|
//! | [`Identity`], [`Generation`], [`Pending`] | what a device is: pure data |
//! | [`Key`], [`KeyReference`] | its private key: in memory, or in hardware |
//! | [`Change`] | how that may change: a pure function, [`Identity::apply`] |
//! | [`Store`] | where it rests, and what that place promises |
//! | [`MemoryStore`] | memory: for tests and simulations |
//! | [`FileStore`] | files that survive any crash (feature `file`, Unix) |
//! | [`RecordQueue`], [`FileQueue`] | records that wait, and the same promise for them |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "file"))]
extern crate std;

#[cfg(all(feature = "file", unix))]
pub mod file;
mod key;
mod memory;
mod model;
mod queue;
mod store;
#[cfg(test)]
mod testing;

#[cfg(all(feature = "file", unix))]
pub use crate::file::queue::FileQueue;
#[cfg(all(feature = "file", unix))]
pub use crate::file::{FileError, FileStore, FileStoreOptions};
pub use crate::key::{Key, KeyReference, KeyReferenceError, MAX_KEY_URI_LEN};
pub use crate::memory::MemoryStore;
pub use crate::model::{Change, DEFAULT_RETAINED, Generation, Identity, ModelError, Pending};
pub use crate::queue::{RecordQueue, Waiting};
pub use crate::store::{Store, StoreError};
