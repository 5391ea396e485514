//! The provisioning service's device API over HTTPS (Azure docs, "Register a device").
//!
//! | request | as over MQTT |
//! |---|---|
//! | `PUT /{id scope}/registrations/{id}/register` | register |
//! | `GET /{id scope}/registrations/{id}/operations/{operation id}` | status |
//! | `POST /{id scope}/registrations/{id}` | none: the state of the registration alone |

use zerotouch_dps::RegistrationId;
use zerotouch_wire::PropertyBag;

use super::super::dps::{Answer, Request};
use super::super::effects::Effects;
use super::super::enrollment::Evidence;
use super::super::fault::Operation;
use super::super::services::Services;
use super::{Call, HttpResponse};

pub(super) fn answer(
    services: &mut Services,
    (id_scope, registration_id, rest): (&str, &str, &[&str]),
    call: Call<'_>,
    fx: &mut Effects,
) -> HttpResponse {
    let request = match (call.method, rest) {
        ("PUT", ["register"]) => Request::Register(&call.request.body),
        ("GET", ["operations", operation_id]) => Request::Status { operation_id },
        ("POST", []) => Request::Lookup,
        (_, ["register"] | ["operations", _] | []) => return HttpResponse::empty(405),
        _ => return HttpResponse::empty(404),
    };
    let api_version = PropertyBag::new(call.query).get("api-version").unwrap_or_default();
    let Some(api_version) = services.dps.api_version(api_version).cloned() else {
        return HttpResponse::empty(400);
    };
    if RegistrationId::new(registration_id).is_err() {
        return HttpResponse::empty(400);
    }
    let evidence = Evidence {
        id_scope,
        registration_id,
        chain: &call.request.client_chain,
        password: call.request.authorization.as_deref().map(str::as_bytes),
    };
    let registrant = services.dps.identify(evidence, api_version, call.clock);
    let operation = match request {
        Request::Register(_) => Some(Operation::Register),
        Request::Status { .. } => Some(Operation::Status),
        Request::Lookup => None,
    };
    let strikes = operation.map(|operation| fx.strike(operation, registration_id));
    let strikes = strikes.unwrap_or_default();
    let namespace = &mut services.namespace;
    let answer = services.dps.answer(&registrant, request, namespace, &strikes, call.clock, fx);
    let path = format!("{id_scope}/registrations/{registration_id}");
    respond(answer, &path, call)
}

fn respond(answer: Answer, path: &str, call: Call<'_>) -> HttpResponse {
    let Answer { status, code, retry_after, operation_id, body } = answer;
    let mut response = HttpResponse::json(status, body);
    response.headers.extend(retry_after.map(|seconds| ("retry-after", seconds.to_string())));
    response.headers.extend(code.map(|code| ("x-ms-error-code", code.to_string())));
    if let (202, Some(id)) = (status, operation_id) {
        let host = &call.request.host;
        let location = format!("https://{host}/{path}/operations/{id}?{}", call.query);
        response.headers.push(("location", location));
    }
    response
}
