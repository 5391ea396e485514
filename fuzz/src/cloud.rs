//! A cloud, its clients, and what is true of it whatever they do.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use serde_json::Value;
use zerotouch_credentials::{
    CertificateChain, CertificateRequest, KeyAlgorithm, PrivateKey, Signer, SymmetricKey,
};
use zerotouch_emulator::cloud::{
    Action, Allocation, Cloud, ConnectionId, EnrollmentGroup, Fixture, HttpRequest, HttpResponse,
    IndividualEnrollment, Record, RequestId, Webhook, WebhookRequest,
};
use zerotouch_emulator::pki::{CertificationAuthority, Validity};
use zerotouch_mqtt_codec::{Decoded, Packet, PacketIdentifier, decode};
use zerotouch_time::{Instant, Now, UnixTime};

pub const DEVICES: [&str; 4] = ["d0", "d1", "enrolled", "hooked"];
pub const HOOKED_GROUP: &str = "hooked-group";
pub const START: i64 = 1_790_000_000;
/// No step of a client's is as long as to be worth more, and a driver would take the client for dead.
const MAX_ANSWER: usize = 1024 * 1024;

/// What a device has from the factory.
pub struct Factory {
    pub request: String,
    pub chain: Vec<Vec<u8>>,
    pub pem: String,
}

/// The same for each cloud, as clouds are the same.
pub static FACTORY: LazyLock<[Factory; 4]> = LazyLock::new(|| {
    let (cloud, mut rng) = (new_cloud(), ChaCha20Rng::seed_from_u64(7));
    let (certificate, key) = cloud.test_authority(Fixture::DEFAULT_X509_GROUP).expect("made");
    let key = key.to_pkcs8_pem().and_then(|pem| PrivateKey::from_pem(&pem)).expect("of its own");
    let authority =
        CertificationAuthority::open(certificate.clone(), Arc::new(key)).expect("its key");
    let validity =
        Validity { from: UnixTime::from_secs(START), lifetime: Duration::from_secs(86_400) };
    DEVICES.map(|name| {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256, &mut rng).expect("a key");
        let leaf = authority.certify_device(name, key.public_key(), validity, &mut rng);
        let leaf = leaf.expect("a name and a key");
        let chain = vec![leaf.as_der().to_vec()];
        let request = CertificateRequest::new(&key, name).expect("a request").to_base64();
        let pem = CertificateChain::new(vec![leaf]).expect("one").to_pem();
        Factory { request, chain, pem }
    })
});

/// One of each kind of enrolment.
fn new_cloud() -> Cloud {
    let webhook = Webhook { url: "http://localhost/".into(), api_version: "2021-10-01".into() };
    let policy = || Some(Fixture::DEFAULT_POLICY.into());
    let mut fixture = Fixture::default();
    fixture.enrollment_groups.push(EnrollmentGroup {
        allocation: Allocation::Custom(webhook),
        credential_policy: policy(),
        ..EnrollmentGroup::symmetric(HOOKED_GROUP)
    });
    fixture.individual_enrollments.push(IndividualEnrollment {
        credential_policy: policy(),
        ..IndividualEnrollment::symmetric(DEVICES[2])
    });
    cloud_of(fixture)
}

/// Nothing that another cloud's records do not bring: keys take time.
fn empty_cloud() -> Cloud {
    let (credential_policies, enrollment_groups) = (Vec::new(), Vec::new());
    let individual_enrollments = Vec::new();
    cloud_of(Fixture {
        credential_policies,
        enrollment_groups,
        individual_enrollments,
        ..Fixture::default()
    })
}

/// Two hubs, and the faster of the algorithms.
fn cloud_of(fixture: Fixture) -> Cloud {
    let hubs = vec!["localhost".into(), "127.0.0.2".into()];
    let fixture = Fixture { ca_algorithm: KeyAlgorithm::EcdsaP256, hubs, ..fixture };
    let rng = ChaCha20Rng::seed_from_u64(1);
    Cloud::new(fixture, rng, UnixTime::from_secs(START)).expect("a fixture")
}

#[derive(Default)]
struct Client {
    device: usize,
    /// What has come of packets that are not whole yet.
    partial: Vec<u8>,
}

/// What a device has learned.
#[derive(Default)]
pub struct Known {
    pub operation_id: String,
    pub chain: Vec<Vec<u8>>,
    pub method_rid: String,
    pub key: Option<SymmetricKey>,
    /// Where it was assigned to.
    pub hub: String,
}

pub struct World {
    pub cloud: Cloud,
    pub now: Now,
    pub known: [Known; 4],
    /// Of whatever was read last.
    pub etag: String,
    /// What an upload needs: its correlation id, and a token.
    pub upload: (String, String),
    pub webhooks: Vec<WebhookRequest>,
    /// Whether clients acknowledge what they receive.
    pub acknowledge: bool,
    clients: BTreeMap<ConnectionId, Client>,
    last_connection: u64,
    last_request: u64,
    asked_about: usize,
    records: BTreeMap<(&'static str, String), String>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            cloud: new_cloud(),
            now: Now { monotonic: Instant::ZERO, wall: Some(UnixTime::from_secs(START)) },
            known: <[Known; 4]>::default(),
            etag: String::new(),
            upload: (String::new(), String::new()),
            webhooks: Vec::new(),
            acknowledge: true,
            clients: BTreeMap::new(),
            last_connection: 0,
            last_request: 0,
            asked_about: 0,
            records: BTreeMap::new(),
        }
    }
}

impl World {
    pub fn open(&mut self, device: usize, chain: Vec<Vec<u8>>) -> ConnectionId {
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        self.clients.insert(connection, Client { device, partial: Vec::new() });
        self.cloud.handle_open(connection, chain, self.now);
        self.drain();
        connection
    }

    /// One of the open connections, and whose it is.
    pub fn connection(&self, index: u8) -> Option<(ConnectionId, usize)> {
        let index = usize::from(index) % self.clients.len().max(1);
        self.clients.iter().nth(index).map(|(connection, client)| (*connection, client.device))
    }

    pub fn send(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.cloud.handle_bytes(connection, bytes, self.now);
        self.drain();
    }

    pub fn close(&mut self, connection: ConnectionId) {
        self.clients.remove(&connection);
        self.cloud.handle_closed(connection, self.now);
        self.drain();
    }

    /// Makes a request in which there is something about a device.
    pub fn request(&mut self, device: usize, request: &HttpRequest) {
        self.last_request += 1;
        self.asked_about = device;
        self.cloud.handle_request(RequestId(self.last_request), request, self.now);
        self.drain();
    }

    /// Lets time pass, stopping where the cloud wants to be woken, or not at all if that is too often.
    pub fn wait(&mut self, by: Duration) {
        let end = self.now.monotonic + by;
        for _ in 0..64 {
            let Some(due) = self.cloud.poll_timeout().filter(|due| *due <= end) else { break };
            self.wake(due.max(self.now.monotonic));
        }
        self.wake(end);
    }

    fn wake(&mut self, at: Instant) {
        self.now.monotonic = at;
        // Both clocks run alike; one that is unset stays so.
        let seconds = i64::try_from(at.as_micros() / 1_000_000).unwrap_or(i64::MAX);
        let wall = UnixTime::from_secs(START.saturating_add(seconds));
        self.now.wall = self.now.wall.map(|_| wall);
        self.cloud.handle_timeout(self.now);
        assert!(self.cloud.poll_timeout().is_none_or(|due| due > at), "it wants what it has had");
        self.drain();
    }

    /// Takes all there is to take, and looks at it.
    pub fn drain(&mut self) {
        let mut sent = BTreeMap::<ConnectionId, usize>::new();
        let mut acknowledgements = Vec::new();
        while let Some(action) = self.cloud.poll_action() {
            match action {
                Action::Transmit { connection, bytes } => {
                    let length = sent.entry(connection).or_default();
                    *length += bytes.len();
                    assert!(*length <= MAX_ANSWER, "it grows");
                    let client = self.clients.get_mut(&connection).expect("bytes after the end");
                    client.partial.extend(bytes);
                    let known = &mut self.known[client.device];
                    let ids = receive(&mut client.partial, known);
                    acknowledgements.extend(ids.into_iter().map(|id| (connection, id)));
                }
                Action::Close { connection } => {
                    assert!(self.clients.remove(&connection).is_some(), "closed twice");
                }
            }
        }
        assert_eq!(self.cloud.connection_count(), self.clients.len());
        while let Some((_, response)) = self.cloud.poll_response() {
            self.answered(&response);
        }
        while let Some(event) = self.cloud.poll_event() {
            serde_json::to_string(&event).expect("an event is JSON");
        }
        self.webhooks.extend(std::iter::from_fn(|| self.cloud.poll_webhook()));
        if self.acknowledge {
            for (connection, id) in acknowledgements {
                self.send(connection, &encoded(&Packet::PubAck(id)));
            }
        }
    }

    /// Holds an answer against what HTTP allows, and learns from it.
    fn answered(&mut self, response: &HttpResponse) {
        let mut head = http::Response::builder().status(response.status);
        for (name, value) in &response.headers {
            head = head.header(*name, value);
        }
        let head = head.body(()).expect("a head as HTTP has it");
        let kind = head.headers().get("content-type").and_then(|value| value.to_str().ok());
        assert!(kind.is_some() || response.body.is_empty(), "a body of no type");
        if !kind.is_some_and(|kind| kind.starts_with("application/json")) {
            return;
        }
        let body: Value = serde_json::from_slice(&response.body).expect("JSON");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if body["etag"].is_string() {
            self.etag = text(&body["etag"]);
        }
        if body["correlationId"].is_string() {
            self.upload = (text(&body["correlationId"]), text(&body["sasToken"]));
        }
        for holder in [&body, &body["authentication"], &body["attestation"]] {
            let key = holder["symmetricKey"]["primaryKey"].as_str();
            if let Some(Ok(key)) = key.map(SymmetricKey::from_base64) {
                self.known[self.asked_about].key = Some(key);
            }
        }
    }

    /// Puts another cloud in the place of this one, made of what it has had kept.
    pub fn restart(&mut self) {
        for connection in std::mem::take(&mut self.clients).into_keys() {
            self.cloud.handle_closed(connection, self.now);
        }
        self.drain();
        keep(&mut self.cloud, &mut self.records);
        assert_eq!(all(&mut self.cloud), self.records, "a change was not told of");

        self.cloud = empty_cloud();
        let records = self.records.iter().map(|((table, key), value)| (*table, &**key, &**value));
        let restored = self.cloud.restore(records, ChaCha20Rng::seed_from_u64(3), self.now);
        restored.expect("records of a cloud's own");
        assert_eq!(self.cloud.poll_record(), None, "kept already");
        assert_eq!(all(&mut self.cloud), self.records, "it is another cloud");
    }
}

fn all(cloud: &mut Cloud) -> BTreeMap<(&'static str, String), String> {
    let mut records = BTreeMap::new();
    cloud.record_all();
    keep(cloud, &mut records);
    records
}

fn keep(cloud: &mut Cloud, records: &mut BTreeMap<(&'static str, String), String>) {
    while let Some(Record { table, key, value }) = cloud.poll_record() {
        match value {
            Some(value) => records.insert((table, key), value),
            None => records.remove(&(table, key)),
        };
    }
}

pub fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What a client may not send it does not.
    if packet.encode_to(&mut bytes).is_err() {
        bytes.clear();
    }
    bytes
}

/// Reads the packets that are whole, and leaves the rest; yields what is to be acknowledged.
fn receive(bytes: &mut Vec<u8>, known: &mut Known) -> Vec<PacketIdentifier> {
    let (mut ids, mut begin) = (Vec::new(), 0);
    while let Decoded::Complete { packet, used } = decode(&bytes[begin..]).expect("packets") {
        begin += used;
        let Packet::Publish(publish) = packet else { continue };
        ids.extend(publish.packet_identifier());
        let topic = publish.topic.as_str();
        if let Some((_, rid)) =
            topic.split_once("$iothub/methods/POST/").and(topic.split_once("$rid="))
        {
            known.method_rid = rid.into();
        }
        let Ok(body) = serde_json::from_slice::<Value>(publish.payload) else { continue };
        if let Some(id) = body["operationId"].as_str().filter(|id| !id.is_empty()) {
            known.operation_id = id.into();
        }
        if let Some(hub) = body["registrationState"]["assignedHub"].as_str() {
            known.hub = hub.into();
        }
        let issued = &body["registrationState"]["issuedCertificateChain"];
        let chain = [issued, &body["certificates"]].into_iter().find_map(Value::as_array);
        if let Some(chain) = chain {
            use base64ct::{Base64, Encoding};
            let ders = chain.iter().filter_map(|text| Base64::decode_vec(text.as_str()?).ok());
            known.chain = ders.collect();
        }
    }
    bytes.drain(..begin);
    ids
}
