//! A session with the hub: telemetry, commands, and at most one renewal.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use zerotouch_dps::Assignment;
use zerotouch_hub::wire::{CREDENTIALS, CertificateRequestAccepted, commands_filter};
use zerotouch_hub::{Inbound, Renewal, RenewalEvent, Telemetry, username};
use zerotouch_mqtt_codec::{Connect, Login, QoS, TopicFilter, TopicName};
use zerotouch_mqtt_session::{PublishError, PublishHandle, SubscribeHandle};
use zerotouch_time::Instant;

use crate::link::{Link, LinkStep};
use crate::{Config, ConnectionId, Credential, Failure, RenewalFailure, TelemetryHandle};

#[derive(Debug)]
pub(crate) struct HubSession {
    pub(crate) link: Link,
    pub(crate) credential: Credential,
    pub(crate) renewal: Renewing,
    assignment: Assignment,
    telemetry: Vec<(PublishHandle, TelemetryHandle)>,
    /// A command that came with the packet just handled.
    command: Option<HubStep>,
}

/// How far a renewal is, as this session sees it.
#[derive(Debug, Default)]
pub(crate) enum Renewing {
    #[default]
    No,
    /// The key is on its way into the store.
    StoringKey,
    /// The subscription is awaited.
    Subscribing(SubscribeHandle, Renewal),
    /// The request is with the hub.
    Requested(Renewal),
    /// The chain is on its way into the store.
    StoringChain,
    /// What is in flight is waited for; then the connection makes way for one with the new
    /// certificate.
    Switching { deadline: Instant },
}

/// What a session came to.
#[derive(Debug)]
pub(crate) enum HubStep {
    Progress,
    Connected,
    TelemetryAcknowledged(TelemetryHandle),
    Command { payload: Vec<u8>, properties: String },
    RenewalRequested,
    RenewalAccepted(CertificateRequestAccepted),
    Issued(Vec<String>),
    RenewalFailed(RenewalFailure),
    Failed(Failure),
}

impl HubSession {
    pub(crate) fn new(
        config: &Config,
        connection: ConnectionId,
        credential: Credential,
        assignment: Assignment,
        now: Instant,
    ) -> Self {
        let timeouts = (config.dial_timeout, config.subscribe_timeout);
        let filter = commands_filter(&assignment.device_id);
        Self {
            link: Link::new(connection, config.mqtt.clone(), filter, timeouts, now),
            credential,
            renewal: Renewing::No,
            assignment,
            telemetry: Vec::new(),
            command: None,
        }
    }

    pub(crate) fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// The transport is there: introduce the device. TLS has shown the certificate.
    pub(crate) fn handle_dialled(&mut self, config: &Config, now: Instant) -> Result<(), Failure> {
        let Assignment { assigned_hub, device_id, .. } = &self.assignment;
        let client_version = &config.registration.client_version;
        let username = username(assigned_hub, device_id, &config.hub.api_version, client_version);
        let connect = Connect {
            client_id: device_id,
            clean_session: false,
            keep_alive: config.hub.keep_alive,
            will: None,
            login: Some(Login { username: &username, password: None }),
        };
        self.link.connect(&connect, now)
    }

    pub(crate) fn send_telemetry(
        &mut self,
        telemetry: &Telemetry,
        handle: TelemetryHandle,
        now: Instant,
    ) -> Result<(), PublishError> {
        let topic = telemetry.topic(&self.assignment.device_id);
        let topic = TopicName::new(&topic).map_err(|_| PublishError::TooLarge {
            size: topic.len(),
            limit: usize::from(u16::MAX),
        })?;
        let published =
            self.link.mqtt.publish(topic, &telemetry.payload, QoS::AtLeastOnce, false, now)?;
        self.telemetry.extend(published.map(|published| (published, handle)));
        Ok(())
    }

    /// Telemetry that nobody will acknowledge any more.
    pub(crate) fn take_unacknowledged(&mut self) -> impl Iterator<Item = TelemetryHandle> + '_ {
        self.telemetry.drain(..).map(|(_, handle)| handle)
    }

    /// Asks for the subscription that a renewal's answers need: before its request, always.
    pub(crate) fn begin_renewal(
        &mut self,
        renewal: Renewal,
        now: Instant,
    ) -> Result<(), RenewalFailure> {
        let filter = TopicFilter::new(CREDENTIALS)
            .map_err(|_| Failure::SubscriptionRefused { filter: CREDENTIALS.to_owned() })?;
        let handle =
            self.link.mqtt.subscribe(&[(filter, QoS::AtLeastOnce)], now).map_err(Failure::from)?;
        self.renewal = Renewing::Subscribing(handle, renewal);
        Ok(())
    }

    pub(crate) fn handle_bytes(&mut self, input: &mut &[u8], now: Instant) -> Option<HubStep> {
        let Self { link, renewal, assignment, command, .. } = self;
        let on_message =
            |topic: &str, body: &[u8]| match Inbound::parse(&assignment.device_id, topic) {
                Some(Inbound::Command { properties }) => {
                    let (payload, properties) = (body.to_owned(), properties.as_str().to_owned());
                    *command = Some(HubStep::Command { payload, properties });
                }
                Some(Inbound::CredentialReply(reply)) => {
                    if let Renewing::Requested(renewal) = renewal {
                        renewal.handle_reply(&reply, body, now);
                    }
                }
                // Acknowledged and ignored, as anything a service may send in future.
                _ => {}
            };
        let step = link.handle_bytes(input, now, on_message)?;
        Some(self.after(step, now))
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> HubStep {
        if let Some(failure) = self.link.handle_timeout(now) {
            return HubStep::Failed(failure);
        }
        if let Renewing::Requested(renewal) = &mut self.renewal {
            renewal.handle_timeout(now);
        }
        HubStep::Progress
    }

    /// The next step that no packet brought, or that came with one beside its own.
    pub(crate) fn poll_step(&mut self, now: Instant) -> Option<HubStep> {
        if let Some(command) = self.command.take() {
            return Some(command);
        }
        if let Renewing::Requested(renewal) = &mut self.renewal
            && let Some(event) = renewal.poll_event()
        {
            return Some(match event {
                RenewalEvent::Accepted(accepted) => HubStep::RenewalAccepted(accepted),
                RenewalEvent::Issued(chain) => HubStep::Issued(chain),
                RenewalEvent::Failed(error) => HubStep::RenewalFailed(error.into()),
                _ => HubStep::Progress,
            });
        }
        let step = self.link.poll_step(now)?;
        Some(self.after(step, now))
    }

    fn after(&mut self, step: LinkStep, now: Instant) -> HubStep {
        match step {
            LinkStep::Progress => HubStep::Progress,
            LinkStep::Up => HubStep::Connected,
            LinkStep::Failed(failure) => HubStep::Failed(failure),
            LinkStep::Published(published) => {
                match self.telemetry.iter().position(|(handle, _)| *handle == published) {
                    Some(position) => {
                        HubStep::TelemetryAcknowledged(self.telemetry.remove(position).1)
                    }
                    None => HubStep::Progress,
                }
            }
            LinkStep::Subscribed { handle, granted } => self.subscribed(handle, granted, now),
        }
    }

    fn subscribed(&mut self, handle: SubscribeHandle, granted: bool, now: Instant) -> HubStep {
        match core::mem::take(&mut self.renewal) {
            Renewing::Subscribing(awaited, mut renewal) if awaited == handle => {
                if !granted {
                    let filter = CREDENTIALS.to_owned();
                    return HubStep::RenewalFailed(Failure::SubscriptionRefused { filter }.into());
                }
                renewal.start(now);
                let taken = renewal.poll_request().map(|request| {
                    let topic =
                        TopicName::new(&request.topic).map_err(|_| PublishError::NotConnected)?;
                    self.link.mqtt.publish(topic, &request.payload, QoS::AtLeastOnce, false, now)
                });
                // If the transmit buffer is full of telemetry, the renewal's own deadline ends it.
                let requested = matches!(taken, Some(Ok(_)));
                self.renewal = Renewing::Requested(renewal);
                if requested { HubStep::RenewalRequested } else { HubStep::Progress }
            }
            other => {
                self.renewal = other;
                HubStep::Progress
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let renewal = match &self.renewal {
            Renewing::Requested(renewal) => renewal.poll_timeout(),
            Renewing::Switching { deadline } => Some(*deadline),
            _ => None,
        };
        [self.link.poll_timeout(), renewal].into_iter().flatten().min()
    }
}
