//! The provisioning service as an owner of devices sees it, request by request.

use serde_json::{Value, json};
use zerotouch_credentials::{Certificate, SasToken, SymmetricKey};
use zerotouch_emulator::cloud::{
    CertificateAuthority, Fixture, HttpRequest, HttpResponse, SERVICE_POLICIES,
};

use crate::https::{header, json_of};
use crate::service::Service;
use crate::support::{DPS_VERSION, Got, World, base64, dps_username, private_key};

const STABLE: &str = "api-version=2021-10-01";
const PREVIEW: &str = "api-version=2025-07-01-preview";

fn service() -> Service {
    Service::with(Fixture::default())
}

/// What a request is answered with, in the version that all SDKs speak.
fn call(service: &mut Service, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let response = service.call(method, &format!("{path}?{STABLE}"), body);
    (response.status, body_of(&response))
}

fn body_of(response: &HttpResponse) -> Value {
    if response.body.is_empty() { Value::Null } else { json_of(response) }
}

fn change(service: &mut Service, path: &str, body: &Value) -> (u16, Value) {
    let etag = body["etag"].as_str().unwrap().trim_matches('"');
    let response = service.call_if(etag, "PUT", &format!("{path}?{STABLE}"), body);
    (response.status, body_of(&response))
}

fn symmetric(id: &str) -> Value {
    json!({ "registrationId": id, "attestation": { "type": "symmetricKey" } })
}

fn group(id: &str) -> Value {
    json!({ "enrollmentGroupId": id, "attestation": { "type": "symmetricKey" } })
}

/// Registers a device by a key; yields the status of the answer's topic and its body at last.
fn register(world: &mut World, id: &str, key: &SymmetricKey) -> (String, Value) {
    let username = dps_username(world.cloud.id_scope(), id, DPS_VERSION);
    let token = world.dps_token(key, id);
    let connection = world.connect_dps_with(id, &username, Some(&token), Vec::new());
    world.register(connection, b"");
    let (topic, body) = world.message(connection);
    let (topic, body) = match body["operationId"].as_str().filter(|id| !id.is_empty()) {
        Some(operation_id) => {
            world.poll(connection, operation_id);
            world.message(connection)
        }
        None => (topic, body),
    };
    world.cut(connection);
    (topic.split('/').nth(3).unwrap().into(), body)
}

fn key(text: &Value) -> SymmetricKey {
    SymmetricKey::from_base64(text.as_str().unwrap()).unwrap()
}

// From the making of an enrolment to its end, as an owner's tool does it, and what the device has of it.
#[test]
fn an_individual_enrolment_lives() {
    let mut service = service();
    let path = "/enrollments/Pump-1";
    let (status, made) = call(&mut service, "PUT", path, &symmetric("Pump-1"));
    assert_eq!(status, 200, "{made}");
    let keys = &made["attestation"]["symmetricKey"];
    assert_ne!(keys["primaryKey"], keys["secondaryKey"]);
    for (name, value) in [
        ("registrationId", json!("Pump-1")),
        ("provisioningStatus", json!("enabled")),
        ("allocationPolicy", json!("hashed")),
        ("reprovisionPolicy", json!({ "updateHubAssignment": true, "migrateDeviceData": true })),
        ("capabilities", json!({ "iotEdge": false })),
        ("createdDateTimeUtc", json!("2026-09-21T14:13:20Z")),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    // Keys are told to whoever asks for them alone; ids are the same in any case of letters.
    let (_, read) = call(&mut service, "GET", "/enrollments/pump-1", &Value::Null);
    assert_eq!(read["attestation"], json!({ "type": "symmetricKey" }));
    let mechanism = format!("{path}/attestationmechanism");
    let (_, attestation) = call(&mut service, "POST", &mechanism, &Value::Null);
    assert_eq!(attestation, made["attestation"]);

    let (status, body) = register(&mut service.world, "Pump-1", &key(&keys["secondaryKey"]));
    assert_eq!((&*status, &body["status"]), ("200", &json!("assigned")), "{body}");
    let (_, read) = call(&mut service, "GET", path, &Value::Null);
    assert_eq!(read["registrationState"]["assignedHub"], "localhost");
    assert_eq!(read["etag"], made["etag"], "a registration is no change of the enrolment");

    // Nothing is overwritten unawares.
    let (status, refused) = call(&mut service, "PUT", path, &symmetric("Pump-1"));
    assert_eq!((status, &refused["errorCode"]), (409, &json!(409_001)));
    let mut stale = read.clone();
    stale["etag"] = json!("\"other\"");
    assert_eq!(change(&mut service, path, &stale).0, 412);

    // What was read is what is written back, and its keys are the same.
    service.world.wait(std::time::Duration::from_secs(60));
    let mut disabled = read;
    disabled["provisioningStatus"] = json!("disabled");
    let (status, changed) = change(&mut service, path, &disabled);
    assert_eq!((status, &changed["attestation"]), (200, &made["attestation"]), "{changed}");
    assert_ne!(changed["etag"], made["etag"]);
    assert_eq!(changed["createdDateTimeUtc"], made["createdDateTimeUtc"]);
    assert_eq!(changed["lastUpdatedDateTimeUtc"], "2026-09-21T14:14:20Z");
    let (status, body) = register(&mut service.world, "Pump-1", &key(&keys["primaryKey"]));
    assert_eq!((&*status, &body["status"]), ("200", &json!("disabled")));

    let stale = service.call_if("other", "DELETE", &format!("{path}?{STABLE}"), &Value::Null);
    assert_eq!(stale.status, 412);
    assert_eq!(call(&mut service, "DELETE", path, &Value::Null), (204, Value::Null));
    let (status, gone) = call(&mut service, "GET", path, &Value::Null);
    assert_eq!((status, &gone["errorCode"]), (404, &json!(404_201)));
    assert_eq!(gone["message"], "Enrollment not found.");
    // Whoever changes what is gone does not make it anew.
    assert_eq!(change(&mut service, path, &disabled).0, 412);
    let (status, _) = register(&mut service.world, "Pump-1", &key(&keys["primaryKey"]));
    assert_eq!(status, "401");
}

// Whoever is connected when its enrolment goes does not slip in.
#[test]
fn what_is_deleted_stops_registrations_at_once() {
    let mut service = service();
    let connection = service.world.connect_dps("d", DPS_VERSION);
    let target = format!("/enrollmentGroups/{}", Fixture::DEFAULT_GROUP);
    service.world.register(connection, b"");
    let (_, body) = service.world.message(connection);
    assert_eq!(call(&mut service, "DELETE", &target, &Value::Null).0, 204);
    service.world.poll(connection, body["operationId"].as_str().unwrap());
    let (topic, body) = service.world.message(connection);
    assert!(topic.contains("/404/"), "{topic}");
    assert_eq!(body["errorCode"], 404_201);
    assert_eq!(service.world.cloud.devices().count(), 0);
}

// All that an enrolment can say is kept and told.
#[test]
fn nothing_that_is_said_is_lost() {
    let mut fixture = Fixture::default();
    fixture.hubs.push("hub-2.example".into());
    let mut service = Service::with(fixture);
    let twin =
        json!({ "tags": { "site": "a" }, "properties": { "desired": { "rate": { "s": 5 } } } });
    let body = json!({
        "registrationId": "d",
        "deviceId": "the-device",
        "attestation": { "type": "tpm", "tpm": { "endorsementKey": "AToAAQ==", "storageRootKey": "AToA" } },
        "capabilities": { "iotEdge": true },
        "optionalDeviceInformation": { "color": "red" },
        "initialTwin": twin,
        "provisioningStatus": "disabled",
        "reprovisionPolicy": { "updateHubAssignment": true, "migrateDeviceData": false },
        "allocationPolicy": "custom",
        "iotHubs": ["hub-2.example", "localhost"],
        "customAllocationDefinition": { "webhookUrl": "http://x/y", "apiVersion": "2021-10-01" },
    });
    let (status, made) = call(&mut service, "PUT", "/enrollments/d", &body);
    assert_eq!(status, 200, "{made}");
    let (_, read) = call(&mut service, "GET", "/enrollments/d", &Value::Null);
    for (name, value) in body.as_object().unwrap() {
        assert_eq!((&made[name], &read[name]), (value, value), "{name}");
    }
    // As older clients say where all devices go.
    let body = json!({
        "enrollmentGroupId": "g",
        "attestation": { "type": "symmetricKey" },
        "iotHubHostName": "hub-2.example",
        "reprovisionPolicy": { "updateHubAssignment": false },
    });
    let (_, made) = call(&mut service, "PUT", "/enrollmentGroups/g", &body);
    assert_eq!(
        (&made["allocationPolicy"], &made["iotHubs"]),
        (&json!("static"), &json!(["hub-2.example"]))
    );
    assert_eq!(made["reprovisionPolicy"]["updateHubAssignment"], false);
}

// The version that issues certificates knows of policies; another neither tells of them nor takes them away.
#[test]
fn credential_policies_are_named_in_the_preview() {
    let mut service = service();
    let mut body = symmetric("d");
    body["credentialPolicyName"] = json!(Fixture::DEFAULT_POLICY);
    let made = service.call("PUT", &format!("/enrollments/d?{PREVIEW}"), &body);
    assert_eq!(json_of(&made)["credentialPolicyName"], Fixture::DEFAULT_POLICY);
    let (_, read) = call(&mut service, "GET", "/enrollments/d", &Value::Null);
    assert_eq!(read["credentialPolicyName"], Value::Null);
    assert_eq!(change(&mut service, "/enrollments/d", &read).0, 200);
    let target = format!("/enrollments/d?{PREVIEW}");
    let mut read = json_of(&service.call("GET", &target, &Value::Null));
    assert_eq!(read["credentialPolicyName"], Fixture::DEFAULT_POLICY);
    let etag = read["etag"].as_str().unwrap().trim_matches('"').to_owned();
    read["credentialPolicyName"] = json!("gold");
    let refused = service.call_if(&etag, "PUT", &target, &read);
    assert_eq!((refused.status, header(&refused, "x-ms-error-code")), (400, Some("400004")));
    read.as_object_mut().unwrap().remove("credentialPolicyName");
    let changed = json_of(&service.call_if(&etag, "PUT", &target, &read));
    assert_eq!(changed["credentialPolicyName"], Value::Null);
}

/// The chain of a device of some factory: leaf, issuing authority, root.
fn chain(id: &str) -> Vec<Certificate> {
    let identity = World::new(Fixture::default()).provision(id, &private_key(4));
    identity.chain.iter().cloned().collect()
}

fn pem(certificate: &Certificate) -> String {
    zerotouch_credentials::CertificateChain::new(vec![certificate.clone()]).unwrap().to_pem()
}

fn to_base64(bytes: &[u8]) -> String {
    use base64ct::{Base64, Encoding};
    Base64::encode_string(bytes)
}

// Certificates come in three wrappings, leave as what there is to say of them, and that means them when it
// comes back.
#[test]
fn certificates_are_given_once() {
    let [leaf, line, root] = chain("d").try_into().unwrap();
    let mut service = service();
    let der = to_base64(leaf.as_der());
    for (at, text) in [der.clone(), pem(&leaf), to_base64(pem(&leaf).as_bytes())].iter().enumerate()
    {
        let path = format!("/enrollments/d{at}");
        let x509 = json!({ "clientCertificates": { "primary": { "certificate": text } } });
        let body = json!({ "attestation": { "type": "x509", "x509": x509 } });
        let (status, made) = call(&mut service, "PUT", &path, &body);
        assert_eq!(status, 200, "{made}");
        let info = &made["attestation"]["x509"]["clientCertificates"]["primary"]["info"];
        assert_eq!(info["sha256Thumbprint"], leaf.thumbprint().to_string());
        assert_eq!(info["subjectName"], "CN=d");
        assert_eq!(info["issuerName"], leaf.issuer());
        assert_eq!(
            (&info["version"], info["sha1Thumbprint"].as_str().unwrap().len()),
            (&json!(3), 40)
        );
        let (status, again) = change(&mut service, &path, &made);
        assert_eq!((status, &again["attestation"]), (200, &made["attestation"]));
        // It is the certificate of this enrolment alone.
        let (status, _) = call(&mut service, "PUT", "/enrollments/other", &made);
        assert_eq!(status, 400);
    }
    let x509 = json!({ "signingCertificates": {
        "primary": { "certificate": pem(&line) }, "secondary": { "certificate": pem(&root) } } });
    let body = json!({ "attestation": { "type": "x509", "x509": x509 } });
    let (_, made) = call(&mut service, "PUT", "/enrollmentGroups/factory", &body);
    let told = &made["attestation"]["x509"]["signingCertificates"];
    assert_eq!(told["secondary"]["info"]["sha256Thumbprint"], root.thumbprint().to_string());
    // Each of several is meant by what is said of it.
    let mut swapped = made.clone();
    let both = &mut swapped["attestation"]["x509"]["signingCertificates"];
    *both = json!({ "primary": told["secondary"], "secondary": told["primary"] });
    let (status, again) = change(&mut service, "/enrollmentGroups/factory", &swapped);
    assert_eq!((status, &again["attestation"]), (200, &swapped["attestation"]));
    let username = dps_username(service.world.cloud.id_scope(), "d", DPS_VERSION);
    let chain = [&leaf, &line].map(|one| one.as_der().to_vec()).into();
    let connection = service.world.connect_dps_with("d", &username, None, chain);
    service.world.register(connection, b"");
    assert!(service.world.message(connection).0.contains("/202/"));
    assert_eq!(base64(&der), leaf.as_der());
}

// An authority that the service knows is named, and one that it does not is not.
#[test]
fn authorities_are_referred_to() {
    let root = chain("d").remove(2);
    let authority = CertificateAuthority { name: "Factory".into(), certificate: root };
    let fixture = Fixture { certificate_authorities: vec![authority], ..Fixture::default() };
    let mut service = Service::with(fixture);
    let body = |name: &str| {
        let x509 = json!({ "caReferences": { "primary": name } });
        json!({ "attestation": { "type": "x509", "x509": x509 } })
    };
    let (status, made) = call(&mut service, "PUT", "/enrollmentGroups/g", &body("Factory"));
    assert_eq!((status, &made["attestation"]), (200, &body("Factory")["attestation"]));
    let (status, refused) = call(&mut service, "PUT", "/enrollmentGroups/h", &body("Fabrik"));
    assert_eq!(status, 400);
    assert!(refused["message"].as_str().unwrap().contains("CA \"Fabrik\""), "{refused}");
}

// Each slip is named, and changes nothing.
#[test]
fn bad_enrolments_are_refused() {
    let mut service = service();
    let (_, before) = call(&mut service, "PUT", "/enrollments/d", &symmetric("d"));
    let leaf = pem(&chain("d")[0]);
    let with = |change: Value| {
        let mut body = symmetric("d");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    let attested = |attestation: Value| with(json!({ "attestation": attestation }));
    let x509 = |x509: Value| attested(json!({ "type": "x509", "x509": x509 }));
    let large = "x".repeat(33 * 1024);
    for (code, body) in [
        (400_012, json!("d")),
        (400_012, json!({ "attestation": 1 })),
        (400_012, with(json!({ "allocationPolicy": "nearest" }))),
        (400_012, with(json!({ "provisioningStatus": "asleep" }))),
        (400_004, json!({ "registrationId": "d" })),
        (400_004, with(json!({ "registrationId": "e" }))),
        (400_004, with(json!({ "deviceId": "a/b" }))),
        (400_004, with(json!({ "iotHubs": ["elsewhere"] }))),
        (400_004, with(json!({ "allocationPolicy": "static" }))),
        (400_004, with(json!({ "allocationPolicy": "hashed", "iotHubHostName": "localhost" }))),
        (400_004, with(json!({ "iotHubHostName": "localhost", "iotHubs": ["other"] }))),
        (400_004, with(json!({ "allocationPolicy": "custom" }))),
        (
            400_004,
            with(json!({ "allocationPolicy": "custom", "customAllocationDefinition":
            { "webhookUrl": "https://x", "apiVersion": "1" } })),
        ),
        (400_004, with(json!({ "initialTwin": { "properties": { "desired": { "a": large } } } }))),
        (400_004, attested(json!({ "type": "none" }))),
        (
            400_004,
            attested(json!({ "type": "symmetricKey", "symmetricKey": { "primaryKey": "?" } })),
        ),
        (400_004, attested(json!({ "type": "tpm" }))),
        (400_004, attested(json!({ "type": "tpm", "tpm": { "endorsementKey": "" } }))),
        (400_004, x509(json!({}))),
        (400_004, x509(json!({ "clientCertificates": {} }))),
        (400_004, x509(json!({ "clientCertificates": { "primary": { "certificate": "AAAA" } } }))),
        (400_004, x509(json!({ "clientCertificates": { "primary": { "info": {} } } }))),
        (400_004, x509(json!({ "signingCertificates": { "primary": { "certificate": leaf } } }))),
    ] {
        let etag = before["etag"].as_str().unwrap().trim_matches('"');
        let refused = service.call_if(etag, "PUT", &format!("/enrollments/d?{STABLE}"), &body);
        assert_eq!(
            (refused.status, header(&refused, "x-ms-error-code")),
            (400, Some(&*code.to_string())),
            "{body}"
        );
        let refused = json_of(&refused);
        assert!(refused["trackingId"].is_string() && refused["timestampUtc"].is_string());
    }
    for body in [
        json!({ "attestation": { "type": "tpm", "tpm": { "endorsementKey": "AToA" } } }),
        json!({ "attestation": { "type": "x509", "x509":
            { "clientCertificates": { "primary": { "certificate": leaf } } } } }),
    ] {
        assert_eq!(call(&mut service, "PUT", "/enrollmentGroups/g", &body).0, 400, "{body}");
    }
    assert_eq!(call(&mut service, "PUT", "/enrollments/d%20x", &symmetric("d x")).0, 400);
    let mechanism = "/enrollments/d/attestationmechanism";
    let (_, attestation) = call(&mut service, "POST", mechanism, &Value::Null);
    assert_eq!(attestation, before["attestation"]);
    let (_, after) = call(&mut service, "GET", "/enrollments/d", &Value::Null);
    assert_eq!(after["etag"], before["etag"]);
}

// Whoever cannot show a token for this service reads nothing and changes nothing.
#[test]
fn owners_prove_themselves() {
    let mut service = service();
    let expiry = service.world.wall() + std::time::Duration::from_secs(60);
    let owner = *SERVICE_POLICIES.last().unwrap();
    let token = |key: &SymmetricKey, host: &str, policy: &str| {
        Some(SasToken::for_service(key, host, policy, expiry).as_str().into())
    };
    let (good, other) = (service.world.cloud.service_key(), service.world.device_key("x"));
    let refused = [
        None,
        Some("Bearer x".into()),
        token(&other, "localhost:8883", owner),
        token(good, "elsewhere", owner),
        token(good, "localhost:8883", "device"),
    ];
    let accepted = token(good, "localhost:8883", owner);
    for target in ["/enrollments/disabled-device", "/enrollmentGroups/default-group"] {
        let request = service.make("GET", &format!("{target}?{STABLE}"), &Value::Null);
        for authorization in refused.clone() {
            let request = HttpRequest { authorization, ..request.clone() };
            let response = service.world.request(&request);
            assert_eq!((response.status, &json_of(&response)["errorCode"]), (401, &json!(401_000)));
        }
        let authorization = accepted.clone();
        assert_eq!(service.world.request(&HttpRequest { authorization, ..request }).status, 200);
        let unknown = service.call("GET", &format!("{target}?api-version=1"), &Value::Null);
        assert_eq!(unknown.status, 400);
    }
    for (method, path, status) in [
        ("PATCH", "/enrollments/d", 405),
        ("GET", "/enrollments", 405),
        ("GET", "/enrollments/d/attestationmechanism", 405),
        ("GET", "/enrollments/d/x/y", 404),
        ("PUT", "/registrations/d", 405),
        ("GET", "/registrations/d/x/y", 404),
    ] {
        assert_eq!(call(&mut service, method, path, &Value::Null).0, status, "{method} {path}");
    }
}

/// The headers that ask for a page.
fn paging(size: Option<&str>, continuation: Option<&str>) -> Vec<(String, String)> {
    let size = size.map(|size| ("x-ms-max-item-count".into(), size.into()));
    let continuation = continuation.map(|token| ("x-ms-continuation".into(), token.into()));
    size.into_iter().chain(continuation).collect()
}

/// The pages of a query, so many items each at most.
fn pages(service: &mut Service, path: &str, query: &str, size: usize) -> Vec<Vec<Value>> {
    let body = json!({ "query": query });
    let mut pages = Vec::new();
    let mut continuation: Option<String> = None;
    loop {
        let request = service.make("POST", &format!("{path}/query?{STABLE}"), &body);
        let headers = paging(Some(&size.to_string()), continuation.as_deref());
        let response = service.world.request(&HttpRequest { headers, ..request });
        assert_eq!(response.status, 200, "{:?}", json_of(&response));
        pages.push(json_of(&response).as_array().unwrap().clone());
        continuation = header(&response, "x-ms-continuation").map(String::from);
        if continuation.is_none() {
            return pages;
        }
    }
}

// Queries give all there are, once, and end where there are no more; up to ten changes go in one request.
#[test]
fn many_at_once() {
    let mut service = service();
    let bulk = |mode: &str, bodies: Vec<Value>| json!({ "mode": mode, "enrollments": bodies });
    let ids = ["e1", "e2", "e3"];
    let all = bulk("create", ids.map(symmetric).into());
    let (status, done) = call(&mut service, "POST", "/enrollments", &all);
    assert_eq!((status, &done), (200, &json!({ "isSuccessful": true, "errors": [] })));
    // One that is there already does not stop another.
    let both = bulk("create", vec![symmetric("e1"), symmetric("e4")]);
    let (_, done) = call(&mut service, "POST", "/enrollments/", &both);
    assert_eq!(done["isSuccessful"], false);
    assert_eq!(done["errors"][0]["registrationId"], "e1");
    assert_eq!(done["errors"][0]["errorCode"], 409_001);
    assert_eq!(done["errors"].as_array().unwrap().len(), 1);

    let query = "SELECT * FROM  enrollments";
    let found = pages(&mut service, "/enrollments", query, 2);
    let names: Vec<Vec<&str>> = found
        .iter()
        .map(|page| page.iter().map(|one| one["registrationId"].as_str().unwrap()).collect())
        .collect();
    assert_eq!(names, [vec![Fixture::DISABLED_DEVICE, "e1"], vec!["e2", "e3"], vec!["e4"]]);
    assert_eq!(pages(&mut service, "/enrollments", "*", 5).len(), 1, "a full page is the last");

    let mut changed = found[1][0].clone();
    changed["provisioningStatus"] = json!("disabled");
    let mut stale = found[1][1].clone();
    stale["etag"] = json!("other");
    let (_, done) = call(
        &mut service,
        "POST",
        "/enrollments",
        &bulk("updateIfMatchETag", vec![changed, stale]),
    );
    assert_eq!(
        (&done["errors"][0]["registrationId"], &done["errors"][0]["errorCode"]),
        (&json!("e3"), &json!(412_001))
    );
    let (_, read) = call(&mut service, "GET", "/enrollments/e2", &Value::Null);
    assert_eq!(read["provisioningStatus"], "disabled");
    let update = bulk("update", vec![symmetric("e2"), symmetric("e9")]);
    let (_, done) = call(&mut service, "POST", "/enrollments", &update);
    assert_eq!(done["errors"][0]["registrationId"], "e9");
    let delete = bulk("delete", vec![symmetric("e2"), symmetric("e9")]);
    let (_, done) = call(&mut service, "POST", "/enrollments", &delete);
    assert_eq!(done["errors"][0]["errorCode"], 404_201);
    assert_eq!(call(&mut service, "GET", "/enrollments/e2", &Value::Null).0, 404);

    let groups = json!({ "mode": "create", "enrollmentGroups": [group("g1"), group("g1")] });
    let (_, done) = call(&mut service, "POST", "/enrollmentGroups", &groups);
    assert_eq!(done["errors"][0]["enrollmentGroupId"], "g1");
    let found = pages(&mut service, "/enrollmentGroups", "SELECT * FROM enrollmentGroups", 1);
    let names: Vec<&Value> = found.iter().flatten().map(|one| &one["enrollmentGroupId"]).collect();
    assert_eq!(names, [Fixture::DEFAULT_GROUP, "g1", Fixture::DEFAULT_X509_GROUP]);

    let eleven = bulk("create", vec![symmetric("f"); 11]);
    assert_eq!(call(&mut service, "POST", "/enrollments", &eleven).0, 400);
    assert_eq!(call(&mut service, "POST", "/enrollments", &bulk("create", vec![])).0, 400);
    let other = json!({ "query": "SELECT registrationId FROM enrollments" });
    assert_eq!(call(&mut service, "POST", "/enrollments/query", &other).0, 400);
    let request =
        service.make("POST", &format!("/enrollments/query?{STABLE}"), &json!({ "query": "*" }));
    for (size, continuation) in [(Some("0"), None), (Some("x"), None), (None, Some("!"))] {
        let headers = paging(size, continuation);
        let request = HttpRequest { headers, ..request.clone() };
        assert_eq!(service.world.request(&request).status, 400);
    }
}

// What has become of devices is told by device and by group; a registration can be forgotten, and its device
// stays at its hub until it comes again.
#[test]
fn registrations_are_told_and_forgotten() {
    let mut service = service();
    let (_, own) = call(&mut service, "PUT", "/enrollments/alone", &symmetric("alone"));
    let own = key(&own["attestation"]["symmetricKey"]["primaryKey"]);
    register(&mut service.world, "alone", &own);
    for id in ["d1", "d2"] {
        let key = service.world.device_key(id);
        register(&mut service.world, id, &key);
    }
    let (status, state) = call(&mut service, "GET", "/registrations/D1", &Value::Null);
    assert_eq!((status, &state["status"]), (200, &json!("assigned")), "{state}");
    assert_eq!((&state["deviceId"], &state["symmetricKey"]), (&json!("d1"), &Value::Null));
    let of_group = format!("/registrations/{}", Fixture::DEFAULT_GROUP);
    let found = pages(&mut service, &of_group, "*", 1);
    let ids: Vec<&Value> = found.iter().flatten().map(|state| &state["registrationId"]).collect();
    assert_eq!(ids, ["d1", "d2"]);
    assert_eq!(call(&mut service, "POST", "/registrations/none/query", &Value::Null).0, 404);

    let target = format!("/registrations/d1?{STABLE}");
    assert_eq!(service.call_if("other", "DELETE", &target, &Value::Null).status, 412);
    let etag = state["etag"].as_str().unwrap();
    assert_eq!(service.call_if(etag, "DELETE", &target, &Value::Null).status, 204);
    let (status, gone) = call(&mut service, "GET", "/registrations/d1", &Value::Null);
    assert_eq!((status, &gone["errorCode"]), (404, &json!(404_202)));
    let device_key = service.world.device_key("d1");
    let connection = service.connect("d1", &device_key.to_base64());
    assert_eq!(service.world.received(connection), [Got::Accepted { session_present: false }]);
    let uuid = |world: &World| {
        let device = world.cloud.devices().find(|device| device.device_id == "d1");
        device.unwrap().uuid.to_owned()
    };
    let before = uuid(&service.world);
    let (_, body) = register(&mut service.world, "d1", &device_key);
    assert_eq!(body["registrationState"]["substatus"], "initialAssignment");
    assert_eq!(uuid(&service.world), before);
}
