//! Through other people's networks: WebSocket, proxies good and bad, and ports that are closed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "../../zerotouch-driver/tests/support/network.rs"]
mod network;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use network::{ConnectProxy, Manners, SharedStore, WebSocketBridge, closed_port, emulator};
use zerotouch_device::{
    Attestation, Backoff, Config, Event, Failure, FailureClass, Scope, TransportFailureKind as Kind,
};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_emulator::Emulator;
use zerotouch_hub::Telemetry;
use zerotouch_store::Store;
use zerotouch_tls::Roots;
use zerotouch_tokio::{Device, Network, Proxy, Resolver, Transport};

const ID: &str = "pump-17";
const PATIENCE: Duration = Duration::from_secs(30);

fn config(emulator: &Emulator, port: u16) -> Config {
    let key = emulator.group_key("default-group").unwrap().derive(ID);
    let mut config = Config::new(
        IdScope::new(&emulator.id_scope()).unwrap(),
        RegistrationId::new(ID).unwrap(),
        Attestation::SymmetricKey(key),
    );
    config.provisioning_host = "localhost".into();
    config.provisioning_port = port;
    config.hub.port = port;
    config.hub.hosts.allow("localhost");
    config
}

/// The canonical life: provisioned, connected, heard, renewed.
async fn live(config: Config, roots: Roots, network: Network, store: impl Store + Send + 'static) {
    let connecting = Device::builder(config).roots(roots).network(network).connect(store);
    let (device, _events) = tokio::time::timeout(PATIENCE, connecting).await.unwrap().unwrap();
    device.send_telemetry(Telemetry::new(vec![b'x'; 100_000])).await.unwrap();
    assert_eq!(device.renew().await.unwrap().generation, 2);
    device.send_telemetry(Telemetry::new("after")).await.unwrap();
    device.close().await;
}

/// The first attempt's failure.
async fn failure(config: Config, roots: Roots, network: Network) -> Failure {
    let store = SharedStore::default();
    let builder = Device::builder(config).roots(roots).network(network);
    let (device, mut events) = builder.spawn(store).unwrap();
    let search = async {
        loop {
            if let Event::AttemptFailed { scope: Scope::Dps, failure, .. } =
                events.recv().await.unwrap()
            {
                return failure;
            }
        }
    };
    let failure = tokio::time::timeout(PATIENCE, search).await.unwrap();
    device.close().await;
    failure
}

fn through(port: u16) -> Network {
    let proxy = Proxy::new("127.0.0.1", port).basic_auth("ann", "hunter2");
    Network { proxy: Some(proxy), ..Network::default() }
}

// Fragments, pings, frames that end within packets, and both services behind one path.
#[tokio::test]
async fn a_device_lives_over_web_socket() {
    let emulator = emulator(1);
    let store = SharedStore::default();
    let bridge = WebSocketBridge::start(&emulator, &store);
    let network =
        Network { transport: Transport::WebSocket { port: bridge.port }, ..Network::default() };
    live(config(&emulator, closed_port()), bridge.roots.clone(), network, store).await;
    assert_eq!(*bridge.requests.lock().unwrap(), ["/$iothub/websocket"; 3], "DPS, hub, hub");
    assert!(*bridge.pongs.lock().unwrap() > 0);
}

// Where 8883 is closed the device finds another way, also through a proxy.
#[tokio::test]
async fn a_device_falls_back_to_web_socket() {
    let emulator = emulator(2);
    let store = SharedStore::default();
    let bridge = WebSocketBridge::start(&emulator, &store);
    let proxy = ConnectProxy::start(Manners::Good);
    let transport = Transport::Either { port: bridge.port };
    let network = Network { transport, ..through(proxy.port) };
    let closed = closed_port();
    live(config(&emulator, closed), bridge.roots.clone(), network, store).await;
    let requests = proxy.requests.lock().unwrap();
    let asked: Vec<_> = requests.iter().map(|head| head.split(' ').nth(1).unwrap()).collect();
    let [closed, open] = [closed, bridge.port].map(|port| format!("localhost:{port}"));
    assert_eq!(asked, [&closed, &open, &open, &open], "what worked last is tried first");
}

// DPS and hub alike, and with its credentials.
#[tokio::test]
async fn a_device_lives_behind_a_proxy() {
    let emulator = emulator(3);
    let proxy = ConnectProxy::start(Manners::Good);
    let roots = Roots::Pem(emulator.ca_pem().into());
    let config = config(&emulator, emulator.port());
    live(config, roots, through(proxy.port), SharedStore::default()).await;
    let requests = proxy.requests.lock().unwrap();
    assert_eq!(requests.len(), 3, "{requests:?}");
    for head in &*requests {
        assert!(head.starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", emulator.port())));
        assert!(head.contains("\r\nProxy-Authorization: Basic YW5uOmh1bnRlcjI=\r\n"));
    }
}

// A dial that was given up may still come to its end, and must not take the place of the connection that
// came of a later one.
#[tokio::test]
async fn a_late_dial_replaces_nothing() {
    let emulator = emulator(5);
    let late = Duration::from_millis(1500);
    let proxy = ConnectProxy::start(Manners::LateAtFirst(late));
    let mut config = config(&emulator, emulator.port());
    config.dial_timeout = Duration::from_secs(1);
    let soon = Duration::from_millis(1);
    config.retry.dps = Backoff { initial: soon, cap: soon };
    let roots = Roots::Pem(emulator.ca_pem().into());
    let builder = Device::builder(config).roots(roots).network(through(proxy.port));
    let (device, mut events) = builder.connect(SharedStore::default()).await.unwrap();
    let end = Instant::now() + late;
    while Instant::now() < end {
        device.send_telemetry(Telemetry::new("x")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    device.close().await;
    let mut failures = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::AttemptFailed { failure, .. } = event {
            failures.push(failure);
        }
    }
    let all_late = failures.iter().all(|f| matches!(f, Failure::DialTimeout { .. }));
    assert!(all_late && !failures.is_empty(), "{failures:?}");
}

// Names are resolved anew for each dial, and every address is tried: the first answer leads nowhere, the
// next has the right address behind one that is closed.
#[tokio::test]
async fn names_are_resolved_anew_and_every_address_is_tried() {
    let emulator = emulator(6);
    let (closed, open) = (SocketAddr::from(([127, 0, 0, 2], emulator.port())), emulator.address());
    let dials = Arc::new(AtomicU32::new(0));
    let resolver = Resolver::new({
        let dials = Arc::clone(&dials);
        move |host, _| {
            assert_eq!(host, "localhost");
            let is_first = dials.fetch_add(1, Ordering::Relaxed) == 0;
            Ok(if is_first { vec![closed] } else { vec![closed, open] })
        }
    });
    let mut config = config(&emulator, emulator.port());
    let soon = Duration::from_millis(1);
    config.retry.dps = Backoff { initial: soon, cap: soon };
    let network = Network { resolver, ..Network::default() };
    let roots = Roots::Pem(emulator.ca_pem().into());
    live(config, roots, network, SharedStore::default()).await;
    assert_eq!(dials.load(Ordering::Relaxed), 4, "DPS in vain, DPS, hub, hub");
}

// Whatever a proxy does instead of its duty, it is a failure that says so, without the password.
#[tokio::test]
async fn a_proxy_that_fails_is_told_from_others() {
    let emulator = emulator(4);
    let roots = Roots::Pem(emulator.ca_pem().into());
    for (manners, words, kind, class) in [
        (Manners::Refuses(407), "407", Kind::ProxyRefused { status: 407 }, FailureClass::Terminal),
        (Manners::Refuses(503), "503", Kind::ProxyRefused { status: 503 }, FailureClass::Retryable),
        (Manners::Garbage, "HTTP", Kind::Unreachable, FailureClass::Retryable),
    ] {
        let proxy = ConnectProxy::start(manners);
        let config = config(&emulator, emulator.port());
        let failure = failure(config, roots.clone(), through(proxy.port)).await;
        assert_eq!(failure.class(), class);
        let Failure::Transport(failure) = failure else { panic!("of another layer") };
        assert_eq!(failure.kind, kind);
        assert!(failure.detail.contains(words) && !failure.detail.contains("hunter2"), "{failure}");
    }
    let silent = ConnectProxy::start(Manners::Silent);
    let mut config = config(&emulator, emulator.port());
    config.dial_timeout = Duration::from_millis(100);
    let failure = failure(config, roots, through(silent.port)).await;
    assert!(matches!(failure, Failure::DialTimeout { .. }), "{failure}");
}
