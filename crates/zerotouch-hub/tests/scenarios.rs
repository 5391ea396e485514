//! The renewal scenarios that the vendor's C# SDK recorded against the service on 2026-01-30, by their
//! numbers (the thirteenth is not described): what this client does in each, or why it cannot get there.
//! The emulator's tests have the service's side of all of them, and this client against it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use serde_json::{Value, json};
use zerotouch_hub::wire::{CREDENTIAL_REPLY_PREFIX, IssueCertificateRequest};
use zerotouch_hub::{
    Recovery, Renewal, RenewalConfig, RenewalError, RenewalEvent, Request, RequestId,
};
use zerotouch_time::{Instant, Now};
use zerotouch_wire::{PropertyBag, ReplyTopic};

const NOW: Now = Now { monotonic: Instant::ZERO, wall: None };
const ISSUED: &str = r#"{"correlationId":"d","certificates":["TEVBRg==","SUNB","Uk9PVA=="]}"#;

fn renewal(csr: &str) -> Result<Renewal, RenewalError> {
    let id = RequestId::new("req-001").unwrap();
    Renewal::new(RenewalConfig::default(), "dev-1", id, csr.into())
}

/// One that has asked.
fn asked() -> Renewal {
    let mut renewal = renewal("Q1NS").unwrap();
    renewal.start(NOW);
    renewal.poll_request().unwrap();
    renewal
}

fn reply(renewal: &mut Renewal, status: u16, body: &Value) -> Option<RenewalEvent> {
    let body = body.to_string();
    deliver(renewal, &format!("{status}/?$rid=req-001"), &body)
}

fn deliver(renewal: &mut Renewal, tail: &str, body: &str) -> Option<RenewalEvent> {
    let topic = format!("{CREDENTIAL_REPLY_PREFIX}{tail}");
    let reply = ReplyTopic::parse(CREDENTIAL_REPLY_PREFIX, &topic).unwrap();
    renewal.handle_reply(&reply, body.as_bytes(), Instant::ZERO);
    renewal.poll_event()
}

fn accepted(renewal: &mut Renewal) {
    let body = json!({"correlationId": "c", "operationExpires": "2026-01-31T12:52:20.565Z"});
    let event = reply(renewal, 202, &body);
    assert!(matches!(event, Some(RenewalEvent::Accepted(_))), "{event:?}");
}

fn issued(renewal: &mut Renewal) {
    let event = deliver(renewal, "200/?$rid=req-001", ISSUED);
    assert!(matches!(event, Some(RenewalEvent::Issued(chain)) if chain.len() == 3));
}

fn conflict(with: &str) -> Value {
    json!({"errorCode": 409_004, "info": {"requestId": with}})
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.payload).unwrap()
}

/// Every request this client can be brought to send.
fn all_requests() -> Vec<Request> {
    let mut renewal = renewal("Q1NS").unwrap();
    renewal.start(NOW);
    let first = renewal.poll_request().unwrap();
    reply(&mut renewal, 409, &conflict("other"));
    let replacing = renewal.poll_request().unwrap();
    reply(&mut renewal, 412, &json!({"errorCode": 412_001}));
    let without = renewal.poll_request().unwrap();
    renewal.interrupt();
    renewal.start(NOW);
    vec![first, replacing, without, renewal.poll_request().unwrap()]
}

// The hub refuses an empty body, half a document, an array, and members it does not know.
#[test]
fn s001_s002_s003_s009_the_body_is_one_object_of_known_members() {
    for request in all_requests() {
        let members = body(&request);
        assert!(members.as_object().unwrap().len() <= 3);
        serde_json::from_value::<IssueCertificateRequest>(members).expect("only known members");
    }
}

// What the hub would refuse for its form is refused before anything is sent.
#[test]
fn s004_s005_s006_a_request_is_checked_before_it_is_sent() {
    assert_eq!(renewal("").unwrap_err(), RenewalError::NotBase64);
    assert_eq!(renewal("????").unwrap_err(), RenewalError::NotBase64);
    let length = 10 * 1024;
    assert_eq!(renewal(&"A".repeat(length)).unwrap_err(), RenewalError::TooLarge { length });
    assert!(renewal(&"A".repeat(8192)).is_ok());
    // Should the hub think otherwise, the request is spent.
    let refused = reply(&mut asked(), 400, &json!({"errorCode": 400_004}));
    let Some(RenewalEvent::Failed(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.recovery(), Recovery::NewRequest);
}

#[test]
fn s007_s008_the_id_is_that_of_the_session() {
    for request in all_requests() {
        assert_eq!(body(&request)["id"], "dev-1");
    }
}

// The name of what is in the way comes from the hub; one that the hub would refuse is not sent back.
#[test]
fn s010_replace_has_the_form_the_hub_wants() {
    for (named, sent) in [("rid-9", "rid-9"), ("123", "*"), ("-abcd", "*"), ("a\"b#c", "*")] {
        let mut renewal = asked();
        assert_eq!(reply(&mut renewal, 409, &conflict(named)), None);
        assert_eq!(body(&renewal.poll_request().unwrap())["replace"], sent, "{named}");
    }
}

#[test]
fn s011_an_operation_that_has_gone_is_not_replaced() {
    let mut renewal = asked();
    reply(&mut renewal, 409, &conflict("other"));
    renewal.poll_request().unwrap();
    let gone = json!({"errorCode": 412_001, "info": {"requestId": "other"}});
    assert_eq!(reply(&mut renewal, 412, &gone), None);
    assert_eq!(body(&renewal.poll_request().unwrap()).get("replace"), None);
    let again = reply(&mut renewal, 412, &gone);
    assert!(matches!(again, Some(RenewalEvent::Failed(RenewalError::Refused { status: 412, .. }))));
}

// Both generations of the code, told by the status.
#[test]
fn s012_accepted_is_not_yet_issued() {
    for code in [400_037, 400_040] {
        let mut renewal = asked();
        accepted(&mut renewal);
        let bad = json!({"errorCode": code, "info": {"credentialError": "400000"}});
        let failed = reply(&mut renewal, 400, &bad);
        let Some(RenewalEvent::Failed(error)) = failed else { panic!("{failed:?}") };
        assert_eq!(error.recovery(), Recovery::NewRequest);
    }
}

#[test]
fn s014_every_request_names_itself() {
    for request in all_requests() {
        let bag = PropertyBag::new(request.topic.split_once("/?").unwrap().1);
        assert_eq!(bag.get("$rid"), Some("req-001"));
    }
}

#[test]
fn s015_accepted_then_issued() {
    let mut renewal = asked();
    accepted(&mut renewal);
    issued(&mut renewal);
    assert_eq!((renewal.poll_request(), renewal.poll_timeout()), (None, None));
}

// Nothing leaves before the subscription is granted: no answer would come.
#[test]
fn s016_s026_nothing_leaves_before_the_subscription() {
    let mut renewal = renewal("Q1NS").unwrap();
    renewal.handle_timeout(Instant::from_micros(u64::MAX));
    assert_eq!((renewal.poll_request(), renewal.poll_timeout()), (None, None));
    renewal.start(NOW);
    renewal.interrupt();
    assert_eq!(renewal.poll_request(), None, "asked for a connection that has ended");
}

// Unsubscribed, then subscribed again: the hub has kept the answer.
#[test]
fn s017_s018_the_answer_waits_for_the_next_subscription() {
    let mut renewal = asked();
    accepted(&mut renewal);
    renewal.interrupt();
    renewal.handle_timeout(Instant::ZERO + Duration::from_secs(86_400));
    assert_eq!(renewal.poll_event(), None, "gave up while nothing could come");
    renewal.start(NOW);
    issued(&mut renewal);
}

// The session outlived its connection: the answer comes before anybody has asked again, and to a client
// that was restarted meanwhile and knows nothing but the request and its id.
#[test]
fn s019_the_answer_comes_with_the_session() {
    let mut interrupted = asked();
    accepted(&mut interrupted);
    interrupted.interrupt();
    for mut renewal in [interrupted, renewal("Q1NS").unwrap()] {
        issued(&mut renewal);
        renewal.start(NOW);
        assert_eq!(renewal.poll_request(), None, "asked for what is there");
    }
}

// A new session: the same request goes out again, and whichever answer comes is taken.
#[test]
fn s020_a_new_session_is_asked_the_same() {
    let mut first = renewal("Q1NS").unwrap();
    first.start(NOW);
    let request = first.poll_request();
    accepted(&mut first);
    first.interrupt();
    first.start(NOW);
    assert_eq!(first.poll_request(), request);
    assert_eq!(reply(&mut first, 409, &conflict("req-001")), None, "our own is no conflict");
    issued(&mut first);
}

// A new session that is not subscribed hears nothing; so nothing runs until it is.
#[test]
fn s021_without_a_subscription_nothing_runs() {
    let mut renewal = asked();
    accepted(&mut renewal);
    renewal.interrupt();
    assert_eq!(renewal.poll_timeout(), None);
    renewal.handle_timeout(Instant::from_micros(u64::MAX));
    assert_eq!((renewal.poll_event(), renewal.poll_request()), (None, None));
}

// One after the other, each answer to its own: the second is not ended by the first's.
#[test]
fn s022_one_after_the_other() {
    let mut first = asked();
    accepted(&mut first);
    issued(&mut first);
    let id = RequestId::new("req-002").unwrap();
    let mut second = Renewal::new(RenewalConfig::default(), "dev-1", id, "Q1NS".into()).unwrap();
    second.start(NOW);
    assert_eq!(deliver(&mut second, "200/?$rid=req-001", ISSUED), None);
    assert!(deliver(&mut second, "202/?$rid=req-002", "{}").is_some());
    assert!(deliver(&mut second, "200/?$rid=req-002", ISSUED).is_some());
}

// The other request is for a key that this device does not keep, as only one is pending: it is replaced.
#[test]
fn s023_s024_s025_the_operation_in_the_way_is_replaced_once() {
    let mut renewal = asked();
    assert_eq!(reply(&mut renewal, 409, &conflict("req-000")), None);
    assert_eq!(body(&renewal.poll_request().unwrap())["replace"], "req-000");
    accepted(&mut renewal);
    // From here on the operation is our own, which a lost connection must not have us cancel.
    renewal.interrupt();
    renewal.start(NOW);
    assert_eq!(body(&renewal.poll_request().unwrap()).get("replace"), None);
    let failed = reply(&mut renewal, 409, &conflict("req-000"));
    let Some(RenewalEvent::Failed(error)) = failed else { panic!("{failed:?}") };
    assert!(matches!(error.recovery(), Recovery::Retry { .. }), "replaced twice: {error}");
}
