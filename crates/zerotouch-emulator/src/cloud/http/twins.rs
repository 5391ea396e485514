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

/// The query that is understood, but for case and spaces; `WHERE deviceId = '…'` may follow.
const ALL: &str = "select*fromdevices";
const ONE: &str = "wheredeviceid=";

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
    let query = serde_json::from_slice::<Query>(&call.request.body);
    let Some(wanted) = query.ok().and_then(|query| wanted(&query.query)) else {
        let message = "only SELECT * FROM devices [WHERE deviceId = '…'] is emulated";
        return hub_error(400, "ArgumentInvalid", message, call.clock, fx);
    };
    let keys: Vec<DeviceKey> = match wanted {
        Wanted::All => services.devices_of(hub).map(|(key, _)| key.clone()).collect(),
        Wanted::One(device_id) => vec![DeviceKey { hub, device_id }],
    };
    respond(&keys.iter().filter_map(|key| describe(services, key)).collect())
}

/// What a query asks for.
enum Wanted {
    All,
    One(String),
}

fn wanted(query: &str) -> Option<Wanted> {
    // No device id has a space in it.
    let query: String = query.split_whitespace().collect();
    let after = |text: &str, prefix: &str| {
        let (head, rest) = text.split_at_checked(prefix.len())?;
        head.eq_ignore_ascii_case(prefix).then(|| rest.to_owned())
    };
    let condition = after(&query, ALL)?;
    if condition.is_empty() {
        return Some(Wanted::All);
    }
    let quoted = after(&condition, ONE)?;
    Some(Wanted::One(quoted.strip_prefix('\'')?.strip_suffix('\'')?.into()))
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
    // A change is made as a whole or not at all.
    let mut twin = services.hubs.twin(key).into_owned();
    let told = if call.method == "PUT" {
        let tags = twin.replace_tags(tags.unwrap_or_default());
        tags.and_then(|()| twin.replace_desired(desired.unwrap_or_default()).map(Some))
    } else {
        let tags = twin.tag(tags.unwrap_or_default());
        tags.and_then(|()| desired.map(|desired| twin.desire(desired)).transpose())
    };
    let told = match told {
        Ok(told) => told,
        Err(error) => {
            let message = error.to_string();
            return hub_error(400, "ArgumentInvalid", &message, call.clock, fx);
        }
    };
    *services.hubs.twin_mut(key) = twin;
    if let Some((version, sent)) = told {
        services.hubs.tell_desired(key, version, &sent, fx);
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
        "cloudToDeviceMessageCount": services.hubs.commands.count(key),
    });
    if let (Value::Object(twin), Value::Object(members)) = (&mut twin, members) {
        twin.extend(members);
    }
    Some(twin)
}
