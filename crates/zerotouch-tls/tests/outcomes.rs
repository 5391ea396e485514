//! Each cause of a failed connection, made by a real TLS server on loopback, is recognised for what
//! it is: a device acts on the difference (fix the clock, change the credential, give up the host).

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what fails here fails the test")]

mod support;

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use support::{Authority, Key, Server, ServerPlan, greet};
use zerotouch_credentials::{KeyAlgorithm, SignError, Signer};
use zerotouch_tls::{
    Roots, RootsError, TlsClient, TlsConfigError, TlsFailure, classify_io, client_config,
};

const GOOD: (i64, i64) = (-60, 3_600);

fn plan(authority: &Authority) -> ServerPlan<'_> {
    ServerPlan { authority, name: "localhost", valid: GOOD, version: &TLS13, demands: None }
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
        for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384] {
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

#[test]
fn a_server_of_another_authority_is_untrusted() {
    let (ours, theirs) = (Authority::new("ours", 1), Authority::new("theirs", 3));
    let server = Server::start(&plan(&theirs));
    let config = trusting(&ours).config(None).unwrap();
    assert_eq!(failure_of(server, "localhost", config), TlsFailure::ServerUntrusted);
}

#[test]
fn another_name_is_the_wrong_name() {
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
fn dates_of_the_server_point_at_the_clock() {
    let authority = Authority::new("authority", 1);
    let config = trusting(&authority).config(None).unwrap();
    let days = 24 * 3_600;

    let server = Server::start(&ServerPlan { valid: (-9 * days, -3 * days), ..plan(&authority) });
    let failure = failure_of(server, "localhost", Arc::clone(&config));
    let TlsFailure::ServerCertificateExpired { ago: Some(ago) } = failure else {
        panic!("{failure:?}")
    };
    assert!(ago >= Duration::from_secs(3 * 24 * 3_600), "{ago:?}");
    assert!(failure.to_string().contains("expired 3 days ago; check this machine's clock"));

    let server = Server::start(&ServerPlan { valid: (7_300, 3 * days), ..plan(&authority) });
    let failure = failure_of(server, "localhost", config);
    assert!(
        matches!(failure, TlsFailure::ServerCertificateNotYetValid { ahead: Some(_) }),
        "{failure:?}"
    );
    assert!(failure.to_string().contains("only 2 hours from now"), "{failure}");
}

// The alert that tells a device to use another credential. TLS 1.3 delivers it only once our side
// believes the handshake done, on the first read.
#[test]
fn a_refused_client_certificate_is_recognised_in_both_versions() {
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

// A web server, a captive portal, another service on the port.
#[test]
fn what_is_not_tls_is_named_so() {
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
fn network_failures_are_not_tls_failures() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = trusting(&Authority::new("authority", 1)).config(None).unwrap();
    let error = greet(address, "localhost", config).unwrap_err();
    assert_eq!(classify_io(&error), None);
}

// A WebSocket layer wraps the I/O error of the stream below it.
#[test]
fn a_wrapped_error_is_found() {
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
fn key_and_chain_must_belong_together() {
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
