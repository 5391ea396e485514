//! Keys and chains for the tests of this crate.

use std::format;
use std::string::String;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use rcgen::{CertificateParams, DnType, PublicKeyData, SignatureAlgorithm, SigningKey};
use zerotouch_credentials::{Certificate, CertificateChain, KeyAlgorithm, PrivateKey, Signer};
use zerotouch_dps::{Assignment, ConnectionProfile};

use crate::key::Key;
use crate::model::{Change, Generation, Identity};

pub(crate) fn key(seed: u64) -> Arc<PrivateKey> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    Arc::new(PrivateKey::generate(KeyAlgorithm::EcdsaP256, &mut rng).unwrap())
}

/// A certificate for `key`, signed by itself: the store keeps what others have accepted.
pub(crate) fn chain(key: &Arc<PrivateKey>) -> CertificateChain {
    struct SelfSigner(Arc<PrivateKey>, Vec<u8>);

    impl PublicKeyData for SelfSigner {
        fn der_bytes(&self) -> &[u8] {
            &self.1
        }

        fn algorithm(&self) -> &'static SignatureAlgorithm {
            &rcgen::PKCS_ECDSA_P256_SHA256
        }
    }

    impl SigningKey for SelfSigner {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
        }
    }

    let point = key.public_key()[key.public_key().len() - 65..].to_vec();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "press-7");
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[7]));
    params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![7]);
    let certificate = params.self_signed(&SelfSigner(Arc::clone(key), point)).unwrap();
    CertificateChain::new(vec![Certificate::from_der(certificate.der()).unwrap()]).unwrap()
}

pub(crate) fn assignment(hub: &str) -> Assignment {
    Assignment {
        assigned_hub: format!("{hub}.azure-devices.net"),
        device_id: "press-7".into(),
        connection_profile: ConnectionProfile::Classic,
    }
}

pub(crate) fn begin(key: &Arc<PrivateKey>) -> Change {
    Change::Begin { key: Arc::clone(key).into(), request_id: "3f1c".into() }
}

pub(crate) fn stage(key: &Arc<PrivateKey>, hub: Option<&str>) -> Change {
    Change::Stage { chain: chain(key), assignment: hub.map(assignment) }
}

/// All that tells one identity from another, in a form that tests compare and print.
pub(crate) fn fingerprint(identity: &Identity) -> String {
    let tail = |key: &Key| match key {
        Key::Software(key) => format!("{:?}", &key.public_key()[80..]),
        Key::Reference(key) => format!("{} {:?}", key.uri(), &key.public_key()[80..]),
    };
    let pending = identity.pending.as_ref().map(|p| (tail(&p.key), p.request_id.clone()));
    let one = |g: &Arc<Generation>| (g.number, tail(&g.key), g.chain.leaf().thumbprint());
    let (staged, active) = (identity.staged.as_ref().map(one), identity.active.as_ref().map(one));
    let previous: Vec<_> = identity.previous.iter().map(one).collect();
    let hub = identity.assignment.as_ref().map(|assignment| &assignment.assigned_hub);
    format!("{hub:?} {} {pending:?} {staged:?} {active:?} {previous:?}", identity.last_number)
}
