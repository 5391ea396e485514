//! The lifecycle.
//!
//! | phase | input | next |
//! |---|---|---|
//! | `Idle` | `start` | `Ready` |
//! | `Ready` | nothing is being stored | by the identity: a session with the hub, a new key (`Store`), or a session with DPS |
//! | `Dps` | assigned, chain accepted | `Store(Stage)`, `Leaving`, then `Ready` |
//! | `Hub` | accepted with a staged certificate | `Store(Activate)` |
//! | | renewed | `Store(Stage)`; once nothing is in flight `Leaving`, then `Ready` |
//! | | a token has four fifths of its life behind it | once nothing is in flight `Leaving`, then `Ready` |
//! | | `close` | once nothing waits `Leaving`, then `Stopped` |
//! | | a staged certificate is refused | `Store(DiscardStaged)`, `Waiting` |
//! | `Dps`, `Hub` | any failure | `Waiting` on a ladder, or `Stopped` |
//! | `Waiting` | its instant | `Ready` |
//! | `Leaving` | transmitted, or its deadline | `HangUp`, then `Ready` or `Stopped` |
//! | any | `close` | `Leaving`, then `Stopped` |
//!
//! A device that shows its bootstrap credential to its hub ([`HubCredential`](crate::HubCredential)) makes
//! no key, and stores `Assign` in place of `Stage`.
//!
//! One change of identity is stored at a time, and nothing that depends on it happens before the
//! driver has answered.

mod ending;
mod refusal;
mod renewing;
mod steer;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use core::time::Duration;
use core::{fmt, mem};

use rand_core::CryptoRng;
use serde_json::{Map, Value};
use thiserror::Error;
use zerotouch_credentials::SasToken;
use zerotouch_dps::Assignment;
use zerotouch_hub::wire::MAX_TELEMETRY_LENGTH;
use zerotouch_hub::{
    MethodCall, Methods, ReportError, ReportHandle, RespondError, Telemetry, Twin, TwinConfig,
};
use zerotouch_mqtt_codec::MAX_TOPIC_LEN;
use zerotouch_store::{Change, Identity, StoreError};
use zerotouch_time::{Instant, Now};

use self::refusal::Trial;
use self::renewing::Schedule;
pub(crate) use self::steer::is_about_dates;
use crate::backoff::{Ladder, up_to};
use crate::hub::{Draining, HubSession, Lasting, Renewing, Shown};
use crate::link::{Link, LinkStep};
use crate::provision::DpsSession;
use crate::queue::Queue;
use crate::{
    Action, Config, ConnectionId, Event, Failure, HubAccess, QueueStatus, Scope, TelemetryHandle,
    TransportFailure, TransportFailureKind,
};

/// Where a device is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Not started.
    Idle,
    /// Waiting for the store.
    Storing,
    /// At the provisioning service.
    Provisioning,
    /// On the way to the hub.
    Connecting,
    /// At the hub.
    Connected,
    /// A failure is being waited out.
    Waiting {
        /// Which service failed.
        scope: Scope,
        /// When the next attempt is due.
        until: Instant,
    },
    /// Saying goodbye.
    Closing,
    /// Ended.
    Stopped,
}

/// Why telemetry was not taken. Nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The device is closing, or has stopped.
    #[error("the device has stopped")]
    Stopped,
    /// As much waits as may: see [`QueuePolicy`](crate::QueuePolicy).
    #[error("the queue is full")]
    QueueFull,
    /// The hub takes no message as large.
    #[error("the message has {length} bytes, the hub takes {MAX_TELEMETRY_LENGTH}")]
    TooLarge {
        /// Its length.
        length: usize,
    },
    /// Its properties do not fit into a topic.
    #[error("the message's properties have {length} bytes as a topic, {MAX_TOPIC_LEN} fit")]
    PropertiesTooLarge {
        /// Their length.
        length: usize,
    },
}

/// Why a renewal was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RenewError {
    /// The device shows its bootstrap credential to its hub, and asks for no certificate: see
    /// [`HubCredential`](crate::HubCredential).
    #[error("the device works with its bootstrap credential and has no certificate to renew")]
    Bootstrap,
    /// There is no hub at the other end now.
    #[error("not connected to the hub")]
    NotConnected,
    /// A renewal is under way: the service takes one at a time.
    #[error("a renewal is under way already")]
    Busy,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Storing => "storing",
            Self::Provisioning => "provisioning",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Waiting { scope, .. } => return write!(f, "waiting to try the {scope} again"),
            Self::Closing => "closing",
            Self::Stopped => "stopped",
        })
    }
}

#[derive(Debug)]
enum Phase {
    Idle,
    Ready,
    Waiting { scope: Scope, until: Instant },
    Dps(DpsSession),
    Hub(HubSession),
    Leaving { link: Link, deadline: Instant, then: Then },
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Proceed,
    Stop,
}

/// One device.
///
/// `R` is the device's own random number generator, seeded by its maker: keys come from it.
#[derive(Debug)]
pub struct Device<R> {
    config: Config,
    identity: Identity,
    rng: R,
    phase: Phase,
    lasting: Lasting,
    schedule: Schedule,
    /// The change that the driver is storing.
    storing: Option<Change>,
    trial: Trial,
    /// A certificate just issued was out of date by the wall clock: which is wrong, then.
    doubts_clock: bool,
    attempts: u32,
    dps_ladder: Ladder,
    hub_ladder: Ladder,
    identity_ladder: Ladder,
    /// What the provisioning service asked for holds although its connection has ended.
    dps_not_before: Instant,
    last_connection: u64,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    /// The state that was told last.
    told: State,
}

/// Commands of the application.
impl<R: CryptoRng> Device<R> {
    /// A device with the identity that its store holds.
    pub fn new(config: Config, identity: Identity, mut rng: R) -> Self {
        Self {
            lasting: Lasting {
                queue: Queue::new(config.queue),
                methods: Methods::default(),
                twin: Twin::new(TwinConfig::default(), rng.next_u32()),
                renewal: None,
            },
            config,
            identity,
            rng,
            phase: Phase::Idle,
            schedule: Schedule::default(),
            storing: None,
            trial: Trial::default(),
            doubts_clock: false,
            attempts: 0,
            dps_ladder: Ladder::default(),
            hub_ladder: Ladder::default(),
            identity_ladder: Ladder::default(),
            dps_not_before: Instant::ZERO,
            last_connection: 0,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            told: State::Idle,
        }
    }

    /// Begins to live. A second call does nothing.
    pub fn start(&mut self, now: Now) {
        if !matches!(self.phase, Phase::Idle) {
            return;
        }
        self.phase = Phase::Ready;
        let spread = self.config.retry.connect_spread;
        if spread.is_zero() {
            self.proceed(now);
        } else {
            let until = now.monotonic + up_to(spread, &mut self.rng);
            self.phase = Phase::Waiting { scope: Scope::Hub, until };
        }
    }

    /// Sends telemetry, now or when there is a hub at the other end, in the order of these calls and, if a
    /// connection ends before it is acknowledged, again. [`Event::TelemetryAcknowledged`] or
    /// [`Event::TelemetryDropped`] follows.
    pub fn send_telemetry(
        &mut self,
        telemetry: Telemetry,
        now: Now,
    ) -> Result<TelemetryHandle, SendError> {
        self.check_telemetry(&telemetry)?;
        let handle = self.lasting.queue.push(telemetry, now.monotonic)?;
        self.settle(now);
        Ok(handle)
    }

    /// Whether [`Device::send_telemetry`] would take this message now: for a driver that writes it down
    /// before.
    pub fn check_telemetry(&self, telemetry: &Telemetry) -> Result<(), SendError> {
        if self.is_ending() {
            return Err(SendError::Stopped);
        }
        let length = telemetry.payload.len();
        if length > MAX_TELEMETRY_LENGTH {
            return Err(SendError::TooLarge { length });
        }
        // A device id has at most 128 characters, wherever the device will be assigned to.
        let length = telemetry.topic("").len() + 128;
        if length > MAX_TOPIC_LEN {
            return Err(SendError::PropertiesTooLarge { length });
        }
        self.lasting.queue.check(telemetry)
    }

    /// Takes back a message that was taken in an earlier life, `age` ago: behind those before it, and
    /// whatever the bounds of the queue are now. To be called before [`Device::start`].
    pub fn restore_telemetry(
        &mut self,
        telemetry: Telemetry,
        age: Duration,
        now: Now,
    ) -> TelemetryHandle {
        self.lasting.queue.restore(telemetry, age, now.monotonic)
    }

    /// How much telemetry is not acknowledged yet.
    pub fn queue(&self) -> QueueStatus {
        self.lasting.queue.status()
    }

    /// Answers a method call of [`Event::Method`] with a status and JSON or nothing.
    pub fn respond(
        &mut self,
        call: MethodCall,
        status: i32,
        payload: &[u8],
        now: Now,
    ) -> Result<(), RespondError> {
        self.lasting.methods.respond(call, status, payload)?;
        self.settle(now);
        Ok(())
    }

    /// Reports properties of the twin; [`Event::Twin`] tells what came of it.
    pub fn report_properties(
        &mut self,
        patch: &Map<String, Value>,
        now: Now,
    ) -> Result<ReportHandle, ReportError> {
        let handle = self.lasting.twin.report(patch, now.monotonic)?;
        self.settle(now);
        Ok(handle)
    }

    /// The twin, as far as it is known.
    pub fn twin(&self) -> &Twin {
        &self.lasting.twin
    }

    /// What requests to the hub over HTTPS take, while it is connected: the credential it has accepted.
    pub fn hub_access(&self, now: Now) -> Option<HubAccess> {
        let Phase::Hub(session) = &self.phase else { return None };
        if !session.link.is_up() {
            return None;
        }
        let assignment = session.assignment().clone();
        let (identity, token) = match session.shown {
            Shown::Generation(number) => (self.issued_identity(number).ok()?, None),
            Shown::Attestation(turn) => {
                let key = self.config.token_key(turn, now).ok()?;
                let token = key.map(|(key, expiry)| {
                    let Assignment { assigned_hub, device_id, .. } = &assignment;
                    SasToken::for_hub(key, assigned_hub, device_id, expiry)
                });
                (self.config.tls_identity(turn).cloned(), token)
            }
        };
        Some(HubAccess { assignment, port: self.config.hub.https_port, identity, token })
    }

    /// Renews the certificate now: [`Event::RenewalRequested`], then either
    /// [`Event::CertificateIssued`] and a new connection, or [`Event::RenewalFailed`].
    pub fn renew(&mut self, now: Now) -> Result<(), RenewError> {
        if !self.config.wants_certificates() {
            return Err(RenewError::Bootstrap);
        }
        let Phase::Hub(session) = &mut self.phase else { return Err(RenewError::NotConnected) };
        if !session.link.is_up() {
            return Err(RenewError::NotConnected);
        }
        let is_idle = matches!(session.renewal, Renewing::No) && session.draining.is_none();
        if !is_idle || self.storing.is_some() {
            return Err(RenewError::Busy);
        }
        self.begin_renewal(now);
        self.settle(now);
        Ok(())
    }

    /// Sends what waits, for as long as `Config::close_timeout` allows, says goodbye and ends;
    /// [`Event::Stopped`] follows.
    pub fn close(&mut self, now: Now) {
        let deadline = now.monotonic + self.config.close_timeout;
        match &mut self.phase {
            Phase::Hub(session) if session.link.is_up() => {
                let draining = session.draining.filter(|d| matches!(d, Draining::Queue { .. }));
                session.draining = draining.or(Some(Draining::Queue { deadline }));
            }
            _ => self.leave(Then::Stop, now.monotonic),
        }
        self.settle(now);
    }

    fn is_ending(&self) -> bool {
        match &self.phase {
            Phase::Hub(session) => matches!(session.draining, Some(Draining::Queue { .. })),
            Phase::Leaving { then, .. } => *then == Then::Stop,
            Phase::Stopped => true,
            _ => false,
        }
    }

    /// Where the device is in its life.
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Idle => State::Idle,
            Phase::Ready => State::Storing,
            Phase::Waiting { scope, until } => State::Waiting { scope: *scope, until: *until },
            Phase::Dps(_) => State::Provisioning,
            Phase::Hub(_) if self.is_ending() => State::Closing,
            Phase::Hub(session) if session.link.is_up() => State::Connected,
            Phase::Hub(_) => State::Connecting,
            Phase::Leaving { .. } => State::Closing,
            Phase::Stopped => State::Stopped,
        }
    }

    /// The connection the device is dialling or using.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.link().map(|link| link.connection)
    }

    /// Who the device is, as far as the store has confirmed.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// Answers of the driver.
impl<R: CryptoRng> Device<R> {
    /// The dial succeeded: TLS stands, and bytes flow.
    pub fn handle_dialled(&mut self, connection: ConnectionId, now: Now) {
        let connected = match &mut self.phase {
            Phase::Dps(session) if awaits(&session.link, connection) => {
                session.handle_dialled(&self.config, now)
            }
            Phase::Hub(session) if awaits(&session.link, connection) => {
                session.handle_dialled(&self.config, now)
            }
            // The engine has given this dial up, and has said so.
            _ => return,
        };
        if let Err(failure) = connected {
            self.fail(failure, now);
        }
    }

    /// The dial failed.
    pub fn handle_dial_failed(
        &mut self,
        connection: ConnectionId,
        failure: TransportFailure,
        now: Now,
    ) {
        if self.link().is_some_and(|link| awaits(link, connection)) {
            self.fail_dead(failure.into(), now);
        }
    }

    /// Bytes arrived.
    pub fn handle_bytes(&mut self, connection: ConnectionId, mut bytes: &[u8], now: Now) {
        while self.link().is_some_and(|link| link.connection == connection) {
            let monotonic = now.monotonic;
            let handled = match &mut self.phase {
                Phase::Dps(session) => session
                    .handle_bytes(&mut bytes, monotonic, &mut self.rng)
                    .map(|step| self.after_dps(step, now)),
                Phase::Hub(session) => session
                    .handle_bytes(&mut bytes, &mut self.lasting, now)
                    .map(|step| self.after_hub(step, now)),
                _ => None,
            };
            if handled.is_none() {
                break;
            }
            self.take_steps(now);
        }
        self.settle(now);
    }

    /// The connection ended.
    pub fn handle_disconnected(
        &mut self,
        connection: ConnectionId,
        failure: TransportFailure,
        now: Now,
    ) {
        let Some(link) = self.link_mut().filter(|link| link.connection == connection) else {
            return;
        };
        // MQTT knows more of an ending than the socket does, unless TLS said why.
        let failure = if failure.kind == TransportFailureKind::Closed {
            link.mqtt.handle_closed();
            let mut ended = core::iter::from_fn(|| link.poll_step(now.monotonic));
            ended.find_map(|step| match step {
                LinkStep::Failed(failure) => Some(failure),
                _ => None,
            })
        } else {
            Some(failure.into())
        };
        match (mem::replace(&mut self.phase, Phase::Ready), failure) {
            (Phase::Leaving { then, .. }, _) => self.left(then, now),
            (phase, failure) => {
                self.phase = phase;
                self.fail_dead(failure.unwrap_or(TransportFailure::closed().into()), now);
            }
        }
    }

    /// The change of the last [`Action::Store`] is durable, or why not.
    pub fn handle_stored(&mut self, result: Result<(), StoreError>, now: Now) {
        let Some(change) = self.storing.take() else { return };
        let result = result.and_then(|()| Ok(self.identity.apply(&change)?));
        match result {
            Ok(()) => self.stored(&change, now),
            Err(error) => self.not_stored(&change, Failure::Store(Arc::new(error)), now),
        }
        self.settle(now);
        self.proceed(now);
    }

    /// The transport took the first `n` bytes of [`Device::poll_transmit`].
    pub fn handle_transmitted(&mut self, n: usize, now: Now) {
        if let Some(link) = self.link_mut() {
            link.mqtt.handle_transmitted(n);
        }
        self.settle(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        let monotonic = now.monotonic;
        self.lasting.queue.handle_timeout(monotonic);
        match &mut self.phase {
            Phase::Waiting { until, .. } if monotonic >= *until => {
                self.phase = Phase::Ready;
                self.proceed(now);
            }
            Phase::Dps(session) => {
                let step = session.handle_timeout(monotonic);
                self.after_dps(step, now);
            }
            Phase::Hub(session) => {
                let close_timeout = self.config.close_timeout;
                let step = session.handle_timeout(&mut self.lasting, close_timeout, monotonic);
                self.after_hub(step, now);
            }
            _ => {}
        }
        self.settle(now);
    }

    /// What the driver is to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What the application is to know next. A change of [`Device::state`] comes after what led to it;
    /// states that were passed through between two calls are left out.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| {
            let state = self.state();
            let is_news = state != self.told;
            is_news.then(|| {
                self.told = state.clone();
                Event::StateChanged(state)
            })
        })
    }

    /// Bytes for the connection; to be drained after the actions.
    pub fn poll_transmit(&mut self) -> Option<&[u8]> {
        let link = self.link_mut().filter(|link| !link.is_dialling())?;
        link.mqtt.poll_transmit()
    }

    /// When [`Device::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Idle | Phase::Ready | Phase::Stopped => None,
            Phase::Waiting { until, .. } => Some(*until),
            Phase::Dps(session) => session.poll_timeout(),
            Phase::Hub(session) => session.poll_timeout(&self.lasting),
            Phase::Leaving { deadline, .. } => Some(*deadline),
        };
        [phase, self.lasting.queue.poll_timeout(), self.schedule.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }
}

fn awaits(link: &Link, connection: ConnectionId) -> bool {
    link.connection == connection && link.is_dialling()
}
