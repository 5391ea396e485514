//! Twins, as a service sees them.

use base64ct::{Base64, Encoding};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::super::effects::Effects;
use super::super::registry::DeviceKey;
use super::super::services::Services;
use super::service::{is_stale, respond};
use super::{Call, HttpResponse, devices, hub_error};

/// The one query that is understood, but for case and spaces.
const ALL: &str = "select * from devices";

#[derive(Deserialize)]
struct Change {
    tags: Option<Map<String, Value>>,
    properties: Option<PropertiesChange>,
}

#[derive(Deserialize)]
struct PropertiesChange {
    desired: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Query {
    query: String,
}

pub(super) fn query(
    services: &mut Services,
    hub: usize,
    call: Call<'_>,
    fx: &mut Effects,
) -> HttpResponse {
    let words = serde_json::from_slice::<Query>(&call.request.body).map(|query| {
        let words: Vec<String> = query.query.split_whitespace().map(str::to_lowercase).collect();
        words.join(" ")
    });
    if !words.is_ok_and(|words| words == ALL) {
        return hub_error(
            400,
            "ArgumentInvalid",
            "only SELECT * FROM devices is emulated",
            call.clock,
            fx,
        );
    }
    let keys: Vec<DeviceKey> = services.devices_of(hub).map(|(key, _)| key.clone()).collect();
    respond(&keys.iter().filter_map(|key| describe(services, key)).collect())
}

pub(super) fn answer(
    services: &mut Services,
    key: &DeviceKey,
    call: Call<'_>,
    fx: &mut Effects,
) -> HttpResponse {
    let Some(twin) = describe(services, key) else { return devices::not_found(key, call, fx) };
    let change = match call.method {
        "GET" => return respond(&twin),
        "PATCH" | "PUT" => serde_json::from_slice::<Change>(&call.request.body),
        _ => return HttpResponse::empty(405),
    };
    if is_stale(call, twin["etag"].as_str().unwrap_or_default()) {
        return hub_error(412, "PreconditionFailed", "the etag is another one", call.clock, fx);
    }
    let Ok(Change { tags, properties }) = change else {
        return hub_error(400, "ArgumentInvalid", "the body is no twin", call.clock, fx);
    };
    let desired = properties.and_then(|properties| properties.desired);
    let twin = services.hubs.twin_mut(key);
    let told = if call.method == "PUT" {
        twin.replace_tags(tags.unwrap_or_default());
        Some(twin.replace_desired(desired.unwrap_or_default()))
    } else {
        twin.tag(tags.unwrap_or_default());
        desired.map(|desired| twin.desire(desired))
    };
    match told.transpose() {
        Ok(Some((version, sent))) => services.hubs.tell_desired(key, version, &sent, fx),
        Ok(None) => {}
        Err(error) => {
            let message = error.to_string();
            return hub_error(400, "ArgumentInvalid", &message, call.clock, fx);
        }
    }
    match describe(services, key) {
        Some(twin) => respond(&twin),
        None => devices::not_found(key, call, fx),
    }
}

fn describe(services: &Services, key: &DeviceKey) -> Option<Value> {
    let device = services.namespace.registry.device(key)?;
    let mut twin = services.hubs.twin(key).service_document();
    let hash = Sha256::digest(json!([twin["tags"], twin["properties"]["desired"]]).to_string());
    let members = json!({
        "deviceId": key.device_id,
        "etag": Base64::encode_string(&hash[..6]),
        "deviceEtag": devices::etag(device),
        "status": if device.enabled { "enabled" } else { "disabled" },
        "connectionState": devices::connection_state(services, key),
        "cloudToDeviceMessageCount": 0,
    });
    if let (Value::Object(twin), Value::Object(members)) = (&mut twin, members) {
        twin.extend(members);
    }
    Some(twin)
}
