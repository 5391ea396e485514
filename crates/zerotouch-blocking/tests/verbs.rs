//! Every verb of the handle against the emulator.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::net::TcpListener;
use std::num::NonZeroU32;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use serde_json::{Map, Value, json};
use zerotouch_blocking::{
    Builder, ConnectError, Device, ReportError, RespondError, SendError, StartError,
};
use zerotouch_credentials::SymmetricKey;
use zerotouch_device::{Attestation, Config, ConfigError, Event, Failure, State};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::{DpsSettings, Fixture};
use zerotouch_hub::{MethodEvent, RespondError as Unanswerable, Telemetry, TwinEvent};
use zerotouch_store::{FileStore, MemoryStore};
use zerotouch_tls::Roots;

const ID: &str = "pump-17";
const PATIENCE: Duration = Duration::from_secs(30);
/// Nobody's.
const WRONG_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// An emulator without the real service's pauses.
fn emulator(seed: u64) -> Emulator {
    let dps = DpsSettings { retry_after: Duration::ZERO, ..DpsSettings::default() };
    let fixture = Fixture { dps, ..Fixture::default() };
    Emulator::builder().fixture(fixture).seed(seed).start().unwrap()
}

fn config(emulator: &Emulator) -> Config {
    let key = emulator.group_key("default-group").unwrap().derive(ID);
    let mut config = Config::new(
        IdScope::new(&emulator.id_scope()).unwrap(),
        RegistrationId::new(ID).unwrap(),
        Attestation::SymmetricKey(key),
    );
    config.provisioning_host = "localhost".into();
    config.provisioning_port = emulator.port();
    config.hub.port = emulator.port();
    config.hub.hosts.allow("localhost");
    config.hub.methods = true;
    config.hub.twin = true;
    config
}

fn builder(emulator: &Emulator, config: Config) -> Builder {
    Device::builder(config).roots(Roots::Pem(emulator.ca_pem().into()))
}

fn event<T>(events: &Receiver<Event>, wanted: impl Fn(&Event) -> Option<T>) -> T {
    loop {
        let event = events.recv_timeout(PATIENCE).expect("the event never came");
        if let Some(found) = wanted(&event) {
            return found;
        }
    }
}

fn map(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap()
}

// The whole of a connected device's day, through one handle.
#[test]
fn a_handle_does_what_a_device_can() {
    let emulator = emulator(2);
    let (device, events) =
        builder(&emulator, config(&emulator)).connect(MemoryStore::new()).unwrap();
    assert_eq!(device.wait_for_state(PATIENCE, |s| *s == State::Connected), State::Connected);

    // The twin: known once it was read; reports and changes with their versions.
    event(&events, |event| matches!(event, Event::Twin(TwinEvent::Read { .. })).then_some(()));
    assert!(device.desired_properties().unwrap().values.is_empty());
    assert_eq!(device.report_properties(map(json!({ "celsius": 21 }))).unwrap(), Some(2));
    let patch = map(json!({ "interval": 5 }));
    let version = emulator.with_cloud(|cloud, now| cloud.update_desired(ID, patch, now)).unwrap();
    let told = event(&events, |event| match event {
        Event::Twin(TwinEvent::Desired { version, .. }) => Some(*version),
        _ => None,
    });
    assert_eq!(told, version);
    assert_eq!(device.desired_properties().unwrap().values, map(json!({ "interval": 5 })));

    // A call, its answer, and no second one.
    assert!(
        emulator.with_cloud(|cloud, now| { cloud.invoke_method(ID, ("reboot", "r1"), b"{}", now) })
    );
    let call = event(&events, |event| match event {
        Event::Method(MethodEvent::Called { call, method, .. }) if method == "reboot" => {
            Some(*call)
        }
        _ => None,
    });
    device.respond(call, 200, *b"true").unwrap();
    let again = device.respond(call, 200, *b"true");
    assert!(matches!(again, Err(RespondError::Rejected(Unanswerable::NotOpen))), "{again:?}");

    // A message from the cloud.
    emulator.with_cloud(|cloud, now| cloud.send_command(ID, &[("a", "b")], b"go", now)).unwrap();
    let message = event(&events, |event| match event {
        Event::Message(message) => Some(message.clone()),
        _ => None,
    });
    assert_eq!(message.property("a"), Some("b"));

    device.send_telemetry(Telemetry::new("last")).unwrap();
    assert!(device.close_within(PATIENCE));
    assert_eq!(device.state(), State::Stopped);
    assert!(matches!(device.report_properties(Map::new()), Err(ReportError::Stopped)));
    assert!(matches!(device.respond(call, 200, ""), Err(RespondError::Stopped)));
    let late = device.send_telemetry(Telemetry::new("late"));
    assert!(matches!(late, Err(SendError::Stopped)));
    assert_eq!(device.desired_properties(), None);
    assert!(device.close_within(Duration::ZERO), "it has stopped");
}

// Waiting for a connection ends where waiting is of no use, and the device with it.
#[test]
fn connecting_ends_with_what_time_does_not_mend() {
    let emulator = emulator(3);
    let state = tempfile::tempdir().unwrap();
    let mut config = config(&emulator);
    config.attestation = Attestation::SymmetricKey(SymmetricKey::from_base64(WRONG_KEY).unwrap());
    let store = FileStore::open(state.path(), ID).unwrap();
    let refused = builder(&emulator, config).connect(store);
    assert!(matches!(refused, Err(ConnectError::Failed(Failure::Registration(_)))), "{refused:?}");
    FileStore::open(state.path(), ID).expect("a device that has stopped keeps its store");
}

// As many attempts as the configuration allows, and no more.
#[test]
fn connecting_ends_with_the_last_attempt() {
    let emulator = emulator(5);
    let mut config = config(&emulator);
    config.retry.max_attempts = NonZeroU32::new(1);
    config.provisioning_port =
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let failed = builder(&emulator, config).connect(MemoryStore::new());
    assert!(matches!(failed, Err(ConnectError::Failed(Failure::Transport(_)))), "{failed:?}");
}

// A device is not held up by an application that does not listen, which can tell that it has missed
// something.
#[test]
fn events_that_nobody_takes_are_counted() {
    let emulator = emulator(6);
    let (device, events) =
        builder(&emulator, config(&emulator)).connect(MemoryStore::new()).unwrap();
    assert_eq!(device.missed_events(), 0);
    for _ in 0..256 {
        device.send_telemetry(Telemetry::new("x")).unwrap();
    }
    device.close();
    assert_eq!(events.iter().count(), 256);
    assert!(device.missed_events() > 0);
}

// A deadline is kept: nobody answers, and the caller has other things to do.
#[test]
fn waiting_for_a_state_ends_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let emulator = emulator(4);
    let mut config = config(&emulator);
    config.provisioning_host = "127.0.0.1".into();
    config.provisioning_port = silent.local_addr().unwrap().port();
    let (device, _events) = builder(&emulator, config).spawn(MemoryStore::new()).unwrap();
    let state = device.wait_for_state(PATIENCE, |state| *state == State::Provisioning);
    assert_eq!(state, State::Provisioning);
    let short = Duration::from_millis(50);
    let state = device.wait_for_state(short, |state| *state == State::Connected);
    assert_eq!(state, State::Provisioning);
    device.close();
}

// What is known to be wrong is told before anything is opened, stored or dialled.
#[test]
fn a_configuration_that_cannot_work_starts_nothing() {
    let emulator = emulator(11);
    let mut config = config(&emulator);
    config.queue.max_messages = 0;
    let refused = builder(&emulator, config).spawn(MemoryStore::new());
    let Err(StartError::Config(error)) = refused else { panic!("it was started") };
    assert_eq!(error, ConfigError::Zero { member: "queue.max_messages" });
}

// A refusal is the end of waiting only when there is no other credential to show.
#[test]
fn whoever_waits_is_told_of_a_refusal_only_by_the_last_credential() {
    let emulator = emulator(12);
    let mut config = config(&emulator);
    let wrong = Attestation::SymmetricKey(SymmetricKey::from_base64(WRONG_KEY).unwrap());
    let good = std::mem::replace(&mut config.attestation, wrong);
    config.other_attestations = vec![good];
    let connecting = builder(&emulator, config).connect(MemoryStore::new());
    let (device, _events) = connecting.unwrap();
    device.close();
}
