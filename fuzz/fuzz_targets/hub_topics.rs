//! Whatever the hub sends, on whatever topic: it is told by its topic or not at all, and each engine takes
//! from it what it may.
//!
//! Input: a topic, a newline, a body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zerotouch_hub::wire::METHOD_REPLY_PREFIX;
use zerotouch_hub::{
    CloudMessage, Inbound, MethodEvent, Methods, Renewal, RenewalConfig, RenewalEvent, RequestId, Twin,
    TwinConfig, TwinEvent,
};
use zerotouch_time::{Instant, Now};

const NOW: Now = Now { monotonic: Instant::ZERO, wall: None };

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (topic, body) = input.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let Ok(topic) = std::str::from_utf8(topic) else { return };
    match Inbound::parse("d", topic) {
        Some(Inbound::Method { name, request_id }) => {
            assert!(!name.is_empty() && !name.contains('/'));
            call(name, request_id, body);
        }
        Some(Inbound::Command { properties }) => {
            let message = CloudMessage::new(properties, body);
            assert_eq!(message.properties.len(), properties.iter().count());
            for (name, _) in &message.properties {
                let _ = message.property(name);
            }
        }
        Some(Inbound::TwinReply(reply)) => {
            let mut twin = twin();
            twin.handle_reply(&reply, body, NOW.monotonic);
            match twin.poll_event() {
                Some(TwinEvent::Read { desired, .. }) => {
                    assert!(reply.status == 200 && reply.request_id() == Some("00000007-1"));
                    assert!(desired.values.keys().all(|name| !name.starts_with('$')));
                }
                Some(_) => assert!(!twin.is_current()),
                None => assert!(twin.desired().is_none()),
            }
        }
        Some(Inbound::DesiredProperties { version }) => {
            let mut twin = twin();
            twin.handle_desired(version, body, NOW.monotonic);
            assert!(twin.desired().is_none(), "a patch of nothing");
        }
        Some(Inbound::CredentialReply(reply)) => {
            let rid = RequestId::new("abcd").expect("a legal id");
            let mut renewal =
                Renewal::new(RenewalConfig::default(), "d", rid, "Q1NS".into()).expect("a short request");
            renewal.start(NOW);
            renewal.handle_reply(&reply, body, NOW.monotonic);
            match renewal.poll_event() {
                Some(RenewalEvent::Issued(chain)) => assert!(!chain.is_empty() && reply.status == 200),
                Some(_) => assert_eq!(reply.request_id(), Some("abcd")),
                None => {}
            }
        }
        _ => {}
    }
});

fn twin() -> Twin {
    let mut twin = Twin::new(TwinConfig::default(), 7);
    twin.start(NOW.monotonic);
    twin
}

/// A call is answered under its own id, and once.
fn call(name: &str, request_id: &str, body: &[u8]) {
    let mut methods = Methods::default();
    methods.handle_call(name, request_id, body);
    let Some(MethodEvent::Called { call, method, payload }) = methods.poll_event() else {
        panic!("a call was lost")
    };
    assert_eq!((method.as_str(), payload.as_slice()), (name, body));
    if methods.respond(call, 200, body).is_err() {
        methods.respond(call, 200, b"").expect("nothing is always an answer");
    }
    let answer = methods.poll_request().expect("the answer");
    assert_eq!(answer.topic, format!("{METHOD_REPLY_PREFIX}200/?$rid={request_id}"));
    assert!(methods.respond(call, 200, b"").is_err(), "answered twice");
}
