//! One device engine as the world drives it: whole, or broken in a way that the invariants must see.
//!
//! A mutant is made here, between the engine and the world, and not in the engine: it is lied to, or what
//! it says is changed.

use std::collections::VecDeque;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use serde_json::{Map, Value};
use zerotouch_device::{
    Action, ConnectionId, Credential, Device, Event, RenewError, SendError, State, TelemetryHandle,
    TlsIdentity, TransportFailure,
};
use zerotouch_hub::{MethodCall, ReportError, ReportHandle, RespondError, Telemetry, TwinEvent};
use zerotouch_mqtt_codec::{Decoded, Delivery, Packet, Publish, decode};
use zerotouch_store::file::simulation::Slip;
use zerotouch_store::{Change, Key, StoreError};
use zerotouch_time::{Instant, Now};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Polls the provisioning service at its own pace, whatever `retry-after` says.
    IgnoresRetryAfter,
    /// Takes every wait after a failure for over.
    IgnoresLadders,
    /// Believes a certificate before a hub has accepted it.
    ActivatesUnseen,
    /// Asks for every certificate under the first request id.
    ReusesRequestId,
    /// Makes a second request beside the first.
    AsksTwice,
    /// Never sees PUBACK.
    DropsPuback,
    /// Reports telemetry as acknowledged once it is taken.
    AcknowledgesUnsent,
    /// Sends what is taken second before what is taken first.
    ReordersTelemetry,
    /// Keeps everything that it takes twice.
    TakesTwice,
    /// Goes on before a new key is stored.
    GoesOnUnstored,
    /// Goes on without having stored a certificate.
    SwallowsCertificate,
    /// Forgets who it is when its hub refuses a certificate.
    ForgetsWhenRefused,
    /// Sends its private key along with telemetry.
    LeaksKey,
    /// Does not try again.
    GivesUp,
    /// Says nothing of failures.
    HidesFailures,
    /// Names another credential than the one that was shown.
    NamesWrongCredential,
    /// Does not hang up.
    KeepsConnections,
    /// Always has something to do at once.
    NeverSleeps,
    /// Sends every request for the status six times.
    PollsTooOften,
    /// Shows the first certificate it ever had for ever.
    ShowsFirstCertificate,
    /// Does not give its application what the cloud sends it.
    HidesMessages,
    /// Does not tell of methods that are called.
    HidesCalls,
    /// Does not tell of a desired property that is changed.
    HidesDesired,
    /// Its store does not make the content of files durable.
    SkipsFileSync,
    /// Its store does not make the names of files durable.
    SkipsDirectorySync,
    /// Its store gives files their names before their content is durable.
    RenamesFirst,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::IgnoresRetryAfter,
        Self::IgnoresLadders,
        Self::ActivatesUnseen,
        Self::ReusesRequestId,
        Self::AsksTwice,
        Self::DropsPuback,
        Self::AcknowledgesUnsent,
        Self::ReordersTelemetry,
        Self::TakesTwice,
        Self::GoesOnUnstored,
        Self::SwallowsCertificate,
        Self::ForgetsWhenRefused,
        Self::LeaksKey,
        Self::GivesUp,
        Self::HidesFailures,
        Self::NamesWrongCredential,
        Self::KeepsConnections,
        Self::NeverSleeps,
        Self::PollsTooOften,
        Self::ShowsFirstCertificate,
        Self::HidesMessages,
        Self::HidesCalls,
        Self::HidesDesired,
        Self::SkipsFileSync,
        Self::SkipsDirectorySync,
        Self::RenamesFirst,
    ];

    /// The mistake of its store, if that is what is broken.
    pub(crate) fn slip(self) -> Option<Slip> {
        match self {
            Self::SkipsFileSync => Some(Slip::NoFileSync),
            Self::SkipsDirectorySync => Some(Slip::NoDirectorySync),
            Self::RenamesFirst => Some(Slip::RenameFirst),
            _ => None,
        }
    }
}

/// A device engine, and what is broken about it.
#[derive(Debug)]
pub(crate) struct Unit {
    device: Device<ChaCha20Rng>,
    mutant: Option<Mutant>,
    memory: Memory,
}

/// What a mutant remembers.
#[derive(Debug, Default)]
struct Memory {
    /// Actions and events of its own.
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    /// For each change that is being stored, whether it is the engine's.
    asked: VecDeque<bool>,
    /// Bytes of packets that are not whole yet.
    inbound: Vec<u8>,
    outbound: Vec<u8>,
    /// The first one, and the engine's own.
    request_id: Option<(String, String)>,
    held_back: Option<Vec<u8>>,
    secret: Option<Vec<u8>>,
    identity: Option<TlsIdentity>,
    gave_up: bool,
    skew: Duration,
}

impl Unit {
    pub(crate) fn new(device: Device<ChaCha20Rng>, mutant: Option<Mutant>) -> Self {
        Self { device, mutant, memory: Memory::default() }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The time as this one sees it.
    fn now(&self, now: Now) -> Now {
        Now { monotonic: now.monotonic + self.memory.skew, ..now }
    }

    pub(crate) fn start(&mut self, now: Now) {
        self.device.start(self.now(now));
    }

    pub(crate) fn send_telemetry(
        &mut self,
        telemetry: Telemetry,
        now: Now,
    ) -> Result<TelemetryHandle, SendError> {
        if self.is(Mutant::TakesTwice) {
            self.device.send_telemetry(telemetry.clone(), self.now(now))?;
        }
        let handle = self.device.send_telemetry(telemetry, self.now(now))?;
        if self.is(Mutant::AcknowledgesUnsent) {
            self.memory.events.push_back(Event::TelemetryAcknowledged(handle));
        }
        Ok(handle)
    }

    pub(crate) fn restore_telemetry(&mut self, telemetry: Telemetry, now: Now) -> TelemetryHandle {
        self.device.restore_telemetry(telemetry, Duration::ZERO, self.now(now))
    }

    pub(crate) fn renew(&mut self, now: Now) -> Result<(), RenewError> {
        self.device.renew(self.now(now))
    }

    pub(crate) fn respond(
        &mut self,
        call: MethodCall,
        status: i32,
        payload: &[u8],
        now: Now,
    ) -> Result<(), RespondError> {
        self.device.respond(call, status, payload, self.now(now))
    }

    pub(crate) fn report_properties(
        &mut self,
        patch: &Map<String, Value>,
        now: Now,
    ) -> Result<ReportHandle, ReportError> {
        self.device.report_properties(patch, self.now(now))
    }

    pub(crate) fn state(&self) -> State {
        self.device.state()
    }

    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        self.device.connection()
    }

    pub(crate) fn waiting_messages(&self) -> usize {
        self.device.queue().messages
    }

    pub(crate) fn handle_dialled(&mut self, connection: ConnectionId, now: Now) {
        self.memory.inbound.clear();
        self.memory.outbound.clear();
        self.device.handle_dialled(connection, self.now(now));
    }

    pub(crate) fn handle_dial_failed(
        &mut self,
        connection: ConnectionId,
        failure: TransportFailure,
        now: Now,
    ) {
        self.device.handle_dial_failed(connection, failure, self.now(now));
    }

    pub(crate) fn handle_bytes(&mut self, connection: ConnectionId, bytes: &[u8], now: Now) {
        let now = self.now(now);
        match self.mutant {
            Some(Mutant::DropsPuback | Mutant::IgnoresRetryAfter | Mutant::ReusesRequestId) => {}
            _ => return self.device.handle_bytes(connection, bytes, now),
        }
        self.memory.inbound.extend_from_slice(bytes);
        let mut passed = Vec::new();
        each_packet(&mut self.memory.inbound, |raw, packet| match packet {
            Packet::PubAck(_) if self.mutant == Some(Mutant::DropsPuback) => {}
            _ if self.mutant == Some(Mutant::IgnoresRetryAfter) => {
                passed.extend(replace(raw, b"&retry-after=", b"&retry-early="));
            }
            _ => match &self.memory.request_id {
                Some((first, last)) => {
                    passed.extend(replace(raw, first.as_bytes(), last.as_bytes()));
                }
                None => passed.extend_from_slice(raw),
            },
        });
        self.device.handle_bytes(connection, &passed, now);
    }

    pub(crate) fn handle_disconnected(
        &mut self,
        connection: ConnectionId,
        failure: TransportFailure,
        now: Now,
    ) {
        self.device.handle_disconnected(connection, failure, self.now(now));
    }

    pub(crate) fn handle_stored(&mut self, result: Result<(), StoreError>, now: Now) {
        if self.memory.asked.pop_front() != Some(false) {
            self.device.handle_stored(result, self.now(now));
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Now) {
        if self.is(Mutant::IgnoresLadders)
            && let State::Waiting { until, .. } = self.device.state()
        {
            self.memory.skew = self.memory.skew.max(until - now.monotonic);
        }
        self.device.handle_timeout(self.now(now));
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.device.poll_timeout().filter(|_| !self.memory.gave_up)?;
        let is_waiting = matches!(self.device.state(), State::Waiting { .. });
        if is_waiting && self.is(Mutant::IgnoresLadders) || self.is(Mutant::NeverSleeps) {
            return Some(Instant::ZERO);
        }
        Some(Instant::ZERO + (due - Instant::ZERO).saturating_sub(self.memory.skew))
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.memory.events.pop_front() {
            return Some(event);
        }
        match (self.mutant, self.device.poll_event()?) {
            (Some(Mutant::HidesFailures), Event::AttemptFailed { .. })
            | (Some(Mutant::HidesMessages), Event::Message(_))
            | (Some(Mutant::HidesCalls), Event::Method(_))
            | (Some(Mutant::HidesDesired), Event::Twin(TwinEvent::Desired { .. })) => {
                self.poll_event()
            }
            (
                Some(Mutant::NamesWrongCredential),
                Event::Connected { assignment, thumbprint, .. },
            ) => {
                let credential = Credential::Previous;
                Some(Event::Connected { assignment, credential, thumbprint })
            }
            (Some(Mutant::GivesUp), event @ Event::AttemptFailed { .. }) => {
                self.memory.gave_up = true;
                Some(event)
            }
            (_, event) => Some(event),
        }
    }

    /// The next action; `now` for what a mutant answers by itself.
    pub(crate) fn poll_action(&mut self, now: Now) -> Option<Action> {
        let own = self.memory.actions.pop_front();
        let is_own = own.is_some();
        let mut action = own.or_else(|| self.device.poll_action())?;
        if let Some(mutant) = self.mutant.filter(|_| !is_own) {
            match (mutant, &mut action) {
                (Mutant::ActivatesUnseen, Action::Store(Change::Activate))
                | (Mutant::GoesOnUnstored, Action::Store(Change::Begin { .. }))
                | (Mutant::SwallowsCertificate, Action::Store(Change::Stage { .. })) => {
                    self.device.handle_stored(Ok(()), self.now(now));
                    return self.poll_action(now);
                }
                (Mutant::KeepsConnections, Action::HangUp(_)) => return self.poll_action(now),
                (Mutant::ActivatesUnseen, Action::Store(Change::Stage { .. })) => {
                    self.memory.actions.push_back(Action::Store(Change::Activate));
                }
                (Mutant::ForgetsWhenRefused, Action::Store(Change::DiscardStaged)) => {
                    self.memory.actions.push_back(Action::Store(Change::Forget));
                }
                (
                    Mutant::LeaksKey,
                    Action::Store(Change::Begin { key: Key::Software(key), .. }),
                ) => {
                    self.memory.secret = key.to_pkcs8_pem().ok().map(|pem| pem.as_bytes().to_vec());
                }
                (Mutant::ShowsFirstCertificate, Action::Dial(dial)) if dial.identity.is_some() => {
                    dial.identity =
                        self.memory.identity.get_or_insert(dial.identity.clone()?).clone().into();
                }
                _ => {}
            }
        }
        if let Action::Store(_) = action {
            self.memory.asked.push_back(!is_own);
        }
        Some(action)
    }

    /// What it sends.
    pub(crate) fn take_bytes(&mut self, now: Now) -> Option<Vec<u8>> {
        let mut bytes = self.device.poll_transmit()?.to_vec();
        self.device.handle_transmitted(bytes.len(), self.now(now));
        if matches!(
            self.mutant,
            Some(
                Mutant::ReusesRequestId
                    | Mutant::AsksTwice
                    | Mutant::ReordersTelemetry
                    | Mutant::LeaksKey
                    | Mutant::PollsTooOften
            )
        ) {
            self.memory.outbound.append(&mut bytes);
            let mut outbound = std::mem::take(&mut self.memory.outbound);
            each_packet(&mut outbound, |raw, packet| self.distort(raw, packet, &mut bytes));
            self.memory.outbound = outbound;
        }
        Some(bytes)
    }

    fn distort(&mut self, raw: &[u8], packet: &Packet<'_>, out: &mut Vec<u8>) {
        let topic = match packet {
            Packet::Publish(publish) => publish.topic.as_str(),
            _ => "",
        };
        let is_telemetry = topic.starts_with("devices/");
        let renewal = topic.strip_prefix("$iothub/credentials/POST/issueCertificate/?$rid=");
        match (self.mutant, renewal) {
            (Some(Mutant::ReusesRequestId), Some(id)) => {
                let own = || (id.to_owned(), id.to_owned());
                let (first, last) = self.memory.request_id.get_or_insert_with(own);
                id.clone_into(last);
                out.extend(replace(raw, id.as_bytes(), first.as_bytes()));
            }
            (Some(Mutant::AsksTwice), Some(id)) => {
                let other: String = id.chars().rev().collect();
                out.extend_from_slice(raw);
                out.extend(replace(raw, id.as_bytes(), other.as_bytes()));
            }
            (Some(Mutant::PollsTooOften), _) if topic.contains("get-operationstatus") => {
                out.extend(std::iter::repeat_n(raw, 6).flatten());
            }
            (Some(Mutant::ReordersTelemetry), _) if is_telemetry => {
                match self.memory.held_back.take() {
                    None => self.memory.held_back = Some(raw.to_vec()),
                    Some(first) => {
                        out.extend_from_slice(raw);
                        out.extend(first);
                    }
                }
            }
            (Some(Mutant::LeaksKey), _) if is_telemetry => {
                let secret = self.memory.secret.take().unwrap_or_default();
                if let Packet::Publish(publish) = packet {
                    let publish =
                        Publish { payload: &secret, delivery: Delivery::AtMostOnce, ..*publish };
                    // As long as a key and a topic: it fits.
                    let _ = Packet::Publish(publish).encode_to(out);
                }
                out.extend_from_slice(raw);
            }
            _ => out.extend_from_slice(raw),
        }
    }
}

/// Takes the whole packets out of `buffer`.
pub(crate) fn each_packet(buffer: &mut Vec<u8>, mut see: impl FnMut(&[u8], &Packet<'_>)) {
    let mut at = 0;
    while let Ok(Decoded::Complete { packet, used }) = decode(&buffer[at..]) {
        see(&buffer[at..at + used], &packet);
        at += used;
    }
    buffer.drain(..at);
}

/// `bytes` with another text of the same length in place of one.
fn replace(bytes: &[u8], this: &[u8], that: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let found = bytes.windows(this.len()).position(|window| window == this);
    if let Some(at) = found.filter(|_| this.len() == that.len()) {
        bytes[at..at + this.len()].copy_from_slice(that);
    }
    bytes
}
