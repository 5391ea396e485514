//! Keys, requests, tokens and chains beside ring and OpenSSL: the same work, on the same machine, in the
//! same run.
//!
//! A row is one piece of work; who does not do it has no line there. What ring has not (requests, keys of
//! RSA) OpenSSL has; it takes part with `--features openssl`. Ours is Rust for whatever processor a device
//! has; theirs is assembly for this one. That is the price to be seen here.

#[cfg(feature = "openssl")]
mod openssl;
mod ring;
mod zerotouch;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Encoding};
use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use criterion::{BenchmarkId, Criterion};
use zerotouch_credentials::{Certificate, KeyAlgorithm, PrivateKey, Signer, SymmetricKey};
use zerotouch_emulator::pki::{CertificationAuthority, Validity};
use zerotouch_time::UnixTime;

const MESSAGE: &[u8] = &[7; 512];
const NAME: &str = "press-7";
const KINDS: [(&str, KeyAlgorithm); 3] = [
    ("p256", KeyAlgorithm::EcdsaP256),
    ("p384", KeyAlgorithm::EcdsaP384),
    ("rsa2048", KeyAlgorithm::Rsa2048),
];

/// One kind of key, and everything that is done with it.
struct Work {
    name: &'static str,
    algorithm: KeyAlgorithm,
    key: Arc<PrivateKey>,
    /// Of `MESSAGE` by `key`.
    signature: Vec<u8>,
    /// Leaf, issuing authority, root: DER.
    chain: Vec<Vec<u8>>,
    now: UnixTime,
}

impl Work {
    fn new(name: &'static str, algorithm: KeyAlgorithm) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let mut new_key = || Arc::new(PrivateKey::generate(algorithm, &mut rng).expect("a key"));
        let (key, issuing, root) = (new_key(), new_key(), new_key());
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("a set clock");
        let now = UnixTime::from_secs(since_epoch.as_secs() as i64);
        let validity = Validity { from: now, lifetime: Duration::from_secs(86_400) };
        let root = CertificationAuthority::root("root", validity, root, &mut rng).expect("a root");
        let issuing =
            root.subordinate("issuing", validity, issuing, &mut rng).expect("an authority");
        let leaf = issuing
            .certify_device(NAME, key.public_key(), validity, &mut rng)
            .expect("a certificate");
        let der = |certificate: &Certificate| certificate.as_der().to_vec();
        let chain = vec![der(&leaf), der(issuing.certificate()), der(root.certificate())];
        let signature = key.sign(MESSAGE).expect("a signature");
        Self { name, algorithm, key, signature, chain, now }
    }

    fn row(&self, what: &str) -> String {
        format!("{what}-{}", self.name)
    }

    fn base64_chain(&self) -> Vec<String> {
        self.chain.iter().map(|der| Base64::encode_string(der)).collect()
    }

    /// PKCS#8, for those who read it.
    fn pkcs8_der(&self) -> Vec<u8> {
        use rustls_pki_types::PrivatePkcs8KeyDer;
        use rustls_pki_types::pem::PemObject;
        let pem = self.key.to_pkcs8_pem().expect("PEM");
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).expect("PKCS#8");
        der.secret_pkcs8_der().to_vec()
    }

    /// The bits of the public key: the point, or modulus and exponent.
    fn public_bits(&self) -> Vec<u8> {
        let spki = self.key.public_key();
        let wrapping = match self.algorithm {
            KeyAlgorithm::EcdsaP256 => spki.len() - 65,
            KeyAlgorithm::EcdsaP384 => spki.len() - 97,
            _ => 24,
        };
        spki[wrapping..].to_vec()
    }
}

fn symmetric_key() -> SymmetricKey {
    SymmetricKey::from_base64("Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=").expect("a key")
}

/// Measures one who does the work of a row.
fn measure<T>(criterion: &mut Criterion, row: &str, who: &str, mut work: impl FnMut() -> T) {
    let mut group = criterion.benchmark_group(row);
    if row.starts_with("generate-rsa") {
        // Its time is a lottery: primes are drawn until two are found.
        group.sample_size(10).measurement_time(Duration::from_secs(5));
    }
    group.bench_function(BenchmarkId::from_parameter(who), |bencher| {
        bencher.iter(|| black_box(work()));
    });
}

fn main() {
    let mut criterion = Criterion::default()
        // Beside the codecs' results, which have a table of their own.
        .output_directory(Path::new("target/criterion-credentials"))
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    for (name, algorithm) in KINDS {
        let work = Work::new(name, algorithm);
        zerotouch::keys(&mut criterion, &work);
        ring::keys(&mut criterion, &work);
        #[cfg(feature = "openssl")]
        openssl::keys(&mut criterion, &work);
    }
    zerotouch::tokens(&mut criterion);
    ring::tokens(&mut criterion);
    #[cfg(feature = "openssl")]
    openssl::tokens(&mut criterion);
    #[cfg(not(feature = "openssl"))]
    println!("skipped: openssl: it takes part with --features openssl (needs libssl-dev)");
    criterion.final_summary();
}
