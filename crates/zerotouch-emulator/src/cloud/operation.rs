//! An operation of the provisioning service: one registration of one device, under way or done.

use std::time::Duration;

use base64ct::{Base64, Encoding};
use rand_core::Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use zerotouch_credentials::CertificateRequest;
use zerotouch_dps::ConnectionProfile;
use zerotouch_dps::wire::{RegistrationOperationStatus, RegistrationState, RegistrationStatus};
use zerotouch_time::{Instant, UnixTime};

use super::clock::{rfc3339, uuid};
use super::effects::Effects;
use super::enrollment::EnrollmentName;
use super::namespace::Namespace;
use super::registry::{Device, Substatus};
use super::text_form;
use super::webhook::Allotment;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Operation {
    pub(super) id: String,
    /// As the device writes it.
    pub(super) registration_id: String,
    pub(super) enrollment: EnrollmentName,
    /// Whether the device has shown a certificate, and no token.
    pub(super) by_certificate: bool,
    pub(super) state: State,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum State {
    Assigning(Assigning),
    Assigned {
        substatus: Substatus,
        /// What was issued with it, as it is sent.
        chain: Option<Vec<String>>,
        /// From the webhook, for the device.
        payload: Option<Box<RawValue>>,
    },
    Failed {
        code: u32,
        message: String,
        #[serde(with = "text_form::one")]
        at: UnixTime,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Assigning {
    /// One that was kept is ready at once.
    #[serde(skip)]
    pub(super) ready_at: Instant,
    #[serde(with = "text_form::optional")]
    pub(super) request: Option<CertificateRequest>,
    /// From the device, for the webhook.
    pub(super) payload: Option<Box<RawValue>>,
    /// Whoever was asked by an earlier cloud is asked again.
    #[serde(skip)]
    pub(super) question: Question,
}

/// How far the question to a webhook is.
#[derive(Debug, Default)]
pub(super) enum Question {
    #[default]
    Unasked,
    Asked,
    Answered(Box<Allotment>),
}

/// What a request is answered with.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The code that the body has, too.
    pub(super) code: Option<u32>,
    /// In seconds.
    pub(super) retry_after: Option<u64>,
    pub(super) operation_id: Option<String>,
    pub(super) body: Vec<u8>,
}

/// In the real service's shape: `5.{16 hex digits}.{guid}`.
pub(super) fn operation_id(fx: &mut Effects) -> String {
    format!("5.{:016x}.{}", fx.rng.next_u64(), uuid(&mut fx.rng))
}

impl Operation {
    pub(super) fn answer(
        &self,
        status: u16,
        retry_after: Option<u64>,
        registration_status: RegistrationStatus,
        registration_state: Option<RegistrationState>,
    ) -> Answer {
        let body = RegistrationOperationStatus {
            operation_id: Some(self.id.clone()),
            status: registration_status,
            registration_state,
        };
        // Strings and numbers: nothing in it can fail to serialise.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        Answer { status, code: None, retry_after, operation_id: Some(self.id.clone()), body }
    }

    /// Asks the device to come again; `begun` if it has been told so before.
    pub(super) fn answer_assigning(&self, begun: bool, retry_after: Duration) -> Answer {
        let state = begun.then(|| self.named(RegistrationStatus::Assigning));
        self.answer(202, Some(retry_after.as_secs()), RegistrationStatus::Assigning, state)
    }

    /// The state of one that has not ended well: status, code and words.
    pub(super) fn ended(
        &self,
        (status, error_code, message): (&str, Option<u32>, Option<&str>),
    ) -> RegistrationState {
        RegistrationState {
            error_code,
            error_message: message.map(String::from),
            ..self.named(RegistrationStatus::from(status.to_owned()))
        }
    }

    fn named(&self, status: RegistrationStatus) -> RegistrationState {
        RegistrationState {
            registration_id: Some(self.registration_id.clone()),
            status: Some(status),
            ..RegistrationState::default()
        }
    }

    /// The state of the registration; `None` if the device is gone that was registered.
    pub(super) fn registration(
        &self,
        hubs: &[String],
        namespace: &Namespace,
    ) -> Option<RegistrationState> {
        let (substatus, chain, payload) = match &self.state {
            State::Assigning(_) => return Some(self.named(RegistrationStatus::Assigning)),
            State::Failed { code, message, at } => {
                return Some(RegistrationState {
                    error_code: Some(*code),
                    error_message: Some(message.clone()),
                    last_updated_date_time_utc: Some(rfc3339(*at)),
                    ..self.named(RegistrationStatus::Failed)
                });
            }
            State::Assigned { substatus, chain, payload } => (substatus, chain, payload),
        };
        let key = namespace.registry.registration(&self.registration_id)?;
        let device = namespace.registry.device(key)?;
        let attestation = match self.enrollment.group() {
            Some(group) => json!({ "enrollmentGroupId": group }),
            None => json!({}),
        };
        let (x509, symmetric_key) =
            if self.by_certificate { (Some(attestation), None) } else { (None, Some(attestation)) };
        Some(RegistrationState {
            x509,
            symmetric_key,
            created_date_time_utc: Some(rfc3339(device.created)),
            assigned_hub: hubs.get(key.hub).cloned(),
            device_id: Some(key.device_id.clone()),
            substatus: Some(substatus.as_str().into()),
            last_updated_date_time_utc: Some(rfc3339(device.updated)),
            etag: Some(etag(device)),
            issued_certificate_chain: chain.clone(),
            payload: payload.clone(),
            ..self.named(RegistrationStatus::Assigned)
        })
    }
}

/// What the device is told beside: to those whose api-version tells.
pub(super) fn with_profile(
    state: RegistrationState,
    profile: Option<&ConnectionProfile>,
) -> RegistrationState {
    RegistrationState { connection_profile: profile.cloned(), ..state }
}

/// Base64 of a quoted string, changing with each registration.
fn etag(device: &Device) -> String {
    Base64::encode_string(format!("\"{:08x}-{}\"", device.generation, device.uuid).as_bytes())
}
