//! What can go wrong with files.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::string::String;

use zerotouch_credentials::{PemError, PrivateKeyError};

use crate::key::KeyReferenceError;
use crate::model::Identity;

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
        "{path} is in use by {}; one process at a time may change an identity or a queue",
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
    /// Others may replace what is in the directory above.
    #[error(
        "{path} has mode {mode:03o}, so others may replace what is in it; if nobody has: \
         chmod go-w {path}"
    )]
    LooseParent {
        /// The state directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file or directory of another user.
    #[error(
        "{path} belongs to user {owner}, not to the user running this ({user}); run this as that \
         user (as root: runuser -u \"$(id -nu {owner})\" -- …), or, if nobody else uses it and you \
         trust what is in it: chown -R {user} {path}"
    )]
    ForeignOwner {
        /// The file or directory.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
        /// The running user's id.
        user: u32,
    },
    /// A symbolic link, a hard link, a FIFO or a device where a plain file belongs.
    #[error(
        "{path} is a link or a special file, not a plain file or directory of its own; look at what \
         put it there, then: rm {path}"
    )]
    NotAPlainFile {
        /// The file.
        path: PathBuf,
    },
    /// The identity of another device, or this one's under another name. Nothing was changed.
    #[error(
        "{path} belongs to the registration {registration_id:?}; move the directory back to that \
         name, or away to provision anew"
    )]
    OtherRegistration {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        registration_id: String,
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

impl FileError {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
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

/// How much of an identity could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Everything.
    Whole,
    /// Not everything: the state before, or the generation before, stands in.
    Damaged,
    /// No generation is left: the device provisions anew from its bootstrap credential.
    Lost,
}

impl Condition {
    pub(crate) fn of(identity: &Identity, damage: &[Damage]) -> Self {
        let generations =
            identity.staged.iter().chain(&identity.active).chain(&identity.previous).count();
        match (damage, generations) {
            ([], _) => Self::Whole,
            (_, 0) => Self::Lost,
            _ => Self::Damaged,
        }
    }
}

/// A file that could not be used when the store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamageReason {
    /// There is no such file.
    #[error("the file is missing")]
    Missing,
    /// The system could not read it, or it is larger than anything the store writes.
    #[error("it cannot be read ({0})")]
    Unreadable(io::ErrorKind),
    /// Its bytes are not those that were written.
    #[error("the checksum does not match")]
    Checksum,
    /// Its checksum fits what is no record.
    #[error("the record is not understood: {0}")]
    Record(String),
    /// It was written under another name.
    #[error("it is a copy of another file of this store")]
    OtherFile,
    /// Its key cannot be read.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// The public half of its key in hardware cannot be read.
    #[error("the public key is malformed")]
    PublicKey,
    /// The address of its key in hardware cannot be used.
    #[error(transparent)]
    KeyReference(#[from] KeyReferenceError),
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
