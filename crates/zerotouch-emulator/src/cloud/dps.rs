//! The provisioning service: what a device is answered, over MQTT or HTTPS.
//!
//! | state of a registration | input | answer | next |
//! |---|---|---|---|
//! | none | register | 202, `retry-after` | `Assigning` |
//! | `Assigning` | status, too early | 202, `retry-after` | `Assigning` |
//! | | status | 200 `assigned`, perhaps with a chain | `Assigned` |
//! | | status, before a webhook has answered | 202, `retry-after` | `Assigning` |
//! | | a webhook fails | - | `Failed` |
//! | `Assigned`, `Failed` | status | the same 200 | the same |
//! | any | register | 202 under a new operation id | `Assigning` |
//!
//! As with the real service a credential is judged with the first request, not at CONNECT: a device
//! without a right to register connects, and reads why not on the topic of its answer. Requests are
//! acknowledged before they are answered, and answers carry `$rid` first.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use zerotouch_credentials::CertificateRequest;
use zerotouch_dps::wire::{
    MAX_MESSAGE_LENGTH, REGISTER_PREFIX, REPLY_PREFIX, RegisterRequest, RegistrationState,
    RegistrationStatus, STATUS_PREFIX,
};
use zerotouch_mqtt_codec::{Publish, QoS};
use zerotouch_wire::PropertyBag;

use super::allocation::{Choice, Map};
use super::clock::Clock;
use super::csr;
use super::effects::{At, Command, Effects, Message, Placement};
use super::enrollment::{Attested, Enrollments, Evidence, Proof};
use super::event::{CloudEvent, Via};
use super::fault::{Fault, Operation as Step, Strikes};
use super::fixture::{DpsApiVersion, DpsSettings, Reprovision};
use super::http;
use super::namespace::Namespace;
pub(super) use super::operation::Answer;
use super::operation::{Assigning, Operation, Question, State, operation_id, with_profile};
use super::refusal::DpsRefusal;
pub(super) use super::registrant::Registrant;
use super::registry::{DeviceKey, HubCredential, Substatus};
use super::table::{Kept, Table};
use super::throttle::Throttle;
use super::webhook::{self, Allotment, WebhookFault, WebhookId, WebhookRequest, WebhookResult};

/// The service.
#[derive(Debug)]
pub(super) struct Dps {
    id_scope: String,
    hubs: Vec<String>,
    settings: DpsSettings,
    pub(super) enrollments: Enrollments,
    /// The latest operation of each registration id (in lower case).
    operations: Table<String, Operation>,
    /// How often each was asked for. Not kept: a cloud that begins is not asked sooner.
    polls: BTreeMap<String, Throttle>,
    registrations: Throttle,
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
            polls: BTreeMap::new(),
            registrations: Throttle::default(),
        }
    }

    pub(super) fn id_scope(&self) -> &str {
        &self.id_scope
    }

    pub(super) fn tables(&mut self) -> [(&'static str, &mut dyn Kept); 4] {
        let [groups, individuals, authorities] = self.enrollments.tables();
        [groups, individuals, authorities, ("operations", &mut self.operations)]
    }

    pub(super) fn map(&self) -> Map<'_> {
        Map { hubs: &self.hubs, latencies: &self.settings.latencies }
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
        let attested = match &registrant.attested {
            Ok(attested) => attested,
            Err(refusal) => return registrant.refuse(refusal, clock, fx),
        };
        let answer = match (self.enrollments.terms(&attested.enrollment), request) {
            // Deleted since the device has connected.
            (None, _) => Err(DpsRefusal::NoEnrollment),
            (Some(terms), _) if !terms.enabled => return registrant.answer_disabled(attested, fx),
            (Some(_), Request::Register(body)) => {
                self.register(registrant, attested, body, namespace, clock, fx)
            }
            (Some(_), Request::Status { operation_id }) => {
                let request = (operation_id, strikes);
                self.status(registrant, attested, request, namespace, clock, fx)
            }
            (Some(_), Request::Lookup) => self.look_up(registrant, namespace),
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
        let (request, payload) = self.read(registrant, attested, body, namespace)?;
        let mut assigning = Assigning {
            ready_at: clock.monotonic + self.settings.assign_delay,
            request,
            payload,
            question: Question::Unasked,
        };
        let id = operation_id(fx);
        if let Choice::Ask(_) = self.choose(registrant, attested, namespace)? {
            fx.webhooks.extend(self.ask(registrant, attested, (&id, &assigning), namespace));
            assigning.question = Question::Asked;
        }
        let operation = Operation {
            id,
            registration_id: registrant.registration_id.clone(),
            enrollment: attested.enrollment.clone(),
            by_certificate: matches!(attested.proof, Proof::Certificate(_)),
            state: State::Assigning(assigning),
        };
        let answer = operation.answer_assigning(false, self.settings.retry_after);
        self.operations.insert(registrant.key(), operation);
        self.polls.remove(&registrant.key());
        Ok(answer)
    }

    /// What a registration asks for: a certificate, and something of the webhook.
    fn read(
        &self,
        registrant: &Registrant,
        attested: &Attested,
        body: &[u8],
        namespace: &Namespace,
    ) -> Result<(Option<CertificateRequest>, Option<Box<RawValue>>), DpsRefusal> {
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
        let csr = match request.csr {
            Some(_) if !registrant.api_version.issues_certificates => {
                let version = registrant.api_version.name.clone();
                return Err(DpsRefusal::CsrVersion { version });
            }
            Some(csr) => {
                let id = registrant.registration_id.as_str();
                let terms = self.enrollments.terms(&attested.enrollment);
                let policy = terms.and_then(|terms| terms.credential_policy);
                let keys = policy.map(|name| namespace.keys(name)).unwrap_or_default();
                let names = [id, self.enrollments.device_id(&attested.enrollment, id)];
                Some(csr::check(&csr, names, keys)?)
            }
            None => None,
        };
        Ok((csr, request.payload))
    }

    fn choose(
        &self,
        registrant: &Registrant,
        attested: &Attested,
        namespace: &Namespace,
    ) -> Result<Choice<'_>, DpsRefusal> {
        let terms = self.enrollments.terms(&attested.enrollment).ok_or(DpsRefusal::NoEnrollment)?;
        let id = registrant.registration_id.as_str();
        let former = namespace.registry.registration(id).map(|key| key.hub);
        self.map().choose(terms, id, former).ok_or(DpsRefusal::NoHub)
    }

    /// The question to the webhook of an enrolment, if it has one.
    fn ask(
        &self,
        registrant: &Registrant,
        attested: &Attested,
        (operation_id, assigning): (&str, &Assigning),
        namespace: &Namespace,
    ) -> Option<WebhookRequest> {
        let Ok(Choice::Ask(webhook)) = self.choose(registrant, attested, namespace) else {
            return None;
        };
        let id = registrant.registration_id.as_str();
        let current = namespace.registry.registration(id);
        let current =
            current.and_then(|key| Some((self.hubs.get(key.hub)?.as_str(), &*key.device_id)));
        let body = http::allocation_request(
            (&self.enrollments, self.map()),
            (id, attested),
            (current, assigning.payload.as_deref()),
        )?;
        let id = WebhookId { registration_id: registrant.key(), operation_id: operation_id.into() };
        Some(WebhookRequest { id, url: webhook.url.clone(), body })
    }

    /// A webhook has answered, or not.
    pub(super) fn answered(
        &mut self,
        id: &WebhookId,
        result: WebhookResult,
        clock: Clock,
        fx: &mut Effects,
    ) {
        let map = Map { hubs: &self.hubs, latencies: &self.settings.latencies };
        let Some(operation) = self.operations.get_mut(&id.registration_id) else { return };
        let State::Assigning(assigning) = &mut operation.state else { return };
        let is_awaited = matches!(assigning.question, Question::Asked);
        if operation.id != id.operation_id || !is_awaited {
            return;
        }
        let Some(terms) = self.enrollments.terms(&operation.enrollment) else { return };
        match webhook::read(result, terms, map) {
            Ok(allotment) => assigning.question = Question::Answered(Box::new(allotment)),
            Err(fault) => {
                let (code, message) = (WebhookFault::CODE, fault.message());
                fx.tell(CloudEvent::RegistrationRefused {
                    registration_id: operation.registration_id.clone(),
                    status: 200,
                    code: Some(code),
                    tracking_id: None,
                    reason: format!("the webhook did not assign a hub: {fault}"),
                });
                operation.state = State::Failed { code, message, at: clock.wall };
            }
        }
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
        let unknown = || DpsRefusal::Operation { given: operation_id.into() };
        let retry_after = self.settings.retry_after;
        let operation = self
            .operations
            .get(&registrant.key())
            .filter(|operation| operation.id == operation_id)
            .ok_or_else(unknown)?;
        self.polls
            .entry(registrant.key())
            .or_default()
            .pass(self.settings.polls, clock.monotonic)
            .map_err(|retry_after| DpsRefusal::Throttled { retry_after })?;
        if let Some(outcome) = strikes.outcome() {
            let state = operation.ended(outcome);
            let status = state.status.clone().unwrap_or_default();
            return Ok(operation.answer(200, None, status, Some(state)));
        }
        if strikes.has(&Fault::Stuck) {
            return Ok(operation.answer_assigning(true, retry_after));
        }
        if let State::Assigning(assigning) = &operation.state {
            if clock.monotonic < assigning.ready_at {
                return Ok(operation.answer_assigning(true, retry_after));
            }
            let request = assigning.request.clone();
            let choice = self.choose(registrant, attested, namespace)?;
            let allotment = match (&assigning.question, choice) {
                (_, Choice::Hub(hub)) => Allotment::at(hub),
                (Question::Answered(allotment), Choice::Ask(_)) => (**allotment).clone(),
                (Question::Asked, Choice::Ask(_)) => {
                    return Ok(operation.answer_assigning(true, retry_after));
                }
                (Question::Unasked, Choice::Ask(_)) => {
                    return self.ask_again(registrant, attested, namespace, fx);
                }
            };
            let state = self.assign(
                (registrant, attested),
                (allotment, request.as_ref()),
                namespace,
                clock,
                fx,
            )?;
            if let Some(operation) = self.operations.get_mut(&registrant.key()) {
                operation.state = state;
            }
        }
        let operation = self.operations.get(&registrant.key()).ok_or_else(unknown)?;
        let state = operation.registration(&self.hubs, namespace).ok_or_else(unknown)?;
        let status = state.status.clone().unwrap_or_default();
        let state = with_profile(state, self.profile(registrant));
        Ok(operation.answer(200, None, status, Some(state)))
    }

    /// The webhook was not asked since the cloud began.
    fn ask_again(
        &mut self,
        registrant: &Registrant,
        attested: &Attested,
        namespace: &Namespace,
        fx: &mut Effects,
    ) -> Result<Answer, DpsRefusal> {
        if let Some(operation) = self.operations.get(&registrant.key())
            && let State::Assigning(assigning) = &operation.state
        {
            let question = (&*operation.id, assigning);
            fx.webhooks.extend(self.ask(registrant, attested, question, namespace));
        }
        let operation = self.operations.get_mut(&registrant.key());
        let operation = operation.ok_or(DpsRefusal::Unregistered)?;
        if let State::Assigning(assigning) = &mut operation.state {
            assigning.question = Question::Asked;
        }
        Ok(operation.answer_assigning(true, self.settings.retry_after))
    }

    /// Enters the device into the namespace, at its hub, and certifies its key if it asked for that and
    /// the enrolment has a policy.
    fn assign(
        &self,
        (registrant, attested): (&Registrant, &Attested),
        (allotment, request): (Allotment, Option<&CertificateRequest>),
        namespace: &mut Namespace,
        clock: Clock,
        fx: &mut Effects,
    ) -> Result<State, DpsRefusal> {
        let id = registrant.registration_id.as_str();
        let terms = self.enrollments.terms(&attested.enrollment).ok_or(DpsRefusal::NoEnrollment)?;
        let Allotment { hub, initial_twin, payload } = allotment;
        let device_id = self.enrollments.device_id(&attested.enrollment, id);
        let former = namespace.registry.registration(id).cloned();
        let key = match (&former, terms.reprovision) {
            (Some(former), Reprovision::Never) if former.hub == hub => former.clone(),
            _ => DeviceKey { hub, device_id: device_id.into() },
        };
        let certify = request.zip(terms.credential_policy);
        let credential = match (certify, &attested.proof) {
            (Some((_, policy)), _) => HubCredential::Issued { policy: policy.into() },
            (None, Proof::Keys(keys)) => HubCredential::Keys(keys.copy()),
            (None, Proof::Certificate(certificate)) => {
                HubCredential::Certificates(vec![certificate.thumbprint().into()])
            }
        };
        let substatus = Substatus::of(former.as_ref(), &key, terms.reprovision);
        let was_there =
            former.as_ref().is_some_and(|former| namespace.registry.device(former).is_some());
        let begins_anew = !was_there || terms.reprovision == Reprovision::Reset;
        fx.placements.push(Placement {
            former: former.filter(|former| *former != key),
            twin: begins_anew.then(|| initial_twin.unwrap_or_else(|| terms.initial_twin.clone())),
            device: key.clone(),
        });
        namespace.registry.register(id, &key, credential, clock.wall, &mut fx.rng);
        fx.tell(CloudEvent::DeviceRegistered {
            registration_id: id.into(),
            enrollment: attested.enrollment.as_str().into(),
            hub: self.hubs[hub].clone(),
            device_id: key.device_id.clone(),
            substatus: substatus.as_str(),
        });
        let fault = fx.strike(Step::Assign, id).chain();
        let chain = match certify {
            Some((request, policy)) => namespace
                .issue((policy, &key, request), (Via::Dps, fault), clock, fx)
                .map_err(DpsRefusal::NotIssued)?,
            None => None,
        };
        Ok(State::Assigned { substatus, chain, payload })
    }

    fn profile(&self, registrant: &Registrant) -> Option<&zerotouch_dps::ConnectionProfile> {
        registrant.api_version.tells_profile.then_some(&self.settings.connection_profile)
    }

    /// The state of a registration, whichever operation it came of.
    fn look_up(
        &self,
        registrant: &Registrant,
        namespace: &Namespace,
    ) -> Result<Answer, DpsRefusal> {
        let state = self.registration(&registrant.registration_id, namespace);
        let (_, state) = state.ok_or(DpsRefusal::Unregistered)?;
        let is_assigned = state.status == Some(RegistrationStatus::Assigned);
        let profile = self.profile(registrant).filter(|_| is_assigned);
        let body = serde_json::to_vec(&with_profile(state, profile)).unwrap_or_default();
        Ok(Answer { status: 200, code: None, retry_after: None, operation_id: None, body })
    }

    /// The state of a registration, and the operation that it came of.
    pub(super) fn registration(
        &self,
        registration_id: &str,
        namespace: &Namespace,
    ) -> Option<(&Operation, RegistrationState)> {
        let operation = self.operations.get(&registration_id.to_ascii_lowercase())?;
        Some((operation, operation.registration(&self.hubs, namespace)?))
    }

    /// All registrations, by registration id in lower case.
    pub(super) fn operations(&self) -> impl Iterator<Item = (&String, &Operation)> {
        self.operations.iter()
    }

    /// Forgets a registration; the device stays at its hub.
    pub(super) fn forget(&mut self, registration_id: &str, namespace: &mut Namespace) {
        self.operations.remove(&registration_id.to_ascii_lowercase());
        self.polls.remove(&registration_id.to_ascii_lowercase());
        namespace.registry.forget(registration_id);
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
