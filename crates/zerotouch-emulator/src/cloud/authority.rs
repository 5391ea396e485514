//! The certificate authorities of Azure Device Registry: one root, one issuing authority per policy.
//!
//! ```text
//!   root  ──►  issuing authority of a policy  ──►  device certificate
//! ```
//!
//! Both authorities are on P-384 unless the fixture says otherwise. The profile of the device certificate
//! is not published. This one holds what the documentation names: the device id as only name, a per-device
//! identifier, and what a client certificate needs.

use std::sync::Arc;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rcgen::SanType;
use serde::{Deserialize, Serialize, Serializer};
use zerotouch_credentials::{Certificate, KeyAlgorithm, PrivateKey, PrivateKeyError, Signer};
use zerotouch_time::UnixTime;

use super::text_form;
use crate::pki::{CertificationAuthority, PkiError, Validity};

/// Marks every authority of the emulator, for whoever finds its certificate in a trust store.
const MARK: &str = "EMULATOR - NOT FOR PRODUCTION";

/// Nobody is asked to trust these two outside the emulator, so they may outlive any test's clock.
const ROOT_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const ISSUING_VALIDITY: Duration = Duration::from_secs(5 * 365 * 24 * 60 * 60);

/// How the alternative name begins that holds the per-device identifier. Where the real service
/// keeps it is not published.
const DEVICE_IDENTIFIER_PREFIX: &str = "urn:uuid:";

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The certificate was not made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// No policy of that name.
    #[error("there is no credential policy of that name")]
    UnknownPolicy,
    /// The policy waits for its external root to sign its issuing authority.
    #[error("the credential policy is not active: its external root has not signed yet")]
    Inactive,
    /// The policy waits for no signature.
    #[error("the credential policy has an issuing authority already")]
    Active,
    /// The device is not registered.
    #[error("the device is not registered")]
    UnknownDevice,
}

/// What signs with the key of an authority.
pub type MakeSigner = fn(Arc<PrivateKey>) -> Result<Arc<dyn Signer>, PrivateKeyError>;

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    /// The device id, which becomes the only name.
    pub(super) device_id: &'a str,
    /// The key, as the DER of a `SubjectPublicKeyInfo`.
    pub(super) public_key: &'a [u8],
    /// The current per-device identifier: revoking a device changes it.
    pub(super) identifier: &'a str,
}

/// An authority of the namespace.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Entry")]
pub(super) struct Authority {
    #[serde(rename = "certificate", serialize_with = "certificate_of")]
    authority: CertificationAuthority,
    #[serde(with = "text_form::one")]
    key: Arc<PrivateKey>,
}

/// An authority as it is kept.
#[derive(Deserialize)]
struct Entry {
    #[serde(with = "text_form::one")]
    certificate: Certificate,
    #[serde(with = "text_form::one")]
    key: Arc<PrivateKey>,
}

impl TryFrom<Entry> for Authority {
    type Error = PkiError;

    fn try_from(Entry { certificate, key }: Entry) -> Result<Self, PkiError> {
        Self::open(certificate, key)
    }
}

fn certificate_of<S: Serializer>(
    authority: &CertificationAuthority,
    s: S,
) -> Result<S::Ok, S::Error> {
    text_form::one::serialize(authority.certificate(), s)
}

/// The keys of authorities.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuthorityKeys {
    /// What they are.
    pub(super) algorithm: KeyAlgorithm,
    /// What signs with them.
    pub(super) signer: MakeSigner,
}

impl AuthorityKeys {
    /// Draws one.
    pub(super) fn draw(self, rng: &mut ChaCha20Rng) -> Result<Arc<PrivateKey>, PkiError> {
        Ok(Arc::new(PrivateKey::generate(self.algorithm, rng)?))
    }
}

/// The name of a policy's issuing authority.
pub(super) fn issuing_name(policy: &str) -> String {
    format!("zerotouch policy {policy} {MARK}")
}

impl Authority {
    /// The root of a namespace, or of whatever else.
    pub(super) fn root(
        what: &str,
        keys: AuthorityKeys,
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, PkiError> {
        let key = keys.draw(rng)?;
        let name = format!("zerotouch {what} root {MARK}");
        let validity = Validity { from: now, lifetime: ROOT_VALIDITY };
        let authority =
            CertificationAuthority::root(&name, validity, (keys.signer)(key.clone())?, rng)?;
        Ok(Self { authority, key })
    }

    /// The issuing authority of a policy, below this one.
    pub(super) fn issuing(
        &self,
        policy: &str,
        keys: AuthorityKeys,
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, PkiError> {
        let key = keys.draw(rng)?;
        let validity = Validity { from: now, lifetime: ISSUING_VALIDITY };
        let name = issuing_name(policy);
        let signer = (keys.signer)(key.clone())?;
        let authority = self.authority.subordinate(&name, validity, signer, rng)?;
        Ok(Self { authority, key })
    }

    /// An authority whose certificate was made elsewhere.
    pub(super) fn open(certificate: Certificate, key: Arc<PrivateKey>) -> Result<Self, PkiError> {
        let authority = CertificationAuthority::open(certificate, key.clone())?;
        Ok(Self { authority, key })
    }

    /// Has it sign by what `signer` makes of its key.
    pub(super) fn sign_with(&mut self, signer: MakeSigner) -> Result<(), PkiError> {
        let signer = signer(Arc::clone(&self.key))?;
        self.authority = CertificationAuthority::open(self.certificate().clone(), signer)?;
        Ok(())
    }

    pub(super) fn key(&self) -> &PrivateKey {
        &self.key
    }

    pub(super) fn certificate(&self) -> &Certificate {
        self.authority.certificate()
    }

    /// Issues a device certificate.
    pub(super) fn issue(
        &self,
        subject: Subject<'_>,
        validity: Validity,
        rng: &mut ChaCha20Rng,
    ) -> Result<Certificate, PkiError> {
        let identifier = format!("{DEVICE_IDENTIFIER_PREFIX}{}", subject.identifier);
        let names = vec![SanType::URI(identifier.try_into()?)];
        let device = (subject.device_id, subject.public_key);
        self.authority.certify_device_with(device, names, validity, rng)
    }
}

/// The per-device identifier in a certificate, if it holds one.
pub(super) fn device_identifier(certificate: &Certificate) -> Option<String> {
    let names = certificate.subject_alternative_names().ok()?;
    let mut uris = names.iter().filter_map(|name| name.strip_prefix("URI:"));
    uris.find_map(|uri| uri.strip_prefix(DEVICE_IDENTIFIER_PREFIX)).map(String::from)
}
