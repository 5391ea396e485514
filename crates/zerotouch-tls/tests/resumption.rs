//! Which reconnections resume a session, and that none does as somebody else.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "what fails here fails the test"
)]

mod support;

use std::io::Read;
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use support::{Authority, Key, Server, ServerPlan, connect};
use zerotouch_credentials::{CertificateChain, KeyAlgorithm, Signer};
use zerotouch_tls::{Roots, TlsClient};

const GOOD: (i64, i64) = (-60, 3_600);

fn server(
    authority: &Authority,
    version: &'static rustls::SupportedProtocolVersion,
    connections: usize,
) -> Server {
    Server::start(&ServerPlan {
        authority,
        name: "localhost",
        valid: GOOD,
        version,
        demands: Some(authority),
        connections,
    })
}

/// Connects, listens to the end, by which time the tickets have come, and tells how the handshake was.
fn visit(server: &Server, config: Arc<ClientConfig>) -> HandshakeKind {
    let mut stream = connect(server.address, "localhost", config).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
    stream.conn.handshake_kind().unwrap()
}

struct Device {
    signer: Arc<dyn Signer>,
    chain: CertificateChain,
}

impl Device {
    fn new(authority: &Authority, seed: u64) -> Self {
        let key = Key::new(KeyAlgorithm::EcdsaP256, seed);
        let chain = authority.device(&key, GOOD);
        Self { signer: key.key, chain }
    }

    fn config(&self, client: &TlsClient) -> Arc<ClientConfig> {
        client.config(Some((Arc::clone(&self.signer), &self.chain))).unwrap()
    }
}

// A driver asks for a configuration at each dial. Were it a new one each time, nothing would ever be
// resumed.
#[test]
fn the_same_identity_resumes() {
    let authority = Authority::new("authority", 1);
    let device = Device::new(&authority, 2);
    for version in [&TLS12, &TLS13] {
        let client = TlsClient::new(&Roots::Pem(authority.root_pem())).unwrap();
        let server = server(&authority, version, 3);
        assert_eq!(visit(&server, device.config(&client)), HandshakeKind::Full);
        assert_eq!(visit(&server, device.config(&client)), HandshakeKind::Resumed, "{version:?}");
        // A clone is the same client: a driver hands one to each dial.
        assert_eq!(visit(&server, device.config(&client.clone())), HandshakeKind::Resumed);
        // The server still knows whom it talks to.
        assert_eq!(server.finish().unwrap()[0].as_ref(), device.chain.leaf().as_der());
    }
}

// Some fleets want a full handshake each time, so that a revoked certificate is noticed.
#[test]
fn resumption_can_be_switched_off() {
    let authority = Authority::new("authority", 1);
    let device = Device::new(&authority, 2);
    for version in [&TLS12, &TLS13] {
        let client = TlsClient::new(&Roots::Pem(authority.root_pem())).unwrap().resumption(false);
        let server = server(&authority, version, 2);
        assert_eq!(visit(&server, device.config(&client)), HandshakeKind::Full);
        assert_eq!(visit(&server, device.config(&client)), HandshakeKind::Full);
        server.finish().unwrap();
    }
}

// Tickets that nobody will use are work for both sides: a client that resumes nothing asks for none
// (RFC 9149), and one that may resume leaves their number to the server.
#[test]
fn no_tickets_are_asked_for_in_vain() {
    let authority = Authority::new("authority", 1);
    let client = TlsClient::new(&Roots::Pem(authority.root_pem())).unwrap();
    let asked = |client: &TlsClient| {
        let asked = client.config(None).unwrap().send_ticket_request;
        asked.map(|asked| (asked.new_session_count, asked.resumption_count))
    };
    assert_eq!(asked(&client), None);
    let client = client.resumption(false);
    assert_eq!(asked(&client), Some((0, 0)));
    assert_eq!(asked(&client.resumption(true)), None);
}

// After a renewal a ticket of the old certificate would connect the device as before, and the new
// certificate would count as accepted without having been shown.
#[test]
fn a_new_certificate_is_shown() {
    let authority = Authority::new("authority", 1);
    let (old, new) = (Device::new(&authority, 2), Device::new(&authority, 3));
    let client = TlsClient::new(&Roots::Pem(authority.root_pem())).unwrap();
    let server = server(&authority, &TLS13, 4);
    assert_eq!(visit(&server, old.config(&client)), HandshakeKind::Full);
    assert_eq!(visit(&server, new.config(&client)), HandshakeKind::Full);
    // Should the new one be refused, the old one is still at hand.
    assert_eq!(visit(&server, old.config(&client)), HandshakeKind::Resumed);
    assert_eq!(visit(&server, new.config(&client)), HandshakeKind::Resumed);
    assert_eq!(server.finish().unwrap()[0].as_ref(), new.chain.leaf().as_der());
}

// A token that was unplugged is opened anew, by a signer of the same key: the configuration with the
// signer that is of no more use must not come back.
#[test]
fn a_new_signer_of_the_same_key_is_used() {
    let authority = Authority::new("authority", 1);
    let (before, after) = (Device::new(&authority, 2), Device::new(&authority, 2));
    let client = TlsClient::new(&Roots::Pem(authority.root_pem())).unwrap();
    let first = before.config(&client);
    assert!(Arc::ptr_eq(&first, &before.config(&client)));
    assert!(!Arc::ptr_eq(&first, &after.config(&client)));
    // Two are kept, and keys of identities gone by are let go.
    let third = Device::new(&authority, 5);
    third.config(&client);
    let held = Arc::downgrade(&before.signer);
    drop((before, first));
    assert_eq!(held.strong_count(), 0);
}
