//! What the cryptography of one X.509 provisioning costs on this machine, and nothing else: how many of
//! them it leaves room for.
//!
//! ```text
//!   cargo run --release -p zerotouch-emulator --example ceiling -- p384 2 3
//! ```
//!
//! The arguments: the algorithm of the authority that certifies devices, how many threads, how many
//! seconds. Everything is done once that the protocol needs, by device and cloud together, with the
//! implementations that both use: two TLS handshakes with the device's certificate; a certificate request
//! signed, and verified by the service; the device's first certificate verified; the new one issued,
//! verified by the device with that of its issuer, and verified by the hub. No socket, no MQTT, no parsing
//! but what TLS does. That a device verifies its own request, as it does where the key signs elsewhere or by
//! RFC 6979, is not counted.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use zerotouch_credentials::{AwsLcKey, KeyAlgorithm, PrivateKey, Signer, verify_signature};
use zerotouch_emulator::pki::{CertificationAuthority, Validity};
use zerotouch_time::UnixTime;

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// As long as what is signed in a certificate.
const MESSAGE: &[u8] = &[7; 500];

fn main() -> Result {
    let mut arguments = std::env::args().skip(1);
    let algorithm = match arguments.next().as_deref() {
        Some("p384") => KeyAlgorithm::EcdsaP384,
        Some("p256") => KeyAlgorithm::EcdsaP256,
        _ => return Err("which authority: p384 or p256?".into()),
    };
    let threads: usize = arguments.next().unwrap_or("1".into()).parse()?;
    let seconds = Duration::from_secs(arguments.next().unwrap_or("3".into()).parse()?);
    let work = Arc::new(Work::new(algorithm)?);

    let alone = |part: fn(&Work) -> Result| -> Result<f64> {
        let (began, mut count) = (Instant::now(), 0_u32);
        while began.elapsed() < seconds / 6 {
            part(&work)?;
            count += 1;
        }
        Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(count))
    };
    let handshake = alone(Work::shake_hands)?;
    let device_sign = alone(|work| sign(&work.device))?;
    let device_verify = alone(|work| work.device_signed.verify())?;
    let authority_sign = alone(|work| sign(&work.authority))?;
    let authority_verify = alone(|work| work.authority_signed.verify())?;

    let over = Arc::new(AtomicBool::new(false));
    let (began, cpu) = (Instant::now(), processor_time()?);
    let running: Vec<_> = (0..threads)
        .map(|_| {
            let (work, over) = (Arc::clone(&work), Arc::clone(&over));
            std::thread::spawn(move || -> Result<u32> {
                let mut count = 0;
                while !over.load(Ordering::Relaxed) {
                    work.provision()?;
                    count += 1;
                }
                Ok(count)
            })
        })
        .collect();
    std::thread::sleep(seconds);
    over.store(true, Ordering::Relaxed);
    let mut count = 0;
    for thread in running {
        count += thread.join().map_err(|_| "a thread panicked")??;
    }
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    let cpu_millis = processor_time()?.saturating_sub(cpu).as_secs_f64() * 1e3 / f64::from(count);
    println!(
        "{{\"handshakeMicros\":{handshake:.0},\"deviceSignMicros\":{device_sign:.0},\
         \"deviceVerifyMicros\":{device_verify:.0},\"authoritySignMicros\":{authority_sign:.0},\
         \"authorityVerifyMicros\":{authority_verify:.0},\"perSecond\":{rate:.1},\
         \"processorMillis\":{cpu_millis:.3}}}"
    );
    Ok(())
}

/// Keys, and both sides of TLS.
struct Work {
    device: AwsLcKey,
    authority: AwsLcKey,
    device_signed: Signed,
    authority_signed: Signed,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

struct Signed {
    public_key: Vec<u8>,
    signature: Vec<u8>,
}

impl Signed {
    fn new(key: &AwsLcKey) -> Result<Self> {
        Ok(Self { public_key: key.public_key().to_vec(), signature: key.sign(MESSAGE)? })
    }

    fn verify(&self) -> Result {
        Ok(verify_signature(&self.public_key, MESSAGE, &self.signature)?)
    }
}

fn sign(key: &AwsLcKey) -> Result {
    black_box(key.sign(MESSAGE)?);
    Ok(())
}

impl Work {
    fn new(algorithm: KeyAlgorithm) -> Result<Self> {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let from = UnixTime::from_secs(i64::try_from(since.as_secs())?);
        let validity = Validity { from, lifetime: Duration::from_secs(86_400) };
        let key = |algorithm, rng: &mut _| PrivateKey::generate(algorithm, rng);
        let device = key(KeyAlgorithm::EcdsaP384, &mut rng)?;
        let authority = key(algorithm, &mut rng)?;
        let [authority_fast, device_fast] = [AwsLcKey::new(&authority)?, AwsLcKey::new(&device)?];

        let issuer = CertificationAuthority::root("i", validity, Arc::new(authority), &mut rng)?;
        let leaf = issuer.certify_device("device", device.public_key(), validity, &mut rng)?;
        let server_key = key(KeyAlgorithm::EcdsaP256, &mut rng)?;
        let server_root = key(KeyAlgorithm::EcdsaP256, &mut rng)?;
        let root = CertificationAuthority::root("r", validity, Arc::new(server_root), &mut rng)?;
        let names = ["localhost".into()];
        let server = root.certify_server(&names, server_key.public_key(), validity, &mut rng)?;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let der = |der: &[u8]| CertificateDer::from(der.to_vec());
        let private = |key: &PrivateKey| -> Result<PrivateKeyDer<'static>> {
            Ok(PrivateKeyDer::from_pem_slice(key.to_pkcs8_pem()?.as_bytes())?)
        };
        let mut roots = RootCertStore::empty();
        roots.add(der(root.certificate().as_der()))?;
        let mut issuers = RootCertStore::empty();
        issuers.add(der(issuer.certificate().as_der()))?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(issuers), Arc::clone(&provider));
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![der(leaf.as_der())], private(&device)?)?;
        client.resumption = Resumption::disabled();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            // It verifies the device's certificate, too: see `provision`.
            .with_client_cert_verifier(verifier.build()?)
            .with_single_cert(vec![der(server.as_der())], private(&server_key)?)?;
        server.send_tls13_tickets = 0;
        Ok(Self {
            device_signed: Signed::new(&device_fast)?,
            authority_signed: Signed::new(&authority_fast)?,
            device: device_fast,
            authority: authority_fast,
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }

    /// The whole. In the two handshakes the device's certificate is verified: once in place of the
    /// provisioning service, once in place of the hub.
    fn provision(&self) -> Result {
        self.shake_hands()?;
        sign(&self.device)?;
        self.device_signed.verify()?;
        sign(&self.authority)?;
        self.authority_signed.verify()?;
        self.authority_signed.verify()?;
        self.shake_hands()
    }

    fn shake_hands(&self) -> Result {
        let name = ServerName::try_from("localhost")?;
        let mut client = ClientConnection::new(Arc::clone(&self.client), name)?;
        let mut server = ServerConnection::new(Arc::clone(&self.server))?;
        let mut bytes = Vec::new();
        while client.is_handshaking() || server.is_handshaking() {
            bytes.clear();
            while client.wants_write() {
                client.write_tls(&mut bytes)?;
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest)?;
                server.process_new_packets()?;
            }
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes)?;
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest)?;
                client.process_new_packets()?;
            }
        }
        Ok(())
    }
}

/// Of this process, so far, in the system's steps of ten milliseconds.
fn processor_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}
