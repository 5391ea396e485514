//! Whatever the hub answers to a renewal, in whatever order: one request at a time, one operation replaced
//! at most, one end.
//!
//! Input: answers, each a status byte, a length byte, and a body; a status that is odd comes on the next
//! connection.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zerotouch_hub::wire::{CREDENTIAL_REPLY_PREFIX, IssueCertificateRequest};
use zerotouch_hub::{Renewal, RenewalConfig, RenewalEvent, RequestId};
use zerotouch_time::{Instant, Now, UnixTime};
use zerotouch_wire::ReplyTopic;

const STATUSES: [u16; 9] = [200, 202, 400, 404, 409, 412, 429, 500, 503];

fuzz_target!(|input: &[u8]| {
    let now = Now { monotonic: Instant::ZERO, wall: Some(UnixTime::from_secs(1_769_820_740)) };
    let rid = RequestId::new("abcd").expect("a legal id");
    let mut renewal =
        Renewal::new(RenewalConfig::default(), "d", rid, "Q1NS".into()).expect("a short request");
    let (mut over, mut replaced) = (false, false);
    let mut rest = input;
    while let [status, length, tail @ ..] = rest {
        let (body, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        if status % 2 == 1 {
            renewal.interrupt();
        }
        renewal.start(now);
        let mut asked = 0;
        let mut look = |renewal: &mut Renewal, asked: &mut u32| {
            while let Some(request) = renewal.poll_request() {
                assert!(!over, "a request after the end");
                *asked += 1;
                let body: IssueCertificateRequest =
                    serde_json::from_slice(&request.payload).expect("what the hub takes");
                assert!(body.replace.is_none_or(|id| id == "*" || RequestId::new(&id).is_ok()));
            }
            while let Some(event) = renewal.poll_event() {
                assert!(!over, "{event:?} after the end");
                match event {
                    RenewalEvent::Accepted(_) => {}
                    RenewalEvent::Issued(chain) => {
                        assert!(!chain.is_empty());
                        over = true;
                    }
                    _ => over = true,
                }
            }
        };
        look(&mut renewal, &mut asked);
        assert!(asked <= 1);
        let status = STATUSES[usize::from(status / 2) % STATUSES.len()];
        let topic = format!("{CREDENTIAL_REPLY_PREFIX}{status}/?$rid=abcd");
        let Some(reply) = ReplyTopic::parse(CREDENTIAL_REPLY_PREFIX, &topic) else { return };
        renewal.handle_reply(&reply, body, now.monotonic);
        let before = asked;
        look(&mut renewal, &mut asked);
        assert!(asked - before <= 1);
        if asked > before && status == 409 {
            assert!(!replaced, "replaced twice");
            replaced = true;
        }
        assert_eq!(over, renewal.poll_timeout().is_none());
    }
});
