//! What is told of a device, and what is not: everything that is written at the finest level, by any
//! crate, while a device lives through a proxy and over WebSocket. Alone in its program, because
//! subscriber and recorder are the program's.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "not all of the network is for this test")]

#[path = "../../zerotouch-driver/tests/support/network.rs"]
mod network;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use network::{ConnectProxy, Manners, SharedStore, WebSocketBridge, closed_port, emulator};
use zerotouch_credentials::SymmetricKey;
use zerotouch_device::{Attestation, Config};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_hub::Telemetry;
use zerotouch_store::{Key, Store};
use zerotouch_tokio::{Device, Network, Proxy, Transport};

const ID: &str = "pump-17";

/// What the device's thread writes: the servers of this test, on theirs, may tell what they receive.
#[derive(Clone)]
struct Log(ThreadId, Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if thread::current().id() == self.0 {
            self.1.lock().unwrap().extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hex(text: &str) -> String {
    let digit = |digit: u8| char::from_digit(digit.into(), 16).unwrap();
    text.bytes().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[tokio::test]
async fn a_device_is_observed_and_keeps_its_secrets() {
    let log = Log(thread::current().id(), Arc::default());
    let writer = log.clone();
    // Takes the records of the `log` crate, which tungstenite writes, too.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();

    let emulator = emulator(1);
    let store = SharedStore::default();
    let bridge = WebSocketBridge::start(&emulator, &store);
    let proxy = ConnectProxy::start(Manners::Good);
    let network = Network {
        transport: Transport::WebSocket { port: bridge.port },
        proxy: Some(Proxy::new("127.0.0.1", proxy.port).basic_auth("ann", "hunter2")),
        ..Network::default()
    };
    let key: SymmetricKey = emulator.group_key("default-group").unwrap().derive(ID);
    let key_text = key.to_base64();
    let mut config = Config::new(
        IdScope::new(&emulator.id_scope()).unwrap(),
        RegistrationId::new(ID).unwrap(),
        Attestation::SymmetricKey(key),
    );
    config.provisioning_host = "localhost".into();
    config.provisioning_port = closed_port();
    config.hub.hosts.allow("localhost");
    let builder = Device::builder(config).roots(bridge.roots.clone()).network(network);
    let connecting = builder.connect(store.clone());
    let patience = Duration::from_secs(30);
    let (device, _events) = tokio::time::timeout(patience, connecting).await.unwrap().unwrap();
    device.send_telemetry(Telemetry::new("confidential")).await.unwrap();
    device.renew().await.unwrap();
    device.close().await;

    let log = String::from_utf8(log.1.lock().unwrap().clone()).unwrap();
    let line = |words: &str| {
        let found = log.lines().find(|line| line.contains(words));
        found.unwrap_or_else(|| panic!("nobody said {words:?}"))
    };
    for words in
        ["dps: assigned", "mqtt: connected to the hub", "stopped", "telemetry acknowledged"]
    {
        assert!(line(words).contains("registration_id=\"pump-17\""), "{}", line(words));
    }
    assert!(line("dps: assigning").contains("operation_id"));
    assert!(line("renewal: requested").contains("renewal{request_id="), "the span");
    assert!(log.contains("tungstenite"), "its log is heard at all");

    let Key::Software(key) = &store.clone().load().unwrap().active.unwrap().key else { panic!() };
    let key_pem = key.to_pkcs8_pem().unwrap();
    let secrets = [
        key_text.as_str(),
        "SharedAccessSignature",
        "hunter2",
        "YW5uOmh1bnRlcjI=",
        key_pem.lines().nth(1).unwrap(),
        "confidential",
    ];
    for secret in secrets {
        assert!(!log.contains(secret), "{secret:?} was told");
        assert!(!log.contains(&hex(secret)), "{secret:?} was told in hexadecimal");
    }

    let metrics = snapshotter.snapshot().into_vec().into_iter();
    let metrics: BTreeMap<_, _> = metrics
        .map(|(key, _, _, value)| {
            let label = key.key().labels().next().unwrap();
            assert_eq!((label.key(), label.value()), ("registration_id", ID));
            (key.key().name().to_owned(), value)
        })
        .collect();
    assert_eq!(metrics["zerotouch_reconnects_total"], DebugValue::Counter(1));
    assert_eq!(metrics["zerotouch_telemetry_dropped_total"], DebugValue::Counter(0));
    assert_eq!(metrics["zerotouch_queue_messages"], DebugValue::Gauge(0.0.into()));
    assert_eq!(metrics["zerotouch_queue_bytes"], DebugValue::Gauge(0.0.into()));
    let DebugValue::Histogram(latencies) = &metrics["zerotouch_telemetry_puback_seconds"] else {
        panic!("no histogram");
    };
    assert!(latencies.len() == 1 && latencies[0].0 > 0.0);
    let DebugValue::Gauge(left) = metrics["zerotouch_certificate_seconds_left"] else {
        panic!("no gauge");
    };
    assert!(left.0 > 0.0);

    // The documentation names all of them, and no others.
    let documented = include_str!("../../../docs/src/observability.md");
    let named = documented.lines().filter(|line| line.starts_with("| `zerotouch_"));
    let named: Vec<_> = named.map(|line| line.split('`').nth(1).unwrap()).collect();
    assert_eq!(named.len(), metrics.len());
    assert!(named.iter().all(|name| metrics.contains_key(*name)), "{named:?}");
}
