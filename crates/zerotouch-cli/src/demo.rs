//! `zerotouch demo`: the main job through every room, once.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use zerotouch_credentials::SymmetricKey;
use zerotouch_device::{Attestation, Config};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::{CloudEvent, Fixture};
use zerotouch_store::{Change, FileStore, Generation, Store, StoreError};
use zerotouch_tls::Roots;
use zerotouch_tokio::Device;

use crate::arguments::Demo;
use crate::emulation::EmulationError;
use crate::failure::CliError;
use crate::journey::Journey;
use crate::secret::SecretReference;
use crate::settings::device::read_ca_file;
use crate::telling::date;
use crate::timeline::Timeline;

/// The port of MQTT over TLS.
const MQTTS_PORT: u16 = 8883;
/// Where the emulator keeps its side, beside the devices: no registration id begins with a dot.
const EMULATOR_DIR: &str = ".emulator";

pub(crate) async fn run(arguments: Demo) -> Result<(), CliError> {
    let title = "zerotouch: from a bootstrap key to telemetry over an issued certificate";
    let mut timeline = Timeline::new(arguments.output, title);
    let outcome = in_state_dir(&arguments, &mut timeline).await;
    timeline.finish("totals", outcome.as_ref());
    outcome.map(drop)
}

async fn in_state_dir(arguments: &Demo, timeline: &mut Timeline) -> Result<Value, CliError> {
    let registration_id = RegistrationId::new(&arguments.registration_id)?;
    let state = State::new(arguments.state_dir.clone())?;
    let outcome = tokio::select! {
        outcome = journey(arguments, &registration_id, state.path(), timeline) => outcome,
        _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
    };
    if outcome.is_err() {
        leave_nothing_half_done(arguments, state.path(), &registration_id);
    }
    outcome
}

async fn journey(
    arguments: &Demo,
    registration_id: &RegistrationId,
    state: &Path,
    timeline: &mut Timeline,
) -> Result<Value, CliError> {
    let given_key = arguments.symmetric_key.as_ref().map(SecretReference::read_key).transpose()?;
    let ca_file = arguments.ca_file.as_deref().map(read_ca_file).transpose()?;
    // Opened first: a directory that cannot be written is known before anybody is asked for anything.
    let mut store = open(arguments, state, registration_id)?;
    for damage in store.damage() {
        let (path, reason) = (damage.path.display().to_string(), damage.reason.to_string());
        let words = format!("a stored file is damaged and kept as {path} ({reason})");
        timeline.done("damage", &words, json!({ "path": path, "reason": reason }));
    }
    if let Some(active) = store.load()?.active {
        found(&active, timeline);
    }

    let service = Service::new(arguments, state, timeline)?;
    let key = service.device_key(given_key, arguments.compute_key, registration_id, timeline)?;
    let config = service.config(registration_id, key, arguments)?;
    let roots = ca_file.or(service.roots).unwrap_or(Roots::Platform);

    let device = Device::builder(config).roots(roots).spawn(store)?;
    let mut journey = Journey::new(device, timeline);
    let walked = walk(&mut journey, arguments.messages).await;
    // Whatever happened, the store is free again after this.
    journey.release().await;
    let provisioned = walked?;
    confirm(service.emulator.as_ref(), arguments.messages, timeline)?;

    let way = if provisioned { "provisioned" } else { "provisioning skipped" };
    let place = match &arguments.state_dir {
        Some(directory) => {
            format!("; the identity is in {}", directory.join(registration_id.as_str()).display())
        }
        None => String::new(),
    };
    let messages = arguments.messages;
    Ok(json!({
        "summary": format!("{way}, {messages} messages acknowledged, certificate renewed{place}"),
        "provisioned": provisioned,
        "telemetryAcknowledged": messages,
        "renewals": 1,
    }))
}

/// An earlier run has left an identity.
fn found(active: &Generation, timeline: &mut Timeline) {
    let (generation, leaf) = (active.number, active.chain.leaf());
    let not_after = date(leaf.not_after());
    let words = format!("stored identity found: generation {generation}, valid until {not_after}");
    let proved = json!({
        "generation": generation,
        "thumbprint": leaf.thumbprint().to_string(),
        "notAfter": not_after,
    });
    timeline.done("identity", &words, proved);
}

/// Connect, talk, renew, talk on, leave. Was it through the provisioning service?
async fn walk(journey: &mut Journey<'_>, messages: u32) -> Result<bool, CliError> {
    let provisioned = journey.connect().await?;
    journey.send_telemetry(messages).await?;
    journey.renew().await?;
    journey.close().await;
    Ok(provisioned)
}

/// The hub's side of the story: what was acknowledged has arrived.
fn confirm(
    emulator: Option<&Emulator>,
    sent: u32,
    timeline: &mut Timeline,
) -> Result<(), CliError> {
    let Some(emulator) = emulator else { return Ok(()) };
    let events = std::iter::from_fn(|| emulator.next_event(Duration::ZERO));
    let telemetry = events.filter(|event| matches!(event, CloudEvent::Telemetry { .. })).count();
    let arrived = u32::try_from(telemetry).unwrap_or(u32::MAX);
    if arrived != sent {
        return Err(EmulationError::Unconfirmed { sent, arrived }.into());
    }
    let words = format!("{arrived} messages arrived at the emulated hub");
    timeline.done("confirmed", &words, json!({ "arrived": arrived }));
    Ok(())
}

/// A key whose certificate never came is of no use to anybody; a whole identity is kept.
fn leave_nothing_half_done(arguments: &Demo, state: &Path, registration_id: &RegistrationId) {
    let Ok(mut store) = open(arguments, state, registration_id) else { return };
    let Ok(identity) = store.load() else { return };
    if identity.pending.is_some() && store.apply(&Change::DiscardPending).is_err() {
        return;
    }
    let nobody =
        identity.staged.is_none() && identity.active.is_none() && identity.previous.is_empty();
    let path = store.path().to_path_buf();
    drop(store);
    if nobody && !has_evidence(&path) {
        // What cannot be removed holds no key any more.
        let _ = std::fs::remove_dir_all(path);
    }
}

/// Whether damaged files are kept there for whoever wants to know why.
fn has_evidence(path: &Path) -> bool {
    let names = std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.file_name());
    names.into_iter().any(|name| name.to_string_lossy().starts_with("damaged-"))
}

fn open(
    arguments: &Demo,
    state: &Path,
    registration_id: &RegistrationId,
) -> Result<FileStore, StoreError> {
    FileStore::options()
        .insecure_permissions(arguments.insecure_permissions)
        .open(state, registration_id.as_str())
}

/// Where identities rest: the user's directory, or one that goes with the process.
enum State {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl State {
    fn new(kept: Option<PathBuf>) -> Result<Self, CliError> {
        match kept {
            Some(path) => Ok(Self::Kept(path)),
            None => TempDir::with_prefix("zerotouch-")
                .map(Self::Temporary)
                .map_err(|error| EmulationError::TemporaryDirectory(error).into()),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

/// What the device provisions at.
struct Service {
    host: String,
    port: u16,
    id_scope: String,
    roots: Option<Roots>,
    /// Runs until it is dropped.
    emulator: Option<Emulator>,
}

impl Service {
    fn new(arguments: &Demo, state: &Path, timeline: &mut Timeline) -> Result<Self, CliError> {
        if let (Some(host), Some(id_scope)) = (&arguments.provisioning_host, &arguments.id_scope) {
            let port = arguments.port.unwrap_or(MQTTS_PORT);
            return Ok(Self {
                host: host.clone(),
                port,
                id_scope: id_scope.clone(),
                roots: None,
                emulator: None,
            });
        }
        let mut builder = Emulator::builder().port(arguments.port.unwrap_or(0));
        if arguments.state_dir.is_some() {
            builder = builder.data_dir(state.join(EMULATOR_DIR));
        }
        let emulator = builder.start()?;
        let words =
            format!("DPS, Device Registry and IoT Hub on {}, in this process", emulator.address());
        timeline.done(
            "emulator",
            &words,
            json!({ "address": emulator.address().to_string(), "idScope": emulator.id_scope() }),
        );
        Ok(Self {
            host: "localhost".into(),
            port: emulator.port(),
            id_scope: arguments.id_scope.clone().unwrap_or_else(|| emulator.id_scope()),
            roots: Some(Roots::Pem(emulator.ca_pem().into())),
            emulator: Some(emulator),
        })
    }

    /// A device of this service, which gives up at the first failure: somebody is watching.
    fn config(
        &self,
        registration_id: &RegistrationId,
        key: SymmetricKey,
        arguments: &Demo,
    ) -> Result<Config, CliError> {
        let id_scope = IdScope::new(&self.id_scope)?;
        let attestation = Attestation::SymmetricKey(key);
        let mut config = Config::new(id_scope, registration_id.clone(), attestation);
        config.provisioning_host.clone_from(&self.host);
        config.provisioning_port = self.port;
        config.hub.port = self.port;
        if self.emulator.is_some() {
            config.hub.hosts.allow(&self.host);
        }
        config.key_algorithm = arguments.key_algorithm.into();
        config.retry.max_attempts = Some(NonZeroU32::MIN);
        Ok(config)
    }

    /// The key given, or derived from the emulator's group's.
    fn device_key(
        &self,
        given: Option<SymmetricKey>,
        compute: bool,
        registration_id: &RegistrationId,
        timeline: &mut Timeline,
    ) -> Result<SymmetricKey, CliError> {
        let group_key = match (given, &self.emulator) {
            (Some(key), _) if !compute => {
                timeline.done("device key", "taken as given", json!({ "derived": false }));
                return Ok(key);
            }
            (Some(key), _) => key,
            (None, Some(emulator)) => emulator
                .group_key(Fixture::DEFAULT_GROUP)
                .ok_or(EmulationError::NoGroup(Fixture::DEFAULT_GROUP))?,
            // The command line requires a key with a service of one's own.
            (None, None) => return Err(EmulationError::NoGroup(Fixture::DEFAULT_GROUP).into()),
        };
        let key = group_key.derive(registration_id.as_str());
        let words = format!("derived from the group's key for {registration_id} (HMAC-SHA256)");
        timeline.done(
            "device key",
            &words,
            json!({ "derived": true, "registrationId": registration_id.as_str() }),
        );
        Ok(key)
    }
}
