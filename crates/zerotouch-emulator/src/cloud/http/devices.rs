//! The registry of a hub's devices.

use base64ct::{Base64, Encoding};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zerotouch_credentials::SymmetricKey;

use super::super::effects::Effects;
use super::super::fixture::SymmetricKeys;
use super::super::namespace::Policy;
use super::super::registry::{Device, DeviceKey, HubCredential};
use super::super::services::Services;
use super::service::{is_stale, respond, top};
use super::{Call, HttpResponse, hub_error};

/// The longest device id, of the characters that the documentation lists.
const MAX_DEVICE_ID: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    device_id: Option<String>,
    status: Option<Status>,
    #[serde(default)]
    authentication: Authentication,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Status {
    Enabled,
    Disabled,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authentication {
    r#type: Option<String>,
    symmetric_key: Option<KeysEntry>,
    x509_thumbprint: Option<ThumbprintsEntry>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeysEntry {
    primary_key: Option<String>,
    secondary_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThumbprintsEntry {
    primary_thumbprint: Option<String>,
    secondary_thumbprint: Option<String>,
}

pub(super) fn list(services: &Services, hub: usize, call: Call<'_>) -> HttpResponse {
    let devices = services.devices_of(hub).take(top(call));
    respond(&devices.map(|(key, device)| describe(services, key, device)).collect())
}

pub(super) fn answer(
    services: &mut Services,
    key: &DeviceKey,
    call: Call<'_>,
    fx: &mut Effects,
) -> HttpResponse {
    let known = services.namespace.registry.device(key);
    let known = known.map(|device| (etag(device), device));
    match (call.method, known) {
        ("GET", Some((_, device))) => respond(&describe(services, key, device)),
        ("PUT" | "DELETE", Some((etag, _))) if is_stale(call, &etag) => {
            hub_error(412, "PreconditionFailed", "the etag is another one", call.clock, fx)
        }
        ("PUT", Some(_)) if call.request.if_match.is_none() => {
            let message = "A device with this id is registered already";
            hub_error(409, "DeviceAlreadyExists", message, call.clock, fx)
        }
        ("PUT", _) => enter(services, key, call, fx),
        ("DELETE", Some(_)) => {
            services.namespace.registry.remove(key);
            services.hubs.forget(key, fx);
            HttpResponse::empty(204)
        }
        ("GET" | "DELETE", None) => not_found(key, call, fx),
        _ => HttpResponse::empty(405),
    }
}

pub(super) fn not_found(key: &DeviceKey, call: Call<'_>, fx: &mut Effects) -> HttpResponse {
    let message = format!("{} is not registered", key.device_id);
    hub_error(404, "DeviceNotFound", &message, call.clock, fx)
}

fn enter(
    services: &mut Services,
    key: &DeviceKey,
    call: Call<'_>,
    fx: &mut Effects,
) -> HttpResponse {
    let former = services.namespace.registry.device(key);
    let entry = read(call, key).and_then(|entry| {
        let enabled = match entry.status {
            Some(status) => status == Status::Enabled,
            None => former.is_none_or(|former| former.enabled),
        };
        let first_policy = services.namespace.policies().next();
        Ok((credential(entry.authentication, former, first_policy, fx)?, enabled))
    });
    let (credential, enabled) = match entry {
        Ok(entry) => entry,
        Err(message) => return hub_error(400, "ArgumentInvalid", message, call.clock, fx),
    };
    let former = former.map(etag);
    let registry = &mut services.namespace.registry;
    registry.enter(key, (credential, enabled), call.clock.wall, &mut fx.rng);
    if registry.device(key).map(etag) != former {
        let why = "its credential was changed, or it was disabled";
        services.hubs.disconnect(key, why, fx);
    }
    match services.namespace.registry.device(key) {
        Some(device) => respond(&describe(services, key, device)),
        None => not_found(key, call, fx),
    }
}

fn read(call: Call<'_>, key: &DeviceKey) -> Result<Entry, &'static str> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-:.+%_#*?!(),=@;$'".contains(&byte);
    let id = &key.device_id;
    if !(1..=MAX_DEVICE_ID).contains(&id.len()) || !id.bytes().all(is_legal) {
        return Err("the device id has characters that no device id has, or more than 128");
    }
    let entry: Entry =
        serde_json::from_slice(&call.request.body).map_err(|_| "the body is no device")?;
    if entry.device_id.as_ref().is_some_and(|given| given != id) {
        return Err("the body is for another device");
    }
    Ok(entry)
}

/// A device that is issued its certificates stays under its policy. Another one that shall be comes under
/// the first there is, until it registers and its enrolment says which.
fn credential(
    given: Authentication,
    former: Option<&Device>,
    first_policy: Option<&Policy>,
    fx: &mut Effects,
) -> Result<HubCredential, &'static str> {
    match given.r#type.as_deref() {
        None | Some("sas") => {
            let KeysEntry { primary_key, secondary_key } = given.symmetric_key.unwrap_or_default();
            let mut key = |given: Option<String>| match given.filter(|text| !text.is_empty()) {
                Some(text) => SymmetricKey::from_base64(&text).map_err(|_| "a key is none"),
                None => SymmetricKey::generate(&mut fx.rng).map_err(|_| "no key was drawn"),
            };
            let (primary, secondary) = (Some(key(primary_key)?), Some(key(secondary_key)?));
            Ok(HubCredential::Keys(SymmetricKeys { primary, secondary }))
        }
        Some("selfSigned") => {
            let given = given.x509_thumbprint.ok_or("there are no thumbprints")?;
            let given = [given.primary_thumbprint, given.secondary_thumbprint];
            let thumbprints = given.iter().flatten().filter(|text| !text.is_empty());
            let thumbprints: Result<_, _> = thumbprints.map(|text| text.parse()).collect();
            let message = "a thumbprint is SHA-256 or SHA-1, 64 or 40 hex digits";
            Ok(HubCredential::Certificates(thumbprints.map_err(|_| message)?))
        }
        Some("certificateAuthority") => match former.map(|former| &former.credential) {
            Some(HubCredential::Issued { policy }) => {
                Ok(HubCredential::Issued { policy: policy.clone() })
            }
            _ => match first_policy {
                Some(policy) => Ok(HubCredential::Issued { policy: policy.settings.name.clone() }),
                None => Err("there is no policy under which certificates are issued"),
            },
        },
        Some(_) => Err("authentication is of no known type"),
    }
}

fn describe(services: &Services, key: &DeviceKey, device: &Device) -> Value {
    let text = |key: Option<&SymmetricKey>| key.map(|key| key.to_base64().to_string());
    let none = (None, None, None, None);
    let (r#type, (primary, secondary, first, second)) = match &device.credential {
        HubCredential::Keys(keys) => {
            ("sas", (text(keys.primary.as_ref()), text(keys.secondary.as_ref()), None, None))
        }
        HubCredential::Certificates(prints) => {
            let print = |at: usize| prints.get(at).map(ToString::to_string);
            ("selfSigned", (None, None, print(0), print(1)))
        }
        HubCredential::Issued { .. } => ("certificateAuthority", none),
    };
    json!({
        "deviceId": key.device_id,
        "generationId": device.created.as_secs().to_string(),
        "etag": etag(device),
        "status": if device.enabled { "enabled" } else { "disabled" },
        "connectionState": connection_state(services, key),
        "cloudToDeviceMessageCount": services.hubs.commands.count(key),
        "authentication": {
            "type": r#type,
            "symmetricKey": { "primaryKey": primary, "secondaryKey": secondary },
            "x509Thumbprint": { "primaryThumbprint": first, "secondaryThumbprint": second },
        },
        "capabilities": { "iotEdge": false },
    })
}

pub(super) fn connection_state(services: &Services, key: &DeviceKey) -> &'static str {
    if services.hubs.is_connected(key) { "Connected" } else { "Disconnected" }
}

/// Of everything an operator may change.
pub(super) fn etag(device: &Device) -> String {
    let mut hash = Sha256::new();
    hash.update([u8::from(device.enabled)]);
    match &device.credential {
        HubCredential::Keys(keys) => {
            for key in keys.iter() {
                hash.update(key.to_base64().as_bytes());
            }
        }
        HubCredential::Certificates(prints) => {
            for print in prints {
                hash.update(print.to_string());
            }
        }
        HubCredential::Issued { policy } => hash.update(policy),
    }
    Base64::encode_string(&hash.finalize()[..6])
}
