//! The Azure Device Registry namespace: its devices, its policies, its authority.

use std::collections::BTreeMap;

use zerotouch_credentials::{Certificate, CertificateRequest};

use super::authority::{Authority, AuthorityError, Subject};
use super::clock::Clock;
use super::effects::Effects;
use super::event::{CloudEvent, Via};
use super::fixture::{CredentialPolicy, KeyPolicy};
use super::registry::{DeviceKey, Registry};

#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) registry: Registry,
    pub(super) authority: Authority,
    policies: BTreeMap<String, CredentialPolicy>,
}

impl Namespace {
    pub(super) fn new(authority: Authority, policies: Vec<CredentialPolicy>) -> Self {
        let policies = policies.into_iter().map(|policy| (policy.name.clone(), policy)).collect();
        Self { registry: Registry::default(), authority, policies }
    }

    /// Which keys a policy certifies.
    pub(super) fn keys(&self, policy: &str) -> KeyPolicy {
        self.policies.get(policy).map(|policy| policy.keys).unwrap_or_default()
    }

    /// The issuing authorities whose certificates the hubs were given.
    pub(super) fn synchronized(&self) -> impl Iterator<Item = &Certificate> {
        let synchronized = self.policies.values().filter(|policy| policy.synchronized);
        synchronized.filter_map(|policy| self.authority.issuing(&policy.name))
    }

    /// Gives the hubs the certificates of all issuing authorities.
    pub(super) fn synchronize(&mut self) {
        for policy in self.policies.values_mut() {
            policy.synchronized = true;
        }
    }

    /// Issues a certificate to a registered device, and tells of it.
    pub(super) fn issue(
        &self,
        policy: &str,
        key: &DeviceKey,
        request: &CertificateRequest,
        via: Via,
        clock: Clock,
        fx: &mut Effects,
    ) -> Result<Certificate, AuthorityError> {
        let device = self.registry.device(key).ok_or(AuthorityError::UnknownDevice)?;
        let subject = Subject {
            device_id: &key.device_id,
            public_key: request.public_key(),
            identifier: &device.identifier,
        };
        let certificate = self.authority.issue(policy, subject, clock.wall, &mut fx.rng)?;
        fx.tell(CloudEvent::CertificateIssued {
            device_id: key.device_id.clone(),
            thumbprint: certificate.thumbprint(),
            serial: hex(certificate.serial()),
            not_after: certificate.not_after(),
            via,
        });
        Ok(certificate)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xF)]).collect()
}
