//! The emulator on real sockets: TLS, threads, and their end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what a test needs and does not get fails it"
)]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;
use rustls::client::TicketRequest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use serde_json::json;
use zerotouch_credentials::{
    CertificateChain, CertificateRequest, ChainPolicy, KeyAlgorithm, PrivateKey, SasToken, Signer,
};
use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::{CloudEvent, DpsSettings, Fixture, SERVICE_POLICIES};
use zerotouch_emulator::server::{StartError, crypto_provider};
use zerotouch_mqtt_codec::{ConnAck, ConnectRefusal, Packet, QoS};
use zerotouch_time::UnixTime;

mod client;
mod enrollments;
mod events;
mod https;

use client::Client;

const PATIENCE: Duration = Duration::from_secs(20);

fn emulator() -> Emulator {
    let dps = DpsSettings { retry_after: Duration::ZERO, ..DpsSettings::default() };
    Emulator::builder().fixture(Fixture { dps, ..Fixture::default() }).seed(1).start().unwrap()
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixTime::from_secs(i64::try_from(since.as_secs()).unwrap())
}

fn private_key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP384, &mut ChaCha20Rng::seed_from_u64(2)).unwrap()
}

fn service_token(emulator: &Emulator) -> String {
    let expiry = now() + Duration::from_secs(600);
    emulator.with_cloud(|cloud, _| {
        let (key, policy) = (cloud.service_key(), SERVICE_POLICIES[0]);
        SasToken::for_service(key, "localhost", policy, expiry).as_str().into()
    })
}

fn provision(
    emulator: &Emulator,
    id: &str,
    key: &PrivateKey,
    version: &'static SupportedProtocolVersion,
) -> CertificateChain {
    let mut dps = Client::dial(emulator, "localhost", version, None).unwrap();
    let scope = emulator.id_scope();
    let username = format!("{scope}/registrations/{id}/api-version=2025-07-01-preview");
    let device_key = emulator.group_key("default-group").unwrap().derive(id);
    let token = SasToken::for_dps(&device_key, &scope, id, now() + Duration::from_secs(600));
    let connack = dps.connect(id, &username, Some(token.as_str()));
    assert_eq!(connack, ConnAck::Accepted { session_present: false });
    dps.subscribe("$dps/registrations/res/#");
    let body = json!({ "csr": CertificateRequest::new(key, id).unwrap().to_base64() }).to_string();
    let register = "$dps/registrations/PUT/iotdps-register/?$rid=1";
    let (topic, accepted) = dps.ask(register, body.as_bytes());
    assert_eq!(topic, "$dps/registrations/res/202/?$rid=1&retry-after=0");
    let operation_id = accepted["operationId"].as_str().unwrap();
    let (_, assigned) = dps.ask(
        &format!(
            "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId={operation_id}"
        ),
        b"",
    );
    dps.send(Packet::Disconnect).unwrap();
    let chain = assigned["registrationState"]["issuedCertificateChain"].as_array().unwrap();
    let policy = ChainPolicy { now: Some(now()), ..ChainPolicy::new(key.public_key(), id) };
    CertificateChain::accept(chain.iter().map(|text| text.as_str().unwrap()), &policy).unwrap()
}

fn expect(emulator: &Emulator, what: impl Fn(&CloudEvent) -> bool) -> CloudEvent {
    loop {
        let event = emulator.next_event(PATIENCE).expect("the event does not come");
        if what(&event) {
            return event;
        }
    }
}

// The whole way, in both versions of TLS and by both names: a key for a certificate, and with the
// certificate to the hub, over a new TLS session that the client proves itself in.
#[test]
fn a_device_goes_the_whole_way_over_tls() {
    let emulator = emulator();
    for (version, name) in
        [(&rustls::version::TLS12, "localhost"), (&rustls::version::TLS13, "127.0.0.1")]
    {
        let id = format!("device-{name}");
        let key = private_key();
        let chain = provision(&emulator, &id, &key, version);
        let mut hub = Client::dial(&emulator, name, version, Some((&chain, &key))).unwrap();
        let username = format!("localhost/{id}/?api-version=2025-08-01-preview");
        let connack = hub.connect(&id, &username, None);
        assert_eq!(connack, ConnAck::Accepted { session_present: false });
        let topic = format!("devices/{id}/messages/events/a=b");
        hub.publish(&topic, b"hello", QoS::AtLeastOnce).unwrap();
        hub.read(|packet| assert!(matches!(packet, Packet::PubAck(_)), "{packet:?}")).unwrap();

        let connected = expect(&emulator, |e| matches!(e, CloudEvent::HubConnected { .. }));
        let thumbprint = Some(chain.leaf().thumbprint());
        let device_id = id.clone();
        let hub_name = "localhost".into();
        assert_eq!(connected, CloudEvent::HubConnected { hub: hub_name, device_id, thumbprint });
        expect(
            &emulator,
            |e| matches!(e, CloudEvent::Telemetry { payload, .. } if payload == b"hello"),
        );
        drop(hub);
        expect(&emulator, |e| matches!(e, CloudEvent::Disconnected { .. }));
    }
}

// A ticket is work for both sides: there is one for whoever says nothing, as reconnections want it, and
// none for who asks for none (RFC 9149).
#[test]
fn tickets_are_not_made_in_vain() {
    let emulator = emulator();
    let asks = |count| TicketRequest { new_session_count: count, resumption_count: count };
    for (request, tickets) in [(None, 1), (Some(asks(0)), 0), (Some(asks(9)), 1)] {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.send_ticket_request = request;
        let mut client = Client::dial_by(&emulator, "localhost", config).unwrap();
        // Tickets come before the answer, if at all.
        client.connect("d", "0neEMULATOR/registrations/d/api-version=2019-03-31", None);
        assert_eq!(client.stream.conn.tls13_tickets_received(), tickets);
    }
}

// A refusal is written before the connection is closed: the client reads why.
#[test]
fn an_expired_certificate_is_refused_in_mqtt_and_not_in_tls() {
    let emulator = emulator();
    let key = private_key();
    let chain = provision(&emulator, "d", &key, &rustls::version::TLS13);
    emulator.advance_clock(Duration::from_secs(31 * 24 * 60 * 60));
    let identity = Some((&chain, &key));
    let mut hub = Client::dial(&emulator, "localhost", &rustls::version::TLS13, identity).unwrap();
    let connack = hub.connect("d", "localhost/d/?api-version=2021-04-12", None);
    assert_eq!(connack, ConnAck::Refused(ConnectRefusal::NotAuthorized));
    let mut rest = Vec::new();
    assert_eq!(hub.stream.read_to_end(&mut rest).unwrap(), 0, "a clean end of TLS");
    expect(
        &emulator,
        |event| matches!(event, CloudEvent::HubRefused { reason, .. } if reason.contains("expired")),
    );
}

// Whoever does not trust the emulator's authority does not talk to it, and without the key of the
// certificate there is no connection either.
#[test]
fn tls_is_not_for_show() {
    let emulator = emulator();
    let version = &rustls::version::TLS13;
    let untrusting =
        Client::dial_trusting(&emulator, "localhost", version, None, RootCertStore::empty());
    let error = untrusting.err().unwrap();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    let other_name = Client::dial(&emulator, "example.org", version, None).err().unwrap();
    assert!(other_name.to_string().contains("not valid for name"), "{other_name}");

    // TLS 1.3 tells the client of its failed proof with the first read.
    let chain = provision(&emulator, "d", &private_key(), version);
    let other_key =
        PrivateKey::generate(KeyAlgorithm::EcdsaP384, &mut ChaCha20Rng::seed_from_u64(3)).unwrap();
    let provider = crypto_provider();
    let pem = other_key.to_pkcs8_pem().unwrap();
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let signing_key = provider.key_provider.load_private_key(key).unwrap();
    let chain: Vec<_> = chain.iter().map(|c| c.as_der().to_vec().into()).collect();
    let forged = rustls::sign::CertifiedKey::new(chain, signing_key);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(forged)));
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let tcp = TcpStream::connect(emulator.address()).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(tls, tcp);
    let error = stream.read(&mut [0]).unwrap_err();
    assert!(error.to_string().contains("DecryptError"), "{error}");
}

// A port that is taken is said by name; dropping the handle frees the port and ends connections.
#[test]
fn starts_and_ends() {
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = occupied.local_addr().unwrap().port();
    let error = Emulator::builder().port(port).start().unwrap_err();
    let StartError::AddressInUse { address } = &error else { panic!("{error:?}") };
    assert_eq!(*address, format!("127.0.0.1:{port}"));
    assert!(error.to_string().contains("choose another port"), "{error}");

    let emulator = emulator();
    let address = emulator.address();
    let version = &rustls::version::TLS13;
    let mut client = Client::dial(&emulator, "localhost", version, None).unwrap();
    drop(emulator);
    let mut rest = Vec::new();
    // However it ends, by a reset or an end of file, it ends soon.
    let ended = client.stream.read_to_end(&mut rest);
    assert!(!matches!(ended, Err(e) if e.kind() == io::ErrorKind::WouldBlock));
    TcpListener::bind(address).unwrap();
}

// Bytes that are no TLS, and a client that asks and asks and never reads: each ends alone, and what
// waits for it is let go.
#[test]
fn bad_clients_end_alone() {
    let emulator = emulator();
    let version = &rustls::version::TLS13;
    let mut scanner = TcpStream::connect(emulator.address()).unwrap();
    scanner.set_read_timeout(Some(PATIENCE)).unwrap();
    scanner.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let _ = scanner.read_to_end(&mut Vec::new());

    let key = private_key();
    let chain = provision(&emulator, "d", &key, version);
    let identity = Some((&chain, &key));
    let mut greedy = Client::dial(&emulator, "localhost", version, identity).unwrap();
    greedy.connect("d", "localhost/d/?api-version=2021-04-12", None);
    greedy.subscribe("$iothub/twin/res/#");
    let patch = format!(r#"{{"a":"{}"}}"#, "x".repeat(32_000));
    greedy.ask("$iothub/twin/PATCH/properties/reported/?$rid=1", patch.as_bytes());
    // 32 MB of answers, more than the sockets' buffers and the queue together hold.
    let asked = (0..1000)
        .try_for_each(|_| greedy.publish("$iothub/twin/GET/?$rid=2", b"", QoS::AtMostOnce));
    // Its own sending may have failed already.
    drop(asked);
    expect(&emulator, |event| matches!(event, CloudEvent::Disconnected { .. }));
    assert_eq!(emulator.with_cloud(|cloud, _| cloud.connection_count()), 0);
    provision(&emulator, "e", &key, version);
}

// What an operator does reaches devices at once, without their sending anything.
#[test]
fn the_operator_acts_from_any_thread() {
    let emulator = emulator();
    let version = &rustls::version::TLS12;
    let key = private_key();
    let chain = provision(&emulator, "d", &key, version);
    let identity = Some((&chain, &key));
    let mut hub = Client::dial(&emulator, "localhost", version, identity).unwrap();
    hub.connect("d", "localhost/d/?api-version=2021-04-12", None);
    hub.subscribe("$iothub/methods/POST/#");
    let sent = std::thread::scope(|scope| {
        let invoke =
            || emulator.with_cloud(|cloud, now| cloud.invoke_method("d", ("go", "7"), b"{}", now));
        scope.spawn(invoke).join().unwrap()
    });
    assert!(sent);
    hub.read(|packet| match packet {
        Packet::Publish(publish) => {
            assert_eq!(publish.topic.as_str(), "$iothub/methods/POST/go/?$rid=7");
        }
        other => panic!("{other:?}"),
    })
    .unwrap();
    // A renewal's 200 comes by itself, when its time has come.
    hub.send(Packet::Disconnect).unwrap();
    let mut hub = Client::dial(&emulator, "localhost", version, identity).unwrap();
    hub.connect("d", "localhost/d/?api-version=2025-08-01-preview", None);
    hub.subscribe("$iothub/credentials/res/#");
    let csr = CertificateRequest::new(&key, "d").unwrap().to_base64();
    let body = json!({ "id": "d", "csr": csr }).to_string();
    let (topic, _) = hub.ask("$iothub/credentials/POST/issueCertificate/?$rid=9", body.as_bytes());
    assert_eq!(topic, "$iothub/credentials/res/202/?$rid=9");
    hub.read(|packet| match packet {
        Packet::Publish(publish) => {
            assert_eq!(publish.topic.as_str(), "$iothub/credentials/res/200/?$rid=9");
        }
        other => panic!("{other:?}"),
    })
    .unwrap();
}

// A laptop is closed and opened again: what was issued yesterday is still good today, and revoking it
// is remembered too.
#[test]
fn a_data_directory_remembers_authorities_and_devices() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let dps = DpsSettings { retry_after: Duration::ZERO, ..DpsSettings::default() };
        let fixture = Fixture { dps, ..Fixture::default() };
        Emulator::builder().fixture(fixture).data_dir(directory.path()).start().unwrap()
    };
    let version = &rustls::version::TLS13;
    let key = private_key();
    let chain = provision(&start(), "keeper", &key, version);

    let connect = |emulator: &Emulator| {
        let identity = Some((&chain, &key));
        let mut hub = Client::dial(emulator, "localhost", version, identity).unwrap();
        hub.connect("keeper", "localhost/keeper/?api-version=2021-04-12", None)
    };
    let emulator = start();
    assert_eq!(connect(&emulator), ConnAck::Accepted { session_present: false });
    // New random numbers: nothing that was drawn in the first run is drawn again.
    let renewed = provision(&emulator, "another", &key, version);
    assert_ne!(renewed.leaf().serial(), chain.leaf().serial());
    assert!(emulator.with_cloud(|cloud, now| cloud.revoke_device("keeper", false, now)));
    drop(emulator);
    assert_eq!(connect(&start()), ConnAck::Refused(ConnectRefusal::NotAuthorized));

    let file = directory.path().join("emulator.redb");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    std::fs::write(&file, "{}").unwrap();
    let refusal = Emulator::builder().data_dir(directory.path()).start().unwrap_err();
    assert!(matches!(refusal, StartError::Storage(_)), "{refusal}");
    assert_eq!(std::fs::read(&file).unwrap(), b"{}", "what cannot be read is not overwritten");
}

// Where nobody asks for events, none is kept; the service is the same.
#[test]
fn events_are_not_kept_for_nobody() {
    for keep in [true, false] {
        let dps = DpsSettings { retry_after: Duration::ZERO, ..DpsSettings::default() };
        let fixture = Fixture { dps, ..Fixture::default() };
        let emulator = Emulator::builder().fixture(fixture).keep_events(keep).start().unwrap();
        provision(&emulator, "d", &private_key(), &rustls::version::TLS13);
        assert_eq!(emulator.next_event(Duration::ZERO).is_some(), keep);
    }
}

// Hubs that are loopback addresses are dialled there, whether the emulator listens on one address or on all.
#[test]
fn hubs_are_found_at_their_addresses() {
    for address in ["127.0.0.1:0", "0.0.0.0:0"] {
        let hubs = ["localhost", "127.0.0.2"].map(String::from).into();
        let fixture = Fixture { hubs, ..Fixture::default() };
        let emulator = Emulator::builder().fixture(fixture).address(address).start().unwrap();
        for hub in ["127.0.0.1", "127.0.0.2"] {
            TcpStream::connect((hub, emulator.port())).unwrap();
        }
    }
}
