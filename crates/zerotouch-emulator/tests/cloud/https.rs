//! The same services over HTTPS, request by request.

use serde_json::{Value, json};
use zerotouch_credentials::{CertificateRequest, SasToken};
use zerotouch_emulator::cloud::{CloudEvent, Fixture, HttpRequest, HttpResponse};

use crate::support::{DPS_VERSION, World, private_key, texts};

fn world() -> World {
    World::new(Fixture::default())
}

pub(crate) fn request(method: &str, target: &str, body: impl Into<Vec<u8>>) -> HttpRequest {
    HttpRequest {
        method: method.into(),
        target: target.into(),
        host: "localhost:8883".into(),
        authorization: None,
        if_match: None,
        headers: Vec::new(),
        body: body.into(),
        client_chain: Vec::new(),
    }
}

pub(crate) fn json_of(response: &HttpResponse) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

pub(crate) fn header<'r>(response: &'r HttpResponse, name: &str) -> Option<&'r str> {
    let header = response.headers.iter().find(|(header, _)| *header == name);
    header.map(|(_, value)| value.as_str())
}

/// A request of a device of the default group to the provisioning service.
fn of_device(world: &World, id: &str, method: &str, below: &str, body: &str) -> HttpRequest {
    let target =
        format!("/{}/registrations/{id}{below}?api-version={DPS_VERSION}", world.cloud.id_scope());
    let authorization = Some(world.dps_token(&world.device_key(id), id));
    HttpRequest { authorization, ..request(method, &target, body) }
}

// Docs: CSRs are taken over HTTP as over MQTT, and the answers have the same bodies.
#[test]
fn a_device_registers_over_https() {
    let mut world = world();
    let key = private_key(1);
    let csr = CertificateRequest::new(&key, "d1").unwrap().to_base64();
    let body = json!({ "registrationId": "d1", "csr": csr }).to_string();
    let accepted = world.request(&of_device(&world, "d1", "PUT", "/register", &body));
    assert_eq!((accepted.status, header(&accepted, "retry-after")), (202, Some("3")));
    let operation_id = json_of(&accepted)["operationId"].as_str().unwrap().to_owned();
    let below = format!("/operations/{operation_id}");
    let location = header(&accepted, "location").unwrap();
    assert!(location.starts_with("https://localhost:8883/") && location.contains(&below));

    let assigned = world.request(&of_device(&world, "d1", "GET", &below, ""));
    let body = json_of(&assigned);
    assert_eq!((assigned.status, body["status"].as_str()), (200, Some("assigned")), "{body}");
    let state = &body["registrationState"];
    world.accept("d1", &texts(&state["issuedCertificateChain"]), &key);
    // Whoever has lost the operation's id can ask for the state alone.
    let looked_up = world.request(&of_device(&world, "d1", "POST", "", "{}"));
    assert_eq!((looked_up.status, &json_of(&looked_up)), (200, state));
}

// A refusal has its code in a header, too, for clients that do not read bodies.
#[test]
fn refusals_over_https() {
    let mut world = world();
    let without =
        HttpRequest { authorization: None, ..of_device(&world, "d1", "PUT", "/register", "{}") };
    let refused = world.request(&without);
    assert_eq!((refused.status, header(&refused, "x-ms-error-code")), (401, Some("401002")));
    assert_eq!(json_of(&refused)["errorCode"], 401_002);
    let told = |e: &CloudEvent| matches!(e, CloudEvent::RegistrationRefused { status: 401, .. });
    assert!(world.events().iter().any(told));

    let unknown = world.request(&of_device(&world, "d1", "POST", "", ""));
    assert_eq!(unknown.status, 404);
    for (method, target, status) in [
        ("GET", "/healthz", 200),
        ("GET", "/", 404),
        ("GET", "/0neEMULATOR/registrations/d1/register?api-version=2019-03-31", 405),
        ("PUT", "/0neEMULATOR/registrations/d1/register", 400),
        ("PUT", "/0neEMULATOR/registrations/not%20an%20id/register?api-version=2019-03-31", 400),
        ("PUT", "/0neEMULATOR/registrations/%zz/register?api-version=2019-03-31", 400),
        ("PUT", "/0neEMULATOR/registrations/d1/elsewhere?api-version=2019-03-31", 404),
        ("POST", "/devices/d1/files", 401),
        ("GET", "/$uploads/d1/a.txt?sig=1", 405),
        ("PUT", "/$uploads/d1/a.txt?sig=1", 403),
    ] {
        assert_eq!(world.request(&request(method, target, "")).status, status, "{method} {target}");
    }
}

/// A device with a key at its hub, and its token there.
fn with_key(world: &mut World, id: &str) -> String {
    let accepted = world.request(&of_device(world, id, "PUT", "/register", "{}"));
    let operation_id = json_of(&accepted)["operationId"].as_str().unwrap().to_owned();
    world.request(&of_device(world, id, "GET", &format!("/operations/{operation_id}"), ""));
    let expiry = world.wall() + std::time::Duration::from_secs(3600);
    SasToken::for_hub(&world.device_key(id), "localhost", id, expiry).as_str().into()
}

fn of_hub(id: &str, token: &str, below: &str, body: &Value) -> HttpRequest {
    let target = format!("/devices/{id}/files{below}?api-version=2021-04-12");
    let authorization = Some(token.to_owned());
    HttpRequest { authorization, ..request("POST", &target, body.to_string()) }
}

// The three requests of an upload; the test's owner learns what arrived.
#[test]
fn a_file_is_uploaded() {
    let mut world = world();
    let token = with_key(&mut world, "d1");
    let opened = world.request(&of_hub("d1", &token, "", &json!({ "blobName": "a/b c.txt" })));
    let place = json_of(&opened);
    assert_eq!((opened.status, &place["blobName"]), (200, &json!("d1/a/b c.txt")), "{place}");
    assert_eq!(place["hostName"], "localhost:8883");
    let token_there = place["sasToken"].as_str().unwrap();
    let target =
        format!("/{}/d1/a/b%20c.txt{token_there}", place["containerName"].as_str().unwrap());
    assert_eq!(world.request(&request("PUT", &target, "hello")).status, 201);
    let report = json!({
        "correlationId": place["correlationId"],
        "isSuccess": true,
        "statusCode": 201,
        "statusDescription": "stored",
    });
    // Another device's word counts for nothing.
    let other = with_key(&mut world, "d2");
    let foreign = world.request(&of_hub("d2", &other, "/notifications", &report));
    assert_eq!(
        (foreign.status, header(&foreign, "iothub-errorcode")),
        (404, Some("CorrelationIdNotFound"))
    );
    world.events();
    let reported = world.request(&of_hub("d1", &token, "/notifications", &report));
    assert_eq!(reported.status, 204);
    assert_eq!(
        world.events(),
        [CloudEvent::FileUploaded {
            device_id: "d1".into(),
            blob_name: "d1/a/b c.txt".into(),
            sha256: Some("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".into()),
            status_code: 201,
            status_description: "stored".into(),
        }]
    );
    // The upload is over, and so is its token.
    assert_eq!(world.request(&of_hub("d1", &token, "/notifications", &report)).status, 404);
    assert_eq!(world.request(&request("PUT", &target, "hello")).status, 403);
}

// A hub keeps no more than ten uploads of a device open, and no name that is no blob's.
#[test]
fn uploads_are_bounded() {
    let mut world = world();
    let token = with_key(&mut world, "d1");
    for body in [json!({}), json!({ "blobName": "" }), json!({ "blobName": "a\nb" })] {
        assert_eq!(world.request(&of_hub("d1", &token, "", &body)).status, 400);
    }
    let open = of_hub("d1", &token, "", &json!({ "blobName": "a" }));
    for _ in 0..10 {
        assert_eq!(world.request(&open).status, 200);
    }
    let refused = world.request(&open);
    assert_eq!(
        (refused.status, header(&refused, "iothub-errorcode")),
        (403, Some("TooManyFileUploads"))
    );
}
