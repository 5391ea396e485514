//! What devices leave the factory with: a key that is derived from their group's, or a certificate that the
//! authority of another group has signed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use zerotouch_credentials::{CertificateChain, KeyAlgorithm, PrivateKey, Signer, SymmetricKey};
use zerotouch_device::{Attestation, TlsIdentity};
use zerotouch_emulator::cloud::{Cloud, CloudError};
use zerotouch_emulator::pki::{CertificationAuthority, Validity};
use zerotouch_time::UnixTime;

use crate::world::{CERTIFIED_GROUP, GENESIS, GROUP, WorldError};

/// Neither a device's clock nor the cloud's goes wrong by as much.
const SINCE: Duration = Duration::from_secs(2 * 365 * 86_400);
const FOR: Duration = Duration::from_secs(8 * 365 * 86_400);

/// The credentials of all devices.
#[derive(Debug)]
pub(crate) struct Factory {
    group_key: SymmetricKey,
    identities: BTreeMap<String, TlsIdentity>,
}

impl Factory {
    /// Certifies the devices of these names.
    pub(crate) fn new(
        cloud: &Cloud,
        certified: impl Iterator<Item = String>,
        seed: u64,
    ) -> Result<Self, WorldError> {
        let group_key = cloud.group_key(GROUP).ok_or(WorldError::NoGroup)?;
        let group_key =
            SymmetricKey::from_base64(&group_key.to_base64()).map_err(CloudError::from)?;
        let mut identities = BTreeMap::new();
        if let Some((certificate, key)) = cloud.test_authority(CERTIFIED_GROUP) {
            let mut rng = ChaCha20Rng::seed_from_u64(seed.rotate_left(32));
            let key = PrivateKey::from_pem(&key.to_pkcs8_pem()?)?;
            let authority = CertificationAuthority::open(certificate.clone(), Arc::new(key))?;
            let from = UnixTime::from_secs(GENESIS.as_secs() - SINCE.as_secs().cast_signed());
            let validity = Validity { from, lifetime: FOR };
            for name in certified {
                let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256, &mut rng)?;
                let public_key = key.public_key();
                let leaf = authority.certify_device(&name, public_key, validity, &mut rng)?;
                let Some(chain) = CertificateChain::new(vec![leaf]) else { continue };
                identities.insert(name, TlsIdentity { signer: Arc::new(key), chain });
            }
        }
        Ok(Self { group_key, identities })
    }

    pub(crate) fn attestation(&self, name: &str) -> Attestation {
        match self.identities.get(name) {
            Some(identity) => Attestation::X509(identity.clone()),
            None => Attestation::SymmetricKey(self.group_key.derive(name)),
        }
    }
}
