//! A [`Directory`] on a real file system, relative to one opened descriptor.
//!
//! The directory is opened once and checked; everything after goes through its descriptor, so that
//! nobody can slip another directory or a link under a path between check and use.

use std::collections::hash_map::RandomState;
use std::format;
use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::vec;
use std::vec::Vec;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::directory::Directory;
use super::error::{FileError, Operation};
use super::names::{Names, TEMPORARY_PREFIX, is_directory_name};

/// The largest file that is read, in bytes; a bundle of the longest chain has about a tenth.
const MAX_FILE_LEN: u64 = 1024 * 1024;
/// Modes of files and directories: their owner's, and nobody else's.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Permission bits by which others may rename and remove what is in a directory, and the one that
/// keeps them from doing so with what is not theirs.
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// The directory of one registration.
#[derive(Debug)]
pub(crate) struct OsDirectory {
    descriptor: OwnedFd,
    path: PathBuf,
    checks: Checks,
}

/// Whether it matters who else could have read or replaced a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checks {
    Strict,
    /// Loose modes and foreign owners pass; links and special files never do.
    Insecure,
}

/// The lock of a store, held until dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not release it while a child process, between fork and exec, still
        // has a copy of the descriptor.
        self.0.unlock().ok();
    }
}

impl OsDirectory {
    /// Opens `<state_dir>/<registration_id>`, making both if they are missing.
    pub(crate) fn make(
        state_dir: &Path,
        registration_id: &str,
        checks: Checks,
    ) -> Result<Self, FileError> {
        let path = path_in(state_dir, registration_id)?;
        let not_writable = |source| FileError::NotWritable { path: path.clone(), source };
        make_directory(state_dir).map_err(not_writable)?;
        let parent = open_parent(state_dir, checks).map_err(|error| match error {
            FileError::Io { source, .. } => not_writable(source),
            other => other,
        })?;
        match fs::mkdirat(&parent, registration_id, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(not_writable(errno.into())),
        }
        // Whoever made it may have been killed before it was durable.
        fs::fsync(&parent).map_err(|errno| not_writable(errno.into()))?;
        Self::open_in(&parent, registration_id, path, checks)
    }

    /// Opens `<state_dir>/<registration_id>`, which must exist.
    pub(crate) fn open(
        state_dir: &Path,
        registration_id: &str,
        checks: Checks,
    ) -> Result<Self, FileError> {
        let path = path_in(state_dir, registration_id)?;
        let parent = open_parent(state_dir, checks)?;
        Self::open_in(&parent, registration_id, path, checks)
    }

    fn open_in(
        parent: &OwnedFd,
        name: &str,
        path: PathBuf,
        checks: Checks,
    ) -> Result<Self, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let refused = |errno| match errno {
            Errno::NOTDIR | Errno::LOOP => FileError::NotAPlainFile { path: path.clone() },
            // Somebody else's cannot even be opened; say whose it is.
            Errno::ACCESS => fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                .ok()
                .and_then(|stat| check_owner(&stat, &path).err())
                .unwrap_or_else(|| io_error(Operation::Open, &path, errno)),
            errno => io_error(Operation::Open, &path, errno),
        };
        let descriptor = fs::openat(parent, name, flags, Mode::empty()).map_err(refused)?;
        let stat =
            fs::fstat(&descriptor).map_err(|errno| io_error(Operation::Open, &path, errno))?;
        check_owner_and_mode(&stat, &path, DIRECTORY_MODE, checks)?;
        Ok(Self { descriptor, path, checks })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock `name` and writes this process's number into it.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock, FileError> {
        let path = self.path.join(name);
        let error =
            |source| FileError::Io { operation: Operation::Lock, path: path.clone(), source };
        let not_writable = |source| FileError::NotWritable { path: self.path.clone(), source };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor =
            self.open_at(name, flags, Operation::Lock).map_err(|error| match error {
                FileError::Io { source, .. } => not_writable(source),
                other => other,
            })?;
        let stat = fs::fstat(&descriptor).map_err(|errno| error(errno.into()))?;
        check_plain_file(&stat, &path)?;
        check_owner_and_mode(&stat, &path, FILE_MODE, self.checks)?;
        let mut file = File::from(descriptor);
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.take(16).read_to_string(&mut holder).ok();
                return Err(FileError::Locked { path, holder: holder.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
        let told = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        told.map_err(not_writable)?;
        Ok(Lock(file))
    }

    /// How long ago `name` was written, by a clock that may have been set since; `None` if that is
    /// in the future, or there is no such file.
    pub(crate) fn age(&self, name: &str) -> Option<Duration> {
        let stat = fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let written =
            UNIX_EPOCH.checked_add(Duration::from_secs(stat.st_mtime.try_into().ok()?))?;
        SystemTime::now().duration_since(written).ok()
    }

    fn open_at(
        &self,
        name: &str,
        flags: OFlags,
        operation: Operation,
    ) -> Result<OwnedFd, FileError> {
        let mode = Mode::from_raw_mode(FILE_MODE);
        fs::openat(&self.descriptor, name, flags, mode).map_err(|errno| match errno {
            Errno::LOOP | Errno::ISDIR => FileError::NotAPlainFile { path: self.path.join(name) },
            errno => io_error(operation, &self.path.join(name), errno),
        })
    }
}

impl Directory for OsDirectory {
    type File = (File, PathBuf);

    fn temporary_name(&mut self) -> String {
        // The standard library keys its hash maps from the system's randomness, a new one each.
        format!("{TEMPORARY_PREFIX}{:016x}", RandomState::new().build_hasher().finish())
    }

    fn create_new(&mut self, name: &str) -> Result<Self::File, FileError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = self.open_at(name, flags, Operation::Create)?;
        Ok((File::from(descriptor), self.path.join(name)))
    }

    fn write(&mut self, (file, path): &mut Self::File, bytes: &[u8]) -> Result<(), FileError> {
        file.write_all(bytes).map_err(|source| FileError::Io {
            operation: Operation::Write,
            path: path.clone(),
            source,
        })
    }

    fn sync(&mut self, (file, path): &Self::File) -> Result<(), FileError> {
        file.sync_all().map_err(|source| FileError::Io {
            operation: Operation::Sync,
            path: path.clone(),
            source,
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), FileError> {
        fs::renameat(&self.descriptor, from, &self.descriptor, to)
            .map_err(|errno| io_error(Operation::Rename, &self.path.join(to), errno))
    }

    fn sync_directory(&mut self) -> Result<(), FileError> {
        fs::fsync(&self.descriptor)
            .map_err(|errno| io_error(Operation::SyncDirectory, &self.path, errno))
    }

    fn erase(&mut self, name: &str) -> Result<(), FileError> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let descriptor = self.open_at(name, flags, Operation::Write)?;
        let path = self.path.join(name);
        let stat =
            fs::fstat(&descriptor).map_err(|errno| io_error(Operation::Write, &path, errno))?;
        check_plain_file(&stat, &path)?;
        let len = usize::try_from(stat.st_size).unwrap_or(0);
        let mut file = (File::from(descriptor), path);
        self.write(&mut file, &vec![0; len])?;
        self.sync(&file)
    }

    fn remove(&mut self, name: &str) -> Result<(), FileError> {
        fs::unlinkat(&self.descriptor, name, AtFlags::empty())
            .map_err(|errno| io_error(Operation::Remove, &self.path.join(name), errno))
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
        // Non-blocking, because opening a FIFO would otherwise wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let descriptor = match self.open_at(name, flags, Operation::Open) {
            Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        let path = self.path.join(name);
        let error =
            |source| FileError::Io { operation: Operation::Read, path: path.clone(), source };
        let stat = fs::fstat(&descriptor).map_err(|errno| error(errno.into()))?;
        check_plain_file(&stat, &path)?;
        check_owner_and_mode(&stat, &path, FILE_MODE, self.checks)?;
        let len = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if len > MAX_FILE_LEN {
            return Err(error(io::ErrorKind::FileTooLarge.into()));
        }
        // Sized at once, so that growing the buffer leaves no unwiped copy of a key.
        let mut bytes = Zeroizing::new(vec![0; usize::try_from(len).unwrap_or(0)]);
        File::from(descriptor).read_exact(&mut bytes).map_err(error)?;
        Ok(Some(bytes))
    }

    fn names(&self) -> Result<Names, FileError> {
        let error = |errno| io_error(Operation::List, &self.path, errno);
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.descriptor).map_err(error)? {
            // Names that are not UTF-8 are none of ours.
            if let Ok(name) = entry.map_err(error)?.file_name().to_str() {
                names.push(name.to_string());
            }
        }
        Ok(names)
    }

    fn path_of(&self, name: &str) -> PathBuf {
        if name == "." { self.path.clone() } else { self.path.join(name) }
    }
}

fn path_in(state_dir: &Path, registration_id: &str) -> Result<PathBuf, FileError> {
    if is_directory_name(registration_id) {
        return Ok(state_dir.join(registration_id));
    }
    Err(FileError::RegistrationId { registration_id: registration_id.to_string() })
}

/// Makes `path` and what is missing above it, each for its owner alone, each durable before the
/// next: a directory that a crash could take would take the identity with it.
fn make_directory(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    if path.is_dir() {
        // Whoever made it may have been killed before it was durable. If it is somebody else's
        // place, where we may not even look, it is theirs to have seen to that.
        File::open(parent).and_then(|parent| parent.sync_all()).ok();
        return Ok(());
    }
    make_directory(parent)?;
    match fs::mkdir(path, Mode::from_raw_mode(DIRECTORY_MODE)) {
        // Another process was faster; or something else is there, which opening it will tell.
        Ok(()) | Err(Errno::EXIST) => File::open(parent)?.sync_all(),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens the state directory, in which nobody else may put another directory in place of ours.
fn open_parent(path: &Path, checks: Checks) -> Result<OwnedFd, FileError> {
    let error = |errno| io_error(Operation::Open, path, errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptor = fs::open(path, flags, Mode::empty()).map_err(error)?;
    let stat = fs::fstat(&descriptor).map_err(error)?;
    if checks == Checks::Strict {
        if stat.st_uid != 0 {
            check_owner(&stat, path)?;
        }
        if stat.st_mode & OTHERS_WRITE != 0 && stat.st_mode & STICKY == 0 {
            let mode = stat.st_mode & 0o777;
            return Err(FileError::LooseParent { path: path.to_path_buf(), mode });
        }
    }
    Ok(descriptor)
}

fn check_plain_file(stat: &Stat, path: &Path) -> Result<(), FileError> {
    // A second name for the file would be a second way to its content.
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink > 1 {
        return Err(FileError::NotAPlainFile { path: path.to_path_buf() });
    }
    Ok(())
}

fn check_owner_and_mode(
    stat: &Stat,
    path: &Path,
    wanted: u32,
    checks: Checks,
) -> Result<(), FileError> {
    if checks == Checks::Insecure {
        return Ok(());
    }
    check_owner(stat, path)?;
    let mode = stat.st_mode & 0o777;
    if mode & !wanted != 0 {
        return Err(FileError::LooseMode { path: path.to_path_buf(), mode, wanted });
    }
    Ok(())
}

fn check_owner(stat: &Stat, path: &Path) -> Result<(), FileError> {
    let user = rustix::process::geteuid().as_raw();
    if stat.st_uid == user {
        return Ok(());
    }
    Err(FileError::ForeignOwner { path: path.to_path_buf(), owner: stat.st_uid, user })
}

fn io_error(operation: Operation, path: &Path, errno: Errno) -> FileError {
    FileError::Io { operation, path: path.to_path_buf(), source: errno.into() }
}
