//! What is kept for the next cloud: whatever somebody has been told is true there, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::{Value, json};
use zerotouch_credentials::{CertificateRequest, PrivateKey, PrivateKeyError, Signer};
use zerotouch_emulator::cloud::{Cloud, CloudEvent, DpsSettings, Fixture, Record};
use zerotouch_time::{Instant, Now, UnixTime};

use crate::https::json_of;
use crate::service::Service;
use crate::support::{DPS_VERSION, Got, HUB_VERSION, World, private_key};

/// Starts a renewal that is accepted; its result is due in a moment.
fn ask_to_renew(world: &mut World, connection: zerotouch_emulator::cloud::ConnectionId) {
    let csr = CertificateRequest::new(&private_key(1), "d").unwrap().to_base64();
    let body = json!({ "id": "d", "csr": csr }).to_string();
    let topic = "$iothub/credentials/POST/issueCertificate/?$rid=rid-1";
    world.publish(connection, topic, body.as_bytes());
}

// A device that was told to wait may go on with what it was told.
#[test]
fn registrations_and_renewals_go_on() {
    let mut world = World::new(Fixture::default());
    let csr = CertificateRequest::new(&private_key(1), "d").unwrap().to_base64();
    let connection = world.connect_dps("d", DPS_VERSION);
    world.register(connection, json!({ "csr": csr }).to_string().as_bytes());
    let operation = world.message(connection).1["operationId"].as_str().unwrap().to_owned();
    world.restart();
    let connection = world.connect_dps("d", DPS_VERSION);
    world.poll(connection, &operation);
    let (_, assigned) = world.message(connection);
    assert_eq!(assigned["status"], "assigned");
    world.restart();
    // And the same again, to the letter.
    let connection = world.connect_dps("d", DPS_VERSION);
    world.poll(connection, &operation);
    assert_eq!(world.message(connection).1, assigned);

    let identity = world.provision("d", &private_key(1));
    let connection = world.connect_hub(&identity, false);
    world.subscribe(connection, "$iothub/credentials/res/#");
    ask_to_renew(&mut world, connection);
    world.restart();
    let connection = world.connect_hub(&identity, false);
    world.subscribe(connection, "$iothub/credentials/res/#");
    world.wait(Duration::from_secs(1));
    let (topic, issued) = world.message(connection);
    assert_eq!(topic, "$iothub/credentials/res/200/?$rid=rid-1");
    assert_eq!(issued["certificates"].as_array().unwrap().len(), 3);
    // It was acknowledged: no cloud after this one delivers it again.
    world.restart();
    let connection = world.connect_hub(&identity, false);
    world.subscribe(connection, "$iothub/credentials/res/#");
    world.wait(Duration::from_secs(1));
    let got = world.received(connection);
    assert!(got.iter().all(|got| !matches!(got, Got::Message { .. })), "{got:?}");
}

#[test]
fn twins_policies_revocations_and_the_time_are_kept() {
    let mut service = Service::new();
    let revoked = service.world.provision("r", &private_key(2));
    let identity = service.world.provision("d", &private_key(1));
    let call = |service: &mut Service, method: &str, target: &str, body: Value| {
        let response = service.call(method, target, &body);
        assert!(response.status < 300, "{target}: {}", response.status);
        serde_json::from_slice::<Value>(&response.body).unwrap_or_default()
    };
    let desired = json!({ "properties": { "desired": { "speed": 3 } }, "tags": { "site": 4 } });
    call(&mut service, "PATCH", "/twins/d", desired);
    let connection = service.world.connect_hub(&identity, true);
    let report = "$iothub/twin/PATCH/properties/reported/?$rid=1";
    service.world.publish(connection, report, br#"{"speed":2}"#);
    let twin = call(&mut service, "GET", "/twins/d", Value::Null);

    let policies = "/$emulator/namespace/policies";
    call(&mut service, "PUT", &format!("{policies}/own"), json!({ "externalRoot": true }));
    let before = call(&mut service, "GET", policies, Value::Null);
    call(&mut service, "POST", "/$emulator/namespace/devices/r/revoke", Value::Null);
    call(&mut service, "POST", "/$emulator/clock", json!({ "advance": "10min" }));

    service.world.restart();
    let mut again = call(&mut service, "GET", "/twins/d", Value::Null);
    again["connectionState"] = twin["connectionState"].clone();
    assert_eq!(again, twin);
    // The request for a pending policy is for the same key; ECDSA signs it anew, with the same bytes.
    assert_eq!(call(&mut service, "GET", policies, Value::Null), before);
    let time = json_of(&service.call("GET", "/$emulator/clock", &Value::Null));
    assert_eq!(time["time"], "2026-09-21T14:23:20Z");
    service.world.connect_hub(&identity, true);
    let refused = service.world.try_hub(&revoked, HUB_VERSION, true);
    assert_eq!(service.world.received(refused), [Got::Refused(5)]);
}

// What is not a cloud's is refused, by name.
#[test]
fn strange_records_are_refused() {
    let mut world = World::new(Fixture::default());
    let rng = || SeedableRng::seed_from_u64(1);
    for (table, key, value) in
        [("nothing", "{}", "{}"), ("devices", "{}", "{}"), ("root", "", "{\"key\":\"x\"}")]
    {
        let error = world.cloud.restore([(table, key, value)], rng(), world.now).unwrap_err();
        assert!(error.to_string().contains(table), "{error}");
    }
    assert!(world.events().iter().all(|event| !matches!(event, CloudEvent::Missed { .. })));
}

// A device is kept by its hub's place: hubs may be added, and not be taken away or moved.
#[test]
fn hubs_keep_their_places() {
    let with = |hubs: &[&str]| Fixture {
        hubs: hubs.iter().map(ToString::to_string).collect(),
        ..Fixture::default()
    };
    let hub_of = |world: &World| {
        let hub = world.cloud.devices().next().unwrap().hub;
        hub.to_owned()
    };
    let mut world = World::new(with(&["localhost", "127.0.0.2"]));
    world.provision("d", &private_key(1));
    let before = hub_of(&world);
    for hubs in [&["localhost"][..], &["127.0.0.2", "localhost"]] {
        let error = world.restart_with(with(hubs)).unwrap_err().to_string();
        assert!(error.contains("127.0.0.2"), "{error}");
    }
    world.restart_with(with(&["localhost", "127.0.0.2", "127.0.0.3"])).unwrap();
    assert_eq!(hub_of(&world), before);
    // The third is kept from now on.
    let error = world.restart_with(with(&["localhost", "127.0.0.2"])).unwrap_err().to_string();
    assert!(error.contains("127.0.0.3"), "{error}");
}

// A disk is slow: what devices ask often changes nothing that has to be kept.
#[test]
fn questions_are_not_kept() {
    let dps = DpsSettings { assign_delay: Duration::from_secs(60), ..DpsSettings::default() };
    let mut world = World::new(Fixture { dps, ..Fixture::default() });
    let connection = world.connect_dps("d", DPS_VERSION);
    world.register(connection, b"{}");
    let operation = world.message(connection).1["operationId"].as_str().unwrap().to_owned();
    assert!(world.keep().contains(&"operations"));
    world.poll(connection, &operation);
    assert_eq!(world.keep(), [""; 0]);
    world.wait(Duration::from_secs(60));
    world.poll(connection, &operation);
    assert!(world.keep().contains(&"operations"));
    world.poll(connection, &operation);
    assert_eq!(world.keep(), [""; 0]);
}

// The next device of a name is not told of a renewal that the one before it has asked for.
#[test]
fn a_renewal_goes_with_its_device() {
    let mut service = Service::new();
    let identity = service.world.provision("d", &private_key(1));
    let connection = service.world.connect_hub(&identity, true);
    service.world.subscribe(connection, "$iothub/credentials/res/#");
    ask_to_renew(&mut service.world, connection);
    service.call("DELETE", "/devices/d", &Value::Null);
    service.world.drain();
    let identity = service.world.provision("d", &private_key(1));
    let connection = service.world.connect_hub(&identity, true);
    service.world.subscribe(connection, "$iothub/credentials/res/#");
    service.world.received(connection);
    service.world.wait(Duration::from_secs(1));
    assert_eq!(service.world.received(connection), []);
}

// What signs for an authority that is made signs for one that was kept, too: that of the one policy here.
#[test]
fn authorities_that_were_kept_sign_as_those_that_are_made() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    #[expect(clippy::unnecessary_wraps, reason = "some signers can fail")]
    fn counted(key: Arc<PrivateKey>) -> Result<Arc<dyn Signer>, PrivateKeyError> {
        MADE.fetch_add(1, Ordering::Relaxed);
        Ok(key)
    }
    let wall = UnixTime::from_secs(1_790_000_000);
    let rng = ChaCha20Rng::seed_from_u64;
    let cloud = || Cloud::with_signer(Fixture::default(), counted, rng(1), wall).unwrap();
    let mut first = cloud();
    let records: Vec<Record> = std::iter::from_fn(|| first.poll_record()).collect();
    let mut second = cloud();
    let before = MADE.load(Ordering::Relaxed);
    let entries =
        records.iter().filter_map(|one| Some((one.table, &*one.key, one.value.as_deref()?)));
    let now = Now { monotonic: Instant::ZERO, wall: Some(wall) };
    second.restore(entries, rng(2), now).unwrap();
    assert_eq!(MADE.load(Ordering::Relaxed) - before, 1);
}
