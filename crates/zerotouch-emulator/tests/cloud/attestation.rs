//! Every way to attest, each with and without a certificate request, by the device's own engine: what
//! `zerotouch-dps` sends is what this service takes, and the other way round.

use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;
use rcgen::{
    CertificateParams, DnType, PublicKeyData, SignatureAlgorithm, SigningKey, date_time_ymd,
};
use zerotouch_credentials::{
    Certificate, CertificateRequest, PrivateKey, SasToken, Signer, SymmetricKey,
};
use zerotouch_dps::{
    Config, ConnectionProfile, Event, IdScope, Registered, Registration, RegistrationError,
    RegistrationId,
};
use zerotouch_emulator::cloud::{
    Attestation, CloudEvent, DpsSettings, EnrollmentGroup, Fixture, IndividualEnrollment, Quota,
};

use crate::support::{DPS_VERSION, Got, World, private_key};

/// What a device shows: a key to sign a token with, or a chain.
enum Shown {
    Key(SymmetricKey),
    Chain(Vec<Vec<u8>>),
}

/// One registration by the engine, from CONNECT to its last event.
fn register(
    world: &mut World,
    id: &str,
    api_version: &str,
    shown: Shown,
    csr: Option<String>,
) -> Result<Registered, RegistrationError> {
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let scope = world.cloud.id_scope().to_owned();
    let mut config = Config::new(IdScope::new(&scope).unwrap(), RegistrationId::new(id).unwrap());
    config.api_version = api_version.into();
    let username = config.username();
    let expiry = world.wall() + Duration::from_secs(3600);
    let (token, chain) = match shown {
        Shown::Key(key) => (Some(SasToken::for_dps(&key, &scope, id, expiry)), Vec::new()),
        Shown::Chain(chain) => (None, chain),
    };
    let password = token.as_ref().map(SasToken::as_str);
    let connection = world.connect_dps_with(id, &username, password, chain);
    let mut registration = Registration::new(config, csr, &mut rng);
    registration.start(world.now.monotonic);
    let outcome = loop {
        while let Some(request) = registration.poll_request() {
            world.publish(connection, &request.topic, &request.payload);
        }
        for got in world.received(connection) {
            if let Got::Message { topic, payload, .. } = got {
                registration.handle_message(&topic, &payload, world.now.monotonic, &mut rng);
            }
        }
        match registration.poll_event() {
            Some(Event::Assigned(registered)) => break Ok(*registered),
            Some(Event::Failed(error)) => break Err(error),
            Some(_) => {}
            None => {
                let due = registration.poll_timeout().unwrap();
                world.wait(due.since(world.now.monotonic));
                registration.handle_timeout(world.now.monotonic);
            }
        }
    };
    world.cut(connection);
    outcome
}

fn csr(id: &str) -> String {
    CertificateRequest::new(&private_key(2), id).unwrap().to_base64()
}

struct OwnKey(PrivateKey);

impl PublicKeyData for OwnKey {
    fn der_bytes(&self) -> &[u8] {
        // The point of a P-256 key is the last 65 bytes of its DER.
        let der = self.0.public_key();
        &der[der.len() - 65..]
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for OwnKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

fn self_signed(id: &str) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, id);
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
    params.serial_number = Some(vec![1, 2, 3].into());
    params.self_signed(&OwnKey(private_key(7))).unwrap().der().to_vec()
}

// Symmetric keys and certificates, of one device and of a group, whose authority may be the root or an
// intermediate one; and each is a first credential for a certificate request, too.
#[test]
fn every_attestation_with_and_without_a_request() {
    let mut factory = World::new(Fixture::default());
    let of_group = factory.provision("by-root", &private_key(4)).chain;
    let of_line = factory.provision("by-intermediate", &private_key(5)).chain;
    let whole: Vec<Vec<u8>> = of_group.iter().map(|c| c.as_der().to_vec()).collect();
    let line: Vec<Vec<u8>> = of_line.iter().map(|c| c.as_der().to_vec()).collect();
    let alone = self_signed("alone");
    let certificate = |der: &[u8]| Certificate::from_der(der).unwrap();
    let fixture = |groups: Vec<EnrollmentGroup>| Fixture {
        enrollment_groups: groups,
        individual_enrollments: vec![
            IndividualEnrollment::symmetric("single"),
            IndividualEnrollment::x509("alone", vec![certificate(&alone)]),
        ],
        ..Fixture::default()
    };
    let root = || EnrollmentGroup::x509("root", vec![certificate(&whole[2])]);
    let intermediate = || EnrollmentGroup::x509("line", vec![certificate(&line[1])]);
    let keys = || EnrollmentGroup::symmetric(Fixture::DEFAULT_GROUP);

    for with_request in [false, true] {
        for (id, groups, chain) in [
            ("single", vec![keys()], None),
            ("of-group", vec![keys()], None),
            ("alone", vec![keys()], Some(vec![alone.clone()])),
            ("by-root", vec![keys(), root()], Some(whole.clone())),
            // Up to the authority that the group knows, and with the root that it does not need.
            ("by-intermediate", vec![intermediate()], Some(line[..2].to_vec())),
            ("by-intermediate", vec![intermediate()], Some(line.clone())),
        ] {
            let mut world = World::new(fixture(groups));
            let shown = match chain {
                Some(chain) => Shown::Chain(chain),
                None if id == "single" => Shown::Key(individual_key(&world, id)),
                None => Shown::Key(world.device_key(id)),
            };
            let request = with_request.then(|| csr(id));
            let registered = register(&mut world, id, DPS_VERSION, shown, request)
                .unwrap_or_else(|error| panic!("{id}, request {with_request}: {error}"));
            assert_eq!(registered.assignment.device_id, id);
            let chain = &registered.issued_certificate_chain;
            if with_request {
                world.accept(id, chain, &private_key(2));
            } else {
                assert!(chain.is_empty(), "{id}");
            }
        }
    }
}

fn individual_key(world: &World, id: &str) -> SymmetricKey {
    match &world.cloud.individual_enrollment(id).unwrap().attestation {
        Attestation::SymmetricKeys(keys) => {
            SymmetricKey::from_base64(&keys.primary.as_ref().unwrap().to_base64()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

// The five versions, and what each makes of a request: the two before it refuse it, and say so.
#[test]
fn every_api_version() {
    for (version, issues) in [
        ("2019-03-31", false),
        ("2021-06-01", false),
        ("2025-07-01-preview", true),
        ("2026-11-01", true),
        ("2026-11-02-preview", true),
    ] {
        let mut world = World::new(Fixture::default());
        let mut run = |csr| {
            let shown = Shown::Key(world.device_key("d"));
            register(&mut world, "d", version, shown, csr)
        };
        assert!(run(None).unwrap().issued_certificate_chain.is_empty(), "{version}");
        match run(Some(csr("d"))) {
            Ok(registered) => {
                assert!(issues && registered.issued_certificate_chain.len() == 3, "{version}");
            }
            Err(RegistrationError::Refused { status: 400, error, .. }) => {
                assert!(!issues && error.error_code == Some(400_012), "{version}");
            }
            Err(error) => panic!("{version}: {error}"),
        }
    }
}

// Rows 22 and 23 of the failure table begin here: what the service tells, to versions that know, is what the
// engine says; to others it tells nothing, which is classic.
#[test]
fn connection_profiles_are_told_from_2026_on() {
    let profiles = [
        ConnectionProfile::Classic,
        ConnectionProfile::MqttV5,
        ConnectionProfile::Other("carrierPigeon".into()),
    ];
    for connection_profile in profiles {
        let dps = DpsSettings {
            connection_profile: connection_profile.clone(),
            ..DpsSettings::default()
        };
        let mut world = World::new(Fixture { dps, ..Fixture::default() });
        for (version, told) in [
            ("2025-07-01-preview", &ConnectionProfile::Classic),
            ("2026-11-01", &connection_profile),
            ("2026-11-02-preview", &connection_profile),
        ] {
            let shown = Shown::Key(world.device_key("d"));
            let registered = register(&mut world, "d", version, shown, None).unwrap();
            assert_eq!(registered.assignment.connection_profile, *told, "{version}");
        }
    }
}

// Row 20 of the failure table: an enrolment without a policy assigns, and issues nothing.
#[test]
fn an_assignment_without_the_chain_is_a_failure() {
    let mut fixture = Fixture::default();
    fixture.enrollment_groups[0].credential_policy = None;
    let mut world = World::new(fixture);
    let key = world.device_key("d");
    let outcome = register(&mut world, "d", DPS_VERSION, Shown::Key(key), Some(csr("d")));
    assert_eq!(outcome.unwrap_err(), RegistrationError::ChainMissing);
}

// A service that takes its time and asks for no patience at all, and still is not polled too often: it
// would refuse the sixth poll in ten seconds.
#[test]
fn the_service_never_has_to_slow_the_device_down() {
    let dps = DpsSettings {
        retry_after: Duration::ZERO,
        assign_delay: Duration::from_secs(60),
        polls: Quota { count: 5, period: Duration::from_secs(10) },
        ..DpsSettings::default()
    };
    let mut world = World::new(Fixture { dps, ..Fixture::default() });
    let key = world.device_key("d");
    register(&mut world, "d", DPS_VERSION, Shown::Key(key), None).unwrap();
    let refused =
        world.events().into_iter().find(|e| matches!(e, CloudEvent::RegistrationRefused { .. }));
    assert_eq!(refused, None);
}
