//! The few operations on a directory that durability depends on.

use std::string::String;
use std::vec::Vec;

use zeroize::Zeroizing;

use super::error::FileError;
use super::names::Names;

/// One directory. The file store on disk implements it by system calls; the tests implement it in
/// memory, where every operation can fail and every crash can be looked at.
pub(crate) trait Directory {
    /// A file open for writing.
    type File;

    /// An unpredictable name that begins with [`TEMPORARY_PREFIX`](super::names::TEMPORARY_PREFIX).
    fn temporary_name(&mut self) -> String;

    /// Creates `name` for its owner alone, from its first byte. Whatever exists there, a symbolic
    /// link among it, is an error.
    fn create_new(&mut self, name: &str) -> Result<Self::File, FileError>;

    /// Writes all of `bytes`.
    fn write(&mut self, file: &mut Self::File, bytes: &[u8]) -> Result<(), FileError>;

    /// Makes what was written durable. After an error the file is not synced again: the system may
    /// have marked its lost pages clean.
    fn sync(&mut self, file: &Self::File) -> Result<(), FileError>;

    /// Replaces `to` by `from`, atomically.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), FileError>;

    /// Makes the names in the directory durable.
    fn sync_directory(&mut self) -> Result<(), FileError>;

    /// Overwrites the content of `name` with zeros, durably.
    fn erase(&mut self, name: &str) -> Result<(), FileError>;

    /// Removes `name`.
    fn remove(&mut self, name: &str) -> Result<(), FileError>;

    /// The content of `name`, `None` if there is no such file. A file that others could have
    /// touched is an error.
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, FileError>;

    /// The names in the directory.
    fn names(&self) -> Result<Names, FileError>;

    /// The path of `name`, for messages.
    fn path_of(&self, name: &str) -> std::path::PathBuf;
}
