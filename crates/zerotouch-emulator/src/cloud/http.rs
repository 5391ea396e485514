//! What the services do over HTTPS: the provisioning service's device API, and the uploading of files.
//!
//! | path | who answers |
//! |---|---|
//! | `/{id scope}/registrations/{registration id}…` | the provisioning service, to devices |
//! | `/devices/{device id}/files…` | a hub, to devices |
//! | `/$uploads/{device id}/{name}?{token}` | the storage account of the hubs |
//! | `/devices…`, `/twins/…`, `/messages/…`, `/statistics/…` | a hub, to services |
//! | `/enrollments…`, `/enrollmentGroups…`, `/registrations/…` | the provisioning service, to services |
//! | `/$emulator/…`, `/healthz` | the emulator itself |
//!
//! A request is answered whole, and whoever made it is judged with each. One of them waits for a device: the
//! call of a direct method; and one has no end: the events.

mod devices;
mod emulator;
mod enrollments;
mod events;
mod files;
mod messages;
mod methods;
mod namespace;
mod registration;
mod registrations;
mod service;
mod twins;

use serde_json::json;
use zerotouch_wire::percent_decode;

pub(in crate::cloud) use self::enrollments::{InitialTwinBody, allocation_request};
pub use self::events::EventFilter;
pub(in crate::cloud) use self::files::Uploads;
pub(in crate::cloud) use self::methods::conclude;
pub use self::service::SERVICE_POLICIES;
use super::clock::{Clock, uuid};
use super::effects::Effects;
use super::exchange::{HttpRequest, HttpResponse, RequestId};
use super::refusal;
use super::services::Services;

/// An error in the shape of the hubs' HTTPS API.
fn hub_error(
    status: u16,
    code: &str,
    message: &str,
    clock: Clock,
    fx: &mut Effects,
) -> HttpResponse {
    let (tracking_id, time) = (uuid(&mut fx.rng), clock.timestamp());
    let body = json!({
        "Message": format!("ErrorCode:{code};{message}"),
        "ExceptionMessage": format!("Tracking ID:{tracking_id}-TimeStamp:{time}"),
    });
    let mut response = HttpResponse::json(status, body.to_string().into_bytes());
    response.headers.push(("iothub-errorcode", code.into()));
    response
}

/// An error in the shape of the part of a hub that talks to devices: with a number, in JSON within JSON.
fn device_error(
    (number, code): (u32, &str),
    message: &str,
    clock: Clock,
    fx: &mut Effects,
) -> HttpResponse {
    let body = refusal::body(number, message, uuid(&mut fx.rng), None, clock);
    let body = json!({ "Message": String::from_utf8_lossy(&body), "ExceptionMessage": "" });
    let status = u16::try_from(number / 1000).unwrap_or(500);
    let mut response = HttpResponse::json(status, body.to_string().into_bytes());
    response.headers.push(("iothub-errorcode", code.into()));
    response
}

/// A request, taken apart.
#[derive(Clone, Copy)]
struct Call<'a> {
    id: RequestId,
    request: &'a HttpRequest,
    method: &'a str,
    query: &'a str,
    /// The host without its port.
    host: &'a str,
    clock: Clock,
}

/// Answers a request; `None` if the answer comes later.
pub(super) fn answer(
    services: &mut Services,
    (id, request): (RequestId, &HttpRequest),
    clock: Clock,
    fx: &mut Effects,
) -> Option<HttpResponse> {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let segments: Option<Vec<_>> =
        path.trim_start_matches('/').split('/').map(|one| percent_decode(one).ok()).collect();
    let Some(segments) = segments else { return Some(HttpResponse::empty(400)) };
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    let host = match request.host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => &request.host,
    };
    let call = Call { id, request, method: &request.method, query, host, clock };
    Some(match *segments {
        [emulator::PREFIX, ref rest @ ..] => emulator::answer(services, rest, call, fx),
        ["healthz"] => HttpResponse::json(200, br#"{"status":"ok"}"#.to_vec()),
        ["enrollments" | "enrollmentGroups" | "enrollmentgroups" | "registrations", ..] => {
            enrollments::answer(services, &segments, call, fx)
        }
        [id_scope, "registrations", registration_id, ref rest @ ..] => {
            registration::answer(services, (id_scope, registration_id, rest), call, fx)
        }
        ["devices", device_id, "files", ref rest @ ..] => {
            files::answer(services, (device_id, rest), call, fx)
        }
        [files::CONTAINER, ref name @ ..] => files::store(services, name, call, fx),
        ["devices" | "twins" | "messages" | "statistics", ..] => {
            return service::answer(services, &segments, call, fx);
        }
        _ => HttpResponse::empty(404),
    })
}
