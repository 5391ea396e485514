//! The processor time that a device needs from nothing to its hub, beside the cryptography in it.
//!
//! The time is that of the whole process, in which nothing but the device runs: its threads, its sockets
//! and what the system does for them included. The cryptography alone is the same calls with the same
//! keys: TLS with a server in memory, whose share is not counted.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use cpu_time::ProcessTime;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use zerotouch_blocking::Device;
use zerotouch_credentials::{
    CertificateChain, CertificateRequest, ChainPolicy, KeyAlgorithm, PrivateKey, Signer,
};
use zerotouch_emulator::pki::{CertificationAuthority, Validity};
use zerotouch_store::MemoryStore;
use zerotouch_time::UnixTime;
use zerotouch_tls::{Roots, TlsClient};

use crate::Result;
use crate::cloud::Cloud;

const NAME: &str = "bench-0000";
/// The default of `Config::key_algorithm`.
const ALGORITHM: KeyAlgorithm = KeyAlgorithm::EcdsaP384;

pub(crate) fn measure(check: bool) -> Result {
    let rounds = if check { 1 } else { 25 };
    let cloud = Cloud::start()?;
    let mut parts = Parts::new()?;
    let (mut whole, mut alone) = (Vec::new(), Vec::new());
    // By turns, so that both see the same machine.
    for round in 0..rounds {
        whole.push(provision(&cloud, round)?);
        alone.push(parts.measure()?);
    }
    let whole = median(whole.into_iter());
    println!("one provisioning, median of {rounds}:");
    let mut sum = Duration::ZERO;
    for (part, name) in Parts::NAMES.into_iter().enumerate() {
        let time = median(alone.iter().map(|parts| parts[part]));
        println!("  {name:<40} {time:>9.1?}");
        sum += time;
    }
    println!("  {:<40} {sum:>9.1?}", "cryptography alone");
    println!("  {:<40} {whole:>9.1?}", "the device, all in all");
    println!("  {:<40} {:>8.2}×", "ratio", whole.as_secs_f64() / sum.as_secs_f64());
    Ok(())
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times[times.len() / 2]
}

/// A device that nobody knows comes to its hub with an issued certificate.
fn provision(cloud: &Cloud, round: usize) -> Result<Duration> {
    let config = cloud.config(&format!("bench-{round:04}"))?;
    let began = ProcessTime::try_now()?;
    let connected = Device::builder(config).roots(cloud.roots()).connect(MemoryStore::new())?;
    let took = began.try_elapsed()?;
    connected.0.close();
    Ok(took)
}

/// The cryptography of a provisioning, and who stands at its other end.
struct Parts {
    rng: ChaCha20Rng,
    key: Arc<PrivateKey>,
    /// Base64 of DER, leaf first.
    answer: Vec<String>,
    now: UnixTime,
    server: Arc<ServerConfig>,
    /// With what the provisioning service is dialled, and with what the hub.
    clients: [Arc<ClientConfig>; 2],
}

impl Parts {
    const NAMES: [&str; 5] = [
        "generate a key",
        "sign a certificate request",
        "TLS with the provisioning service",
        "check the issued chain",
        "TLS with the hub, showing the chain",
    ];

    fn new() -> Result<Self> {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let now = UnixTime::from_secs(i64::try_from(since.as_secs())?);
        let validity = Validity { from: now, lifetime: Duration::from_secs(86_400) };
        let mut new_key = |algorithm| PrivateKey::generate(algorithm, &mut rng).map(Arc::new);
        // As the emulator has it, authorities for devices on P-384 and its own certificate on P-256; and
        // as devices have it unless told otherwise.
        let mut on_p384 = || new_key(ALGORITHM);
        let (key, issuing, root) = (on_p384()?, on_p384()?, on_p384()?);
        let mut on_p256 = || new_key(KeyAlgorithm::EcdsaP256);
        let (server_key, server_root) = (on_p256()?, on_p256()?);
        let root = CertificationAuthority::root("root", validity, root, &mut rng)?;
        let issuing = root.subordinate("issuing", validity, issuing, &mut rng)?;
        let leaf = issuing.certify_device(NAME, key.public_key(), validity, &mut rng)?;
        let chain = vec![leaf, issuing.certificate().clone(), root.certificate().clone()];
        let chain = CertificateChain::new(chain).ok_or("no chain")?;

        let server_root = CertificationAuthority::root("TLS", validity, server_root, &mut rng)?;
        let names = ["localhost".into()];
        let public_key = server_key.public_key();
        let server = server_root.certify_server(&names, public_key, validity, &mut rng)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut issuers = RootCertStore::empty();
        issuers.add(CertificateDer::from(root.certificate().as_der()))?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(issuers), Arc::clone(&provider));
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
            .with_single_cert(
                vec![CertificateDer::from(server.as_der().to_vec())],
                PrivateKeyDer::from_pem_slice(server_key.to_pkcs8_pem()?.as_bytes())?,
            )?;
        let pem = CertificateChain::new(vec![server_root.certificate().clone()]);
        let roots = Roots::Pem(pem.ok_or("no root")?.to_pem().into());
        // Each provisioning is a first time.
        let tls = TlsClient::new(&roots)?.resumption(false);
        let clients = [tls.config(None)?, tls.config(Some((key.clone(), &chain)))?];
        let answer = chain.iter().map(|one| base64(one.as_der())).collect();
        Ok(Self { rng, key, answer, now, server: Arc::new(server), clients })
    }

    fn measure(&mut self) -> Result<[Duration; 5]> {
        let rng = &mut self.rng;
        let generated = timed(|| PrivateKey::generate(ALGORITHM, rng))?;
        let requested = timed(|| CertificateRequest::new(&*self.key, NAME))?;
        let accepted = timed(|| {
            let policy = ChainPolicy {
                now: Some(self.now),
                ..ChainPolicy::new(self.key.public_key(), NAME)
            };
            CertificateChain::accept(&self.answer, &policy)
        })?;
        let [dps, hub] = [self.shake_hands(0)?, self.shake_hands(1)?];
        Ok([generated, requested, dps, accepted, hub])
    }

    /// The client's share of a handshake.
    fn shake_hands(&self, client: usize) -> Result<Duration> {
        let mut server = ServerConnection::new(Arc::clone(&self.server))?;
        let name = ServerName::try_from("localhost")?;
        let config = Arc::clone(&self.clients[client]);
        let began = ProcessTime::try_now()?;
        let mut client = ClientConnection::new(config, name)?;
        let mut took = began.try_elapsed()?;
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while client.is_handshaking() || server.is_handshaking() {
            let began = ProcessTime::try_now()?;
            if !down.is_empty() {
                client.read_tls(&mut &down[..])?;
                client.process_new_packets()?;
            }
            up.clear();
            while client.wants_write() {
                client.write_tls(&mut up)?;
            }
            took += began.try_elapsed()?;
            if !up.is_empty() {
                server.read_tls(&mut &up[..])?;
                server.process_new_packets()?;
            }
            down.clear();
            while server.wants_write() {
                server.write_tls(&mut down)?;
            }
        }
        Ok(took)
    }
}

fn timed<T, E: std::error::Error + 'static>(
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<Duration> {
    let began = ProcessTime::try_now()?;
    black_box(work()?);
    Ok(began.try_elapsed()?)
}

fn base64(bytes: &[u8]) -> String {
    use base64ct::{Base64, Encoding};
    Base64::encode_string(bytes)
}
