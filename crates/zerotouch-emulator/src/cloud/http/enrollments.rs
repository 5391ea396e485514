//! The provisioning service's API for those who own devices: enrolments (REST, 2021-10-01 and
//! 2025-07-01-preview).
//!
//! | request | |
//! |---|---|
//! | `GET`, `PUT`, `DELETE /enrollments/{id}` | an individual enrolment |
//! | `POST /enrollments/{id}/attestationmechanism` | how it attests, with its keys |
//! | `POST /enrollments/query` | all, by pages: one query is understood |
//! | `POST /enrollments` | up to ten at once |
//! | `…/enrollmentGroups…` | the same of groups |

mod attestation;
mod body;
mod kind;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;
use serde_json::{Value, json};
use zerotouch_credentials::KeyError;
use zerotouch_dps::IdError;
use zerotouch_wire::PropertyBag;

use self::body::EnrollmentBody;
pub(in crate::cloud) use self::body::InitialTwinBody;
pub(in crate::cloud) use self::kind::allocation_request;
use self::kind::{Kind, Reading};
use super::super::clock::uuid;
use super::super::effects::Effects;
use super::super::enrollment::Entry;
use super::super::fixture::{DpsApiVersion, EnrollmentGroup, FixtureError, IndividualEnrollment};
use super::super::refusal;
use super::super::services::Services;
use super::service::{is_authorized, respond};
use super::{Call, HttpResponse, registrations};

/// The most that one page holds, and that a client gets who does not say.
const MAX_PAGE: usize = 1000;
/// The most that can be changed at once (REST reference).
const MAX_BULK: usize = 10;

/// Why a request of an owner's is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("Unauthorized")]
    Unauthorized,
    #[error("Unknown api-version. (synthetic code)")]
    ApiVersion,
    #[error("Deserialization error: {0}")]
    Body(#[from] serde_json::Error),
    #[error("{0} (synthetic code)")]
    Id(#[from] IdError),
    #[error("{0} (synthetic code)")]
    Terms(#[from] FixtureError),
    #[error("{0} (synthetic code)")]
    Member(&'static str),
    #[error("Enrollment not found.")]
    NotFound,
    #[error("Registration not found.")]
    Unregistered,
    #[error("Enrollment already exists. (synthetic code)")]
    Exists,
    #[error("The etag is another one. (synthetic code)")]
    Stale,
    #[error("no key was drawn: {0}")]
    Key(#[from] KeyError),
}

impl Fault {
    const fn code(&self) -> u32 {
        match self {
            Self::ApiVersion | Self::Id(_) | Self::Terms(_) | Self::Member(_) => 400_004,
            Self::Body(_) => 400_012,
            Self::Unauthorized => 401_000,
            Self::NotFound => 404_201,
            Self::Unregistered => 404_202,
            Self::Exists => 409_001,
            Self::Stale => 412_001,
            Self::Key(_) => 500_001,
        }
    }

    fn respond(&self, call: Call<'_>, fx: &mut Effects) -> HttpResponse {
        let code = self.code();
        // The first three digits are the status.
        let status = u16::try_from(code / 1000).unwrap_or(500);
        let body = refusal::body(code, &self.to_string(), uuid(&mut fx.rng), None, call.clock);
        let mut response = HttpResponse::json(status, body);
        response.headers.push(("x-ms-error-code", code.to_string()));
        response
    }
}

pub(super) type Outcome = Result<HttpResponse, Fault>;

/// What a change expects to find.
#[derive(Clone, Copy)]
pub(super) enum Precondition<'a> {
    Anything,
    Nothing,
    /// Whatever it is.
    Something,
    Etag(&'a str),
}

impl<'a> Precondition<'a> {
    pub(super) fn if_match(given: Option<&'a str>, otherwise: Self) -> Self {
        match given {
            None => otherwise,
            Some("*") => Self::Something,
            Some(etag) => Self::Etag(etag),
        }
    }

    pub(super) fn check(self, found: Option<&str>) -> Result<(), Fault> {
        let bare = |etag: &'a str| etag.trim_matches('"');
        match (self, found) {
            (Self::Nothing, Some(_)) => Err(Fault::Exists),
            (Self::Something | Self::Etag(_), None) => Err(Fault::Stale),
            (Self::Etag(wanted), Some(found)) if bare(wanted) != found.trim_matches('"') => {
                Err(Fault::Stale)
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn answer(
    services: &mut Services,
    segments: &[&str],
    call: Call<'_>,
    fx: &mut Effects,
) -> HttpResponse {
    let outcome = if is_authorized(services, call) {
        let version = PropertyBag::new(call.query).get("api-version").unwrap_or_default();
        match services.dps.api_version(version).cloned() {
            Some(version) => route(services, segments, &version, call, fx),
            None => Err(Fault::ApiVersion),
        }
    } else {
        Err(Fault::Unauthorized)
    };
    outcome.unwrap_or_else(|fault| fault.respond(call, fx))
}

fn route(
    services: &mut Services,
    segments: &[&str],
    version: &DpsApiVersion,
    call: Call<'_>,
    fx: &mut Effects,
) -> Outcome {
    match segments {
        ["enrollments", rest @ ..] => {
            of_kind::<IndividualEnrollment>(services, rest, version, call, fx)
        }
        ["registrations", rest @ ..] => registrations::answer(services, rest, call),
        [_, rest @ ..] => of_kind::<EnrollmentGroup>(services, rest, version, call, fx),
        [] => Ok(HttpResponse::empty(404)),
    }
}

fn of_kind<K: Kind>(
    services: &mut Services,
    rest: &[&str],
    version: &DpsApiVersion,
    call: Call<'_>,
    fx: &mut Effects,
) -> Outcome {
    match (call.method, rest) {
        // One SDK ends the path in a slash.
        ("POST", [] | [""]) => bulk::<K>(services, version, call, fx),
        ("POST", ["query"]) => query::<K>(services, version, call),
        ("GET", [id]) => {
            let entry = find::<K>(services, id)?;
            Ok(respond(&describe(services, entry, version, false)))
        }
        ("PUT", [id]) => {
            let body = serde_json::from_slice(&call.request.body)?;
            let if_match = call.request.if_match.as_deref();
            let expected = Precondition::if_match(if_match, Precondition::Nothing);
            put::<K>(services, id, (body, expected), version, call, fx)?;
            let entry = find::<K>(services, id)?;
            Ok(respond(&describe(services, entry, version, true)))
        }
        ("DELETE", [id]) => {
            let if_match = call.request.if_match.as_deref();
            delete::<K>(services, id, Precondition::if_match(if_match, Precondition::Anything))?;
            Ok(HttpResponse::empty(204))
        }
        ("POST", [id, "attestationmechanism"]) => {
            let attestation = find::<K>(services, id)?.enrollment.attestation(true);
            Ok(respond(&serde_json::to_value(attestation)?))
        }
        (_, [] | [_] | [_, "attestationmechanism"]) => Ok(HttpResponse::empty(405)),
        _ => Ok(HttpResponse::empty(404)),
    }
}

fn find<'s, K: Kind>(services: &'s Services, id: &str) -> Result<&'s Entry<K>, Fault> {
    K::table(&services.dps.enrollments).get(&id.to_ascii_lowercase()).ok_or(Fault::NotFound)
}

fn put<K: Kind>(
    services: &mut Services,
    id: &str,
    (body, expected): (EnrollmentBody, Precondition<'_>),
    version: &DpsApiVersion,
    call: Call<'_>,
    fx: &mut Effects,
) -> Result<(), Fault> {
    let enrollments = &services.dps.enrollments;
    let former = K::table(enrollments).get(&id.to_ascii_lowercase());
    expected.check(former.map(Entry::etag).as_deref())?;
    let notes = body.notes();
    let former_enrollment = former.map(|entry| &entry.enrollment);
    let reading = Reading { id, former: former_enrollment, version };
    let enrollment = K::read(body, reading, &mut fx.rng)?;
    let has_policy = |name: &str| services.namespace.policy(name).is_some();
    enrollment.terms().check(id, has_policy, services.dps.map().hubs)?;
    if let Some(name) = enrollment.references().iter().find(|ca| !enrollments.has_authority(ca)) {
        let (enrollment, name) = (id.into(), name.clone());
        return Err(FixtureError::Unknown { enrollment, what: "CA", name }.into());
    }
    let created = former.map_or(call.clock.wall, |former| former.created);
    let entry = Entry { enrollment, created, updated: call.clock.wall, notes };
    K::table_mut(&mut services.dps.enrollments).insert(id.to_ascii_lowercase(), entry);
    Ok(())
}

fn delete<K: Kind>(
    services: &mut Services,
    id: &str,
    expected: Precondition<'_>,
) -> Result<(), Fault> {
    expected.check(Some(&find::<K>(services, id)?.etag()))?;
    K::table_mut(&mut services.dps.enrollments).remove(&id.to_ascii_lowercase());
    Ok(())
}

fn describe<K: Kind>(
    services: &Services,
    entry: &Entry<K>,
    version: &DpsApiVersion,
    with_keys: bool,
) -> Value {
    let mut body = K::describe(entry, with_keys);
    let (id, policy) = (entry.enrollment.id(), body.credential_policy_name.take());
    body.credential_policy_name = policy.filter(|_| version.issues_certificates);
    if K::IS_INDIVIDUAL {
        let registration = services.dps.registration(id, &services.namespace);
        body.registration_state = registration.map(|(_, state)| registrations::describe(state));
    }
    serde_json::to_value(body).unwrap_or_default()
}

#[derive(Deserialize)]
struct Query {
    query: String,
}

fn query<K: Kind>(services: &Services, version: &DpsApiVersion, call: Call<'_>) -> Outcome {
    let Query { query } = serde_json::from_slice(&call.request.body)?;
    let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
    let all = ["select", "*", "from", K::QUERIED];
    if words != ["*"] && words != all {
        return Err(Fault::Member("only * and SELECT * of all are emulated"));
    }
    let entries = K::table(&services.dps.enrollments).iter();
    let described = |entry: &Entry<K>| describe(services, entry, version, false);
    page(call, K::ITEM_TYPE, entries.map(|(key, entry)| (key, move || described(entry))))
}

/// A page of what there is, in order of its keys.
pub(super) fn page<'a, D: FnOnce() -> Value>(
    call: Call<'_>,
    item_type: &str,
    items: impl Iterator<Item = (&'a String, D)>,
) -> Outcome {
    let size = match call.request.header("x-ms-max-item-count") {
        None => MAX_PAGE,
        Some(text) => match text.parse() {
            Ok(size @ 1..) => MAX_PAGE.min(size),
            _ => return Err(Fault::Member("x-ms-max-item-count is no number of items")),
        },
    };
    let after = match call.request.header("x-ms-continuation") {
        None => None,
        Some(token) => {
            let key = Base64UrlUnpadded::decode_vec(token).ok();
            let key = key.and_then(|key| String::from_utf8(key).ok());
            Some(key.ok_or(Fault::Member("x-ms-continuation is not from here"))?)
        }
    };
    let mut items = items.filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
    let (mut found, mut last) = (Vec::new(), None);
    for (key, describe) in items.by_ref().take(size) {
        found.push(describe());
        last = Some(key);
    }
    let mut response = respond(&Value::Array(found));
    response.headers.push(("x-ms-item-type", item_type.into()));
    response.headers.push(("x-ms-max-item-count", size.to_string()));
    if let Some(last) = last.filter(|_| items.next().is_some()) {
        let token = Base64UrlUnpadded::encode_string(last.as_bytes());
        response.headers.push(("x-ms-continuation", token));
    }
    Ok(response)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bulk {
    mode: Mode,
    #[serde(alias = "enrollmentGroups")]
    enrollments: Vec<EnrollmentBody>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Mode {
    Create,
    Update,
    // SDKs differ.
    #[serde(alias = "updateIfMatchEtag")]
    #[serde(rename = "updateIfMatchETag")]
    UpdateIfMatchEtag,
    Delete,
}

/// Each by itself: what is wrong with one does not stop the others.
fn bulk<K: Kind>(
    services: &mut Services,
    version: &DpsApiVersion,
    call: Call<'_>,
    fx: &mut Effects,
) -> Outcome {
    let Bulk { mode, enrollments } = serde_json::from_slice(&call.request.body)?;
    if !(1..=MAX_BULK).contains(&enrollments.len()) {
        return Err(Fault::Member("1 to 10 enrolments can be changed at once"));
    }
    let mut errors = Vec::new();
    for body in enrollments {
        let id = K::id_of(&body).unwrap_or_default().to_owned();
        let etag = body.etag.clone().unwrap_or_default();
        let expected = match mode {
            Mode::Create => Precondition::Nothing,
            Mode::Update => Precondition::Something,
            Mode::UpdateIfMatchEtag => Precondition::Etag(&etag),
            Mode::Delete => Precondition::Anything,
        };
        let outcome = match mode {
            Mode::Delete => delete::<K>(services, &id, expected),
            _ => put::<K>(services, &id, (body, expected), version, call, fx),
        };
        if let Err(fault) = outcome {
            let (code, status) = (fault.code(), fault.to_string());
            errors.push(json!({ K::ID: id, "errorCode": code, "errorStatus": status }));
        }
    }
    Ok(respond(&json!({ "isSuccessful": errors.is_empty(), "errors": errors })))
}
