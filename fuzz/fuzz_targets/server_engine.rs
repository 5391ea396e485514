//! A broker of several connections and whatever clients may do to it: bytes, endings and time in any
//! order. It does not panic, and forgets connections that ended.
//!
//! Input: steps, each a kind and a length byte; bytes for those that carry some.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use zerotouch_fuzz::steps::steps;
use zerotouch_mqtt_session::{ConnectionId, PlainBroker, Server, ServerAction, ServerLimits};
use zerotouch_time::Instant;

/// Client id "a" or "b", keep-alive 10 s, clean or not.
fn connect(id: u8, clean: bool) -> [u8; 15] {
    [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, u8::from(clean) << 1, 0, 10, 0, 1, b'a' + id % 2]
}

fuzz_target!(|input: &[u8]| {
    let mut server = Server::new(PlainBroker::default(), ServerLimits::default());
    let mut now = Instant::ZERO;
    let mut opened = 0;
    for (kind, bytes) in steps(input) {
        let connection = ConnectionId(u64::from(kind / 8) % 4);
        match kind % 8 {
            0 | 1 => {
                if server.handle_open(connection, now).is_ok() {
                    opened += 1;
                }
                server.handle_bytes(connection, &connect(kind / 8, kind % 8 == 0), now);
            }
            2 => server.handle_closed(connection, now),
            3 => {
                now = now + Duration::from_secs(bytes.len() as u64);
                server.handle_timeout(now);
            }
            _ => server.handle_bytes(connection, bytes, now),
        }
        while let Some(action) = server.poll_action() {
            if let ServerAction::Transmit(connection) = action {
                let sent = server.poll_transmit(connection).map_or(0, <[u8]>::len);
                server.handle_transmitted(connection, sent, now);
            }
        }
        while server.poll_event().is_some() {}
        assert!(server.connection_count() <= opened.min(4));
        assert!(server.session_count() <= 2 + server.connection_count());
    }
});
