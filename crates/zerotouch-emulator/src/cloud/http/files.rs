//! Uploading files (Azure docs, "Upload files with IoT Hub"): the hub names a place, the device puts the
//! file there, and tells the hub how that went.
//!
//! | an upload | request | next |
//! |---|---|---|
//! | none | `POST /devices/{id}/files` | open |
//! | open | `PUT` of the file, with the token | open, stored |
//! | open | `POST /devices/{id}/files/notifications` | none |

use std::collections::BTreeMap;

use base64ct::{Base64UrlUnpadded, Encoding};
use rand_core::Rng;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::super::admission::{self, Evidence};
use super::super::clock::uuid;
use super::super::effects::Effects;
use super::super::event::CloudEvent;
use super::super::namespace::hex;
use super::super::registry::DeviceKey;
use super::super::services::Services;
use super::{Call, HttpResponse, hub_error};

/// Where the storage account's only container is.
pub(super) const CONTAINER: &str = "$uploads";
/// How many uploads of one device may be open (Azure docs, "IoT Hub quotas and throttling").
const MAX_OPEN: usize = 10;
/// The longest name Azure Storage allows, in characters.
const MAX_BLOB_NAME: usize = 1024;

/// The uploads that are open, by their correlation id.
#[derive(Debug, Default)]
pub(in crate::cloud) struct Uploads(BTreeMap<String, Upload>);

#[derive(Debug)]
struct Upload {
    device: DeviceKey,
    /// The device's id, a slash, and the name it asked for.
    blob_name: String,
    /// What the request with the file has to carry as its query.
    token: String,
    /// Of what was stored.
    sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    blob_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    correlation_id: String,
    #[serde(default)]
    is_success: bool,
    #[serde(default)]
    status_code: i64,
    #[serde(default)]
    status_description: String,
}

/// A device's request to its hub.
pub(super) fn answer(
    services: &mut Services,
    (device_id, rest): (&str, &[&str]),
    call: Call<'_>,
    fx: &mut Effects,
) -> HttpResponse {
    let unauthorized = |fx: &mut Effects, reason: String| {
        fx.tell(CloudEvent::HubRefused { device_id: device_id.into(), reason });
        hub_error(401, "IotHubUnauthorizedAccess", "Unauthorized", call.clock, fx)
    };
    let Some(hub) = services.hubs.position(call.host) else {
        return unauthorized(fx, format!("no hub is called {:?}", call.host));
    };
    let device = DeviceKey { hub, device_id: device_id.into() };
    let password = call.request.authorization.as_deref().map(str::as_bytes);
    let evidence = Evidence { host: call.host, chain: &call.request.client_chain, password };
    if let Err(refusal) = admission::admit(&device, evidence, &services.namespace, call.clock) {
        return unauthorized(fx, refusal.to_string());
    }
    let uploads = &mut services.uploads;
    match (call.method, rest) {
        ("POST", []) => uploads.open(device, call, fx),
        // The vendor's Node.js client repeats the correlation id in the path.
        ("POST", ["notifications"] | ["notifications", _]) => uploads.report(&device, call, fx),
        (_, [] | ["notifications"] | ["notifications", _]) => HttpResponse::empty(405),
        _ => HttpResponse::empty(404),
    }
}

/// The storage account: stores a file. It knows nothing of devices; the token is enough.
pub(super) fn store(
    services: &mut Services,
    name: &[&str],
    call: Call<'_>,
    fx: &mut Effects,
) -> HttpResponse {
    if call.method != "PUT" {
        return HttpResponse::empty(405);
    }
    let name = name.join("/");
    let mut uploads = services.uploads.0.values_mut();
    let upload = uploads.find(|upload| upload.token == call.query && upload.blob_name == name);
    let Some(upload) = upload else {
        let body = "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error>\
                    <Code>AuthenticationFailed</Code></Error>";
        let headers = vec![("content-type", "application/xml".into())];
        return HttpResponse { headers, body: body.into(), ..HttpResponse::empty(403) };
    };
    let body = &call.request.body;
    upload.sha256 = Some(hex(&Sha256::digest(body)));
    fx.tell(CloudEvent::FileStored {
        device_id: upload.device.device_id.clone(),
        blob_name: name,
        length: body.len(),
    });
    HttpResponse::empty(201)
}

impl Uploads {
    fn open(&mut self, device: DeviceKey, call: Call<'_>, fx: &mut Effects) -> HttpResponse {
        let Ok(Open { blob_name }) = serde_json::from_slice(&call.request.body) else {
            return hub_error(400, "ArgumentInvalid", "BlobName is missing", call.clock, fx);
        };
        let length = blob_name.chars().count();
        if !(1..=MAX_BLOB_NAME).contains(&length) || blob_name.contains(char::is_control) {
            return hub_error(400, "ArgumentInvalid", "BlobName is invalid", call.clock, fx);
        }
        if self.0.values().filter(|upload| upload.device == device).count() >= MAX_OPEN {
            let message = "The number of active file upload requests is limited to 10";
            return hub_error(403, "TooManyFileUploads", message, call.clock, fx);
        }
        let correlation_id = uuid(&mut fx.rng);
        let mut signature = [0; 32];
        fx.rng.fill_bytes(&mut signature);
        let token = format!("sv=2018-03-28&sig={}", Base64UrlUnpadded::encode_string(&signature));
        let blob_name = format!("{}/{blob_name}", device.device_id);
        let body = json!({
            "correlationId": correlation_id,
            "hostName": call.request.host,
            "containerName": CONTAINER,
            "blobName": blob_name,
            "sasToken": format!("?{token}"),
        });
        self.0.insert(correlation_id, Upload { device, blob_name, token, sha256: None });
        HttpResponse::json(200, body.to_string().into_bytes())
    }

    fn report(&mut self, device: &DeviceKey, call: Call<'_>, fx: &mut Effects) -> HttpResponse {
        let Ok(report) = serde_json::from_slice::<Report>(&call.request.body) else {
            return hub_error(400, "ArgumentInvalid", "correlationId is missing", call.clock, fx);
        };
        let is_theirs = |upload: &Upload| upload.device == *device;
        if !self.0.get(&report.correlation_id).is_some_and(is_theirs) {
            let message = "no upload has this correlationId";
            return hub_error(404, "CorrelationIdNotFound", message, call.clock, fx);
        }
        if let Some(upload) = self.0.remove(&report.correlation_id) {
            fx.tell(CloudEvent::FileUploaded {
                device_id: device.device_id.clone(),
                blob_name: upload.blob_name,
                sha256: upload.sha256.filter(|_| report.is_success),
                status_code: report.status_code,
                status_description: report.status_description,
            });
        }
        HttpResponse::empty(204)
    }
}
