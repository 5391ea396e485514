//! What must hold, after every step and in every world.
//!
//! Each invariant is a small type that watches what passes between the parties: the device's actions and
//! events, the changes its store made, MQTT packets where they leave and reach the device, and what the
//! cloud says has happened. None asks an engine what it thinks.
//!
//! | name | what holds |
//! |---|---|
//! | `store` | what is stored stays; after a power cut the store holds that, or what was being stored, whole |
//! | `identity` | once a store held a whole identity it holds one; keys fit their certificates; numbers grow |
//! | `key` | no private key is in what leaves the device; what is asked for is asked with the key that is stored |
//! | `request` | at most one certificate request is in flight; one id names one request |
//! | `activation` | only what a hub has accepted becomes active |
//! | `credential` | what is shown is what the store holds, and it is named by its name |
//! | `telemetry` | what is acknowledged has arrived, first arrivals are in order, nothing is dropped |
//! | `wishes` | what the cloud has as delivered was delivered; an answer is to a call, and there is one |
//! | `pace` | nothing is asked before `retry-after`, a ladder or the poll budget allows it |
//! | `connections` | a device holds one connection at a time |
//! | `story` | a change of state is explained by an event |
//! | `memory` | queues and connections stay within bounds |
//! | `return` | a device whose faults have ceased is connected again in time, and its telemetry is acknowledged |

mod identity;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::Deserialize;
use zerotouch_device::{ConnectionId, Dial, Event, State};
use zerotouch_emulator::cloud::{CloudEvent, CommandOutcome};
use zerotouch_mqtt_codec::{Packet, Publish};
use zerotouch_store::{Change, Identity};
use zerotouch_time::Instant;

use self::identity::{Activation, Durable, SecretKey, TrueCredential, WholeIdentity};
use crate::plan::Service;

/// What an invariant is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen<'a> {
    /// The device begins, with what its store holds.
    Booted,
    /// It dials.
    Dial(&'a Dial, Service),
    /// It has no connection any more, for whatever reason.
    Disconnected(ConnectionId),
    /// Its store begins to make a change.
    Storing(&'a Change),
    /// Its store has made it.
    Stored(&'a Change),
    /// The application asks for a renewal.
    Renew,
    /// It reports something.
    Event(&'a Event),
    /// A packet leaves it.
    Sent(&'a Packet<'a>),
    /// A packet reaches it.
    Heard(Service, &'a Packet<'a>),
    /// A message has been acknowledged to its application.
    Acknowledged(u32),
    /// A message has arrived at its hub.
    Arrived(u32),
    /// The application was given a message of the cloud.
    Delivered(&'a str),
    /// The cloud calls a method, under this id.
    Called(&'a str),
    /// Something else has happened in the cloud.
    Cloud(&'a CloudEvent),
}

/// Of which device, when, and what its store holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) at: Instant,
    pub(crate) device: usize,
    pub(crate) identity: &'a Identity,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

trait Invariant: std::fmt::Debug {
    fn name(&self) -> &'static str;
    fn see(&mut self, scene: Scene<'_>, seen: &Seen<'_>) -> Result<(), String>;
}

/// What they are called, those included that a world watches as a whole.
pub fn invariant_names() -> Vec<&'static str> {
    let Invariants(of_a_device) = Invariants::new();
    of_a_device.iter().map(|one| one.name()).chain(["memory", "return"]).collect()
}

/// All of them, for one device.
#[derive(Debug)]
pub(crate) struct Invariants(Vec<Box<dyn Invariant>>);

impl Invariants {
    pub(crate) fn new() -> Self {
        Self(vec![
            Box::new(Durable::default()),
            Box::new(WholeIdentity::default()),
            Box::new(SecretKey::default()),
            Box::new(OneRequest::default()),
            Box::new(Activation::default()),
            Box::new(TrueCredential::default()),
            Box::new(Telemetry::default()),
            Box::new(Wishes::default()),
            Box::new(Pace::default()),
            Box::new(OneConnection::default()),
            Box::new(Explained::default()),
        ])
    }

    pub(crate) fn see(&mut self, scene: Scene<'_>, seen: &Seen<'_>) -> Result<(), Breach> {
        for one in &mut self.0 {
            if let Err(what) = one.see(scene, seen) {
                let what = format!("device-{}: {what}", scene.device);
                return Err(Breach { invariant: one.name(), what });
            }
        }
        Ok(())
    }
}

const REGISTER: &str = "$dps/registrations/PUT/";
const POLL: &str = "$dps/registrations/GET/";
const DPS_REPLY: &str = "$dps/registrations/res/";
const RENEW: &str = "$iothub/credentials/POST/issueCertificate/";
const RENEW_REPLY: &str = "$iothub/credentials/res/";

/// The value of a member of the property bag at the end of a topic.
fn property<'a>(topic: &'a str, name: &str) -> Option<&'a str> {
    let (_, bag) = topic.split_once("/?")?;
    bag.split('&').find_map(|member| member.strip_prefix(name)?.strip_prefix('='))
}

fn status(topic: &str, prefix: &str) -> Option<u16> {
    topic.strip_prefix(prefix)?.split('/').next()?.parse().ok()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Body {
    csr: Option<String>,
    replace: Option<String>,
    retry_after: Option<u64>,
}

fn body(publish: &Publish<'_>) -> Body {
    serde_json::from_slice(publish.payload).unwrap_or_default()
}

fn publish_to<'a>(packet: &'a Packet<'a>, prefix: &str) -> Option<&'a Publish<'a>> {
    match packet {
        Packet::Publish(publish) if publish.topic.as_str().starts_with(prefix) => Some(publish),
        _ => None,
    }
}

/// One certificate request at a time.
#[derive(Debug, Default)]
struct OneRequest {
    in_flight: Option<String>,
    made: BTreeMap<String, String>,
}

impl Invariant for OneRequest {
    fn name(&self) -> &'static str {
        "request"
    }

    fn see(&mut self, _: Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Sent(packet) => {
                let Some(publish) = publish_to(packet, RENEW) else { return Ok(()) };
                let id = property(publish.topic.as_str(), "$rid").unwrap_or_default();
                let Body { csr, replace, .. } = body(publish);
                let csr = csr.unwrap_or_default();
                if self.made.get(id).is_some_and(|made| *made != csr) {
                    return Err(format!("request id {id} names another request"));
                }
                let other = self.in_flight.as_ref().filter(|other| *other != id);
                if let Some(other) = other.filter(|_| replace.is_none()) {
                    return Err(format!("request {id} is made while {other} is in flight"));
                }
                self.made.insert(id.to_owned(), csr);
                self.in_flight = Some(id.to_owned());
            }
            Seen::Heard(_, packet) => {
                let Some(publish) = publish_to(packet, RENEW_REPLY) else { return Ok(()) };
                let topic = publish.topic.as_str();
                let is_over = status(topic, RENEW_REPLY).is_some_and(|status| status != 202);
                if is_over && property(topic, "$rid") == self.in_flight.as_deref() {
                    self.in_flight = None;
                }
            }
            Seen::Stored(Change::Stage { .. } | Change::DiscardPending | Change::Forget) => {
                self.in_flight = None;
            }
            _ => {}
        }
        Ok(())
    }
}

/// What is acknowledged has arrived, in order.
#[derive(Debug, Default)]
struct Telemetry {
    arrived: BTreeSet<u32>,
    last: Option<u32>,
}

impl Invariant for Telemetry {
    fn name(&self) -> &'static str {
        "telemetry"
    }

    fn see(&mut self, _: Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Arrived(number) => {
                let is_first = self.arrived.insert(*number);
                if is_first && self.last.is_some_and(|last| *number < last) {
                    return Err(format!("message {number} arrives after a later one"));
                }
                self.last = self.last.max(Some(*number));
            }
            Seen::Acknowledged(number) if !self.arrived.contains(number) => {
                return Err(format!("message {number} is acknowledged and has not arrived"));
            }
            Seen::Event(Event::TelemetryDropped { reason, .. }) => {
                return Err(format!("a message is dropped: {reason}"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// What the cloud asks is done, and done by the application.
#[derive(Debug, Default)]
struct Wishes {
    delivered: BTreeSet<String>,
    called: BTreeSet<String>,
}

impl Invariant for Wishes {
    fn name(&self) -> &'static str {
        "wishes"
    }

    fn see(&mut self, _: Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Delivered(id) => {
                self.delivered.insert((*id).to_owned());
            }
            Seen::Called(id) => {
                self.called.insert((*id).to_owned());
            }
            Seen::Cloud(CloudEvent::CommandSettled { message_id, outcome, .. })
                if *outcome == CommandOutcome::Success && !self.delivered.contains(message_id) =>
            {
                return Err(format!("{message_id} counts as delivered, and was not"));
            }
            Seen::Cloud(CloudEvent::MethodAnswered { request_id, status, payload, .. }) => {
                if !self.called.remove(request_id) {
                    return Err(format!("an answer to {request_id}, which nobody waits for"));
                }
                if *status == 200 && *payload != format!("{request_id:?}").as_bytes() {
                    return Err(format!("the answer to {request_id} is another's"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Nothing comes before its time.
#[derive(Debug, Default)]
struct Pace {
    poll: Option<Instant>,
    register: Option<Instant>,
    renewal: Option<Instant>,
    dial: Option<Instant>,
    polls: VecDeque<Instant>,
    dials: VecDeque<Instant>,
    /// Under which ids the last requests went to the two services: an answer to another is none.
    asked: BTreeMap<&'static str, String>,
}

/// How often a device may ask for its status: five times in ten seconds.
const POLLS: (usize, Duration) = (5, Duration::from_secs(10));
/// How often a device dials in an hour, at most: a round of three credentials twice a minute.
const DIALS: (usize, Duration) = (400, Duration::from_secs(3600));

/// Counts one more, and says whether it is one too many.
fn exceeds(times: &mut VecDeque<Instant>, (most, within): (usize, Duration), at: Instant) -> bool {
    while times.front().is_some_and(|first| *first + within <= at) {
        times.pop_front();
    }
    times.push_back(at);
    times.len() > most
}

impl Invariant for Pace {
    fn name(&self) -> &'static str {
        "pace"
    }

    fn see(&mut self, scene: Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let at = scene.at;
        let early = |bound: Option<Instant>| bound.is_some_and(|bound| at < bound);
        match seen {
            // What it has not written down it does not know any more.
            Seen::Booted => *self = Self::default(),
            Seen::Renew | Seen::Event(Event::Activated { .. }) => self.renewal = None,
            Seen::Dial(..) => {
                if early(self.dial.take()) {
                    return Err("it dials before its wait is over".into());
                }
                if exceeds(&mut self.dials, DIALS, at) {
                    return Err(format!("it dials more than {} times in an hour", DIALS.0));
                }
            }
            Seen::Event(Event::AttemptFailed { retry_in: Some(delay), .. }) => {
                self.dial = Some(at + *delay);
            }
            Seen::Event(Event::RenewalFailed { retry_in, .. }) => {
                self.renewal = Some(at + *retry_in);
            }
            Seen::Sent(packet) => {
                let Some(publish) = publish_to(packet, "$") else { return Ok(()) };
                let topic = publish.topic.as_str();
                let reply = if topic.starts_with(RENEW) { RENEW_REPLY } else { DPS_REPLY };
                if [POLL, REGISTER, RENEW].iter().any(|request| topic.starts_with(request))
                    && let Some(id) = property(topic, "$rid")
                {
                    self.asked.insert(reply, id.to_owned());
                }
                if topic.starts_with(POLL) {
                    if early(self.poll) {
                        return Err("it polls before retry-after".into());
                    }
                    if exceeds(&mut self.polls, POLLS, at) {
                        return Err("it polls more than 5 times in 10 s".into());
                    }
                }
                if topic.starts_with(REGISTER) && early(self.register) {
                    return Err("it registers before retry-after".into());
                }
                if topic.starts_with(RENEW) && early(self.renewal) {
                    return Err("it asks for a renewal before its wait is over".into());
                }
            }
            Seen::Heard(_, packet) => {
                let Some(publish) = publish_to(packet, "$") else { return Ok(()) };
                let topic = publish.topic.as_str();
                let (Some(status), prefix) = (match status(topic, DPS_REPLY) {
                    Some(status) => (Some(status), DPS_REPLY),
                    None => (status(topic, RENEW_REPLY), RENEW_REPLY),
                }) else {
                    return Ok(());
                };
                if property(topic, "$rid") != self.asked.get(prefix).map(String::as_str) {
                    return Ok(());
                }
                let in_topic = property(topic, "retry-after").and_then(|text| text.parse().ok());
                let in_body = if status >= 400 { body(publish).retry_after } else { None };
                let Some(seconds) = in_topic.or(in_body) else { return Ok(()) };
                let bound = Some(at + Duration::from_secs(seconds));
                match (prefix, status) {
                    (DPS_REPLY, 202) => self.poll = bound,
                    (DPS_REPLY, 400..) => (self.poll, self.register) = (bound, bound),
                    (RENEW_REPLY, 400..) if status != 409 => self.renewal = bound,
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// One connection at a time.
#[derive(Debug, Default)]
struct OneConnection {
    open: Option<ConnectionId>,
}

impl Invariant for OneConnection {
    fn name(&self) -> &'static str {
        "connections"
    }

    fn see(&mut self, _: Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Booted => self.open = None,
            Seen::Dial(dial, _) => {
                let held = self.open.replace(dial.connection);
                return held.map_or(Ok(()), |_| Err("it dials while it holds a connection".into()));
            }
            Seen::Disconnected(connection) if self.open == Some(*connection) => self.open = None,
            _ => {}
        }
        Ok(())
    }
}

/// Every change of state has its reason.
#[derive(Debug, Default)]
struct Explained {
    state: Option<State>,
    /// What has been told since the last change.
    reasons: Vec<Reason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// An attempt failed, and the next is due then.
    Failed(Option<Instant>),
    Connected,
    /// Something that leads to another connection.
    MovesOn,
    Stopped,
}

impl Explained {
    /// What should have been told before the device is in this state, and was not.
    fn missing(&self, next: &State) -> Option<&'static str> {
        let told = |reason| self.reasons.contains(&reason);
        match next {
            State::Connected if !told(Reason::Connected) => Some("a connection"),
            // Before its first connection it may wait as its settings say.
            State::Waiting { until, .. }
                if self.state.is_some() && !told(Reason::Failed(Some(*until))) =>
            {
                Some("a failure")
            }
            State::Stopped if !told(Reason::Stopped) => Some("an end"),
            _ if self.state == Some(State::Connected) && self.reasons.is_empty() => {
                Some("a reason to leave its hub")
            }
            _ => None,
        }
    }
}

impl Invariant for Explained {
    fn name(&self) -> &'static str {
        "story"
    }

    fn see(&mut self, scene: Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Booted => *self = Self::default(),
            Seen::Event(Event::StateChanged(state)) => {
                if let Some(missing) = self.missing(state) {
                    return Err(format!("it is {state}, and {missing} has not been told"));
                }
                // What is told before a connection may be why it is left later.
                let stays = *state == State::Connected;
                self.reasons.retain(|reason| *reason == Reason::MovesOn && stays);
                self.reasons.dedup();
                self.state = Some(state.clone());
            }
            Seen::Event(event) => self.reasons.extend(match event {
                Event::AttemptFailed { retry_in, .. } => {
                    Some(Reason::Failed(retry_in.map(|delay| scene.at + delay)))
                }
                Event::Connected { .. } => Some(Reason::Connected),
                Event::Stopped => Some(Reason::Stopped),
                Event::CertificateIssued(_)
                | Event::Assigned { .. }
                | Event::CertificateExpiring { .. }
                | Event::RenewalRedirected => Some(Reason::MovesOn),
                _ => None,
            }),
            _ => {}
        }
        Ok(())
    }
}
