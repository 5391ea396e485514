//! What the two kinds of enrolments have in common, and where they differ.

use chacha20::ChaCha20Rng;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use zerotouch_dps::RegistrationId;

use super::super::super::allocation::Map;
use super::super::super::enrollment::{Attested, EnrollmentName, Enrollments, Entry, Proof};
use super::super::super::fixture::{
    DpsApiVersion, EnrollmentGroup, FixtureError, IndividualEnrollment, Terms, is_device_id,
};
use super::super::super::table::Table;
use super::Fault;
use super::attestation::{self, AttestationBody};
use super::body::EnrollmentBody;

/// What a body is read for.
pub(super) struct Reading<'a, K> {
    /// The id in the path.
    pub(super) id: &'a str,
    /// What is to be changed.
    pub(super) former: Option<&'a K>,
    pub(super) version: &'a DpsApiVersion,
}

pub(super) trait Kind: Serialize + Sized {
    /// The name of the id's member.
    const ID: &'static str;
    const IS_INDIVIDUAL: bool;
    /// What queries call all of them, in lower case.
    const QUERIED: &'static str;
    const ITEM_TYPE: &'static str;

    fn table(enrollments: &Enrollments) -> &Table<String, Entry<Self>>;

    fn table_mut(enrollments: &mut Enrollments) -> &mut Table<String, Entry<Self>>;

    fn id_of(body: &EnrollmentBody) -> Option<&str>;

    fn id(&self) -> &str;

    fn read(
        body: EnrollmentBody,
        reading: Reading<'_, Self>,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, Fault>;

    fn describe(entry: &Entry<Self>, with_keys: bool) -> EnrollmentBody;

    fn attestation(&self, with_keys: bool) -> AttestationBody;

    fn terms(&self) -> Terms<'_>;

    /// The names of the authorities it refers to.
    fn references(&self) -> &[String];
}

impl Kind for IndividualEnrollment {
    const ID: &'static str = "registrationId";
    const IS_INDIVIDUAL: bool = true;
    const QUERIED: &'static str = "enrollments";
    const ITEM_TYPE: &'static str = "enrollment";

    fn table(enrollments: &Enrollments) -> &Table<String, Entry<Self>> {
        &enrollments.individuals
    }

    fn table_mut(enrollments: &mut Enrollments) -> &mut Table<String, Entry<Self>> {
        &mut enrollments.individuals
    }

    fn id_of(body: &EnrollmentBody) -> Option<&str> {
        body.registration_id.as_deref()
    }

    fn id(&self) -> &str {
        &self.registration_id
    }

    fn read(
        mut body: EnrollmentBody,
        reading: Reading<'_, Self>,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, Fault> {
        check_id::<Self>(&body, reading.id)?;
        let device_id = body.device_id.take().filter(|id| !id.is_empty());
        if let Some(given) = device_id.clone().filter(|id| !is_device_id(id)) {
            return Err(FixtureError::DeviceId { given }.into());
        }
        let former = reading.former.map(|former| &former.attestation);
        let given = body.attestation.take().ok_or(Fault::Member("attestation is missing"))?;
        let terms = body.terms(reading.former.map(Self::terms), reading.version)?;
        Ok(Self {
            registration_id: reading.id.into(),
            device_id,
            attestation: attestation::individual(given, former, rng)?,
            enabled: terms.enabled,
            credential_policy: terms.credential_policy,
            allocation: terms.allocation,
            hubs: terms.hubs,
            reprovision: terms.reprovision,
            initial_twin: terms.initial_twin,
        })
    }

    fn describe(entry: &Entry<Self>, with_keys: bool) -> EnrollmentBody {
        let enrollment = &entry.enrollment;
        let mut body = EnrollmentBody::describe(entry, enrollment.terms());
        body.registration_id = Some(enrollment.registration_id.clone());
        body.device_id.clone_from(&enrollment.device_id);
        body.attestation = Some(Kind::attestation(enrollment, with_keys));
        body
    }

    fn attestation(&self, with_keys: bool) -> AttestationBody {
        attestation::of_individual(&self.attestation, with_keys)
    }

    fn terms(&self) -> Terms<'_> {
        self.terms()
    }

    fn references(&self) -> &[String] {
        self.ca_references()
    }
}

impl Kind for EnrollmentGroup {
    const ID: &'static str = "enrollmentGroupId";
    const IS_INDIVIDUAL: bool = false;
    const QUERIED: &'static str = "enrollmentgroups";
    const ITEM_TYPE: &'static str = "enrollmentGroup";

    fn table(enrollments: &Enrollments) -> &Table<String, Entry<Self>> {
        &enrollments.groups
    }

    fn table_mut(enrollments: &mut Enrollments) -> &mut Table<String, Entry<Self>> {
        &mut enrollments.groups
    }

    fn id_of(body: &EnrollmentBody) -> Option<&str> {
        body.enrollment_group_id.as_deref()
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn read(
        mut body: EnrollmentBody,
        reading: Reading<'_, Self>,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, Fault> {
        check_id::<Self>(&body, reading.id)?;
        let former = reading.former.map(|former| &former.attestation);
        let given = body.attestation.take().ok_or(Fault::Member("attestation is missing"))?;
        let terms = body.terms(reading.former.map(Self::terms), reading.version)?;
        Ok(Self {
            id: reading.id.into(),
            attestation: attestation::group(given, former, rng)?,
            enabled: terms.enabled,
            credential_policy: terms.credential_policy,
            allocation: terms.allocation,
            hubs: terms.hubs,
            reprovision: terms.reprovision,
            initial_twin: terms.initial_twin,
        })
    }

    fn describe(entry: &Entry<Self>, with_keys: bool) -> EnrollmentBody {
        let enrollment = &entry.enrollment;
        let mut body = EnrollmentBody::describe(entry, enrollment.terms());
        body.enrollment_group_id = Some(enrollment.id.clone());
        body.attestation = Some(Kind::attestation(enrollment, with_keys));
        body
    }

    fn attestation(&self, with_keys: bool) -> AttestationBody {
        attestation::of_group(&self.attestation, with_keys)
    }

    fn terms(&self) -> Terms<'_> {
        self.terms()
    }

    fn references(&self) -> &[String] {
        self.ca_references()
    }
}

/// The id in the body is that in the path, and groups are called like registrations.
fn check_id<K: Kind>(body: &EnrollmentBody, id: &str) -> Result<(), Fault> {
    RegistrationId::new(id)?;
    match K::id_of(body) {
        Some(given) if !given.eq_ignore_ascii_case(id) => {
            Err(Fault::Member("the body is for another id"))
        }
        _ => Ok(()),
    }
}

/// The body of a question to a webhook about a device: its enrolment, what it is and has sent, and where it
/// may go. `current` is where it is, hub and name.
pub(in crate::cloud) fn allocation_request(
    (enrollments, map): (&Enrollments, Map<'_>),
    (registration_id, attested): (&str, &Attested),
    (current, payload): (Option<(&str, &str)>, Option<&RawValue>),
) -> Option<Vec<u8>> {
    let name = attested.enrollment.as_str().to_ascii_lowercase();
    let terms = enrollments.terms(&attested.enrollment)?;
    let (member, enrollment) = match &attested.enrollment {
        EnrollmentName::Individual(_) => {
            let entry = enrollments.individuals.get(&name)?;
            ("individualEnrollment", Kind::describe(entry, false))
        }
        EnrollmentName::Group(_) => {
            ("enrollmentGroup", Kind::describe(enrollments.groups.get(&name)?, false))
        }
    };
    let mut device = json!({ "registrationId": registration_id });
    if let Some((hub, device_id)) = current {
        device["currentIotHubHostName"] = hub.into();
        device["currentDeviceId"] = device_id.into();
    }
    match &attested.proof {
        Proof::Keys(_) => device["symmetricKey"] = json!({}),
        Proof::Certificate(certificate) => {
            let info = attestation::info(certificate);
            device["x509"] = json!({ "clientCertificates": { "primary": { "info": info } } });
        }
    }
    if let Some(payload) = payload {
        device["payload"] = serde_json::from_str(payload.get()).ok()?;
    }
    let linked: Vec<&str> = map.open(terms).map(|(_, hub)| hub).collect();
    let question =
        json!({ member: enrollment, "deviceRuntimeContext": device, "linkedHubs": linked });
    Some(question.to_string().into_bytes())
}
