//! The twin against a scripted hub, and against one that does what it likes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use zerotouch_hub::wire::TWIN_REPLY_PREFIX;
use zerotouch_hub::{Inbound, ReportError, Twin, TwinConfig, TwinError, TwinEvent};
use zerotouch_time::Instant;
use zerotouch_wire::ReplyTopic;

const NOW: Instant = Instant::ZERO;

fn twin() -> Twin {
    Twin::new(TwinConfig::default(), 7)
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

/// The id of the one request that is waiting to be published, which must be to `prefix`.
fn asked(twin: &mut Twin, prefix: &str) -> String {
    let request = twin.poll_request().unwrap();
    assert_eq!(twin.poll_request(), None);
    request.topic.strip_prefix(&format!("{prefix}?$rid=")).unwrap().to_owned()
}

fn reply(twin: &mut Twin, status: u16, bag: &str, body: &Value, now: Instant) {
    let topic = format!("{TWIN_REPLY_PREFIX}{status}/?{bag}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    twin.handle_reply(&ReplyTopic::parse(TWIN_REPLY_PREFIX, &topic).unwrap(), body.as_bytes(), now);
}

fn desired(twin: &mut Twin, patch: &Value) {
    let topic = format!("$iothub/twin/PATCH/properties/desired/?$version={}", patch["$version"]);
    let Some(Inbound::DesiredProperties { version }) = Inbound::parse("d", &topic) else {
        panic!("{topic}")
    };
    twin.handle_desired(version, patch.to_string().as_bytes(), NOW);
}

fn events(twin: &mut Twin) -> Vec<TwinEvent> {
    std::iter::from_fn(|| twin.poll_event()).collect()
}

const GET: &str = "$iothub/twin/GET/";
const REPORT: &str = "$iothub/twin/PATCH/properties/reported/";

// The order that loses nothing: subscribed, asked, patches kept, answered, merged.
#[test]
fn patches_during_the_read_are_kept_and_merged_once() {
    let mut twin = twin();
    assert_eq!(twin.poll_request(), None, "asked before anybody listened");
    twin.start(NOW);
    let id = asked(&mut twin, GET);
    desired(&mut twin, &json!({"a": 4, "$version": 4}));
    desired(&mut twin, &json!({"b": 5, "$version": 5}));
    assert_eq!(events(&mut twin), [], "merged before it is known into what");
    let body = json!({
        "desired": {"a": 4, "c": {"d": 1}, "$version": 4, "$metadata": {"$lastUpdated": "x"}},
        "reported": {"r": 1, "$version": 2},
    });
    reply(&mut twin, 200, &format!("$rid={id}"), &body, NOW);
    assert!(twin.is_current());
    let seen = events(&mut twin);
    assert!(matches!(&seen[0], TwinEvent::Read { desired, reported, desired_changed: true }
        if (desired.version, reported.version) == (4, 2) && reported.values == map(json!({"r": 1}))));
    assert_eq!(seen[1..], [TwinEvent::Desired { patch: map(json!({"b": 5})), version: 5 }]);
    desired(&mut twin, &json!({"c": null, "$version": 6}));
    assert_eq!(twin.desired().unwrap().values, map(json!({"a": 4, "b": 5})));
    assert_eq!(events(&mut twin).len(), 1);
    desired(&mut twin, &json!({"c": 9, "$version": 6}));
    assert_eq!(events(&mut twin), [], "the same change twice");
}

// Patches come at QoS 0: a lost one shows by the next one's number, and the twin is read again.
#[test]
fn a_gap_is_closed_by_reading_again() {
    let mut twin = twin();
    twin.start(NOW);
    let id = asked(&mut twin, GET);
    let body = json!({"desired": {"$version": 1}, "reported": {}});
    reply(&mut twin, 200, &format!("$rid={id}"), &body, NOW);
    events(&mut twin);
    desired(&mut twin, &json!({"a": 3, "$version": 3}));
    assert!(!twin.is_current());
    let second = asked(&mut twin, GET);
    assert_ne!(second, id);
    let body = json!({"desired": {"a": 3, "b": 2, "$version": 3}, "reported": {}});
    reply(&mut twin, 200, &format!("$rid={id}"), &body, NOW);
    assert!(!twin.is_current(), "the answer to another question was taken");
    reply(&mut twin, 200, &format!("$rid={second}"), &body, NOW);
    assert_eq!(twin.desired().unwrap().values, map(json!({"a": 3, "b": 2})));
}

// A connection is not the end of what is known; and what did not change is not news.
#[test]
fn every_connection_reads_the_twin_again() {
    let mut twin = twin();
    let body = json!({"desired": {"a": 1, "$version": 1}, "reported": {"$version": 1}});
    for news in [true, false] {
        twin.start(NOW);
        let id = asked(&mut twin, GET);
        reply(&mut twin, 200, &format!("$rid={id}"), &body, NOW);
        let seen = events(&mut twin);
        assert!(
            matches!(seen[..], [TwinEvent::Read { desired_changed, .. }]
            if desired_changed == news),
            "{seen:?}"
        );
        twin.interrupt();
        assert_eq!(twin.desired().unwrap().version, 1);
        assert_eq!(twin.poll_timeout(), None);
    }
    // Meanwhile somebody put another twin there, of the same version.
    twin.start(NOW);
    let id = asked(&mut twin, GET);
    let other = json!({"desired": {"a": 2, "$version": 1}, "reported": {}});
    reply(&mut twin, 200, &format!("$rid={id}"), &other, NOW);
    assert!(matches!(events(&mut twin)[..], [TwinEvent::Read { desired_changed: true, .. }]));
}

// Row 32 of the failure table: refused for now is asked again, not before the hub wants it, and
// without end.
#[test]
fn row_32_a_read_that_fails_is_tried_again_no_sooner_than_asked() {
    let mut twin = twin();
    let mut now = NOW;
    twin.start(now);
    for (status, bag, expected) in
        [(500, "", 1), (429, "&retry-after=90", 90), (503, "", 4), (404, "", 8)]
    {
        let id = asked(&mut twin, GET);
        let error = json!({"errorCode": u32::from(status) * 1000 + 1, "message": "m"});
        reply(&mut twin, status, &format!("$rid={id}{bag}"), &error, now);
        let seen = events(&mut twin);
        let TwinEvent::ReadFailed { error: TwinError::Refused { status: s, .. }, retry_in } =
            seen[0]
        else {
            panic!("{seen:?}")
        };
        assert_eq!((s, retry_in), (status, Duration::from_secs(expected)));
        let due = twin.poll_timeout().unwrap();
        twin.handle_timeout(Instant::from_micros(due.as_micros() - 1));
        assert_eq!(twin.poll_request(), None, "too early");
        now = due;
        twin.handle_timeout(now);
    }
    // Silence is a failure, too; and so is what is no twin.
    asked(&mut twin, GET);
    now = now + Duration::from_secs(60);
    twin.handle_timeout(now);
    assert!(matches!(
        events(&mut twin)[..],
        [TwinEvent::ReadFailed { error: TwinError::TimedOut { .. }, .. }]
    ));
    now = twin.poll_timeout().unwrap();
    twin.handle_timeout(now);
    let id = asked(&mut twin, GET);
    reply(&mut twin, 200, &format!("$rid={id}"), &json!({"desired": {"a": 1}}), now);
    assert!(matches!(
        events(&mut twin)[..],
        [TwinEvent::ReadFailed { error: TwinError::Unreadable { .. }, .. }]
    ));
}

// Row 31 of the failure table, and more: a report is completed whatever happens: taken, refused, unanswered, or cut off.
#[test]
fn row_31_reports_are_completed_each_by_its_handle() {
    let mut twin = twin();
    let report = map(json!({"t": 1}));
    assert_eq!(twin.report(&report, NOW), Err(ReportError::NotConnected));
    twin.start(NOW);
    asked(&mut twin, GET);
    let mut handles = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..4 {
        handles.push(twin.report(&report, NOW).unwrap());
        ids.push(asked(&mut twin, REPORT));
    }
    reply(&mut twin, 204, &format!("$rid={}&$version=9", ids[1]), &Value::Null, NOW);
    let error = json!({"errorCode": 400_018, "message": "bad"});
    reply(&mut twin, 400, &format!("$rid={}", ids[0]), &error, NOW);
    let seen = events(&mut twin);
    assert_eq!(seen[0], TwinEvent::Reported { handle: handles[1], version: Some(9) });
    assert!(
        matches!(&seen[1], TwinEvent::ReportFailed { handle, error: TwinError::Refused { status: 400, .. } }
        if *handle == handles[0])
    );
    reply(&mut twin, 204, &format!("$rid={}", ids[1]), &Value::Null, NOW);
    assert_eq!(events(&mut twin), [], "answered twice");
    twin.interrupt();
    let failed = |handle| TwinEvent::ReportFailed { handle, error: TwinError::SessionEnded };
    assert_eq!(events(&mut twin), [failed(handles[2]), failed(handles[3])]);

    twin.start(NOW);
    asked(&mut twin, GET);
    let limit = TwinConfig::default().max_reports;
    for _ in 0..limit {
        twin.report(&report, NOW).unwrap();
    }
    assert_eq!(twin.report(&report, NOW), Err(ReportError::TooManyReports { limit }));
    let large = map(json!({"t": "x".repeat(32 * 1024)}));
    twin.handle_timeout(NOW + Duration::from_secs(60));
    assert_eq!(events(&mut twin).len(), limit + 1, "the read and every report timed out");
    assert!(matches!(twin.report(&large, NOW), Err(ReportError::TooLarge { length: 32_776 })));
    let largest = map(json!({"t": "x".repeat(32 * 1024 - 8)}));
    assert!(twin.report(&largest, NOW).is_ok());
}

/// A twin that has read version 1.
fn current() -> Twin {
    let mut twin = twin();
    twin.start(NOW);
    answer_read(&mut twin, NOW);
    twin
}

fn answer_read(twin: &mut Twin, now: Instant) {
    let id = asked(twin, GET);
    let body = json!({"desired": {"$version": 1}, "reported": {}});
    reply(twin, 200, &format!("$rid={id}"), &body, now);
    assert!(matches!(events(twin)[..], [TwinEvent::Read { .. }]));
}

fn failed_read(twin: &mut Twin) -> (TwinError, Duration) {
    let seen = events(twin);
    let [TwinEvent::ReadFailed { error, retry_in }] = &seen[..] else { panic!("{seen:?}") };
    (error.clone(), *retry_in)
}

// A change that nobody can read is one that is missing; what the topic does not say, the body may.
#[test]
fn a_change_that_cannot_be_read_is_read_again() {
    for (version, body) in [(Some(2), "{"), (Some(2), "[]"), (None, "{}"), (None, "")] {
        let mut twin = current();
        twin.handle_desired(version, body.as_bytes(), NOW);
        assert!(!twin.is_current(), "{body}");
        let id = asked(&mut twin, GET);
        // And while it is read: the answer may have been written before.
        twin.handle_desired(version, body.as_bytes(), NOW);
        assert!(matches!(failed_read(&mut twin).0, TwinError::Unreadable { .. }), "{body}");
        let body = json!({"desired": {"$version": 1}, "reported": {}});
        reply(&mut twin, 200, &format!("$rid={id}"), &body, NOW);
        assert!(!twin.is_current());
        let due = twin.poll_timeout().unwrap();
        twin.handle_timeout(due);
        answer_read(&mut twin, due);
    }
    let mut twin = current();
    twin.handle_desired(None, br#"{"a":1,"$version":2}"#, NOW);
    assert!(matches!(events(&mut twin)[..], [TwinEvent::Desired { version: 2, .. }]));
}

// A hub that never answers and never stops telling: what is kept is bounded, and nothing of it is lost.
#[test]
fn more_changes_than_can_be_kept_are_read_anew() {
    let mut twin = twin();
    twin.start(NOW);
    let id = asked(&mut twin, GET);
    for version in 2..=65 {
        desired(&mut twin, &json!({"a": version, "$version": version}));
    }
    assert_eq!(events(&mut twin), []);
    desired(&mut twin, &json!({"a": 66, "$version": 66}));
    assert_eq!(failed_read(&mut twin).0, TwinError::TooManyChanges);
    let body = json!({"desired": {"$version": 1}, "reported": {}});
    reply(&mut twin, 200, &format!("$rid={id}"), &body, NOW);
    assert!(!twin.is_current(), "an answer without the change that was not kept");
}

// The pause doubles up to its cap, and begins anew when a read has succeeded.
#[test]
fn pauses_grow_to_a_cap_and_shrink_with_success() {
    let mut twin = twin();
    let mut now = NOW;
    twin.start(now);
    let mut fail = |twin: &mut Twin| {
        let id = asked(twin, GET);
        reply(twin, 500, &format!("$rid={id}"), &Value::Null, now);
        let pause = failed_read(twin).1;
        now = now + pause;
        twin.handle_timeout(now);
        pause.as_secs()
    };
    let pauses: Vec<u64> = (0..9).map(|_| fail(&mut twin)).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    answer_read(&mut twin, NOW);
    desired(&mut twin, &json!({"$version": 9}));
    assert_eq!(fail(&mut twin), 1);
}

// What was not sent is not sent on another connection: it would be answered to nobody.
#[test]
fn requests_end_with_their_connection() {
    let mut twin = current();
    let handle = twin.report(&map(json!({"t": 1})), NOW).unwrap();
    twin.interrupt();
    assert_eq!(twin.poll_request(), None);
    let error = TwinError::SessionEnded;
    assert_eq!(events(&mut twin), [TwinEvent::ReportFailed { handle, error }]);
}

// An answer that the hub kept for an earlier run of this program must not answer this one's.
#[test]
fn answers_to_another_run_are_ignored() {
    let mut earlier = Twin::new(TwinConfig::default(), 1);
    earlier.start(NOW);
    let id = asked(&mut earlier, GET);
    let mut twin = twin();
    twin.start(NOW);
    assert_ne!(asked(&mut twin, GET), id);
    let body = json!({"desired": {"$version": 1}, "reported": {}});
    let strangers = ["1", "00000007-", "00000007-01", "00000007-+1", "7-1", "00000007-1-1"];
    for rid in [id.as_str()].into_iter().chain(strangers) {
        reply(&mut twin, 200, &format!("$rid={rid}"), &body, NOW);
    }
    reply(&mut twin, 200, "x=00000007-1", &body, NOW);
    assert!(!twin.is_current());
    assert_eq!(events(&mut twin), []);
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    /// The cloud changes a property; whether the patch arrives.
    Change { name: u8, value: Option<u8>, arrives: bool },
    /// The hub answers what it was asked first, as things were when it was asked, or now.
    Answer { stale: bool },
    /// The connection ends and another one begins.
    Reconnect,
    /// Time passes.
    Wait,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        4 => (0..4_u8, any::<Option<u8>>(), prop::bool::weighted(0.8))
            .prop_map(|(name, value, arrives)| Deed::Change { name, value, arrives }),
        3 => any::<bool>().prop_map(|stale| Deed::Answer { stale }),
        1 => Just(Deed::Reconnect),
        1 => Just(Deed::Wait),
    ];
    prop::collection::vec(deed, 1..60)
}

proptest! {
    // Whatever is lost, late or cut off: once the hub is asked and answers, and the next change arrives,
    // the device has what the hub has; and no change was told twice.
    #[test]
    fn nothing_is_lost_and_nothing_is_applied_twice(deeds in deeds()) {
        let mut twin = twin();
        let mut now = NOW;
        let mut truth = (Map::new(), 1_u64);
        let mut questions: Vec<(String, Value)> = Vec::new();
        let mut told = 0;
        let whole = |(values, version): &(Map<String, Value>, u64)| {
            let mut desired = values.clone();
            desired.insert("$version".into(), (*version).into());
            json!({"desired": desired, "reported": {"$version": 1}})
        };
        twin.start(now);
        // At the end the hub answers, and a change that arrives shows any gap. A read that fails once more
        // is followed by another.
        let answered = [Deed::Answer { stale: false }, Deed::Wait].repeat(4);
        let change = [Deed::Change { name: 0, value: Some(1), arrives: true }];
        let last = [&answered[..], &change, &answered].concat();
        for deed in deeds.into_iter().chain(last) {
            match deed {
                Deed::Change { name, value, arrives } => {
                    let name = char::from(b'a' + name).to_string();
                    match value {
                        Some(value) => truth.0.insert(name.clone(), value.into()),
                        None => truth.0.remove(&name),
                    };
                    truth.1 += 1;
                    if arrives {
                        desired(&mut twin, &json!({name: value, "$version": truth.1}));
                    }
                }
                Deed::Answer { stale } => {
                    // Every question but the last is one that nobody waits for any more.
                    for (id, then) in questions.drain(..) {
                        let body = if stale { then } else { whole(&truth) };
                        reply(&mut twin, 200, &format!("$rid={id}"), &body, now);
                    }
                }
                Deed::Reconnect => {
                    twin.interrupt();
                    twin.start(now);
                }
                Deed::Wait => {
                    now = twin.poll_timeout().unwrap_or(now);
                    twin.handle_timeout(now);
                }
            }
            while let Some(request) = twin.poll_request() {
                let id = request.topic.split_once("$rid=").unwrap().1.to_owned();
                questions.push((id, whole(&truth)));
            }
            for event in events(&mut twin) {
                match event {
                    TwinEvent::Read { desired, .. } => told = told.max(desired.version),
                    TwinEvent::Desired { version, .. } => {
                        prop_assert!(version > told, "{version} after {told}");
                        told = version;
                    }
                    _ => {}
                }
            }
        }
        prop_assert!(twin.is_current());
        let desired = twin.desired().unwrap();
        prop_assert_eq!((&desired.values, desired.version), (&truth.0, truth.1));
    }
}
