//! The cloud as one sans-IO engine: provisioning service, device registry, authority and hubs.
//!
//! ```text
//!   handle_open, handle_bytes, handle_closed ─►┌ connections ┐─► poll_action  (transmit, close)
//!                                              │      │      │
//!   handle_request ───────────────────────────►│             │─► poll_response
//!   handle_webhook ───────────────────────────►│             │─► poll_webhook (what others are asked)
//!   handle_timeout ───────────────────────────►│  services   │─► poll_event   (what happened)
//!                                              │             │─► poll_record  (what to keep)
//!                                              └─────────────┘─► poll_timeout
//!      services = dps ──► namespace (registry, authority) ◄── hubs (twins, renewals)
//! ```
//!
//! Connections speak MQTT and know nothing of Azure; services decide and know nothing of bytes. A
//! service is asked about one packet at a time and leaves commands for connections, timers and
//! events; they are carried out before the next packet is looked at.
//!
//! The same fixture, random numbers, inputs and times give the same bytes.

mod admission;
mod allocation;
mod authority;
mod clock;
mod connection;
mod csr;
mod dps;
mod effects;
mod enrollment;
mod event;
mod exchange;
mod fault;
mod fixture;
mod http;
mod hub;
mod login;
mod namespace;
mod operation;
mod refusal;
mod registrant;
mod registry;
mod renewal;
mod services;
mod table;
mod test_authority;
mod text_form;
mod throttle;
mod thumbprint;
mod twin;
mod webhook;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chacha20::ChaCha20Rng;
use zerotouch_credentials::{Certificate, KeyError, PrivateKey, SymmetricKey};
use zerotouch_mqtt_session::{CloseReason, ServerConfig, ServerConnection, ServerEvent};
use zerotouch_time::{Instant, Now, UnixTime};

pub use self::authority::{AuthorityError, MakeSigner};
use self::clock::Clock;
use self::connection::Connection;
use self::effects::{At, Effects, Timer};
pub use self::event::{Action, CloudEvent, CommandOutcome, ConnectionId, Via};
pub use self::exchange::{HttpRequest, HttpResponse, MAX_HTTP_BODY, RequestId};
pub use self::fault::{ActiveFault, ChainFault, Fault, FaultError, FaultRule, Operation};
pub use self::fixture::{
    Allocation, Attestation, CertificateAuthority, CredentialPolicy, DpsApiVersion, DpsSettings,
    EnrollmentGroup, Fixture, FixtureError, GroupAttestation, HubApiVersion, HubSettings,
    IndividualEnrollment, InitialTwin, KeyPolicy, Latency, Quota, Reprovision, SymmetricKeys,
    TpmKeys, Webhook,
};
pub use self::http::{EventFilter, SERVICE_POLICIES};
pub use self::hub::CommandError;
pub use self::services::DeviceRecord;
use self::services::Services;
pub use self::table::{Record, RecordError};
pub use self::twin::TwinError;
pub use self::webhook::{MAX_WEBHOOK_ANSWER, WebhookId, WebhookRequest, WebhookResult};

/// No connection lives longer without a packet from its client (IoT Hub MQTT documentation: 1.5 times the
/// keep-alive, and no more than this).
const MAX_SILENCE: Duration = Duration::from_secs(1767);

/// The emulated cloud.
#[derive(Debug)]
pub struct Cloud {
    services: Services,
    mqtt: ServerConfig,
    connections: BTreeMap<ConnectionId, Connection>,
    fx: Effects,
    actions: VecDeque<Action>,
    responses: VecDeque<(RequestId, HttpResponse)>,
}

/// Why a cloud could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// The fixture describes none.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
    /// An enrolment's key was not drawn.
    #[error("an enrolment's key was not made: {0}")]
    Key(#[from] KeyError),
    /// The authority was not made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl Cloud {
    /// A cloud with the contents of `fixture`, all of whose keys and names come from `rng`. `now` is
    /// when its authority begins.
    pub fn new(fixture: Fixture, rng: ChaCha20Rng, now: UnixTime) -> Result<Self, CloudError> {
        Self::with_signer(fixture, |key| Ok(key), rng, now)
    }

    /// The same, but its authorities sign by what `signer` makes of their keys. If that takes random numbers
    /// from elsewhere, the same inputs no longer give the same bytes.
    pub fn with_signer(
        mut fixture: Fixture,
        signer: MakeSigner,
        mut rng: ChaCha20Rng,
        now: UnixTime,
    ) -> Result<Self, CloudError> {
        let faults = std::mem::take(&mut fixture.faults);
        let services = Services::new(fixture, signer, now, &mut rng)?;
        let mut fx = Effects::new(rng);
        for rule in faults {
            fx.faults.add(rule).map_err(FixtureError::from)?;
        }
        Ok(Self {
            services,
            mqtt: ServerConfig { max_silence: Some(MAX_SILENCE), ..ServerConfig::default() },
            connections: BTreeMap::new(),
            fx,
            actions: VecDeque::new(),
            responses: VecDeque::new(),
        })
    }

    /// A transport was accepted. `client_chain` is what the client presented in TLS, DER, leaf first,
    /// empty if nothing; TLS has proved that the client holds the leaf's key, and nothing else. The id
    /// must be new: one is never used twice.
    pub fn handle_open(&mut self, connection: ConnectionId, client_chain: Vec<Vec<u8>>, now: Now) {
        let clock = self.clock(now);
        let mqtt = ServerConnection::new(&self.mqtt, clock.monotonic);
        self.connections.insert(connection, Connection::new(mqtt, client_chain));
        self.settle(connection, clock);
    }

    /// Bytes arrived. Those for a connection that has ended are dropped.
    pub fn handle_bytes(&mut self, connection: ConnectionId, mut bytes: &[u8], now: Now) {
        let clock = self.clock(now);
        let at = At { connection, clock };
        while let Some(open) = self.connections.get_mut(&connection) {
            let mut rest = bytes;
            let event = open.mqtt.handle_bytes(&mut rest, clock.monotonic);
            let left = rest.len();
            let delivered = match event {
                None => break,
                Some(ServerEvent::Acknowledged(handle)) => open.acknowledged(handle),
                Some(ServerEvent::Closed(reason)) => {
                    self.end(connection, &reason, clock);
                    break;
                }
                Some(event) => {
                    self.services.handle(&mut open.peer, event, at, &mut self.fx);
                    None
                }
            };
            if let Some(delivery) = delivered {
                self.services.hubs.delivered(&delivery, clock, &mut self.fx);
            }
            bytes = &bytes[bytes.len() - left..];
            self.carry_out(clock);
        }
        self.settle(connection, clock);
    }

    /// A transport ended. Nothing more can be sent on it.
    pub fn handle_closed(&mut self, connection: ConnectionId, now: Now) {
        let clock = self.clock(now);
        if let Some(mut open) = self.connections.remove(&connection) {
            open.mqtt.handle_closed();
            let reason = open.ended().unwrap_or(CloseReason::Ended);
            self.fx.timers.set(Timer::Connection(connection), None);
            self.services.closed(&open.peer, &reason, connection, &mut self.fx);
            self.carry_out(clock);
        }
    }

    /// A request came over HTTPS: its answer follows. The id must be new.
    pub fn handle_request(&mut self, id: RequestId, request: &HttpRequest, now: Now) {
        let clock = self.clock(now);
        if let Some(response) = http::answer(&mut self.services, (id, request), clock, &mut self.fx)
        {
            self.responses.push_back((id, response));
        }
        self.carry_out(clock);
    }

    /// What came of [`Cloud::poll_webhook`]; it is waited for as long as it takes.
    pub fn handle_webhook(&mut self, id: &WebhookId, result: WebhookResult, now: Now) {
        let clock = self.clock(now);
        self.services.dps.answered(id, result, clock, &mut self.fx);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        let clock = self.clock(now);
        while let Some(timer) = self.fx.timers.pop(clock.monotonic) {
            match timer {
                Timer::Connection(connection) => {
                    if let Some(open) = self.connections.get_mut(&connection) {
                        open.mqtt.handle_timeout(clock.monotonic);
                    }
                    self.settle(connection, clock);
                }
                Timer::Call(request) => {
                    self.services.hubs.call_expired(request, &mut self.fx);
                    self.carry_out(clock);
                }
                Timer::Late(late) => {
                    self.fx.release(late);
                    self.carry_out(clock);
                }
                Timer::Renewal(key) => {
                    self.services.renewal_due(&key, clock, &mut self.fx);
                    self.carry_out(clock);
                }
                Timer::Commands(key) => {
                    self.services.hubs.commands_due(&key, clock, &mut self.fx);
                    self.carry_out(clock);
                }
                Timer::Token(key) => {
                    self.services.hubs.token_due(&key, clock, &mut self.fx);
                    self.carry_out(clock);
                }
            }
        }
    }

    /// What to do next, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The answer to a request.
    pub fn poll_response(&mut self) -> Option<(RequestId, HttpResponse)> {
        self.responses.pop_front()
    }

    /// What to ask somebody else, for a device that waits for it.
    pub fn poll_webhook(&mut self) -> Option<WebhookRequest> {
        self.fx.webhooks.pop_front()
    }

    /// What has happened, oldest first.
    pub fn poll_event(&mut self) -> Option<CloudEvent> {
        self.fx.events.pop()
    }

    /// When [`Cloud::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.fx.timers.next()
    }

    fn clock(&mut self, now: Now) -> Clock {
        self.services.time_of_day.read(now)
    }

    /// Carries out what the services have decided, on whichever connections.
    fn carry_out(&mut self, clock: Clock) {
        for placement in std::mem::take(&mut self.fx.placements) {
            self.services.hubs.place(placement, &mut self.fx);
        }
        for (request, outcome) in std::mem::take(&mut self.fx.outcomes) {
            self.responses.push_back((request, http::conclude(outcome, clock, &mut self.fx)));
        }
        while !self.fx.commands.is_empty() {
            for (connection, command) in std::mem::take(&mut self.fx.commands) {
                let open = self.connections.get_mut(&connection);
                let delivered = open.and_then(|open| open.carry_out(command, clock.monotonic));
                if let Some(delivery) = delivered {
                    self.services.hubs.delivered(&delivery, clock, &mut self.fx);
                }
                self.settle(connection, clock);
            }
        }
    }

    /// Hands over what a connection wants to send, and notes when it wants to be woken or that it has
    /// ended.
    fn settle(&mut self, connection: ConnectionId, clock: Clock) {
        let Some(open) = self.connections.get_mut(&connection) else { return };
        while let Some(bytes) = open.transmit(clock.monotonic) {
            self.actions.push_back(Action::Transmit { connection, bytes });
        }
        let timeout = open.timeout();
        match open.ended() {
            Some(reason) => self.end(connection, &reason, clock),
            None => self.fx.timers.set(Timer::Connection(connection), timeout),
        }
    }

    /// A connection has ended from this side.
    fn end(&mut self, connection: ConnectionId, reason: &CloseReason, clock: Clock) {
        let Some(mut open) = self.connections.remove(&connection) else { return };
        while let Some(bytes) = open.mqtt.poll_transmit() {
            let bytes = bytes.to_vec();
            open.mqtt.handle_transmitted(bytes.len());
            self.actions.push_back(Action::Transmit { connection, bytes });
        }
        self.actions.push_back(Action::Close { connection });
        self.fx.timers.set(Timer::Connection(connection), None);
        self.services.closed(&open.peer, reason, connection, &mut self.fx);
        self.carry_out(clock);
    }
}

/// The service side: what an operator of the cloud sees and does.
impl Cloud {
    /// The root of the namespace's authority: what an issued chain ends in.
    pub fn root_certificate(&self) -> &Certificate {
        self.services.namespace.root()
    }

    /// The same as PEM.
    pub fn root_certificate_pem(&self) -> String {
        crate::pem::certificate(self.root_certificate())
    }

    /// The certificate of the issuing authority of a policy.
    pub fn issuing_certificate(&self, policy: &str) -> Option<&Certificate> {
        self.services.namespace.policy(policy)?.issuing.certificate()
    }

    /// The key of the policies that open the service API, whichever of [`SERVICE_POLICIES`] is named.
    pub fn service_key(&self) -> &SymmetricKey {
        self.services.service_key()
    }

    /// The id scope of the provisioning service.
    pub fn id_scope(&self) -> &str {
        self.services.id_scope()
    }

    /// The host names of the hubs.
    pub fn hubs(&self) -> &[String] {
        self.services.hub_names()
    }

    /// The enrolment groups, with the keys that were drawn for them.
    pub fn enrollment_groups(&self) -> impl Iterator<Item = &EnrollmentGroup> {
        self.services.enrollments().groups.values().map(|group| &group.enrollment)
    }

    /// An individual enrolment, with the keys that were drawn for it.
    pub fn individual_enrollment(&self, registration_id: &str) -> Option<&IndividualEnrollment> {
        self.services.enrollments().individual(registration_id)
    }

    /// The primary key of a symmetric-key group.
    pub fn group_key(&self, id: &str) -> Option<&SymmetricKey> {
        match &self.services.enrollments().group(id)?.attestation {
            GroupAttestation::SymmetricKeys(keys) => keys.primary.as_ref(),
            _ => None,
        }
    }

    /// The authority that was made for an X.509 group that named none, and its key: with them its devices
    /// can be given certificates.
    pub fn test_authority(&self, group: &str) -> Option<(&Certificate, &PrivateKey)> {
        let authority = self.services.test_authorities.get(group)?;
        Some((authority.certificate(), authority.key()))
    }

    /// All registered devices.
    pub fn devices(&self) -> impl Iterator<Item = DeviceRecord<'_>> {
        self.services.devices()
    }

    /// What has changed since it was last asked for, to be kept for the next cloud: its enrolments, its
    /// authorities, its devices, all with their keys. Whoever keeps it does so before anybody is told of
    /// it by [`Cloud::poll_action`] or [`Cloud::poll_response`].
    pub fn poll_record(&mut self) -> Option<Record> {
        let (table, kept) = self.services.tables().find(|(_, kept)| kept.is_changed())?;
        // Texts and numbers: nothing in it can fail to serialise.
        let (key, value) = kept.take_change()?.ok()?;
        Some(Record { table, key, value })
    }

    /// Has [`Cloud::poll_record`] begin anew, with all there is: for a second copy.
    pub fn record_all(&mut self) {
        self.services.tables().for_each(|(_, kept)| kept.touch());
    }

    /// Becomes what an earlier cloud was, of whose records these are the last. What the fixture holds
    /// beside settings counts no longer; its hubs may be more than those of the earlier cloud, and begin with
    /// them. `rng` draws from now on, so that nothing is drawn twice.
    pub fn restore<'a>(
        &mut self,
        records: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
        rng: ChaCha20Rng,
        now: Now,
    ) -> Result<(), RecordError> {
        let given = self.services.hub_names().to_vec();
        self.services.tables().for_each(|(_, kept)| kept.clear());
        for (table, key, value) in records {
            let (_, kept) = self
                .services
                .tables()
                .find(|(name, _)| *name == table)
                .ok_or_else(|| RecordError::Table { table: table.into() })?;
            kept.restore(key, value)
                .map_err(|source| RecordError::Entry { table: table.into(), source })?;
        }
        self.services
            .hubs
            .rename(given.clone())
            .map_err(|kept| RecordError::Hubs { kept, given })?;
        self.services.namespace.restored()?;
        self.fx.rng = rng;
        let clock = self.clock(now);
        self.services.hubs.wind(clock, &mut self.fx);
        Ok(())
    }

    /// How many connections are open.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Gives every hub the certificates of all issuing authorities: the step that a policy with
    /// `synchronized: false` has been spared.
    pub fn synchronize(&mut self) {
        self.services.namespace.synchronize();
    }

    /// Has something go wrong from now on; yields the number of the rule. Rules are not kept for the next
    /// cloud.
    pub fn add_fault(&mut self, rule: FaultRule) -> Result<u64, FaultError> {
        self.fx.faults.add(rule)
    }

    /// Takes a rule back; `false` if there is none of that number.
    pub fn remove_fault(&mut self, id: u64) -> bool {
        self.fx.faults.remove(id)
    }

    /// Takes all rules back.
    pub fn clear_faults(&mut self) {
        self.fx.faults.clear();
    }

    /// The rules in force.
    pub fn faults(&self) -> &[ActiveFault] {
        self.fx.faults.active()
    }

    /// What time of day it is here.
    pub fn time(&mut self, now: Now) -> UnixTime {
        self.clock(now).wall
    }

    /// Sets the time of day, forward or back, so that certificates, tokens and operations grow old. It goes
    /// on from there. Connections notice as far as they came with a token that has expired.
    pub fn set_time(&mut self, time: UnixTime, now: Now) {
        let clock = self.clock(now);
        self.services.set_time(time, clock, &mut self.fx);
    }

    /// Revokes a device's certificates: its identifier changes, its hub ends the connection and
    /// refuses all that were issued before. `disable` keeps it out altogether. `false` if no such
    /// registration is known.
    pub fn revoke_device(&mut self, registration_id: &str, disable: bool, now: Now) -> bool {
        let clock = self.clock(now);
        let known = self.services.revoke(registration_id, disable, &mut self.fx);
        self.carry_out(clock);
        known
    }

    /// Merges a patch into a device's desired properties; yields their new version. The device is
    /// told if it listens.
    pub fn update_desired(
        &mut self,
        registration_id: &str,
        patch: serde_json::Map<String, serde_json::Value>,
        now: Now,
    ) -> Result<u64, TwinError> {
        let clock = self.clock(now);
        let version = self.services.update_desired(registration_id, patch, &mut self.fx);
        self.carry_out(clock);
        version
    }

    /// Calls a direct method of a device; [`CloudEvent::MethodAnswered`] with the same request id is
    /// its answer. `false` if the device does not listen now.
    pub fn invoke_method(
        &mut self,
        registration_id: &str,
        (name, request_id): (&str, &str),
        payload: &[u8],
        now: Now,
    ) -> bool {
        let clock = self.clock(now);
        let call = (name, request_id);
        let sent = self.services.invoke_method(registration_id, call, payload, &mut self.fx);
        self.carry_out(clock);
        sent
    }

    /// Sends a cloud-to-device message: it waits until its device takes it or its time to live is over,
    /// an hour unless the property `$.exp` says when in RFC 3339. Properties are as a topic has them;
    /// those of the service's own are `$.mid`, `$.cid`, `$.uid`, `$.exp`, `$.ct`, `$.ce` and `iothub-ack`.
    /// Yields the message's id, drawn if there is no `$.mid`; [`CloudEvent::CommandSettled`] with the
    /// same id says what became of it.
    pub fn send_command(
        &mut self,
        registration_id: &str,
        properties: &[(&str, &str)],
        payload: &[u8],
        now: Now,
    ) -> Result<String, CommandError> {
        let clock = self.clock(now);
        let fx = &mut self.fx;
        let id = self.services.send_command(registration_id, properties, payload, clock, fx);
        self.carry_out(clock);
        id
    }
}
