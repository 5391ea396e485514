//! The provisioning service: what a device is answered, over MQTT or HTTPS.
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

use std::time::Duration;

use base64ct::{Base64, Encoding};
use rand_core::Rng;
use serde::{Deserialize, Serialize};
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

use super::clock::{Clock, rfc3339, uuid};
use super::csr;
use super::effects::{At, Command, Effects, Message};
use super::enrollment::{Attested, Enrollments, Evidence, Proof};
use super::event::{CloudEvent, Via};
use super::fault::{Fault, Operation as Step, Strikes};
use super::fixture::{DpsApiVersion, DpsSettings};
use super::namespace::Namespace;
use super::refusal::{self, DpsRefusal};
use super::registry::{Device, DeviceKey, HubCredential, Substatus};
use super::table::{Kept, Table};
use super::text_form;
use super::throttle::Throttle;

/// The service.
#[derive(Debug)]
pub(super) struct Dps {
    id_scope: String,
    hubs: Vec<String>,
    settings: DpsSettings,
    pub(super) enrollments: Enrollments,
    /// The latest operation of each registration id (in lower case).
    operations: Table<String, Operation>,
    registrations: Throttle,
}

/// Who asks, and whether it may.
#[derive(Debug)]
pub(super) struct Registrant {
    registration_id: String,
    api_version: DpsApiVersion,
    attested: Result<Attested, DpsRefusal>,
}

/// An MQTT connection to the service.
#[derive(Debug)]
pub(super) struct Session {
    registrant: Registrant,
    subscription: Option<QoS>,
}

/// What a device asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request<'a> {
    /// To be registered; this is the body.
    Register(&'a [u8]),
    /// How a registration goes.
    Status { operation_id: &'a str },
    /// Where it belongs. Over HTTPS alone.
    Lookup,
}

#[derive(Debug, Serialize, Deserialize)]
struct Operation {
    id: String,
    #[serde(skip)]
    polls: Throttle,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum State {
    Assigning {
        /// One that was kept is ready at once.
        #[serde(skip)]
        ready_at: Instant,
        #[serde(with = "text_form::optional")]
        request: Option<CertificateRequest>,
    },
    Assigned {
        substatus: Substatus,
        /// What was issued with it, as it is sent.
        chain: Option<Vec<String>>,
    },
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
            operations: Table::default(),
            registrations: Throttle::default(),
        }
    }

    pub(super) fn id_scope(&self) -> &str {
        &self.id_scope
    }

    pub(super) fn tables(&mut self) -> [(&'static str, &mut dyn Kept); 3] {
        let [groups, individuals] = self.enrollments.tables();
        [groups, individuals, ("operations", &mut self.operations)]
    }

    /// The api-version of that name, if this service knows it.
    pub(super) fn api_version(&self, name: &str) -> Option<&DpsApiVersion> {
        self.settings.api_versions.iter().find(|version| version.name == name)
    }

    /// What one may do who shows this is judged here and told with the answer to a request.
    pub(super) fn identify(
        &self,
        evidence: Evidence<'_>,
        api_version: DpsApiVersion,
        clock: Clock,
    ) -> Registrant {
        let attested = if evidence.id_scope == self.id_scope {
            self.enrollments.attest(evidence, clock)
        } else {
            Err(DpsRefusal::IdScope {
                given: evidence.id_scope.into(),
                expected: self.id_scope.clone(),
            })
        };
        let registration_id = evidence.registration_id.into();
        Registrant { registration_id, api_version, attested }
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
        let operation = if register { Step::Register } else { Step::Status };
        let strikes = fx.strike(operation, &session.registrant.registration_id);
        if strikes.has(&Fault::DropBeforeAcknowledgement) {
            return fx.command(at.connection, Command::Close);
        }
        if let Some(id) = publish.packet_identifier() {
            fx.command(at.connection, Command::Acknowledge(id));
        }
        if strikes.has(&Fault::DropAfterAcknowledgement) {
            fx.command(at.connection, Command::Close);
        }
        // Without a request id nobody could tell what an answer is for.
        let Some(request_id) = bag.get("$rid") else { return };
        let request = if register {
            Request::Register(publish.payload)
        } else {
            Request::Status { operation_id: bag.get("operationId").unwrap_or_default() }
        };
        let clock = at.clock;
        let answer = self.answer(&session.registrant, request, namespace, &strikes, clock, fx);
        session.reply(request_id, answer, &strikes, at, fx);
    }

    /// Answers a request.
    pub(super) fn answer(
        &mut self,
        registrant: &Registrant,
        request: Request<'_>,
        namespace: &mut Namespace,
        strikes: &Strikes,
        clock: Clock,
        fx: &mut Effects,
    ) -> Answer {
        if let Some(error) = strikes.error() {
            return registrant.refuse(&DpsRefusal::Injected(error), clock, fx);
        }
        let answer = match (&registrant.attested, request) {
            (Err(refusal), _) => return registrant.refuse(refusal, clock, fx),
            (Ok(attested), _) if !attested.enabled => {
                return registrant.answer_disabled(attested, fx);
            }
            (Ok(attested), Request::Register(body)) => {
                self.register(registrant, attested, body, namespace, clock, fx)
            }
            (Ok(attested), Request::Status { operation_id }) => {
                let request = (operation_id, strikes);
                self.status(registrant, attested, request, namespace, clock, fx)
            }
            (Ok(attested), Request::Lookup) => self.look_up(registrant, attested, namespace),
        };
        answer.unwrap_or_else(|refusal| registrant.refuse(&refusal, clock, fx))
    }

    fn register(
        &mut self,
        registrant: &Registrant,
        attested: &Attested,
        body: &[u8],
        namespace: &Namespace,
        clock: Clock,
        fx: &mut Effects,
    ) -> Result<Answer, DpsRefusal> {
        self.registrations
            .pass(self.settings.registrations, clock.monotonic)
            .map_err(|retry_after| DpsRefusal::Throttled { retry_after })?;
        // Some SDKs send nothing, some a space.
        let body = body.trim_ascii();
        let request: RegisterRequest = if body.is_empty() {
            RegisterRequest::default()
        } else {
            serde_json::from_slice(body).map_err(DpsRefusal::Body)?
        };
        let is_other = |given: &String| !given.eq_ignore_ascii_case(&registrant.registration_id);
        if let Some(given) = request.registration_id.filter(is_other) {
            return Err(DpsRefusal::BodyRegistrationId { given });
        }
        let request = match request.csr {
            Some(_) if !registrant.api_version.issues_certificates => {
                let version = registrant.api_version.name.clone();
                return Err(DpsRefusal::CsrVersion { version });
            }
            Some(csr) => {
                let policy = attested.policy.as_deref();
                let keys = policy.map(|name| namespace.keys(name)).unwrap_or_default();
                let names = [&*registrant.registration_id, &*attested.device_id];
                Some(csr::check(&csr, names, keys)?)
            }
            None => None,
        };
        let operation = Operation {
            id: operation_id(fx),
            polls: Throttle::default(),
            state: State::Assigning {
                ready_at: clock.monotonic + self.settings.assign_delay,
                request,
            },
        };
        let answer = operation.assigning(None, self.settings.retry_after);
        self.operations.insert(registrant.registration_id.to_ascii_lowercase(), operation);
        Ok(answer)
    }

    fn status(
        &mut self,
        registrant: &Registrant,
        attested: &Attested,
        (operation_id, strikes): (&str, &Strikes),
        namespace: &mut Namespace,
        clock: Clock,
        fx: &mut Effects,
    ) -> Result<Answer, DpsRefusal> {
        let hubs = &self.hubs;
        let operation = self
            .operations
            .get_mut(&registrant.registration_id.to_ascii_lowercase())
            .filter(|operation| operation.id == operation_id)
            .ok_or_else(|| DpsRefusal::Operation { given: operation_id.into() })?;
        operation
            .polls
            .pass(self.settings.polls, clock.monotonic)
            .map_err(|retry_after| DpsRefusal::Throttled { retry_after })?;
        if let Some(outcome) = strikes.outcome() {
            let state = ended(&registrant.registration_id, outcome);
            let status = state.status.clone().unwrap_or_default();
            return Ok(operation.answer(200, None, status, Some(state)));
        }
        if strikes.has(&Fault::Stuck) {
            return Ok(
                operation.assigning(Some(&registrant.registration_id), self.settings.retry_after)
            );
        }
        if let State::Assigning { ready_at, request } = &operation.state {
            if clock.monotonic < *ready_at {
                return Ok(operation
                    .assigning(Some(&registrant.registration_id), self.settings.retry_after));
            }
            let (substatus, chain) =
                assign(registrant, attested, request.as_ref(), (hubs, namespace), clock, fx)?;
            operation.state = State::Assigned { substatus, chain };
        }
        let profile =
            registrant.api_version.tells_profile.then_some(&self.settings.connection_profile);
        let state = operation.assigned(registrant, attested, (hubs, profile), namespace)?;
        Ok(operation.answer(200, None, RegistrationStatus::Assigned, Some(state)))
    }

    /// The state of a registration, whichever operation it came of.
    fn look_up(
        &self,
        registrant: &Registrant,
        attested: &Attested,
        namespace: &Namespace,
    ) -> Result<Answer, DpsRefusal> {
        let id = registrant.registration_id.as_str();
        let operation = self.operations.get(&id.to_ascii_lowercase());
        let operation = operation.ok_or_else(|| DpsRefusal::Unregistered)?;
        let profile =
            registrant.api_version.tells_profile.then_some(&self.settings.connection_profile);
        let state = match operation.state {
            State::Assigning { .. } => assigning(id),
            State::Assigned { .. } => {
                operation.assigned(registrant, attested, (&self.hubs, profile), namespace)?
            }
        };
        let body = serde_json::to_vec(&state).unwrap_or_default();
        Ok(Answer { status: 200, code: None, retry_after: None, operation_id: None, body })
    }
}

fn assigning(registration_id: &str) -> RegistrationState {
    RegistrationState {
        registration_id: Some(registration_id.into()),
        status: Some(RegistrationStatus::Assigning),
        ..RegistrationState::default()
    }
}

/// A registration that has not ended well.
fn ended(
    registration_id: &str,
    (status, error_code, message): (&str, Option<u32>, Option<&str>),
) -> RegistrationState {
    RegistrationState {
        registration_id: Some(registration_id.into()),
        status: Some(RegistrationStatus::from(status.to_owned())),
        error_code,
        error_message: message.map(String::from),
        ..RegistrationState::default()
    }
}

/// Enters the device into the namespace, at its hub, and certifies its key if it asked for that and
/// the enrolment has a policy.
fn assign(
    registrant: &Registrant,
    attested: &Attested,
    request: Option<&CertificateRequest>,
    (hubs, namespace): (&[String], &mut Namespace),
    clock: Clock,
    fx: &mut Effects,
) -> Result<(Substatus, Option<Vec<String>>), DpsRefusal> {
    let hub = match &attested.hub {
        Some(fixed) => hubs.iter().position(|hub| hub == fixed).unwrap_or_default(),
        None => spread(&registrant.registration_id, hubs.len()),
    };
    let key = DeviceKey { hub, device_id: attested.device_id.clone() };
    let certify = request.zip(attested.policy.as_ref());
    let credential = match (certify, &attested.proof) {
        (Some((_, policy)), _) => HubCredential::Issued { policy: policy.clone() },
        (None, Proof::Keys(keys)) => HubCredential::Keys(keys.copy()),
        (None, Proof::Certificate(thumbprint)) => {
            HubCredential::Certificates(vec![(*thumbprint).into()])
        }
    };
    let substatus = namespace.registry.register(
        &registrant.registration_id,
        &key,
        credential,
        clock.wall,
        &mut fx.rng,
    );
    fx.tell(CloudEvent::DeviceRegistered {
        registration_id: registrant.registration_id.clone(),
        enrollment: attested.enrollment.as_str().into(),
        hub: hubs[hub].clone(),
        device_id: key.device_id.clone(),
        substatus: substatus.as_str(),
    });
    let fault = fx.strike(Step::Assign, &registrant.registration_id).chain();
    let chain = match certify {
        Some((request, policy)) => namespace
            .issue((policy, &key, request), (Via::Dps, fault), clock, fx)
            .map_err(DpsRefusal::NotIssued)?,
        None => None,
    };
    Ok((substatus, chain))
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
    fn answer(
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

    fn assigning(&self, registration_id: Option<&str>, retry_after: Duration) -> Answer {
        let state = registration_id.map(assigning);
        self.answer(202, Some(retry_after.as_secs()), RegistrationStatus::Assigning, state)
    }

    fn assigned(
        &self,
        registrant: &Registrant,
        attested: &Attested,
        (hubs, profile): (&[String], Option<&ConnectionProfile>),
        namespace: &Namespace,
    ) -> Result<RegistrationState, DpsRefusal> {
        let gone = || DpsRefusal::Operation { given: self.id.clone() };
        let State::Assigned { substatus, chain } = &self.state else { return Err(gone()) };
        let key = namespace.registry.registration(&registrant.registration_id).ok_or_else(gone)?;
        let device = namespace.registry.device(key).ok_or_else(gone)?;
        let attestation = match attested.enrollment.group() {
            Some(group) => json!({ "enrollmentGroupId": group }),
            None => json!({}),
        };
        let (x509, symmetric_key) = match attested.proof {
            Proof::Keys(_) => (None, Some(attestation)),
            Proof::Certificate(_) => (Some(attestation), None),
        };
        Ok(RegistrationState {
            x509,
            symmetric_key,
            registration_id: Some(registrant.registration_id.clone()),
            created_date_time_utc: Some(rfc3339(device.created)),
            assigned_hub: Some(hubs[key.hub].clone()),
            device_id: Some(key.device_id.clone()),
            status: Some(RegistrationStatus::Assigned),
            substatus: Some(substatus.as_str().into()),
            last_updated_date_time_utc: Some(rfc3339(device.updated)),
            etag: Some(etag(device)),
            issued_certificate_chain: chain.clone(),
            connection_profile: profile.cloned(),
            ..RegistrationState::default()
        })
    }
}

/// Base64 of a quoted string, changing with each registration.
fn etag(device: &Device) -> String {
    Base64::encode_string(format!("\"{:08x}-{}\"", device.generation, device.uuid).as_bytes())
}

impl Registrant {
    fn refuse(&self, refusal: &DpsRefusal, clock: Clock, fx: &mut Effects) -> Answer {
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
    fn answer_disabled(&self, attested: &Attested, fx: &mut Effects) -> Answer {
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

impl Session {
    pub(super) const fn new(registrant: Registrant) -> Self {
        Self { registrant, subscription: None }
    }

    /// The client subscribed to the answers, or no longer does.
    pub(super) fn set_subscription(&mut self, granted: Option<QoS>) {
        self.subscription = granted;
    }

    /// Answers on the topic that SDKs parse to the letter: `$rid` first, as it was written, then
    /// `retry-after`. A client that has not subscribed hears nothing.
    fn reply(&self, request_id: &str, answer: Answer, strikes: &Strikes, at: At, fx: &mut Effects) {
        let Some(qos) = self.subscription else { return };
        let pace = answer.retry_after.map(|seconds| format!("&retry-after={seconds}"));
        let pace = pace.unwrap_or_default();
        let (request_id, payload) = strikes.spoil(request_id, answer.body);
        let topic = format!("{REPLY_PREFIX}{}/?$rid={request_id}{pace}", answer.status);
        let message = Message { topic, payload, qos, delivery: None };
        fx.deliver(Command::Publish(message), strikes, at);
    }
}
