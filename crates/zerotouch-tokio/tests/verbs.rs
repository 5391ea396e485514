//! Every verb of the handle against the emulator, and every future dropped at every await.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::future::{Future, poll_fn};
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::broadcast::Receiver;
use zerotouch_credentials::SymmetricKey;
use zerotouch_device::{Attestation, Config, ConfigError, Event, Failure, State};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::{CloudEvent, DpsSettings, Fixture};
use zerotouch_hub::{MethodEvent, RespondError as Unanswerable, Telemetry, TwinEvent};
use zerotouch_store::{FileStore, MemoryStore};
use zerotouch_tls::Roots;
use zerotouch_tokio::{
    Builder, ConnectError, Device, ReportError, RespondError, SendError, StartError,
};

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

async fn connect(emulator: &Emulator) -> (Device, Receiver<Event>) {
    let connecting = builder(emulator, config(emulator)).connect(MemoryStore::new());
    tokio::time::timeout(PATIENCE, connecting).await.unwrap().unwrap()
}

async fn event<T>(events: &mut Receiver<Event>, wanted: impl Fn(&Event) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = wanted(&events.recv().await.unwrap()) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.expect("the event never came")
}

fn map(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap()
}

// The whole of a connected device's day, through one handle.
#[tokio::test]
async fn a_handle_does_what_a_device_can() {
    let emulator = emulator(2);
    let (device, mut events) = connect(&emulator).await;
    assert_eq!(device.state(), State::Connected);

    // The twin: known once it was read; reports and changes with their versions.
    event(&mut events, |event| matches!(event, Event::Twin(TwinEvent::Read { .. })).then_some(()))
        .await;
    assert!(device.desired_properties().await.unwrap().values.is_empty());
    assert_eq!(device.report_properties(map(json!({ "celsius": 21 }))).await.unwrap(), Some(2));
    let patch = map(json!({ "interval": 5 }));
    let version = emulator.with_cloud(|cloud, now| cloud.update_desired(ID, patch, now)).unwrap();
    let told = event(&mut events, |event| match event {
        Event::Twin(TwinEvent::Desired { version, .. }) => Some(*version),
        _ => None,
    });
    assert_eq!(told.await, version);
    assert_eq!(device.desired_properties().await.unwrap().values, map(json!({ "interval": 5 })));

    // A call, its answer, and no second one.
    assert!(
        emulator.with_cloud(|cloud, now| { cloud.invoke_method(ID, ("reboot", "r1"), b"{}", now) })
    );
    let call = event(&mut events, |event| match event {
        Event::Method(MethodEvent::Called { call, method, .. }) if method == "reboot" => {
            Some(*call)
        }
        _ => None,
    })
    .await;
    device.respond(call, 200, *b"true").await.unwrap();
    let again = device.respond(call, 200, *b"true").await;
    assert!(matches!(again, Err(RespondError::Rejected(Unanswerable::NotOpen))), "{again:?}");

    // A message from the cloud.
    emulator.with_cloud(|cloud, now| cloud.send_command(ID, &[("a", "b")], b"go", now)).unwrap();
    let message = event(&mut events, |event| match event {
        Event::Message(message) => Some(message.clone()),
        _ => None,
    });
    assert_eq!(message.await.property("a"), Some("b"));

    // The end, seen by whoever watches, after what was sent before it.
    let mut states = device.states();
    let (sent, ()) = tokio::join!(device.send_telemetry(Telemetry::new("last")), device.close());
    sent.unwrap();
    states.wait_for(|state| *state == State::Stopped).await.unwrap();
    assert!(matches!(device.report_properties(Map::new()).await, Err(ReportError::Stopped)));
    assert!(matches!(device.respond(call, 200, "").await, Err(RespondError::Stopped)));
    assert!(matches!(device.send_telemetry(Telemetry::new("late")).await, Err(SendError::Stopped)));
    assert_eq!(device.desired_properties().await, None);

    let answered = |event: &CloudEvent| matches!(event, CloudEvent::MethodAnswered { request_id, status: 200, .. } if request_id == "r1");
    let cloud: Vec<_> = std::iter::from_fn(|| emulator.next_event(Duration::ZERO)).collect();
    assert_eq!(cloud.iter().filter(|event| answered(event)).count(), 1, "{cloud:?}");
}

// Waiting for a connection ends where waiting is of no use, and the device with it.
#[tokio::test]
async fn connecting_ends_with_what_time_does_not_mend() {
    let emulator = emulator(3);
    let state = tempfile::tempdir().unwrap();
    let mut config = config(&emulator);
    config.attestation = Attestation::SymmetricKey(SymmetricKey::from_base64(WRONG_KEY).unwrap());
    let store = FileStore::open(state.path(), ID).unwrap();
    let connecting = builder(&emulator, config).connect(store);
    let refused = tokio::time::timeout(PATIENCE, connecting).await.unwrap();
    assert!(matches!(refused, Err(ConnectError::Failed(Failure::Registration(_)))), "{refused:?}");
    reopened(state.path()).await;
}

// As many attempts as the configuration allows, and no more.
#[tokio::test]
async fn connecting_ends_with_the_last_attempt() {
    let emulator = emulator(6);
    let mut config = config(&emulator);
    config.retry.max_attempts = NonZeroU32::new(1);
    config.provisioning_port =
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let connecting = builder(&emulator, config).connect(MemoryStore::new());
    let failed = tokio::time::timeout(PATIENCE, connecting).await.unwrap();
    assert!(matches!(failed, Err(ConnectError::Failed(Failure::Transport(_)))), "{failed:?}");
}

/// The store, once the device that had it has stopped.
async fn reopened(state: &std::path::Path) -> FileStore {
    for _ in 0..500 {
        if let Ok(store) = FileStore::open(state, ID) {
            return store;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    FileStore::open(state, ID).expect("a device that nobody holds keeps its store")
}

/// Polls the future as often, then drops it; its outcome if that came before.
async fn poll_times<F: Future>(future: F, times: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        if let Poll::Ready(outcome) =
            poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
        {
            return Some(outcome);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    None
}

/// Drops what `begin` begins after none, one, two … polls, until one comes to its end. What it begins
/// suspends at every await in turn: for its place in the queue and for its outcome.
async fn drop_at_every_await<F: Future>(begin: impl Fn() -> F) -> F::Output {
    for times in 0.. {
        if let Some(outcome) = poll_times(begin(), times).await {
            return outcome;
        }
    }
    unreachable!("counted for ever")
}

// Futures are dropped in `select!` and by time-outs all the time; each method says what then becomes
// of its command, and none may cost the device anything.
#[tokio::test]
async fn row_43_every_future_may_be_dropped_at_every_await() {
    let emulator = emulator(4);
    let (device, mut events) = connect(&emulator).await;
    event(&mut events, |event| matches!(event, Event::Twin(TwinEvent::Read { .. })).then_some(()))
        .await;
    emulator.with_cloud(|cloud, now| cloud.invoke_method(ID, ("m", "r1"), b"", now));
    let call = event(&mut events, |event| match event {
        Event::Method(MethodEvent::Called { call, .. }) => Some(*call),
        _ => None,
    })
    .await;

    drop_at_every_await(|| device.send_telemetry(Telemetry::new("x"))).await.unwrap();
    // Those that were dropped may still be waiting for their answers.
    while drop_at_every_await(|| device.report_properties(map(json!({ "n": 1 })))).await.is_err() {}
    drop_at_every_await(|| device.desired_properties()).await.unwrap();
    // Answered by one that was dropped, or by the last.
    let answered = drop_at_every_await(|| device.respond(call, 200, *b"1")).await;
    assert!(matches!(answered, Ok(()) | Err(RespondError::Rejected(Unanswerable::NotOpen))));
    // One renewal was begun by whichever came first; the others were turned away or dropped.
    let _ = drop_at_every_await(|| device.renew()).await;
    event(&mut events, |event| match event {
        Event::Activated { generation: 2, .. } => Some(()),
        _ => None,
    })
    .await;

    device.send_telemetry(Telemetry::new("still there")).await.unwrap();
    drop_at_every_await(|| device.close()).await;
    assert_eq!(device.state(), State::Stopped);
    let answers = std::iter::from_fn(|| emulator.next_event(Duration::ZERO));
    let answers = answers.filter(|event| matches!(event, CloudEvent::MethodAnswered { .. }));
    assert_eq!(answers.count(), 1);
}

// A connect that is given up leaves nobody behind: the next one has the store to itself.
#[tokio::test]
async fn a_connect_that_is_dropped_stops_its_device() {
    let emulator = emulator(5);
    let state = tempfile::tempdir().unwrap();
    for times in [0, 1, 2, 3, 5, 8, 13] {
        let store = reopened(state.path()).await;
        let builder = builder(&emulator, config(&emulator));
        if poll_times(builder.connect(store), times).await.is_some() {
            break;
        }
    }
    let store = reopened(state.path()).await;
    let connecting = builder(&emulator, config(&emulator)).connect(store);
    let (device, _events) = tokio::time::timeout(PATIENCE, connecting).await.unwrap().unwrap();
    device.send_telemetry(Telemetry::new("x")).await.unwrap();
}

// What is known to be wrong is told before anything is opened, stored or dialled.
#[tokio::test]
async fn a_configuration_that_cannot_work_starts_nothing() {
    let emulator = emulator(11);
    let mut config = config(&emulator);
    config.queue.max_messages = 0;
    let refused = builder(&emulator, config).spawn(MemoryStore::new());
    let Err(StartError::Config(error)) = refused else { panic!("it was started") };
    assert_eq!(error, ConfigError::Zero { member: "queue.max_messages" });
}

// A refusal is the end of waiting only when there is no other credential to show.
#[tokio::test]
async fn whoever_waits_is_told_of_a_refusal_only_by_the_last_credential() {
    let emulator = emulator(12);
    let mut config = config(&emulator);
    let wrong = Attestation::SymmetricKey(SymmetricKey::from_base64(WRONG_KEY).unwrap());
    let good = std::mem::replace(&mut config.attestation, wrong);
    config.other_attestations = vec![good];
    let connecting = builder(&emulator, config).connect(MemoryStore::new());
    let (device, _events) = tokio::time::timeout(PATIENCE, connecting).await.unwrap().unwrap();
    device.close().await;
}
