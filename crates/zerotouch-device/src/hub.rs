//! A session with the hub: telemetry, messages, methods, the twin, and at most one renewal.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use zerotouch_credentials::SasToken;
use zerotouch_dps::Assignment;
use zerotouch_hub::wire::{
    CREDENTIALS, CertificateRequestAccepted, DESIRED_PROPERTIES, METHODS, TWIN_RESPONSES,
    commands_filter,
};
use zerotouch_hub::{
    CloudMessage, Inbound, MethodEvent, Methods, Renewal, RenewalEvent, Request, Twin, TwinEvent,
    username,
};
use zerotouch_mqtt_codec::{Connect, Login, QoS, Text, TopicName};
use zerotouch_mqtt_session::{PublishError, PublishHandle};
use zerotouch_time::{Instant, Now};

use crate::link::{Link, LinkStep, Subscription};
use crate::queue::{Queue, Sent};
use crate::{Config, ConnectionId, Credential, Failure, RenewalFailure};

/// How long a hub may take to acknowledge anything while something is in flight. One that answers pings
/// and nothing else would hold up telemetry for ever: on a connection that stands, nothing is sent again.
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_secs(300);

/// What outlives a session: telemetry that is not acknowledged, the twin, the calls' numbering, a request
/// whose answer may come with the next session.
#[derive(Debug)]
pub(crate) struct Lasting {
    pub(crate) queue: Queue,
    pub(crate) methods: Methods,
    pub(crate) twin: Twin,
    pub(crate) renewal: Option<Renewal>,
}

impl Lasting {
    /// The connection ended.
    pub(crate) fn interrupt(&mut self) {
        self.queue.interrupt();
        self.methods.interrupt();
        self.twin.interrupt();
        if let Some(renewal) = &mut self.renewal {
            renewal.interrupt();
        }
    }
}

#[derive(Debug)]
pub(crate) struct HubSession {
    pub(crate) link: Link,
    pub(crate) credential: Credential,
    pub(crate) shown: Shown,
    /// Since when the hub has accepted it.
    pub(crate) connected_since: Option<Instant>,
    pub(crate) renewal: Renewing,
    pub(crate) draining: Option<Draining>,
    assignment: Assignment,
    /// When the connection is to be made anew with another token: the hub cuts it when this one expires.
    token_due: Option<Instant>,
    /// Since when something has been in flight without any acknowledgement.
    unacknowledged_since: Option<Instant>,
    /// A message that came with the packet just handled.
    message: Option<CloudMessage>,
    /// A request that there was no room for; the others stay where they are counted.
    waiting: Option<Request>,
}

/// What exactly is shown to a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The certificate of the generation of this number.
    Generation(u64),
    /// The bootstrap credential of this turn.
    Attestation(usize),
}

/// How far a renewal is, as this session sees it.
#[derive(Debug, Default)]
pub(crate) enum Renewing {
    #[default]
    No,
    /// The key is on its way into the store.
    StoringKey,
    /// The request is with the hub.
    Requested,
    /// The chain is on its way into the store.
    StoringChain,
}

/// What is waited for before a connection is given up on purpose.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Draining {
    /// That nothing is in flight and nobody waits for an answer, before a connection with another
    /// credential: the rest can wait.
    Flight { deadline: Instant },
    /// That nothing waits any more, before the end.
    Queue { deadline: Instant },
}

impl Draining {
    pub(crate) fn deadline(self) -> Instant {
        match self {
            Self::Flight { deadline } | Self::Queue { deadline } => deadline,
        }
    }
}

/// What a session came to.
#[derive(Debug)]
pub(crate) enum HubStep {
    Progress,
    Connected,
    Published(PublishHandle),
    Message(CloudMessage),
    Method(MethodEvent),
    Twin(TwinEvent),
    RenewalAccepted(CertificateRequestAccepted),
    Issued(Vec<String>),
    RenewalFailed(RenewalFailure),
    Failed(Failure),
}

impl HubSession {
    pub(crate) fn new(
        config: &Config,
        connection: ConnectionId,
        (credential, shown): (Credential, Shown),
        assignment: Assignment,
        now: Instant,
    ) -> Self {
        let timeouts = (config.dial_timeout, config.subscribe_timeout);
        let hub = &config.hub;
        let mut subscriptions = Vec::new();
        // What the application wants is required; without the last, certificates come from DPS.
        if hub.messages {
            subscriptions.push(Subscription::required(commands_filter(&assignment.device_id)));
        }
        if hub.methods {
            subscriptions.push(Subscription::required(METHODS));
        }
        if hub.twin {
            subscriptions.push(Subscription::required(TWIN_RESPONSES));
            subscriptions.push(Subscription::required(DESIRED_PROPERTIES));
        }
        if config.wants_certificates() {
            subscriptions.push(Subscription::optional(CREDENTIALS));
        }
        Self {
            link: Link::new(connection, config.mqtt.clone(), subscriptions, timeouts, now),
            credential,
            shown,
            connected_since: None,
            renewal: Renewing::No,
            draining: None,
            assignment,
            token_due: None,
            unacknowledged_since: None,
            message: None,
            waiting: None,
        }
    }

    pub(crate) fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// Whether answers to certificate requests are heard.
    pub(crate) fn can_renew(&self) -> bool {
        self.link.hears(CREDENTIALS)
    }

    /// The transport is there: introduce the device. TLS has shown the certificate, if there is one.
    pub(crate) fn handle_dialled(&mut self, config: &Config, now: Now) -> Result<(), Failure> {
        let Assignment { assigned_hub, device_id, .. } = &self.assignment;
        let token = match self.shown {
            Shown::Attestation(turn) => config.token_key(turn, now)?,
            Shown::Generation(_) => None,
        };
        let token =
            token.map(|(key, expiry)| SasToken::for_hub(key, assigned_hub, device_id, expiry));
        self.token_due = token.is_some().then(|| now.monotonic + config.sas_lifetime / 5 * 4);
        let username = username(
            assigned_hub,
            device_id,
            &config.hub.api_version,
            &config.registration.client_version,
            config.hub.model_id.as_deref(),
        );
        let connect = Connect {
            client_id: Text::new(device_id)?,
            clean_session: false,
            keep_alive: config.hub.keep_alive,
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
        lasting: &mut Lasting,
        now: Now,
    ) -> Option<HubStep> {
        let Self { link, assignment, message, .. } = self;
        let on_message = |topic: &str, body: &[u8]| {
            let monotonic = now.monotonic;
            match Inbound::parse(&assignment.device_id, topic) {
                Some(Inbound::Command { properties }) => {
                    *message = Some(CloudMessage::new(properties, body));
                }
                Some(Inbound::Method { name, request_id }) => {
                    lasting.methods.handle_call(name, request_id, body);
                }
                Some(Inbound::TwinReply(reply)) => {
                    lasting.twin.handle_reply(&reply, body, monotonic);
                }
                Some(Inbound::DesiredProperties { version }) => {
                    lasting.twin.handle_desired(version, body, monotonic);
                }
                Some(Inbound::CredentialReply(reply)) => {
                    if let Some(renewal) = &mut lasting.renewal {
                        renewal.handle_reply(&reply, body, monotonic);
                    }
                }
                // Acknowledged and ignored, as anything a service may send in future.
                _ => {}
            }
        };
        let step = link.handle_bytes(input, now.monotonic, on_message)?;
        Some(self.after(step, lasting, now))
    }

    pub(crate) fn handle_timeout(
        &mut self,
        lasting: &mut Lasting,
        close_timeout: Duration,
        now: Instant,
    ) -> HubStep {
        if let Some(failure) = self.link.handle_timeout(now) {
            return HubStep::Failed(failure);
        }
        if self.acknowledgement_due().is_some_and(|due| now >= due) {
            let after = ACKNOWLEDGEMENT_TIMEOUT;
            return HubStep::Failed(Failure::AcknowledgementTimeout { after });
        }
        if self.token_due().is_some_and(|due| now >= due) {
            self.make_way(now + close_timeout);
        }
        lasting.twin.handle_timeout(now);
        if let Some(renewal) = &mut lasting.renewal {
            renewal.handle_timeout(now);
        }
        HubStep::Progress
    }

    /// The next step that no packet brought, or that came with one beside its own.
    ///
    /// A certificate that comes before the one in use has become active, as one does that the hub held
    /// ready, waits until that is stored: it would take its place.
    pub(crate) fn poll_step(
        &mut self,
        lasting: &mut Lasting,
        is_storing: bool,
        now: Now,
    ) -> Option<HubStep> {
        if let Some(message) = self.message.take() {
            return Some(HubStep::Message(message));
        }
        if let Some(event) = lasting.methods.poll_event() {
            return Some(HubStep::Method(event));
        }
        if let Some(event) = lasting.twin.poll_event() {
            return Some(HubStep::Twin(event));
        }
        let waits = is_storing || self.credential == Credential::Staged && !self.link.is_up();
        let renewal = lasting.renewal.as_mut().filter(|_| !waits);
        if let Some(event) = renewal.and_then(Renewal::poll_event) {
            return Some(match event {
                RenewalEvent::Accepted(accepted) => HubStep::RenewalAccepted(accepted),
                RenewalEvent::Issued(chain) => HubStep::Issued(chain),
                RenewalEvent::Failed(error) => HubStep::RenewalFailed(error.into()),
                _ => HubStep::Progress,
            });
        }
        let step = self.link.poll_step(now.monotonic)?;
        Some(self.after(step, lasting, now))
    }

    fn after(&mut self, step: LinkStep, lasting: &mut Lasting, now: Now) -> HubStep {
        match step {
            LinkStep::Progress | LinkStep::Subscribed { .. } => HubStep::Progress,
            LinkStep::Up => {
                self.connected_since = Some(now.monotonic);
                if self.link.hears(TWIN_RESPONSES) {
                    lasting.twin.start(now.monotonic);
                }
                HubStep::Connected
            }
            LinkStep::Failed(failure) => HubStep::Failed(failure),
            LinkStep::Published(published) => {
                self.unacknowledged_since = Some(now.monotonic);
                HubStep::Published(published)
            }
        }
    }

    /// Sends what waits, once all that has come is known: the answer to a request that would be sent again
    /// may be among it.
    pub(crate) fn publish(&mut self, lasting: &mut Lasting, now: Instant) {
        if self.link.is_up() {
            self.publish_waiting(lasting, now);
            let is_waiting = self.link.mqtt.in_flight() > 0;
            let since = self.unacknowledged_since.unwrap_or(now);
            self.unacknowledged_since = is_waiting.then_some(since);
        }
    }

    /// As far as there is room: requests before telemetry, which may be much.
    fn publish_waiting(&mut self, lasting: &mut Lasting, now: Instant) {
        let Self { link, draining, assignment, waiting, .. } = self;
        let Lasting { queue, methods, twin, renewal } = lasting;
        let mut send = |topic: &str, payload: &[u8]| {
            let Ok(topic) = TopicName::new(topic) else { return Sent::Never };
            match link.mqtt.publish(topic, payload, QoS::AtLeastOnce, false, now) {
                Ok(Some(handle)) => Sent::InFlight(handle),
                Ok(None)
                | Err(
                    PublishError::NotConnected
                    | PublishError::WindowFull { .. }
                    | PublishError::TransmitBufferFull { .. },
                ) => Sent::NoRoom,
                Err(_) => Sent::Never,
            }
        };
        loop {
            let next = waiting
                .take()
                .or_else(|| renewal.as_mut().and_then(Renewal::poll_request))
                .or_else(|| methods.poll_request())
                .or_else(|| twin.poll_request());
            let Some(request) = next else { break };
            if let Sent::NoRoom = send(&request.topic, &request.payload) {
                *waiting = Some(request);
                return;
            }
        }
        // Nothing is added to what a change of certificate waits for.
        if !matches!(draining, Some(Draining::Flight { .. })) {
            queue.pump(|telemetry| {
                send(&telemetry.topic(&assignment.device_id), &telemetry.payload)
            });
        }
    }

    /// Makes way for another session, once nothing is in flight on this one.
    pub(crate) fn make_way(&mut self, deadline: Instant) {
        self.draining.get_or_insert(Draining::Flight { deadline });
    }

    /// When the connection is to be made anew, unless it is about to end anyway.
    fn token_due(&self) -> Option<Instant> {
        self.token_due.filter(|_| self.link.is_up() && self.draining.is_none())
    }

    fn acknowledgement_due(&self) -> Option<Instant> {
        Some(self.unacknowledged_since? + ACKNOWLEDGEMENT_TIMEOUT)
    }

    /// Whether what was waited for has come, or will not.
    pub(crate) fn has_drained(&self, lasting: &Lasting, now: Instant) -> bool {
        self.draining.is_some_and(|draining| {
            let all_sent = match draining {
                Draining::Flight { .. } => {
                    let open = lasting.methods.open_calls() + lasting.twin.open_reports();
                    open == 0 && self.waiting.is_none()
                }
                Draining::Queue { .. } => lasting.queue.status().messages == 0,
            };
            all_sent && self.link.mqtt.in_flight() == 0 || now >= draining.deadline()
        })
    }

    pub(crate) fn poll_timeout(&self, lasting: &Lasting) -> Option<Instant> {
        let renewal = lasting.renewal.as_ref().and_then(Renewal::poll_timeout);
        let draining = self.draining.map(Draining::deadline);
        let twin = lasting.twin.poll_timeout();
        let acknowledgement = self.acknowledgement_due();
        [self.link.poll_timeout(), self.token_due(), acknowledgement, renewal, draining, twin]
            .into_iter()
            .flatten()
            .min()
    }
}
