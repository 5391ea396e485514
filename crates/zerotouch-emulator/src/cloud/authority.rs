//! The certificate authority of Azure Device Registry: one root, one issuing authority per policy.
//!
//! ```text
//!   root  ──►  issuing authority of a policy  ──►  device certificate
//! ```
//!
//! Both authorities are on P-384 unless the fixture says otherwise. The profile of the device certificate is not published. This one holds what the documentation
//! names: the device id as only name, a per-device identifier, and what a client certificate needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use chacha20::ChaCha20Rng;
use rcgen::SanType;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use zerotouch_credentials::{Certificate, KeyAlgorithm, PrivateKey, PrivateKeyError, Signer};
use zerotouch_time::UnixTime;

use super::fixture::CredentialPolicy;
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
    /// The device is not registered.
    #[error("the device is not registered")]
    UnknownDevice,
}

/// The keys of the authority.
#[derive(Clone, Copy)]
pub(super) struct AuthorityKeys {
    pub(super) algorithm: KeyAlgorithm,
    pub(super) signer: MakeSigner,
}

/// What signs with a key that was drawn.
pub type MakeSigner = fn(PrivateKey) -> Result<Arc<dyn Signer>, PrivateKeyError>;

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

/// The root and the issuing authorities of one namespace.
#[derive(Debug)]
pub(super) struct Authority {
    root: CertificationAuthority,
    policies: BTreeMap<String, Policy>,
}

#[derive(Debug)]
struct Policy {
    issuing: CertificationAuthority,
    leaf_validity: Duration,
}

impl Authority {
    /// Makes the root, and an issuing authority for each policy.
    pub(super) fn new(
        policies: &[CredentialPolicy],
        keys: AuthorityKeys,
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, AuthorityError> {
        let new_key = |rng: &mut ChaCha20Rng| {
            let key = PrivateKey::generate(keys.algorithm, rng).and_then(keys.signer);
            key.map_err(PkiError::from)
        };
        let root = CertificationAuthority::root(
            &format!("zerotouch device root {MARK}"),
            Validity { from: now, lifetime: ROOT_VALIDITY },
            new_key(rng)?,
            rng,
        )?;
        let policies = policies
            .iter()
            .map(|policy| {
                let name = format!("zerotouch policy {} {MARK}", policy.name);
                let validity = Validity { from: now, lifetime: ISSUING_VALIDITY };
                let issuing = root.subordinate(&name, validity, new_key(rng)?, rng)?;
                let leaf_validity = policy.leaf_validity;
                Ok((policy.name.clone(), Policy { issuing, leaf_validity }))
            })
            .collect::<Result<_, AuthorityError>>()?;
        Ok(Self { root, policies })
    }

    pub(super) fn root(&self) -> &Certificate {
        self.root.certificate()
    }

    /// The issuing authority's certificate of a policy.
    pub(super) fn issuing(&self, policy: &str) -> Option<&Certificate> {
        Some(self.policies.get(policy)?.issuing.certificate())
    }

    /// Issues a device certificate under `policy`.
    pub(super) fn issue(
        &self,
        policy: &str,
        subject: Subject<'_>,
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) -> Result<Certificate, AuthorityError> {
        let policy = self.policies.get(policy).ok_or(AuthorityError::UnknownPolicy)?;
        let validity = Validity { from: now, lifetime: policy.leaf_validity };
        let identifier = format!("{DEVICE_IDENTIFIER_PREFIX}{}", subject.identifier);
        let names = vec![SanType::URI(identifier.try_into().map_err(PkiError::from)?)];
        let device = (subject.device_id, subject.public_key);
        Ok(policy.issuing.certify_device_with(device, names, validity, rng)?)
    }

    /// The chain of a device certificate in the order and encoding of both services: leaf, issuing
    /// authority, root, base64 of DER each.
    pub(super) fn chain_of(&self, policy: &str, leaf: &[u8]) -> Vec<String> {
        let issuing = self.issuing(policy).map(Certificate::as_der);
        [Some(leaf), issuing, Some(self.root().as_der())]
            .into_iter()
            .flatten()
            .map(Base64::encode_string)
            .collect()
    }
}

/// The per-device identifier in a certificate, if it holds one.
pub(super) fn device_identifier(certificate: &Certificate) -> Option<String> {
    let parsed = x509_cert::Certificate::from_der(certificate.as_der()).ok()?;
    let (_, names) = parsed.tbs_certificate().get_extension::<SubjectAltName>().ok()??;
    names.0.iter().find_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => {
            uri.as_str().strip_prefix(DEVICE_IDENTIFIER_PREFIX).map(String::from)
        }
        _ => None,
    })
}
