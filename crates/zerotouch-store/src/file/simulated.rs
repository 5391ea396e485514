//! A directory in memory that can lose power: the file layer of the crash tests and of simulations.
//!
//! It keeps apart what the running system shows and what the disk holds, and enumerates what the
//! disk may hold after a loss of power: of the un-synced changes of names any subset, and of each
//! file with un-synced data the old content, the new, or the new torn: cut, or without its beginning.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::format;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::string::{String, ToString};
#[cfg(test)]
use std::vec;
use std::vec::Vec;

use zeroize::Zeroizing;

use super::directory::Directory;
use super::error::{FileError, Operation};
use super::names::{Names, TEMPORARY_PREFIX};

/// Names and contents, as one finds them after a crash.
#[cfg(test)]
pub(crate) type Contents = BTreeMap<String, Vec<u8>>;

/// What happens when the fuse has burnt down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: a write is torn, nothing else happens, and nothing will any more.
    Crash,
    /// The operation fails without effect; the next ones work. A file that failed to sync stays
    /// lost, whatever later syncs of it report.
    Fail,
    /// The operation has its effect and reports failure; the next ones work.
    FailLate,
    /// The disk is full: nothing that needs space works until it is mended.
    Full,
    /// A write stops half-way and reports success.
    Short,
}

/// How an operation comes about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Whole,
    Half,
    /// It reports failure and spoils what it was for.
    Spoilt,
}

#[derive(Clone, Copy, Default)]
enum Fuse {
    #[default]
    None,
    Burning {
        operations: usize,
        fault: Fault,
    },
    Struck,
    PowerOff,
}

#[derive(Clone, Default)]
struct Disk {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced: Vec<NameChange>,
    temporaries: usize,
    operations: usize,
    fuse: Fuse,
    full: bool,
    failing_syncs: usize,
}

#[derive(Clone, Default)]
struct Content {
    shown: Vec<u8>,
    durable: Vec<u8>,
    /// Its dirty pages were dropped, and count as clean.
    lost: bool,
    /// It has held a private key.
    #[cfg(test)]
    keyed: bool,
}

#[derive(Clone)]
enum NameChange {
    Link { name: String, file: usize },
    Rename { from: String, to: String, file: usize },
    Unlink { name: String },
}

/// The directory. Clones of the handle share one disk.
#[derive(Clone, Default)]
pub struct Simulated(Rc<RefCell<Disk>>);

/// Names, and nothing of what is in them.
impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Simulated").field(&self.0.borrow().names.keys()).finish()
    }
}

impl Simulated {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same machine once more, un-synced changes and all; the fuse taken out, the power on.
    #[must_use]
    pub fn fork(&self) -> Self {
        let disk = Disk { fuse: Fuse::None, ..self.0.borrow().clone() };
        Self(Rc::new(RefCell::new(disk)))
    }

    /// Lets `operations` succeed, then strikes once.
    pub fn arm(&self, operations: usize, fault: Fault) {
        self.0.borrow_mut().fuse = Fuse::Burning { operations, fault };
    }

    /// Takes the fuse out. Power that is off stays off.
    pub fn disarm(&self) {
        let mut disk = self.0.borrow_mut();
        if !matches!(disk.fuse, Fuse::PowerOff) {
            disk.fuse = Fuse::None;
        }
    }

    /// Whether the fault has struck.
    pub fn has_struck(&self) -> bool {
        matches!(self.0.borrow().fuse, Fuse::Struck | Fuse::PowerOff)
    }

    /// How many operations there have been.
    pub fn operations(&self) -> usize {
        self.0.borrow().operations
    }

    /// There is space again.
    pub fn mend(&self) {
        self.0.borrow_mut().full = false;
    }

    /// The power goes, and comes back: what the disk holds is one of the states that
    /// this may leave. `draw` chooses among so many, counted from 0.
    pub fn lose_power(&self, mut draw: impl FnMut(usize) -> usize) {
        let mut disk = self.0.borrow_mut();
        let disk = &mut *disk;
        for change in std::mem::take(&mut disk.unsynced) {
            if draw(2) == 1 {
                change.apply_to(&mut disk.durable_names);
            }
        }
        disk.names = disk.durable_names.clone();
        for &file in disk.names.values() {
            let content = &mut disk.files[file];
            if content.shown != content.durable {
                let versions = content.versions();
                let drawn = draw(versions.len());
                content.durable = versions.into_iter().nth(drawn).unwrap_or_default();
                content.shown = content.durable.clone();
            }
            content.lost = false;
        }
        disk.fuse = Fuse::None;
    }

    /// Performs an operation, or what is left of it once the fuse has burnt down.
    fn operate<T>(
        &self,
        operation: Operation,
        name: &str,
        effect: impl FnOnce(&mut Disk, Effect) -> io::Result<T>,
    ) -> Result<T, FileError> {
        let mut disk = self.0.borrow_mut();
        let failed = || Err(io::Error::other("a fault was injected"));
        let needs_space =
            matches!(operation, Operation::Create | Operation::Write | Operation::Rename);
        disk.operations += 1;
        let strikes = match &mut disk.fuse {
            Fuse::None | Fuse::Struck | Fuse::PowerOff => None,
            Fuse::Burning { operations: 0, fault } => Some(*fault),
            Fuse::Burning { operations, .. } => {
                *operations -= 1;
                None
            }
        };
        if let Some(fault) = strikes {
            disk.fuse = if fault == Fault::Crash { Fuse::PowerOff } else { Fuse::Struck };
            disk.full |= fault == Fault::Full;
        }
        let done = match (strikes, operation) {
            (None, _) if matches!(disk.fuse, Fuse::PowerOff) => {
                Err(io::Error::other("the power is off"))
            }
            (None | Some(Fault::Full | Fault::Short), _) if disk.full && needs_space => {
                Err(io::ErrorKind::StorageFull.into())
            }
            (Some(Fault::Short), Operation::Write) => effect(&mut disk, Effect::Half),
            (None | Some(Fault::Full | Fault::Short), _) => effect(&mut disk, Effect::Whole),
            (Some(Fault::Crash), Operation::Write) if !disk.full => {
                effect(&mut disk, Effect::Half).and_then(|_| failed())
            }
            (Some(Fault::Fail), Operation::Sync) => {
                effect(&mut disk, Effect::Spoilt).and_then(|_| failed())
            }
            (Some(Fault::FailLate), _) => effect(&mut disk, Effect::Whole).and_then(|_| failed()),
            (Some(Fault::Crash | Fault::Fail), _) => failed(),
        };
        done.map_err(|source| FileError::Io { operation, path: self.path_of(name), source })
    }
}

#[cfg(test)]
impl Simulated {
    /// A directory that holds `contents` durably.
    pub(crate) fn from_contents(contents: &Contents) -> Self {
        let mut disk = Disk::default();
        for (name, bytes) in contents {
            disk.names.insert(name.clone(), disk.files.len());
            disk.files.push(Content {
                shown: bytes.clone(),
                durable: bytes.clone(),
                ..Content::default()
            });
        }
        disk.durable_names = disk.names.clone();
        Self(Rc::new(RefCell::new(disk)))
    }

    /// Lets the next `syncs` syncs of files fail, and lose what they were for.
    pub(crate) fn fail_syncs(&self, syncs: usize) {
        self.0.borrow_mut().failing_syncs = syncs;
    }

    /// What is in the blocks of files that held a key and have no name any more.
    pub(crate) fn removed(&self) -> Vec<(usize, Vec<u8>)> {
        let disk = self.0.borrow();
        let named: BTreeSet<usize> = disk.names.values().copied().collect();
        let files = disk.files.iter().enumerate();
        let unnamed = files.filter(|(file, content)| content.keyed && !named.contains(file));
        unnamed.map(|(file, content)| (file, content.durable.clone())).collect()
    }

    /// The file names that a process sees.
    pub(crate) fn shown(&self) -> Contents {
        let disk = self.0.borrow();
        let content =
            |(name, &file): (&String, &usize)| (name.clone(), disk.files[file].shown.clone());
        disk.names.iter().map(content).collect()
    }

    /// Everything that a loss of power now may leave.
    pub(crate) fn after_power_loss(&self) -> BTreeSet<Contents> {
        let disk = self.0.borrow();
        let changes = disk.unsynced.len();
        assert!(changes < 12, "{changes} un-synced names are too many to enumerate");
        let survivors = 0..1_u32 << changes;
        survivors.flat_map(|survivors| disk.with_surviving(survivors)).collect()
    }
}

#[cfg(test)]
impl Disk {
    fn with_surviving(&self, survivors: u32) -> Vec<Contents> {
        let mut names = self.durable_names.clone();
        for (at, change) in self.unsynced.iter().enumerate() {
            if survivors & (1 << at) != 0 {
                change.apply_to(&mut names);
            }
        }
        let mut states = vec![Contents::new()];
        for (name, file) in names {
            let versions = self.files[file].versions();
            let with = |(contents, version): (&Contents, &Vec<u8>)| {
                let mut contents = contents.clone();
                contents.insert(name.clone(), version.clone());
                contents
            };
            states = states
                .iter()
                .flat_map(|contents| versions.iter().map(move |version| (contents, version)))
                .map(with)
                .collect();
        }
        states
    }
}

impl Disk {
    fn change(&mut self, change: NameChange) {
        change.apply_to(&mut self.names);
        self.unsynced.push(change);
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Content {
    /// What may be found after a loss of power.
    fn versions(&self) -> BTreeSet<Vec<u8>> {
        if self.shown == self.durable {
            return BTreeSet::from([self.durable.clone()]);
        }
        let written = self.shown.strip_prefix(&*self.durable).unwrap_or(&self.shown);
        let synced = self.shown.len() - written.len();
        let half = synced + written.len() / 2;
        let torn = self.shown[..half].to_vec();
        // The later page came to the disk, the one before it did not.
        let mut swapped = self.shown.clone();
        swapped[synced..half].fill(0);
        BTreeSet::from([self.durable.clone(), torn, swapped, self.shown.clone()])
    }
}

impl NameChange {
    fn apply_to(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link { name, file } => {
                names.insert(name.clone(), *file);
            }
            Self::Rename { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
        }
    }
}

impl Directory for Simulated {
    type File = usize;

    fn temporary_name(&mut self) -> String {
        let mut disk = self.0.borrow_mut();
        disk.temporaries += 1;
        format!("{TEMPORARY_PREFIX}{}", disk.temporaries)
    }

    fn create_new(&mut self, name: &str) -> Result<usize, FileError> {
        self.operate(Operation::Create, name, |disk, _| {
            if disk.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = disk.files.len();
            disk.files.push(Content::default());
            disk.change(NameChange::Link { name: name.to_string(), file });
            Ok(file)
        })
    }

    fn write(&mut self, file: &mut usize, bytes: &[u8]) -> Result<(), FileError> {
        self.operate(Operation::Write, "a file", |disk, effect| {
            let half = effect == Effect::Half;
            let bytes = if half { &bytes[..bytes.len() / 2] } else { bytes };
            let content = &mut disk.files[*file];
            content.shown.extend_from_slice(bytes);
            #[cfg(test)]
            {
                content.keyed |= bytes.windows(11).any(|window| window == b"PRIVATE KEY");
            }
            Ok(())
        })
    }

    fn sync(&mut self, file: &usize) -> Result<(), FileError> {
        self.operate(Operation::Sync, "a file", |disk, effect| {
            let failing = disk.failing_syncs > 0;
            disk.failing_syncs = disk.failing_syncs.saturating_sub(1);
            let content = &mut disk.files[*file];
            content.lost |= effect == Effect::Spoilt || failing;
            if !content.lost {
                content.durable = content.shown.clone();
            }
            if failing { Err(io::Error::other("the device failed")) } else { Ok(()) }
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), FileError> {
        self.operate(Operation::Rename, to, |disk, _| {
            let file = disk.file(from)?;
            let (from, to) = (from.to_string(), to.to_string());
            disk.change(NameChange::Rename { from, to, file });
            Ok(())
        })
    }

    fn sync_directory(&mut self) -> Result<(), FileError> {
        self.operate(Operation::SyncDirectory, ".", |disk, _| {
            disk.durable_names = disk.names.clone();
            disk.unsynced.clear();
            Ok(())
        })
    }

    fn erase(&mut self, name: &str) -> Result<(), FileError> {
        self.operate(Operation::Write, name, |disk, effect| {
            let file = disk.file(name)?;
            let len = disk.files[file].shown.len();
            let content = &mut disk.files[file];
            content.shown[..if effect == Effect::Half { len / 2 } else { len }].fill(0);
            content.durable = content.shown.clone();
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> Result<(), FileError> {
        self.operate(Operation::Remove, name, |disk, _| {
            disk.file(name)?;
            disk.change(NameChange::Unlink { name: name.to_string() });
            Ok(())
        })
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
        let disk = self.0.borrow();
        Ok(disk.names.get(name).map(|&file| Zeroizing::new(disk.files[file].shown.clone())))
    }

    fn names(&self) -> Result<Names, FileError> {
        Ok(self.0.borrow().names.keys().cloned().collect())
    }

    fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }
}
