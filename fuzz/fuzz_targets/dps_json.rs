//! Whatever the provisioning service answers, on whatever topic: the registration engine does not
//! panic, sends nothing before its time, and adopts no half assignment.
//!
//! Input: messages, each a status byte, a length byte, and a body; a status that is odd is answered to
//! a request of somebody else.

#![no_main]

use std::time::Duration;

use chacha20::ChaCha8Rng;
use chacha20::rand_core::SeedableRng;
use libfuzzer_sys::fuzz_target;
use zerotouch_dps::{Config, Event, IdScope, Registration, RegistrationId};
use zerotouch_time::Instant;

const STATUSES: [u16; 8] = [200, 202, 400, 401, 404, 429, 500, 503];

fuzz_target!(|input: &[u8]| {
    let mut rng = ChaCha8Rng::from_seed([0; 32]);
    let (Ok(scope), Ok(id)) = (IdScope::new("0ne"), RegistrationId::new("d")) else { return };
    let mut registration = Registration::new(Config::new(scope, id), Some("Q1NS".into()), &mut rng);
    let mut now = Instant::ZERO;
    registration.start(now);
    let mut rid = rid(registration.poll_request().expect("a request").topic);
    let mut rest = input;
    while let [status, length, tail @ ..] = rest {
        let (body, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let foreign = if status % 2 == 1 { "x" } else { "" };
        let status = STATUSES[usize::from(status / 2) % STATUSES.len()];
        let topic = format!("$dps/registrations/res/{status}/?$rid={foreign}{rid}&retry-after={length}");
        registration.handle_message(&topic, body, now, &mut rng);
        assert!(registration.poll_request().is_none(), "a request before its time");
        while let Some(event) = registration.poll_event() {
            if let Event::Assigned(registered) = event {
                assert!(!registered.assignment.assigned_hub.is_empty());
                assert!(!registered.assignment.device_id.is_empty());
                assert!(!registered.issued_certificate_chain.is_empty());
            }
        }
        let Some(due) = registration.poll_timeout() else { return };
        assert!(due <= now + Duration::from_secs(600), "a deadline beyond the registration's own");
        now = due;
        registration.handle_timeout(now);
        if let Some(request) = registration.poll_request() {
            rid = self::rid(request.topic);
        }
    }
});

fn rid(topic: String) -> String {
    let properties = topic.split("$rid=").nth(1).unwrap_or_default();
    properties.split('&').next().unwrap_or_default().to_owned()
}
