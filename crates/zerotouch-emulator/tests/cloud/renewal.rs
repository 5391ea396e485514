//! Renewal over the hub: the scenarios that the vendor's C# SDK recorded against the service, by
//! their numbers (the thirteenth is not described), and what they leave out.

use std::time::Duration;

use serde_json::{Value, json};
use zerotouch_credentials::CertificateRequest;
use zerotouch_emulator::cloud::{CloudEvent, ConnectionId, Fault, Fixture, Operation, Via};
use zerotouch_mqtt_codec::Packet;

use crate::support::{Got, HUB_VERSION, Identity, World, base64, faulty, private_key, texts};

const FILTER: &str = "$iothub/credentials/res/#";
/// The fixture's delay from 202 to 200.
const DELAY: Duration = Duration::from_millis(200);

struct Renewing {
    world: World,
    identity: Identity,
    connection: ConnectionId,
}

impl Renewing {
    /// A device that is connected and subscribed.
    fn new(fixture: Fixture) -> Self {
        let mut world = World::new(fixture);
        let identity = world.provision("d", &private_key(1));
        let connection = world.connect_hub(&identity, false);
        world.subscribe(connection, FILTER);
        world.received(connection);
        world.events();
        Self { world, identity, connection }
    }

    fn ask(&mut self, request_id: &str, body: impl AsRef<[u8]>) {
        let topic = format!("$iothub/credentials/POST/issueCertificate/?$rid={request_id}");
        self.world.publish(self.connection, &topic, body.as_ref());
    }

    /// Asks, and yields the status and the body of what comes at once.
    fn answer(&mut self, request_id: &str, body: impl AsRef<[u8]>) -> (u16, Value) {
        self.ask(request_id, body);
        self.reply(request_id)
    }

    /// The one reply that has come, which has to be to this request.
    fn reply(&mut self, request_id: &str) -> (u16, Value) {
        let (topic, body) = self.world.message(self.connection);
        let rest = topic.strip_prefix("$iothub/credentials/res/").unwrap();
        let (status, bag) = rest.split_once("/?").unwrap();
        assert_eq!(bag, format!("$rid={request_id}"));
        (status.parse().unwrap(), body)
    }

    fn wait(&mut self) {
        self.world.wait(DELAY);
    }

    fn nothing(&mut self) {
        let got = self.world.received(self.connection);
        assert!(!got.iter().any(|got| matches!(got, Got::Message { .. })), "{got:?}");
    }

    fn reconnect(&mut self, clean_session: bool) {
        self.world.cut(self.connection);
        self.connection = self.world.connect_hub(&self.identity, clean_session);
    }
}

fn csr(name: &str) -> String {
    CertificateRequest::new(&private_key(2), name).unwrap().to_base64()
}

fn body() -> String {
    json!({ "id": "d", "csr": csr("d") }).to_string()
}

// 001 to 011: what is refused at once, in the order of the recorded table.
#[test]
fn s001_to_s011_refuses_malformed_requests() {
    let mut device = Renewing::new(Fixture::default());
    let long = "A".repeat(10 * 1024);
    let with = |members: Value| members.to_string();
    for (number, body, status, code, said) in [
        (1, String::new(), 400, 400_004, "payload is missing"),
        (2, "{\"id\":\"d\",".into(), 400, 400_006, "decode json"),
        (3, with(json!(["d", csr("d")])), 400, 400_004, "Id"),
        (4, with(json!({ "id": "d", "csr": "" })), 400, 400_004, "invalid or missing"),
        (4, with(json!({ "id": "d" })), 400, 400_004, "invalid or missing"),
        (4, with(json!({ "id": "d", "csr": 5 })), 400, 400_004, "invalid or missing"),
        (5, with(json!({ "id": "d", "csr": long })), 400, 400_004, "maximum length"),
        (6, with(json!({ "id": "d", "csr": "????" })), 400, 400_004, "base64"),
        (7, with(json!({ "id": "e", "csr": csr("d") })), 400, 400_004, "Id"),
        (8, with(json!({ "id": "", "csr": csr("d") })), 400, 400_004, "Id"),
        (9, with(json!({ "id": "d", "csr": csr("d"), "x": 1 })), 400, 400_004, "Only id"),
        (
            10,
            with(json!({ "id": "d", "csr": csr("d"), "replace": "123" })),
            400,
            400_004,
            "4 to 36",
        ),
        (10, with(json!({ "id": "d", "csr": csr("d"), "replace": 1234 })), 400, 400_004, "4 to 36"),
        (11, with(json!({ "id": "d", "csr": csr("d"), "replace": "abcd" })), 412, 412_001, "exist"),
    ] {
        let (got, answer) = device.answer("rid-1", &body);
        assert_eq!((got, &answer["errorCode"]), (status, &json!(code)), "{number}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(said), "{number}: {answer}");
        assert_eq!(answer["trackingId"].as_str().unwrap().len(), 36);
        if number == 11 {
            assert_eq!(answer["info"]["requestId"], "abcd");
        }
    }
    let told = device.world.events();
    assert_eq!(told.len(), 14);
    assert!(told.iter().all(|event| matches!(event, CloudEvent::RenewalRefused { .. })));
    // None of them has left anything behind.
    assert_eq!(device.answer("rid-2", body()).0, 202);
}

// 012: what is base64 and no request is taken first and fails then; the codes have two generations.
#[test]
fn s012_fails_in_the_second_stage() {
    let documented = [(Operation::RenewalResult, Fault::DocumentedCodes)];
    let generations = [
        (Fixture::default(), 400_037, "400000"),
        (faulty(documented), 400_040, "FailedToDecodeCsr"),
    ];
    for (fixture, code, error) in generations {
        let mut device = Renewing::new(fixture);
        for bad in ["AAAA".to_owned(), csr("another")] {
            let (status, accepted) =
                device.answer("rid-1", json!({ "id": "d", "csr": bad }).to_string());
            assert_eq!(status, 202);
            device.wait();
            let (status, answer) = device.reply("rid-1");
            assert_eq!((status, &answer["errorCode"]), (400, &json!(code)));
            let info = &answer["info"];
            assert_eq!(info["credentialError"], error);
            assert_eq!(info["credentialMessage"], "CSR did not pass verification");
            assert_eq!(info["correlationId"], accepted["correlationId"]);
        }
    }
}

// 014, 016, 026: without an id to answer to, or without a subscription, nothing comes.
#[test]
fn s014_s016_s026_answers_only_those_who_listen() {
    let mut device = Renewing::new(Fixture::default());
    let topic = "$iothub/credentials/POST/issueCertificate/?";
    device.world.publish(device.connection, topic, body().as_bytes());
    device.wait();
    device.nothing();

    device.world.unsubscribe(device.connection, FILTER);
    device.ask("rid-1", body());
    device.wait();
    device.nothing();
    device.world.subscribe(device.connection, FILTER);
    device.wait();
    device.nothing();
}

// 015: the happy path; the new certificate lets the device in, and the old one still does.
#[test]
fn s015_issues_a_certificate() {
    let mut device = Renewing::new(Fixture::default());
    let (status, accepted) = device.answer("0", body());
    assert_eq!(status, 202);
    assert_eq!(accepted["correlationId"].as_str().unwrap().len(), 36);
    assert_eq!(accepted["operationExpires"], "2026-09-22T02:13:20Z");
    device.nothing();
    device.wait();
    let (status, issued) = device.reply("0");
    assert_eq!(status, 200);
    let chain = texts(&issued["certificates"]);
    assert_eq!(chain.len(), 3);
    let chain = device.world.accept("d", &chain, &private_key(2));
    let told = device.world.events();
    assert!(matches!(&told[..], [CloudEvent::CertificateIssued { thumbprint, via: Via::Hub, .. }]
        if *thumbprint == chain.leaf().thumbprint()));

    let renewed = Identity { device_id: "d".into(), chain };
    device.world.connect_hub(&renewed, true);
    device.world.connect_hub(&device.identity, true);
}

// 017 and 018: a result waits for whoever does not listen, and comes when he does.
#[test]
fn s017_s018_keeps_the_result_for_a_later_subscription() {
    let mut device = Renewing::new(Fixture::default());
    assert_eq!(device.answer("rid-1", body()).0, 202);
    device.world.unsubscribe(device.connection, FILTER);
    device.wait();
    device.nothing();
    device.world.subscribe(device.connection, FILTER);
    assert_eq!(device.reply("rid-1").0, 200);
    // Once.
    device.world.subscribe(device.connection, FILTER);
    device.nothing();
}

// 019 to 021: across connections, with the subscription kept, made again, or neither.
#[test]
fn s019_s020_s021_keeps_the_result_across_connections() {
    for (clean, subscribe, delivered) in
        [(false, false, true), (true, true, true), (true, false, false)]
    {
        let mut device = Renewing::new(Fixture::default());
        assert_eq!(device.answer("rid-1", body()).0, 202);
        device.world.cut(device.connection);
        device.wait();
        device.reconnect(clean);
        if subscribe {
            device.nothing();
            device.world.subscribe(device.connection, FILTER);
        }
        if delivered {
            assert_eq!(device.reply("rid-1").0, 200, "clean {clean}");
        } else {
            device.nothing();
        }
    }
}

// Not acknowledged is not delivered: on the same connection it is still under way and sent once, on
// the next one it is sent again.
#[test]
fn sends_an_unacknowledged_result_again() {
    let mut device = Renewing::new(Fixture::default());
    assert_eq!(device.answer("rid-1", body()).0, 202);
    device.world.acknowledge = false;
    device.wait();
    let first = device.reply("rid-1");
    device.world.subscribe(device.connection, FILTER);
    device.nothing();
    device.reconnect(false);
    assert_eq!(device.reply("rid-1"), first);
    // The connection that takes over gets it, too.
    device.world.acknowledge = true;
    device.connection = device.world.connect_hub(&device.identity, false);
    assert_eq!(device.reply("rid-1"), first);
    device.world.cut(device.connection);
    assert_eq!(device.world.cloud.poll_timeout(), None, "and that was the end of it");
    device.connection = device.world.connect_hub(&device.identity, false);
    device.nothing();
}

// 022: one after the other.
#[test]
fn s022_renews_again() {
    let mut device = Renewing::new(Fixture::default());
    for request_id in ["rid-1", "rid-2", "rid-1"] {
        assert_eq!(device.answer(request_id, body()).0, 202);
        device.wait();
        assert_eq!(device.reply(request_id).0, 200);
    }
}

// 023 to 025: one at a time, unless it is to replace the other.
#[test]
fn s023_s024_s025_one_operation_at_a_time() {
    let documented = faulty([(Operation::Renew, Fault::DocumentedCodes)]);
    for (fixture, code) in [(Fixture::default(), 409_004), (documented, 409_005)] {
        let mut device = Renewing::new(fixture);
        let (_, accepted) = device.answer("rid-1", body());
        let (status, conflict) = device.answer("rid-2", body());
        assert_eq!((status, &conflict["errorCode"]), (409, &json!(code)));
        let info = &conflict["info"];
        assert_eq!(info["requestId"], "rid-1");
        assert_eq!(info["correlationId"], accepted["correlationId"]);
        assert_eq!(info["operationExpires"], accepted["operationExpires"]);

        let replacing =
            |replace: &str| json!({ "id": "d", "csr": csr("d"), "replace": replace }).to_string();
        assert_eq!(device.answer("rid-3", replacing("rid-2")).0, 412);
        assert_eq!(device.answer("rid-3", replacing("rid-1")).0, 202);
        assert_eq!(device.answer("rid-4", replacing("*")).0, 202);
        device.wait();
        assert_eq!(device.reply("rid-4").0, 200);
        device.wait();
        device.nothing();
    }
}

// A device that lost its connection asks again under the same id, and learns that it is under way.
#[test]
fn a_repeated_request_names_itself_in_the_conflict() {
    let mut device = Renewing::new(Fixture::default());
    assert_eq!(device.answer("rid-1", body()).0, 202);
    device.reconnect(false);
    let (status, conflict) = device.answer("rid-1", body());
    assert_eq!((status, &conflict["info"]["requestId"]), (409, &json!("rid-1")));
    device.wait();
    assert_eq!(device.reply("rid-1").0, 200);
}

// A result that nobody fetches is not kept for ever.
#[test]
fn operations_expire() {
    let mut device = Renewing::new(Fixture::default());
    assert_eq!(device.answer("rid-1", body()).0, 202);
    device.world.send(device.connection, Packet::Disconnect);
    // The time of day, which counts, is in whole seconds.
    device.world.wait(Duration::from_secs(12 * 60 * 60 + 1));
    device.connection = device.world.connect_hub(&device.identity, false);
    device.nothing();
    assert_eq!(device.answer("rid-2", body()).0, 202);
}

// What else a hub needs before it renews: a version that knows how, and a policy.
#[test]
fn refuses_old_versions_and_devices_without_a_policy() {
    let mut device = Renewing::new(Fixture::default());
    device.world.cut(device.connection);
    device.connection = device.world.try_hub(&device.identity, "2021-04-12", true);
    device.world.subscribe(device.connection, FILTER);
    device.world.received(device.connection);
    assert_eq!(device.answer("rid-1", body()).1["errorCode"], 400_001);

    // The device registers again, without a request: it has its key now, and no policy.
    let dps = device.world.connect_dps("d", "2019-03-31");
    device.world.register(dps, b"");
    let operation_id = device.world.message(dps).1["operationId"].as_str().unwrap().to_owned();
    device.world.poll(dps, &operation_id);
    let expiry = device.world.wall() + Duration::from_secs(60);
    let key = device.world.device_key("d");
    let token = zerotouch_credentials::SasToken::for_hub(&key, "localhost", "d", expiry);
    let username = format!("localhost/d/?api-version={HUB_VERSION}");
    let password = Some(token.as_str());
    device.connection = device.world.connect(Vec::new(), "d", &username, password, true);
    device.world.subscribe(device.connection, FILTER);
    device.world.received(device.connection);
    assert_eq!(device.answer("rid-1", body()).1["errorCode"], 412_005);
}

// Two shapes that services and SDKs disagree about.
#[test]
fn can_answer_as_other_sdks_expect() {
    let mut device = Renewing::new(faulty([
        (Operation::Renew, Fault::VersionSuffix),
        (Operation::RenewalResult, Fault::BareArray),
    ]));
    device.ask("rid-1", body());
    let (topic, _) = device.world.message(device.connection);
    assert_eq!(topic, "$iothub/credentials/res/202/?$rid=rid-1&$version=1");
    device.wait();
    let (_, certificates) = device.world.message(device.connection);
    assert_eq!(texts(&certificates).len(), 3);
    assert!(base64(certificates[0].as_str().unwrap()).starts_with(&[0x30]));
}
