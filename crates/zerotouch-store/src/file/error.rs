//! What can go wrong with files.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::string::String;

use zerotouch_credentials::{PemError, PrivateKeyError};

/// Why the file store failed. Every variant names the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The registration id cannot be the name of a directory.
    #[error(
        "the registration id {registration_id:?} cannot name a directory (letters, digits and \
         -._: only, at most 128, not beginning with a dot)"
    )]
    RegistrationId {
        /// The id.
        registration_id: String,
    },
    /// Nothing can be written there, found before anything was at stake.
    #[error(
        "cannot write to {path}: {source}; choose a state directory on a writable disk with space"
    )]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error(
        "{path} is in use by {}; one process at a time may change an identity",
        Holder(*.holder)
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process, if its number could be read.
        holder: Option<u32>,
    },
    /// Others may read or change what only the owner may.
    #[error(
        "{path} has mode {mode:03o}, so others may have read the key; if you trust it still: \
         chmod {wanted:03o} {path}"
    )]
    LooseMode {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The permission bits it must have at most.
        wanted: u32,
    },
    /// A file or directory of another user.
    #[error("{path} belongs to user {owner}, not to the user running this ({user})")]
    ForeignOwner {
        /// The file or directory.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
        /// The running user's id.
        user: u32,
    },
    /// A symbolic link, a hard link, a FIFO or a device where a plain file belongs.
    #[error("{path} is not a plain file of its own (a link or a special file); remove it")]
    NotAPlainFile {
        /// The file.
        path: PathBuf,
    },
    /// `identity.json` cannot be understood. Nothing was changed.
    #[error(
        "{path} is corrupt ({reason}); restore it, or move the directory away to provision anew"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Written by a later version of this software. Nothing was changed.
    #[error("{path} has format {format}, which is newer than this software; update it")]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// A system call failed.
    #[error("could not {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: Operation,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// An operation on a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Open an existing file or directory.
    Open,
    /// Create a file.
    Create,
    /// Read a file.
    Read,
    /// Write a file.
    Write,
    /// Make a file's content durable.
    Sync,
    /// Give a file its final name.
    Rename,
    /// Make the names in a directory durable.
    SyncDirectory,
    /// Remove a file.
    Remove,
    /// List a directory.
    List,
    /// Take the lock.
    Lock,
    /// Put a key into its text form.
    Encode,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Rename => "rename to",
            Self::SyncDirectory => "sync the directory of",
            Self::Remove => "remove",
            Self::List => "list",
            Self::Lock => "lock",
            Self::Encode => "encode the key for",
        })
    }
}

/// A bundle that could not be used when the store was opened.
#[derive(Debug)]
pub struct Damage {
    /// Where it lies now.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: DamageReason,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// Why a bundle cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamageReason {
    /// There is no such file.
    #[error("the file is missing")]
    Missing,
    /// Its bytes are not those that were written.
    #[error("the checksum does not match")]
    Checksum,
    /// Its key cannot be read.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// Its chain cannot be read.
    #[error(transparent)]
    Chain(#[from] PemError),
    /// Its key does not sign for its certificate.
    #[error("the key does not belong to the certificate")]
    KeyMismatch,
}

struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}
