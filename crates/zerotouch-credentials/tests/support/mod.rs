//! A small authority for tests, and the openssl command line as an independent witness.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64ct::{Base64, Encoding};
use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyUsagePurpose, PublicKeyData, SerialNumber, SignatureAlgorithm,
    SigningKey,
};
use time::OffsetDateTime;
use zerotouch_credentials::{
    Certificate, CertificateChain, ChainError, ChainNote, ChainPolicy, KeyAlgorithm, PrivateKey,
    Signer,
};
use zerotouch_time::UnixTime;

/// 2026-06-01T00:00:00Z: the tests' present.
pub const NOW: i64 = 1_780_272_000;
pub const DAY: i64 = 24 * 60 * 60;
pub const DEVICE: &str = "press-7";

/// One of our keys, signing for rcgen.
pub struct Key {
    pub key: PrivateKey,
    bits: Vec<u8>,
}

impl Key {
    pub fn new(seed: u64) -> Self {
        Self::of(KeyAlgorithm::EcdsaP384, seed)
    }

    pub fn of(algorithm: KeyAlgorithm, seed: u64) -> Self {
        let key = PrivateKey::generate(algorithm, &mut ChaCha20Rng::seed_from_u64(seed)).unwrap();
        Self::from(key)
    }

    pub fn public_key(&self) -> &[u8] {
        self.key.public_key()
    }
}

impl From<PrivateKey> for Key {
    fn from(key: PrivateKey) -> Self {
        let spki = key.public_key();
        // What stands before the bits of the key: two SEQUENCEs, identifiers, a BIT STRING.
        let wrapping = match key.algorithm() {
            KeyAlgorithm::EcdsaP256 => spki.len() - 65,
            KeyAlgorithm::EcdsaP384 => spki.len() - 97,
            _ => 24,
        };
        let bits = spki[wrapping..].to_vec();
        Self { key, bits }
    }
}

impl PublicKeyData for &Key {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.key.algorithm() {
            KeyAlgorithm::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlgorithm::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            _ => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

impl SigningKey for &Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// Changes a certificate before it is signed.
pub type Tweak<'a> = &'a dyn Fn(&mut CertificateParams);

pub const AS_IT_IS: Tweak<'static> = &|_| {};

pub struct Authority {
    key: Key,
    params: CertificateParams,
    pub der: Vec<u8>,
}

impl Authority {
    pub fn root(name: &str, seed: u64) -> Self {
        Self::root_with(name, seed, AS_IT_IS)
    }

    pub fn root_with(name: &str, seed: u64, tweak: Tweak<'_>) -> Self {
        let (key, params) = (Key::new(seed), authority_params(name, tweak));
        let der = params.self_signed(&&key).unwrap().der().to_vec();
        Self { key, params, der }
    }

    pub fn below(&self, name: &str, seed: u64) -> Self {
        self.below_with(name, seed, AS_IT_IS)
    }

    pub fn below_with(&self, name: &str, seed: u64, tweak: Tweak<'_>) -> Self {
        let (key, params) = (Key::new(seed), authority_params(name, tweak));
        let der = params.signed_by(&&key, &self.issuer()).unwrap().der().to_vec();
        Self { key, params, der }
    }

    pub fn issue(&self, key: &Key, tweak: Tweak<'_>) -> Vec<u8> {
        let mut params = params(DEVICE);
        params.not_before = at(NOW - 60);
        params.not_after = at(NOW + 30 * DAY);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        tweak(&mut params);
        params.signed_by(&key, &self.issuer()).unwrap().der().to_vec()
    }

    fn issuer(&self) -> Issuer<'_, &Key> {
        Issuer::from_params(&self.params, &self.key)
    }

    pub fn certificate(&self) -> Certificate {
        Certificate::from_der(&self.der).unwrap()
    }
}

/// Root → issuing authority → device, as Azure Device Registry builds them.
pub struct Chain {
    pub root: Arc<Authority>,
    pub issuing: Arc<Authority>,
    pub key: Arc<Key>,
    pub leaf: Vec<u8>,
}

/// The authorities and the key of every chain, made once: P-384 is slow without optimisation.
static COMMON: LazyLock<(Arc<Authority>, Arc<Authority>, Arc<Key>)> = LazyLock::new(|| {
    let root = Authority::root("root", 1);
    let issuing = root.below("issuing", 2);
    (Arc::new(root), Arc::new(issuing), Arc::new(Key::new(3)))
});

impl Chain {
    pub fn new() -> Self {
        Self::with(AS_IT_IS)
    }

    pub fn with(tweak: Tweak<'_>) -> Self {
        let (root, issuing, key) = COMMON.clone();
        let leaf = issuing.issue(&key, tweak);
        Self { root, issuing, key, leaf }
    }

    /// The answer as the service sends it: leaf first, base64 of DER.
    pub fn answer(&self) -> Vec<String> {
        [&self.leaf, &self.issuing.der, &self.root.der].map(|der| base64(der)).to_vec()
    }

    pub fn policy(&self) -> ChainPolicy<'_> {
        ChainPolicy {
            now: Some(UnixTime::from_secs(NOW)),
            ..ChainPolicy::new(self.key.public_key(), DEVICE)
        }
    }
}

/// What becomes of an answer, and what is noted about it.
pub fn examine(answer: &[String], policy: &ChainPolicy<'_>) -> Result<Vec<ChainNote>, ChainError> {
    CertificateChain::examine(answer, policy).map(|accepted| accepted.notes)
}

/// What becomes of a chain whose leaf is tweaked.
pub fn leaf(tweak: Tweak<'_>) -> Result<Vec<ChainNote>, ChainError> {
    let chain = Chain::with(tweak);
    examine(&chain.answer(), &chain.policy())
}

/// What becomes of a chain whose issuing authority is tweaked.
pub fn issuing(tweak: Tweak<'_>) -> Result<Vec<ChainNote>, ChainError> {
    let mut chain = Chain::new();
    chain.issuing = Arc::new(chain.root.below_with("issuing", 2, tweak));
    chain.leaf = chain.issuing.issue(&chain.key, AS_IT_IS);
    examine(&chain.answer(), &chain.policy())
}

pub fn unix(secs: i64) -> UnixTime {
    UnixTime::from_secs(secs)
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = common_name(name);
    params.not_before = at(NOW - 365 * DAY);
    params.not_after = at(NOW + 3_650 * DAY);
    params.serial_number = Some(SerialNumber::from_slice(name.as_bytes()));
    params.key_identifier_method = KeyIdMethod::PreSpecified(name.as_bytes().to_vec());
    params
}

fn authority_params(name: &str, tweak: Tweak<'_>) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    tweak(&mut params);
    params
}

pub fn common_name(name: impl Into<rcgen::DnValue>) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

pub fn at(secs: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(secs).unwrap()
}

pub fn seconds(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn base64(der: &[u8]) -> String {
    Base64::encode_string(der)
}

/// Without the witness a test says so and ends; on the machine that decides it has failed.
pub fn no_openssl() -> bool {
    let missing = Command::new("openssl").arg("version").output().is_err();
    if missing {
        assert!(std::env::var_os("CI").is_none(), "openssl is not installed");
        eprintln!("skipped: openssl is not installed");
    }
    missing
}

/// Runs openssl in `directory`; what it prints on success, and its complaint in the panic.
pub fn openssl(directory: &Path, arguments: &str) -> String {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed.push_str(&String::from_utf8_lossy(&output.stderr));
    printed
}
