//! Direct methods: calls that await an answer.
//!
//! | a call | input | next |
//! |---|---|---|
//! | none | a call, there is room | open: [`MethodEvent::Called`] |
//! | | a call, all places are taken | answered with 503: [`MethodEvent::TurnedAway`] |
//! | open | `respond` | answered: the answer is to be published |
//! | | `interrupt` (the connection ended) | none: the hub has given its caller up |
//! | answered | `poll_request` | none |
//!
//! Whatever a hub does, and however seldom an application listens: open and answered calls share their
//! places, as many 503 wait at most (a caller beyond is left to its own time-out), calls turned away
//! are told as one event, and a call that ended before it was told is not told.
//!
//! How long a caller waits (5 to 300 s) is its own affair and is not told: a late answer goes out and
//! the hub drops it.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use thiserror::Error;

use crate::Request;
use crate::wire::{MAX_METHOD_LENGTH, METHOD_REPLY_PREFIX};

/// The status for a method that the device does not have.
pub const METHOD_NOT_IMPLEMENTED: i32 = 501;
/// The status for a call that the device has no room for.
const TOO_MANY_CALLS: i32 = 503;

/// Names a call until it is answered or its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MethodCall(u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MethodEvent {
    /// A method is called and awaits [`Methods::respond`].
    Called {
        /// The name of the call.
        call: MethodCall,
        /// Which method.
        method: String,
        /// JSON as it came, at most 128 KiB; may be empty.
        payload: Vec<u8>,
    },
    /// Calls were answered with 503, because as many as may be are open.
    TurnedAway {
        /// Which method, or that of the last.
        method: String,
        /// How many calls.
        calls: u32,
    },
    /// The connection ended before the call was answered: its caller has been told.
    Abandoned(MethodCall),
}

/// Why an answer was not taken. Nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RespondError {
    /// It is answered already, or its connection has ended.
    #[error("the call is not open: it was answered, or its connection ended")]
    NotOpen,
    /// The hub takes no payload as large.
    #[error("the payload has {length} bytes, the hub takes {MAX_METHOD_LENGTH}")]
    TooLarge {
        /// Its length.
        length: usize,
    },
    /// A payload is JSON or nothing.
    #[error("the payload is no JSON")]
    NotJson,
}

/// The calls that are open.
#[derive(Debug)]
pub struct Methods {
    max_open: usize,
    /// By call, the request id to echo.
    open: BTreeMap<MethodCall, String>,
    last: u64,
    requests: VecDeque<Request>,
    events: VecDeque<MethodEvent>,
    /// Calls that nobody was told of yet, and the method of the last.
    turned_away: Option<(String, u32)>,
}

impl Default for Methods {
    fn default() -> Self {
        Self::new(64)
    }
}

impl Methods {
    /// With room for this many open calls; by default 64.
    pub fn new(max_open: usize) -> Self {
        Self {
            max_open,
            open: BTreeMap::new(),
            last: 0,
            requests: VecDeque::new(),
            events: VecDeque::new(),
            turned_away: None,
        }
    }

    /// A call arrived, as [`Inbound::Method`](crate::Inbound::Method).
    pub fn handle_call(&mut self, name: &str, request_id: &str, payload: &[u8]) {
        let method = String::from(name);
        if self.open.len() + self.requests.len() >= self.max_open {
            if self.requests.len() < self.max_open {
                self.publish(TOO_MANY_CALLS, request_id, b"");
            }
            let before = self.turned_away.take().map_or(0, |(_, calls)| calls);
            self.turned_away = Some((method, before.saturating_add(1)));
            return;
        }
        self.last += 1;
        let call = MethodCall(self.last);
        self.open.insert(call, request_id.into());
        self.events.push_back(MethodEvent::Called { call, method, payload: payload.into() });
    }

    /// Answers a call with a status of the application's (200 by custom when all went well,
    /// [`METHOD_NOT_IMPLEMENTED`] when there is no such method) and JSON or nothing.
    pub fn respond(
        &mut self,
        call: MethodCall,
        status: i32,
        payload: &[u8],
    ) -> Result<(), RespondError> {
        if payload.len() > MAX_METHOD_LENGTH {
            return Err(RespondError::TooLarge { length: payload.len() });
        }
        let is_json = |json| serde_json::from_slice::<serde::de::IgnoredAny>(json).is_ok();
        if !payload.is_empty() && !is_json(payload) {
            return Err(RespondError::NotJson);
        }
        let request_id = self.open.remove(&call).ok_or(RespondError::NotOpen)?;
        self.publish(status, &request_id, payload);
        Ok(())
    }

    /// The connection ended.
    pub fn interrupt(&mut self) {
        self.requests.clear();
        let mut abandoned = core::mem::take(&mut self.open);
        // Who was not told of a call need not be told of its end.
        self.events.retain(|event| match event {
            MethodEvent::Called { call, .. } => abandoned.remove(call).is_none(),
            _ => true,
        });
        self.events.extend(abandoned.into_keys().map(MethodEvent::Abandoned));
    }

    /// How many calls await their answers.
    pub fn open_calls(&self) -> usize {
        self.open.len()
    }

    /// The next answer to publish.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<MethodEvent> {
        self.events.pop_front().or_else(|| {
            let (method, calls) = self.turned_away.take()?;
            Some(MethodEvent::TurnedAway { method, calls })
        })
    }

    fn publish(&mut self, status: i32, request_id: &str, payload: &[u8]) {
        let topic = format!("{METHOD_REPLY_PREFIX}{status}/?$rid={request_id}");
        self.requests.push_back(Request { topic, payload: payload.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(methods: &mut Methods, name: &str, rid: &str) -> MethodCall {
        methods.handle_call(name, rid, b"{}");
        match methods.poll_event() {
            Some(MethodEvent::Called { call, method, .. }) if method == name => call,
            other => panic!("{other:?}"),
        }
    }

    // Answers come in any order and each goes to its own caller.
    #[test]
    fn many_calls_at_once_are_answered_each_by_its_id() {
        let mut methods = Methods::default();
        let (first, second) = (call(&mut methods, "a", "r1"), call(&mut methods, "b", "r2"));
        methods.respond(second, 200, br#"{"ok":true}"#).unwrap();
        methods.respond(first, METHOD_NOT_IMPLEMENTED, b"").unwrap();
        let answers: Vec<_> = core::iter::from_fn(|| methods.poll_request()).collect();
        assert_eq!(answers[0].topic, "$iothub/methods/res/200/?$rid=r2");
        assert_eq!(answers[0].payload, br#"{"ok":true}"#);
        assert_eq!(answers[1].topic, "$iothub/methods/res/501/?$rid=r1");
        assert_eq!(methods.respond(first, 200, b""), Err(RespondError::NotOpen), "twice");
    }

    // Row 34 of the failure table: what cannot be served is said, to the caller and to the application.
    #[test]
    fn row_34_a_call_without_a_place_is_turned_away_visibly() {
        let mut methods = Methods::new(1);
        let open = call(&mut methods, "a", "r1");
        methods.handle_call("b", "r2", b"");
        assert_eq!(
            methods.poll_event(),
            Some(MethodEvent::TurnedAway { method: "b".into(), calls: 1 })
        );
        assert_eq!(methods.poll_request().unwrap().topic, "$iothub/methods/res/503/?$rid=r2");
        methods.respond(open, 200, b"").unwrap();
        assert_eq!(methods.poll_request().unwrap().topic, "$iothub/methods/res/200/?$rid=r1");
        call(&mut methods, "c", "r3");
    }

    // A hub that calls without end and acknowledges nothing, and an application that does not listen:
    // little is kept, and what was turned away is told by number.
    #[test]
    fn nothing_grows_without_end() {
        let mut methods = Methods::new(3);
        for n in 0..1000 {
            for call in 0..10 {
                methods.handle_call("a", &format!("{n}-{call}"), b"{}");
            }
            assert_eq!((methods.events.len(), methods.requests.len()), (3, 3));
            methods.interrupt();
            assert!(methods.events.is_empty() && methods.requests.is_empty());
        }
        let told = Some(MethodEvent::TurnedAway { method: "a".into(), calls: 7000 });
        assert_eq!((methods.poll_event(), methods.poll_event()), (told, None));

        // Answers that wait to be sent take places.
        for n in 0..1000 {
            methods.handle_call("a", &format!("{n}"), b"{}");
            if let Some(MethodEvent::Called { call, .. }) = methods.poll_event() {
                methods.respond(call, 200, b"").unwrap();
            }
        }
        assert_eq!(methods.requests.len(), 3);
        while methods.poll_request().is_some() {}
        call(&mut methods, "b", "r");
    }

    // The hub fails a call whose device goes; an answer on the next connection would answer nobody.
    #[test]
    fn calls_end_with_their_connection() {
        let mut methods = Methods::default();
        let (answered, open) = (call(&mut methods, "a", "r1"), call(&mut methods, "b", "r2"));
        methods.respond(answered, 200, b"").unwrap();
        methods.interrupt();
        assert_eq!(methods.poll_request(), None, "an answer crossed over to another connection");
        assert_eq!(methods.poll_event(), Some(MethodEvent::Abandoned(open)));
        assert_eq!(methods.poll_event(), None);
        assert_eq!(methods.respond(open, 200, b""), Err(RespondError::NotOpen));
    }

    // A call that could not be answered as asked is still open, to be answered otherwise.
    #[test]
    fn what_the_hub_would_refuse_is_refused_here() {
        let mut methods = Methods::default();
        let open = call(&mut methods, "a", "r1");
        let length = MAX_METHOD_LENGTH + 1;
        let large = alloc::vec![b'1'; length];
        assert_eq!(methods.respond(open, 200, &large), Err(RespondError::TooLarge { length }));
        assert_eq!(methods.respond(open, 200, b"{"), Err(RespondError::NotJson));
        assert_eq!(methods.respond(open, 200, &large[1..]), Ok(()), "a long number");
        let open = call(&mut methods, "a", "r2");
        assert_eq!(methods.respond(open, 200, b"null"), Ok(()));
    }
}
