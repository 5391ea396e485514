//! The provisioning service, byte for byte as SDKs parse it.

use std::time::Duration;

use crate::support::{
    DPS_VERSION, Got, HUB_VERSION, Identity, World, base64, dps_username, private_key, texts,
};
use serde_json::{Value, json};
use zerotouch_credentials::{
    Certificate, CertificateRequest, KeyAlgorithm, PrivateKey, SymmetricKey,
};
use zerotouch_emulator::cloud::{
    Attestation, CloudEvent, CredentialPolicy, DpsSettings, EnrollmentGroup, Fixture,
    IndividualEnrollment, KeyPolicy, Quota, Via,
};
use zerotouch_mqtt_codec::QoS;

fn world() -> World {
    World::new(Fixture::default())
}

/// Connects as anybody, registers with `body`, and yields the answer.
fn register_as(
    world: &mut World,
    id: &str,
    username: &str,
    password: Option<&str>,
    body: &[u8],
) -> (String, Value) {
    let connection = world.connect_dps_with(id, username, password, Vec::new());
    world.register(connection, body);
    world.message(connection)
}

fn is_refusal(answer: &(String, Value), status: u16, code: u32) {
    let (topic, body) = answer;
    assert_eq!(*topic, format!("$dps/registrations/res/{status}/?$rid=r1"));
    assert_eq!(body["errorCode"], code);
    assert!(!body["message"].as_str().unwrap().is_empty());
    assert_eq!(body["trackingId"].as_str().unwrap().len(), 36);
    assert_eq!(body["timestampUtc"], "2026-09-21T14:13:20Z");
}

// The main job: a key goes in, a chain under the policy comes out; each answer to the letter.
#[test]
fn issues_a_chain_for_a_request() {
    let mut world = world();
    let key = PrivateKey::generate(
        KeyAlgorithm::EcdsaP384,
        &mut rand_core::SeedableRng::seed_from_u64(3) as &mut chacha20::ChaCha20Rng,
    )
    .unwrap();
    let csr = CertificateRequest::new(&key, "pump-17").unwrap().to_base64();
    let connection = world.connect_dps("pump-17", DPS_VERSION);

    world.register(connection, json!({ "csr": csr }).to_string().as_bytes());
    let got = world.received(connection);
    let [Got::PubAck(77), Got::Message { topic, payload, qos: QoS::AtLeastOnce }] = &got[..] else {
        panic!("PUBACK has to come before the answer, and the answer at QoS 1: {got:?}")
    };
    assert_eq!(topic, "$dps/registrations/res/202/?$rid=r1&retry-after=3");
    let body: Value = serde_json::from_slice(payload).unwrap();
    let operation_id = body["operationId"].as_str().unwrap().to_owned();
    let parts: Vec<usize> = operation_id.split('.').map(str::len).collect();
    assert_eq!(parts, [1, 16, 36]);
    assert_eq!(body, json!({ "operationId": operation_id, "status": "assigning" }));

    world.poll(connection, &operation_id);
    let (topic, body) = world.message(connection);
    assert_eq!(topic, "$dps/registrations/res/200/?$rid=r2");
    let state = &body["registrationState"];
    assert_eq!((&body["status"], &state["status"]), (&json!("assigned"), &json!("assigned")));
    assert_eq!(
        (&state["assignedHub"], &state["deviceId"]),
        (&json!("localhost"), &json!("pump-17"))
    );
    assert_eq!(state["substatus"], "initialAssignment");
    assert_eq!(state["symmetricKey"]["enrollmentGroupId"], "default-group");
    assert!(base64(state["etag"].as_str().unwrap()).starts_with(b"\""));

    let chain = texts(&state["issuedCertificateChain"]);
    assert_eq!(chain.len(), 3);
    let accepted = world.accept("pump-17", &chain, &key);
    let leaf = accepted.leaf();
    assert_eq!(leaf.serial().len(), 16);
    assert_eq!(leaf.not_after(), world.wall() + Duration::from_secs(30 * 86_400));
    assert_eq!(leaf.not_before(), world.wall() - Duration::from_secs(300));
    for authority in &chain[1..] {
        let authority = Certificate::from_der(&base64(authority)).unwrap();
        assert!(authority.subject().contains("EMULATOR - NOT FOR PRODUCTION"));
    }

    let events = world.events();
    assert!(matches!(&events[0],
        CloudEvent::DeviceRegistered { registration_id, hub, enrollment, .. }
            if registration_id == "pump-17" && hub == "localhost" && enrollment == "default-group"));
    assert!(matches!(&events[1], CloudEvent::CertificateIssued { thumbprint, via: Via::Dps, .. }
        if *thumbprint == leaf.thumbprint()));

    // An answer that got lost is asked for again; the chain is the same.
    world.poll(connection, &operation_id);
    let (_, again) = world.message(connection);
    assert_eq!(again, body);
    assert!(world.events().is_empty(), "nothing is issued twice");
}

// A device reads the delay and comes too early all the same; it is told to wait, and learns nothing.
#[test]
fn takes_its_time() {
    let dps = DpsSettings {
        retry_after: Duration::from_secs(7),
        assign_delay: Duration::from_secs(20),
        ..DpsSettings::default()
    };
    let mut world = World::new(Fixture { dps, ..Fixture::default() });
    let connection = world.connect_dps("d", "2019-03-31");
    world.register(connection, b"");
    let operation_id = world.message(connection).1["operationId"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        world.wait(Duration::from_secs(9));
        world.poll(connection, &operation_id);
        let (topic, body) = world.message(connection);
        assert_eq!(topic, "$dps/registrations/res/202/?$rid=r2&retry-after=7");
        let state = json!({ "registrationId": "d", "status": "assigning" });
        assert_eq!(
            body,
            json!({ "operationId": operation_id, "status": "assigning", "registrationState": state })
        );
    }
    world.wait(Duration::from_secs(2));
    world.poll(connection, &operation_id);
    assert_eq!(world.message(connection).1["status"], "assigned");
}

// SDKs send no body, a space, or JSON without the id.
#[test]
fn takes_every_body_an_sdk_sends() {
    for body in [&b""[..], b" ", b"{}", b"{\"payload\":{\"a\":1}}", b"{\"registrationId\":\"D\"}"] {
        let mut world = world();
        let connection = world.connect_dps("d", "2021-06-01");
        world.register(connection, body);
        assert_eq!(world.message(connection).1["status"], "assigning", "{body:?}");
    }
}

// Each mistake of issue and operator has its own status and code, and none gets a chain.
#[test]
fn refuses_what_it_must() {
    let mut world = world();
    let scope = world.cloud.id_scope().to_owned();
    let own = dps_username(&scope, "d", DPS_VERSION);
    let good = world.dps_token(&world.device_key("d"), "d");

    let wrong_key = world.dps_token(&world.device_key("another"), "d");
    let answer = register_as(&mut world, "d", &own, Some(&wrong_key), b"");
    is_refusal(&answer, 401, 401_002);
    assert_eq!(answer.1["message"], "Unauthorized");

    let for_another = world.dps_token(&world.device_key("d"), "another");
    is_refusal(&register_as(&mut world, "d", &own, Some(&for_another), b""), 401, 401_002);
    is_refusal(&register_as(&mut world, "d", &own, Some("no token"), b""), 401, 401_002);
    is_refusal(&register_as(&mut world, "d", &own, None, b""), 401, 401_002);

    let other_scope = dps_username("0ne00000000", "d", DPS_VERSION);
    is_refusal(&register_as(&mut world, "d", &other_scope, Some(&good), b""), 401, 401_000);

    let old = dps_username(&scope, "d", "2019-03-31");
    let with_csr = json!({ "csr": "AAAA" }).to_string();
    is_refusal(&register_as(&mut world, "d", &old, Some(&good), with_csr.as_bytes()), 400, 400_012);
    is_refusal(&register_as(&mut world, "d", &own, Some(&good), b"{"), 400, 400_012);
    is_refusal(&register_as(&mut world, "d", &own, Some(&good), b"[1]"), 400, 400_012);
    let another = br#"{"registrationId":"another"}"#;
    is_refusal(&register_as(&mut world, "d", &own, Some(&good), another), 400, 400_004);

    let stranger = CertificateRequest::new(&private_key(1), "another").unwrap();
    let mut forged = base64(&CertificateRequest::new(&private_key(1), "d").unwrap().to_base64());
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let forged = CertificateRequest::from_der(&forged).unwrap();
    for csr in ["", "not base64", "AAAA", &stranger.to_base64(), &forged.to_base64()] {
        let body = json!({ "csr": csr }).to_string();
        is_refusal(&register_as(&mut world, "d", &own, Some(&good), body.as_bytes()), 400, 400_004);
    }
    assert_eq!(world.cloud.devices().count(), 0);
    let told = world.events();
    assert!(told.iter().all(|event| matches!(event, CloudEvent::RegistrationRefused { .. })));
    assert_eq!(told.len(), 14);

    // The device is told less than the log.
    let CloudEvent::RegistrationRefused { reason, tracking_id, .. } = &told[0] else { panic!() };
    assert!(reason.contains("derived from no enrolment group"), "{reason}");
    assert_eq!(tracking_id.as_deref(), answer.1["trackingId"].as_str());
}

// An expired token is refused, one of a device with a slow clock is not.
#[test]
fn tokens_expire() {
    let mut world = world();
    let token = world.dps_token(&world.device_key("d"), "d");
    let own = dps_username(world.cloud.id_scope(), "d", DPS_VERSION);
    world.wait(Duration::from_secs(3600 + 300));
    let (topic, _) = register_as(&mut world, "d", &own, Some(&token), b"");
    assert!(topic.contains("/202/"), "{topic}");
    world.wait(Duration::from_secs(1));
    let (topic, _) = register_as(&mut world, "d", &own, Some(&token), b"");
    assert!(topic.contains("/401/"), "{topic}");
}

/// The primary key of an individual enrolment.
fn keys_of<'w>(world: &'w World, id: &str) -> &'w SymmetricKey {
    match &world.cloud.individual_enrollment(id).unwrap().attestation {
        Attestation::SymmetricKeys(keys) => keys.primary.as_ref().unwrap(),
        other => panic!("{other:?}"),
    }
}

// `disabled` is no error on the wire; whoever looks at the status alone takes it for success.
#[test]
fn a_disabled_enrolment_says_so_on_status_200() {
    let mut world = world();
    let id = Fixture::DISABLED_DEVICE;
    let own = dps_username(world.cloud.id_scope(), id, DPS_VERSION);
    let token = world.dps_token(keys_of(&world, id), id);
    let (topic, body) = register_as(&mut world, id, &own, Some(&token), b"");
    assert_eq!(topic, "$dps/registrations/res/200/?$rid=r1");
    assert_eq!((&body["operationId"], &body["status"]), (&json!(""), &json!("disabled")));

    // Its key is the one its group would have given it; and being disabled is not told to those who
    // cannot prove to be the device.
    assert_eq!(keys_of(&world, id).to_base64(), world.device_key(id).to_base64());
    let foreign = world.dps_token(&world.device_key("another"), id);
    is_refusal(&register_as(&mut world, id, &own, Some(&foreign), b""), 401, 401_002);
}

// A disabled group denies all its devices.
#[test]
fn a_disabled_group_says_so_too() {
    let mut fixture = Fixture::default();
    fixture.enrollment_groups[0].enabled = false;
    let mut world = World::new(fixture);
    let connection = world.connect_dps("d", DPS_VERSION);
    world.register(connection, b"");
    let (topic, body) = world.message(connection);
    assert_eq!(topic, "$dps/registrations/res/200/?$rid=r1");
    assert_eq!(body["registrationState"]["status"], "disabled");
    assert_eq!(world.cloud.devices().count(), 0);
}

// Without any enrolment that could take it, a device is unknown rather than wrong.
#[test]
fn an_unknown_device_is_not_found() {
    let mut world = World::new(Fixture { enrollment_groups: Vec::new(), ..Fixture::default() });
    let own = dps_username(world.cloud.id_scope(), "d", DPS_VERSION);
    let key = SymmetricKey::from_base64("AAAAAAAAAAAAAAAAAAAAAA==").unwrap();
    let token = world.dps_token(&key, "d");
    is_refusal(&register_as(&mut world, "d", &own, Some(&token), b""), 404, 404_201);
}

/// An operator's own authority, and devices' certificates under it: any authority will do, so this is
/// another emulator's.
struct Factory(World);

impl Factory {
    fn new() -> Self {
        Self(World::new(Fixture::default()))
    }

    fn certify(&mut self, id: &str, key: u64) -> Identity {
        self.0.provision(id, &private_key(key))
    }

    /// A cloud that knows the factory's authority, and each of `alone` by its certificate.
    fn world(&self, alone: &[&Identity]) -> World {
        let authority = self.0.cloud.root_certificate().clone();
        let individual = |identity: &&Identity| {
            let certificate = identity.chain.leaf().clone();
            IndividualEnrollment::x509(&identity.device_id, vec![certificate])
        };
        World::new(Fixture {
            enrollment_groups: vec![EnrollmentGroup::x509("factory", vec![authority])],
            individual_enrollments: alone.iter().map(individual).collect(),
            ..Fixture::default()
        })
    }
}

fn ders(identity: &Identity) -> Vec<Vec<u8>> {
    identity.chain.iter().map(|certificate| certificate.as_der().to_vec()).collect()
}

fn register_with(world: &mut World, id: &str, chain: Vec<Vec<u8>>) -> (String, Value) {
    let username = dps_username(world.cloud.id_scope(), id, DPS_VERSION);
    let connection = world.connect_dps_with(id, &username, None, chain);
    world.register(connection, b"");
    world.message(connection)
}

// Certificates as the first credential: under a group's authority, or one certificate by itself.
#[test]
fn attests_by_certificate() {
    let mut factory = Factory::new();
    let [by_group, alone] = [factory.certify("by-group", 4), factory.certify("alone", 5)];
    let mut world = factory.world(&[&alone]);
    let (topic, _) = register_with(&mut world, "by-group", ders(&by_group));
    assert!(topic.contains("/202/"), "{topic}");
    let (topic, _) = register_with(&mut world, "alone", ders(&alone));
    assert!(topic.contains("/202/"), "{topic}");

    let incomplete = register_with(&mut world, "by-group", ders(&by_group)[..1].to_vec());
    is_refusal(&incomplete, 401, 401_002);
    assert_eq!(incomplete.1["message"], "CA certificate not found.");
    is_refusal(&register_with(&mut world, "other-name", ders(&by_group)), 401, 401_002);
    // The individual enrolment decides alone: the group's authority does not help.
    let of_the_same_name = factory.certify("alone", 6);
    is_refusal(&register_with(&mut world, "alone", ders(&of_the_same_name)), 401, 401_002);
}

// A bootstrap certificate has dates, too, whichever enrolment it is for.
#[test]
fn bootstrap_certificates_expire() {
    let mut factory = Factory::new();
    let [by_group, alone] = [factory.certify("by-group", 4), factory.certify("alone", 5)];
    let mut world = factory.world(&[&alone]);
    world.wait(Duration::from_secs(31 * 86_400));
    for identity in [&by_group, &alone] {
        let answer = register_with(&mut world, &identity.device_id, ders(identity));
        let (topic, body) = answer;
        assert_eq!(topic, "$dps/registrations/res/401/?$rid=r1");
        assert_eq!(body["message"], "Invalid certificate.");
    }
}

// Without a request, the certificate a device registered with is its credential at the hub: that one.
#[test]
fn a_device_without_a_request_keeps_its_certificate() {
    let mut factory = Factory::new();
    let own = factory.certify("d", 4);
    let mut world = factory.world(&[]);
    let username = dps_username(world.cloud.id_scope(), "d", DPS_VERSION);
    let connection = world.connect_dps_with("d", &username, None, ders(&own));
    world.register(connection, b"");
    let operation_id = world.message(connection).1["operationId"].as_str().unwrap().to_owned();
    world.poll(connection, &operation_id);
    let (_, body) = world.message(connection);
    let attestation = &body["registrationState"]["x509"];
    assert_eq!(*attestation, json!({ "enrollmentGroupId": "factory" }));

    world.connect_hub(&own, true);
    let another = factory.certify("d", 4);
    let connection = world.try_hub(&another, HUB_VERSION, true);
    assert_eq!(world.received(connection), [Got::Refused(5)]);
}

// A policy decides about keys; an enrolment without one yields an assignment and no chain.
#[test]
fn policies_decide_what_is_certified() {
    let mut strict = Fixture::default();
    strict.credential_policies[0].keys = KeyPolicy::P384Only;
    let mut world = World::new(strict);
    let csr = CertificateRequest::new(&private_key(1), "d").unwrap().to_base64();
    let body = json!({ "csr": csr }).to_string();
    let connection = world.connect_dps("d", DPS_VERSION);
    world.register(connection, body.as_bytes());
    is_refusal(&world.message(connection), 400, 400_004);

    let mut without = Fixture::default();
    without.enrollment_groups[0].credential_policy = None;
    let mut world = World::new(without);
    let connection = world.connect_dps("d", DPS_VERSION);
    world.register(connection, body.as_bytes());
    let operation_id = world.message(connection).1["operationId"].as_str().unwrap().to_owned();
    world.poll(connection, &operation_id);
    let (_, assigned) = world.message(connection);
    assert_eq!(assigned["status"], "assigned");
    assert_eq!(assigned["registrationState"].get("issuedCertificateChain"), None);
}

// A short policy is mostly in the future, so that a device that renews at two thirds of a
// certificate's life does not renew at once, for ever.
#[test]
fn short_lived_certificates_reach_back_little() {
    let policy = CredentialPolicy {
        leaf_validity: Duration::from_secs(60),
        ..CredentialPolicy::new(Fixture::DEFAULT_POLICY)
    };
    let mut world = World::new(Fixture { credential_policies: vec![policy], ..Fixture::default() });
    let identity = world.provision("d", &private_key(1));
    let leaf = identity.chain.leaf();
    assert_eq!(leaf.not_before(), world.wall() - Duration::from_secs(6));
    assert_eq!(leaf.not_after(), world.wall() + Duration::from_secs(60));
}

// A device that comes back keeps its place; over many, several hubs are used.
#[test]
fn assigns_the_same_hub_again_and_all_hubs_in_turn() {
    let hubs: Vec<String> =
        ["localhost", "hub-2.example", "hub-3.example"].map(String::from).into();
    let mut world = World::new(Fixture { hubs, ..Fixture::default() });
    for n in 0..30 {
        for _ in 0..2 {
            let connection = world.connect_dps(&format!("d{n}"), "2019-03-31");
            world.register(connection, b"");
            let operation_id =
                world.message(connection).1["operationId"].as_str().unwrap().to_owned();
            world.poll(connection, &operation_id);
            world.message(connection);
        }
    }
    let mut used: Vec<&str> = world.cloud.devices().map(|device| device.hub).collect();
    assert_eq!(used.len(), 30, "nobody is entered twice");
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), 3);
    let again = world.events().into_iter().filter(|event| {
        matches!(event, CloudEvent::DeviceRegistered { substatus, .. }
            if *substatus == "reprovisionedToInitialAssignment")
    });
    assert_eq!(again.count(), 30);
}

// What is answered in CONNACK rather than on a topic.
#[test]
fn refuses_connects_that_are_no_logins() {
    let mut world = world();
    let scope = world.cloud.id_scope().to_owned();
    for (client_id, username, code) in [
        ("d", dps_username(&scope, "d", "1999-01-01"), 5),
        ("d", format!("{scope}/registrations/d/"), 5),
        ("e", dps_username(&scope, "d", DPS_VERSION), 2),
        ("d", "nonsense".to_owned(), 5),
        ("d", format!("elsewhere/d/?api-version={HUB_VERSION}"), 5),
    ] {
        let connection = world.connect(Vec::new(), client_id, &username, None, true);
        assert_eq!(world.received(connection), [Got::Refused(code)], "{username}");
        assert!(world.is_closed(connection));
    }
    // No user name at all, and clean session 1.
    let connection = world.open(Vec::new());
    world.send_bytes(connection, b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01d");
    assert_eq!(world.received(connection), [Got::Refused(5)]);
}

// One operation is one device's, and its latest: another id opens nothing.
#[test]
fn operations_are_private() {
    let mut world = world();
    let one = world.connect_dps("one", DPS_VERSION);
    world.register(one, b"");
    let operation_id = world.message(one).1["operationId"].as_str().unwrap().to_owned();
    let not_found = |world: &mut World, connection| {
        world.poll(connection, &operation_id);
        let (topic, body) = world.message(connection);
        assert_eq!(topic, "$dps/registrations/res/404/?$rid=r2");
        assert_eq!(body["errorCode"], 404_202);
    };
    let two = world.connect_dps("two", DPS_VERSION);
    not_found(&mut world, two);
    world.register(two, b"");
    world.message(two);
    not_found(&mut world, two);
    // A new registration ends the one before.
    world.register(one, b"");
    world.message(one);
    not_found(&mut world, one);
}

// The same seed, fixture and inputs give the same bytes: a failing run can be had again.
#[test]
fn is_reproducible() {
    let run = || {
        let mut world = world();
        let identity = world.provision("d", &private_key(1));
        (identity.chain.to_pem(), format!("{:?}", world.events()))
    };
    assert_eq!(run(), run());
}

// Both limits of the service, each told with the time after which another try is welcome.
#[test]
fn throttles_registrations_and_polls() {
    let dps = DpsSettings {
        registrations: Quota { count: 2, period: Duration::from_secs(60) },
        ..DpsSettings::default()
    };
    let mut world = World::new(Fixture { dps, ..Fixture::default() });
    let connection = world.connect_dps("d", DPS_VERSION);
    world.register(connection, b"");
    let operation_id = world.message(connection).1["operationId"].as_str().unwrap().to_owned();
    for poll in 1..=6 {
        world.poll(connection, &operation_id);
        let (topic, body) = world.message(connection);
        if poll <= 5 {
            assert_eq!(topic, "$dps/registrations/res/200/?$rid=r2");
        } else {
            assert_eq!(topic, "$dps/registrations/res/429/?$rid=r2&retry-after=10");
            assert_eq!(body["errorCode"], 429_001);
        }
    }
    world.wait(Duration::from_millis(9_500));
    let other = world.connect_dps("e", DPS_VERSION);
    world.register(other, b"");
    assert!(world.message(other).0.contains("/202/"), "the one's polls are not the other's");
    world.register(connection, b"");
    let (topic, _) = world.message(connection);
    assert_eq!(topic, "$dps/registrations/res/429/?$rid=r1&retry-after=51");
    world.wait(Duration::from_millis(50_500));
    world.register(connection, b"");
    assert!(world.message(connection).0.contains("/202/"));
}

// The service's limit for a message: 96 KiB.
#[test]
fn hangs_up_on_large_messages() {
    let mut world = world();
    for (length, closed) in [(96 * 1024, false), (96 * 1024 + 1, true)] {
        let connection = world.connect_dps("d", DPS_VERSION);
        world.register(connection, &vec![b' '; length]);
        assert_eq!(world.is_closed(connection), closed, "{length}");
    }
}
