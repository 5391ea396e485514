//! The provisioning service on one MQTT connection.
//!
//! | state of a registration | input | answer | next |
//! |---|---|---|---|
//! | none | register | 202, `retry-after` | `Assigning` |
//! | `Assigning` | status, too early | 202, `retry-after` | `Assigning` |
//! | | status | 200 `assigned`, perhaps with a chain | `Assigned` |
//! | `Assigned` | status | the same 200 | `Assigned` |
//! | any | register | 202 under a new operation id | `Assigning` |
//!
//! As with the real service a credential is judged with the first request, not at CONNECT: a device
//! without a right to register connects, and reads why not on the topic of its answer. Requests are
//! acknowledged before they are answered, and answers carry `$rid` first.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding};
use rand_core::Rng;
use serde_json::json;
use sha2::{Digest, Sha256};
use zerotouch_credentials::CertificateRequest;
use zerotouch_dps::ConnectionProfile;
use zerotouch_dps::wire::{
    MAX_MESSAGE_LENGTH, REGISTER_PREFIX, REPLY_PREFIX, RegisterRequest,
    RegistrationOperationStatus, RegistrationState, RegistrationStatus, STATUS_PREFIX,
};
use zerotouch_mqtt_codec::{Publish, QoS};
use zerotouch_time::Instant;
use zerotouch_wire::PropertyBag;

use super::clock::{rfc3339, uuid};
use super::csr;
use super::effects::{At, Command, Effects};
use super::enrollment::{Attested, Enrollments, Evidence, Proof, copy};
use super::event::{CloudEvent, Via};
use super::fixture::{DpsApiVersion, DpsSettings};
use super::namespace::Namespace;
use super::refusal::{self, DpsRefusal};
use super::registry::{Device, DeviceKey, HubCredential, Substatus};
use super::throttle::Throttle;

/// The service.
#[derive(Debug)]
pub(super) struct Dps {
    id_scope: String,
    hubs: Vec<String>,
    settings: DpsSettings,
    pub(super) enrollments: Enrollments,
    /// The latest operation of each registration id (in lower case).
    operations: BTreeMap<String, Operation>,
    registrations: Throttle,
}

/// A connection to the service.
#[derive(Debug)]
pub(super) struct Session {
    registration_id: String,
    api_version: DpsApiVersion,
    attested: Result<Attested, DpsRefusal>,
    subscription: Option<QoS>,
}

#[derive(Debug)]
struct Operation {
    id: String,
    polls: Throttle,
    state: State,
}

#[derive(Debug)]
enum State {
    Assigning { ready_at: Instant, request: Option<CertificateRequest> },
    Assigned { substatus: Substatus, issued: Option<Issued> },
}

/// A device certificate and the policy it was issued under.
#[derive(Clone, Debug)]
struct Issued {
    policy: String,
    leaf: Vec<u8>,
}

/// What a request is answered with.
struct Answer {
    status: u16,
    retry_after: bool,
    body: RegistrationOperationStatus,
}

impl Dps {
    pub(super) fn new(
        id_scope: String,
        hubs: Vec<String>,
        settings: DpsSettings,
        enrollments: Enrollments,
    ) -> Self {
        Self {
            id_scope,
            hubs,
            settings,
            enrollments,
            operations: BTreeMap::new(),
            registrations: Throttle::default(),
        }
    }

    pub(super) fn id_scope(&self) -> &str {
        &self.id_scope
    }

    /// The api-version of that name, if this service knows it.
    pub(super) fn api_version(&self, name: &str) -> Option<&DpsApiVersion> {
        self.settings.api_versions.iter().find(|version| version.name == name)
    }

    /// A client whose CONNECT was well-formed is let in; what it may do is judged here and told later.
    pub(super) fn connect(
        &self,
        evidence: Evidence<'_>,
        api_version: DpsApiVersion,
        at: At,
    ) -> Session {
        let attested = if evidence.id_scope == self.id_scope {
            self.enrollments.attest(evidence, at.clock)
        } else {
            Err(DpsRefusal::IdScope {
                given: evidence.id_scope.into(),
                expected: self.id_scope.clone(),
            })
        };
        let registration_id = evidence.registration_id.into();
        Session { registration_id, api_version, attested, subscription: None }
    }

    pub(super) fn publish(
        &mut self,
        session: &Session,
        publish: &Publish<'_>,
        namespace: &mut Namespace,
        at: At,
        fx: &mut Effects,
    ) {
        let topic = publish.topic.as_str();
        let (register, bag) = match topic.strip_prefix(REGISTER_PREFIX) {
            Some(bag) => (true, Some(bag)),
            None => (false, topic.strip_prefix(STATUS_PREFIX)),
        };
        let Some(bag) = bag.map(PropertyBag::new) else {
            return fx.command(at.connection, Command::Close);
        };
        if publish.qos() == QoS::ExactlyOnce || publish.payload.len() > MAX_MESSAGE_LENGTH {
            return fx.command(at.connection, Command::Close);
        }
        if let Some(id) = publish.packet_identifier() {
            fx.command(at.connection, Command::Acknowledge(id));
        }
        // Without a request id nobody could tell what an answer is for.
        let Some(request_id) = bag.get("$rid") else { return };

        let outcome = match &session.attested {
            Err(refusal) => return session.refuse(request_id, refusal, at, fx),
            Ok(attested) if !attested.enabled => {
                return session.answer_disabled(request_id, attested, at, fx);
            }
            Ok(attested) if register => {
                self.register(session, attested, publish.payload, namespace, at, fx)
            }
            Ok(attested) => {
                let operation_id = bag.get("operationId").unwrap_or_default();
                self.status(session, attested, operation_id, namespace, at, fx)
            }
        };
        match outcome {
            Ok(answer) => {
                let retry_after = answer.retry_after.then_some(self.settings.retry_after.as_secs());
                // Strings and numbers: nothing in it can fail to serialise.
                let body = serde_json::to_vec(&answer.body).unwrap_or_default();
                session.reply(request_id, answer.status, retry_after, body, at, fx);
            }
            Err(refusal) => session.refuse(request_id, &refusal, at, fx),
        }
    }

    fn register(
        &mut self,
        session: &Session,
        attested: &Attested,
        body: &[u8],
        namespace: &Namespace,
        at: At,
        fx: &mut Effects,
    ) -> Result<Answer, DpsRefusal> {
        self.registrations
            .pass(self.settings.registrations, at.clock.monotonic)
            .map_err(|retry_after| DpsRefusal::Throttled { retry_after })?;
        // Some SDKs send nothing, some a space.
        let body = body.trim_ascii();
        let request: RegisterRequest = if body.is_empty() {
            RegisterRequest::default()
        } else {
            serde_json::from_slice(body).map_err(DpsRefusal::Body)?
        };
        let is_other = |given: &String| !given.eq_ignore_ascii_case(&session.registration_id);
        if let Some(given) = request.registration_id.filter(is_other) {
            return Err(DpsRefusal::BodyRegistrationId { given });
        }
        let request = match request.csr {
            Some(_) if !session.api_version.issues_certificates => {
                let version = session.api_version.name.clone();
                return Err(DpsRefusal::CsrVersion { version });
            }
            Some(csr) => {
                let policy = attested.policy.as_deref();
                let keys = policy.map(|name| namespace.keys(name)).unwrap_or_default();
                let names = [&*session.registration_id, &*attested.device_id];
                Some(csr::check(&csr, names, keys)?)
            }
            None => None,
        };
        let operation = Operation {
            id: operation_id(fx),
            polls: Throttle::default(),
            state: State::Assigning {
                ready_at: at.clock.monotonic + self.settings.assign_delay,
                request,
            },
        };
        let answer = operation.assigning(None);
        self.operations.insert(session.registration_id.to_ascii_lowercase(), operation);
        Ok(answer)
    }

    fn status(
        &mut self,
        session: &Session,
        attested: &Attested,
        operation_id: &str,
        namespace: &mut Namespace,
        at: At,
        fx: &mut Effects,
    ) -> Result<Answer, DpsRefusal> {
        let hubs = &self.hubs;
        let operation = self
            .operations
            .get_mut(&session.registration_id.to_ascii_lowercase())
            .filter(|operation| operation.id == operation_id)
            .ok_or_else(|| DpsRefusal::Operation { given: operation_id.into() })?;
        operation
            .polls
            .pass(self.settings.polls, at.clock.monotonic)
            .map_err(|retry_after| DpsRefusal::Throttled { retry_after })?;
        if let State::Assigning { ready_at, request } = &operation.state {
            if at.clock.monotonic < *ready_at {
                return Ok(operation.assigning(Some(&session.registration_id)));
            }
            let (substatus, issued) =
                assign(session, attested, request.as_ref(), (hubs, namespace), at, fx)?;
            operation.state = State::Assigned { substatus, issued };
        }
        let profile =
            session.api_version.tells_profile.then_some(&self.settings.connection_profile);
        operation.assigned(session, attested, (hubs, profile), namespace)
    }
}

/// Enters the device into the namespace, at its hub, and certifies its key if it asked for that and
/// the enrolment has a policy.
fn assign(
    session: &Session,
    attested: &Attested,
    request: Option<&CertificateRequest>,
    (hubs, namespace): (&[String], &mut Namespace),
    at: At,
    fx: &mut Effects,
) -> Result<(Substatus, Option<Issued>), DpsRefusal> {
    let hub = match &attested.hub {
        Some(fixed) => hubs.iter().position(|hub| hub == fixed).unwrap_or_default(),
        None => spread(&session.registration_id, hubs.len()),
    };
    let key = DeviceKey { hub, device_id: attested.device_id.clone() };
    let certify = request.zip(attested.policy.as_ref());
    let credential = match (certify, &attested.proof) {
        (Some((_, policy)), _) => HubCredential::Issued { policy: policy.clone() },
        (None, Proof::Key(device_key)) => HubCredential::Key(copy(device_key)?),
        (None, Proof::Certificate(thumbprint)) => HubCredential::Certificate(*thumbprint),
    };
    let substatus = namespace.registry.register(
        &session.registration_id,
        &key,
        credential,
        at.clock.wall,
        &mut fx.rng,
    );
    fx.tell(CloudEvent::DeviceRegistered {
        registration_id: session.registration_id.clone(),
        enrollment: attested.enrollment.as_str().into(),
        hub: hubs[hub].clone(),
        device_id: key.device_id.clone(),
        substatus: substatus.as_str(),
    });
    let issued = match certify {
        Some((request, policy)) => {
            let leaf = namespace
                .issue(policy, &key, request, Via::Dps, at.clock, fx)
                .map_err(DpsRefusal::NotIssued)?;
            Some(Issued { policy: policy.clone(), leaf: leaf.as_der().to_vec() })
        }
        None => None,
    };
    Ok((substatus, issued))
}

/// Which of `hubs` a device goes to: always the same, and over many devices evenly.
fn spread(registration_id: &str, hubs: usize) -> usize {
    let hash = Sha256::digest(registration_id.to_ascii_lowercase());
    let number = hash[..8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    // The remainder is below the number of hubs, which is a usize.
    usize::try_from(number % hubs.max(1) as u64).unwrap_or_default()
}

/// In the real service's shape: `5.{16 hex digits}.{guid}`.
fn operation_id(fx: &mut Effects) -> String {
    format!("5.{:016x}.{}", fx.rng.next_u64(), uuid(&mut fx.rng))
}

impl Operation {
    fn assigning(&self, registration_id: Option<&str>) -> Answer {
        Answer {
            status: 202,
            retry_after: true,
            body: RegistrationOperationStatus {
                operation_id: Some(self.id.clone()),
                status: RegistrationStatus::Assigning,
                registration_state: registration_id.map(|id| RegistrationState {
                    registration_id: Some(id.into()),
                    status: Some(RegistrationStatus::Assigning),
                    ..RegistrationState::default()
                }),
            },
        }
    }

    fn assigned(
        &self,
        session: &Session,
        attested: &Attested,
        (hubs, profile): (&[String], Option<&ConnectionProfile>),
        namespace: &Namespace,
    ) -> Result<Answer, DpsRefusal> {
        let gone = || DpsRefusal::Operation { given: self.id.clone() };
        let State::Assigned { substatus, issued } = &self.state else { return Err(gone()) };
        let key = namespace.registry.registration(&session.registration_id).ok_or_else(gone)?;
        let device = namespace.registry.device(key).ok_or_else(gone)?;
        let attestation = match attested.enrollment.group() {
            Some(group) => json!({ "enrollmentGroupId": group }),
            None => json!({}),
        };
        let (x509, symmetric_key) = match attested.proof {
            Proof::Key(_) => (None, Some(attestation)),
            Proof::Certificate(_) => (Some(attestation), None),
        };
        let chain = |issued: &Issued| namespace.authority.chain_of(&issued.policy, &issued.leaf);
        Ok(Answer {
            status: 200,
            retry_after: false,
            body: RegistrationOperationStatus {
                operation_id: Some(self.id.clone()),
                status: RegistrationStatus::Assigned,
                registration_state: Some(RegistrationState {
                    x509,
                    symmetric_key,
                    registration_id: Some(session.registration_id.clone()),
                    created_date_time_utc: Some(rfc3339(device.created)),
                    assigned_hub: Some(hubs[key.hub].clone()),
                    device_id: Some(key.device_id.clone()),
                    status: Some(RegistrationStatus::Assigned),
                    substatus: Some(substatus.as_str().into()),
                    last_updated_date_time_utc: Some(rfc3339(device.updated)),
                    etag: Some(etag(device)),
                    issued_certificate_chain: issued.as_ref().map(chain),
                    connection_profile: profile.cloned(),
                    ..RegistrationState::default()
                }),
            },
        })
    }
}

/// Base64 of a quoted string, changing with each registration.
fn etag(device: &Device) -> String {
    Base64::encode_string(format!("\"{:08x}-{}\"", device.generation, device.uuid).as_bytes())
}

impl Session {
    /// The client subscribed to the answers, or no longer does.
    pub(super) fn set_subscription(&mut self, granted: Option<QoS>) {
        self.subscription = granted;
    }

    fn refuse(&self, request_id: &str, refusal: &DpsRefusal, at: At, fx: &mut Effects) {
        let (status, code, message) = refusal.answer();
        let tracking_id = uuid(&mut fx.rng);
        fx.tell(CloudEvent::RegistrationRefused {
            registration_id: self.registration_id.clone(),
            status,
            code: Some(code),
            tracking_id: Some(tracking_id.clone()),
            reason: refusal.to_string(),
        });
        let body = refusal::body(code, message, tracking_id, None, at.clock);
        self.reply(request_id, status, refusal.retry_after(), body, at, fx);
    }

    /// A disabled enrolment is no error on the wire: status 200, and `disabled` in the body, with an
    /// empty operation id (recorded from the real service).
    fn answer_disabled(&self, request_id: &str, attested: &Attested, at: At, fx: &mut Effects) {
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
        self.reply(request_id, 200, None, body, at, fx);
    }

    /// Answers on the topic that SDKs parse to the letter: `$rid` first, as it was written, then
    /// `retry-after`. A client that has not subscribed hears nothing.
    fn reply(
        &self,
        request_id: &str,
        status: u16,
        retry_after: Option<u64>,
        body: Vec<u8>,
        at: At,
        fx: &mut Effects,
    ) {
        let Some(qos) = self.subscription else { return };
        let pace = retry_after.map(|seconds| format!("&retry-after={seconds}"));
        let pace = pace.unwrap_or_default();
        let topic = format!("{REPLY_PREFIX}{status}/?$rid={request_id}{pace}");
        fx.publish(at.connection, topic, body, qos);
    }
}
