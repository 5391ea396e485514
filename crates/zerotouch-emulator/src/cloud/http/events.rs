//! What happens in the cloud, for as long as somebody listens: server-sent events (WHATWG HTML,
//! "Server-sent events").
//!
//! `GET /$emulator/events?device=pump-*&event=telemetry`: both parameters as one likes. Each event is the
//! JSON of a [`CloudEvent`](super::super::CloudEvent).

use serde_json::Value;
use zerotouch_wire::{PropertyBag, percent_decode};

use super::super::fault::matches;
use super::emulator::error;
use super::{Call, HttpResponse};

/// Which events somebody wants to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of which devices; `*` stands for anything.
    device: Option<String>,
    /// Which, by name.
    event: Option<String>,
}

pub(super) fn answer(call: Call<'_>) -> HttpResponse {
    let bag = PropertyBag::new(call.query);
    let parameter = |name| bag.get(name).map(percent_decode);
    let (device, event) = (parameter("device").transpose(), parameter("event").transpose());
    let (Ok(device), Ok(event)) = (device, event) else {
        return error(400, "InvalidParameter", "a parameter is not percent-encoded");
    };
    let headers =
        vec![("content-type", "text/event-stream".into()), ("cache-control", "no-cache".into())];
    let events = Some(EventFilter { device, event });
    HttpResponse { headers, events, ..HttpResponse::empty(200) }
}

impl EventFilter {
    /// Whether an event, as JSON, passes. That some were missed does always.
    #[cfg_attr(not(feature = "server"), expect(dead_code, reason = "a stream needs a socket"))]
    pub(crate) fn passes(&self, event: &Value) -> bool {
        let member = |name| event.get(name).and_then(Value::as_str);
        if member("event") == Some("missed") {
            return true;
        }
        let device =
            ["deviceId", "registrationId", "clientId", "device"].into_iter().find_map(member);
        let is_wanted = |pattern: &String| device.is_some_and(|device| matches(pattern, device));
        self.device.as_ref().is_none_or(is_wanted)
            && self.event.as_ref().is_none_or(|wanted| member("event") == Some(wanted))
    }
}
