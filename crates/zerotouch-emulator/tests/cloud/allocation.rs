//! Where devices go, and what goes with them.

use serde_json::{Value, json};
use zerotouch_emulator::cloud::{
    Allocation, CloudEvent, EnrollmentGroup, Fixture, InitialTwin, Latency, Webhook, WebhookRequest,
};
use zerotouch_mqtt_session::ConnectionId;

use crate::https::json_of;
use crate::service::Service;
use crate::support::{DPS_VERSION, World};

const OTHER: &str = "hub-2.example";

/// Two hubs, and the default group as changed.
fn fixture(change: impl FnOnce(&mut EnrollmentGroup)) -> Fixture {
    let mut fixture = Fixture::default();
    fixture.hubs.push(OTHER.into());
    change(&mut fixture.enrollment_groups[0]);
    fixture
}

fn custom(group: &mut EnrollmentGroup) {
    let url = "http://127.0.0.1:7071/api/allocate".into();
    group.allocation = Allocation::Custom(Webhook { url, api_version: "2021-10-01".into() });
}

/// Asks to be registered; yields where the operation can be asked for.
fn begin(world: &mut World, id: &str, body: &Value) -> (ConnectionId, String) {
    let connection = world.connect_dps(id, DPS_VERSION);
    world.register(connection, body.to_string().as_bytes());
    let (topic, body) = world.message(connection);
    assert!(topic.contains("/202/"), "{topic} {body}");
    (connection, body["operationId"].as_str().unwrap().into())
}

fn poll(world: &mut World, (connection, operation_id): &(ConnectionId, String)) -> (String, Value) {
    world.poll(*connection, operation_id);
    let (topic, body) = world.message(*connection);
    let status = topic.strip_prefix("$dps/registrations/res/").unwrap()[..3].into();
    (status, body)
}

fn assigned(world: &mut World, id: &str) -> Value {
    let operation = begin(world, id, &json!({}));
    let (status, body) = poll(world, &operation);
    assert_eq!((&*status, &body["status"]), ("200", &json!("assigned")), "{body}");
    body["registrationState"].clone()
}

fn asked(world: &mut World) -> (WebhookRequest, Value) {
    let request = world.cloud.poll_webhook().unwrap();
    assert_eq!(world.cloud.poll_webhook(), None);
    let body = serde_json::from_slice(&request.body).unwrap();
    (request, body)
}

fn answer(world: &mut World, request: &WebhookRequest, body: &Value) {
    let result = Ok((200, body.to_string().into_bytes()));
    world.cloud.handle_webhook(&request.id, result, world.now);
    world.drain();
}

/// A twin as a service reads it at one of the hubs.
fn twin(service: &mut Service, hub: &str, id: &str) -> Option<Value> {
    let key = service.world.cloud.service_key();
    let expiry = service.world.wall() + std::time::Duration::from_secs(60);
    let token = zerotouch_credentials::SasToken::for_service(key, hub, "iothubowner", expiry);
    let mut request = service.make("GET", &format!("/twins/{id}"), &Value::Null);
    request.host = hub.into();
    request.authorization = Some(token.as_str().into());
    let response = service.world.request(&request);
    (response.status == 200).then(|| json_of(&response))
}

// The nearest hub by the table, which a file can hold.
#[test]
fn the_nearest_hub() {
    let mut fixture = fixture(|group| group.allocation = Allocation::GeoLatency);
    let rows = [
        r#"{"hub":"hub-2.example","latency":"9ms","prefix":"eu-"}"#,
        r#"{"hub":"localhost","latency":"30ms"}"#,
    ];
    fixture.dps.latencies = rows.map(|row| serde_json::from_str::<Latency>(row).unwrap()).into();
    let mut world = World::new(fixture);
    assert_eq!(assigned(&mut world, "eu-1")["assignedHub"], OTHER);
    assert_eq!(assigned(&mut world, "us-1")["assignedHub"], "localhost");
}

// The webhook is asked what the documentation says, the device waits, and gets what the webhook has for it.
#[test]
fn a_webhook_decides() {
    let mut service = Service::with(fixture(|group| {
        custom(group);
        let mut initial = InitialTwin::default();
        initial.tags.insert("from".into(), "the enrolment".into());
        group.initial_twin = initial;
    }));
    let operation = begin(&mut service.world, "d", &json!({ "payload": { "model": "toaster" } }));
    let (request, body) = asked(&mut service.world);
    assert_eq!(request.url, "http://127.0.0.1:7071/api/allocate");
    assert_eq!(
        body["deviceRuntimeContext"],
        json!({ "registrationId": "d", "symmetricKey": {}, "payload": { "model": "toaster" } })
    );
    assert_eq!(body["linkedHubs"], json!(["localhost", OTHER]));
    let group = &body["enrollmentGroup"];
    assert_eq!(group["enrollmentGroupId"], Fixture::DEFAULT_GROUP);
    assert_eq!(
        group["attestation"],
        json!({ "type": "symmetricKey" }),
        "its keys are nobody's business"
    );
    assert_eq!(group["customAllocationDefinition"]["apiVersion"], "2021-10-01");
    assert_eq!(body["individualEnrollment"], Value::Null);

    for _ in 0..2 {
        let (status, body) = poll(&mut service.world, &operation);
        assert_eq!((&*status, &body["status"]), ("202", &json!("assigning")));
    }
    assert_eq!(service.world.cloud.poll_webhook(), None, "it is asked once");
    let twin_body =
        json!({ "tags": { "from": "the webhook" }, "properties": { "desired": { "heat": 3 } } });
    answer(
        &mut service.world,
        &request,
        &json!({ "iotHubHostName": OTHER, "initialTwin": twin_body, "payload": { "hello": [1] } }),
    );
    let (status, body) = poll(&mut service.world, &operation);
    let state = &body["registrationState"];
    assert_eq!((&*status, &state["assignedHub"]), ("200", &json!(OTHER)), "{body}");
    assert_eq!(state["payload"], json!({ "hello": [1] }));
    let read = twin(&mut service, OTHER, "d").unwrap();
    assert_eq!(
        (&read["tags"]["from"], &read["properties"]["desired"]["heat"]),
        (&json!("the webhook"), &json!(3))
    );

    // The next time it hears where the device is; what it does not say stays.
    let operation = begin(&mut service.world, "d", &json!({}));
    let (request, body) = asked(&mut service.world);
    let context = &body["deviceRuntimeContext"];
    assert_eq!(context["currentIotHubHostName"], OTHER);
    assert_eq!((&context["currentDeviceId"], &context["payload"]), (&json!("d"), &Value::Null));
    answer(&mut service.world, &request, &json!({ "iotHubHostName": "localhost" }));
    let (_, body) = poll(&mut service.world, &operation);
    assert_eq!(body["registrationState"]["substatus"], "deviceDataMigrated");
    assert_eq!(twin(&mut service, "localhost", "d").unwrap()["tags"]["from"], "the webhook");
}

// Whatever goes wrong with the webhook, the device is told, and a next registration is a new chance.
#[test]
fn a_webhook_fails() {
    let large = json!({ "a": "x".repeat(40_000) });
    let hub = |name: &str| json!({ "iotHubHostName": name }).to_string().into_bytes();
    let twin =
        json!({ "iotHubHostName": OTHER, "initialTwin": { "properties": { "desired": large } } });
    for (result, message) in [
        (Ok((500, hub(OTHER))), "Custom allocation failed with status code: 500"),
        (Ok((204, Vec::new())), "Custom allocation failed with status code: 204"),
        (Err("refused".into()), "Custom allocation failed: no answer. (synthetic text)"),
        (Ok((200, b"{}".to_vec())), "Custom allocation failed: unusable answer. (synthetic text)"),
        (
            Ok((200, hub("elsewhere"))),
            "Custom allocation failed: unusable answer. (synthetic text)",
        ),
        (
            Ok((200, hub("localhost"))),
            "Custom allocation failed: unusable answer. (synthetic text)",
        ),
        (
            Ok((200, twin.to_string().into_bytes())),
            "Custom allocation failed: unusable answer. (synthetic text)",
        ),
    ] {
        let mut world = World::new(fixture(|group| {
            custom(group);
            group.hubs = vec![OTHER.into()];
        }));
        let operation = begin(&mut world, "d", &json!({}));
        let (request, body) = asked(&mut world);
        assert_eq!(body["linkedHubs"], json!([OTHER]));
        world.cloud.handle_webhook(&request.id, result, world.now);
        world.drain();
        let told = |e: &CloudEvent| {
            matches!(e, CloudEvent::RegistrationRefused { code: Some(400_207), .. })
        };
        assert!(world.events().iter().any(told));
        let (status, body) = poll(&mut world, &operation);
        assert_eq!((&*status, &body["status"]), ("200", &json!("failed")));
        let state = &body["registrationState"];
        assert_eq!((&state["status"], &state["errorCode"]), (&json!("failed"), &json!(400_207)));
        assert_eq!(state["errorMessage"], message);
        assert_eq!(world.cloud.devices().count(), 0);
        begin(&mut world, "d", &json!({}));
        let (again, _) = asked(&mut world);
        // Too late: it was for the registration before.
        answer(&mut world, &request, &json!({ "iotHubHostName": OTHER }));
        answer(&mut world, &again, &json!({ "iotHubHostName": OTHER }));
    }
}

// A registration that was under way when the emulator ended goes on in the next.
#[test]
fn a_webhook_is_asked_again_after_a_restart() {
    let mut world = World::new(fixture(custom));
    let (_, operation_id) = begin(&mut world, "d", &json!({ "payload": 7 }));
    let (_, before) = asked(&mut world);
    let records: Vec<_> = std::iter::from_fn(|| world.cloud.poll_record()).collect();
    let mut next = World::new(fixture(custom));
    let kept = records
        .iter()
        .filter_map(|record| Some((record.table, &*record.key, record.value.as_deref()?)));
    let rng = rand_core::SeedableRng::seed_from_u64(2);
    next.cloud.restore(kept, rng, next.now).unwrap();
    let connection = next.connect_dps("d", DPS_VERSION);
    let operation = (connection, operation_id);
    assert_eq!(poll(&mut next, &operation).0, "202");
    let (request, again) = asked(&mut next);
    assert_eq!(again, before);
    assert_eq!(poll(&mut next, &operation).0, "202");
    assert_eq!(next.cloud.poll_webhook(), None);
    answer(&mut next, &request, &json!({ "iotHubHostName": OTHER }));
    assert_eq!(poll(&mut next, &operation).1["registrationState"]["assignedHub"], OTHER);
}

/// Changes the default group over the service's API.
fn change(service: &mut Service, change: &Value) {
    let target = format!("/enrollmentGroups/{}?api-version=2021-10-01", Fixture::DEFAULT_GROUP);
    let mut body = json_of(&service.call("GET", &target, &Value::Null));
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let etag = body["etag"].as_str().unwrap().trim_matches('"').to_owned();
    let response = service.call_if(&etag, "PUT", &target, &body);
    assert_eq!(response.status, 200, "{:?}", json_of(&response));
}

/// A device connected at its hub, whose twin has been changed by both sides.
fn living(service: &mut Service) -> ConnectionId {
    let key = service.world.device_key("d").to_base64();
    let device = service.connect("d", &key);
    let patch = json!({ "tags": { "since": 1 }, "properties": { "desired": { "rate": 9 } } });
    assert_eq!(service.call("PATCH", "/twins/d", &patch).status, 200);
    let report = br#"{"seen":true}"#;
    service.world.publish(device, "$iothub/twin/PATCH/properties/reported/?$rid=1", report);
    service.world.received(device);
    device
}

// The three policies, for a device whose hub has changed: with its twin, without it, or not at all.
#[test]
fn a_device_moves_as_its_enrolment_says() {
    for (policy, hub, substatus, tags, rate, seen) in [
        (
            (true, true),
            OTHER,
            "deviceDataMigrated",
            json!({"site":"a","since":1}),
            json!(9),
            json!(true),
        ),
        ((true, false), OTHER, "deviceDataReset", json!({"site":"a"}), json!(5), Value::Null),
        (
            (false, true),
            "localhost",
            "reprovisionedToInitialAssignment",
            json!({"site":"a","since":1}),
            json!(9),
            json!(true),
        ),
    ] {
        let mut service = Service::with(fixture(|group| {
            (group.allocation, group.hubs) = (Allocation::Static, vec!["localhost".into()]);
        }));
        let twin_body =
            json!({ "tags": { "site": "a" }, "properties": { "desired": { "rate": 5 } } });
        let policy = json!({ "updateHubAssignment": policy.0, "migrateDeviceData": policy.1 });
        change(&mut service, &json!({ "initialTwin": twin_body, "reprovisionPolicy": policy }));
        let state = assigned(&mut service.world, "d");
        assert_eq!(
            (&state["assignedHub"], &state["substatus"]),
            (&json!("localhost"), &json!("initialAssignment"))
        );
        assert_eq!(
            twin(&mut service, "localhost", "d").unwrap()["properties"]["desired"]["rate"],
            5
        );
        let device = living(&mut service);

        change(&mut service, &json!({ "iotHubs": [OTHER] }));
        let state = assigned(&mut service.world, "d");
        assert_eq!((&state["assignedHub"], &state["substatus"]), (&json!(hub), &json!(substatus)));
        let twin_now = twin(&mut service, hub, "d").unwrap();
        assert_eq!((&twin_now["tags"], &twin_now["properties"]["desired"]["rate"]), (&tags, &rate));
        assert_eq!(twin_now["properties"]["reported"]["seen"], seen);
        // At its old hub it is known no more.
        let moved = hub == OTHER;
        assert_eq!(service.world.is_closed(device), moved);
        assert_eq!(twin(&mut service, "localhost", "d").is_none(), moved);
        assert_eq!(service.world.cloud.devices().count(), 1);
    }
}

// At the same hub a device keeps its twin, unless its enrolment is for factory resets.
#[test]
fn a_device_comes_back_to_its_hub() {
    for (migrates, rate) in [(true, 9), (false, 5)] {
        let mut service = Service::with(fixture(|group| {
            (group.allocation, group.hubs) = (Allocation::Static, vec!["localhost".into()]);
        }));
        let twin_body = json!({ "properties": { "desired": { "rate": 5 } } });
        let policy = json!({ "migrateDeviceData": migrates });
        change(&mut service, &json!({ "initialTwin": twin_body, "reprovisionPolicy": policy }));
        assigned(&mut service.world, "d");
        let device = living(&mut service);
        let state = assigned(&mut service.world, "d");
        assert_eq!(state["substatus"], "reprovisionedToInitialAssignment");
        let twin_now = twin(&mut service, "localhost", "d").unwrap();
        assert_eq!(twin_now["properties"]["desired"]["rate"], rate);
        assert!(!service.world.is_closed(device));
        // A hub that has lost the device gets it as a new one.
        assert_eq!(service.call("DELETE", "/devices/d", &Value::Null).status, 204);
        assigned(&mut service.world, "d");
        assert_eq!(
            twin(&mut service, "localhost", "d").unwrap()["properties"]["desired"]["rate"],
            5
        );
    }
}
