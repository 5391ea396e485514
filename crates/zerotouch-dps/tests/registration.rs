//! The registration engine against a scripted service: every transition of its table, and what a
//! service or a network may do to it. No sockets; time is a number.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use chacha20::ChaCha8Rng;
use chacha20::rand_core::SeedableRng;
use zerotouch_dps::{
    Assignment, Config, ConnectionProfile, Event, IdScope, Registered, Registration,
    RegistrationError, RegistrationId,
};
use zerotouch_time::Instant;

const REFUSED: &str = r#"{"errorCode":401002,"trackingId":"t-1","message":"Invalid certificate."}"#;
const ASSIGNING: &str = r#"{"operationId":"4.d0a671905ea5b2c8.42d7","status":"assigning"}"#;
const ASSIGNED: &str = r#"{"operationId":"4.d0a671905ea5b2c8.42d7","status":"assigned","new":1,"registrationState":{
    "x509":{},"registrationId":"dev-1","assignedHub":"contoso.azure-devices.net","deviceId":"dev-1",
    "status":"assigned","substatus":"initialAssignment","issuedCertificateChain":["TEVBRg==","Uk9PVA=="]}}"#;

/// A registration, its clock, and the request id it is waiting for.
struct Bench {
    registration: Registration,
    now: Instant,
    rng: ChaCha8Rng,
    request_id: String,
}

impl Bench {
    fn new(csr: Option<&str>) -> Self {
        let mut rng = ChaCha8Rng::from_seed([1; 32]);
        let config =
            Config::new(IdScope::new("0ne0").unwrap(), RegistrationId::new("dev-1").unwrap());
        let registration = Registration::new(config, csr.map(str::to_owned), &mut rng);
        let now = Instant::from_micros(77);
        let mut bench = Self { registration, now, rng, request_id: String::new() };
        assert!(
            bench.registration.poll_request().is_none(),
            "nothing leaves before the subscription"
        );
        bench.registration.start(now);
        assert!(
            bench.take_request().0.starts_with("$dps/registrations/PUT/iotdps-register/?$rid=")
        );
        bench
    }

    fn take_request(&mut self) -> (String, String) {
        let request = self.registration.poll_request().expect("a request");
        let properties = request.topic.split("$rid=").nth(1).unwrap();
        self.request_id = properties.split('&').next().unwrap().into();
        (request.topic, String::from_utf8(request.payload).unwrap())
    }

    fn reply_to(&mut self, request_id: &str, status_and_more: (u16, &str), body: &str) {
        let (status, more) = status_and_more;
        let topic = format!("$dps/registrations/res/{status}/?$rid={request_id}{more}");
        self.registration.handle_message(&topic, body.as_bytes(), self.now, &mut self.rng);
    }

    fn reply(&mut self, status_and_more: (u16, &str), body: &str) {
        let request_id = self.request_id.clone();
        self.reply_to(&request_id, status_and_more, body);
    }

    /// Lets time pass to just before the engine's deadline, then onto it; yields how long it was.
    fn wait(&mut self) -> Duration {
        let at = self.registration.poll_timeout().expect("a deadline");
        let waited = at - self.now;
        self.registration.handle_timeout(Instant::from_micros(at.as_micros() - 1));
        assert!(self.registration.poll_request().is_none(), "a request before its time");
        self.now = at;
        self.registration.handle_timeout(at);
        waited
    }

    fn failure(&mut self) -> RegistrationError {
        match self.registration.poll_event() {
            Some(Event::Failed(error)) => {
                assert!(self.registration.poll_event().is_none());
                assert!(
                    self.registration.poll_timeout().is_none(),
                    "a finished engine sleeps for ever"
                );
                error
            }
            other => panic!("{other:?} instead of a failure"),
        }
    }

    fn assigned(&mut self) -> Registered {
        match self.registration.poll_event() {
            Some(Event::Assigned(registered)) => *registered,
            other => panic!("{other:?} instead of an assignment"),
        }
    }
}

// The canonical flow: register, 202, poll not before retry-after, 200.
#[test]
fn registers_polls_and_is_assigned() {
    let mut bench = Bench::new(Some("Q1NS"));
    bench.reply((202, "&retry-after=3"), ASSIGNING);
    assert!(matches!(bench.registration.poll_event(), Some(Event::Assigning { .. })));
    let waited = bench.wait();
    assert!((3.0..=3.3).contains(&waited.as_secs_f64()), "{waited:?}");
    let (topic, body) = bench.take_request();
    assert!(topic.starts_with("$dps/registrations/GET/iotdps-get-operationstatus/?$rid="));
    assert!(topic.ends_with("&operationId=4.d0a671905ea5b2c8.42d7"), "{topic}");
    assert_eq!(body, "");
    bench.reply((200, ""), ASSIGNED);
    let registered = bench.assigned();
    assert_eq!(
        registered.assignment,
        Assignment {
            assigned_hub: "contoso.azure-devices.net".into(),
            device_id: "dev-1".into(),
            connection_profile: ConnectionProfile::Classic,
        }
    );
    assert_eq!(registered.issued_certificate_chain, ["TEVBRg==", "Uk9PVA=="]);
    assert_eq!(registered.substatus.as_deref(), Some("initialAssignment"));
}

// The body as real services take it; `csr` only when there is one.
#[test]
fn register_body_carries_id_payload_and_csr() {
    let mut rng = ChaCha8Rng::from_seed([2; 32]);
    let mut config =
        Config::new(IdScope::new("0ne0").unwrap(), RegistrationId::new("dev-1").unwrap());
    config.payload = Some(serde_json::value::RawValue::from_string(r#"{"a":1}"#.into()).unwrap());
    let mut body = |csr: Option<&str>| {
        let mut registration = Registration::new(config.clone(), csr.map(str::to_owned), &mut rng);
        registration.start(Instant::ZERO);
        String::from_utf8(registration.poll_request().unwrap().payload).unwrap()
    };
    assert_eq!(body(None), r#"{"registrationId":"dev-1","payload":{"a":1}}"#);
    assert_eq!(body(Some("Q1NS")), r#"{"registrationId":"dev-1","payload":{"a":1},"csr":"Q1NS"}"#);
    assert_eq!(
        config.username(),
        "0ne0/registrations/dev-1/api-version=2025-07-01-preview&ClientVersion=zerotouch%2F0.1.0"
    );
}

// Row 19 of the failure table: five polls in ten seconds is the service's limit, and `retry-after` may be absent or tiny.
#[test]
fn row_19_polls_keep_within_the_services_budget() {
    for hint in ["", "&retry-after=0", "&retry-after=1", "&retry-after=-5", "&retry-after=x"] {
        let mut bench = Bench::new(None);
        for _ in 0..5 {
            bench.reply((202, hint), ASSIGNING);
            assert!(bench.wait() >= Duration::from_secs(2), "{hint}");
            bench.take_request();
        }
    }
}

// sequences.csv: response_other_rid, response_duplicate, response_reordered.
#[test]
fn foreign_late_and_repeated_replies_change_nothing() {
    let mut bench = Bench::new(None);
    let before = bench.registration.poll_timeout();
    bench.reply_to("99", (200, ""), ASSIGNED);
    bench.registration.handle_message(
        "$iothub/twin/res/200/?$rid=1",
        b"{}",
        bench.now,
        &mut bench.rng,
    );
    assert_eq!(bench.registration.poll_timeout(), before);
    assert!(bench.registration.poll_event().is_none());

    let first = bench.request_id.clone();
    bench.reply((202, "&retry-after=3"), ASSIGNING);
    let pause = bench.registration.poll_timeout();
    bench.registration.poll_event();
    bench.reply_to(&first, (202, "&retry-after=3"), ASSIGNING);
    bench.reply_to(&first, (200, ""), ASSIGNED);
    assert_eq!(bench.registration.poll_timeout(), pause);
    assert!(bench.registration.poll_event().is_none());

    bench.wait();
    bench.take_request();
    bench.reply((200, ""), ASSIGNED);
    bench.assigned();
    bench.reply((200, ""), ASSIGNED);
    bench.reply_to(&first, (202, ""), ASSIGNING);
    assert!(bench.registration.poll_event().is_none());
    assert!(bench.registration.poll_timeout().is_none());
}

// sequences.csv: response_error_then_ok. The delay is a floor; a ladder with jitter stands above it.
#[test]
fn throttling_is_obeyed_and_the_request_repeated() {
    let mut bench = Bench::new(None);
    bench.reply((429, "&retry-after=17"), "{}");
    assert!(matches!(bench.registration.poll_event(), Some(Event::Throttled { status: 429, .. })));
    assert!(bench.wait() >= Duration::from_secs(17));
    assert!(bench.take_request().0.contains("iotdps-register"));
    bench.reply((202, ""), ASSIGNING);
    bench.registration.poll_event();
    bench.wait();
    bench.take_request();
    bench.reply((503, ""), r#"{"errorCode":503001,"retryAfter":40}"#);
    bench.registration.poll_event();
    assert!(bench.wait() >= Duration::from_secs(40));
    assert!(bench.take_request().0.contains("operationId=4.d0a6"), "it resumes where it was");
    bench.reply((200, ""), ASSIGNED);
    bench.assigned();
}

// Row 15: the code is the service's, for whoever decides between credentials.
#[test]
fn row_15_refusals_carry_what_the_service_said() {
    let mut bench = Bench::new(None);
    bench.reply((401, ""), REFUSED);
    let error = bench.failure();
    assert_eq!(error.retry_after(), None);
    assert!(
        matches!(&error, RegistrationError::Refused { status: 401, error, .. } if error.error_code == Some(401_002))
    );
    assert!(error.to_string().contains("401002 Invalid certificate. (tracking id t-1)"), "{error}");
}

// Recorded: `failed` and `disabled` come on status 200.
#[test]
fn row_14_failed_and_disabled_on_status_200_are_failures() {
    let mut bench = Bench::new(None);
    bench.reply((200, "&retry-after=9"), r#"{"operationId":"","status":"failed","registrationState":{"errorCode":400207,"errorMessage":"Custom allocation failed"}}"#);
    let failed = bench.failure();
    assert!(
        matches!(&failed, RegistrationError::Failed { error } if error.error_code == Some(400_207))
    );
    assert_eq!(failed.retry_after(), Some(Duration::from_secs(9)), "row 14: a floor");
    let mut bench = Bench::new(None);
    bench.reply(
        (200, ""),
        r#"{"operationId":"","status":"disabled","registrationState":{"status":"disabled"}}"#,
    );
    assert_eq!(bench.failure(), RegistrationError::Disabled);
}

// Rows 16 and 20 of the failure table: never adopt half an assignment, nor one that would not fit into a
// topic; never go on without the certificate asked for (X12).
#[test]
fn row_16_20_half_an_assignment_is_none() {
    let assigned = |state: &str| format!(r#"{{"status":"assigned","registrationState":{state}}}"#);
    for (state, missing) in [
        (r#"{"deviceId":"d"}"#.to_owned(), "hub"),
        (r#"{"assignedHub":"","deviceId":"d"}"#.to_owned(), "hub"),
        (r#"{"assignedHub":"h"}"#.to_owned(), "device id"),
        (format!(r#"{{"assignedHub":"h","deviceId":"{}"}}"#, "d".repeat(129)), "device id"),
        (format!(r#"{{"assignedHub":"{}","deviceId":"d"}}"#, "h".repeat(254)), "hub"),
        (r#"{"assignedHub":"h/x","deviceId":"d"}"#.to_owned(), "hub"),
        (r#"{"assignedHub":"h\r\nx","deviceId":"d"}"#.to_owned(), "hub"),
        (r#"{"assignedHub":"h","deviceId":"d/#"}"#.to_owned(), "device id"),
        (r#"{"assignedHub":"h","deviceId":"+"}"#.to_owned(), "device id"),
    ] {
        let mut bench = Bench::new(None);
        bench.reply((200, ""), &assigned(&state));
        assert_eq!(bench.failure(), RegistrationError::Incomplete { missing }, "{state}");
    }
    for chain in ["", r#","issuedCertificateChain":null"#, r#","issuedCertificateChain":[]"#] {
        let mut bench = Bench::new(Some("Q1NS"));
        bench.reply(
            (200, ""),
            &assigned(&format!(r#"{{"assignedHub":"h","deviceId":"d"{chain}}}"#)),
        );
        assert_eq!(bench.failure(), RegistrationError::ChainMissing, "{chain}");
    }
}

// Row 17: what came is told, as far as it helps.
#[test]
fn row_17_unreadable_bodies_are_reported_with_an_excerpt() {
    for body in [
        "",
        " ",
        "<html>proxy</html>",
        "[]",
        r#"{"status":7}"#,
        r#"{"status":"assigning"}"#,
        r#"{"operationId":"a b","status":"assigning"}"#,
        r#"{"status":"thinking"}"#,
    ] {
        let mut bench = Bench::new(None);
        bench.reply((202, ""), body);
        assert!(
            matches!(bench.failure(), RegistrationError::Unreadable { status: 202, .. }),
            "{body}"
        );
    }
}

// A service that never answers, and one that never finishes.
#[test]
fn silence_and_endless_assigning_end() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.wait(), Duration::from_secs(30));
    assert!(matches!(bench.failure(), RegistrationError::TimedOut { what: "answer", .. }));

    let mut bench = Bench::new(None);
    let started = bench.now;
    loop {
        bench.reply((202, "&retry-after=60"), ASSIGNING);
        bench.registration.poll_event();
        bench.wait();
        if bench.now - started >= Duration::from_secs(600) {
            break;
        }
        bench.take_request();
    }
    assert!(matches!(bench.failure(), RegistrationError::TimedOut { what: "assignment", .. }));
}

// A hostile delay must not outlive the registration's own deadline.
#[test]
fn an_enormous_retry_after_ends_at_the_deadline() {
    let mut bench = Bench::new(None);
    bench.reply((202, "&retry-after=99999999999999"), ASSIGNING);
    bench.registration.poll_event();
    assert!(bench.wait() <= Duration::from_secs(600));
    assert!(matches!(bench.failure(), RegistrationError::TimedOut { what: "assignment", .. }));
}

// Row 22: whether a profile is supported is for others to judge, who need to see it.
#[test]
fn row_22_profiles_are_kept_raw() {
    for (written, expected) in [
        (r#""classic""#, ConnectionProfile::Classic),
        ("null", ConnectionProfile::Classic),
        (r#""mqttV5""#, ConnectionProfile::MqttV5),
        (r#""carrierPigeon""#, ConnectionProfile::Other("carrierPigeon".into())),
    ] {
        let mut bench = Bench::new(None);
        bench.reply((200, ""), &format!(r#"{{"status":"assigned","registrationState":{{"assignedHub":"h","deviceId":"d","connectionProfile":{written}}}}}"#));
        assert_eq!(bench.assigned().assignment.connection_profile, expected);
    }
}

// The webhook's answer comes as it was written, numbers and order included.
#[test]
fn the_webhooks_payload_comes_back_raw() {
    for (member, expected) in [
        (r#","payload":{"b":1.50,"a":[]}"#, Some(r#"{"b":1.50,"a":[]}"#)),
        (r#","payload":"text""#, Some("\"text\"")),
        (r#","payload":null"#, None),
        ("", None),
    ] {
        let mut bench = Bench::new(None);
        bench.reply((200, ""), &format!(r#"{{"status":"assigned","registrationState":{{"assignedHub":"h","deviceId":"d"{member}}}}}"#));
        let payload = bench.assigned().payload;
        assert_eq!(payload.as_deref().map(serde_json::value::RawValue::get), expected);
    }
}

// The version is a word in the user name: what is sent and how an answer is read are the same in all.
#[test]
fn nothing_is_derived_from_the_api_version() {
    let answer = ASSIGNED.replace("\"x509\"", "\"connectionProfile\":\"mqttV5\",\"x509\"");
    let mut bodies = Vec::new();
    for version in
        ["2019-03-31", "2021-06-01", "2025-07-01-preview", "2026-11-01", "2026-11-02-preview", "?"]
    {
        let mut rng = ChaCha8Rng::from_seed([1; 32]);
        let mut config =
            Config::new(IdScope::new("0ne0").unwrap(), RegistrationId::new("dev-1").unwrap());
        config.api_version = version.into();
        assert!(config.username().starts_with(&format!(
            "0ne0/registrations/dev-1/api-version={version}&ClientVersion="
        )));
        let mut registration = Registration::new(config, Some("Q1NS".into()), &mut rng);
        registration.start(Instant::ZERO);
        let request = registration.poll_request().unwrap();
        let rid = request.topic.rsplit('=').next().unwrap();
        let topic = format!("$dps/registrations/res/200/?$rid={rid}");
        registration.handle_message(&topic, answer.as_bytes(), Instant::ZERO, &mut rng);
        let Some(Event::Assigned(registered)) = registration.poll_event() else { panic!() };
        assert_eq!(registered.issued_certificate_chain.len(), 2);
        assert_eq!(registered.assignment.connection_profile, ConnectionProfile::MqttV5);
        bodies.push(request);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
}

// Row 24, and cancellation, which is to drop: whatever the service still says to that registration is foreign to the next.
#[test]
fn row_24_a_dropped_registration_leaves_nothing_behind() {
    for polls in 0..3 {
        let mut bench = Bench::new(None);
        for _ in 0..polls {
            bench.reply((202, ""), ASSIGNING);
            bench.registration.poll_event();
            bench.wait();
            bench.take_request();
        }
        let late = bench.request_id.clone();
        let config =
            Config::new(IdScope::new("0ne0").unwrap(), RegistrationId::new("dev-1").unwrap());
        bench.registration = Registration::new(config, None, &mut bench.rng);
        bench.reply_to(&late, (200, ""), ASSIGNED);
        bench.registration.start(bench.now);
        bench.take_request();
        bench.reply_to(&late, (200, ""), ASSIGNED);
        bench.reply_to(&late, (401, ""), REFUSED);
        assert!(bench.registration.poll_event().is_none(), "after {polls} polls");
        bench.reply((200, ""), ASSIGNED);
        bench.assigned();
    }
}

// The service hangs up on larger messages, which would look like a network that fails for ever.
#[test]
fn what_the_service_would_not_take_is_not_sent() {
    for (length, fits) in [(96 * 1024, true), (96 * 1024 + 1, false)] {
        let mut rng = ChaCha8Rng::from_seed([2; 32]);
        let mut config =
            Config::new(IdScope::new("0ne0").unwrap(), RegistrationId::new("dev-1").unwrap());
        let around = r#"{"registrationId":"dev-1","payload":""}"#.len();
        let payload = format!("\"{}\"", "x".repeat(length - around));
        config.payload = Some(serde_json::value::RawValue::from_string(payload).unwrap());
        let mut registration = Registration::new(config, None, &mut rng);
        registration.start(Instant::ZERO);
        assert_eq!(registration.poll_request().is_some(), fits, "{length}");
        assert_eq!(
            matches!(registration.poll_event(),
                Some(Event::Failed(RegistrationError::TooLarge { length: told })) if told == length),
            !fits
        );
    }
}

/// The pauses of many devices in the same situation, in seconds: the least and the most.
fn spread(more: &str, status: u16, before: usize, after_progress: bool) -> (f64, f64) {
    let pauses = (0..200_u8).map(|seed| {
        let mut bench = Bench::new(None);
        bench.rng = ChaCha8Rng::from_seed([seed; 32]);
        for _ in 0..before {
            bench.reply((429, ""), "{}");
            bench.wait();
            bench.take_request();
        }
        if after_progress {
            bench.reply((202, ""), ASSIGNING);
            bench.wait();
            bench.take_request();
        }
        bench.reply((status, more), ASSIGNING);
        bench.wait().as_secs_f64()
    });
    pauses.fold((f64::MAX, 0.0), |(least, most), pause| (pause.min(least), pause.max(most)))
}

// A fleet must not come back as one: every pause has jitter above its floor, and throttled devices step
// back further each time, up to a cap, until the service works again.
#[test]
fn pauses_are_spread_above_their_floor() {
    for (more, status, before, after_progress, from, to) in [
        ("&retry-after=30", 202, 0, false, 30.0, 33.0),
        ("", 202, 0, false, 2.0, 2.2),
        ("", 429, 0, false, 2.0, 4.0),
        ("", 429, 2, false, 2.0, 10.0),
        ("", 503, 6, false, 2.0, 62.0),
        ("&retry-after=100", 429, 2, false, 100.0, 108.0),
        ("", 429, 3, true, 2.0, 4.0),
    ] {
        let (least, most) = spread(more, status, before, after_progress);
        let margin = (to - from) / 10.0;
        assert!((from..from + margin).contains(&least), "{least} for {from} {more} {before}");
        assert!((to - margin..=to).contains(&most), "{most} for {to} {more} {before}");
    }
}

// Some answers have an empty operation id; the one that is known stays the one that is asked for.
#[test]
fn an_empty_operation_id_changes_nothing() {
    let mut bench = Bench::new(None);
    bench.reply((202, ""), ASSIGNING);
    bench.wait();
    bench.take_request();
    bench.reply((202, ""), r#"{"operationId":"","status":"assigning"}"#);
    bench.wait();
    assert!(bench.take_request().0.ends_with("&operationId=4.d0a671905ea5b2c8.42d7"));
}

// A request that nobody took before its time was over is not sent afterwards.
#[test]
fn nothing_leaves_after_the_end() {
    let mut rng = ChaCha8Rng::from_seed([2; 32]);
    let config = Config::new(IdScope::new("0ne0").unwrap(), RegistrationId::new("dev-1").unwrap());
    let mut registration = Registration::new(config, None, &mut rng);
    registration.start(Instant::ZERO);
    registration.handle_timeout(registration.poll_timeout().unwrap());
    assert!(matches!(registration.poll_event(), Some(Event::Failed(_))));
    assert!(registration.poll_request().is_none());
}
