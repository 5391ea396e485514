//! Who asks the provisioning service, and how it is told that it may not.

use zerotouch_dps::wire::{RegistrationOperationStatus, RegistrationState, RegistrationStatus};

use super::clock::{Clock, uuid};
use super::effects::Effects;
use super::enrollment::Attested;
use super::event::CloudEvent;
use super::fixture::DpsApiVersion;
use super::operation::Answer;
use super::refusal::{self, DpsRefusal};

/// Who asks, and whether it may.
#[derive(Debug)]
pub(super) struct Registrant {
    pub(super) registration_id: String,
    pub(super) api_version: DpsApiVersion,
    pub(super) attested: Result<Attested, DpsRefusal>,
}

impl Registrant {
    /// Ids are compared without regard to case.
    pub(super) fn key(&self) -> String {
        self.registration_id.to_ascii_lowercase()
    }

    pub(super) fn refuse(&self, refusal: &DpsRefusal, clock: Clock, fx: &mut Effects) -> Answer {
        let (status, code, message) = refusal.answer();
        let tracking_id = uuid(&mut fx.rng);
        fx.tell(CloudEvent::RegistrationRefused {
            registration_id: self.registration_id.clone(),
            status,
            code: Some(code),
            tracking_id: Some(tracking_id.clone()),
            reason: refusal.to_string(),
        });
        let body = refusal::body(code, &message, tracking_id, None, clock);
        let retry_after = refusal.retry_after();
        Answer { status, code: Some(code), retry_after, operation_id: None, body }
    }

    /// A disabled enrolment is no error on the wire: status 200, and `disabled` in the body, with an
    /// empty operation id (recorded from the real service).
    pub(super) fn answer_disabled(&self, attested: &Attested, fx: &mut Effects) -> Answer {
        fx.tell(CloudEvent::RegistrationRefused {
            registration_id: self.registration_id.clone(),
            status: 200,
            code: None,
            tracking_id: None,
            reason: format!("the enrolment {:?} is disabled", attested.enrollment.as_str()),
        });
        let body = RegistrationOperationStatus {
            operation_id: Some(String::new()),
            status: RegistrationStatus::Disabled,
            registration_state: Some(RegistrationState {
                registration_id: Some(self.registration_id.clone()),
                status: Some(RegistrationStatus::Disabled),
                ..RegistrationState::default()
            }),
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        Answer { status: 200, code: None, retry_after: None, operation_id: None, body }
    }
}
