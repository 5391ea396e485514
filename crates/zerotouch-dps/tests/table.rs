//! The registration engine's table: every state with every input, and what comes of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use chacha20::ChaCha8Rng;
use chacha20::rand_core::SeedableRng;
use zerotouch_dps::wire::{REGISTER_PREFIX, STATUS_PREFIX};
use zerotouch_dps::{Config, Event, IdScope, Registration, RegistrationError, RegistrationId};
use zerotouch_time::Instant;

/// A cell tells what leaves and what is told, and where that leads:
/// `register>` and `poll>` a request, an answer to which is awaited; `poll..` and `busy..` a pause before
/// a poll, or before the same request again; `assigned.` and `Failed.` (by the error's name) the end;
/// `=` nothing at all, not even another deadline.
const TABLE: &str = "
input       | Idle      | Asked(Register) | Pausing(Register) | Asked(Poll) | Pausing(Poll) | Done
start       | register> | =               | =                 | =           | =             | =
assigning   | =         | poll..          | =                 | poll..      | =             | =
unassigned  | =         | poll..          | =                 | poll..      | =             | =
assigned    | =         | assigned.       | =                 | assigned.   | =             | =
failed      | =         | Failed.         | =                 | Failed.     | =             | =
disabled    | =         | Disabled.       | =                 | Disabled.   | =             | =
half        | =         | Incomplete.     | =                 | Incomplete. | =             | =
chainless   | =         | ChainMissing.   | =                 | ChainMissing. | =           | =
refused     | =         | Refused.        | =                 | Refused.    | =             | =
moved       | =         | Refused.        | =                 | Refused.    | =             | =
throttled   | =         | busy..          | =                 | busy..      | =             | =
unavailable | =         | busy..          | =                 | busy..      | =             | =
unreadable  | =         | Unreadable.     | =                 | Unreadable. | =             | =
foreign     | =         | =               | =                 | =           | =             | =
nameless    | =         | =               | =                 | =           | =             | =
other topic | =         | =               | =                 | =           | =             | =
early       | =         | =               | =                 | =           | =             | =
due         | =         | TimedOut.       | register>         | TimedOut.   | poll>         | =
too late    | =         | TimedOut.       | TimedOut.         | TimedOut.   | TimedOut.     | =
";

const ASSIGNING: &str = r#"{"operationId":"4.d0a6","status":"assigning"}"#;
const ASSIGNED: &str = r#"{"status":"assigned","registrationState":{"assignedHub":"h","deviceId":"d",
    "issuedCertificateChain":["TEVBRg=="]}}"#;

struct Bench {
    registration: Registration,
    rng: ChaCha8Rng,
    now: Instant,
    /// Of the last request.
    request_id: String,
}

impl Bench {
    fn in_state(state: &str) -> Self {
        let mut rng = ChaCha8Rng::from_seed([3; 32]);
        let config = Config::new(IdScope::new("0ne0").unwrap(), RegistrationId::new("d").unwrap());
        let registration = Registration::new(config, Some("Q1NS".into()), &mut rng);
        let mut bench = Self { registration, rng, now: Instant::ZERO, request_id: "1".into() };
        let inputs: &[&str] = match state {
            "Idle" => &[],
            "Asked(Register)" => &["start"],
            "Pausing(Register)" => &["start", "throttled"],
            "Asked(Poll)" => &["start", "assigning", "due"],
            "Pausing(Poll)" => &["start", "assigning"],
            "Done" => &["start", "assigned"],
            other => panic!("{other}"),
        };
        for input in inputs {
            assert_ne!(bench.feed(input), "=", "on the way to {state}");
        }
        bench
    }

    fn answer(&mut self, status: u16, body: &str) {
        let topic = format!("$dps/registrations/res/{status}/?$rid={}", self.request_id);
        self.message(&topic, body);
    }

    fn message(&mut self, topic: &str, body: &str) {
        self.registration.handle_message(topic, body.as_bytes(), self.now, &mut self.rng);
    }

    fn wait_until(&mut self, at: Instant) {
        self.now = at.max(self.now);
        self.registration.handle_timeout(self.now);
    }

    fn feed(&mut self, input: &str) -> String {
        let before = self.registration.poll_timeout();
        let due = before.unwrap_or(self.now);
        match input {
            "start" => self.registration.start(self.now),
            "assigning" => self.answer(202, ASSIGNING),
            "unassigned" => self.answer(202, &ASSIGNING.replace("assigning", "unassigned")),
            "assigned" => self.answer(200, ASSIGNED),
            "failed" => self.answer(200, r#"{"operationId":"","status":"failed"}"#),
            "disabled" => self.answer(200, r#"{"operationId":"","status":"disabled"}"#),
            "half" => self.answer(200, r#"{"status":"assigned"}"#),
            "chainless" => self.answer(
                200,
                r#"{"status":"assigned","registrationState":{"assignedHub":"h","deviceId":"d"}}"#,
            ),
            "refused" => self.answer(401, r#"{"errorCode":401002}"#),
            "moved" => self.answer(302, ""),
            "throttled" => self.answer(429, ""),
            "unavailable" => self.answer(503, ""),
            "unreadable" => self.answer(202, "<html>"),
            "foreign" => self.message("$dps/registrations/res/200/?$rid=0-1", ASSIGNED),
            "nameless" => self.message("$dps/registrations/res/200/?retry-after=1", ASSIGNED),
            "other topic" => self.message("$iothub/twin/res/200/?$rid=1", ASSIGNED),
            "early" => self.wait_until(Instant::from_micros(due.as_micros().saturating_sub(1))),
            "due" => self.wait_until(due),
            "too late" => self.wait_until(Instant::ZERO + Duration::from_secs(600)),
            other => panic!("{other}"),
        }
        let after = self.registration.poll_timeout();
        let cell = self.drain();
        match cell.as_str() {
            "=" => assert_eq!(after, before, "{input} moved the deadline"),
            "register>" | "poll>" => {
                assert_eq!(after, Some(self.now + Duration::from_secs(30)), "{input}");
            }
            "poll.." | "busy.." => {
                assert!(after.unwrap() >= self.now + Duration::from_secs(2), "{input}");
            }
            _ => assert_eq!(after, None, "{input} ended and has a deadline"),
        }
        cell
    }

    fn drain(&mut self) -> String {
        let mut cell = String::new();
        while let Some(request) = self.registration.poll_request() {
            let (name, bag) = match request.topic.strip_prefix(REGISTER_PREFIX) {
                Some(bag) => ("register>", bag),
                None => ("poll>", request.topic.strip_prefix(STATUS_PREFIX).unwrap()),
            };
            cell.push_str(name);
            let request_id = bag.strip_prefix("$rid=").unwrap().split('&').next().unwrap();
            assert_ne!(request_id, self.request_id, "a request id used twice");
            self.request_id = request_id.into();
        }
        while let Some(event) = self.registration.poll_event() {
            cell.push_str(match event {
                Event::Assigning { .. } => "poll..",
                Event::Throttled { .. } => "busy..",
                Event::Assigned(_) => "assigned.",
                Event::Failed(error) => match error {
                    RegistrationError::Refused { .. } => "Refused.",
                    RegistrationError::Failed { .. } => "Failed.",
                    RegistrationError::Disabled => "Disabled.",
                    RegistrationError::Incomplete { .. } => "Incomplete.",
                    RegistrationError::ChainMissing => "ChainMissing.",
                    RegistrationError::Unreadable { .. } => "Unreadable.",
                    RegistrationError::TimedOut { .. } => "TimedOut.",
                    other => panic!("{other}"),
                },
                other => panic!("{other:?}"),
            });
        }
        if cell.is_empty() { "=".into() } else { cell }
    }
}

// What the engine does is this table and nothing else.
#[test]
fn every_state_with_every_input() {
    let mut rows = TABLE.trim().lines().map(|row| row.split('|').map(str::trim));
    let states: Vec<_> = rows.next().unwrap().skip(1).collect();
    for mut row in rows {
        let input = row.next().unwrap();
        for (state, expected) in states.iter().zip(row) {
            let outcome = Bench::in_state(state).feed(input);
            assert_eq!(outcome, expected, "{input} in {state}");
        }
    }
}
