//! Each cause of a failed connection, made by a real TLS server on loopback, is recognised for what
//! it is: a device acts on the difference (fix the clock, change the credential, give up the host).
//! Tests bear the number of their row in the project's table of connection failures.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what fails here fails the test")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::UnixTime;
use support::{Authority, Key, Server, ServerPlan, connect, greet};
use zerotouch_credentials::{KeyAlgorithm, SignError, Signer};
use zerotouch_tls::{
    Roots, RootsError, TlsClient, TlsConfigError, TlsFailure, classify_io, client_config, handshake,
};

const GOOD: (i64, i64) = (-60, 3_600);

fn plan(authority: &Authority) -> ServerPlan<'_> {
    ServerPlan {
        authority,
        name: "localhost",
        valid: GOOD,
        version: &TLS13,
        demands: None,
        connections: 1,
    }
}

fn trusting(authority: &Authority) -> TlsClient {
    TlsClient::new(&Roots::Pem(authority.root_pem())).unwrap()
}

fn failure_of(server: Server, name: &str, config: Arc<rustls::ClientConfig>) -> TlsFailure {
    let error = greet(server.address, name, config).unwrap_err();
    server.finish().ok();
    classify_io(&error).unwrap_or_else(|| panic!("not a TLS failure: {error:?}"))
}

// The way it should go, with each kind of key and each version: the server is greeted and sees the
// device's certificate.
#[test]
fn presents_the_identity() {
    let authority = Authority::new("authority", 1);
    for version in [&TLS12, &TLS13] {
        for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Rsa2048] {
            let key = Key::new(algorithm, 2);
            let chain = authority.device(&key, GOOD);
            let server = Server::start(&ServerPlan {
                version,
                demands: Some(&authority),
                ..plan(&authority)
            });
            let signer: Arc<dyn Signer> = Arc::clone(&key.key) as _;
            let config = trusting(&authority).config(Some((signer, &chain))).unwrap();
            assert_eq!(greet(server.address, "localhost", config).unwrap(), "hello");
            // The root stays at home: the server has it, or does not trust it.
            let seen = server.finish().unwrap();
            assert_eq!(seen.len(), 1);
            assert_eq!(seen[0].as_ref(), chain.leaf().as_der());
        }
    }
}

// Some callers must use a provider of their own, down to its suites.
#[test]
fn the_provider_is_the_callers_choice() {
    let authority = Authority::new("authority", 1);
    let suite = rustls::crypto::ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    let provider = rustls::crypto::CryptoProvider {
        cipher_suites: vec![suite],
        ..rustls::crypto::ring::default_provider()
    };
    let roots = Roots::Pem(authority.root_pem());
    let of = |suites: Vec<_>| {
        let provider = rustls::crypto::CryptoProvider { cipher_suites: suites, ..provider.clone() };
        TlsClient::with_provider(Arc::new(provider), &roots)
    };
    let server = Server::start(&plan(&authority));
    let config = of(vec![suite]).unwrap().config(None).unwrap();
    let stream = connect(server.address, "localhost", config).unwrap();
    assert_eq!(stream.conn.negotiated_cipher_suite(), Some(suite));
    drop(stream);
    server.finish().ok();
    assert!(matches!(of(vec![]), Err(TlsConfigError::Provider(_))));
}

#[test]
fn row06_a_server_of_another_authority_is_untrusted() {
    let (ours, theirs) = (Authority::new("ours", 1), Authority::new("theirs", 3));
    let server = Server::start(&plan(&theirs));
    let config = trusting(&ours).config(None).unwrap();
    assert_eq!(failure_of(server, "localhost", config), TlsFailure::ServerUntrusted);
}

#[test]
fn row06_another_name_is_the_wrong_name() {
    let authority = Authority::new("authority", 1);
    let server = Server::start(&ServerPlan { name: "elsewhere.example", ..plan(&authority) });
    let config = trusting(&authority).config(None).unwrap();
    let failure = failure_of(server, "localhost", config);
    let TlsFailure::WrongHostName { expected, presented } = &failure else { panic!("{failure:?}") };
    assert_eq!(expected, "localhost");
    assert!(presented.iter().any(|name| name.contains("elsewhere.example")), "{presented:?}");
    assert!(failure.to_string().contains("not for localhost"), "{failure}");
}

#[test]
fn row03_dates_of_the_server_point_at_the_clock() {
    let authority = Authority::new("authority", 1);
    let config = trusting(&authority).config(None).unwrap();
    let days = 24 * 3_600;

    let server = Server::start(&ServerPlan { valid: (-9 * days, -3 * days), ..plan(&authority) });
    let failure = failure_of(server, "localhost", Arc::clone(&config));
    let TlsFailure::ServerCertificateExpired { ago: Some(ago), clock: Some(clock) } = failure
    else {
        panic!("{failure:?}")
    };
    assert!(ago >= Duration::from_secs(3 * 24 * 3_600), "{ago:?}");
    assert!(failure.to_string().contains(&format!("(it says {clock})")), "{failure}");
    assert!(failure.to_string().contains("expired 3 days ago; check this machine's clock"));

    let server = Server::start(&ServerPlan { valid: (7_300, 3 * days), ..plan(&authority) });
    let failure = failure_of(server, "localhost", config);
    assert!(
        matches!(failure, TlsFailure::ServerCertificateNotYetValid { ahead: Some(_), .. }),
        "{failure:?}"
    );
    assert!(failure.to_string().contains("only 2 hours from now"), "{failure}");
}

// The alert that tells a device to use another credential. TLS 1.3 delivers it only once our side
// believes the handshake done, on the first read.
#[test]
fn row07_a_refused_client_certificate_is_recognised_in_both_versions() {
    let (service, stranger) = (Authority::new("service", 1), Authority::new("stranger", 3));
    let key = Key::new(KeyAlgorithm::EcdsaP384, 2);
    let unknown = stranger.device(&key, GOOD);
    let expired = service.device(&key, (-3_600, -60));
    for version in [&TLS12, &TLS13] {
        for (chain, alert) in
            [(Some(&unknown), "unknown_ca"), (Some(&expired), "certificate_expired"), (None, "")]
        {
            let server =
                Server::start(&ServerPlan { version, demands: Some(&service), ..plan(&service) });
            let identity = chain.map(|chain| (Arc::clone(&key.key) as Arc<dyn Signer>, chain));
            let config = trusting(&service).config(identity).unwrap();
            let failure = failure_of(server, "localhost", config);
            let TlsFailure::ClientCertificateRefused { alert: got } = failure else {
                panic!("{failure:?} with {version:?}")
            };
            if !alert.is_empty() {
                assert_eq!(got.name(), Some(alert), "{version:?}");
            }
        }
    }
}

/// A clock that a test sets.
#[derive(Debug)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = self.0.load(Ordering::SeqCst);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}

/// As `config`, with a clock that is `secs` off.
fn with_clock(config: &rustls::ClientConfig, secs: i64) -> (Arc<rustls::ClientConfig>, Arc<Clock>) {
    let clock = Arc::new(Clock(UnixTime::now().as_secs().saturating_add_signed(secs).into()));
    let mut config = config.clone();
    config.time_provider = Arc::clone(&clock) as _;
    (Arc::new(config), clock)
}

// A device without a battery behind its clock begins in 1970: the message must lead to the clock and
// not to the server, and say what the clock says.
#[test]
fn row03_a_clock_that_was_never_set() {
    let authority = Authority::new("authority", 1);
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap();
    let (config, _) = with_clock(&trusting(&authority).config(None).unwrap(), 100 - now);
    let failure = failure_of(Server::start(&plan(&authority)), "localhost", config);
    assert!(
        matches!(
            failure,
            TlsFailure::ServerCertificateNotYetValid { clock: Some(clock), .. }
                if clock.as_secs() <= 160
        ),
        "{failure:?}"
    );
    assert!(failure.to_string().contains("clock is probably behind (it says 1970-"), "{failure}");
}

// NTP sets the clock back in the middle: the connection that stands goes on, and the next one with
// the ticket of the first, which by now is from the future, is made.
#[test]
fn row04_a_clock_that_steps_back() {
    let authority = Authority::new("authority", 1);
    let server =
        Server::start(&ServerPlan { connections: 2, valid: (-7_200, 3_600), ..plan(&authority) });
    let (config, clock) = with_clock(&trusting(&authority).config(None).unwrap(), 0);
    let mut stream = connect(server.address, "localhost", Arc::clone(&config)).unwrap();
    clock.0.fetch_sub(1_800, Ordering::SeqCst);
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
    assert_eq!(greet(server.address, "localhost", config).unwrap(), "hello");
    server.finish().unwrap();
}

// The two sides have no version in common, as with a service from before TLS 1.2: the server's alert
// says so.
#[test]
fn row06_no_version_in_common() {
    let authority = Authority::new("authority", 1);
    let server = Server::start(&ServerPlan { version: &TLS12, ..plan(&authority) });
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let failure = failure_of(server, "localhost", Arc::new(config));
    assert!(
        matches!(failure, TlsFailure::Alert { alert } if alert.name() == Some("protocol_version")),
        "{failure:?}"
    );
}

// A server that accepts and says nothing, and one that says a byte now and then: both must end, and as
// a timeout of the handshake.
#[test]
fn row05_a_handshake_that_does_not_end() {
    let authority = Authority::new("authority", 1);
    let config = trusting(&authority).config(None).unwrap();
    let limit = Duration::from_millis(200);
    for trickles in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            // The head of a handshake record of 16 KiB, and then its body, one byte at a time.
            let mut next =
                [0x16, 3, 3, 0x40, 0, 2, 0, 0x3F, 0xF0].into_iter().chain([0].into_iter().cycle());
            while trickles && socket.write_all(&[next.next().unwrap()]).is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::io::copy(&mut socket, &mut std::io::sink()).ok();
        });
        let name = "localhost".try_into().unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        let error = handshake(&mut connection, &mut socket, limit).unwrap_err();
        assert_eq!(classify_io(&error), Some(TlsFailure::HandshakeTimeout { limit }), "{error:?}");
        assert_eq!(socket.read_timeout().unwrap(), None);
        drop(socket);
        server.join().unwrap();
    }
}

// A web server, a captive portal, another service on the port.
#[test]
fn row02_what_is_not_tls_is_named_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let portal = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n").unwrap();
        std::io::copy(&mut socket, &mut std::io::sink()).ok();
    });
    let config = trusting(&Authority::new("authority", 1)).config(None).unwrap();
    let error = greet(address, "localhost", config).unwrap_err();
    assert_eq!(classify_io(&error), Some(TlsFailure::NotTls), "{error:?}");
    portal.join().unwrap();
}

// A refused connection is the network's failure: TLS has no opinion, and the caller's own ladder
// for the network applies.
#[test]
fn row01_network_failures_are_not_tls_failures() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = trusting(&Authority::new("authority", 1)).config(None).unwrap();
    let error = greet(address, "localhost", config).unwrap_err();
    assert_eq!(classify_io(&error), None);
}

// A WebSocket layer wraps the I/O error of the stream below it.
#[test]
fn row05_a_wrapped_error_is_found() {
    let tls = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
    let wrapped = std::io::Error::other(std::io::Error::other(tls));
    let failure = classify_io(&wrapped).unwrap();
    assert_eq!(
        failure.to_string(),
        "the server ended the TLS session with the alert handshake_failure (40)"
    );
}

#[derive(Debug)]
struct Unplugged {
    public_key: Vec<u8>,
}

impl Signer for Unplugged {
    fn algorithm(&self) -> KeyAlgorithm {
        KeyAlgorithm::EcdsaP384
    }

    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
        Err(SignError::Device("the token is gone".into()))
    }
}

// A key in hardware can fail at the moment of use, and that is not the server's doing.
#[test]
fn a_signer_that_fails_is_named() {
    let authority = Authority::new("authority", 1);
    let key = Key::new(KeyAlgorithm::EcdsaP384, 2);
    let chain = authority.device(&key, GOOD);
    let signer = Arc::new(Unplugged { public_key: key.key.public_key().to_vec() });
    let server = Server::start(&ServerPlan { demands: Some(&authority), ..plan(&authority) });
    let config = trusting(&authority).config(Some((signer, &chain))).unwrap();
    let failure = failure_of(server, "localhost", config);
    assert_eq!(
        failure.to_string(),
        "this device's key did not sign the handshake: the device holding the private key did not \
         sign: the token is gone"
    );
}

// A swapped key file must show when the configuration is made, not as a riddle in the handshake.
#[test]
fn row08_key_and_chain_must_belong_together() {
    let authority = Authority::new("authority", 1);
    let chain = authority.device(&Key::new(KeyAlgorithm::EcdsaP384, 2), GOOD);
    let other: Arc<dyn Signer> = Key::new(KeyAlgorithm::EcdsaP384, 4).key;
    let refused = trusting(&authority).config(Some((other, &chain)));
    assert!(matches!(refused, Err(TlsConfigError::KeyMismatch)));
}

#[test]
fn roots_that_are_none_are_refused() {
    let pem = |text: &[u8]| match client_config(&Roots::Pem(text.to_vec()), None) {
        Err(TlsConfigError::Roots(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(pem(b""), RootsError::EmptyPem));
    assert!(matches!(
        pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n"),
        RootsError::BrokenPem { index: 0 }
    ));
    let not_a_certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(pem(not_a_certificate), RootsError::UnusableRoot { index: 0, .. }));
}
