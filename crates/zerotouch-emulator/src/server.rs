//! Engines as servers: the emulator is TCP and TLS around [`Cloud`], and [`PlainBrokerServer`] TCP
//! around a broker.
//!
//! They run on threads of their own, so that they serve blocking tests, async tests and a command line
//! alike, and end with their handles.
//!
//! ```text
//!   accept ─► TLS handshake ─► read ──► engine (one lock) ──► wake ─► write
//!                              timer ─►                  └──► events ─► next_event
//! ```

mod cloud;
mod connection;
mod cryptography;
mod engine;
mod entrance;
mod host;
mod http;
mod plain_broker;
mod remote;
mod shared;
mod storage;
mod tail;
mod tls;
mod web_socket;
mod webhooks;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::sync::mpsc;
use zeroize::Zeroizing;
use zerotouch_credentials::{PrivateKeyError, SymmetricKey};
use zerotouch_time::{Now, UnixTime};

use self::cloud::StoredCloud;
pub use self::cryptography::{crypto_provider, fast_signer};
use self::entrance::entrance;
use self::host::{Host, listen};
pub use self::plain_broker::{
    PLAIN_MQTT_PORT, PlainBrokerConfig, PlainBrokerEvent, PlainBrokerServer,
    PlainBrokerServerBuilder, ServerConfig, ServerLimits,
};
pub use self::remote::{RemoteRequest, request};
use self::storage::Storage;
pub use self::storage::StorageError;
use self::tls::ServerTls;
use crate::cloud::{
    AuthorityError, Cloud, CloudError, CloudEvent, EnrollmentGroup, Fixture, GroupAttestation,
    SERVICE_POLICIES,
};

/// The port of MQTT over TLS, which clients dial at an assigned hub.
pub const MQTT_PORT: u16 = 8883;
/// How many connections an emulator serves at once unless told otherwise.
pub const DEFAULT_MAX_CONNECTIONS: usize = 16 * 1024;

/// A running emulator. Dropping it closes its connections and frees its port.
///
/// ```
/// use std::time::Duration;
/// use zerotouch_emulator::Emulator;
///
/// let emulator = Emulator::builder().seed(7).start()?;
/// assert_ne!(emulator.port(), 0);
/// assert!(emulator.ca_pem().starts_with("-----BEGIN CERTIFICATE-----"));
/// let group_key = emulator.group_key("default-group").unwrap();
/// let device_key = group_key.derive("pump-17");
/// # drop(device_key);
/// assert_eq!(emulator.next_event(Duration::ZERO), None);
/// # Ok::<(), zerotouch_emulator::server::StartError>(())
/// ```
#[derive(Debug)]
pub struct Emulator {
    host: Host<StoredCloud>,
    ca_pem: String,
}

/// How an emulator shall be.
#[derive(Debug)]
pub struct EmulatorBuilder {
    fixture: Fixture,
    address: String,
    seed: Option<u64>,
    data_dir: Option<PathBuf>,
    https_port: Option<u16>,
    max_connections: usize,
    keep_events: bool,
}

/// Why an emulator did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another program listens there.
    #[error("{address} is in use by another program: end that program or choose another port")]
    AddressInUse {
        /// Where.
        address: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The cloud could not be made.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The server's own certificates could not be made.
    #[error("the server's certificate was not made: {0}")]
    Authority(#[from] AuthorityError),
    /// TLS could not be set up.
    #[error("TLS was not set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The server's key could not be handed to TLS.
    #[error("the server's key was not usable: {0}")]
    Key(#[from] PrivateKeyError),
    /// The system gave no random numbers.
    #[error("the system gave no random numbers: {0}")]
    Randomness(#[from] getrandom::Error),
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Threads could not be started.
    #[error("no thread to run on: {0}")]
    Thread(io::Error),
}

impl EmulatorBuilder {
    /// What the cloud contains; default [`Fixture::default`].
    #[must_use]
    pub fn fixture(mut self, fixture: Fixture) -> Self {
        self.fixture = fixture;
        self
    }

    /// Where to listen, as `host:port`; default `127.0.0.1:0`, a free port of the loopback interface.
    /// The emulator is no production service: think before naming another interface.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Listens on this port of the loopback interface. Clients that know nothing of the emulator dial
    /// an assigned hub on [`MQTT_PORT`].
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.address(format!("127.0.0.1:{port}"))
    }

    /// Listens on this port, too, for clients that cannot be told another than 443.
    #[must_use]
    pub fn https_port(mut self, port: u16) -> Self {
        self.https_port = Some(port);
        self
    }

    /// Draws keys, certificates and ids from this seed, so that two runs are alike. Without one they
    /// come from the system's random numbers, and with the feature `aws-lc-rs` so does a part of each
    /// signature, which is faster.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Keeps the emulator in this directory, which is made with mode 0700: the next one started with it
    /// has the same keys, authorities, enrolments and devices, whatever happened in between. A seed, and
    /// what the fixture holds beside settings, count only where the directory is new.
    #[must_use]
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(directory.into());
        self
    }

    /// How many connections are served at once; default
    /// [`DEFAULT_MAX_CONNECTIONS`]. Further ones are closed at once.
    #[must_use]
    pub fn max_connections(mut self, limit: usize) -> Self {
        self.max_connections = limit;
        self
    }

    /// Whether what happens is kept for [`Emulator::next_event`]; default yes. Where nobody asks, it is
    /// memory and time for nothing.
    #[must_use]
    pub fn keep_events(mut self, keep: bool) -> Self {
        self.keep_events = keep;
        self
    }

    /// Starts it; when this returns it accepts connections.
    pub fn start(self) -> Result<Emulator, StartError> {
        let listeners = self.listen()?;
        let now = UnixTime::from_secs(unix_seconds());
        let storage = self.data_dir.map(|path| Storage::open(&path, self.seed, now)).transpose()?;
        let (mut rng, created) = match &storage {
            Some(storage) => (storage.rng(), storage.created()),
            None => (random_numbers(self.seed)?, now),
        };
        // The server's certificates first: what the fixture draws does not change them.
        let tls = ServerTls::new(&self.fixture.hubs, now, &mut rng)?;
        // With a seed the same bytes are wanted again.
        let mut cloud = match self.seed {
            Some(_) => Cloud::new(self.fixture, rng, created),
            None => Cloud::with_signer(self.fixture, fast_signer, rng, created),
        }?;
        if let Some(storage) = &storage {
            storage.restore(&mut cloud, now)?;
        }
        let (questions, asked) = mpsc::unbounded_channel();
        let engine = StoredCloud::new(cloud, storage, questions, self.keep_events);
        let ServerTls { acceptor, ca_pem } = tls;
        let entrance = |shared: &_| {
            tokio::spawn(webhooks::carry(asked, Arc::downgrade(shared)));
            entrance(acceptor, shared)
        };
        let host = Host::start(engine, listeners, entrance, self.max_connections)?;
        Ok(Emulator { host, ca_pem })
    }
}

impl EmulatorBuilder {
    /// The address first; then the same port of every other loopback address that is a hub's name, so that
    /// devices find their hub there; then the second port of all these.
    fn listen(&self) -> Result<Vec<TcpListener>, StartError> {
        let first = listen(&self.address)?;
        let address = first.local_addr().map_err(StartError::Thread)?;
        let hubs = self.fixture.hubs.iter().filter_map(|name| name.parse::<IpAddr>().ok());
        // All addresses of the machine are those, too.
        let hubs = hubs.filter(|_| !address.ip().is_unspecified());
        let others = hubs.filter(|hub| hub.is_loopback() && *hub != address.ip());
        let mut addresses: Vec<SocketAddr> =
            others.map(|hub| SocketAddr::new(hub, address.port())).collect();
        if let Some(port) = self.https_port {
            let all = [address].into_iter().chain(addresses.iter().copied());
            let second: Vec<_> = all.map(|one| SocketAddr::new(one.ip(), port)).collect();
            addresses.extend(second);
        }
        let others = addresses.iter().map(|other| listen(&other.to_string()));
        [Ok(first)].into_iter().chain(others).collect()
    }
}

fn random_numbers(seed: Option<u64>) -> Result<ChaCha20Rng, getrandom::Error> {
    if let Some(seed) = seed {
        return Ok(ChaCha20Rng::seed_from_u64(seed));
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(ChaCha20Rng::from_seed(seed))
}

/// Seconds since 1970 by the system's clock, 0 if that is before.
fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// An enrolment group, as one tells a device's owner.
#[derive(Debug)]
pub struct GroupSummary {
    /// Its name.
    pub id: String,
    /// Its primary key; none if its devices have certificates.
    pub primary_key: Option<SymmetricKey>,
    /// Where an authority was made for it: certificate and key, both PEM.
    pub test_authority: Option<(String, Zeroizing<String>)>,
    /// The policy that certifies its devices' keys.
    pub credential_policy: Option<String>,
}

impl Emulator {
    /// An emulator with the default fixture, on a free port of the loopback interface.
    pub fn builder() -> EmulatorBuilder {
        EmulatorBuilder {
            fixture: Fixture::default(),
            address: "127.0.0.1:0".into(),
            seed: None,
            data_dir: None,
            https_port: None,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            keep_events: true,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.host.address
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.host.address.port()
    }

    /// The host names of its hubs.
    pub fn hubs(&self) -> Vec<String> {
        self.with_cloud(|cloud, _| cloud.hubs().to_vec())
    }

    /// The provisioning service's id scope.
    pub fn id_scope(&self) -> String {
        self.with_cloud(|cloud, _| cloud.id_scope().into())
    }

    /// The primary key of a symmetric-key enrolment group; `None` if there is no such group.
    pub fn group_key(&self, id: &str) -> Option<SymmetricKey> {
        self.with_cloud(|cloud, _| copy(cloud.group_key(id)?))
    }

    /// The enrolment groups.
    pub fn enrollment_groups(&self) -> Vec<GroupSummary> {
        let summary = |cloud: &Cloud, group: &EnrollmentGroup| GroupSummary {
            id: group.id.clone(),
            primary_key: match &group.attestation {
                GroupAttestation::SymmetricKeys(keys) => keys.primary.as_ref().and_then(copy),
                _ => None,
            },
            test_authority: cloud.test_authority(&group.id).and_then(|(certificate, key)| {
                Some((crate::pem::certificate(certificate), key.to_pkcs8_pem().ok()?))
            }),
            credential_policy: group.credential_policy.clone(),
        };
        self.with_cloud(|cloud, _| {
            cloud.enrollment_groups().map(|group| summary(cloud, group)).collect()
        })
    }

    /// What the vendor's service SDKs are given, with the key of the service API: a secret.
    pub fn service_connection_string(&self) -> String {
        let policy = SERVICE_POLICIES[0];
        let key = self.with_cloud(|cloud, _| cloud.service_key().to_base64().to_string());
        let port = self.port();
        format!("HostName=localhost:{port};SharedAccessKeyName={policy};SharedAccessKey={key}")
    }

    /// The certificate that clients have to trust, as PEM: the authority of the server's own TLS
    /// certificate. It has nothing to do with the authority that certifies devices.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Writes [`Emulator::ca_pem`] to a file, for clients that want one.
    pub fn write_ca_certificate(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, &self.ca_pem)
    }

    /// The next thing that happened, waiting for it no longer than `timeout`.
    pub fn next_event(&self, timeout: Duration) -> Option<CloudEvent> {
        self.host.shared.next_event(timeout)
    }

    /// Looks into the cloud, or does in it what its operator could do. What that sends to devices is
    /// sent when `action` returns; until then the cloud stands still.
    pub fn with_cloud<R>(&self, action: impl FnOnce(&mut Cloud, Now) -> R) -> R {
        self.host.shared.with(|engine, now| action(&mut engine.cloud, now))
    }

    /// Puts the cloud's time of day forward, so that certificates, tokens and operations grow old.
    /// Clients are not affected, and connections as far as they came with a token that has expired.
    pub fn advance_clock(&self, by: Duration) {
        self.with_cloud(|cloud, now| {
            let time = cloud.time(now) + by;
            cloud.set_time(time, now);
        });
    }
}

fn copy(key: &SymmetricKey) -> Option<SymmetricKey> {
    SymmetricKey::from_base64(&key.to_base64()).ok()
}
