//! Whatever the hub sends, on whatever topic: it is told by its topic or not at all, and a renewal
//! takes from it what it may.
//!
//! Input: a topic, a newline, a body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zerotouch_hub::{Inbound, Renewal, RenewalConfig, RenewalEvent, RequestId};
use zerotouch_time::Instant;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (topic, body) = input.split_at(end);
    let Ok(topic) = std::str::from_utf8(topic) else { return };
    match Inbound::parse("d", topic) {
        Some(Inbound::Method { name, request_id }) => {
            assert!(!name.is_empty() && !name.contains('/'));
            assert!(topic.contains(request_id));
        }
        Some(Inbound::Command { properties }) => {
            for (name, value) in properties.iter() {
                assert!(!name.is_empty());
                let _ = zerotouch_wire::percent_decode(name);
                let _ = value.map(zerotouch_wire::percent_decode);
            }
        }
        Some(Inbound::CredentialReply(reply)) => {
            assert!((100..1000).contains(&reply.status) || reply.status < 100);
            let rid = RequestId::new("abcd").expect("a legal id");
            let mut renewal =
                Renewal::new(RenewalConfig::default(), "d", rid, "Q1NS".into()).expect("a short request");
            renewal.start(Instant::ZERO);
            renewal.handle_reply(&reply, body.get(1..).unwrap_or_default(), Instant::ZERO);
            match renewal.poll_event() {
                Some(RenewalEvent::Issued(chain)) => assert!(!chain.is_empty() && reply.status == 200),
                Some(_) => assert_eq!(reply.request_id(), Some("abcd")),
                None => {}
            }
        }
        _ => {}
    }
});
