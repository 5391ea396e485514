//! What a service does at a hub over HTTPS.

use std::time::Duration;

use serde_json::{Value, json};
use zerotouch_credentials::{SasToken, SymmetricKey};
use zerotouch_emulator::cloud::{Fixture, HttpRequest, HttpResponse, SERVICE_POLICIES};
use zerotouch_mqtt_session::ConnectionId;

use crate::https::{header, json_of, request};
use crate::support::{Got, HUB_VERSION, World, private_key};

pub(crate) struct Service {
    pub(crate) world: World,
    token: String,
}

impl Service {
    pub(crate) fn new() -> Self {
        Self::with(Fixture::default())
    }

    pub(crate) fn with(fixture: Fixture) -> Self {
        let world = World::new(fixture);
        let expiry = world.wall() + Duration::from_secs(3600);
        let token = SasToken::for_service(
            world.cloud.service_key(),
            "localhost:8883",
            SERVICE_POLICIES[0],
            expiry,
        );
        Self { token: token.as_str().into(), world }
    }

    pub(crate) fn make(&self, method: &str, target: &str, body: &Value) -> HttpRequest {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let authorization = Some(self.token.clone());
        HttpRequest { authorization, ..request(method, target, body) }
    }

    pub(crate) fn call(&mut self, method: &str, target: &str, body: &Value) -> HttpResponse {
        let request = self.make(method, target, body);
        self.world.request(&request)
    }

    pub(crate) fn call_if(
        &mut self,
        etag: &str,
        method: &str,
        target: &str,
        body: &Value,
    ) -> HttpResponse {
        let request = self.make(method, target, body);
        self.world.request(&HttpRequest { if_match: Some(format!("\"{etag}\"")), ..request })
    }

    /// Connects a device by a key of its.
    pub(crate) fn connect(&mut self, id: &str, key: &str) -> ConnectionId {
        let key = SymmetricKey::from_base64(key).unwrap();
        let expiry = self.world.wall() + Duration::from_secs(3600);
        let token = SasToken::for_hub(&key, "localhost", id, expiry);
        let username = format!("localhost/{id}/?api-version={HUB_VERSION}");
        self.world.connect(Vec::new(), id, &username, Some(token.as_str()), true)
    }
}

fn code(response: &HttpResponse) -> (u16, &str) {
    (response.status, header(response, "iothub-errorcode").unwrap_or_default())
}

// A device of an operator's making lives as one of the provisioning service's does.
#[test]
fn the_registry_makes_devices() {
    let mut service = Service::new();
    let made = service.call("PUT", "/devices/d1", &json!({ "deviceId": "d1" }));
    let device = json_of(&made);
    assert_eq!((made.status, &device["status"]), (200, &json!("enabled")), "{device}");
    let keys = &device["authentication"]["symmetricKey"];
    // Either key opens the hub.
    for which in ["primaryKey", "secondaryKey"] {
        let connection = service.connect("d1", keys[which].as_str().unwrap());
        let got = service.world.received(connection);
        assert_eq!(got, [Got::Accepted { session_present: false }], "{which}");
    }
    let read = json_of(&service.call("GET", "/devices/d1", &Value::Null));
    assert_eq!(read["connectionState"], "Connected");

    let again = service.call("PUT", "/devices/d1", &json!({}));
    assert_eq!(code(&again), (409, "DeviceAlreadyExists"));
    let disabled = json!({ "status": "disabled", "authentication": device["authentication"] });
    let stale = service.call_if("other", "PUT", "/devices/d1", &disabled);
    assert_eq!(code(&stale), (412, "PreconditionFailed"));
    let etag = device["etag"].as_str().unwrap();
    assert_eq!(service.call_if(etag, "PUT", "/devices/d1", &disabled).status, 200);
    let connection = service.connect("d1", keys["primaryKey"].as_str().unwrap());
    assert_eq!(service.world.received(connection), [Got::Refused(5)], "it is disabled");

    let statistics = json_of(&service.call("GET", "/statistics/devices", &Value::Null));
    assert_eq!(statistics["disabledDeviceCount"], 1);
    assert_eq!(service.call("DELETE", "/devices/d1", &Value::Null).status, 204);
    let gone = service.call("GET", "/devices/d1", &Value::Null);
    assert_eq!(code(&gone), (404, "DeviceNotFound"));
}

// What cannot be a device is none, and says why.
#[test]
fn the_registry_refuses_what_is_no_device() {
    let mut service = Service::new();
    for (id, body) in [
        ("d1", json!([])),
        ("d1", json!({ "deviceId": "d2" })),
        ("d1", json!({ "status": "asleep" })),
        ("d1", json!({ "authentication": { "symmetricKey": { "primaryKey": "no base64" } } })),
        ("d1", json!({ "authentication": { "type": "selfSigned" } })),
        ("d1", json!({ "authentication": { "type": "certificateAuthority" } })),
        ("d%20x", json!({})),
    ] {
        let refused = service.call("PUT", &format!("/devices/{id}"), &body);
        assert_eq!(code(&refused), (400, "ArgumentInvalid"), "{body}");
    }
    // Nobody without a token of a policy, and nobody with another hub's.
    let other = SasToken::for_hub(
        service.world.cloud.service_key(),
        "localhost",
        "d1",
        service.world.wall() + Duration::from_secs(60),
    );
    for authorization in [None, Some("nonsense".into()), Some(other.as_str().into())] {
        let request = request("GET", "/devices/d1", "");
        let refused = service.world.request(&HttpRequest { authorization, ..request });
        assert_eq!(code(&refused), (401, "IotHubUnauthorizedAccess"));
    }
}

// Desired properties go down, reported ones come up, and tags are for the service alone.
#[test]
fn twins_are_read_and_changed() {
    let mut service = Service::new();
    let key = private_key(1);
    let identity = service.world.provision("d1", &key);
    let device = service.world.connect_hub(&identity, true);
    service.world.subscribe(device, "$iothub/twin/PATCH/properties/desired/#");
    service.world.received(device);
    let reported = br#"{"seen":true}"#;
    service.world.publish(device, "$iothub/twin/PATCH/properties/reported/?$rid=1", reported);
    service.world.received(device);

    let change = json!({ "tags": { "site": "a" }, "properties": { "desired": { "rate": 5 } } });
    let twin = json_of(&service.call("PATCH", "/twins/d1", &change));
    assert_eq!(twin["tags"], json!({ "site": "a" }));
    assert_eq!(twin["properties"]["desired"], json!({ "rate": 5, "$version": 2 }));
    assert_eq!(twin["properties"]["reported"]["seen"], true);
    let (topic, sent) = service.world.message(device);
    assert_eq!(topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    assert_eq!(sent, json!({ "rate": 5, "$version": 2 }));

    let stale = service.call_if("other", "PUT", "/twins/d1", &json!({}));
    assert_eq!(code(&stale), (412, "PreconditionFailed"));
    let replaced = json!({ "properties": { "desired": { "other": 1 } } });
    let twin = json_of(&service.call("PUT", "/twins/d1", &replaced));
    assert_eq!(
        (&twin["tags"], &twin["properties"]["desired"]),
        (&json!({}), &json!({ "other": 1, "$version": 3 }))
    );

    let query = json!({ "query": "SELECT *  FROM devices" });
    let all = json_of(&service.call("POST", "/devices/query", &query));
    assert_eq!(all.as_array().map(Vec::len), Some(1));
    let other =
        service.call("POST", "/devices/query", &json!({ "query": "SELECT deviceId FROM x" }));
    assert_eq!(other.status, 400);
    assert_eq!(service.call("GET", "/twins/d2", &Value::Null).status, 404);
    assert_eq!(service.call("PATCH", "/twins/d1", &json!({ "tags": 1 })).status, 400);
}

// A call waits for its device, as long as it said, and no other call's answer is its.
#[test]
fn methods_wait_for_their_answers() {
    let mut service = Service::new();
    let key = private_key(1);
    let identity = service.world.provision("d1", &key);
    let call =
        json!({ "methodName": "re boot", "payload": { "now": 1 }, "responseTimeoutInSeconds": 5 });
    let offline = service.call("POST", "/twins/d1/methods", &call);
    assert_eq!(code(&offline), (404, "DeviceNotOnline"));
    let device = service.world.connect_hub(&identity, true);
    service.world.subscribe(device, "$iothub/methods/POST/#");
    service.world.received(device);

    let request = service.make("POST", "/twins/d1/methods", &call);
    let (first, second) = (service.world.ask(&request), service.world.ask(&request));
    assert_eq!(service.world.cloud.poll_response(), None);
    let got = service.world.received(device);
    let ids: Vec<&str> = got
        .iter()
        .map(|got| match got {
            Got::Message { topic, payload, .. } => {
                assert_eq!(payload, br#"{"now":1}"#);
                topic.strip_prefix("$iothub/methods/POST/re%20boot/?$rid=").unwrap()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let topic = format!("$iothub/methods/res/200/?$rid={}", ids[1]);
    service.world.publish(device, &topic, br#"{"ok":true}"#);
    let (answered, response) = service.world.cloud.poll_response().unwrap();
    assert_eq!(answered, second);
    assert_eq!(json_of(&response), json!({ "status": 200, "payload": { "ok": true } }));

    service.world.wait(Duration::from_secs(5));
    let (answered, response) = service.world.cloud.poll_response().unwrap();
    assert_eq!((answered, code(&response)), (first, (504, "GatewayTimeout")));
    // Too late: nobody waits any more.
    service.world.publish(device, &format!("$iothub/methods/res/200/?$rid={}", ids[0]), b"1");
    assert_eq!(service.world.cloud.poll_response(), None);

    for body in [json!({}), json!({ "methodName": "x", "responseTimeoutInSeconds": 301 })] {
        assert_eq!(service.call("POST", "/twins/d1/methods", &body).status, 400);
    }
}
