//! Which enrolment decides about a device that shows a certificate.

use zerotouch_credentials::Certificate;
use zerotouch_emulator::cloud::{
    Attestation, CertificateAuthority, CloudEvent, EnrollmentGroup, Fixture, GroupAttestation,
    IndividualEnrollment, TpmKeys,
};
use zerotouch_mqtt_session::ConnectionId;

use crate::https::{header, request};
use crate::support::{DPS_VERSION, World, dps_username, private_key};

/// The chain of a device of some factory: leaf, issuing authority, root.
fn chain(id: &str) -> Vec<Certificate> {
    let identity = World::new(Fixture::default()).provision(id, &private_key(4));
    identity.chain.iter().cloned().collect()
}

fn connect(world: &mut World, id: &str, chain: &[Certificate]) -> ConnectionId {
    let username = dps_username(world.cloud.id_scope(), id, DPS_VERSION);
    let chain = chain.iter().map(|one| one.as_der().to_vec()).collect();
    world.connect_dps_with(id, &username, None, chain)
}

/// How a registration is answered, and which enrolment has taken the device in the end.
fn register(world: &mut World, id: &str, chain: &[Certificate]) -> (String, Option<String>) {
    let connection = connect(world, id, chain);
    world.register(connection, b"");
    let (topic, body) = world.message(connection);
    if !topic.contains("/202/") {
        return (body["status"].as_str().unwrap_or(&topic).into(), None);
    }
    world.poll(connection, body["operationId"].as_str().unwrap());
    let (_, body) = world.message(connection);
    let enrollment = world.events().into_iter().find_map(|event| match event {
        CloudEvent::DeviceRegistered { enrollment, .. } => Some(enrollment),
        _ => None,
    });
    (body["status"].as_str().unwrap().into(), enrollment)
}

// Docs: groups are asked from the leaf's issuer up to the root, the first decides, and a disabled one denies
// even where a higher one would not. In what order they stand in the fixture, or are called, is all one.
#[test]
fn the_group_nearest_the_leaf_decides() {
    let chain = chain("d");
    let taken = |name: &str| ("assigned".to_owned(), Some(name.to_owned()));
    for (near, far) in [("a", "z"), ("z", "a")] {
        let near_group = || EnrollmentGroup::x509(near, vec![chain[1].clone()]);
        let far_group = || EnrollmentGroup::x509(far, vec![chain[2].clone()]);
        let referring = GroupAttestation::CaReferences { names: vec!["root".into()] };
        let run = |groups| {
            let authority =
                CertificateAuthority { name: "root".into(), certificate: chain[2].clone() };
            let mut world = World::new(Fixture {
                enrollment_groups: groups,
                certificate_authorities: vec![authority],
                ..Fixture::default()
            });
            register(&mut world, "d", &chain)
        };
        assert_eq!(run(vec![far_group(), near_group()]), taken(near));
        assert_eq!(run(vec![far_group()]), taken(far));
        let off = EnrollmentGroup { enabled: false, ..near_group() };
        assert_eq!(run(vec![off, far_group()]), ("disabled".into(), None));
        let far_off = || EnrollmentGroup { enabled: false, ..far_group() };
        assert_eq!(run(vec![near_group(), far_off()]), taken(near));
        // By reference it is the same.
        let by_name = EnrollmentGroup { attestation: referring, ..far_group() };
        assert_eq!(run(vec![by_name]), taken(far));
        let off = EnrollmentGroup { enabled: false, ..near_group() };
        let both = vec![chain[1].clone(), chain[2].clone()];
        let twice = EnrollmentGroup::x509("m", both);
        // Two as near as each other: the first by its id, so that it is always the same.
        let first = run(vec![off, twice]);
        assert_eq!(first, if near < "m" { ("disabled".into(), None) } else { taken("m") });
    }
}

// One device's certificate may be any that its enrolment's authority signs for its name.
#[test]
fn an_individual_enrolment_may_name_authorities() {
    let [own, other] = [chain("d"), chain("e")];
    let signed = Attestation::SignedX509 { authorities: vec![own[2].clone()] };
    let referring = Attestation::CaReferences { names: vec!["line".into()] };
    for attestation in [signed, referring] {
        let authority = CertificateAuthority { name: "line".into(), certificate: own[1].clone() };
        let mut world = World::new(Fixture {
            certificate_authorities: vec![authority],
            individual_enrollments: vec![IndividualEnrollment {
                attestation,
                ..IndividualEnrollment::symmetric("d")
            }],
            ..Fixture::default()
        });
        assert_eq!(register(&mut world, "d", &own), ("assigned".into(), Some("d".into())));
        // Of the same authority, for another name; and with an authority that did not sign it.
        let (topic, _) = register(&mut world, "d", &other);
        assert!(topic.contains("/401/"), "{topic}");
        let strange = World::new(Fixture::default()).cloud.root_certificate().clone();
        let (topic, _) = register(&mut world, "d", &[other[0].clone(), strange]);
        assert!(topic.contains("/401/"), "{topic}");
    }
}

// A TPM's record is kept; over MQTT no service can challenge it, and over HTTPS this one does not.
#[test]
fn a_tpm_is_refused() {
    let keys = TpmKeys { endorsement_key: "AToA".into(), storage_root_key: None };
    let mut world = World::new(Fixture {
        individual_enrollments: vec![IndividualEnrollment {
            attestation: Attestation::Tpm(keys),
            ..IndividualEnrollment::symmetric("d")
        }],
        ..Fixture::default()
    });
    // Nor does the group's key or a certificate help: the individual enrolment decides alone.
    let token = world.dps_token(&world.device_key("d"), "d");
    let username = dps_username(world.cloud.id_scope(), "d", DPS_VERSION);
    let connection = world.connect_dps_with("d", &username, Some(&token), Vec::new());
    let body = br#"{"registrationId":"d","tpm":{"endorsementKey":"AToA"}}"#;
    world.register(connection, body);
    let (topic, answer) = world.message(connection);
    assert_eq!(
        (&*topic, &answer["errorCode"]),
        ("$dps/registrations/res/401/?$rid=r1", &401_002.into())
    );
    let target =
        format!("/{}/registrations/d/register?api-version={DPS_VERSION}", world.cloud.id_scope());
    let refused = world.request(&request("PUT", &target, body));
    assert_eq!((refused.status, header(&refused, "x-ms-error-code")), (401, Some("401002")));
}
