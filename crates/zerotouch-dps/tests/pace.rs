//! The pace, whatever a service and a network do: one operation at a time, no poll before its time, five
//! polls in ten seconds at most, one end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use chacha20::ChaCha8Rng;
use chacha20::rand_core::SeedableRng;
use proptest::prelude::*;
use zerotouch_dps::wire::STATUS_PREFIX;
use zerotouch_dps::{Config, Event, IdScope, Registration, RegistrationId};
use zerotouch_time::Instant;

const DEADLINE: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
enum Deed {
    /// The service answers: the request that waits, one before it, or somebody else's.
    Answer { to: To, status: u16, retry_after: String, body: String },
    /// Anything at all arrives.
    Noise { topic: String, body: Vec<u8> },
    /// The engine is woken when it asked for it.
    Wake,
    /// It is woken at some other time.
    Pass(u64),
    /// The subscription is granted once more.
    Start,
}

#[derive(Clone, Copy, Debug)]
enum To {
    Last,
    Earlier,
    Stranger,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let to = prop_oneof![6 => Just(To::Last), 1 => Just(To::Earlier), 1 => Just(To::Stranger)];
    let status =
        prop_oneof![12 => Just(202_u16), 3 => Just(429), 2 => Just(503), 1 => 100..=599_u16];
    let retry_after = prop_oneof![
        4 => Just(String::new()),
        4 => (0..9_u32).prop_map(|seconds| format!("&retry-after={seconds}")),
        1 => "(&retry-after=[-+.0-9a]{0,22}){1,2}",
    ];
    let body = prop_oneof![
        12 => Just(r#"{"operationId":"4.d0a6","status":"assigning"}"#.to_owned()),
        1 => Just(r#"{"status":"assigned","registrationState":{"assignedHub":"h","deviceId":"d","issuedCertificateChain":["QQ=="]}}"#.to_owned()),
        1 => Just(r#"{"status":"failed","registrationState":{"errorCode":400207}}"#.to_owned()),
        1 => "[ -~]{0,40}",
    ];
    let deed = prop_oneof![
        8 => (to, status, retry_after, body)
            .prop_map(|(to, status, retry_after, body)| Deed::Answer { to, status, retry_after, body }),
        1 => ("[ -~]{0,60}", prop::collection::vec(any::<u8>(), 0..64))
            .prop_map(|(topic, body)| Deed::Noise { topic, body }),
        8 => Just(Deed::Wake),
        2 => (0..40_000_000_u64).prop_map(Deed::Pass),
        1 => Just(Deed::Start),
    ];
    prop::collection::vec(deed, 0..120)
}

/// The floor that a well-formed delay sets.
fn floor(retry_after: &str) -> Duration {
    let first = retry_after.split('&').nth(1).and_then(|member| member.split('=').nth(1));
    let digits = first.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds = digits.filter(|text| !text.is_empty()).map(|text| text.parse().unwrap_or(86_400));
    Duration::from_secs(seconds.unwrap_or_default().clamp(2, 86_400))
}

proptest! {
    #[test]
    fn the_pace_is_kept(deeds in deeds()) {
        let mut rng = ChaCha8Rng::from_seed([1; 32]);
        let config = Config::new(IdScope::new("0ne0").unwrap(), RegistrationId::new("d").unwrap());
        let mut registration = Registration::new(config, Some("Q1NS".into()), &mut rng);
        let mut now = Instant::from_micros(5);
        registration.start(now);
        let began = now;
        let mut asked: Vec<String> = Vec::new();
        let mut polls: Vec<Instant> = Vec::new();
        let mut in_flight = false;
        let mut not_before = now;
        let mut over = false;
        for deed in [Deed::Start].into_iter().chain(deeds) {
            let mut answered = None;
            match &deed {
                Deed::Answer { to, status, retry_after, body } => {
                    let rid = match to {
                        To::Last => asked.last(),
                        To::Earlier => asked.iter().rev().nth(1),
                        To::Stranger => None,
                    };
                    let rid = rid.cloned().unwrap_or_else(|| "0-0".into());
                    if in_flight && asked.last() == Some(&rid) {
                        answered = Some(now + floor(retry_after));
                    }
                    let topic = format!("$dps/registrations/res/{status}/?$rid={rid}{retry_after}");
                    registration.handle_message(&topic, body.as_bytes(), now, &mut rng);
                }
                Deed::Noise { topic, body } => registration.handle_message(topic, body, now, &mut rng),
                Deed::Wake => {
                    now = registration.poll_timeout().unwrap_or(now).max(now);
                    registration.handle_timeout(now);
                }
                Deed::Pass(micros) => {
                    now = now + Duration::from_micros(*micros);
                    registration.handle_timeout(now);
                }
                Deed::Start => registration.start(now),
            }
            if let Some(earliest) = answered {
                in_flight = false;
                not_before = earliest;
            }
            while let Some(request) = registration.poll_request() {
                prop_assert!(!over, "a request after the end");
                prop_assert!(!in_flight, "two operations at once");
                prop_assert!(now >= not_before, "{} before {}", now.as_micros(), not_before.as_micros());
                in_flight = true;
                let bag = request.topic.split_once("$rid=").unwrap().1;
                let rid = bag.split('&').next().unwrap().to_owned();
                prop_assert!(!asked.contains(&rid), "a request id used twice");
                asked.push(rid);
                if request.topic.starts_with(STATUS_PREFIX) {
                    polls.push(now);
                }
            }
            while let Some(event) = registration.poll_event() {
                prop_assert!(!over, "{event:?} after the end");
                over = matches!(event, Event::Assigned(_) | Event::Failed(_));
            }
            match registration.poll_timeout() {
                Some(due) => prop_assert!(!over && due <= began + DEADLINE),
                None => prop_assert!(over, "neither at an end nor waiting"),
            }
        }
        for window in polls.windows(6) {
            prop_assert!(window[5] - window[0] >= Duration::from_secs(10), "six polls in ten seconds");
        }
    }
}
