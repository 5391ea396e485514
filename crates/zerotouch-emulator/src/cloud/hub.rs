//! The hubs: who may connect, and what a connected device may do.
//!
//! A hub judges at CONNECT: whoever it does not let in reads CONNACK 5, or 3 where too many came at
//! once, and nothing else. A device
//! has one connection; a new one ends the old, and so does the end of what it came with. What it
//! subscribed to is kept beyond its connection unless it asked for a clean session; messages to it and
//! the result of a renewal are kept in any case.

mod commands;
mod methods;
mod topic;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use zerotouch_hub::wire::{
    DESIRED_PREFIX, MAX_TELEMETRY_LENGTH, TWIN_REPLY_PREFIX, telemetry_prefix,
};
use zerotouch_mqtt_codec::{Connect, Publish, QoS, SubAckReturnCode, Subscribe, Unsubscribe};
use zerotouch_mqtt_session::CloseReason;
use zerotouch_time::{Instant, UnixTime};
use zerotouch_wire::PropertyBag;

pub use self::commands::CommandError;
use self::commands::{Commands, Listener};
pub(super) use self::topic::Feature;
use self::topic::{Request, decode_properties};
use super::admission::Admission;
use super::clock::Clock;
use super::effects::{At, Command, Delivery, Effects, Message, Placement, Timer};
use super::event::{CloudEvent, ConnectionId};
use super::exchange::RequestId;
use super::fault::{Fault, Strikes};
use super::fixture::{HubApiVersion, HubSettings, InitialTwin};
use super::namespace::Namespace;
use super::registry::DeviceKey;
use super::renewal::Renewals;
use super::table::{Kept, Single, Table};
use super::throttle::Throttle;
use super::twin::{Twin, TwinError};

/// More filters than this in one SUBSCRIBE are refused (IoT Hub MQTT documentation).
const MAX_FILTERS: usize = 5;

const SECOND: Duration = Duration::from_secs(1);

/// All hubs.
#[derive(Debug)]
pub(super) struct Hubs {
    /// Devices are kept by their hub's place among these.
    names: Single<Vec<String>>,
    settings: HubSettings,
    /// By hub.
    throttles: BTreeMap<usize, Throttle>,
    devices: BTreeMap<DeviceKey, DeviceState>,
    twins: Table<DeviceKey, Twin>,
    pub(super) renewals: Renewals,
    pub(super) commands: Commands,
    /// Direct methods whose answers somebody waits for, by device and request id.
    calls: BTreeMap<(DeviceKey, String), RequestId>,
}

/// A device's session.
#[derive(Debug, Default)]
struct DeviceState {
    connection: Option<ConnectionId>,
    /// Whether the session outlives its connection: the last one was not to be clean.
    kept: bool,
    subscriptions: Subscriptions,
    /// It is sent the messages after this one.
    commands_after: u64,
    /// The last second in which the token is taken that its connection came with, if with one.
    token_ends: Option<UnixTime>,
    /// Why this side ends its connection.
    farewell: Option<&'static str>,
}

/// What a device has subscribed to, and at which quality of service.
pub(super) type Subscriptions = BTreeMap<Feature, QoS>;

/// A connection of a device that was let in.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: DeviceKey,
    pub(super) api_version: HubApiVersion,
    will: Option<Will>,
}

#[derive(Debug)]
struct Will {
    topic: String,
    message: Vec<u8>,
}

impl Hubs {
    pub(super) fn new(names: Vec<String>, settings: HubSettings) -> Self {
        let renewals = Renewals::new(&settings);
        Self {
            names: Single::new(names),
            settings,
            throttles: BTreeMap::new(),
            devices: BTreeMap::new(),
            twins: Table::default(),
            renewals,
            commands: Commands::default(),
            calls: BTreeMap::new(),
        }
    }

    pub(super) fn names(&self) -> &[String] {
        self.names.get()
    }

    /// Takes these in place of those that were kept, of which each has to be in its place still; yields
    /// those that were kept if one is not.
    pub(super) fn rename(&mut self, names: Vec<String>) -> Result<(), Vec<String>> {
        if !names.starts_with(self.names.get()) {
            return Err(self.names.get().clone());
        }
        if names.len() > self.names.get().len() {
            self.names.set(names);
        }
        Ok(())
    }

    /// The place of the hub with that host name.
    pub(super) fn position(&self, host: &str) -> Option<usize> {
        self.names().iter().position(|name| name.eq_ignore_ascii_case(host))
    }

    pub(super) fn api_version(&self, name: &str) -> Option<&HubApiVersion> {
        self.settings.api_versions.iter().find(|version| version.name == name)
    }

    /// Counts a connection, or says for how long this hub takes no more.
    pub(super) fn take_in(&mut self, hub: usize, now: Instant) -> Result<(), Duration> {
        let Some(quota) = self.settings.connections else { return Ok(()) };
        self.throttles.entry(hub).or_default().pass(quota, now)
    }

    /// Lets in a device that has proved who it is.
    pub(super) fn connect(
        &mut self,
        key: DeviceKey,
        api_version: HubApiVersion,
        connect: &Connect<'_>,
        (admission, strikes): (Admission, &Strikes),
        at: At,
        fx: &mut Effects,
    ) -> Session {
        let device = self.devices.entry(key.clone()).or_default();
        let session_present = device.kept && !connect.clean_session;
        if !session_present {
            device.subscriptions.clear();
        }
        device.kept = !connect.clean_session;
        device.token_ends = admission.token_ends;
        device.farewell = None;
        if let Some(former) = device.connection.replace(at.connection) {
            fx.command(former, Command::Close);
        }
        fx.deliver(Command::Accept { session_present }, strikes, at);
        fx.tell(CloudEvent::HubConnected {
            hub: self.names.get()[key.hub].clone(),
            device_id: key.device_id.clone(),
            thumbprint: admission.thumbprint,
        });
        device.set_timer(&key, at.clock, fx);
        self.deliver(&key, at.clock, fx);
        let will = connect
            .will
            .map(|will| Will { topic: will.topic.as_str().into(), message: will.message.into() });
        Session { key, api_version, will }
    }

    /// A device's connection ended.
    pub(super) fn closed(
        &mut self,
        session: &Session,
        reason: &CloseReason,
        connection: ConnectionId,
        fx: &mut Effects,
    ) {
        if *reason != CloseReason::Disconnected
            && let Some(event) = session.will_as_telemetry()
        {
            fx.tell(event);
        }
        let device = self.devices.get_mut(&session.key);
        let (reason, connected) = match device {
            Some(device) if device.connection == Some(connection) => {
                device.connection = None;
                fx.timers.set(Timer::Token(session.key.clone()), None);
                let farewell = device.farewell.take();
                (farewell.map_or_else(|| reason.to_string(), String::from), None)
            }
            device => {
                let connected = device.and_then(|device| device.connection);
                ("another connection of the device took over".into(), connected)
            }
        };
        self.commands.release(&session.key, connected, fx);
        let device_id = session.key.device_id.clone();
        fx.tell(CloudEvent::Disconnected { device_id, reason });
    }

    pub(super) fn subscribe(
        &mut self,
        session: &Session,
        subscribe: &Subscribe<'_>,
        at: At,
        fx: &mut Effects,
    ) {
        let Some(device) = self.devices.get_mut(&session.key) else { return };
        let too_many = subscribe.filters.len() > MAX_FILTERS;
        let last_command = self.commands.last();
        let codes = subscribe.filters.iter().map(|(filter, qos)| {
            match Feature::of(filter.as_str(), &session.key.device_id) {
                Some(feature) if !too_many => {
                    let granted = qos.min(QoS::AtLeastOnce);
                    let former = device.subscriptions.insert(feature, granted);
                    if feature == Feature::Commands && former.is_none() {
                        device.commands_after = if device.kept { 0 } else { last_command };
                    }
                    SubAckReturnCode::Granted(granted)
                }
                _ => SubAckReturnCode::Failure,
            }
        });
        let codes = codes.collect();
        fx.command(at.connection, Command::Suback(subscribe.id, codes));
        self.deliver(&session.key, at.clock, fx);
    }

    pub(super) fn unsubscribe(
        &mut self,
        session: &Session,
        unsubscribe: &Unsubscribe<'_>,
        at: At,
        fx: &mut Effects,
    ) {
        let Some(device) = self.devices.get_mut(&session.key) else { return };
        for filter in unsubscribe.filters.iter() {
            if let Some(feature) = Feature::of(filter.as_str(), &session.key.device_id) {
                device.subscriptions.remove(&feature);
            }
        }
        fx.command(at.connection, Command::Unsuback(unsubscribe.id));
    }

    pub(super) fn publish(
        &mut self,
        session: &Session,
        publish: &Publish<'_>,
        namespace: &Namespace,
        at: At,
        fx: &mut Effects,
    ) {
        let Some(device) = self.devices.get_mut(&session.key) else { return };
        let device_id = &session.key.device_id;
        let topic = publish.topic.as_str();
        let Some(request) = Request::of(topic, device_id) else {
            return fx.command(at.connection, Command::Close);
        };
        let too_large = publish.payload.len() > MAX_TELEMETRY_LENGTH;
        if publish.qos() == QoS::ExactlyOnce || too_large {
            return fx.command(at.connection, Command::Close);
        }
        let strikes = request.operation().map(|operation| fx.strike(operation, device_id));
        let strikes = strikes.unwrap_or_default();
        if strikes.has(&Fault::DropBeforeAcknowledgement) {
            return fx.command(at.connection, Command::Close);
        }
        if let Some(id) = publish.packet_identifier() {
            match request {
                // Its acknowledgement is all the answer a message has.
                Request::Telemetry(_) if !strikes.has(&Fault::DropAfterAcknowledgement) => {
                    fx.deliver(Command::Acknowledge(id), &strikes, at);
                }
                _ => fx.command(at.connection, Command::Acknowledge(id)),
            }
        }
        if strikes.has(&Fault::DropAfterAcknowledgement) {
            fx.command(at.connection, Command::Close);
        }
        match request {
            Request::Telemetry(bag) => {
                let mut properties = decode_properties(bag);
                if publish.retain {
                    properties.push(("mqtt-retain".into(), "true".into()));
                }
                fx.tell(CloudEvent::Telemetry {
                    device_id: device_id.clone(),
                    properties,
                    payload: publish.payload.to_vec(),
                });
            }
            Request::TwinGet(bag) => {
                fx.tell(CloudEvent::TwinRead { device_id: device_id.clone() });
                let body = self.twin(&session.key).document().to_string().into_bytes();
                self.answer(session, bag, (200, None, body), &strikes, at, fx);
            }
            Request::TwinReport(bag) => {
                let answer = if strikes.error().is_some() {
                    (400, None, Vec::new())
                } else {
                    match self.twins.entry(&session.key).report(publish.payload) {
                        Ok(version) => {
                            let device_id = device_id.clone();
                            fx.tell(CloudEvent::TwinReported { device_id, version });
                            (204, Some(version), Vec::new())
                        }
                        Err(_) => (400, None, Vec::new()),
                    }
                };
                self.answer(session, bag, answer, &strikes, at, fx);
            }
            Request::MethodReply(reply) => {
                let request_id = reply.request_id().unwrap_or_default();
                let answer = (request_id, i32::from(reply.status));
                self.answered(&session.key, answer, publish.payload, fx);
            }
            Request::IssueCertificate(bag) => {
                let Some(request_id) = bag.get("$rid") else { return };
                let subscriptions = &device.subscriptions;
                self.renewals.request(
                    (session, subscriptions),
                    (request_id, publish.payload),
                    namespace,
                    &strikes,
                    at,
                    fx,
                );
            }
        }
    }

    /// Answers a request about the twin under the id it came with; one without an id has no answer.
    fn answer(
        &self,
        session: &Session,
        request: PropertyBag<'_>,
        (status, version, body): (u16, Option<u64>, Vec<u8>),
        strikes: &Strikes,
        at: At,
        fx: &mut Effects,
    ) {
        let subscriptions = self.devices.get(&session.key).map(|device| &device.subscriptions);
        let qos = subscriptions.and_then(|features| features.get(&Feature::TwinResponses));
        let (Some(request_id), Some(qos)) = (request.get("$rid"), qos) else { return };
        let (status, version, body) = match strikes.error() {
            Some(error) => (error.status, None, Vec::new()),
            None => (status, version, body),
        };
        let (request_id, payload) = strikes.spoil(request_id, body);
        let version = version.map(|version| format!("&$version={version}")).unwrap_or_default();
        let topic = format!("{TWIN_REPLY_PREFIX}{status}/?$rid={request_id}{version}");
        let message = Message { topic, payload, qos: *qos, delivery: None };
        fx.deliver(Command::Publish(message), strikes, at);
    }

    /// Works on the renewal of a device whose timer has rung.
    pub(super) fn renewal_due(
        &mut self,
        key: &DeviceKey,
        namespace: &Namespace,
        clock: Clock,
        fx: &mut Effects,
    ) {
        self.renewals.due(key, namespace, clock, fx);
        self.deliver(key, clock, fx);
    }

    /// Messages of a device may have expired.
    pub(super) fn commands_due(&mut self, key: &DeviceKey, clock: Clock, fx: &mut Effects) {
        self.commands.due(key, clock, fx);
        // Others may go in their place.
        self.deliver(key, clock, fx);
    }

    /// The token that a device came with may have ended.
    pub(super) fn token_due(&mut self, key: &DeviceKey, clock: Clock, fx: &mut Effects) {
        let Some(device) = self.devices.get(key) else { return };
        if device.token_ends.is_some_and(|expires| expires < clock.wall) {
            self.disconnect(key, "its token has expired", fx);
        } else {
            device.set_timer(key, clock, fx);
        }
    }

    /// Winds the clocks of what depends on the time of day.
    pub(super) fn wind(&mut self, clock: Clock, fx: &mut Effects) {
        self.renewals.wind(clock, fx);
        self.commands.wind(clock, fx);
        for (key, device) in &self.devices {
            device.set_timer(key, clock, fx);
        }
    }

    /// Ends the connection of a device, if it has one.
    pub(super) fn disconnect(&mut self, key: &DeviceKey, why: &'static str, fx: &mut Effects) {
        let Some(device) = self.devices.get_mut(key) else { return };
        if let Some(connection) = device.connection {
            device.farewell = Some(why);
            fx.command(connection, Command::Close);
        }
    }

    /// Queues a cloud-to-device message, and sends it if the device listens now; yields its id.
    pub(super) fn send(
        &mut self,
        key: &DeviceKey,
        properties: &[(&str, &str)],
        payload: &[u8],
        clock: Clock,
        fx: &mut Effects,
    ) -> Result<String, CommandError> {
        let id = self.commands.queue(key, properties, payload, clock, fx)?;
        self.deliver(key, clock, fx);
        Ok(id)
    }

    /// What was kept for a device has reached it.
    pub(super) fn delivered(&mut self, delivery: &Delivery, clock: Clock, fx: &mut Effects) {
        match delivery {
            Delivery::Renewal(result) => self.renewals.delivered(result, fx),
            Delivery::Command { device, number } => {
                self.commands.delivered(device, *number, fx);
                self.deliver(device, clock, fx);
            }
        }
    }

    /// Sends a device what is kept for it, if it is there and listens.
    fn deliver(&mut self, key: &DeviceKey, clock: Clock, fx: &mut Effects) {
        let Some(device) = self.devices.get(key) else { return };
        let Some(connection) = device.connection else { return };
        self.renewals.deliver(key, Some(connection), &device.subscriptions, clock, fx);
        if let Some(qos) = device.subscriptions.get(&Feature::Commands) {
            let listener = Listener { connection, qos: *qos, after: device.commands_after };
            self.commands.deliver(key, listener, fx);
        }
    }

    /// Changes desired properties, and tells the device if it listens.
    pub(super) fn desire(
        &mut self,
        key: &DeviceKey,
        patch: serde_json::Map<String, serde_json::Value>,
        fx: &mut Effects,
    ) -> Result<u64, TwinError> {
        let (version, sent) = self.twin_mut(key).desire(patch)?;
        self.tell_desired(key, version, &sent, fx);
        Ok(version)
    }

    /// A device's twin, for changing it.
    pub(super) fn twin_mut(&mut self, key: &DeviceKey) -> &mut Twin {
        self.twins.entry(key)
    }

    /// A device's twin; one that nobody has changed is kept nowhere.
    pub(super) fn twin(&self, key: &DeviceKey) -> Cow<'_, Twin> {
        self.twins.get(key).map_or_else(|| Cow::Owned(Twin::default()), Cow::Borrowed)
    }

    pub(super) fn tables(&mut self) -> [(&'static str, &mut dyn Kept); 4] {
        let names: &mut dyn Kept = &mut self.names;
        [("hubs", names), ("twins", &mut self.twins), self.renewals.table(), self.commands.table()]
    }

    pub(super) fn is_connected(&self, key: &DeviceKey) -> bool {
        self.devices.get(key).is_some_and(|device| device.connection.is_some())
    }

    /// Receives a device that has registered, and lets go of it where it was before.
    pub(super) fn place(&mut self, placement: Placement, fx: &mut Effects) {
        let Placement { device, former, twin } = placement;
        let moved = former.and_then(|former| {
            let moved = self.twins.remove(&former);
            self.forget(&former, fx);
            moved
        });
        let twin = match twin {
            // One that is empty is kept nowhere.
            Some(initial) if initial == InitialTwin::default() => {
                self.twins.remove(&device);
                None
            }
            // One that is too large was refused with whatever named it.
            Some(initial) => Some(initial.twin().unwrap_or_default()),
            None => moved,
        };
        if let Some(twin) = twin {
            self.twins.insert(device, twin);
        }
    }

    /// Forgets a device that is no longer registered, and ends its connection.
    pub(super) fn forget(&mut self, key: &DeviceKey, fx: &mut Effects) {
        self.commands.purge(key, fx);
        self.renewals.forget(key, fx);
        self.twins.remove(key);
        self.disconnect(key, "it is no longer registered", fx);
        match self.devices.get_mut(key) {
            // Its connection goes on until it has been closed; its session does not.
            Some(device) if device.connection.is_some() => {
                device.kept = false;
                device.subscriptions.clear();
            }
            _ => drop(self.devices.remove(key)),
        }
    }

    /// Tells a device of desired properties that have changed, if it listens.
    pub(super) fn tell_desired(
        &self,
        key: &DeviceKey,
        version: u64,
        sent: &serde_json::Value,
        fx: &mut Effects,
    ) {
        if let Some(device) = self.devices.get(key) {
            let topic = format!("{DESIRED_PREFIX}$version={version}");
            device.send(Feature::DesiredProperties, topic, sent.to_string().into_bytes(), fx);
        }
    }
}

impl DeviceState {
    /// Sends to a device that is connected and listens; `false` if it does not.
    fn send(&self, feature: Feature, topic: String, payload: Vec<u8>, fx: &mut Effects) -> bool {
        let (Some(connection), Some(qos)) = (self.connection, self.subscriptions.get(&feature))
        else {
            return false;
        };
        fx.publish(connection, topic, payload, *qos);
        true
    }

    fn set_timer(&self, key: &DeviceKey, clock: Clock, fx: &mut Effects) {
        let last_second = self.connection.and(self.token_ends);
        let at = last_second.map(|last| clock.monotonic + (last + SECOND).since(clock.wall));
        fx.timers.set(Timer::Token(key.clone()), at);
    }
}

impl Session {
    /// The Will of a device that left without a word is telemetry, if it was to be published as such.
    fn will_as_telemetry(&self) -> Option<CloudEvent> {
        let will = self.will.as_ref()?;
        let device_id = self.key.device_id.clone();
        let mut properties =
            decode_properties(will.topic.strip_prefix(&telemetry_prefix(&device_id))?);
        properties.push(("iothub-MessageType".into(), "Will".into()));
        Some(CloudEvent::Telemetry { device_id, properties, payload: will.message.clone() })
    }
}
