//! The hubs: who may connect, and what a connected device may do.
//!
//! A hub judges at CONNECT: whoever it does not let in reads CONNACK 5 and nothing else. A device
//! has one connection; a new one ends the old. What it subscribed to is kept beyond its connection
//! unless it asked for a clean session, and the result of a renewal is kept in any case.

use std::borrow::Cow;
use std::collections::BTreeMap;

use zerotouch_credentials::Thumbprint;
use zerotouch_hub::wire::{
    CREDENTIALS, DESIRED_PREFIX, DESIRED_PROPERTIES, ISSUE_CERTIFICATE_PREFIX,
    MAX_TELEMETRY_LENGTH, METHOD_PREFIX, METHODS, TWIN_REPLY_PREFIX, TWIN_RESPONSES,
    command_prefix, commands_filter, telemetry_prefix,
};
use zerotouch_mqtt_codec::{Connect, Publish, QoS, SubAckReturnCode, Subscribe, Unsubscribe};
use zerotouch_mqtt_session::CloseReason;
use zerotouch_time::Instant;
use zerotouch_wire::{PropertyBag, ReplyTopic, percent_decode, percent_encode};

use super::clock::Clock;
use super::effects::{At, Command, Effects, Message, Placement, Timer};
use super::event::{CloudEvent, ConnectionId};
use super::exchange::{CallOutcome, RequestId};
use super::fault::{Fault, Operation, Strikes};
use super::fixture::{HubApiVersion, HubSettings, InitialTwin};
use super::namespace::Namespace;
use super::registry::DeviceKey;
use super::renewal::Renewals;
use super::table::{Kept, Table};
use super::twin::{Twin, TwinError};

/// How the topic of a request for the twin begins.
const TWIN_GET_PREFIX: &str = "$iothub/twin/GET/?";
/// How the topic of a report begins.
const TWIN_REPORT_PREFIX: &str = "$iothub/twin/PATCH/properties/reported/?";
/// How the topic of the answer to a direct method begins.
const METHOD_REPLY_PREFIX: &str = "$iothub/methods/res/";
/// More filters than this in one SUBSCRIBE are refused (IoT Hub MQTT documentation).
const MAX_FILTERS: usize = 5;

/// All hubs.
#[derive(Debug)]
pub(super) struct Hubs {
    pub(super) names: Vec<String>,
    settings: HubSettings,
    devices: BTreeMap<DeviceKey, DeviceState>,
    twins: Table<DeviceKey, Twin>,
    pub(super) renewals: Renewals,
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
}

/// What a device has subscribed to, and at which quality of service.
pub(super) type Subscriptions = BTreeMap<Feature, QoS>;

/// What a device may subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Feature {
    Commands,
    Methods,
    TwinResponses,
    DesiredProperties,
    Credentials,
}

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
            names,
            settings,
            devices: BTreeMap::new(),
            twins: Table::default(),
            renewals,
            calls: BTreeMap::new(),
        }
    }

    /// The place of the hub with that host name.
    pub(super) fn position(&self, host: &str) -> Option<usize> {
        self.names.iter().position(|name| name.eq_ignore_ascii_case(host))
    }

    pub(super) fn api_version(&self, name: &str) -> Option<&HubApiVersion> {
        self.settings.api_versions.iter().find(|version| version.name == name)
    }

    /// Lets in a device that has proved who it is.
    pub(super) fn connect(
        &mut self,
        key: DeviceKey,
        api_version: HubApiVersion,
        connect: &Connect<'_>,
        (thumbprint, strikes): (Option<Thumbprint>, &Strikes),
        at: At,
        fx: &mut Effects,
    ) -> Session {
        let device = self.devices.entry(key.clone()).or_default();
        let session_present = device.kept && !connect.clean_session;
        if !session_present {
            device.subscriptions.clear();
        }
        device.kept = !connect.clean_session;
        if let Some(former) = device.connection.replace(at.connection) {
            fx.command(former, Command::Close);
        }
        fx.deliver(Command::Accept { session_present }, strikes, at);
        fx.tell(CloudEvent::HubConnected {
            hub: self.names[key.hub].clone(),
            device_id: key.device_id.clone(),
            thumbprint,
        });
        let connected = Some(at.connection);
        self.renewals.deliver(&key, connected, &device.subscriptions, at.clock, fx);
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
        let connected = self.devices.get_mut(&session.key).map(|device| &mut device.connection);
        let reason = match connected {
            Some(connected) if *connected == Some(connection) => {
                *connected = None;
                reason.to_string()
            }
            _ => "another connection of the device took over".into(),
        };
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
        let codes = subscribe.filters.iter().map(|(filter, qos)| {
            match Feature::of(filter.as_str(), &session.key.device_id) {
                Some(feature) if !too_many => {
                    let granted = qos.min(QoS::AtLeastOnce);
                    device.subscriptions.insert(feature, granted);
                    SubAckReturnCode::Granted(granted)
                }
                _ => SubAckReturnCode::Failure,
            }
        });
        let codes = codes.collect();
        fx.command(at.connection, Command::Suback(subscribe.id, codes));
        let connected = Some(at.connection);
        self.renewals.deliver(&session.key, connected, &device.subscriptions, at.clock, fx);
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
                let (status, payload) = (i32::from(reply.status), publish.payload.to_vec());
                let call = (session.key.clone(), request_id.to_owned());
                if let Some(waiting) = self.calls.remove(&call) {
                    fx.timers.set(Timer::Call(waiting), None);
                    let payload = payload.clone();
                    fx.outcomes.push((waiting, CallOutcome::Answered { status, payload }));
                }
                fx.tell(CloudEvent::MethodAnswered {
                    device_id: device_id.clone(),
                    request_id: request_id.into(),
                    status,
                    payload,
                });
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
        let message = Message { topic, payload, qos: *qos, renewal: None };
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
        if let Some(device) = self.devices.get(key) {
            self.renewals.deliver(key, device.connection, &device.subscriptions, clock, fx);
        }
    }

    /// Ends the connection of a device, if it has one.
    pub(super) fn disconnect(&self, key: &DeviceKey, fx: &mut Effects) {
        if let Some(connection) = self.devices.get(key).and_then(|device| device.connection) {
            fx.command(connection, Command::Close);
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

    /// Calls a direct method; `false` if the device does not listen now.
    pub(super) fn invoke(
        &self,
        key: &DeviceKey,
        (name, request_id): (&str, &str),
        payload: &[u8],
        fx: &mut Effects,
    ) -> bool {
        let Some(device) = self.devices.get(key) else { return false };
        let topic = format!("{METHOD_PREFIX}{}/?$rid={request_id}", percent_encode(name));
        device.send(Feature::Methods, topic, payload.to_vec(), fx)
    }

    /// Calls a direct method for somebody who waits for its answer until then; `false` if the device does
    /// not listen now.
    pub(super) fn call(
        &mut self,
        key: &DeviceKey,
        (name, payload): (&str, &[u8]),
        (waiting, until): (RequestId, Instant),
        fx: &mut Effects,
    ) -> bool {
        let request_id = format!("{:x}", waiting.0);
        let called = self.invoke(key, (name, &request_id), payload, fx);
        if called {
            self.calls.insert((key.clone(), request_id), waiting);
            fx.timers.set(Timer::Call(waiting), Some(until));
        }
        called
    }

    /// The answer to a direct method has not come in time.
    pub(super) fn call_expired(&mut self, waiting: RequestId, fx: &mut Effects) {
        self.calls.retain(|_, call| *call != waiting);
        fx.outcomes.push((waiting, CallOutcome::TimedOut));
    }

    /// A device's twin, for changing it.
    pub(super) fn twin_mut(&mut self, key: &DeviceKey) -> &mut Twin {
        self.twins.entry(key)
    }

    /// A device's twin; one that nobody has changed is kept nowhere.
    pub(super) fn twin(&self, key: &DeviceKey) -> Cow<'_, Twin> {
        self.twins.get(key).map_or_else(|| Cow::Owned(Twin::default()), Cow::Borrowed)
    }

    pub(super) fn tables(&mut self) -> [(&'static str, &mut dyn Kept); 2] {
        [("twins", &mut self.twins), self.renewals.table()]
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
        self.disconnect(key, fx);
        self.devices.remove(key);
        self.twins.remove(key);
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

    /// Sends a cloud-to-device message; `false` if the device does not listen now.
    pub(super) fn send(
        &self,
        key: &DeviceKey,
        properties: &[(&str, &str)],
        payload: &[u8],
        fx: &mut Effects,
    ) -> bool {
        let Some(device) = self.devices.get(key) else { return false };
        let to = format!("/devices/{}/messages/devicebound", key.device_id);
        let mut topic = command_prefix(&key.device_id);
        for (name, value) in [("$.to", &*to)].iter().chain(properties) {
            if !topic.ends_with('/') {
                topic.push('&');
            }
            topic.extend([&percent_encode(name), "=", &percent_encode(value)]);
        }
        device.send(Feature::Commands, topic, payload.to_vec(), fx)
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
}

impl Feature {
    /// Which feature a filter asks for; only the documented filters exist.
    fn of(filter: &str, device_id: &str) -> Option<Self> {
        match filter {
            METHODS => Some(Self::Methods),
            TWIN_RESPONSES => Some(Self::TwinResponses),
            DESIRED_PROPERTIES => Some(Self::DesiredProperties),
            CREDENTIALS => Some(Self::Credentials),
            _ => (filter == commands_filter(device_id)).then_some(Self::Commands),
        }
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

/// What a device publishes, told by its topic.
enum Request<'a> {
    Telemetry(&'a str),
    TwinGet(PropertyBag<'a>),
    TwinReport(PropertyBag<'a>),
    MethodReply(ReplyTopic<'a>),
    IssueCertificate(PropertyBag<'a>),
}

impl<'a> Request<'a> {
    /// What can go wrong with it on demand.
    const fn operation(&self) -> Option<Operation> {
        match self {
            Self::Telemetry(_) => Some(Operation::Telemetry),
            Self::TwinGet(_) => Some(Operation::TwinGet),
            Self::TwinReport(_) => Some(Operation::TwinReport),
            Self::IssueCertificate(_) => Some(Operation::Renew),
            Self::MethodReply(_) => None,
        }
    }

    fn of(topic: &'a str, device_id: &str) -> Option<Self> {
        let bag = |prefix| topic.strip_prefix(prefix).map(PropertyBag::new);
        if let Some(events) = topic.strip_prefix(telemetry_prefix(device_id).trim_end_matches('/'))
        {
            return (events.is_empty() || events.starts_with('/'))
                .then(|| Self::Telemetry(events.trim_start_matches('/')));
        }
        bag(TWIN_GET_PREFIX)
            .map(Self::TwinGet)
            .or_else(|| bag(TWIN_REPORT_PREFIX).map(Self::TwinReport))
            .or_else(|| bag(ISSUE_CERTIFICATE_PREFIX).map(Self::IssueCertificate))
            .or_else(|| ReplyTopic::parse(METHOD_REPLY_PREFIX, topic).map(Self::MethodReply))
    }
}

/// Names and values, decoded; what cannot be decoded stays as it was sent, null is empty.
fn decode_properties(bag: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode(text).unwrap_or_else(|_| text.into());
    PropertyBag::new(bag)
        .iter()
        .map(|(name, value)| (decode(name), decode(value.unwrap_or_default())))
        .collect()
}
