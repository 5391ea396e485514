//! The certificates, as somebody else's tool reads them; and fixtures that describe no cloud.

use std::process::Command;

use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;
use zerotouch_credentials::KeyAlgorithm;
use zerotouch_emulator::cloud::{
    Cloud, CloudError, EnrollmentGroup, Fixture, FixtureError, IndividualEnrollment,
};
use zerotouch_time::UnixTime;

use crate::support::{World, private_key};

/// Runs openssl on `pem`; `None`, and plain words, where there is no openssl.
fn openssl(arguments: &[&str], pem: &str) -> Option<String> {
    use std::io::Write;
    use std::process::Stdio;
    let child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        assert!(std::env::var_os("CI").is_none(), "openssl is missing, and this is CI");
        println!("skipped: there is no openssl");
        return None;
    };
    child.stdin.take().unwrap().write_all(pem.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

// The leaf's profile: what a client certificate needs, and the identifier that revocation goes by.
#[test]
fn openssl_reads_the_profile() {
    let mut world = World::new(Fixture::default());
    let identity = world.provision("d", &private_key(1));
    let pem = identity.chain.to_pem();
    let Some(text) = openssl(&["x509", "-noout", "-text"], &pem) else { return };
    // Versions differ in the spaces around it.
    let text = text.replace(" = ", "=");
    for expected in [
        "Version: 3",
        "Signature Algorithm: ecdsa-with-SHA384",
        "Issuer: CN=zerotouch policy default EMULATOR - NOT FOR PRODUCTION",
        "Subject: CN=d",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n",
        "X509v3 Subject Key Identifier:",
        "X509v3 Authority Key Identifier:",
        "URI:urn:uuid:",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
    let root = world.cloud.root_certificate_pem();
    let text = openssl(&["x509", "-noout", "-text"], &root).unwrap();
    for expected in ["CA:TRUE", "Certificate Sign, CRL Sign", "secp384r1", "ecdsa-with-SHA384"] {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
}

// openssl's own path building agrees that the chain is one.
#[test]
fn openssl_verifies_the_chain() {
    let mut world = World::new(Fixture::default());
    let identity = world.provision("d", &private_key(1));
    let directory = std::env::temp_dir().join(format!("zerotouch-chain-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let [root, chain] = ["root.pem", "chain.pem"].map(|name| directory.join(name));
    std::fs::write(&root, world.cloud.root_certificate_pem()).unwrap();
    std::fs::write(&chain, identity.chain.to_pem()).unwrap();
    let [root, chain] = [root, chain].map(|path| path.into_os_string().into_string().unwrap());
    let at = world.wall().as_secs().to_string();
    let arguments = [
        "verify",
        "-x509_strict",
        "-attime",
        &at,
        "-purpose",
        "sslclient",
        "-CAfile",
        &root,
        "-untrusted",
        &chain,
        &chain,
    ];
    let verdict = openssl(&arguments, "");
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(verdict.is_none_or(|text| text.contains("OK")));
}

// Whoever asks for the cheaper curve gets it at every step above the device.
#[test]
fn the_authority_has_the_algorithm_of_the_fixture() {
    let mut world =
        World::new(Fixture { ca_algorithm: KeyAlgorithm::EcdsaP256, ..Fixture::default() });
    let identity = world.provision("d", &private_key(1));
    let root = world.cloud.root_certificate_pem();
    for pem in [identity.chain.to_pem(), root] {
        let Some(text) = openssl(&["x509", "-noout", "-text"], &pem) else { return };
        assert!(text.contains("Signature Algorithm: ecdsa-with-SHA256"), "{text}");
    }
}

// A simulation is repeated from its seed: the same inputs give the same certificate, signature and all.
#[test]
fn certificates_are_the_same_again() {
    let issued = || World::new(Fixture::default()).provision("d", &private_key(1)).chain;
    assert_eq!(issued().to_pem(), issued().to_pem());
}

// A fixture is written by hand: each slip is named.
#[test]
fn fixtures_are_checked() {
    let refused = |change: &dyn Fn(&mut Fixture)| {
        let mut fixture = Fixture::default();
        change(&mut fixture);
        let (rng, now) = (ChaCha20Rng::seed_from_u64(1), UnixTime::from_secs(0));
        match Cloud::new(fixture, rng, now) {
            Err(CloudError::Fixture(error)) => error,
            other => panic!("{:?}", other.err()),
        }
    };
    assert!(matches!(refused(&|f| f.id_scope = "a b".into()), FixtureError::Id(_)));
    assert_eq!(refused(&|f| f.hubs.clear()), FixtureError::NoHub);
    let twice = refused(&|f| f.enrollment_groups.push(EnrollmentGroup::symmetric("Default-Group")));
    assert!(twice.to_string().contains("two enrolment groups called \"Default-Group\""), "{twice}");
    let unknown = refused(&|f| f.enrollment_groups[0].credential_policy = Some("gold".into()));
    assert_eq!(
        unknown.to_string(),
        "enrolment \"default-group\" names the credential policy \"gold\", which does not exist"
    );
    let hub = refused(&|f| f.individual_enrollments[0].hubs = vec!["elsewhere".into()]);
    assert!(matches!(hub, FixtureError::Unknown { what: "hub", .. }));
    let id = refused(&|f| f.individual_enrollments.push(IndividualEnrollment::symmetric("a/b")));
    assert!(matches!(id, FixtureError::Id(_)));
    for bad in ["", "a/b", "a+", "#", "ä"] {
        let error = refused(&|f| f.individual_enrollments[0].device_id = Some(bad.into()));
        assert_eq!(error, FixtureError::DeviceId { given: bad.into() });
    }
}
