//! Cloud-to-device messages over HTTPS. The vendor's SDKs send them over AMQP; the paths and headers are
//! those of its older REST interface, which answers still.
//!
//! | header | property |
//! |---|---|
//! | `iothub-to` | where to, if the path does not say: `/devices/{id}/messages/devicebound` |
//! | `iothub-messageid`, `-correlationid`, `-userid` | `$.mid`, `$.cid`, `$.uid` |
//! | `iothub-contenttype`, `-contentencoding` | `$.ct`, `$.ce` |
//! | `iothub-expiry`, RFC 3339 | `$.exp` |
//! | `iothub-ack` | `iothub-ack` |
//! | `iothub-app-{name}` | of the application, name in lower case |

use serde_json::json;

use super::super::effects::Effects;
use super::super::hub::CommandError;
use super::super::registry::DeviceKey;
use super::super::services::Services;
use super::service::respond;
use super::{Call, HttpResponse, devices, hub_error};

const PROPERTIES: [(&str, &str); 7] = [
    ("iothub-messageid", "$.mid"),
    ("iothub-correlationid", "$.cid"),
    ("iothub-userid", "$.uid"),
    ("iothub-contenttype", "$.ct"),
    ("iothub-contentencoding", "$.ce"),
    ("iothub-expiry", "$.exp"),
    ("iothub-ack", "iothub-ack"),
];
const APPLICATION: &str = "iothub-app-";

pub(super) fn send(
    services: &mut Services,
    key: &DeviceKey,
    call: Call<'_>,
    fx: &mut Effects,
) -> HttpResponse {
    let system = PROPERTIES.iter().filter_map(|(header, property)| {
        let value = call.request.header(header).filter(|value| !value.is_empty())?;
        Some((*property, value))
    });
    let application = call.request.headers.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(APPLICATION)?;
        Some((name, &**value))
    });
    let properties: Vec<(&str, &str)> = system.chain(application).collect();
    let sent = if services.namespace.registry.device(key).is_some() {
        services.hubs.send(key, &properties, &call.request.body, call.clock, fx)
    } else {
        Err(CommandError::NoDevice)
    };
    let (status, code, message) = match sent {
        Ok(_) => return HttpResponse::empty(204),
        Err(CommandError::NoDevice) => return devices::not_found(key, call, fx),
        Err(error) => {
            let (status, code) = match error {
                CommandError::QueueFull => (403, "DeviceMaximumQueueDepthExceeded"),
                CommandError::TooLarge => (413, "MessageTooLarge"),
                _ => (400, "ArgumentInvalid"),
            };
            (status, code, error.to_string())
        }
    };
    hub_error(status, code, &message, call.clock, fx)
}

/// The device that a message is for by its headers.
pub(super) fn addressee(call: Call<'_>) -> Option<String> {
    let path = call.request.header("iothub-to")?.strip_prefix("/devices/")?;
    let (id, endpoint) = path.split_once('/')?;
    let is_ours = endpoint.eq_ignore_ascii_case("messages/devicebound");
    is_ours.then(|| id.into())
}

pub(super) fn purge(
    services: &mut Services,
    key: &DeviceKey,
    call: Call<'_>,
    fx: &mut Effects,
) -> HttpResponse {
    if services.namespace.registry.device(key).is_none() {
        return devices::not_found(key, call, fx);
    }
    let purged = services.hubs.commands.purge(key, fx);
    respond(&json!({
        "deviceId": key.device_id,
        "moduleId": null,
        "totalMessagesPurged": purged,
    }))
}
