//! The Azure Device Registry namespace, as its operator sees it. The service has this in Azure Resource
//! Manager; the actions bear its names.
//!
//! | request, below `/$emulator/namespace` | |
//! |---|---|
//! | `GET /credential`, `POST /credential/synchronize` | the root; the hubs are given the issuing authorities |
//! | `GET /policies`, `GET`, `PUT`, `DELETE /policies/{name}` | the credential policies |
//! | `POST /policies/{name}/activateBringYourOwnRoot` | what an external root has signed: `{"certificateChain": PEM}` |
//! | `POST /policies/{name}/revokeIssuer` | another issuing authority |
//! | `GET /devices`, `GET`, `PATCH /devices/{registration id}` | `attributes`, `tags`, `enabled` |
//! | `POST /devices/{registration id}/revoke` | its certificates are refused: `{"disable": false}` |

use serde::Deserialize;
use serde_json::{Map, Value, json};
use zerotouch_credentials::{Certificate, CertificateChain};

use super::super::authority::AuthorityError;
use super::super::clock::rfc3339;
use super::super::effects::Effects;
use super::super::fixture::CredentialPolicy;
use super::super::namespace::{Issuing, Policy};
use super::super::registry::{Device, DeviceKey, HubCredential};
use super::super::services::Services;
use super::super::twin::merge;
use super::emulator::{error, read};
use super::service::respond;
use super::{Call, HttpResponse};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Activation {
    certificate_chain: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Revocation {
    disable: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DeviceChange {
    attributes: Map<String, Value>,
    tags: Map<String, Value>,
    enabled: Option<bool>,
}

pub(super) fn answer(
    services: &mut Services,
    segments: &[&str],
    call: Call<'_>,
    fx: &mut Effects,
) -> HttpResponse {
    let namespace = &mut services.namespace;
    match (call.method, segments) {
        ("GET", ["credential"]) => {
            respond(&json!({ "certificate": crate::pem::certificate(namespace.root()) }))
        }
        ("POST", ["credential", "synchronize"]) => {
            namespace.synchronize();
            HttpResponse::empty(204)
        }
        ("GET", ["policies"]) => {
            let policies: Vec<Value> = namespace.policies().map(describe_policy).collect();
            respond(&json!({ "value": policies }))
        }
        ("POST", ["policies", name, "activateBringYourOwnRoot"]) => {
            let chain = read::<Activation>(call).and_then(|body| {
                CertificateChain::from_pem(&body.certificate_chain)
                    .map_err(|fault| error(400, "InvalidChain", &fault.to_string()))
            });
            match chain {
                Ok(chain) => changed(namespace.activate(name, &chain), services, name),
                Err(refusal) => refusal,
            }
        }
        ("POST", ["policies", name, "revokeIssuer"]) => {
            let revoked = namespace.revoke_issuer(name, call.clock.wall, &mut fx.rng);
            if revoked.is_ok() {
                services.disconnect_policy(name, fx);
            }
            changed(revoked, services, name)
        }
        (method, ["policies", name]) => policy(services, (method, name), call, fx),
        ("GET", ["devices"]) => {
            let devices = services.registered();
            let devices: Vec<Value> =
                devices.map(|(key, device)| describe_device(services, key, device)).collect();
            respond(&json!({ "value": devices }))
        }
        ("GET", ["devices", id]) => device(services, id),
        ("PATCH", ["devices", id]) => match read::<DeviceChange>(call) {
            Ok(change) => {
                let known = services.namespace.registry.device_mut(id);
                let Some(known) = known else { return unknown_device(id) };
                merge(&mut known.attributes, change.attributes);
                merge(&mut known.tags, change.tags);
                known.enabled = change.enabled.unwrap_or(known.enabled);
                if !known.enabled {
                    services.disconnect(id, fx);
                }
                device(services, id)
            }
            Err(refusal) => refusal,
        },
        ("POST", ["devices", id, "revoke"]) => {
            let revocation = match call.request.body.trim_ascii() {
                [] => Ok(Revocation::default()),
                _ => read(call),
            };
            match revocation {
                Ok(Revocation { disable }) if services.revoke(id, disable, fx) => {
                    device(services, id)
                }
                Ok(_) => unknown_device(id),
                Err(refusal) => refusal,
            }
        }
        (_, ["credential" | "policies" | "devices", ..]) => HttpResponse::empty(405),
        _ => HttpResponse::empty(404),
    }
}

fn policy(
    services: &mut Services,
    (method, name): (&str, &str),
    call: Call<'_>,
    fx: &mut Effects,
) -> HttpResponse {
    let namespace = &mut services.namespace;
    match method {
        "GET" => changed(Ok(()), services, name),
        "PUT" => {
            let settings = read::<Map<String, Value>>(call).and_then(|mut body| {
                body.insert("name".into(), name.into());
                // Here it is a step of its own.
                body.entry("synchronized").or_insert(false.into());
                serde_json::from_value::<CredentialPolicy>(body.into())
                    .map_err(|fault| error(400, "InvalidBody", &fault.to_string()))
            });
            match settings {
                Ok(settings) => {
                    let put = namespace.put_policy(settings, call.clock.wall, &mut fx.rng);
                    changed(put.map_err(AuthorityError::from), services, name)
                }
                Err(refusal) => refusal,
            }
        }
        "DELETE" if services.is_referenced(name) => {
            error(409, "PolicyInUse", "an enrolment names this policy")
        }
        "DELETE" if services.namespace.remove_policy(name) => HttpResponse::empty(204),
        "DELETE" => changed(Err(AuthorityError::UnknownPolicy), services, name),
        _ => HttpResponse::empty(405),
    }
}

/// A policy, after what was done to it.
fn changed(outcome: Result<(), AuthorityError>, services: &Services, name: &str) -> HttpResponse {
    let policy = outcome.and_then(|()| {
        services.namespace.policy(name).ok_or(AuthorityError::UnknownPolicy).map(describe_policy)
    });
    match policy {
        Ok(policy) => respond(&policy),
        Err(AuthorityError::UnknownPolicy) => {
            error(404, "PolicyNotFound", "there is no policy of that name")
        }
        Err(fault @ AuthorityError::Active) => error(409, "PolicyActive", &fault.to_string()),
        Err(fault) => error(400, "InvalidChain", &fault.to_string()),
    }
}

fn describe_policy(policy: &Policy) -> Value {
    let Policy { settings, issuing, .. } = policy;
    let request = issuing.request(&settings.name).map(|request| crate::pem::request(&request));
    let mut description = serde_json::to_value(settings).unwrap_or_default();
    description["synchronized"] = policy.is_synchronized().into();
    description["status"] = match issuing {
        Issuing::Pending { .. } => "pendingActivation".into(),
        Issuing::Active { .. } => "active".into(),
    };
    description["certificateSigningRequest"] = request.into();
    description["certificate"] = issuing.certificate().map(crate::pem::certificate).into();
    description["validUntil"] =
        issuing.certificate().map(Certificate::not_after).map(rfc3339).into();
    description
}

fn device(services: &Services, registration_id: &str) -> HttpResponse {
    let registry = &services.namespace.registry;
    let known = registry
        .registration(registration_id)
        .and_then(|key| registry.device(key).map(|device| (key, device)));
    match known {
        Some((key, device)) => respond(&describe_device(services, key, device)),
        None => unknown_device(registration_id),
    }
}

fn unknown_device(registration_id: &str) -> HttpResponse {
    error(404, "DeviceNotFound", &format!("{registration_id} has not registered"))
}

fn describe_device(services: &Services, key: &DeviceKey, device: &Device) -> Value {
    let policy = match &device.credential {
        HubCredential::Issued { policy } => Some(policy),
        _ => None,
    };
    json!({
        "uuid": device.uuid,
        "registrationId": device.registration_id,
        "deviceId": key.device_id,
        "hub": services.hub_names()[key.hub],
        "enabled": device.enabled,
        "credentialPolicy": policy,
        "identifier": device.identifier,
        "attributes": device.attributes,
        "tags": device.tags,
        "created": rfc3339(device.created),
        "updated": rfc3339(device.updated),
        "registrations": device.generation,
    })
}
