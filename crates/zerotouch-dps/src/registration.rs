//! The registration engine.
//!
//! | state | input | next |
//! |---|---|---|
//! | `Idle` | `start` | `Asked(Register)`; `Done` if the service would not take the body |
//! | `Asked(step)` | `assigning` for its request id | `Pausing(Poll)` until `retry-after` |
//! | | `assigned`, `failed`, `disabled`, a refusal, a body that cannot be read | `Done` |
//! | | 429, 5xx | `Pausing(step)` until `retry-after` and a ladder above it |
//! | | no answer in time | `Done` |
//! | `Pausing(step)` | its instant | `Asked(step)` |
//! | any but `Idle`, `Done` | the overall deadline | `Done` |
//!
//! A message whose request id is not the one awaited (foreign, late, repeated) changes nothing. To cancel
//! is to drop the engine, in any state: the service ends what it began, and its answers are foreign to
//! the next registration.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use rand_core::Rng;
use serde_json::value::RawValue;
use zerotouch_time::Instant;
use zerotouch_wire::{ReplyTopic, ServiceError, percent_encode};

use crate::wire::{
    MAX_MESSAGE_LENGTH, REPLY_PREFIX, RegisterRequest, RegistrationOperationStatus,
    RegistrationState, RegistrationStatus, register_topic, status_topic,
};
use crate::{
    Assignment, DEFAULT_API_VERSION, IdScope, Registered, RegistrationError, RegistrationId,
};

/// The longest host name DNS allows.
const MAX_HOST_LENGTH: usize = 253;
/// What a host name holds beside letters and digits.
const HOST_CHARACTERS: &str = "-._";
/// The longest device id IoT Hub allows.
const MAX_DEVICE_ID_LENGTH: usize = 128;
/// What a device id holds beside letters and digits (Azure docs, "Understand the identity registry"). It
/// goes into topics, which `#`, `+` and `/` would change.
const DEVICE_ID_CHARACTERS: &str = "-.%_*?!(),:=@$'";
/// The least time between an answer and the next request, whatever `retry-after` says: it keeps within the
/// service's 5 polls per 10 s.
const MINIMUM_PAUSE: Duration = Duration::from_secs(2);
/// The ladder for 429 and 5xx without, or above, a `retry-after`.
const THROTTLE_INITIAL: Duration = Duration::from_secs(2);
const THROTTLE_CAP: Duration = Duration::from_secs(60);

/// What a registration needs to know. Public members have the defaults that [`Config::new`] states.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which provisioning service.
    pub id_scope: IdScope,
    /// Which device.
    pub registration_id: RegistrationId,
    /// Default [`DEFAULT_API_VERSION`]. Nothing is derived from the text: the service decides what it
    /// makes of a request, and what comes with an answer is read whatever was asked for.
    ///
    /// `2019-03-31` and `2021-06-01` refuse a certificate request; `2025-07-01-preview` issues
    /// certificates; `2026-11-01` and `2026-11-02-preview` also say which protocol the hub speaks.
    pub api_version: String,
    /// Sent as `ClientVersion`; default `zerotouch/` and this crate's version.
    pub client_version: String,
    /// JSON for a custom allocation webhook; default none. With the certificate request it has to fit into
    /// [`MAX_MESSAGE_LENGTH`](crate::wire::MAX_MESSAGE_LENGTH).
    pub payload: Option<Box<RawValue>>,
    /// How long one request may go unanswered; default 30 s.
    pub response_timeout: Duration,
    /// How long the whole registration may take; default 10 min.
    pub deadline: Duration,
}

impl Config {
    /// The defaults for this device at this service.
    pub fn new(id_scope: IdScope, registration_id: RegistrationId) -> Self {
        Self {
            id_scope,
            registration_id,
            api_version: DEFAULT_API_VERSION.to_owned(),
            client_version: concat!("zerotouch/", env!("CARGO_PKG_VERSION")).to_owned(),
            payload: None,
            response_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(600),
        }
    }

    /// The user name of the CONNECT packet; the client id is the registration id.
    ///
    /// Unlike IoT Hub's it has no `?` before the parameters.
    pub fn username(&self) -> String {
        format!(
            "{}/registrations/{}/api-version={}&ClientVersion={}",
            self.id_scope,
            self.registration_id,
            self.api_version,
            percent_encode(&self.client_version)
        )
    }
}

/// A message to publish, at `QoS` 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The topic name.
    pub topic: String,
    /// JSON, or nothing.
    pub payload: Vec<u8>,
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The service is at work and will be asked again after `next_poll`.
    Assigning {
        /// The service's name for the operation.
        operation_id: String,
        /// The pause before the next poll.
        next_poll: Duration,
    },
    /// The service is busy; the same request is sent again after `retry_in`.
    Throttled {
        /// The status in the topic: 429 or 5xx.
        status: u16,
        /// The body.
        error: ServiceError,
        /// The pause.
        retry_in: Duration,
    },
    /// Done. The last event.
    Assigned(Box<Registered>),
    /// Ended. The last event.
    Failed(RegistrationError),
}

#[derive(Clone, Debug)]
enum Step {
    Register,
    Poll { operation_id: String },
}

#[derive(Debug)]
enum State {
    Idle,
    Asked { step: Step, request_id: String, until: Instant },
    Pausing { step: Step, until: Instant },
    Done,
}

/// One registration, from the granted subscription to the assignment.
#[derive(Debug)]
pub struct Registration {
    config: Config,
    csr: Option<String>,
    state: State,
    deadline: Instant,
    /// Tells this registration's request ids from those of any other session.
    nonce: u64,
    requests_sent: u32,
    throttled: u32,
    requests: VecDeque<Request>,
    events: VecDeque<Event>,
}

impl Registration {
    /// A registration that asks for a certificate if `csr` (base64 of PKCS#10 DER) is given.
    pub fn new(config: Config, csr: Option<String>, rng: &mut impl Rng) -> Self {
        Self {
            config,
            csr,
            state: State::Idle,
            deadline: Instant::ZERO,
            nonce: rng.next_u64(),
            requests_sent: 0,
            throttled: 0,
            requests: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The subscription to [`crate::SUBSCRIPTION`] was granted: begin. A second call does nothing.
    pub fn start(&mut self, now: Instant) {
        if !matches!(self.state, State::Idle) {
            return;
        }
        let length = self.register_body().len();
        if length > MAX_MESSAGE_LENGTH {
            return self.fail(RegistrationError::TooLarge { length });
        }
        self.deadline = now + self.config.deadline;
        self.ask(Step::Register, now);
    }

    /// A message arrived on any topic; those that are not the awaited answer are ignored.
    pub fn handle_message(&mut self, topic: &str, body: &[u8], now: Instant, rng: &mut impl Rng) {
        let Some(reply) = ReplyTopic::parse(REPLY_PREFIX, topic) else { return };
        let State::Asked { request_id, .. } = &self.state else { return };
        if reply.request_id() != Some(request_id) {
            return;
        }
        let State::Asked { step, .. } = mem::replace(&mut self.state, State::Done) else { return };
        match reply.status {
            200 | 202 => self.handle_progress(&reply, body, step, now, rng),
            status => {
                let error = ServiceError::parse(body);
                let retry_after = reply.retry_after().or(error.retry_after());
                if status == 429 || status >= 500 {
                    let retry_in = self.throttle_delay(retry_after, rng);
                    self.state = State::Pausing { step, until: now + retry_in };
                    self.events.push_back(Event::Throttled { status, error, retry_in });
                } else {
                    self.fail(RegistrationError::Refused {
                        status,
                        error: Box::new(error),
                        retry_after,
                    });
                }
            }
        }
    }

    fn handle_progress(
        &mut self,
        reply: &ReplyTopic<'_>,
        body: &[u8],
        step: Step,
        now: Instant,
        rng: &mut impl Rng,
    ) {
        let Ok(operation) = serde_json::from_slice::<RegistrationOperationStatus>(body) else {
            return self.fail(unreadable(reply.status, body));
        };
        match operation.status {
            RegistrationStatus::Assigned => match registered(operation, self.csr.is_some()) {
                Ok(registered) => self.events.push_back(Event::Assigned(Box::new(registered))),
                Err(error) => self.fail(error),
            },
            RegistrationStatus::Failed => {
                let state = operation.registration_state.unwrap_or_default();
                let error = ServiceError {
                    error_code: state.error_code,
                    message: state.error_message,
                    retry_after_seconds: reply.retry_after().map(|delay| delay.as_secs()),
                    ..ServiceError::default()
                };
                self.fail(RegistrationError::Failed { error: Box::new(error) });
            }
            RegistrationStatus::Disabled => self.fail(RegistrationError::Disabled),
            RegistrationStatus::Assigning | RegistrationStatus::Unassigned => {
                let operation_id = match (operation.operation_id, step) {
                    (Some(id), _) if is_operation_id(&id) => id,
                    (_, Step::Poll { operation_id }) => operation_id,
                    (_, Step::Register) => return self.fail(unreadable(reply.status, body)),
                };
                let floor = reply.retry_after().unwrap_or_default().max(MINIMUM_PAUSE);
                // The service's pace is obeyed as a floor; a tenth above it keeps a fleet apart.
                let next_poll = floor + jitter(floor / 10, rng);
                self.throttled = 0;
                self.events
                    .push_back(Event::Assigning { operation_id: operation_id.clone(), next_poll });
                self.state =
                    State::Pausing { step: Step::Poll { operation_id }, until: now + next_poll };
            }
            RegistrationStatus::Other(_) => self.fail(unreadable(reply.status, body)),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.state, State::Idle | State::Done) {
            return;
        }
        if now >= self.deadline {
            let after = self.config.deadline;
            return self.fail(RegistrationError::TimedOut { what: "assignment", after });
        }
        match &self.state {
            State::Asked { until, .. } if now >= *until => {
                let after = self.config.response_timeout;
                self.fail(RegistrationError::TimedOut { what: "answer", after });
            }
            State::Pausing { until, step } if now >= *until => {
                let step = step.clone();
                self.ask(step, now);
            }
            _ => {}
        }
    }

    /// The next message to publish.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Registration::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Idle | State::Done => None,
            State::Asked { until, .. } | State::Pausing { until, .. } => {
                Some((*until).min(self.deadline))
            }
        }
    }

    fn ask(&mut self, step: Step, now: Instant) {
        self.requests_sent += 1;
        let request_id = format!("{:016x}-{}", self.nonce, self.requests_sent);
        self.requests.push_back(match &step {
            Step::Register => {
                Request { topic: register_topic(&request_id), payload: self.register_body() }
            }
            Step::Poll { operation_id } => {
                Request { topic: status_topic(&request_id, operation_id), payload: Vec::new() }
            }
        });
        self.state = State::Asked { step, request_id, until: now + self.config.response_timeout };
    }

    fn register_body(&self) -> Vec<u8> {
        let body = RegisterRequest {
            registration_id: Some(self.config.registration_id.to_string()),
            payload: self.config.payload.clone(),
            csr: self.csr.clone(),
        };
        // Strings and already valid JSON: nothing in it can fail to serialise.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// Full jitter above the service's floor, on a ladder of its own.
    fn throttle_delay(&mut self, retry_after: Option<Duration>, rng: &mut impl Rng) -> Duration {
        let step = THROTTLE_INITIAL.saturating_mul(1 << self.throttled.min(8)).min(THROTTLE_CAP);
        self.throttled += 1;
        let floor = retry_after.unwrap_or_default().max(MINIMUM_PAUSE);
        floor + jitter(step, rng)
    }

    fn fail(&mut self, error: RegistrationError) {
        self.state = State::Done;
        self.requests.clear();
        self.events.push_back(Event::Failed(error));
    }
}

/// The id goes into a topic: what could break out of its property is not one.
fn is_operation_id(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn registered(
    operation: RegistrationOperationStatus,
    csr_sent: bool,
) -> Result<Registered, RegistrationError> {
    let RegistrationState {
        assigned_hub,
        device_id,
        connection_profile,
        substatus,
        issued_certificate_chain,
        payload,
        ..
    } = operation.registration_state.unwrap_or_default();
    let usable = |text: Option<String>, limit, others: &str, missing| {
        let legal = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
        text.filter(|text| (1..=limit).contains(&text.len()) && text.chars().all(legal))
            .ok_or(RegistrationError::Incomplete { missing })
    };
    let assigned_hub = usable(assigned_hub, MAX_HOST_LENGTH, HOST_CHARACTERS, "hub")?;
    let device_id = usable(device_id, MAX_DEVICE_ID_LENGTH, DEVICE_ID_CHARACTERS, "device id")?;
    let issued_certificate_chain = issued_certificate_chain.unwrap_or_default();
    if csr_sent && issued_certificate_chain.is_empty() {
        return Err(RegistrationError::ChainMissing);
    }
    Ok(Registered {
        assignment: Assignment {
            assigned_hub,
            device_id,
            connection_profile: connection_profile.unwrap_or_default(),
        },
        operation_id: operation.operation_id,
        substatus,
        issued_certificate_chain,
        payload,
    })
}

fn unreadable(status: u16, body: &[u8]) -> RegistrationError {
    let excerpt = String::from_utf8_lossy(body).chars().take(64).collect();
    RegistrationError::Unreadable { status, excerpt }
}

/// Uniform in `0..=max`.
fn jitter(max: Duration, rng: &mut impl Rng) -> Duration {
    let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX - 1);
    Duration::from_micros(rng.next_u64() % (micros + 1))
}
