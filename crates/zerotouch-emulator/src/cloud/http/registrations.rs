//! The provisioning service's API for those who own devices: what has become of registrations.
//!
//! | request | |
//! |---|---|
//! | `GET`, `DELETE /registrations/{id}` | the state of one |
//! | `POST /registrations/{group}/query` | those of a group, by pages |

use zerotouch_dps::wire::RegistrationState;

use super::super::services::Services;
use super::enrollments::{Fault, Outcome, Precondition, page};
use super::service::respond;
use super::{Call, HttpResponse};

pub(super) fn answer(services: &mut Services, rest: &[&str], call: Call<'_>) -> Outcome {
    match (call.method, rest) {
        ("GET", [id]) => Ok(respond(&serde_json::to_value(find(services, id)?)?)),
        ("DELETE", [id]) => {
            let etag = find(services, id)?.etag.unwrap_or_default();
            let if_match = call.request.if_match.as_deref();
            Precondition::if_match(if_match, Precondition::Anything).check(Some(&etag))?;
            services.dps.forget(id, &mut services.namespace);
            Ok(HttpResponse::empty(204))
        }
        ("POST", [group, "query"]) => {
            let dps = &services.dps;
            dps.enrollments.group(group).ok_or(Fault::NotFound)?;
            let of_group = dps.operations().filter(|(_, operation)| {
                operation.enrollment.group().is_some_and(|one| one.eq_ignore_ascii_case(group))
            });
            let states = of_group.filter_map(|(id, _)| {
                let (_, state) = dps.registration(id, &services.namespace)?;
                let body = move || serde_json::to_value(describe(state)).unwrap_or_default();
                Some((id, body))
            });
            page(call, "deviceRegistration", states)
        }
        (_, [_] | [_, "query"]) => Ok(HttpResponse::empty(405)),
        _ => Ok(HttpResponse::empty(404)),
    }
}

fn find(services: &Services, id: &str) -> Result<RegistrationState, Fault> {
    let found = services.dps.registration(id, &services.namespace);
    found.map(|(_, state)| describe(state)).ok_or(Fault::Unregistered)
}

/// What an owner is told: less than the device.
pub(super) fn describe(state: RegistrationState) -> RegistrationState {
    RegistrationState { x509: None, symmetric_key: None, issued_certificate_chain: None, ..state }
}
