//! How the emulator's commands and those of test authorities fail.

use std::path::PathBuf;

use thiserror::Error;
use zerotouch_emulator::pki::PkiError;
use zerotouch_emulator::server::StartError;

use crate::emulator::RemoteError;
use crate::failure::{CliError, exit};

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
            Self::Start(StartError::Storage(_)) => exit::STORAGE,
            Self::Issuer { .. }
            | Self::Pki(_)
            | Self::Fixture { .. }
            | Self::Remote(
                RemoteError::Request(_)
                | RemoteError::StandardInput(_)
                | RemoteError::Refused { status: 400, .. },
            ) => exit::USAGE,
            Self::Remote(RemoteError::NoEmulator { .. } | RemoteError::Answer(_))
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
            _ => return None,
        })
    }
}
