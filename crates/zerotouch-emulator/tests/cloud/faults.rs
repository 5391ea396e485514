//! Faults on demand: each does what it says, to whom it says, as often as it says.

use std::time::Duration;

use serde_json::{Value, json};
use zerotouch_credentials::{Certificate, CertificateRequest, Signer};
use zerotouch_emulator::cloud::{
    ChainFault, CloudEvent, ConnectionId, Fault, FaultRule, Fixture, Operation,
};

use crate::https::{json_of, request};
use crate::service::Service;
use crate::support::{DPS_VERSION, Got, HUB_VERSION, World, base64, faulty, private_key, texts};

const TELEMETRY: &str = "devices/d/messages/events/";

fn error(status: u16, retry_after: Option<u64>) -> Fault {
    Fault::Error { status, error_code: None, retry_after, message: None }
}

/// Registers a device that asks for a certificate; yields the connection and the operation.
fn begin(world: &mut World) -> (ConnectionId, String) {
    let csr = CertificateRequest::new(&private_key(1), "d").unwrap().to_base64();
    let connection = world.connect_dps("d", DPS_VERSION);
    world.register(connection, json!({ "csr": csr }).to_string().as_bytes());
    let (_, accepted) = world.message(connection);
    (connection, accepted["operationId"].as_str().unwrap().into())
}

/// The answer to a question for the status of a new registration.
fn status(world: &mut World) -> (String, Value) {
    let (connection, operation) = begin(world);
    world.poll(connection, &operation);
    world.message(connection)
}

#[test]
fn errors_are_answered_with_their_numbers() {
    let mut world = World::new(faulty([(Operation::Register, error(429, Some(7)))]));
    let connection = world.connect_dps("d", DPS_VERSION);
    world.register(connection, b"{}");
    let (topic, body) = world.message(connection);
    assert_eq!(topic, "$dps/registrations/res/429/?$rid=r1&retry-after=7");
    assert_eq!(body["errorCode"], 429_000);

    let fault = Fault::Error {
        status: 503,
        error_code: Some(503_042),
        retry_after: None,
        message: Some("maintenance".into()),
    };
    let mut world = World::new(faulty([(Operation::Status, fault)]));
    let (topic, body) = status(&mut world);
    assert_eq!(topic, "$dps/registrations/res/503/?$rid=r2");
    assert_eq!((&body["errorCode"], &body["message"]), (&json!(503_042), &json!("maintenance")));
}

// A rule strikes whom it names, so often as it says, and tells of it each time.
#[test]
fn a_rule_keeps_to_its_devices_and_its_count() {
    let mut world = World::new(Fixture::default());
    let rule = FaultRule {
        device: "pump-*".into(),
        count: Some(1),
        ..FaultRule::new(Operation::Register, error(500, None))
    };
    world.cloud.add_fault(rule).unwrap();
    let topics: Vec<String> = ["press-1", "pump-1", "pump-1"]
        .map(|id| {
            let connection = world.connect_dps(id, DPS_VERSION);
            world.register(connection, b"{}");
            world.message(connection).0
        })
        .into();
    let statuses: Vec<&str> = topics.iter().map(|topic| &topic[23..26]).collect();
    assert_eq!(statuses, ["202", "500", "202"]);
    assert!(world.cloud.faults().is_empty());
    let struck = CloudEvent::FaultStruck {
        device: "pump-1".into(),
        operation: Operation::Register,
        fault: "error",
    };
    assert_eq!(world.events.iter().filter(|event| **event == struck).count(), 1);
}

// 202 for ever, until the rule is taken back: the registration itself has come to no harm.
#[test]
fn a_registration_can_be_stuck() {
    let mut world = World::new(faulty([(Operation::Status, Fault::Stuck)]));
    let (connection, operation) = begin(&mut world);
    for _ in 0..3 {
        world.poll(connection, &operation);
        let (topic, body) = world.message(connection);
        assert_eq!(topic, "$dps/registrations/res/202/?$rid=r2&retry-after=3");
        assert_eq!(body["status"], "assigning");
    }
    let id = world.cloud.faults()[0].id;
    assert!(world.cloud.remove_fault(id));
    world.poll(connection, &operation);
    assert_eq!(world.message(connection).1["status"], "assigned");
}

#[test]
fn a_registration_can_end_badly_with_status_200() {
    for named in ["failed", "disabled"] {
        let fault = Fault::Outcome {
            status: named.into(),
            error_code: Some(400_207),
            message: Some("Custom allocation failed with status code: 400".into()),
        };
        let mut world = World::new(faulty([(Operation::Status, fault)]));
        let (topic, body) = status(&mut world);
        assert_eq!(topic, "$dps/registrations/res/200/?$rid=r2");
        let state = &body["registrationState"];
        assert_eq!((&body["status"], &state["status"]), (&json!(named), &json!(named)));
        assert_eq!(state["errorCode"], 400_207);
        assert!(state["errorMessage"].as_str().unwrap().contains("allocation"));
        assert_eq!(state["assignedHub"], Value::Null);
    }
}

/// What is wrong with a chain, seen in what a device is given.
fn is_faulty(world: &World, fault: ChainFault, chain: &Value) -> bool {
    let first = |chain: &[String]| Certificate::from_der(&base64(&chain[0])).unwrap();
    match fault {
        ChainFault::Missing => chain.is_null(),
        ChainFault::Empty => *chain == json!([]),
        ChainFault::Reordered => {
            first(&texts(chain)) == *world.cloud.root_certificate() && texts(chain).len() == 3
        }
        ChainFault::Foreign => first(&texts(chain)).public_key() != private_key(1).public_key(),
        ChainFault::Oversized => texts(chain).len() > 100,
        ChainFault::Pem => {
            texts(chain).iter().all(|text| text.starts_with("-----BEGIN CERTIFICATE-----\n"))
        }
        ChainFault::Expired => first(&texts(chain)).not_after() < world.wall(),
        // Seen at the hub alone.
        _ => texts(chain).len() == 3,
    }
}

const CHAIN_FAULTS: [ChainFault; 8] = [
    ChainFault::Missing,
    ChainFault::Empty,
    ChainFault::Reordered,
    ChainFault::Foreign,
    ChainFault::Oversized,
    ChainFault::Pem,
    ChainFault::Expired,
    ChainFault::Revoked,
];

#[test]
fn chains_can_be_faulty() {
    for fault in CHAIN_FAULTS {
        let mut world = World::new(faulty([(Operation::Assign, Fault::Chain(fault))]));
        let chain = &status(&mut world).1["registrationState"]["issuedCertificateChain"];
        assert!(is_faulty(&world, fault, chain), "{fault:?} {chain}");
    }
}

// The same chains from a renewal; a revoked or expired one is refused by the hub that issued it.
#[test]
fn chains_of_renewals_can_be_faulty() {
    for fault in CHAIN_FAULTS {
        let mut world = World::new(faulty([(Operation::RenewalResult, Fault::Chain(fault))]));
        let mut identity = world.provision("d", &private_key(1));
        let connection = world.connect_hub(&identity, true);
        let body = renew(&mut world, connection);
        let chain = &body["certificates"];
        assert!(is_faulty(&world, fault, chain), "{fault:?} {chain}");
        if matches!(fault, ChainFault::Revoked | ChainFault::Expired) {
            let ders = texts(chain).iter().map(|text| base64(text)).collect::<Vec<_>>();
            let leaf = Certificate::from_der(&ders[0]).unwrap();
            identity.chain = zerotouch_credentials::CertificateChain::new(vec![leaf]).unwrap();
            let connection = world.try_hub(&identity, HUB_VERSION, true);
            assert_eq!(world.received(connection), [Got::Refused(5)]);
        }
    }
}

/// Renews over the hub; yields the body of the result.
fn renew(world: &mut World, connection: ConnectionId) -> Value {
    world.subscribe(connection, "$iothub/credentials/res/#");
    ask_to_renew(world, connection);
    world.received(connection);
    world.wait(Duration::from_secs(1));
    world.message(connection).1
}

fn ask_to_renew(world: &mut World, connection: ConnectionId) {
    let csr = CertificateRequest::new(&private_key(1), "d").unwrap().to_base64();
    let body = json!({ "id": "d", "csr": csr }).to_string();
    let topic = "$iothub/credentials/POST/issueCertificate/?$rid=rid-1";
    world.publish(connection, topic, body.as_bytes());
}

// Both stages of a renewal can be refused.
#[test]
fn renewals_can_fail_in_either_stage() {
    let throttled = (Operation::Renew, error(429, None));
    let mut world = World::new(faulty([throttled]));
    let identity = world.provision("d", &private_key(1));
    let connection = world.connect_hub(&identity, true);
    world.subscribe(connection, "$iothub/credentials/res/#");
    world.received(connection);
    ask_to_renew(&mut world, connection);
    let (topic, body) = world.message(connection);
    assert_eq!(topic, "$iothub/credentials/res/429/?$rid=rid-1");
    assert_eq!(body["errorCode"], 429_000);

    let mut world = World::new(faulty([(Operation::RenewalResult, error(500, None))]));
    let identity = world.provision("d", &private_key(1));
    let connection = world.connect_hub(&identity, true);
    assert_eq!(renew(&mut world, connection)["errorCode"], 500_000);
}

// Before its acknowledgement a request is lost; after it, it was carried out and the answer is lost.
#[test]
fn connections_drop_on_either_side_of_the_acknowledgement() {
    for (fault, acknowledged, told) in [
        (Fault::DropBeforeAcknowledgement, false, false),
        (Fault::DropAfterAcknowledgement, true, true),
    ] {
        let mut world = World::new(faulty([
            (Operation::Telemetry, fault.clone()),
            (Operation::Register, fault.clone()),
            (Operation::TwinReport, fault),
        ]));
        let connection = world.connect_dps("d", DPS_VERSION);
        world.register(connection, b"{}");
        let puback = if acknowledged { vec![Got::PubAck(77)] } else { Vec::new() };
        assert_eq!(world.received(connection), puback);
        assert!(world.is_closed(connection));

        world.cloud.clear_faults();
        let identity = world.provision("d", &private_key(1));
        for (operation, topic) in [
            (Operation::Telemetry, TELEMETRY),
            (Operation::TwinReport, "$iothub/twin/PATCH/properties/reported/?$rid=1"),
        ] {
            let connection = world.connect_hub(&identity, true);
            world.subscribe(connection, "$iothub/twin/res/#");
            world.received(connection);
            world.events();
            let fault = if acknowledged {
                Fault::DropAfterAcknowledgement
            } else {
                Fault::DropBeforeAcknowledgement
            };
            let rule = FaultRule { count: Some(1), ..FaultRule::new(operation, fault) };
            world.cloud.add_fault(rule).unwrap();
            world.publish(connection, topic, br#"{"a":1}"#);
            assert_eq!(world.received(connection), puback, "{operation:?}");
            assert!(world.is_closed(connection));
            let happened = world.events.iter().any(|event| {
                matches!(event, CloudEvent::Telemetry { .. } | CloudEvent::TwinReported { .. })
            });
            assert_eq!(happened, told, "{operation:?}");
        }
    }
}

#[test]
fn answers_come_late_twice_foreign_or_never() {
    let register = |world: &mut World| {
        let connection = world.connect_dps("d", DPS_VERSION);
        world.register(connection, b"{}");
        connection
    };
    let answered = |fault: Fault| {
        let mut world = World::new(faulty([(Operation::Register, fault)]));
        let connection = register(&mut world);
        let at_once = world.received(connection);
        world.wait(Duration::from_secs(2));
        (at_once, world.received(connection))
    };
    let is_message = |got: &Got| matches!(got, Got::Message { .. });

    let (at_once, later) = answered(Fault::Delay(Duration::from_millis(1500)));
    assert_eq!((at_once, later.len()), (vec![Got::PubAck(77)], 1));

    let (at_once, _) = answered(Fault::Duplicate);
    assert_eq!(at_once.len(), 3);
    assert!(is_message(&at_once[1]) && at_once[1] == at_once[2]);

    let (at_once, _) = answered(Fault::WrongRequestId);
    let Got::Message { topic, .. } = &at_once[1] else { panic!("{at_once:?}") };
    assert_eq!(topic, "$dps/registrations/res/202/?$rid=not-r1&retry-after=3");

    let (at_once, _) = answered(Fault::Garbage);
    let Got::Message { payload, .. } = &at_once[1] else { panic!("{at_once:?}") };
    assert!(serde_json::from_slice::<Value>(payload).is_err());

    let (at_once, later) = answered(Fault::Silence);
    assert_eq!((at_once, later), (vec![Got::PubAck(77)], Vec::new()));
}

// A hub counts a device as connected before the device has heard of it. What it is sent meanwhile must come after
// that, and not be lost.
#[test]
fn nothing_overtakes_an_acceptance_that_comes_late() {
    let mut world = World::new(Fixture::default());
    let identity = world.provision("d", &private_key(1));
    let before = world.connect_hub(&identity, false);
    world.subscribe(before, "$iothub/methods/POST/#");
    world.subscribe(before, "devices/d/messages/devicebound/#");
    world.cut(before);
    let delay = Fault::Delay(Duration::from_secs(20));
    world.cloud.add_fault(FaultRule::new(Operation::HubConnect, delay)).unwrap();

    world.cloud.send_command("d", &[], b"before", world.now).unwrap();
    let connection = world.try_hub(&identity, HUB_VERSION, false);
    assert!(world.cloud.invoke_method("d", ("reboot", "4"), b"{}", world.now));
    world.cloud.send_command("d", &[], b"meanwhile", world.now).unwrap();
    world.drain();
    assert_eq!(world.received(connection), []);
    world.wait(Duration::from_secs(20));
    let got = world.received(connection);
    assert_eq!(got[0], Got::Accepted { session_present: true });
    let bodies = got[1..].iter().filter_map(|got| match got {
        Got::Message { payload, .. } => Some(&payload[..]),
        _ => None,
    });
    assert_eq!(bodies.collect::<Vec<_>>(), [&b"before"[..], b"{}", b"meanwhile"]);
}

// Whoever reads a fixed number of bytes at a time, or waits for a whole packet, sees it here.
#[test]
fn bytes_can_trickle() {
    let pace = Duration::from_millis(10);
    let mut world = World::new(faulty([(Operation::Register, Fault::Trickle(pace))]));
    let connection = world.connect_dps("d", DPS_VERSION);
    world.register(connection, b"{}");
    world.wait(pace * 3);
    assert_eq!(world.received(connection), [Got::PubAck(77)]);
    world.wait(pace * 50);
    assert_eq!(world.received(connection), []);
    world.wait(pace * 1000);
    assert!(matches!(world.received(connection)[..], [Got::Message { .. }]));
}

#[test]
fn connections_are_refused() {
    for code in 1..=5 {
        let mut world = World::new(faulty([(Operation::HubConnect, Fault::Refuse { code })]));
        let identity = world.provision("d", &private_key(1));
        let connection = world.try_hub(&identity, HUB_VERSION, true);
        assert_eq!(world.received(connection), [Got::Refused(code)]);
        assert!(world.is_closed(connection));
    }
    let refuse = Fault::Refuse { code: 3 };
    let mut world = World::new(faulty([(Operation::DpsConnect, refuse)]));
    let name = crate::support::dps_username(world.cloud.id_scope(), "d", DPS_VERSION);
    let connection = world.connect(Vec::new(), "d", &name, None, true);
    assert_eq!(world.received(connection), [Got::Refused(3)]);
}

// Over HTTPS, too, as scripts in any language do it; what makes no sense is refused.
#[test]
fn rules_are_made_over_https() {
    let mut service = Service::new();
    let rule = json!({
        "device": "pump-*",
        "operation": "register",
        "fault": { "error": { "status": 429, "retryAfter": 5 } },
        "count": 2,
    });
    let made = service.call("POST", "/$emulator/faults", &rule);
    assert_eq!((made.status, &json_of(&made)["id"]), (201, &json!(1)));
    let listed = json_of(&service.call("GET", "/$emulator/faults", &Value::Null));
    let listed = &listed["value"][0];
    assert_eq!((&listed["device"], &listed["struck"]), (&rule["device"], &json!(0)));

    for (bad, code) in [
        (json!({ "operation": "register", "fault": "stuck" }), "InvalidFault"),
        (json!({ "operation": "nothing", "fault": "stuck" }), "InvalidBody"),
        (json!([]), "InvalidBody"),
    ] {
        let refused = service.call("POST", "/$emulator/faults", &bad);
        assert_eq!((refused.status, &json_of(&refused)["error"]["code"]), (400, &json!(code)));
    }
    assert_eq!(service.call("DELETE", "/$emulator/faults/7", &Value::Null).status, 404);
    assert_eq!(service.call("DELETE", "/$emulator/faults/1", &Value::Null).status, 204);
    assert!(service.world.cloud.faults().is_empty());

    // Not by whoever comes along.
    let stranger = service.world.request(&request("DELETE", "/$emulator/faults", ""));
    assert_eq!(stranger.status, 401);
}

// Expiry in an instant: certificates, tokens and operations grow old, connections do not notice.
#[test]
fn the_clock_is_set_over_https() {
    let mut service = Service::new();
    let identity = service.world.provision("d", &private_key(1));
    let connection = service.world.connect_hub(&identity, true);
    let read = |service: &mut Service, change: Value| {
        let method = if change.is_null() { "GET" } else { "POST" };
        json_of(&service.call(method, "/$emulator/clock", &change))["time"].clone()
    };
    assert_eq!(read(&mut service, Value::Null), "2026-09-21T14:13:20Z");
    assert_eq!(read(&mut service, json!({ "advance": "31days" })), "2026-10-22T14:13:20Z");
    assert!(!service.world.is_closed(connection));
    let refused = service.world.try_hub(&identity, HUB_VERSION, true);
    assert_eq!(service.world.received(refused), [Got::Refused(5)]);

    // The token of the service is as old: back to the beginning, by the library.
    let wall = service.world.wall();
    service.world.cloud.set_time(wall, service.world.now);
    service.world.connect_hub(&identity, true);
    assert_eq!(
        read(&mut service, json!({ "set": "2026-09-21T15:00:00Z" })),
        "2026-09-21T15:00:00Z"
    );
    assert_eq!(service.call("POST", "/$emulator/clock", &json!({ "advance": "soon" })).status, 400);
}

// An operation that is kept for twelve hours is forgotten when the clock is put forward.
#[test]
fn operations_grow_old_with_the_clock() {
    let mut world = World::new(Fixture::default());
    let identity = world.provision("d", &private_key(1));
    let connection = world.connect_hub(&identity, true);
    world.subscribe(connection, "$iothub/credentials/res/#");
    ask_to_renew(&mut world, connection);
    world.received(connection);
    let later = world.wall() + Duration::from_secs(13 * 60 * 60);
    world.cloud.set_time(later, world.now);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.received(connection), []);
}
