//! How the tool fails: a cause, a remedy, an exit code.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;
use zerotouch_credentials::{PrivateKeyError, RequestError as CertificateRequestError};
use zerotouch_device::{ConfigError, Failure, Scope, TransportFailureKind};
use zerotouch_dps::{IdError, RegistrationError};
use zerotouch_mqtt_codec::ConnectRefusal;
use zerotouch_mqtt_session::CloseReason;
use zerotouch_pkcs11::KeyReferenceError;
use zerotouch_store::StoreError;
use zerotouch_tokio::{ProxyError, RenewError, ReportError, RespondError, SendError, StartError};

#[cfg(feature = "emulator")]
use crate::emulation::EmulationError;
#[cfg(feature = "tools")]
use crate::mqtt::MqttError;
use crate::request::RequestError;
use crate::settings::{SettingsFileError, SetupError};

/// Exit codes; 2 is also what a faulty command line ends with.
pub(crate) mod exit {
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const ACTION_NEEDED: u8 = 3;
    pub(crate) const IDENTITY_REFUSED: u8 = 4;
    pub(crate) const NETWORK: u8 = 5;
    pub(crate) const THROTTLED: u8 = 6;
    pub(crate) const CERTIFICATE: u8 = 7;
    pub(crate) const STORAGE: u8 = 8;
    /// Bytes that are no packets, `EX_DATAERR` of `sysexits.h`; and those that end within one.
    pub(crate) const MALFORMED: u8 = 65;
    pub(crate) const INCOMPLETE: u8 = 66;
    /// As a shell reports SIGINT.
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// Why a command did not do what it was asked.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    #[error("no runtime: {0}")]
    Runtime(io::Error),
    /// The command line, or `--help`.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    #[error(transparent)]
    SettingsFile(#[from] SettingsFileError),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    DeviceConfig(ConfigError),
    #[error("the proxy's password is given on the command line, or in the settings")]
    LiteralProxy,
    #[error("--proxy: {0}")]
    Proxy(#[from] ProxyError),
    #[error("the key is given on the command line, or in the settings")]
    LiteralSecret,
    #[error("cannot read the key from {reference}: {reason}")]
    Secret { reference: String, reason: String },
    #[error(transparent)]
    Id(#[from] IdError),
    #[error("cannot read {path}: {source}")]
    CaFile { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} is there already")]
    Exists { path: PathBuf },
    #[error("cannot read the certificate {path}: {reason}")]
    Certificate { path: PathBuf, reason: String },
    #[error(transparent)]
    KeyReference(#[from] KeyReferenceError),
    #[error("the key was not made: {0}")]
    Key(#[from] PrivateKeyError),
    #[error(transparent)]
    Randomness(StartError),
    #[error("this machine's clock is not set")]
    ClockUnset,
    #[error("the device would be refused, for {errors} reason{}", if *.errors == 1 { "" } else { "s" })]
    Unfit { errors: usize },
    #[error(transparent)]
    CertificateRequest(#[from] CertificateRequestError),
    #[error("cannot read the request {path}: {reason}")]
    RequestFile { path: PathBuf, reason: String },
    #[cfg(feature = "tools")]
    #[error(transparent)]
    Mqtt(#[from] MqttError),
    #[cfg(feature = "emulator")]
    #[error(transparent)]
    Emulation(EmulationError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("{scope}: {failure}")]
    Attempt { scope: Scope, failure: Failure },
    #[error("provisioning service: status {status}, asking again in {} s", retry_in.as_secs())]
    Throttled { status: u16, retry_in: Duration },
    #[error("telemetry: {0}")]
    Telemetry(#[from] SendError),
    #[error("twin: {0}")]
    Report(#[from] ReportError),
    #[error("the twin was not read yet")]
    NoTwin,
    #[error("no call {0:?} awaits an answer")]
    NoCall(String),
    #[error("method: {0}")]
    Respond(#[from] RespondError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("{0}")]
    Line(&'static str),
    #[error("{what} is no JSON object: {source}")]
    Json { what: &'static str, source: serde_json::Error },
    #[error("cannot read standard input: {0}")]
    StandardInput(io::Error),
    #[error("no signals: {0}")]
    Signals(io::Error),
    #[error("the agent's socket {path}: {source}")]
    Socket { path: PathBuf, source: io::Error },
    #[error("the agent did not answer: {0}")]
    AgentGone(io::Error),
    #[error("no {what} within {} s", after.as_secs())]
    TimedOut { what: &'static str, after: Duration },
    #[error("registration-id, state-dir and socket cannot change while the agent runs")]
    NeedsRestart,
    /// What the agent said, in the shape of every document.
    #[error("{}", .0["message"].as_str().unwrap_or("the agent failed"))]
    Agent(Value),
    #[error("the agent runs and has no identity yet")]
    AgentRuns,
    #[error("the device is not provisioned")]
    NotProvisioned,
    #[error("the identity that was stored is lost: none of its files can be read")]
    IdentityLost,
    #[error("the certificate has expired")]
    Expired,
    #[error("the doctor has found {problems} problem{}", if *.problems == 1 { "" } else { "s" })]
    Ailing { problems: usize, code: u8 },
    #[error("renewal: {0}")]
    Renewal(#[from] RenewError),
    #[error("the device stopped before it was done")]
    Stopped,
    #[error("interrupted")]
    Interrupted,
}

impl CliError {
    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            #[cfg(feature = "emulator")]
            Self::Emulation(error) => error.exit_code(),
            Self::Write { .. } | Self::Store(_) | Self::Start(StartError::Store(_)) => {
                exit::STORAGE
            }
            Self::Usage(_)
            | Self::SettingsFile(_)
            | Self::Setup(_)
            | Self::LiteralProxy
            | Self::Proxy(_)
            | Self::Request(_)
            | Self::Line(_)
            | Self::Json { .. }
            | Self::StandardInput(_)
            | Self::NoCall(_)
            | Self::NeedsRestart
            | Self::LiteralSecret
            | Self::Secret { .. }
            | Self::Id(_)
            | Self::CaFile { .. }
            | Self::Exists { .. }
            | Self::Certificate { .. }
            | Self::KeyReference(_)
            | Self::RequestFile { .. }
            | Self::CertificateRequest(
                CertificateRequestError::CommonNameLength { .. }
                | CertificateRequestError::CommonNameCharacter,
            )
            | Self::Start(_) => exit::USAGE,
            Self::Attempt { failure, .. } | Self::Renewal(RenewError::RolledBack(failure)) => {
                failure_code(failure)
            }
            Self::Renewal(_)
            | Self::Unfit { .. }
            | Self::CertificateRequest(
                CertificateRequestError::Signature(_) | CertificateRequestError::SignerMismatch,
            ) => exit::CERTIFICATE,
            Self::Telemetry(SendError::NotStored(_)) => exit::STORAGE,
            Self::Telemetry(_)
            | Self::Report(_)
            | Self::Respond(_)
            | Self::NoTwin
            | Self::AgentGone(_)
            | Self::Socket { .. } => exit::NETWORK,
            Self::Throttled { .. } | Self::TimedOut { .. } => exit::THROTTLED,
            Self::Agent(error) => {
                let code = error["exitCode"].as_u64().and_then(|code| u8::try_from(code).ok());
                code.unwrap_or(exit::ACTION_NEEDED)
            }
            Self::Ailing { code, .. } => *code,
            Self::IdentityLost => exit::STORAGE,
            Self::Expired | Self::DeviceConfig(ConfigError::Attestation(_)) => exit::CERTIFICATE,
            Self::DeviceConfig(_) => exit::USAGE,
            #[cfg(feature = "tools")]
            Self::Mqtt(error) => error.exit_code(),
            Self::Interrupted => exit::INTERRUPTED,
            Self::Runtime(_)
            | Self::Key(_)
            | Self::CertificateRequest(_)
            | Self::Randomness(_)
            | Self::ClockUnset
            | Self::Signals(_)
            | Self::AgentRuns
            | Self::NotProvisioned
            | Self::Stopped => exit::ACTION_NEEDED,
        }
    }

    /// A stable name for the kind of failure, for those who read JSON.
    pub(crate) fn code(&self) -> &'static str {
        match self.exit_code() {
            exit::USAGE => "configuration",
            exit::IDENTITY_REFUSED => "identity-refused",
            exit::NETWORK => "network",
            exit::THROTTLED => "throttled",
            exit::CERTIFICATE => "certificate",
            exit::STORAGE => "storage",
            exit::MALFORMED => "malformed",
            exit::INCOMPLETE => "incomplete",
            exit::INTERRUPTED => "interrupted",
            _ => "action-needed",
        }
    }

    /// What to do about it.
    pub(crate) fn remedy(&self) -> Option<&str> {
        Some(match self {
            Self::Setup(error) => error.remedy(),
            Self::SettingsFile(_) => "the names and values of all settings: zerotouch run --help",
            Self::DeviceConfig(ConfigError::Attestation(_)) => {
                "zerotouch cert verify tells all that is wrong with it; the factory has to issue another"
            }
            Self::DeviceConfig(_) => "zerotouch config show tells what is set where",
            #[cfg(feature = "bundled-roots")]
            Self::Start(StartError::Tls(_)) => {
                "give a PEM file with the service's root certificates with --ca-file, or take --roots bundled"
            }
            #[cfg(not(feature = "bundled-roots"))]
            Self::Start(StartError::Tls(_)) => {
                "give a PEM file with the service's root certificates with --ca-file"
            }
            Self::Proxy(_) => "give it as http://HOST:PORT",
            Self::LiteralProxy => {
                "give the proxy's URL as file:PATH, env:NAME or credential:NAME, and in it the password"
            }
            Self::Agent(error) => return error["remedy"].as_str(),
            Self::NeedsRestart => "start the agent anew for them",
            Self::TimedOut { .. } => {
                "zerotouch status tells what the agent does, zerotouch doctor what stands in the way; a message \
                 that was taken is sent later"
            }
            Self::AgentRuns => "zerotouch status tells what it does; its standard error tells why",
            Self::AgentGone(_) | Self::Socket { .. } => {
                "zerotouch status tells whether the agent runs; its socket is its user's alone"
            }
            Self::NotProvisioned => "zerotouch provision, or zerotouch run",
            Self::IdentityLost | Self::Expired => {
                "zerotouch run provisions anew by itself; zerotouch doctor tells what stands in its way"
            }
            Self::LiteralSecret => {
                "a command line is visible to others and stays in the shell's history: give the key \
                 as file:PATH, env:NAME, credential:NAME or - (standard input)"
            }
            Self::Secret { .. } => {
                "give the key as base64 text of 16 to 64 bytes in a file, a variable or on standard input"
            }
            Self::CertificateRequest(CertificateRequestError::Signature(_)) => {
                "whoever holds the key has to make it anew: zerotouch csr new"
            }
            Self::RequestFile { .. } => "give a PKCS#10 request: PEM, DER, or base64 of DER",
            #[cfg(feature = "tools")]
            Self::Mqtt(error) => return error.remedy(),
            Self::Exists { .. } => "choose another place with --out, or replace it with --force",
            Self::Write { .. } => "choose another place, or make this one writable",
            Self::Certificate { .. } => {
                "give a PEM file that begins with the certificate meant, or its DER"
            }
            #[cfg(feature = "pkcs11")]
            Self::KeyReference(KeyReferenceError::Token(_)) => {
                "check the pkcs11: URI against what pkcs11-tool --list-objects shows"
            }
            #[cfg(not(feature = "pkcs11"))]
            Self::KeyReference(KeyReferenceError::NoTokens) => {
                "give a private key in a file, or build zerotouch with the feature pkcs11"
            }
            Self::KeyReference(_) => {
                "give a private key in a file (PEM or DER of PKCS#8, SEC1 or PKCS#1) or a pkcs11: URI"
            }
            #[cfg(feature = "emulator")]
            Self::Emulation(error) => return error.remedy(),
            Self::ClockUnset => "set this machine's clock: what is made counts from now",
            Self::CaFile { .. } => "give a PEM file with the service's root certificates",
            Self::Store(_) | Self::Start(StartError::Store(_)) => {
                "nothing was sent; mend the directory or choose another with --state-dir"
            }
            Self::Attempt { scope, failure } => {
                return failure_remedy(*scope, failure);
            }
            Self::Telemetry(_) => {
                "run again: the identity is stored, and provisioning will be skipped"
            }
            Self::Renewal(_) => "the certificate in use stays in use; run again to try once more",
            _ => return None,
        })
    }

    /// The service's six digits and its tracking id, where it gave them.
    pub(crate) fn service(&self) -> (Option<u32>, Option<&str>) {
        match self {
            Self::Attempt {
                failure:
                    Failure::Registration(
                        RegistrationError::Refused { error, .. }
                        | RegistrationError::Failed { error },
                    ),
                ..
            } => (error.error_code, error.tracking_id.as_deref()),
            _ => (None, None),
        }
    }
}

pub(crate) fn failure_code(failure: &Failure) -> u8 {
    match failure {
        Failure::Transport(failure)
            if failure.kind == TransportFailureKind::ClientCertificateRefused =>
        {
            exit::IDENTITY_REFUSED
        }
        Failure::Mqtt(CloseReason::Refused(refusal)) => match refusal {
            ConnectRefusal::ServerUnavailable => exit::THROTTLED,
            ConnectRefusal::UnacceptableProtocolVersion => exit::ACTION_NEEDED,
            _ => exit::IDENTITY_REFUSED,
        },
        Failure::Registration(error) => match error {
            RegistrationError::Refused { status: 401 | 403 | 404, .. } => exit::IDENTITY_REFUSED,
            RegistrationError::Refused { status: 400..=499, .. } => exit::USAGE,
            RegistrationError::Refused { .. } | RegistrationError::TimedOut { .. } => {
                exit::THROTTLED
            }
            RegistrationError::Unreadable { .. } => exit::NETWORK,
            _ => exit::ACTION_NEEDED,
        },
        Failure::DialTimeout { .. }
        | Failure::SubscriptionTimeout { .. }
        | Failure::AcknowledgementTimeout { .. }
        | Failure::Mqtt(CloseReason::HandshakeTimeout(_) | CloseReason::KeepAliveTimeout) => {
            exit::THROTTLED
        }
        Failure::HubNotAllowed { .. }
        | Failure::UnsupportedProfile { .. }
        | Failure::ClockUnset => exit::ACTION_NEEDED,
        Failure::Chain(_) | Failure::Possession(_) | Failure::Key(_) | Failure::Request(_) => {
            exit::CERTIFICATE
        }
        Failure::Store(_) => exit::STORAGE,
        _ => exit::NETWORK,
    }
}

pub(crate) fn failure_remedy(scope: Scope, failure: &Failure) -> Option<&'static str> {
    Some(match failure {
        Failure::Transport(failure) => match failure.kind {
            TransportFailureKind::ServerUntrusted => {
                "give the service's roots with --ca-file; for an emulator, the file it names at its start"
            }
            TransportFailureKind::WrongHostName => "check the host name",
            TransportFailureKind::ProxyRefused { .. } => {
                "check the proxy, and the credentials for it"
            }
            TransportFailureKind::ServerCertificateDates => "check this machine's clock first",
            TransportFailureKind::ClientCertificateRefused => REFUSED_BY_HUB,
            _ => "check host, port and network, and whether a proxy stands in between",
        },
        Failure::Mqtt(CloseReason::Refused(_)) => match scope {
            Scope::Dps => "check id scope, registration id and api-version",
            Scope::Hub => REFUSED_BY_HUB,
        },
        Failure::Registration(error) => match error {
            RegistrationError::Refused { status: 404, .. } => {
                "no enrolment is for this registration id: check the id scope and the id, or create the enrolment"
            }
            RegistrationError::Refused { status: 401 | 403, .. } => {
                "the key does not fit the enrolment: check the id scope, the registration id (its case counts), \
                 and whether the key is the group's (then add --compute-key) or the device's own; perhaps no enrolment is for this id at all"
            }
            RegistrationError::Disabled => {
                "enable the enrolment at the provisioning service, then run again"
            }
            RegistrationError::ChainMissing => {
                "give the enrolment a credential policy of the linked Device Registry namespace"
            }
            RegistrationError::Refused { status: 429, .. } | RegistrationError::TimedOut { .. } => {
                "try again later"
            }
            _ => return None,
        },
        Failure::HubNotAllowed { .. } => {
            "the service named a host outside the vendor's clouds; if that is meant, allow it with --hub-host"
        }
        Failure::ClockUnset => "set this machine's clock",
        Failure::Store(_) => "mend the directory or choose another with --state-dir",
        _ => return None,
    })
}

const REFUSED_BY_HUB: &str = "the certificate may have been revoked or issued by an authority the hub does not know \
     (were the issuing certificates synchronised to it?); to provision anew, use an empty --state-dir";
