//! The renewal engine against a scripted hub: what recorded services answer, and what they might.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use zerotouch_hub::wire::CREDENTIAL_REPLY_PREFIX;
use zerotouch_hub::{Recovery, Renewal, RenewalConfig, RenewalError, RenewalEvent, RequestId};
use zerotouch_time::{Instant, Now, UnixTime};
use zerotouch_wire::{ReplyTopic, ServiceError};

/// 2026-01-31T00:52:20Z: twelve hours before [`ACCEPTED`] expires.
const START: Now = Now { monotonic: Instant::ZERO, wall: Some(UnixTime::from_secs(1_769_820_740)) };

const ACCEPTED: &str =
    r#"{"correlationId":"c","operationExpires":"2026-01-31T12:52:20.565000000Z"}"#;

fn renewal() -> Renewal {
    let id = RequestId::new("req-001").unwrap();
    Renewal::new(RenewalConfig::default(), "dev-1", id, "Q1NS".into()).unwrap()
}

fn reply(renewal: &mut Renewal, topic_tail: &str, body: &str) -> Option<RenewalEvent> {
    let topic = format!("{CREDENTIAL_REPLY_PREFIX}{topic_tail}");
    let reply = ReplyTopic::parse(CREDENTIAL_REPLY_PREFIX, &topic).unwrap();
    renewal.handle_reply(&reply, body.as_bytes(), Instant::ZERO);
    renewal.poll_event()
}

// The happy path, in both shapes of the last body that services have been seen to send.
#[test]
fn accepted_then_issued_in_either_shape() {
    for body in
        [r#"{"correlationId":"d","certificates":["TEVBRg==","SUNB"]}"#, r#"["TEVBRg==","SUNB"]"#]
    {
        let mut renewal = renewal();
        assert!(
            renewal.poll_request().is_none(),
            "nothing leaves before the subscription is granted"
        );
        renewal.start(START);
        let request = renewal.poll_request().unwrap();
        assert_eq!(request.topic, "$iothub/credentials/POST/issueCertificate/?$rid=req-001");
        assert_eq!(request.payload, br#"{"id":"dev-1","csr":"Q1NS"}"#);
        assert!(matches!(reply(&mut renewal, "202/?$rid=req-001&$version=1", ACCEPTED),
            Some(RenewalEvent::Accepted(a)) if a.operation_expires.is_some()));
        assert_eq!(
            reply(&mut renewal, "200/?$rid=req-001", body),
            Some(RenewalEvent::Issued(vec!["TEVBRg==".into(), "SUNB".into()]))
        );
        assert_eq!(renewal.poll_timeout(), None);
        assert_eq!(
            reply(&mut renewal, "200/?$rid=req-001", body),
            None,
            "a second delivery changes nothing"
        );
    }
}

// Scenarios 019 and 020: the answer to a request of the last session; and the same request again.
#[test]
fn a_lost_connection_resubmits_the_same_request() {
    let mut renewal = renewal();
    renewal.start(START);
    let first = renewal.poll_request();
    reply(&mut renewal, "202/?$rid=req-001", ACCEPTED);
    renewal.interrupt();
    assert_eq!(renewal.poll_timeout(), None, "no deadline runs while there is no connection");
    renewal.start(Now { monotonic: Instant::from_micros(9), ..START });
    assert_eq!(renewal.poll_request(), first);
    // Both generations of the conflict code: the service already has this very request.
    for code in [409_004, 409_005] {
        let body = format!(r#"{{"errorCode":{code},"info":{{"requestId":"req-001"}}}}"#);
        assert_eq!(reply(&mut renewal, "409/?$rid=req-001", &body), None);
    }
    assert!(matches!(
        reply(&mut renewal, "200/?$rid=req-001", r#"["TEVBRg=="]"#),
        Some(RenewalEvent::Issued(_))
    ));
}

fn replaces(renewal: &mut Renewal) -> Option<String> {
    let request = renewal.poll_request().expect("asked again");
    let body: serde_json::Value = serde_json::from_slice(&request.payload).unwrap();
    assert!(request.topic.ends_with("$rid=req-001") && body["csr"] == "Q1NS");
    body.get("replace").map(|replace| replace.as_str().unwrap().to_owned())
}

// Scenario 025, and row 36 of the failure table: an operation under another id is for a key that this
// device has no more. It is replaced, by its name where that is known, and once.
#[test]
fn an_operation_of_another_request_is_replaced_once() {
    for (info, named) in [(r#"{"requestId":"other"}"#, "other"), ("null", "*")] {
        let conflict = format!(r#"{{"errorCode":409005,"retryAfter":9,"info":{info}}}"#);
        let mut renewal = renewal();
        renewal.start(START);
        assert_eq!(replaces(&mut renewal), None);
        assert_eq!(reply(&mut renewal, "409/?$rid=req-001", &conflict), None);
        assert_eq!(replaces(&mut renewal).as_deref(), Some(named));
        let failed = reply(&mut renewal, "409/?$rid=req-001", &conflict);
        assert!(
            matches!(failed, Some(RenewalEvent::Failed(RenewalError::Refused { status: 409, retry_after: Some(after), .. })) if after.as_secs() == 9),
            "{failed:?}"
        );
    }
}

// Row 39 of the failure table: a request is made again until the service has forgotten the operation.
#[test]
fn row_39_an_expired_operation_is_not_asked_for_again() {
    let mut renewal = renewal();
    renewal.start(START);
    renewal.poll_request();
    reply(&mut renewal, "202/?$rid=req-001", ACCEPTED);
    // An answer that does not say leaves it at what was said.
    reply(&mut renewal, "202/?$rid=req-001", "{}");
    let at = |secs| Now { wall: Some(UnixTime::from_secs(secs)), ..START };
    renewal.interrupt();
    renewal.start(at(1_769_863_939));
    assert_eq!(replaces(&mut renewal), None, "the same request");
    renewal.interrupt();
    renewal.start(Now { wall: None, ..START });
    assert_eq!(replaces(&mut renewal), None, "without a clock the service decides");
    renewal.interrupt();
    renewal.start(at(1_769_863_940));
    assert_eq!(renewal.poll_request(), None);
    assert!(matches!(
        renewal.poll_event(),
        Some(RenewalEvent::Failed(RenewalError::Expired { .. }))
    ));
}

// Rows 35 to 38 of the failure table, and the first delays of the code table.
#[test]
fn row_35_36_37_38_each_refusal_has_its_recovery() {
    let retry = |secs| Recovery::Retry { floor: Duration::from_secs(secs) };
    for (status, code, retry_after, expected) in [
        (400, 400_001, None, Recovery::ServiceSetup),
        (400, 400_004, None, Recovery::NewRequest),
        (400, 400_037, None, Recovery::NewRequest),
        (400, 400_040, None, Recovery::NewRequest),
        (403, 403_010, None, Recovery::ServiceSetup),
        (404, 404_001, None, Recovery::UnknownDevice),
        (409, 409_004, Some(30), retry(30)),
        (409, 409_005, None, retry(1)),
        (412, 412_001, None, retry(1)),
        (412, 412_005, None, Recovery::ServiceSetup),
        (429, 429_002, None, retry(1)),
        (429, 429_003, Some(90), retry(90)),
        (500, 500_001, Some(1), retry(300)),
        (503, 503_001, None, retry(5)),
        (599, 599_999, None, retry(1)),
    ] {
        let error = ServiceError { error_code: Some(code), ..ServiceError::default() };
        let retry_after = retry_after.map(Duration::from_secs);
        let refused = RenewalError::Refused { status, error: Box::new(error), retry_after };
        assert_eq!(refused.recovery(), expected, "{code}");
    }
}

#[test]
fn foreign_replies_change_nothing_and_silence_ends() {
    let mut renewal = renewal();
    for tail in ["202/?$rid=req-001", "400/?$rid=req-001", "409/?$rid=req-001", "200/?$rid=0"] {
        assert_eq!(reply(&mut renewal, tail, "[\"QQ==\"]"), None, "nothing was asked yet");
        assert_eq!(renewal.poll_request(), None, "{tail}");
    }
    renewal.start(START);
    for tail in ["200/?$rid=req-002", "200/?", "400/?$rid=req-001x"] {
        assert_eq!(reply(&mut renewal, tail, r#"["TEVBRg=="]"#), None);
    }
    let due = renewal.poll_timeout().unwrap();
    assert_eq!(due, Instant::ZERO + Duration::from_secs(120));
    renewal.handle_timeout(Instant::from_micros(due.as_micros() - 1));
    assert_eq!(renewal.poll_event(), None);
    renewal.handle_timeout(due);
    assert!(matches!(
        renewal.poll_event(),
        Some(RenewalEvent::Failed(RenewalError::TimedOut { what: "answer", .. }))
    ));
}

#[test]
fn empty_and_unreadable_chains_are_failures() {
    for body in ["", "{}", "[]", r#"{"certificates":[]}"#, r#"{"certificates":"x"}"#, "[1]"] {
        let mut renewal = renewal();
        renewal.start(START);
        assert!(
            matches!(
                reply(&mut renewal, "200/?$rid=req-001", body),
                Some(RenewalEvent::Failed(RenewalError::Unreadable { .. }))
            ),
            "{body}"
        );
    }
}

// Local checks: what the hub would refuse anyway never leaves.
#[test]
fn the_services_rules_are_kept_before_sending() {
    let id = RequestId::from_bits(7);
    assert!(RequestId::new(id.as_str()).is_ok());
    let error = Renewal::new(RenewalConfig::default(), "d", id, "A".repeat(8193)).unwrap_err();
    assert_eq!(error, RenewalError::TooLarge { length: 8193 });
    for bad in ["", "A", "AAA", "A===", "AA=A", "AA==AAAA", "AA A", "AAA_", "AAA\n"] {
        let error =
            Renewal::new(RenewalConfig::default(), "d", RequestId::from_bits(7), bad.into());
        assert_eq!(error.unwrap_err(), RenewalError::NotBase64, "{bad:?}");
    }
    for bad in ["abc", "-abcd", "abcd-", "ab_cd", "a b c", &"a".repeat(37)] {
        assert!(RequestId::new(bad).is_err(), "{bad}");
    }
}

// The service tells until when it keeps an operation in a conflict, too; after a restart nothing else does.
#[test]
fn a_conflict_with_ourselves_tells_the_expiry() {
    let mut renewal = renewal();
    renewal.start(START);
    let own = r#"{"info":{"requestId":"req-001","operationExpires":"2026-01-31T12:52:20Z"}}"#;
    assert_eq!(reply(&mut renewal, "409/?$rid=req-001", own), None);
    renewal.interrupt();
    renewal.start(Now { wall: Some(UnixTime::from_secs(1_769_863_940)), ..START });
    assert!(matches!(
        renewal.poll_event(),
        Some(RenewalEvent::Failed(RenewalError::Expired { .. }))
    ));
}
