//! The hubs' service API over HTTPS, as far as the vendor's SDKs use it (IoT Hub REST, 2021-04-12).
//!
//! | request | |
//! |---|---|
//! | `GET`, `PUT`, `DELETE /devices/{id}`, `GET /devices?top=` | the registry |
//! | `GET`, `PATCH`, `PUT /twins/{id}` | twins |
//! | `POST /twins/{id}/methods` | direct methods |
//! | `POST /messages/devicebound`, `/devices/{id}/messages/devicebound` | a message to a device |
//! | `DELETE /devices/{id}/commands` | all that wait for it |
//! | `POST /devices/query` | all twins, or one: two queries are understood |
//! | `GET /statistics/devices`, `/statistics/service` | how many there are |

use serde_json::json;
use zerotouch_credentials::SasClaims;
use zerotouch_wire::PropertyBag;

use super::super::effects::Effects;
use super::super::enrollment::SAS_SKEW;
use super::super::registry::DeviceKey;
use super::super::services::Services;
use super::{Call, HttpResponse, devices, hub_error, messages, methods, twins};

/// The shared access policies that a token for the service API may name. They have one key.
pub const SERVICE_POLICIES: [&str; 4] =
    ["iothubowner", "service", "registryReadWrite", "provisioningserviceowner"];

pub(super) fn answer(
    services: &mut Services,
    segments: &[&str],
    call: Call<'_>,
    fx: &mut Effects,
) -> Option<HttpResponse> {
    let unauthorized = |fx: &mut Effects| {
        hub_error(401, "IotHubUnauthorizedAccess", "Unauthorized", call.clock, fx)
    };
    if !is_authorized(services, call) {
        return Some(unauthorized(fx));
    }
    let Some(hub) = services.hubs.position(call.host) else { return Some(unauthorized(fx)) };
    let key = |device_id: &str| DeviceKey { hub, device_id: device_id.into() };
    Some(match (call.method, segments) {
        ("GET", ["devices"]) => devices::list(services, hub, call),
        ("POST", ["devices", "query"]) => twins::query(services, hub, call, fx),
        (_, ["devices", id]) => devices::answer(services, &key(id), call, fx),
        ("POST", ["messages", endpoint]) if is_devicebound(endpoint) => {
            if let Some(id) = messages::addressee(call) {
                messages::send(services, &key(&id), call, fx)
            } else {
                let message = "iothub-to names no device";
                hub_error(400, "ArgumentInvalid", message, call.clock, fx)
            }
        }
        ("POST", ["devices", id, "messages", endpoint]) if is_devicebound(endpoint) => {
            messages::send(services, &key(id), call, fx)
        }
        ("DELETE", ["devices", id, "commands"]) => messages::purge(services, &key(id), call, fx),
        ("POST", ["twins", id, "methods"]) => {
            return methods::answer(services, &key(id), call, fx);
        }
        (_, ["twins", id]) => twins::answer(services, &key(id), call, fx),
        ("GET", ["statistics", "devices"]) => {
            let enabled: Vec<bool> = services.devices_of(hub).map(|(_, one)| one.enabled).collect();
            let enabled_count = enabled.iter().filter(|enabled| **enabled).count();
            respond(&json!({
                "totalDeviceCount": enabled.len(),
                "enabledDeviceCount": enabled_count,
                "disabledDeviceCount": enabled.len() - enabled_count,
            }))
        }
        ("GET", ["statistics", "service"]) => {
            let connected =
                services.devices_of(hub).filter(|(key, _)| services.hubs.is_connected(key));
            respond(&json!({ "connectedDeviceCount": connected.count() }))
        }
        _ => HttpResponse::empty(404),
    })
}

/// The vendor writes it both ways.
fn is_devicebound(endpoint: &str) -> bool {
    endpoint.eq_ignore_ascii_case("devicebound")
}

pub(super) fn respond(body: &serde_json::Value) -> HttpResponse {
    HttpResponse::json(200, body.to_string().into_bytes())
}

/// A token for this host, of one of the policies. Which may do what is not told apart.
pub(super) fn is_authorized(services: &Services, call: Call<'_>) -> bool {
    let claims = call.request.authorization.as_deref().map(SasClaims::parse);
    let Some(Ok(claims)) = claims else { return false };
    let is_known = claims.key_name().is_some_and(|name| SERVICE_POLICIES.contains(&name));
    // With the port, as connection strings have it that name one.
    let is_for = claims.is_for(call.host) || claims.is_for(&call.request.host);
    is_known && is_for && claims.verify(services.service_key(), call.clock.wall, SAS_SKEW).is_ok()
}

/// How many a client wants at most.
pub(super) fn top(call: Call<'_>) -> usize {
    let top = PropertyBag::new(call.query).get("top").and_then(|top| top.parse().ok());
    top.unwrap_or(1000)
}

/// Whether a change is for another version than there is.
pub(super) fn is_stale(call: Call<'_>, etag: &str) -> bool {
    let wanted = call.request.if_match.as_deref().map(|wanted| wanted.trim_matches('"'));
    wanted.is_some_and(|wanted| wanted != "*" && wanted != etag)
}
