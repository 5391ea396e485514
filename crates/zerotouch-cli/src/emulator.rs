//! `zerotouch emulator`: the cloud, or a plain broker, on this machine, until it is interrupted.

mod fixture_file;
mod remote;
mod run_file;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use zeroize::Zeroizing;
use zerotouch_emulator::cloud::Fixture;
use zerotouch_emulator::server::{
    DEFAULT_MAX_CONNECTIONS, GroupSummary, MQTT_PORT, PLAIN_MQTT_PORT,
};
use zerotouch_emulator::{Emulator, PlainBrokerServer};
use zerotouch_mqtt_session::PlainBrokerConfig;

pub(crate) use self::remote::RemoteError;
use crate::arguments::{self, EmulatorCommand, Output};
use crate::descriptors;
use crate::emulation::EmulationError;
use crate::failure::CliError;
use crate::output_file::{self, Kind};
use crate::timeline::write_line;

/// How often the queue of events is looked at.
const TICK: Duration = Duration::from_millis(50);

pub(crate) async fn run(arguments: arguments::Emulator) -> Result<(), CliError> {
    match arguments.command {
        Some(EmulatorCommand::Clock(clock)) => Ok(remote::clock(clock).await?),
        Some(EmulatorCommand::Fault(fault)) => Ok(remote::fault(fault).await?),
        Some(EmulatorCommand::Call(call)) => Ok(remote::request(call).await?),
        None if arguments.plain_broker => plain_broker(arguments).await,
        None => cloud(arguments).await,
    }
}

async fn cloud(arguments: arguments::Emulator) -> Result<(), CliError> {
    let port = arguments.port.unwrap_or(MQTT_PORT);
    let address = SocketAddr::new(arguments.listen, port);
    if !address.ip().is_loopback() {
        eprintln!(
            "warning: this is no production service, and it is to listen on {address}: whoever reaches that \
             can register devices and gets certificates"
        );
    }
    let mut builder = Emulator::builder()
        .address(address.to_string())
        .fixture(fixture(&arguments)?)
        .keep_events(!arguments.quiet);
    warn_of_few_descriptors();
    if let Some(seed) = arguments.seed {
        builder = builder.seed(seed);
    }
    if let Some(directory) = &arguments.data_dir {
        builder = builder.data_dir(directory.clone());
    }
    if let Some(port) = arguments.https_port {
        builder = builder.https_port(port);
    }
    let end = interrupted();
    let emulator = builder.start()?;
    let temporary = match &arguments.data_dir {
        Some(_) => None,
        None => Some(
            TempDir::with_prefix("zerotouch-emulator-")
                .map_err(EmulationError::TemporaryDirectory)?,
        ),
    };
    let directory = arguments.data_dir.as_deref().or(temporary.as_ref().map(TempDir::path));
    let ca_file = directory.unwrap_or(Path::new(".")).join("ca.pem");
    emulator
        .write_ca_certificate(&ca_file)
        .map_err(|source| CliError::Write { path: ca_file.clone(), source })?;

    let groups = groups(&emulator, ca_file.parent().unwrap_or(Path::new(".")))?;
    let ready = ready(&emulator, &ca_file, &groups);
    let _found_by_it = run_file::write(emulator.port(), &ready.to_string());
    match arguments.output {
        Output::Json | Output::Jsonl => write_line(&ready.to_string()),
        Output::Text => announce(&emulator, &ca_file, &groups),
    }
    if arguments.quiet {
        end.await;
    } else {
        follow(end, || emulator.next_event(Duration::ZERO), arguments.output).await;
    }
    Ok(())
}

/// What the cloud begins with.
fn fixture(arguments: &arguments::Emulator) -> Result<Fixture, CliError> {
    let mut fixture = match &arguments.config {
        Some(config) => fixture_file::read(config)?,
        None => Fixture::default(),
    };
    if let Some(algorithm) = arguments.ca_alg {
        fixture.ca_algorithm = algorithm.into();
    }
    Ok(fixture)
}

/// What it cannot hold it would refuse without a word, when it is too late.
fn warn_of_few_descriptors() {
    let wanted = DEFAULT_MAX_CONNECTIONS as u64;
    if let Some(room) = descriptors::room_for_connections().filter(|room| *room < wanted) {
        let needed = descriptors::needed(wanted);
        eprintln!(
            "warning: only {room} connections can be held at once, not {wanted}: too few files may be \
             open; raise the limit with ulimit -n {needed}"
        );
    }
}

async fn plain_broker(arguments: arguments::Emulator) -> Result<(), CliError> {
    let end = interrupted();
    let refused_filters = arguments.refuse_subscribe.into_iter().collect();
    let broker = PlainBrokerServer::builder()
        .port(arguments.port.unwrap_or(PLAIN_MQTT_PORT))
        .config(PlainBrokerConfig { refused_filters, ..PlainBrokerConfig::default() })
        .start()?;
    let address = broker.address();
    write_line(&match arguments.output {
        Output::Json | Output::Jsonl => json!({
            "ready": true,
            "host": address.ip(),
            "port": address.port(),
            "plainBroker": true,
        })
        .to_string(),
        Output::Text => format!(
            "A plain MQTT 3.1.1 broker for tests, on {address}, without TLS.\n\nCtrl-C ends it.\n"
        ),
    });
    if arguments.quiet {
        end.await;
    } else {
        follow(end, || broker.next_event(Duration::ZERO), arguments.output).await;
    }
    Ok(())
}

/// Writes what happens until it is interrupted.
async fn follow<E: Serialize>(
    end: impl Future<Output = ()>,
    next_event: impl Fn() -> Option<E>,
    output: Output,
) {
    let mut end = std::pin::pin!(end);
    loop {
        while let Some(event) = next_event() {
            write_line(&line(&event, output));
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = &mut end => return,
        }
    }
}

/// An enrolment group, as the line when ready has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    id: String,
    attestation: &'static str,
    primary_key: Option<String>,
    /// Of the authority that was made for it: what devices' certificates can be issued with.
    ca_cert_file: Option<PathBuf>,
    ca_key_file: Option<PathBuf>,
    credential_policy: Option<String>,
}

/// The enrolment groups; writes the authorities that were made for them into the directory.
fn groups(emulator: &Emulator, directory: &Path) -> Result<Vec<Group>, CliError> {
    let write = |group: &str, (certificate, key): (String, Zeroizing<String>)| {
        let file = |ending: &str| directory.join(format!("{group}.{ending}.pem"));
        let (cert_file, key_file) = (file("cert"), file("key"));
        output_file::write(&cert_file, certificate.as_bytes(), Kind::Public, true)?;
        output_file::write(&key_file, key.as_bytes(), Kind::Secret, true)?;
        Ok::<_, CliError>((cert_file, key_file))
    };
    let group = |group: GroupSummary| {
        let is_symmetric = group.primary_key.is_some();
        let files = group.test_authority.map(|made| write(&group.id, made)).transpose()?;
        let (ca_cert_file, ca_key_file) = files.unzip();
        Ok(Group {
            id: group.id,
            attestation: if is_symmetric { "symmetricKey" } else { "x509" },
            primary_key: group.primary_key.map(|key| key.to_base64().to_string()),
            ca_cert_file,
            ca_key_file,
            credential_policy: group.credential_policy,
        })
    };
    emulator.enrollment_groups().into_iter().map(group).collect()
}

/// What to set in each client, for machines.
fn ready(emulator: &Emulator, ca_file: &Path, groups: &[Group]) -> Value {
    json!({
        "ready": true,
        "host": "localhost",
        "port": emulator.port(),
        "idScope": emulator.id_scope(),
        "caFile": ca_file,
        "serviceApi": format!("https://localhost:{}", emulator.port()),
        "serviceConnectionString": emulator.service_connection_string(),
        "hubs": emulator.hubs(),
        "enrollmentGroups": groups,
    })
}

/// What to set in each client.
fn announce(emulator: &Emulator, ca_file: &Path, groups: &[Group]) {
    write_line(&format!(
        "DPS, Device Registry and IoT Hub for tests, on {}. No production service.\n\n\
         \x20 provisioning host  localhost\n  id scope           {}\n  trusted roots      {}",
        emulator.address(),
        emulator.id_scope(),
        ca_file.display(),
    ));
    for group in groups {
        write_line(&format!("  group              {}", group.id));
        if let Some(key) = &group.primary_key {
            write_line(&format!("  group key          {key}"));
        }
        if let (Some(cert), Some(key)) = (&group.ca_cert_file, &group.ca_key_file) {
            let (cert, key) = (cert.display(), key.display());
            write_line(&format!("  group CA           {cert}\n  group CA key       {key}"));
        }
    }
    write_line(&format!("  service            {}", emulator.service_connection_string()));
    let port = match emulator.port() {
        MQTT_PORT => String::new(),
        other => format!(" --port {other}"),
    };
    write_line(&format!(
        "\nTo put its clock forward: zerotouch emulator clock +30d{port}\nCtrl-C ends it.\n"
    ));
}

fn line(event: &impl Serialize, output: Output) -> String {
    let json = serde_json::to_value(event).unwrap_or_default();
    if output != Output::Text {
        return json.to_string();
    }
    let members = json.as_object().into_iter().flatten().filter(|(name, _)| *name != "event");
    let members =
        members.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
    format!("{:<22} {members}", json["event"].as_str().unwrap_or_default())
}

/// SIGINT or, where it exists, SIGTERM, from this call on: whoever has read that something is ready may send
/// one at once.
#[cfg(unix)]
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    use std::task::Poll;
    use tokio::signal::unix::{SignalKind, signal};
    // Without a handler the default action ends the process, which is the same.
    let mut signals =
        [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).ok());
    std::future::poll_fn(move |context| {
        let mut signals = signals.iter_mut().flatten();
        if signals.any(|signal| signal.poll_recv(context).is_ready()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
}

/// Ctrl-C.
#[cfg(not(unix))]
pub(crate) async fn interrupted() {
    // Without a handler the default action ends the process, which is the same.
    let _ = tokio::signal::ctrl_c().await;
}
