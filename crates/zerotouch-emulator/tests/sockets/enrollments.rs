//! Enrolments that are managed and asked about over real connections.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::version::TLS13;
use serde_json::{Value, json};
use zerotouch_credentials::{SasToken, SymmetricKey};
use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::{
    Allocation, CloudEvent, DpsSettings, Fixture, Quota, SERVICE_POLICIES, Webhook,
};

use crate::client::Client;
use crate::{PATIENCE, expect, now};

const VERSION: &str = "api-version=2025-07-01-preview";

/// Makes a request as the service's owner; yields status and body.
fn call(emulator: &Emulator, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let host = format!("localhost:{}", emulator.port());
    let token = emulator.with_cloud(|cloud, _| {
        let expiry = now() + Duration::from_secs(60);
        SasToken::for_service(cloud.service_key(), &host, SERVICE_POLICIES[3], expiry)
    });
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut client = Client::dial(emulator, "localhost", &TLS13, None).unwrap();
    write!(
        client.stream,
        "{method} {path}?{VERSION} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {}\r\n\
         x-ms-max-item-count: 1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        token.as_str(),
        body.len(),
    )
    .unwrap();
    let mut answer = String::new();
    client.stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// Registers a device by a key; yields the body of the last answer.
fn register(emulator: &Emulator, id: &str, key: &SymmetricKey, body: &str) -> Value {
    let mut dps = Client::dial(emulator, "localhost", &TLS13, None).unwrap();
    let scope = emulator.id_scope();
    let token = SasToken::for_dps(key, &scope, id, now() + Duration::from_secs(60));
    dps.connect(id, &format!("{scope}/registrations/{id}/{VERSION}"), Some(token.as_str()));
    dps.subscribe("$dps/registrations/res/#");
    let register = "$dps/registrations/PUT/iotdps-register/?$rid=1";
    let (_, accepted) = dps.ask(register, body.as_bytes());
    let operation_id = accepted["operationId"].as_str().unwrap();
    let status = format!(
        "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId={operation_id}"
    );
    let begun = Instant::now();
    loop {
        let (_, answer) = dps.ask(&status, b"");
        if answer["status"] != "assigning" {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{answer}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

// An enrolment that its owner has made is there the next time, with its keys, and so is one that is gone.
#[test]
fn a_data_directory_keeps_enrolments() {
    let directory = tempfile::tempdir().unwrap();
    let start = || Emulator::builder().data_dir(directory.path().join("data")).start().unwrap();
    let emulator = start();
    let body = json!({
        "attestation": { "type": "symmetricKey" },
        "initialTwin": { "tags": { "site": "a" } },
        "credentialPolicyName": Fixture::DEFAULT_POLICY,
    });
    let (status, made) = call(&emulator, "PUT", "/enrollments/kept", &body);
    assert_eq!(status, 200, "{made}");
    let gone = format!("/enrollmentGroups/{}", Fixture::DEFAULT_GROUP);
    assert_eq!(call(&emulator, "DELETE", &gone, &Value::Null).0, 204);
    drop(emulator);

    let emulator = start();
    assert_eq!(call(&emulator, "GET", &gone, &Value::Null).0, 404);
    let (_, mut read) = call(&emulator, "GET", "/enrollments/kept", &Value::Null);
    let mechanism = "/enrollments/kept/attestationmechanism";
    read["attestation"] = call(&emulator, "POST", mechanism, &Value::Null).1;
    assert_eq!(read, made);
    let key = made["attestation"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    let key = SymmetricKey::from_base64(key).unwrap();
    assert_eq!(register(&emulator, "kept", &key, "")["status"], "assigned");
    let (_, states) = call(&emulator, "POST", "/enrollments/query", &json!({ "query": "*" }));
    assert_eq!(states.as_array().map(Vec::len), Some(1), "the header for pages is heeded");
}

/// Somebody who is asked once, and answers so.
fn webhook(answer: String) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/allocate?code=1", listener.local_addr().unwrap());
    let serve = move || {
        let (mut socket, _): (TcpStream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut chunk = [0; 4096];
        while !request.ends_with(b"}}") && !request.ends_with(b"]}") {
            let length = socket.read(&mut chunk).unwrap();
            request.extend_from_slice(&chunk[..length]);
        }
        socket.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    };
    (url, std::thread::spawn(serve))
}

fn asking(url: String) -> Emulator {
    let polls = Quota { count: 100_000, period: Duration::from_secs(1) };
    let dps = DpsSettings { retry_after: Duration::ZERO, polls, ..DpsSettings::default() };
    let mut fixture = Fixture { dps, ..Fixture::default() };
    fixture.hubs.push("hub-2.example".into());
    let webhook = Webhook { url, api_version: "2021-10-01".into() };
    fixture.enrollment_groups[0].allocation = Allocation::Custom(webhook);
    Emulator::builder().fixture(fixture).seed(1).start().unwrap()
}

// A webhook is asked over HTTP as any server expects it, and what it says is done, with its payload.
#[test]
fn a_webhook_is_asked_over_http() {
    let body = json!({ "iotHubHostName": "hub-2.example", "payload": { "to": "you" } }).to_string();
    // Without `Connection: close`: the emulator does not wait for more.
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    let (url, asked) = webhook(answer);
    let emulator = asking(url);
    let key = emulator.group_key(Fixture::DEFAULT_GROUP).unwrap().derive("d");
    let answer = register(&emulator, "d", &key, r#"{"payload":{"model":"x"}}"#);
    let state = &answer["registrationState"];
    assert_eq!(
        (&state["assignedHub"], &state["payload"]["to"]),
        (&json!("hub-2.example"), &json!("you"))
    );
    let request = asked.join().unwrap();
    assert!(request.starts_with("POST /api/allocate?code=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.to_ascii_lowercase().contains("\r\nhost: 127.0.0.1:"), "{request}");
    assert!(request.contains(r#""payload":{"model":"x"}"#), "{request}");
}

// One that refuses, answers nonsense, or is not there ends the registration, and says why in the log.
#[test]
fn a_webhook_fails_over_http() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (refusing, _) = webhook("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".into());
    let (talking, _) = webhook("SSH-2.0-OpenSSH\r\n".into());
    let (redirecting, _) =
        webhook("HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n".into());
    let huge = "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_owned();
    let (endless, _) = webhook(huge + &"x".repeat(300 * 1024));
    for (url, message) in [
        (refusing, "Custom allocation failed with status code: 503"),
        (redirecting, "Custom allocation failed with status code: 302"),
        (talking, "Custom allocation failed: no answer. (synthetic text)"),
        (endless, "Custom allocation failed: no answer. (synthetic text)"),
        (format!("http://{free}/"), "Custom allocation failed: no answer. (synthetic text)"),
    ] {
        let emulator = asking(url);
        let key = emulator.group_key(Fixture::DEFAULT_GROUP).unwrap().derive("d");
        let answer = register(&emulator, "d", &key, "");
        assert_eq!(answer["registrationState"]["errorMessage"], message);
        let refused = |e: &CloudEvent| {
            matches!(e, CloudEvent::RegistrationRefused { code: Some(400_207), reason, .. }
                if reason.starts_with("the webhook did not assign a hub: "))
        };
        expect(&emulator, refused);
    }
}
