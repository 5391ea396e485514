//! How the emulator's commands and those of test authorities fail.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use zerotouch_credentials::MAX_COMMON_NAME_CHARS;
use zerotouch_device::{Failure, Scope};
use zerotouch_emulator::pki::PkiError;
use zerotouch_emulator::server::StartError;

use crate::emulator::RemoteError;
use crate::failure::{CliError, exit, failure_code, failure_remedy};

/// Why one of them did not do what it was asked.
#[derive(Debug, Error)]
pub(crate) enum EmulationError {
    #[error("cannot issue with {path}: {source}")]
    Issuer { path: PathBuf, source: PkiError },
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot begin with {path}: {reason}")]
    Fixture { path: PathBuf, reason: String },
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("the emulator has no enrolment group {0}")]
    NoGroup(&'static str),
    #[error("cannot make a temporary directory: {0}")]
    TemporaryDirectory(io::Error),
    #[error(
        "the {what} has {found} characters; a certificate's name takes {MAX_COMMON_NAME_CHARS} at most"
    )]
    NameTooLong { what: &'static str, found: usize },
    #[error("that is no verification code: letters and digits, and nothing else")]
    VerificationCode,
    #[error("{sent} messages were acknowledged, and {arrived} arrived")]
    Unconfirmed { sent: u32, arrived: u32 },
    #[error("{host} is not on this machine")]
    RemoteHost { host: String },
    #[error("{connections} connections need {needed} open files, and there is room for {room}")]
    Descriptors { connections: u32, room: u64, needed: u64 },
    #[error("{failed} of {devices} devices failed, the first at the {scope}: {failure}")]
    FleetAttempts { failed: u32, devices: u32, scope: Scope, failure: Failure },
    #[error("{lost} messages were not acknowledged")]
    FleetUnacknowledged { lost: u64 },
    #[error("not all was done within {seconds} s")]
    FleetLimit { seconds: u32 },
}

impl From<EmulationError> for CliError {
    fn from(error: EmulationError) -> Self {
        Self::Emulation(error)
    }
}

impl From<PkiError> for CliError {
    fn from(error: PkiError) -> Self {
        Self::Emulation(error.into())
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        Self::Emulation(error.into())
    }
}

impl From<RemoteError> for CliError {
    fn from(error: RemoteError) -> Self {
        Self::Emulation(error.into())
    }
}

impl EmulationError {
    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Start(StartError::Storage(_)) | Self::TemporaryDirectory(_) => exit::STORAGE,
            Self::FleetAttempts { failure, .. } => failure_code(failure),
            Self::FleetLimit { .. } => exit::THROTTLED,
            Self::Issuer { .. }
            | Self::Pki(_)
            | Self::Fixture { .. }
            | Self::NameTooLong { .. }
            | Self::VerificationCode
            | Self::RemoteHost { .. }
            | Self::Descriptors { .. }
            | Self::Remote(
                RemoteError::Request(_)
                | RemoteError::StandardInput(_)
                | RemoteError::Refused { status: 400, .. },
            ) => exit::USAGE,
            Self::Remote(RemoteError::NoEmulator { .. } | RemoteError::Answer(_))
            | Self::Unconfirmed { .. }
            | Self::FleetUnacknowledged { .. }
            | Self::Start(StartError::AddressInUse { .. } | StartError::Listen { .. }) => {
                exit::NETWORK
            }
            Self::Start(_) | Self::Remote(RemoteError::Refused { .. }) | Self::NoGroup(_) => {
                exit::ACTION_NEEDED
            }
        }
    }

    /// What to do about it.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Issuer { .. } => {
                "give the issuer with --issuer PATH: its certificate is PATH.cert.pem, its key PATH.key.pem"
            }
            Self::Pki(PkiError::OutlivesIssuer { .. }) => {
                "ask for fewer --days, or for none: then it ends with its issuer at the latest"
            }
            Self::Start(StartError::AddressInUse { .. }) => {
                "choose another with --port; 0 takes a free one"
            }
            Self::Remote(RemoteError::NoEmulator { .. }) => {
                "start one with zerotouch emulator, or name its port with --port"
            }
            Self::NameTooLong { .. } => "choose a shorter name",
            Self::VerificationCode => {
                "copy the code from the page of the uploaded certificate, or from \
                 az iot dps certificate generate-verification-code"
            }
            Self::RemoteHost { .. } => {
                "a load there costs somebody money and quota: where that somebody is you, --allow-remote"
            }
            Self::Descriptors { .. } => {
                "raise the limit with ulimit -n (perhaps as root: ulimit -Hn), or take fewer --devices"
            }
            Self::FleetLimit { .. } => "take fewer --devices, or a longer --limit",
            Self::FleetAttempts { scope, failure, .. } => return failure_remedy(*scope, failure),
            Self::Unconfirmed { .. } => {
                "run again: the identity is stored, and provisioning will be skipped"
            }
            _ => return None,
        })
    }
}
