//! From settings to a device.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::value::RawValue;
use thiserror::Error;
use tokio::sync::broadcast::Receiver;
use zerotouch_credentials::KeySlots;
use zerotouch_device::{Attestation, Config, Event, HubHosts, TlsIdentity};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_pkcs11::KeyUriError;
use zerotouch_store::file::Inspection;
use zerotouch_store::{FileError, FileQueue, FileStore, FileStoreOptions, StoreError};
use zerotouch_tls::Roots;
use zerotouch_tokio::{Builder, Device, Network, Transport};

use super::{MqttTransport, Settings, TrustedRoots};
use crate::certificate_file::{self, read_chain};
use crate::failure::CliError;

/// Why settings make no device.
#[derive(Debug, Error)]
pub(crate) enum SetupError {
    #[error("--{0} is not set")]
    Missing(&'static str),
    #[error("neither --symmetric-key nor --certificate-file-path is set")]
    NoCredential,
    #[error("both --symmetric-key and --certificate-file-path are set")]
    TwoCredentials,
    #[error("--certificate-file-path and --key-file-path belong together: {0} is not set")]
    HalfCredential(&'static str),
    #[error("--compute-key belongs to --symmetric-key")]
    NothingToCompute,
    #[error("--payload is neither JSON ({reason}) nor the path of a file with it")]
    Payload { reason: String },
    #[error("--key-slot: {0}")]
    KeySlot(#[from] KeyUriError),
    #[cfg(not(feature = "pkcs11"))]
    #[error("--key-slot is set, and this build knows no keys in tokens")]
    NoTokens,
    #[error(
        "there is no place for the state: --state-dir is not set, and there is no home directory"
    )]
    NoStateDirectory,
}

impl SetupError {
    /// What to do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Missing(_) | Self::NoCredential | Self::HalfCredential(_) => {
                "give it as a flag, as an environment variable (ZEROTOUCH_… in capitals) or in the settings \
                 file; zerotouch config show tells what is set where"
            }
            Self::TwoCredentials => "take one away; zerotouch config show tells what is set where",
            Self::NothingToCompute => "give the group's key with --symmetric-key, or leave it out",
            Self::Payload { .. } => "give JSON, or a file that has it",
            Self::KeySlot(_) => {
                "give each as pkcs11:token=…;object=…?module-path=…&pin-source=file:…"
            }
            #[cfg(not(feature = "pkcs11"))]
            Self::NoTokens => "leave it out, or build zerotouch with the feature pkcs11",
            Self::NoStateDirectory => "name a directory with --state-dir",
        }
    }
}

/// What a device is made from.
#[derive(Debug)]
pub(crate) struct Setup {
    pub config: Config,
    pub place: Place,
    roots: Roots,
    network: Network,
}

/// Where a device is kept. It is known without any of its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub state_dir: PathBuf,
    pub registration_id: RegistrationId,
    pub socket: PathBuf,
    insecure_permissions: bool,
}

impl Place {
    /// The directory of the identity.
    pub(crate) fn path(&self) -> PathBuf {
        self.state_dir.join(self.registration_id.as_str())
    }

    fn options(&self) -> FileStoreOptions {
        FileStoreOptions::new().insecure_permissions(self.insecure_permissions)
    }

    pub(crate) fn open_store(&self) -> Result<FileStore, StoreError> {
        self.options().open(&self.state_dir, self.registration_id.as_str())
    }

    pub(crate) fn inspect(&self) -> Result<Inspection, FileError> {
        self.options().inspect(&self.state_dir, self.registration_id.as_str())
    }
}

impl Settings {
    /// Where the device is kept.
    pub(crate) fn place(&self) -> Result<Place, CliError> {
        let registration_id =
            self.registration_id.clone().ok_or(SetupError::Missing("registration-id"))?;
        let state_dir = self.state_dir.clone().or_else(default_state_dir);
        let state_dir = state_dir.ok_or(SetupError::NoStateDirectory)?;
        let socket = || state_dir.join(format!("{registration_id}.sock"));
        let socket = self.socket.clone().unwrap_or_else(socket);
        let insecure_permissions = self.insecure_permissions;
        Ok(Place { state_dir, registration_id, socket, insecure_permissions })
    }

    /// All of it. Secrets are read here.
    pub(crate) fn setup(&self) -> Result<Setup, CliError> {
        let place = self.place()?;
        let id_scope = self.id_scope.clone().ok_or(SetupError::Missing("id-scope"))?;
        let attestation = self.attestation(&place.registration_id)?;
        let config = self.device_config(id_scope, place.registration_id.clone(), attestation)?;
        Ok(Setup { config, place, roots: self.trusted_roots()?, network: self.network()? })
    }

    /// The bootstrap credential.
    pub(crate) fn attestation(
        &self,
        registration_id: &RegistrationId,
    ) -> Result<Attestation, CliError> {
        let certificate = (self.certificate_file_path.as_ref(), self.key_file_path.as_ref());
        match (&self.symmetric_key, certificate) {
            (Some(reference), (None, None)) => {
                let key = reference.read_key()?;
                let key = if self.compute_key { key.derive(registration_id.as_str()) } else { key };
                Ok(Attestation::SymmetricKey(key))
            }
            (Some(_), _) => Err(SetupError::TwoCredentials.into()),
            _ if self.compute_key => Err(SetupError::NothingToCompute.into()),
            (None, (Some(path), Some(key))) => {
                let identity = TlsIdentity { signer: key.open()?, chain: read_chain(path)? };
                Ok(Attestation::X509(identity))
            }
            (None, (None, None)) => Err(SetupError::NoCredential.into()),
            (None, (Some(_), None)) => Err(SetupError::HalfCredential("--key-file-path").into()),
            (None, (None, Some(_))) => {
                Err(SetupError::HalfCredential("--certificate-file-path").into())
            }
        }
    }

    fn device_config(
        &self,
        id_scope: IdScope,
        registration_id: RegistrationId,
        attestation: Attestation,
    ) -> Result<Config, CliError> {
        let mut config = Config::new(id_scope, registration_id, attestation);
        config.provisioning_host.clone_from(&self.provisioning_host);
        config.provisioning_port = self.port;
        config.registration.api_version.clone_from(&self.api_version);
        config.registration.payload = self.payload.as_deref().map(payload).transpose()?;
        config.key_algorithm = self.key_algorithm.into();
        if !self.key_slot.is_empty() {
            config.key_slots = Some(key_slots(&self.key_slot)?);
        }
        config.hub.credential = self.hub_credential.into();
        config.hub.hosts = HubHosts::new(&self.hub_host);
        if is_loopback(&self.provisioning_host) {
            config.hub.hosts.allow("localhost");
            config.hub.hosts.allow(&self.provisioning_host);
        }
        config.hub.port = self.hub_port.unwrap_or(self.port);
        config.hub.api_version.clone_from(&self.hub_api_version);
        config.hub.model_id.clone_from(&self.model_id);
        config.hub.keep_alive = self.keep_alive;
        config.renewal.automatic = self.automatic_renewal;
        config.renewal.at_percent = self.renew_at_percent;
        config.renewal.announce_percent =
            config.renewal.announce_percent.max(self.renew_at_percent);
        config.renewal.spread_percent = self.renew_spread_percent;
        config.renewal.same_key = self.renew_same_key;
        config.retry.on_refusal = self.on_refusal.into();
        config.retry.max_attempts = self.max_attempts;
        config.retry.connect_spread = self.connect_spread;
        config.queue.max_messages = self.queue_messages;
        config.queue.max_bytes = self.queue_bytes;
        config.queue.when_full = self.when_full.into();
        config.queue.time_to_live = self.message_lifetime;
        config.validate().map_err(CliError::DeviceConfig)?;
        Ok(config)
    }

    pub(crate) fn trusted_roots(&self) -> Result<Roots, CliError> {
        match (&self.ca_file, self.roots) {
            (Some(path), _) => read_ca_file(path),
            (None, TrustedRoots::Platform) => Ok(Roots::Platform),
            #[cfg(feature = "bundled-roots")]
            (None, TrustedRoots::Bundled) => Ok(Roots::BUNDLED),
        }
    }

    pub(crate) fn network(&self) -> Result<Network, CliError> {
        let port = self.web_socket_port;
        let transport = match self.transport {
            MqttTransport::Mqtt => Transport::Mqtt,
            MqttTransport::WebSocket => Transport::WebSocket { port },
            MqttTransport::Either => Transport::Either { port },
        };
        let mut network = Network { transport, ..Network::default() };
        match &self.proxy {
            Some(proxy) => network.proxy = Some(proxy.read()?),
            None => network = network.proxy_from_environment()?,
        }
        network.no_proxy.extend(self.no_proxy.iter().cloned());
        Ok(network)
    }
}

impl Setup {
    /// A device, ready to be started with the store of its identity.
    pub(crate) fn builder(self) -> Builder {
        Device::builder(self.config).roots(self.roots).network(self.network)
    }

    /// Starts the device, with telemetry that waits on disk.
    pub(crate) fn start(self) -> Result<(Device, Receiver<Event>), CliError> {
        let store = self.place.open_store()?;
        let queue = FileQueue::open(&self.place.state_dir, self.place.registration_id.as_str())?;
        Ok(self.builder().queue(queue).spawn(store)?)
    }
}

/// As systemd says, or as is the custom.
fn default_state_dir() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(directory) = variable("STATE_DIRECTORY") {
        return Some(directory.into());
    }
    #[cfg(unix)]
    if rustix::process::geteuid().is_root() {
        return Some("/var/lib/zerotouch".into());
    }
    #[cfg(windows)]
    if let Some(data) = variable("LOCALAPPDATA") {
        return Some(Path::new(&data).join("zerotouch"));
    }
    let state = variable("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(Path::new(&variable("HOME")?).join(".local/state")));
    state.map(|state| state.join("zerotouch"))
}

#[cfg(feature = "pkcs11")]
fn key_slots(uris: &[String]) -> Result<Arc<dyn KeySlots>, SetupError> {
    Ok(Arc::new(zerotouch_pkcs11::Pkcs11Slots::new(uris)?))
}

#[cfg(not(feature = "pkcs11"))]
fn key_slots(_: &[String]) -> Result<Arc<dyn KeySlots>, SetupError> {
    Err(SetupError::NoTokens)
}

/// An emulator, then: who controls this machine's own services has the device anyway.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// JSON, or a file that has it.
fn payload(text: &str) -> Result<Box<RawValue>, CliError> {
    let parse = |text: &str| serde_json::from_str::<Box<RawValue>>(text);
    let reason = match parse(text) {
        Ok(payload) => return Ok(payload),
        Err(error) => error.to_string(),
    };
    let contents = certificate_file::read(Path::new(text)).ok();
    let contents = contents.as_deref().and_then(|bytes| str::from_utf8(bytes).ok());
    let Some(contents) = contents else { return Err(SetupError::Payload { reason }.into()) };
    let in_file = |error: serde_json::Error| SetupError::Payload { reason: error.to_string() };
    Ok(parse(contents).map_err(in_file)?)
}

pub(crate) fn read_ca_file(path: &Path) -> Result<Roots, CliError> {
    certificate_file::read(path)
        .map(|bytes| Roots::Pem(bytes.to_vec()))
        .map_err(|source| CliError::CaFile { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, Command, FromArgMatches};

    // The defaults that the help tells are the library's: a flag that is not given changes nothing.
    #[test]
    fn defaults_are_those_of_the_library() {
        let command = Settings::augment_args(Command::new("x")).no_binary_name(true);
        let matches = command.try_get_matches_from([] as [&str; 0]).unwrap();
        let settings = Settings::from_arg_matches(&matches).unwrap();
        let scope = || IdScope::new("0ne0").unwrap();
        let id = || RegistrationId::new("press-7").unwrap();
        let key = || {
            let key =
                zerotouch_credentials::SymmetricKey::from_base64("c2VjcmV0IHNlY3JldCBzZWNyZXQ=");
            Attestation::SymmetricKey(key.unwrap())
        };
        let ours = settings.device_config(scope(), id(), key()).unwrap();
        let library = Config::new(scope(), id(), key());
        assert_eq!(format!("{ours:?}"), format!("{library:?}"));
    }
}
