//! What a service does at a hub over HTTPS.

use std::time::Duration;

use serde_json::{Value, json};
use zerotouch_credentials::{SasToken, SymmetricKey};
use zerotouch_emulator::cloud::{
    CloudEvent, CommandOutcome, Fixture, HttpRequest, HttpResponse, SERVICE_POLICIES,
};
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
        self.connect_with(id, key, true)
    }

    fn connect_with(&mut self, id: &str, key: &str, clean_session: bool) -> ConnectionId {
        let key = SymmetricKey::from_base64(key).unwrap();
        let expiry = self.world.wall() + Duration::from_secs(3600);
        let token = SasToken::for_hub(&key, "localhost", id, expiry);
        let username = format!("localhost/{id}/?api-version={HUB_VERSION}");
        self.world.connect(Vec::new(), id, &username, Some(token.as_str()), clean_session)
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
        (
            "d1",
            json!({ "authentication": { "type": "selfSigned",
            "x509Thumbprint": { "primaryThumbprint": "00112233445566778899aabbccddeeff001122zz" } } }),
        ),
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
    for (query, found) in [("WHERE deviceId = 'd1'", 1), ("where DEVICEID='D1'", 0)] {
        let query = json!({ "query": format!("SELECT * FROM devices {query}") });
        let twins = json_of(&service.call("POST", "/devices/query", &query));
        assert_eq!(twins.as_array().map(Vec::len), Some(found), "{query}");
    }
    for other in ["SELECT deviceId FROM x", "SELECT * FROM devices WHERE deviceId = d1"] {
        let refused = service.call("POST", "/devices/query", &json!({ "query": other }));
        assert_eq!(refused.status, 400, "{other}");
    }
    assert_eq!(service.call("GET", "/twins/d2", &Value::Null).status, 404);
    assert_eq!(service.call("PATCH", "/twins/d1", &json!({ "tags": 1 })).status, 400);

    // Tags have a limit of their own, and what is too large in one part changes nothing in the other.
    let before = json_of(&service.call("GET", "/twins/d1", &Value::Null));
    for (tags, desired) in [(8 * 1024, 1), (1, 32 * 1024)] {
        let desired = json!({ "desired": { "a": "x".repeat(desired) } });
        let change = json!({ "tags": { "a": "x".repeat(tags) }, "properties": desired });
        for method in ["PATCH", "PUT"] {
            let refused = service.call(method, "/twins/d1", &change);
            assert_eq!(code(&refused), (400, "ArgumentInvalid"));
        }
    }
    assert_eq!(json_of(&service.call("GET", "/twins/d1", &Value::Null)), before);
}

// Either hash, in either case, names the certificate that opens the hub, and no other does.
#[test]
fn thumbprints_are_sha256_or_sha1() {
    use sha1::{Digest, Sha1};

    let mut service = Service::new();
    let mut world = World::new(Fixture::default());
    let own = |world: &mut World, seed| {
        let chain = world.provision("elsewhere", &private_key(seed)).chain;
        chain.leaf().as_der().to_vec()
    };
    let (leaf, other) = (own(&mut world, 1), own(&mut world, 2));
    let sha1 =
        Sha1::digest(&leaf).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let sha256 = zerotouch_credentials::Certificate::from_der(&leaf).unwrap().thumbprint();
    let sha256 = sha256.to_string();
    let username = format!("localhost/d/?api-version={HUB_VERSION}");
    for (given, first, second) in [
        ("sha1", &*sha1, ""),
        ("second", "", &*sha1.to_ascii_uppercase()),
        ("sha256", &sha256.to_ascii_lowercase(), &sha1),
    ] {
        let prints = json!({ "primaryThumbprint": first, "secondaryThumbprint": second });
        let entry = json!({ "authentication": { "type": "selfSigned", "x509Thumbprint": prints } });
        let made = service.call_if("*", "PUT", "/devices/d", &entry);
        let told = &json_of(&made)["authentication"]["x509Thumbprint"];
        let first = if first.is_empty() { second } else { first };
        assert_eq!(told["primaryThumbprint"], first.to_ascii_uppercase(), "{given}");
        let world = &mut service.world;
        let connection = world.connect(vec![leaf.clone()], "d", &username, None, true);
        assert_eq!(world.received(connection), [Got::Accepted { session_present: false }]);
        let connection = world.connect(vec![other.clone()], "d", &username, None, true);
        assert_eq!(world.received(connection), [Got::Refused(5)]);
        // … and so it is after a restart.
        world.restart();
        let connection = world.connect(vec![leaf.clone()], "d", &username, None, true);
        assert_eq!(world.received(connection), [Got::Accepted { session_present: false }]);
    }
}

// An operator may enter a device before it registers: it is let in once it has its certificate.
#[test]
fn a_device_that_is_to_be_issued_its_certificate_can_be_entered() {
    let mut service = Service::new();
    let entry = json!({ "authentication": { "type": "certificateAuthority" } });
    let made = json_of(&service.call("PUT", "/devices/d", &entry));
    assert_eq!(made["authentication"]["type"], "certificateAuthority");
    let identity = service.world.provision("d", &private_key(1));
    service.world.connect_hub(&identity, true);
}

// The vendor's paths and headers, and its numbers for what does not work.
#[test]
fn messages_are_sent_and_purged() {
    let mut service = Service::new();
    service.call("PUT", "/devices/d1", &json!({}));
    let headers = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    let to = ("iothub-to", "/devices/d1/messages/deviceBound");
    let sent = |service: &mut Service, target: &str, list: &[(&str, &str)], body: &[u8]| {
        let request = service.make("POST", target, &Value::Null);
        let request = HttpRequest { headers: headers(list), body: body.to_vec(), ..request };
        service.world.request(&request)
    };
    let all = [
        to,
        ("iothub-messageid", "m1"),
        ("iothub-correlationid", "c1"),
        ("iothub-userid", ""),
        ("iothub-contenttype", "application/json"),
        ("iothub-contentencoding", "utf-8"),
        ("iothub-ack", "full"),
        ("iothub-app-colour", "red"),
    ];
    assert_eq!(sent(&mut service, "/messages/deviceBound", &all, b"{}").status, 204);
    assert_eq!(sent(&mut service, "/devices/d1/messages/devicebound", &[], b"2").status, 204);
    let count = |service: &mut Service| {
        ["/devices/d1", "/twins/d1"].map(|target| {
            let shown = json_of(&service.call("GET", target, &Value::Null));
            shown["cloudToDeviceMessageCount"].as_u64().unwrap()
        })
    };
    assert_eq!(count(&mut service), [2, 2]);

    let device = json_of(&service.call("GET", "/devices/d1", &Value::Null));
    let key = device["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    let connection = service.connect_with("d1", key, false);
    service.world.received(connection);
    service.world.subscribe(connection, "devices/d1/messages/devicebound/#");
    let got = service.world.received(connection);
    let Got::Message { topic, payload, .. } = &got[1] else { panic!("{got:?}") };
    assert_eq!(payload, b"{}");
    assert_eq!(
        topic.strip_prefix("devices/d1/messages/devicebound/").unwrap(),
        "%24.to=%2Fdevices%2Fd1%2Fmessages%2Fdevicebound&%24.mid=m1&%24.cid=c1\
         &%24.ct=application%2Fjson&%24.ce=utf-8&iothub-ack=full&colour=red"
    );
    assert_eq!((got.len(), count(&mut service)), (3, [0, 0]));
    service.world.cut(connection);

    for _ in 0..50 {
        assert_eq!(sent(&mut service, "/messages/devicebound", &[to], b"").status, 204);
    }
    let full = sent(&mut service, "/messages/devicebound", &[to], b"");
    assert_eq!(code(&full), (403, "DeviceMaximumQueueDepthExceeded"));
    let purged = json_of(&service.call("DELETE", "/devices/d1/commands", &Value::Null));
    let expected = json!({ "deviceId": "d1", "moduleId": null, "totalMessagesPurged": 50 });
    assert_eq!((purged, count(&mut service)), (expected, [0, 0]));
    let purged = service.world.events().into_iter().filter(|event| {
        matches!(event, CloudEvent::CommandSettled { outcome: CommandOutcome::Purged, .. })
    });
    assert_eq!(purged.count(), 50);

    let large = vec![b'x'; 64 * 1024 + 1];
    let nobody = ("iothub-to", "/devices/nobody/messages/deviceBound");
    let events = ("iothub-to", "/devices/d1/messages/events");
    for (list, body, expected) in [
        (&[to][..], &large[..], (413, "MessageTooLarge")),
        (&[to, ("iothub-expiry", "soon")], b"", (400, "ArgumentInvalid")),
        (&[events], b"", (400, "ArgumentInvalid")),
        (&[], b"", (400, "ArgumentInvalid")),
        (&[nobody], b"", (404, "DeviceNotFound")),
    ] {
        let refused = sent(&mut service, "/messages/devicebound", list, body);
        assert_eq!(code(&refused), expected, "{list:?}");
    }
    let nobody = service.call("DELETE", "/devices/nobody/commands", &Value::Null);
    assert_eq!(code(&nobody), (404, "DeviceNotFound"));
}

// Who may hear of events is the engine's to say, and of which.
#[test]
fn events_are_for_services() {
    let mut service = Service::new();
    let target = "/$emulator/events?device=pump-%2A&event=telemetry";
    let heard = service.call("GET", target, &Value::Null);
    assert_eq!((heard.status, header(&heard, "content-type")), (200, Some("text/event-stream")));
    assert!(heard.events.is_some_and(|filter| format!("{filter:?}").contains("pump-*")));
    assert_eq!(service.call("POST", target, &Value::Null).status, 405);
    assert_eq!(service.call("GET", "/$emulator/events?event=%zz", &Value::Null).status, 400);
    let refused = service.world.request(&request("GET", target, ""));
    assert_eq!((refused.status, refused.events), (401, None));
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
    assert_eq!(number(&offline), 404_103);
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
    assert_eq!(number(&response), 504_101);
    // Too late: nobody waits any more.
    service.world.publish(device, &format!("$iothub/methods/res/200/?$rid={}", ids[0]), b"1");
    assert_eq!(service.world.cloud.poll_response(), None);

    for body in [json!({}), json!({ "methodName": "x", "responseTimeoutInSeconds": 301 })] {
        assert_eq!(service.call("POST", "/twins/d1/methods", &body).status, 400);
    }
    let large = json!({ "methodName": "x", "payload": "x".repeat(128 * 1024) });
    let refused = service.call("POST", "/twins/d1/methods", &large);
    assert_eq!(code(&refused), (413, "MessageTooLarge"));
}

/// The number in what devices' gateway says: JSON within JSON, as it was recorded.
fn number(response: &HttpResponse) -> Value {
    let message = json_of(response)["Message"].clone();
    let inner: Value = serde_json::from_str(message.as_str().unwrap()).unwrap();
    inner["errorCode"].clone()
}
