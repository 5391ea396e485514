//! What the vendor has no API for: faults, the time of day, and what happens. To whoever holds a token for the service
//! API.
//!
//! | request | |
//! |---|---|
//! | `GET`, `POST`, `DELETE /$emulator/faults`, `DELETE /$emulator/faults/{id}` | what goes wrong on demand |
//! | `GET`, `POST /$emulator/clock` | the time of day: `{"set": time}` or `{"advance": duration}` |
//! | `GET /$emulator/events?device=…&event=…` | what happens: see the module of that name |
//! | `/$emulator/namespace/…` | see the module of that name |

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use zerotouch_time::UnixTime;

use super::super::clock::rfc3339;
use super::super::effects::Effects;
use super::super::fault::FaultRule;
use super::super::services::Services;
use super::super::text_form;
use super::service::{is_authorized, respond};
use super::{Call, HttpResponse, events, namespace};

/// Where these are.
pub(super) const PREFIX: &str = "$emulator";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum TimeChange {
    Set(#[serde(with = "text_form::one")] UnixTime),
    Advance(#[serde(with = "text_form::one")] Duration),
}

pub(super) fn answer(
    services: &mut Services,
    segments: &[&str],
    call: Call<'_>,
    fx: &mut Effects,
) -> HttpResponse {
    if !is_authorized(services, call) {
        return error(401, "Unauthorized", "a token for the service API is needed");
    }
    match (call.method, segments) {
        ("GET", ["faults"]) => respond(&json!({ "value": fx.faults.active() })),
        ("POST", ["faults"]) => {
            let rule = match read::<FaultRule>(call) {
                Ok(rule) => rule,
                Err(refusal) => return refusal,
            };
            match fx.faults.add(rule) {
                Ok(id) => HttpResponse::json(201, json!({ "id": id }).to_string().into_bytes()),
                Err(fault) => error(400, "InvalidFault", &fault.to_string()),
            }
        }
        ("DELETE", ["faults"]) => {
            fx.faults.clear();
            HttpResponse::empty(204)
        }
        ("DELETE", ["faults", id]) => match id.parse() {
            Ok(id) if fx.faults.remove(id) => HttpResponse::empty(204),
            _ => error(404, "FaultNotFound", "there is no such fault, or no longer"),
        },
        ("GET", ["clock"]) => respond(&json!({ "time": rfc3339(call.clock.wall) })),
        ("POST", ["clock"]) => {
            let time = match read(call) {
                Ok(TimeChange::Set(time)) => time,
                Ok(TimeChange::Advance(by)) => call.clock.wall + by,
                Err(refusal) => return refusal,
            };
            services.set_time(time, call.clock, fx);
            respond(&json!({ "time": rfc3339(time) }))
        }
        ("GET", ["events"]) => events::answer(call),
        (_, ["namespace", rest @ ..]) => namespace::answer(services, rest, call, fx),
        (_, ["faults" | "clock" | "events"] | ["faults", _]) => HttpResponse::empty(405),
        _ => HttpResponse::empty(404),
    }
}

/// Reads the body of a request.
pub(super) fn read<'a, T: Deserialize<'a>>(call: Call<'a>) -> Result<T, HttpResponse> {
    serde_json::from_slice(&call.request.body)
        .map_err(|fault| error(400, "InvalidBody", &fault.to_string()))
}

/// An error of the emulator's own API.
pub(super) fn error(status: u16, code: &str, message: &str) -> HttpResponse {
    let body = json!({ "error": { "code": code, "message": message } });
    HttpResponse::json(status, body.to_string().into_bytes())
}
