//! The renewal engine against a scripted hub: what recorded services answer, and what they might.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use zerotouch_hub::wire::CREDENTIAL_REPLY_PREFIX;
use zerotouch_hub::{Renewal, RenewalConfig, RenewalError, RenewalEvent, RequestId};
use zerotouch_time::Instant;
use zerotouch_wire::ReplyTopic;

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
        renewal.start(Instant::ZERO);
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

// Recorded scenario 012: a request that is accepted and then refused.
#[test]
fn accepted_then_refused() {
    let mut renewal = renewal();
    renewal.start(Instant::ZERO);
    reply(&mut renewal, "202/?$rid=req-001", ACCEPTED);
    let failed = reply(
        &mut renewal,
        "400/?$rid=req-001",
        r#"{"errorCode":400037,"message":"bad","info":{"credentialError":"400000"}}"#,
    );
    assert!(
        matches!(failed, Some(RenewalEvent::Failed(RenewalError::Refused { status: 400, error, .. })) if error.error_code == Some(400_037))
    );
}

// Scenarios 019 and 020: the answer to a request of the last session; and the same request again.
#[test]
fn a_lost_connection_resubmits_the_same_request() {
    let mut renewal = renewal();
    renewal.start(Instant::ZERO);
    let first = renewal.poll_request();
    reply(&mut renewal, "202/?$rid=req-001", ACCEPTED);
    renewal.interrupt();
    assert_eq!(renewal.poll_timeout(), None, "no deadline runs while there is no connection");
    renewal.start(Instant::ZERO + Duration::from_secs(9));
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

#[test]
fn a_conflict_with_another_request_is_a_refusal() {
    let mut renewal = renewal();
    renewal.start(Instant::ZERO);
    let failed = reply(
        &mut renewal,
        "409/?$rid=req-001",
        r#"{"errorCode":409004,"retryAfter":9,"info":{"requestId":"other"}}"#,
    );
    assert!(
        matches!(failed, Some(RenewalEvent::Failed(RenewalError::Refused { status: 409, retry_after: Some(after), .. })) if after.as_secs() == 9)
    );
}

#[test]
fn foreign_replies_change_nothing_and_silence_ends() {
    let mut renewal = renewal();
    assert_eq!(
        reply(&mut renewal, "200/?$rid=req-001", "[\"QQ==\"]"),
        None,
        "nothing was asked yet"
    );
    renewal.start(Instant::ZERO);
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
        renewal.start(Instant::ZERO);
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
    for bad in ["abc", "-abcd", "abcd-", "ab_cd", "a b c", &"a".repeat(37)] {
        assert!(RequestId::new(bad).is_err(), "{bad}");
    }
}
