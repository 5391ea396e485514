//! Calling direct methods, and waiting for what the device says.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use zerotouch_hub::wire::MAX_METHOD_LENGTH;

use super::super::clock::Clock;
use super::super::effects::Effects;
use super::super::exchange::CallOutcome;
use super::super::registry::DeviceKey;
use super::super::services::Services;
use super::service::respond;
use super::{Call, HttpResponse, device_error, devices, hub_error};

/// What the documentation allows, and what is meant where nothing is said.
const TIMEOUTS: std::ops::RangeInclusive<u64> = 5..=300;
const DEFAULT_TIMEOUT: u64 = 30;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    method_name: String,
    #[serde(default)]
    payload: Value,
    response_timeout_in_seconds: Option<u64>,
}

pub(super) fn answer(
    services: &mut Services,
    key: &DeviceKey,
    call: Call<'_>,
    fx: &mut Effects,
) -> Option<HttpResponse> {
    if services.namespace.registry.device(key).is_none() {
        return Some(devices::not_found(key, call, fx));
    }
    let invocation = serde_json::from_slice::<Invocation>(&call.request.body);
    let Ok(Invocation { method_name, payload, response_timeout_in_seconds }) = invocation else {
        return Some(hub_error(400, "ArgumentInvalid", "the body is no call", call.clock, fx));
    };
    let timeout = response_timeout_in_seconds.unwrap_or(DEFAULT_TIMEOUT);
    if !TIMEOUTS.contains(&timeout) || method_name.is_empty() {
        let message = "a method has a name and a response timeout of 5 to 300 seconds";
        return Some(hub_error(400, "ArgumentInvalid", message, call.clock, fx));
    }
    // Without a payload a device gets the JSON for none.
    let payload = payload.to_string();
    if payload.len() > MAX_METHOD_LENGTH {
        let message = "the payload is larger than 128 KiB";
        return Some(hub_error(413, "MessageTooLarge", message, call.clock, fx));
    }
    let until = call.clock.monotonic + Duration::from_secs(timeout);
    let called = services.hubs.call(key, (&method_name, payload.as_bytes()), (call.id, until), fx);
    (!called).then(|| {
        let message = "The operation failed because the requested device isn't online or hasn't \
                       registered the direct method callback.";
        device_error((404_103, "DeviceNotOnline"), message, call.clock, fx)
    })
}

/// What whoever waits is told.
pub(in crate::cloud) fn conclude(
    outcome: CallOutcome,
    clock: Clock,
    fx: &mut Effects,
) -> HttpResponse {
    match outcome {
        CallOutcome::Answered { status, payload } => {
            // The SDKs expect JSON; a device that sends something else has sent nothing.
            let payload: Value = serde_json::from_slice(&payload).unwrap_or_default();
            respond(&json!({ "status": status, "payload": payload }))
        }
        CallOutcome::TimedOut => {
            let message = "Timed out waiting for the response from device.";
            device_error((504_101, "GatewayTimeout"), message, clock, fx)
        }
    }
}
