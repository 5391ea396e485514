//! Renewing a certificate over a hub: `$iothub/credentials/POST/issueCertificate`.
//!
//! | state of a device's operation | input | answer | next |
//! |---|---|---|---|
//! | none | a request that is refused | 4xx | none |
//! | | a request | 202 | `Pending` |
//! | `Pending`, `Ready` | a request without `replace`, or for another | 409, 412 | as before |
//! | | a request that replaces it | 202 | `Pending`, the former forgotten |
//! | `Pending` | time | - | `Ready` with 200, or 400 for a bad PKCS#10 |
//! | `Ready` | the device listens | the result | `Ready`, sent |
//! | `Ready`, sent | acknowledged, or sent at `QoS` 0 | - | none |
//! | any | 12 h | - | none |
//!
//! A request of a device that has not subscribed to the answers is dropped without one, as the
//! service was seen to do. Statuses, codes and messages are those of the vendor's recorded runs.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zerotouch_hub::wire::{
    CREDENTIAL_REPLY_PREFIX, CertificateRequestAccepted, IssuedCertificates, MAX_CSR_LENGTH,
};
use zerotouch_time::{Instant, UnixTime};

use super::clock::{Clock, rfc3339, uuid};
use super::csr;
use super::effects::{At, Command, Delivery, Effects, Message, RenewalResult, Timer};
use super::event::{CloudEvent, ConnectionId, Via};
use super::fault::{Fault, InjectedError, Operation as Step, Strikes};
use super::fixture::HubSettings;
use super::hub::{Feature, Session, Subscriptions};
use super::namespace::Namespace;
use super::refusal;
use super::registry::{DeviceKey, HubCredential};
use super::table::{Kept, Table};
use super::text_form;

/// The operations of all devices, one each at most.
#[derive(Debug)]
pub(super) struct Renewals {
    settings: HubSettings,
    operations: Table<DeviceKey, Operation>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Operation {
    request_id: String,
    correlation_id: String,
    #[serde(with = "text_form::one")]
    expires: UnixTime,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum State {
    Pending {
        /// One that was kept is ready at once.
        #[serde(skip)]
        ready_at: Instant,
        policy: String,
        csr: String,
    },
    Ready {
        status: u16,
        body: String,
        #[serde(skip)]
        sent_on: Option<ConnectionId>,
        /// What goes wrong when it is sent the first time.
        #[serde(skip)]
        strikes: Strikes,
    },
}

/// The service's error codes have changed between two published descriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorCodes {
    /// Seen in a run against the service in January 2026: 400037, 409004.
    Recorded,
    /// As in the SDKs' tables and documentation: 400040, 409005.
    Documented,
}

impl ErrorCodes {
    fn of(strikes: &Strikes) -> Self {
        if strikes.has(&Fault::DocumentedCodes) { Self::Documented } else { Self::Recorded }
    }
}

/// Why a request is refused at once. `Display` is what the device reads.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("The protocol version of the connection does not support certificate requests.")]
    ProtocolVersion,
    #[error("Issue certificate request payload is missing.")]
    Empty,
    #[error("Cannot decode json format.")]
    Json,
    #[error("Id in the request does not match the device id of the connection.")]
    Id,
    #[error("Only id, csr and replace are allowed in the request.")]
    Member,
    #[error("Csr is invalid or missing.")]
    CsrMissing,
    #[error("Csr exceeds the maximum length of {MAX_CSR_LENGTH} bytes.")]
    CsrLength,
    #[error("Csr is not valid base64.")]
    CsrBase64,
    #[error("Replace must be * or a request id of 4 to 36 letters, digits and hyphens.")]
    ReplaceFormat,
    #[error("The operation to replace does not exist.")]
    ReplaceUnknown { request_id: String },
    #[error("A credential operation is active for the device.")]
    Active { request_id: String, correlation_id: String, expires: UnixTime },
    #[error("The device has no credential policy.")]
    NoPolicy,
}

impl Refusal {
    fn code(&self, codes: ErrorCodes) -> u32 {
        match self {
            Self::ProtocolVersion => 400_001,
            Self::Json => 400_006,
            Self::ReplaceUnknown { .. } => 412_001,
            Self::NoPolicy => 412_005,
            Self::Active { .. } => match codes {
                ErrorCodes::Recorded => 409_004,
                ErrorCodes::Documented => 409_005,
            },
            _ => 400_004,
        }
    }

    fn info(&self) -> Option<Map<String, Value>> {
        let info = match self {
            Self::ReplaceUnknown { request_id } => json!({ "requestId": request_id }),
            Self::Active { request_id, correlation_id, expires } => json!({
                "requestId": request_id,
                "correlationId": correlation_id,
                "operationExpires": rfc3339(*expires),
            }),
            _ => return None,
        };
        match info {
            Value::Object(info) => Some(info),
            _ => None,
        }
    }
}

/// A request that is well-formed, though its PKCS#10 may not be.
struct Request {
    csr: String,
    replace: Option<String>,
}

impl Renewals {
    pub(super) fn new(settings: &HubSettings) -> Self {
        Self { settings: settings.clone(), operations: Table::default() }
    }

    /// A device asks for a certificate, under a request id.
    pub(super) fn request(
        &mut self,
        (session, subscriptions): (&Session, &Subscriptions),
        (request_id, payload): (&str, &[u8]),
        namespace: &Namespace,
        strikes: &Strikes,
        at: At,
        fx: &mut Effects,
    ) {
        let Some(qos) = subscriptions.get(&Feature::Credentials) else { return };
        let answer = |status, body, fx: &mut Effects| {
            let (request_id, payload) = strikes.spoil(request_id, body);
            let topic = reply_topic(status, &request_id, strikes);
            let message = Message { topic, payload, qos: *qos, delivery: None };
            fx.deliver(Command::Publish(message), strikes, at);
        };
        if let Some(error) = strikes.error() {
            let InjectedError { status, code, message, .. } = error;
            let body = refusal::body(code, &message, uuid(&mut fx.rng), None, at.clock);
            return answer(status, body, fx);
        }
        match self.check(session, payload, namespace) {
            Ok((request, policy)) => {
                let operation = self.begin(request_id, request, policy, at.clock, fx);
                let accepted = CertificateRequestAccepted {
                    correlation_id: Some(operation.correlation_id.clone()),
                    operation_expires: Some(rfc3339(operation.expires)),
                };
                // Two strings: nothing in it can fail to serialise.
                let body = serde_json::to_vec(&accepted).unwrap_or_default();
                answer(202, body, fx);
                let timer = Timer::Renewal(session.key.clone());
                fx.timers.set(timer, Some(operation.next_at(at.clock)));
                self.operations.insert(session.key.clone(), operation);
            }
            Err(refusal) => {
                let code = refusal.code(ErrorCodes::of(strikes));
                let status = u16::try_from(code / 1000).unwrap_or(400);
                let message = refusal.to_string();
                let tracking_id = uuid(&mut fx.rng);
                let body = refusal::body(code, &message, tracking_id, refusal.info(), at.clock);
                answer(status, body, fx);
                let device_id = session.key.device_id.clone();
                fx.tell(CloudEvent::RenewalRefused { device_id, status, code, reason: message });
            }
        }
    }

    /// Checks a request; yields it with the policy it falls under.
    fn check(
        &self,
        session: &Session,
        payload: &[u8],
        namespace: &Namespace,
    ) -> Result<(Request, String), Refusal> {
        if !session.api_version.renews_certificates {
            return Err(Refusal::ProtocolVersion);
        }
        let request = parse(payload, &session.key.device_id)?;
        let active = self.operations.get(&session.key);
        match (&request.replace, active) {
            (None, Some(active)) => {
                return Err(Refusal::Active {
                    request_id: active.request_id.clone(),
                    correlation_id: active.correlation_id.clone(),
                    expires: active.expires,
                });
            }
            (Some(replace), active)
                if replace != "*" && active.is_none_or(|a| a.request_id != *replace) =>
            {
                return Err(Refusal::ReplaceUnknown { request_id: replace.clone() });
            }
            _ => {}
        }
        match namespace.registry.device(&session.key).map(|device| &device.credential) {
            Some(HubCredential::Issued { policy }) => Ok((request, policy.clone())),
            _ => Err(Refusal::NoPolicy),
        }
    }

    fn begin(
        &self,
        request_id: &str,
        request: Request,
        policy: String,
        clock: Clock,
        fx: &mut Effects,
    ) -> Operation {
        Operation {
            request_id: request_id.into(),
            correlation_id: uuid(&mut fx.rng),
            expires: clock.wall + self.settings.operation_expiry,
            state: State::Pending {
                ready_at: clock.monotonic + self.settings.issue_delay,
                policy,
                csr: request.csr,
            },
        }
    }

    /// A device's timer has rung: its certificate is made, or its operation has expired.
    pub(super) fn due(
        &mut self,
        key: &DeviceKey,
        namespace: &Namespace,
        clock: Clock,
        fx: &mut Effects,
    ) {
        let Some(operation) = self.operations.get_mut(key) else { return };
        if clock.wall >= operation.expires {
            self.operations.remove(key);
            return;
        }
        if let State::Pending { ready_at, policy, csr } = &operation.state
            && clock.monotonic >= *ready_at
        {
            let names = [&*key.device_id, &*key.device_id];
            let strikes = fx.strike(Step::RenewalResult, &key.device_id);
            let (status, body) = if let Some(error) = strikes.error() {
                let InjectedError { status, code, message, .. } = error;
                (status, refusal::body(code, &message, uuid(&mut fx.rng), None, clock))
            } else {
                let issued = csr::check(csr, names, namespace.keys(policy))
                    .map_err(|fault| fault.to_string())
                    .and_then(|request| {
                        let issue = (policy.as_str(), key, &request);
                        let via = (Via::Hub, strikes.chain());
                        let chain = namespace.issue(issue, via, clock, fx);
                        chain.map_err(|error| error.to_string())
                    });
                match issued {
                    Ok(certificates) => (200, operation.issued(certificates, &strikes)),
                    Err(reason) => operation.failed((&key.device_id, reason), &strikes, clock, fx),
                }
            };
            let body = String::from_utf8(body).unwrap_or_default();
            operation.state = State::Ready { status, body, sent_on: None, strikes };
        }
        fx.timers.set(Timer::Renewal(key.clone()), Some(operation.next_at(clock)));
    }

    /// Sends a device the result it is owed, if it is there and listens and has not been sent it.
    pub(super) fn deliver(
        &mut self,
        key: &DeviceKey,
        connection: Option<ConnectionId>,
        subscriptions: &Subscriptions,
        clock: Clock,
        fx: &mut Effects,
    ) {
        let (Some(connection), Some(qos)) = (connection, subscriptions.get(&Feature::Credentials))
        else {
            return;
        };
        let Some(operation) = self.operations.get_mut(key) else { return };
        if let State::Ready { status, body, sent_on, strikes } = &mut operation.state {
            if *sent_on == Some(connection) {
                return;
            }
            *sent_on = Some(connection);
            let strikes = std::mem::take(strikes);
            let (request_id, payload) =
                strikes.spoil(&operation.request_id, body.clone().into_bytes());
            let message = Message {
                topic: reply_topic(*status, &request_id, &strikes),
                payload,
                qos: *qos,
                delivery: Some(Delivery::Renewal(RenewalResult {
                    device: key.clone(),
                    correlation_id: operation.correlation_id.clone(),
                })),
            };
            fx.deliver(Command::Publish(message), &strikes, At { connection, clock });
        }
    }

    /// A result has reached its device.
    pub(super) fn delivered(&mut self, result: &RenewalResult, fx: &mut Effects) {
        let is_it = |o: &Operation| o.correlation_id == result.correlation_id;
        if self.operations.get(&result.device).is_some_and(is_it) {
            self.operations.remove(&result.device);
            fx.timers.set(Timer::Renewal(result.device.clone()), None);
        }
    }

    /// Forgets the operation of a device that is no longer at its hub.
    pub(super) fn forget(&mut self, key: &DeviceKey, fx: &mut Effects) {
        self.operations.remove(key);
        fx.timers.set(Timer::Renewal(key.clone()), None);
    }

    /// Winds the clocks of all operations, after they were kept or the time of day was set.
    pub(super) fn wind(&self, clock: Clock, fx: &mut Effects) {
        for (key, operation) in self.operations.iter() {
            fx.timers.set(Timer::Renewal(key.clone()), Some(operation.next_at(clock)));
        }
    }

    pub(super) fn table(&mut self) -> (&'static str, &mut dyn Kept) {
        ("renewals", &mut self.operations)
    }
}

impl Operation {
    /// When something happens to it without anybody's doing.
    fn next_at(&self, clock: Clock) -> Instant {
        let expires_at = clock.monotonic + self.expires.since(clock.wall);
        match self.state {
            State::Pending { ready_at, .. } => ready_at.min(expires_at),
            State::Ready { .. } => expires_at,
        }
    }

    fn issued(&self, certificates: Option<Vec<String>>, strikes: &Strikes) -> Vec<u8> {
        let Some(certificates) = certificates else {
            return json!({ "correlationId": self.correlation_id }).to_string().into_bytes();
        };
        let body = if strikes.has(&Fault::BareArray) {
            IssuedCertificates::Array(certificates)
        } else {
            let correlation_id = Some(self.correlation_id.clone());
            IssuedCertificates::Object { correlation_id, certificates }
        };
        // Strings: nothing in it can fail to serialise.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// The second of two stages: a request that was taken fails.
    fn failed(
        &self,
        (device_id, reason): (&str, String),
        strikes: &Strikes,
        clock: Clock,
        fx: &mut Effects,
    ) -> (u16, Vec<u8>) {
        const MESSAGE: &str = "CSR did not pass verification";
        let (code, error) = match ErrorCodes::of(strikes) {
            ErrorCodes::Recorded => (400_037, "400000"),
            ErrorCodes::Documented => (400_040, "FailedToDecodeCsr"),
        };
        let mut info = Map::new();
        info.insert("correlationId".into(), self.correlation_id.clone().into());
        info.insert("credentialError".into(), error.into());
        info.insert("credentialMessage".into(), MESSAGE.into());
        let device_id = device_id.into();
        fx.tell(CloudEvent::RenewalRefused { device_id, status: 400, code, reason });
        let tracking_id = uuid(&mut fx.rng);
        (400, refusal::body(code, MESSAGE, tracking_id, Some(info), clock))
    }
}

fn reply_topic(status: u16, request_id: &str, strikes: &Strikes) -> String {
    let suffix = if strikes.has(&Fault::VersionSuffix) { "&$version=1" } else { "" };
    format!("{CREDENTIAL_REPLY_PREFIX}{status}/?$rid={request_id}{suffix}")
}

/// Reads the body. Not by deserialising into a type: each fault has an answer of its own.
fn parse(payload: &[u8], device_id: &str) -> Result<Request, Refusal> {
    if payload.trim_ascii().is_empty() {
        return Err(Refusal::Empty);
    }
    let body: Value = serde_json::from_slice(payload).map_err(|_| Refusal::Json)?;
    let body = body.as_object().ok_or(Refusal::Id)?;
    if body.keys().any(|name| !["id", "csr", "replace"].contains(&name.as_str())) {
        return Err(Refusal::Member);
    }
    if body.get("id").and_then(Value::as_str) != Some(device_id) {
        return Err(Refusal::Id);
    }
    let csr = body.get("csr").and_then(Value::as_str).filter(|csr| !csr.is_empty());
    let csr = csr.ok_or(Refusal::CsrMissing)?;
    if csr.len() > MAX_CSR_LENGTH {
        return Err(Refusal::CsrLength);
    }
    Base64::decode_vec(csr).map_err(|_| Refusal::CsrBase64)?;
    let replace = match body.get("replace") {
        None | Some(Value::Null) => None,
        Some(Value::String(replace)) if is_replaceable(replace) => Some(replace.clone()),
        Some(_) => return Err(Refusal::ReplaceFormat),
    };
    Ok(Request { csr: csr.into(), replace })
}

fn is_replaceable(replace: &str) -> bool {
    replace == "*" || zerotouch_hub::RequestId::new(replace).is_ok()
}
