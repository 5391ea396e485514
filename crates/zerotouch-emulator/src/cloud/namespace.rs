//! The Azure Device Registry namespace: its devices, its credential, its policies.
//!
//! | a policy's issuing authority | input | next |
//! |---|---|---|
//! | - | the policy is made | `Active`, signed by the namespace's root |
//! | - | the same, with an external root | `Pending`: its request waits for a signature |
//! | `Pending` | a chain for its key | `Active` |
//! | `Active` | the issuer is revoked | as when the policy was made, with another key |
//!
//! What the hubs trust is what they were last given: an authority that is not synchronized issues
//! certificates that no hub takes. A revoked issuer is taken from them at once, and where the root is the
//! namespace's the new one is given to them, as the service does.

use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use chacha20::ChaCha20Rng;
use serde::{Deserialize, Serialize};
use zerotouch_credentials::{
    Certificate, CertificateChain, CertificateRequest, PrivateKey, Signer,
};
use zerotouch_time::UnixTime;

use super::authority::{Authority, AuthorityError, AuthorityKeys, Subject, issuing_name};
use super::clock::{Clock, uuid};
use super::effects::Effects;
use super::event::{CloudEvent, Via};
use super::fault::ChainFault;
use super::fixture::{CredentialPolicy, KeyPolicy};
use super::registry::{DeviceKey, Registry};
use super::table::{Kept, Single, Table};
use super::text_form;
use crate::pki::{PkiError, Validity};

/// How long ago a certificate ended that is to be expired.
const AGO: Duration = Duration::from_secs(60 * 60);
/// How many certificates make a chain too long for anybody.
const TOO_MANY: usize = 100;

#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) registry: Registry,
    /// The one credential there is.
    root: Single<Authority>,
    policies: Table<String, Policy>,
    /// Of authorities that are made from now on.
    keys: AuthorityKeys,
}

/// A policy, and who issues under it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Policy {
    pub(super) settings: CredentialPolicy,
    pub(super) issuing: Issuing,
    /// What the hubs were given.
    #[serde(with = "text_form::optional")]
    synchronized: Option<Certificate>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Issuing {
    /// Its key waits for an external root.
    Pending {
        #[serde(with = "text_form::one")]
        key: Arc<PrivateKey>,
    },
    Active {
        authority: Box<Authority>,
        /// The authorities above, nearest first.
        #[serde(with = "text_form::several")]
        above: Vec<Certificate>,
    },
}

impl Namespace {
    pub(super) fn new(
        policies: Vec<CredentialPolicy>,
        keys: AuthorityKeys,
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, PkiError> {
        let root = Authority::root("device", keys, now, rng)?;
        let mut namespace = Self {
            registry: Registry::default(),
            root: Single::new(root),
            policies: Table::default(),
            keys,
        };
        // By name, whatever order they are given in.
        let mut policies = policies;
        policies.sort_by(|one, other| one.name.cmp(&other.name));
        for policy in policies {
            namespace.put_policy(policy, now, rng)?;
        }
        Ok(namespace)
    }

    /// Has the issuing authorities that were kept sign as those do that are made.
    pub(super) fn restored(&mut self) -> Result<(), PkiError> {
        for policy in self.policies.restored() {
            if let Issuing::Active { authority, .. } = &mut policy.issuing {
                authority.sign_with(self.keys.signer)?;
            }
        }
        Ok(())
    }

    /// Makes a policy and its issuing authority, or changes what a policy issues.
    pub(super) fn put_policy(
        &mut self,
        settings: CredentialPolicy,
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) -> Result<(), PkiError> {
        if let Some(known) = self.policies.get_mut(&settings.name) {
            // Who signs is settled when it is made.
            let external_root = known.settings.external_root;
            known.settings = CredentialPolicy { external_root, ..settings };
            return Ok(());
        }
        let issuing = self.new_issuing(&settings, now, rng)?;
        let synchronized = issuing.certificate().filter(|_| settings.synchronized).cloned();
        let name = settings.name.clone();
        self.policies.insert(name, Policy { settings, issuing, synchronized });
        Ok(())
    }

    fn new_issuing(
        &self,
        settings: &CredentialPolicy,
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) -> Result<Issuing, PkiError> {
        if settings.external_root {
            return Ok(Issuing::Pending { key: self.keys.draw(rng)? });
        }
        let root = self.root.get();
        let authority = root.issuing(&settings.name, self.keys, now, rng)?;
        let above = vec![root.certificate().clone()];
        Ok(Issuing::Active { authority: Box::new(authority), above })
    }

    pub(super) fn remove_policy(&mut self, name: &str) -> bool {
        self.policies.remove(name).is_some()
    }

    pub(super) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values()
    }

    pub(super) fn policy(&self, name: &str) -> Option<&Policy> {
        self.policies.get(name)
    }

    /// The root of what is issued where no policy has an external one.
    pub(super) fn root(&self) -> &Certificate {
        self.root.get().certificate()
    }

    /// Which keys a policy certifies.
    pub(super) fn keys(&self, policy: &str) -> KeyPolicy {
        self.policy(policy).map(|policy| policy.settings.keys).unwrap_or_default()
    }

    /// The issuing authorities whose certificates the hubs were given.
    pub(super) fn synchronized(&self) -> impl Iterator<Item = &Certificate> {
        self.policies.values().filter_map(|policy| policy.synchronized.as_ref())
    }

    /// Gives the hubs the certificates of all issuing authorities.
    pub(super) fn synchronize(&mut self) {
        let names: Vec<String> = self.policies.iter().map(|(name, _)| name.clone()).collect();
        for policy in names {
            if let Some(policy) = self.policies.get_mut(&policy) {
                policy.synchronized = policy.issuing.certificate().cloned();
            }
        }
    }

    /// Takes what an external root has signed: the issuing authority's certificate, then those above.
    pub(super) fn activate(
        &mut self,
        name: &str,
        chain: &CertificateChain,
    ) -> Result<(), AuthorityError> {
        let policy = self.policies.get_mut(name).ok_or(AuthorityError::UnknownPolicy)?;
        let Issuing::Pending { key } = &policy.issuing else { return Err(AuthorityError::Active) };
        let mut authority = Box::new(Authority::open(chain.leaf().clone(), Arc::clone(key))?);
        authority.sign_with(self.keys.signer)?;
        let above = chain.iter().skip(1).cloned().collect();
        policy.issuing = Issuing::Active { authority, above };
        Ok(())
    }

    /// Replaces the issuing authority of a policy: all it has issued is refused from now on.
    pub(super) fn revoke_issuer(
        &mut self,
        name: &str,
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) -> Result<(), AuthorityError> {
        let policy = self.policies.get(name).ok_or(AuthorityError::UnknownPolicy)?;
        let issuing = self.new_issuing(&policy.settings, now, rng)?;
        if let Some(policy) = self.policies.get_mut(name) {
            policy.synchronized = issuing.certificate().cloned();
            policy.issuing = issuing;
        }
        Ok(())
    }

    /// Issues a certificate to a registered device, and tells of it. Yields the chain in the order and
    /// encoding of both services: leaf, issuing authority, those above, base64 of DER each; or whatever a
    /// fault makes of it.
    pub(super) fn issue(
        &self,
        (policy, key, request): (&str, &DeviceKey, &CertificateRequest),
        (via, fault): (Via, Option<ChainFault>),
        clock: Clock,
        fx: &mut Effects,
    ) -> Result<Option<Vec<String>>, AuthorityError> {
        let device = self.registry.device(key).ok_or(AuthorityError::UnknownDevice)?;
        let policy = self.policy(policy).ok_or(AuthorityError::UnknownPolicy)?;
        let Issuing::Active { authority, above } = &policy.issuing else {
            return Err(AuthorityError::Inactive);
        };
        let other_identifier = (fault == Some(ChainFault::Revoked)).then(|| uuid(&mut fx.rng));
        let other_key = (fault == Some(ChainFault::Foreign)).then(|| self.keys.draw(&mut fx.rng));
        let other_key = other_key.transpose()?;
        let subject = Subject {
            device_id: &key.device_id,
            public_key: other_key.as_ref().map_or(request.public_key(), |key| key.public_key()),
            identifier: other_identifier.as_ref().unwrap_or(&device.identifier),
        };
        let lifetime = policy.settings.leaf_validity;
        let from = match fault {
            Some(ChainFault::Expired) => clock.wall - (lifetime + AGO),
            _ => clock.wall,
        };
        let validity = Validity { from, lifetime };
        let certificate = authority.issue(subject, validity, &mut fx.rng)?;
        fx.tell(CloudEvent::CertificateIssued {
            device_id: key.device_id.clone(),
            thumbprint: certificate.thumbprint(),
            serial: hex(certificate.serial()),
            not_after: certificate.not_after(),
            via,
        });
        let mut chain = vec![&certificate, authority.certificate()];
        chain.extend(above);
        let last = above.last().unwrap_or(authority.certificate());
        match fault {
            Some(ChainFault::Missing) => return Ok(None),
            Some(ChainFault::Empty) => chain.clear(),
            Some(ChainFault::Reordered) => chain.reverse(),
            Some(ChainFault::Oversized) => chain.extend([last; TOO_MANY]),
            _ => {}
        }
        let encode = |certificate: &&Certificate| match fault {
            Some(ChainFault::Pem) => crate::pem::certificate(certificate),
            _ => Base64::encode_string(certificate.as_der()),
        };
        Ok(Some(chain.iter().map(encode).collect()))
    }

    pub(super) fn tables(&mut self) -> [(&'static str, &mut dyn Kept); 4] {
        let [devices, registrations] = self.registry.tables();
        [devices, registrations, ("root", &mut self.root), ("policies", &mut self.policies)]
    }
}

impl Policy {
    /// Whether the hubs trust what is issued under it now.
    pub(super) fn is_synchronized(&self) -> bool {
        self.synchronized.is_some() && self.synchronized.as_ref() == self.issuing.certificate()
    }
}

impl Issuing {
    pub(super) fn certificate(&self) -> Option<&Certificate> {
        match self {
            Self::Pending { .. } => None,
            Self::Active { authority, .. } => Some(authority.certificate()),
        }
    }

    /// What an external root has to sign.
    pub(super) fn request(&self, policy: &str) -> Option<CertificateRequest> {
        match self {
            Self::Pending { key } => CertificateRequest::new(&**key, &issuing_name(policy)).ok(),
            Self::Active { .. } => None,
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xF)]).collect()
}
