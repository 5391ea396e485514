//! `zerotouch emulator`: the cloud, or a plain broker, on this machine, until it is interrupted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;
use zerotouch_emulator::cloud::{EnrollmentGroup, Fixture, Quota};
use zerotouch_emulator::server::{DEFAULT_MAX_CONNECTIONS, MQTT_PORT, PLAIN_MQTT_PORT};
use zerotouch_emulator::{Emulator, PlainBrokerServer};
use zerotouch_mqtt_session::PlainBrokerConfig;

use crate::arguments::{self, Output};
use crate::descriptors;
use crate::failure::CliError;
use crate::pki::read_chain;
use crate::timeline::write_line;

/// The group of the devices of `--enroll-ca`.
const X509_GROUP: &str = "x509-group";
/// How often the queue of events is looked at.
const TICK: Duration = Duration::from_millis(50);

pub(crate) async fn run(arguments: arguments::Emulator) -> Result<(), CliError> {
    if arguments.plain_broker { plain_broker(arguments).await } else { cloud(arguments).await }
}

async fn cloud(arguments: arguments::Emulator) -> Result<(), CliError> {
    let mut builder = Emulator::builder()
        .port(arguments.port.unwrap_or(MQTT_PORT))
        .fixture(fixture(&arguments)?)
        .keep_events(!arguments.quiet);
    warn_of_few_descriptors();
    if let Some(seed) = arguments.seed {
        builder = builder.seed(seed);
    }
    if let Some(directory) = &arguments.data_dir {
        builder = builder.data_dir(directory.clone());
    }
    let emulator = builder.start()?;
    let temporary = match &arguments.data_dir {
        Some(_) => None,
        None => Some(
            TempDir::with_prefix("zerotouch-emulator-").map_err(CliError::TemporaryDirectory)?,
        ),
    };
    let directory = arguments.data_dir.as_deref().or(temporary.as_ref().map(TempDir::path));
    let ca_file = directory.unwrap_or(Path::new(".")).join("ca.pem");
    emulator
        .write_ca_certificate(&ca_file)
        .map_err(|source| CliError::Write { path: ca_file.clone(), source })?;

    announce(&emulator, &ca_file, arguments.output);
    if arguments.quiet {
        interrupted().await;
    } else {
        follow(|| emulator.next_event(Duration::ZERO), arguments.output).await;
    }
    Ok(())
}

/// The default cloud, changed as the command line says.
fn fixture(arguments: &arguments::Emulator) -> Result<Fixture, CliError> {
    let mut fixture = Fixture { ca_algorithm: arguments.ca_alg.into(), ..Fixture::default() };
    if let Some(path) = &arguments.enroll_ca {
        let authorities = read_chain(path)?.iter().cloned().collect();
        fixture.enrollment_groups.push(EnrollmentGroup::x509(X509_GROUP, authorities));
    }
    if arguments.unthrottled {
        let quota = &mut fixture.dps.registrations;
        *quota = Quota { count: 1_000_000, ..*quota };
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
    let refused_filters = arguments.refuse_subscribe.into_iter().collect();
    let broker = PlainBrokerServer::builder()
        .port(arguments.port.unwrap_or(PLAIN_MQTT_PORT))
        .config(PlainBrokerConfig { refused_filters, ..PlainBrokerConfig::default() })
        .start()?;
    let address = broker.address();
    write_line(&match arguments.output {
        Output::Json => json!({
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
        interrupted().await;
    } else {
        follow(|| broker.next_event(Duration::ZERO), arguments.output).await;
    }
    Ok(())
}

/// Writes what happens until it is interrupted.
async fn follow<E: Serialize>(next_event: impl Fn() -> Option<E>, output: Output) {
    let mut end = std::pin::pin!(interrupted());
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

/// What to set in each client.
fn announce(emulator: &Emulator, ca_file: &PathBuf, output: Output) {
    let groups = emulator.enrollment_groups();
    if output == Output::Json {
        let groups: Vec<_> = groups
            .iter()
            .map(|group| {
                json!({
                    "id": group.id,
                    "attestation": if group.primary_key.is_some() { "symmetricKey" } else { "x509" },
                    "primaryKey": group.primary_key.as_ref().map(|key| key.to_base64().to_string()),
                    "credentialPolicy": group.credential_policy,
                })
            })
            .collect();
        let ready = json!({
            "ready": true,
            "host": "localhost",
            "port": emulator.port(),
            "idScope": emulator.id_scope(),
            "caFile": ca_file,
            "serviceApi": format!("https://localhost:{}", emulator.port()),
            "serviceConnectionString": emulator.service_connection_string(),
            "hubs": emulator.hubs(),
            "enrollmentGroups": groups,
        });
        return write_line(&ready.to_string());
    }
    write_line(&format!(
        "DPS, Device Registry and IoT Hub for tests, on {}. No production service.\n\n\
         \x20 provisioning host  localhost\n  id scope           {}\n  trusted roots      {}",
        emulator.address(),
        emulator.id_scope(),
        ca_file.display(),
    ));
    for group in groups {
        if let Some(key) = group.primary_key {
            write_line(&format!(
                "  group              {}\n  group key          {}",
                group.id,
                key.to_base64().as_str()
            ));
        }
    }
    write_line(&format!("  service            {}", emulator.service_connection_string()));
    write_line("\nCtrl-C ends it.\n");
}

fn line(event: &impl Serialize, output: Output) -> String {
    let json = serde_json::to_value(event).unwrap_or_default();
    if output == Output::Json {
        return json.to_string();
    }
    let members = json.as_object().into_iter().flatten().filter(|(name, _)| *name != "event");
    let members =
        members.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
    format!("{:<22} {members}", json["event"].as_str().unwrap_or_default())
}

/// SIGINT or, where it exists, SIGTERM.
pub(crate) async fn interrupted() {
    #[cfg(unix)]
    if let Ok(mut terminate) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    // Without a handler the default action ends the process, which is the same.
    let _ = tokio::signal::ctrl_c().await;
}
