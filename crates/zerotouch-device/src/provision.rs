//! A session with the provisioning service: one connection, one registration.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use core::time::Duration;

use rand_core::Rng;
use zerotouch_credentials::SasToken;
use zerotouch_dps::{Event as DpsEvent, Registered, Registration, SUBSCRIPTION};
use zerotouch_mqtt_codec::{Connect, Login, QoS, Text, TopicName};
use zerotouch_time::{Instant, Now};
use zerotouch_wire::ServiceError;

use crate::link::{Link, LinkStep, Subscription};
use crate::{Config, ConnectionId, Failure};

/// Keep-alive towards the provisioning service, in seconds. Nobody there publishes a figure; the
/// vendor's Python client uses this one.
const KEEP_ALIVE: u16 = 60;

#[derive(Debug)]
pub(crate) struct DpsSession {
    pub(crate) link: Link,
    registration: Registration,
    /// Which bootstrap credential it shows.
    turn: usize,
}

/// What a session came to.
#[derive(Debug)]
pub(crate) enum DpsStep {
    Progress,
    Connected,
    Assigning { operation_id: String, next_poll: Duration },
    Throttled { status: u16, error: ServiceError, retry_in: Duration },
    Assigned(Box<Registered>),
    Failed(Failure),
}

impl DpsSession {
    pub(crate) fn new(
        config: &Config,
        turn: usize,
        (connection, csr): (ConnectionId, Option<String>),
        now: Instant,
        rng: &mut impl Rng,
    ) -> Self {
        let timeouts = (config.dial_timeout, config.subscribe_timeout);
        Self {
            link: Link::new(
                connection,
                config.mqtt.clone(),
                vec![Subscription::required(SUBSCRIPTION)],
                timeouts,
                now,
            ),
            registration: Registration::new(config.registration.clone(), csr, rng),
            turn,
        }
    }

    /// The transport is there: introduce the device.
    pub(crate) fn handle_dialled(&mut self, config: &Config, now: Now) -> Result<(), Failure> {
        let registration = &config.registration;
        let (scope, id) = (registration.id_scope.as_str(), registration.registration_id.as_str());
        let token = config
            .token_key(self.turn, now)?
            .map(|(key, expiry)| SasToken::for_dps(key, scope, id, expiry));
        let username = registration.username();
        let connect = Connect {
            client_id: Text::new(registration.registration_id.as_str())?,
            clean_session: true,
            keep_alive: KEEP_ALIVE,
            will: None,
            login: Some(Login {
                username: Text::new(&username)?,
                password: token.as_ref().map(|t| t.as_str().as_bytes()),
            }),
        };
        self.link.connect(&connect, now.monotonic)
    }

    pub(crate) fn handle_bytes(
        &mut self,
        input: &mut &[u8],
        now: Instant,
        rng: &mut impl Rng,
    ) -> Option<DpsStep> {
        let Self { link, registration, .. } = self;
        let on_message =
            |topic: &str, body: &[u8]| registration.handle_message(topic, body, now, rng);
        let step = link.handle_bytes(input, now, on_message)?;
        Some(self.after(step, now))
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> DpsStep {
        if let Some(failure) = self.link.handle_timeout(now) {
            return DpsStep::Failed(failure);
        }
        self.registration.handle_timeout(now);
        DpsStep::Progress
    }

    /// The next step that no packet brought.
    pub(crate) fn poll_step(&mut self, now: Instant) -> Option<DpsStep> {
        if let Some(event) = self.registration.poll_event() {
            return Some(digest(event));
        }
        let step = self.link.poll_step(now)?;
        Some(self.after(step, now))
    }

    fn after(&mut self, step: LinkStep, now: Instant) -> DpsStep {
        match step {
            LinkStep::Failed(failure) => DpsStep::Failed(failure),
            LinkStep::Up => {
                self.registration.start(now);
                DpsStep::Connected
            }
            _ => DpsStep::Progress,
        }
    }

    /// Sends what the registration asks, once all that has come is known.
    pub(crate) fn publish(&mut self, now: Instant) {
        while let Some(request) = self.registration.poll_request() {
            let sent = TopicName::new(&request.topic).is_ok_and(|topic| {
                self.link
                    .mqtt
                    .publish(topic, &request.payload, QoS::AtLeastOnce, false, now)
                    .is_ok()
            });
            // One request at a time, far below every limit: what is not taken runs into the
            // registration's own deadline.
            debug_assert!(sent, "a registration request was not taken");
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.link.poll_timeout(), self.registration.poll_timeout()].into_iter().flatten().min()
    }
}

fn digest(event: DpsEvent) -> DpsStep {
    match event {
        DpsEvent::Assigning { operation_id, next_poll } => {
            DpsStep::Assigning { operation_id, next_poll }
        }
        DpsEvent::Throttled { status, error, retry_in } => {
            DpsStep::Throttled { status, error, retry_in }
        }
        DpsEvent::Assigned(registered) => DpsStep::Assigned(registered),
        DpsEvent::Failed(error) => DpsStep::Failed(error.into()),
        _ => DpsStep::Progress,
    }
}
