//! A cloud in virtual time, and clients made of nothing but the codec: what a test sends and sees is
//! what is on the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::Value;
use zerotouch_credentials::{
    Certificate, CertificateChain, CertificateRequest, ChainPolicy, KeyAlgorithm, PrivateKey,
    SasToken, Signer, SymmetricKey,
};
use zerotouch_emulator::cloud::{
    Action, Cloud, CloudEvent, ConnectionId, Fault, FaultRule, Fixture, HttpRequest, HttpResponse,
    Operation, Record, RecordError, RequestId,
};
use zerotouch_mqtt_codec::{
    ConnAck, Connect, Decoded, Delivery, Login, Packet, PacketIdentifier, Publish, QoS, Subscribe,
    Subscriptions, Text, TopicFilter, TopicFilters, TopicName, Unsubscribe, decode,
};
use zerotouch_time::{Instant, Now, UnixTime};

pub(crate) const DPS_VERSION: &str = "2025-07-01-preview";
pub(crate) const HUB_VERSION: &str = "2025-08-01-preview";
const START: i64 = 1_790_000_000;

/// What a client received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Accepted { session_present: bool },
    Refused(u8),
    PubAck(u16),
    SubAck(Vec<u8>),
    UnsubAck,
    PingResp,
    Message { topic: String, payload: Vec<u8>, qos: QoS },
}

pub(crate) struct World {
    pub(crate) cloud: Cloud,
    pub(crate) now: Now,
    pub(crate) events: Vec<CloudEvent>,
    /// Whether clients acknowledge what they receive; they do.
    pub(crate) acknowledge: bool,
    received: BTreeMap<ConnectionId, Vec<Got>>,
    /// What has come of packets that are not whole yet.
    partial: BTreeMap<ConnectionId, Vec<u8>>,
    closed: BTreeSet<ConnectionId>,
    connections: u64,
    requests: u64,
    /// What is kept for the next cloud.
    records: BTreeMap<(&'static str, String), String>,
}

impl World {
    pub(crate) fn new(fixture: Fixture) -> Self {
        let wall = UnixTime::from_secs(START);
        Self {
            cloud: Cloud::new(fixture, ChaCha20Rng::seed_from_u64(1), wall).unwrap(),
            now: Now { monotonic: Instant::ZERO, wall: Some(wall) },
            events: Vec::new(),
            acknowledge: true,
            received: BTreeMap::new(),
            partial: BTreeMap::new(),
            closed: BTreeSet::new(),
            connections: 0,
            requests: 0,
            records: BTreeMap::new(),
        }
    }

    /// Puts another cloud, of other random numbers, into the place of this one: it has what this one has
    /// had kept, and no connections.
    pub(crate) fn restart(&mut self) {
        self.restart_with(Fixture::default()).unwrap();
        assert_eq!(self.cloud.poll_record(), None, "what is kept already is not kept again");
    }

    /// The same with another fixture.
    pub(crate) fn restart_with(&mut self, fixture: Fixture) -> Result<(), RecordError> {
        self.keep();
        let rng = |seed| ChaCha20Rng::seed_from_u64(seed);
        self.cloud = Cloud::new(fixture, rng(2), self.wall()).unwrap();
        let records = self.records.iter().map(|((table, key), value)| (*table, &**key, &**value));
        self.cloud.restore(records, rng(3), self.now)
    }

    /// What has to be kept since this was last asked, by table.
    pub(crate) fn keep(&mut self) -> Vec<&'static str> {
        let mut kept = Vec::new();
        while let Some(Record { table, key, value }) = self.cloud.poll_record() {
            match value {
                Some(value) => self.records.insert((table, key), value),
                None => self.records.remove(&(table, key)),
            };
            kept.push(table);
        }
        kept
    }

    pub(crate) fn wall(&self) -> UnixTime {
        self.now.wall.unwrap()
    }

    /// Lets time pass, stopping wherever the cloud wants to be woken.
    pub(crate) fn wait(&mut self, duration: Duration) {
        let end = self.now.monotonic + duration;
        while let Some(due) = self.cloud.poll_timeout().filter(|due| *due <= end) {
            self.advance(due.since(self.now.monotonic));
            self.cloud.handle_timeout(self.now);
            self.drain();
        }
        self.advance(end.since(self.now.monotonic));
    }

    fn advance(&mut self, by: Duration) {
        // The wall clock counts whole seconds of the same time.
        self.now.monotonic = self.now.monotonic + by;
        let seconds = i64::try_from(self.now.monotonic.as_micros() / 1_000_000).unwrap();
        self.now.wall = Some(UnixTime::from_secs(START + seconds));
    }

    pub(crate) fn open(&mut self, chain: Vec<Vec<u8>>) -> ConnectionId {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.cloud.handle_open(connection, chain, self.now);
        self.drain();
        connection
    }

    pub(crate) fn send_bytes(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.cloud.handle_bytes(connection, bytes, self.now);
        self.drain();
    }

    pub(crate) fn send<'a>(&mut self, connection: ConnectionId, packet: impl Into<Packet<'a>>) {
        let mut bytes = Vec::new();
        packet.into().encode_to(&mut bytes).unwrap();
        self.send_bytes(connection, &bytes);
    }

    /// The transport ends without a DISCONNECT.
    pub(crate) fn cut(&mut self, connection: ConnectionId) {
        self.closed.insert(connection);
        self.cloud.handle_closed(connection, self.now);
        self.drain();
    }

    /// What a client has received since it was last asked.
    pub(crate) fn received(&mut self, connection: ConnectionId) -> Vec<Got> {
        self.received.remove(&connection).unwrap_or_default()
    }

    /// The only message a client has received since it was last asked.
    pub(crate) fn message(&mut self, connection: ConnectionId) -> (String, Value) {
        let got = self.received(connection);
        let messages: Vec<_> = got.iter().filter(|g| matches!(g, Got::Message { .. })).collect();
        let [Got::Message { topic, payload, .. }] = messages[..] else { panic!("{got:?}") };
        (topic.clone(), serde_json::from_slice(payload).unwrap_or(Value::Null))
    }

    /// Makes a request that is answered at once.
    pub(crate) fn request(&mut self, request: &HttpRequest) -> HttpResponse {
        let id = self.ask(request);
        let (answered, response) = self.cloud.poll_response().unwrap();
        assert_eq!((answered, self.cloud.poll_response()), (id, None));
        response
    }

    /// Makes a request.
    pub(crate) fn ask(&mut self, request: &HttpRequest) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.cloud.handle_request(id, request, self.now);
        self.drain();
        id
    }

    pub(crate) fn is_closed(&self, connection: ConnectionId) -> bool {
        self.closed.contains(&connection)
    }

    /// The events since this was last asked.
    pub(crate) fn events(&mut self) -> Vec<CloudEvent> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn drain(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.cloud.poll_event()));
        let mut acknowledgements = Vec::new();
        while let Some(action) = self.cloud.poll_action() {
            match action {
                Action::Transmit { connection, bytes } => {
                    assert!(!self.closed.contains(&connection), "bytes after the end");
                    let partial = self.partial.entry(connection).or_default();
                    partial.extend(bytes);
                    let got = read_all(partial, |id| acknowledgements.push((connection, id)));
                    self.received.entry(connection).or_default().extend(got);
                }
                Action::Close { connection } => {
                    assert!(self.closed.insert(connection), "closed twice");
                }
            }
        }
        if self.acknowledge {
            for (connection, id) in acknowledgements {
                self.send(connection, Packet::PubAck(id));
            }
        }
    }
}

/// Clients' steps.
impl World {
    pub(crate) fn connect(
        &mut self,
        chain: Vec<Vec<u8>>,
        client_id: &str,
        username: &str,
        password: Option<&str>,
        clean_session: bool,
    ) -> ConnectionId {
        let connection = self.open(chain);
        let login =
            Login { username: Text::new(username).unwrap(), password: password.map(str::as_bytes) };
        let keep_alive = 0;
        let connect = Connect {
            client_id: Text::new(client_id).unwrap(),
            clean_session,
            keep_alive,
            will: None,
            login: Some(login),
        };
        self.send(connection, connect);
        connection
    }

    pub(crate) fn subscribe(&mut self, connection: ConnectionId, filter: &str) {
        let filters = [(TopicFilter::new(filter).unwrap(), QoS::AtLeastOnce)];
        let filters = Subscriptions::new(&filters).unwrap();
        self.send(connection, Subscribe { id: PacketIdentifier::MIN, filters });
    }

    pub(crate) fn unsubscribe(&mut self, connection: ConnectionId, filter: &str) {
        let filters = [TopicFilter::new(filter).unwrap()];
        let filters = TopicFilters::new(&filters).unwrap();
        self.send(connection, Unsubscribe { id: PacketIdentifier::MIN, filters });
    }

    pub(crate) fn publish(&mut self, connection: ConnectionId, topic: &str, payload: &[u8]) {
        let id = PacketIdentifier::new(77).unwrap();
        let delivery = Delivery::AtLeastOnce { id, dup: false };
        let topic = TopicName::new(topic).unwrap();
        self.send(connection, Publish { topic, payload, retain: false, delivery });
    }

    /// The device key of the default group.
    pub(crate) fn device_key(&self, registration_id: &str) -> SymmetricKey {
        self.cloud.group_key(Fixture::DEFAULT_GROUP).unwrap().derive(registration_id)
    }

    pub(crate) fn dps_token(&self, key: &SymmetricKey, registration_id: &str) -> String {
        let expiry = self.wall() + Duration::from_secs(3600);
        SasToken::for_dps(key, self.cloud.id_scope(), registration_id, expiry).as_str().into()
    }

    /// Connects to the provisioning service as a device of the default group, and subscribes.
    pub(crate) fn connect_dps(&mut self, id: &str, api_version: &str) -> ConnectionId {
        let token = self.dps_token(&self.device_key(id), id);
        let username = dps_username(self.cloud.id_scope(), id, api_version);
        self.connect_dps_with(id, &username, Some(&token), Vec::new())
    }

    pub(crate) fn connect_dps_with(
        &mut self,
        id: &str,
        username: &str,
        password: Option<&str>,
        chain: Vec<Vec<u8>>,
    ) -> ConnectionId {
        let connection = self.connect(chain, id, username, password, false);
        assert_eq!(self.received(connection), [Got::Accepted { session_present: false }]);
        self.subscribe(connection, "$dps/registrations/res/#");
        assert_eq!(self.received(connection), [Got::SubAck(vec![1])]);
        connection
    }

    pub(crate) fn register(&mut self, connection: ConnectionId, body: &[u8]) {
        self.publish(connection, "$dps/registrations/PUT/iotdps-register/?$rid=r1", body);
    }

    pub(crate) fn poll(&mut self, connection: ConnectionId, operation_id: &str) {
        let topic = format!(
            "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=r2&operationId={operation_id}"
        );
        self.publish(connection, &topic, b" ");
    }

    /// Registers a device of the default group with a request for its key; yields the identity.
    pub(crate) fn provision(&mut self, id: &str, key: &PrivateKey) -> Identity {
        self.provision_under(&self.cloud.root_certificate().clone(), id, key)
    }

    /// The same where another root is expected.
    pub(crate) fn provision_under(
        &mut self,
        root: &Certificate,
        id: &str,
        key: &PrivateKey,
    ) -> Identity {
        let request = CertificateRequest::new(key, id).unwrap();
        let connection = self.connect_dps(id, DPS_VERSION);
        let body = serde_json::json!({ "registrationId": id, "csr": request.to_base64() });
        self.register(connection, body.to_string().as_bytes());
        let (_, accepted) = self.message(connection);
        self.poll(connection, accepted["operationId"].as_str().unwrap());
        let (topic, assigned) = self.message(connection);
        assert_eq!(topic, "$dps/registrations/res/200/?$rid=r2");
        self.send(connection, Packet::Disconnect);
        let chain = texts(&assigned["registrationState"]["issuedCertificateChain"]);
        Identity { device_id: id.into(), chain: self.accept_under(root, id, &chain, key) }
    }

    /// Checks a chain as a device does.
    pub(crate) fn accept(&self, id: &str, chain: &[String], key: &PrivateKey) -> CertificateChain {
        self.accept_under(self.cloud.root_certificate(), id, chain, key)
    }

    fn accept_under(
        &self,
        root: &Certificate,
        id: &str,
        chain: &[String],
        key: &PrivateKey,
    ) -> CertificateChain {
        let policy = ChainPolicy {
            now: Some(self.wall()),
            anchor: Some(root),
            ..ChainPolicy::new(key.public_key(), id)
        };
        CertificateChain::accept(chain, &policy).unwrap()
    }

    /// Connects to the hub with an issued certificate, and expects to be let in.
    pub(crate) fn connect_hub(&mut self, identity: &Identity, clean_session: bool) -> ConnectionId {
        let connection = self.try_hub(identity, HUB_VERSION, clean_session);
        let got = self.received(connection);
        assert!(matches!(got[0], Got::Accepted { .. }), "{got:?} {:?}", self.events);
        self.received.entry(connection).or_default().extend(got.into_iter().skip(1));
        connection
    }

    pub(crate) fn try_hub(
        &mut self,
        identity: &Identity,
        api_version: &str,
        clean_session: bool,
    ) -> ConnectionId {
        let chain = identity.chain.iter().map(|c| c.as_der().to_vec()).collect();
        let id = &identity.device_id;
        let username = format!("localhost/{id}/?api-version={api_version}");
        self.connect(chain, id, &username, None, clean_session)
    }
}

/// What a provisioned device has.
pub(crate) struct Identity {
    pub(crate) device_id: String,
    pub(crate) chain: CertificateChain,
}

/// The default fixture, with faults that strike all.
pub(crate) fn faulty<const N: usize>(faults: [(Operation, Fault); N]) -> Fixture {
    let faults = faults.into_iter().map(|(operation, fault)| FaultRule::new(operation, fault));
    Fixture { faults: faults.collect(), ..Fixture::default() }
}

pub(crate) fn dps_username(id_scope: &str, id: &str, api_version: &str) -> String {
    format!("{id_scope}/registrations/{id}/api-version={api_version}&ClientVersion=test%2F1")
}

pub(crate) fn private_key(seed: u64) -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256, &mut ChaCha20Rng::seed_from_u64(seed)).unwrap()
}

pub(crate) fn texts(array: &Value) -> Vec<String> {
    array.as_array().unwrap().iter().map(|text| text.as_str().unwrap().into()).collect()
}

pub(crate) fn base64(text: &str) -> Vec<u8> {
    use base64ct::{Base64, Encoding};
    Base64::decode_vec(text).unwrap()
}

/// Reads the packets that are whole, and leaves the rest.
fn read_all(bytes: &mut Vec<u8>, mut acknowledge: impl FnMut(PacketIdentifier)) -> Vec<Got> {
    let mut got = Vec::new();
    while let Decoded::Complete { packet, used } = decode(bytes).unwrap() {
        got.push(match packet {
            Packet::ConnAck(ConnAck::Accepted { session_present }) => {
                Got::Accepted { session_present }
            }
            Packet::ConnAck(ConnAck::Refused(refusal)) => Got::Refused(refusal as u8),
            Packet::PubAck(id) => Got::PubAck(id.get()),
            Packet::SubAck(suback) => {
                Got::SubAck(suback.return_codes.iter().map(u8::from).collect())
            }
            Packet::UnsubAck(_) => Got::UnsubAck,
            Packet::PingResp => Got::PingResp,
            Packet::Publish(publish) => {
                publish.packet_identifier().map(&mut acknowledge);
                Got::Message {
                    topic: publish.topic.as_str().into(),
                    payload: publish.payload.into(),
                    qos: publish.qos(),
                }
            }
            other => panic!("no server sends {other:?}"),
        });
        bytes.drain(..used);
    }
    got
}
