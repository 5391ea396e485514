//! A directory that is handled carelessly, in one way at a time: what tests the tests. Each slip is
//! a mistake that one could make in the vault or the queue, made beneath it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;

use zeroize::Zeroizing;

use super::directory::Directory;
use super::error::FileError;
use super::names::Names;
use super::simulated::Simulated;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slip {
    /// A file is renamed before its content is durable, and never made so.
    NoFileSync,
    /// New names are never made durable.
    NoDirectorySync,
    /// A file is made durable after it got its name.
    RenameFirst,
    /// A file that failed to sync is synced again.
    SyncAgain,
    /// A file is synced once, as if what is appended later came along.
    SyncOnce,
    /// A file that failed to sync counts as synced.
    SyncRegardless,
    /// What is written is not read back.
    NoReadBack,
}

/// The directory, and the slip if there is one.
#[derive(Clone)]
pub(crate) struct Careless {
    directory: Simulated,
    slip: Option<Slip>,
    unsynced: Option<usize>,
    synced: BTreeSet<usize>,
    written: Option<(String, Vec<u8>)>,
}

impl Careless {
    pub(crate) const fn new(directory: Simulated, slip: Option<Slip>) -> Self {
        Self { directory, slip, unsynced: None, synced: BTreeSet::new(), written: None }
    }
}

impl Directory for Careless {
    type File = usize;

    fn temporary_name(&mut self) -> String {
        self.directory.temporary_name()
    }

    fn create_new(&mut self, name: &str) -> Result<usize, FileError> {
        self.written = Some((name.into(), Vec::new()));
        self.directory.create_new(name)
    }

    fn write(&mut self, file: &mut usize, bytes: &[u8]) -> Result<(), FileError> {
        if let Some((_, written)) = &mut self.written {
            written.extend_from_slice(bytes);
        }
        self.directory.write(file, bytes)
    }

    fn sync(&mut self, file: &usize) -> Result<(), FileError> {
        match self.slip {
            Some(Slip::NoFileSync) => Ok(()),
            Some(Slip::RenameFirst) => {
                self.unsynced = Some(*file);
                Ok(())
            }
            Some(Slip::SyncAgain) => {
                self.directory.sync(file).or_else(|_| self.directory.sync(file))
            }
            Some(Slip::SyncOnce) if self.synced.contains(file) => Ok(()),
            Some(Slip::SyncRegardless) => {
                self.directory.sync(file).ok();
                Ok(())
            }
            _ => {
                self.synced.insert(*file);
                self.directory.sync(file)
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), FileError> {
        self.directory.rename(from, to)?;
        self.unsynced.take().map_or(Ok(()), |file| self.directory.sync(&file))
    }

    fn sync_directory(&mut self) -> Result<(), FileError> {
        match self.slip {
            Some(Slip::NoDirectorySync) => Ok(()),
            _ => self.directory.sync_directory(),
        }
    }

    fn erase(&mut self, name: &str) -> Result<(), FileError> {
        self.directory.erase(name)
    }

    fn remove(&mut self, name: &str) -> Result<(), FileError> {
        self.directory.remove(name)
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
        match (&self.written, self.slip) {
            (Some((written, bytes)), Some(Slip::NoReadBack)) if written == name => {
                Ok(Some(bytes.clone().into()))
            }
            _ => self.directory.read(name),
        }
    }

    fn names(&self) -> Result<Names, FileError> {
        self.directory.names()
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.directory.path_of(name)
    }
}
