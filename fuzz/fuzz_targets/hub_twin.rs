//! Whatever the hub says of a twin, in whatever order: no change is told twice or backwards, and the twin
//! that is called current is one that was read.
//!
//! Input: deeds, each a byte that says which, a length byte, and a body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zerotouch_hub::wire::{TWIN_GET_PREFIX, TWIN_REPLY_PREFIX};
use zerotouch_hub::{Twin, TwinConfig, TwinEvent};
use zerotouch_time::Instant;
use zerotouch_wire::ReplyTopic;

const STATUSES: [u16; 4] = [200, 404, 429, 500];

fuzz_target!(|input: &[u8]| {
    let mut twin = Twin::new(TwinConfig::default(), 7);
    let mut now = Instant::ZERO;
    // What the last read was, and what the last report.
    let (mut read, mut report) = (String::new(), String::new());
    let mut told = 0;
    let mut rest = input;
    while let [deed, length, tail @ ..] = rest {
        let (body, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let mut reply = |rid: &str, status: u16| {
            let topic = format!("{TWIN_REPLY_PREFIX}{status}/?$rid={rid}&retry-after={length}");
            if let Some(reply) = ReplyTopic::parse(TWIN_REPLY_PREFIX, &topic) {
                twin.handle_reply(&reply, body, now);
            }
        };
        match deed % 8 {
            0 => twin.start(now),
            1 => twin.interrupt(),
            2 => reply(&read, 200),
            3 => reply(&read, STATUSES[usize::from(deed / 8) % STATUSES.len()]),
            4 => reply(&report, if deed / 8 % 2 == 0 { 204 } else { 400 }),
            5 => twin.handle_desired(None, body, now),
            6 => twin.handle_desired(Some(u64::from(deed / 8)), body, now),
            _ => {
                if let Ok(patch) = serde_json::from_slice(body) {
                    let _ = twin.report(&patch, now);
                } else {
                    now = twin.poll_timeout().unwrap_or(now);
                    twin.handle_timeout(now);
                }
            }
        }
        while let Some(request) = twin.poll_request() {
            let rid = request.topic.rsplit('=').next().unwrap_or_default().to_owned();
            if request.topic.starts_with(TWIN_GET_PREFIX) { read = rid } else { report = rid }
        }
        while let Some(event) = twin.poll_event() {
            match event {
                TwinEvent::Read { desired, .. } => told = desired.version,
                TwinEvent::Desired { version, .. } => {
                    assert_eq!(version, told + 1, "a change out of turn");
                    told = version;
                }
                _ => {}
            }
        }
        if twin.is_current() {
            assert_eq!(twin.desired().map(|desired| desired.version), Some(told));
        }
        assert!(twin.poll_timeout().is_none_or(|due| due >= now), "a deadline that was missed");
    }
});
