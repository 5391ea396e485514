//! A certificate that a device brings with it, looked at before anybody is dialled.
//!
//! The provisioning service says of nearly everything that is wrong with one `401002`, and a TLS server
//! says less. Here each fault has its own words, and all of them are told at once.

use alloc::string::String;
use alloc::vec::Vec;

use crate::accept::{ChainNote, ChainPolicy, check_dates, check_name, check_use};
use crate::certificate::Certificate;
use crate::chain::CertificateChain;
use crate::chain_error::{ChainError, PathFault};
use crate::linkage;
use crate::signer::Signer;

/// What is wrong, or odd, about a key and the chain that stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// The leaf is for another key than the one given with it.
    #[error("the first certificate is for another key than the one given with it")]
    KeyMismatch,
    /// The key's certificate is there, and does not stand first.
    #[error(
        "the key's certificate stands at place {index}, counted from 0; it must stand first, and each \
         certificate's issuer after it"
    )]
    LeafNotFirst {
        /// Where it stands.
        index: usize,
    },
    /// The public halves are the same, and yet the key does not sign for the certificate.
    #[error("the key does not sign for the certificate (a token whose objects are mixed up?)")]
    KeyDoesNotSign,
    /// What would also keep an issued chain from being accepted.
    #[error("{0}")]
    Refused(ChainError),
    /// What would also be noted about an issued chain.
    #[error("{0}")]
    Noted(ChainNote),
    /// The certificates do not stand in order of issue. TLS sends them as they stand.
    #[error("the certificates are not in order: each one's issuer must follow it")]
    OutOfOrder,
    /// The chain ends below an authority whose certificate is not there, and no anchor is known.
    #[error(
        "the chain ends below {issuer}: that very certificate must be verified at the provisioning \
         service; if only one above it is, add those between"
    )]
    OpenEnd {
        /// Whose certificate is not there.
        issuer: String,
    },
    /// The leaf has signed itself.
    #[error("the certificate is self-signed: only an individual enrolment takes it, no group does")]
    SelfSigned,
}

impl Finding {
    /// Whether the device will be refused; what is not an error is odd, or depends on the service.
    pub const fn is_error(&self) -> bool {
        match self {
            Self::KeyMismatch
            | Self::LeafNotFirst { .. }
            | Self::KeyDoesNotSign
            | Self::Refused(_) => true,
            Self::Noted(_) | Self::OutOfOrder | Self::OpenEnd { .. } | Self::SelfSigned => false,
        }
    }

    /// What the provisioning service is known to answer, so that whoever has read it in a log finds the
    /// cause. (From issue threads and the vendor's recorded payloads; of a wrong name no answer is
    /// known.)
    pub const fn service_says(&self) -> Option<&'static str> {
        match self {
            Self::Refused(ChainError::Incomplete { .. } | ChainError::Untrusted { .. })
            | Self::OutOfOrder
            | Self::OpenEnd { .. }
            | Self::SelfSigned => Some("401002 CA certificate not found"),
            Self::Refused(
                ChainError::Expired { .. }
                | ChainError::NotYetValid { .. }
                | ChainError::NeverValid { .. }
                | ChainError::BadSignature { .. }
                | ChainError::Issuer { .. }
                | ChainError::LeafIsAuthority
                | ChainError::NotForClientAuthentication,
            ) => Some("401002 Invalid certificate"),
            _ => None,
        }
    }
}

impl CertificateChain {
    /// Everything that is wrong with this chain and `signer`, its key, as the bootstrap credential of
    /// the device that `policy` names; nothing, if the device may dial. What a certificate in use
    /// ([`ChainPolicy::current`]) would say to it is not asked, nor is [`ChainPolicy::public_key`].
    ///
    /// The anchor is the authority that is verified at the provisioning service: a root, or an
    /// intermediate.
    pub fn lint(&self, signer: &dyn Signer, policy: &ChainPolicy<'_>) -> Vec<Finding> {
        self.lint_partly(Some(signer), Some(policy.common_name), policy)
    }

    /// As [`CertificateChain::lint`], where the key or the name may be unknown: what depends on it is then
    /// not looked at, and [`ChainPolicy::common_name`] is not asked.
    pub fn lint_partly(
        &self,
        signer: Option<&dyn Signer>,
        common_name: Option<&str>,
        policy: &ChainPolicy<'_>,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings.extend(signer.and_then(|signer| key_finding(self, signer)));
        let mut check = |outcome: Result<(), ChainError>| {
            findings.extend(outcome.err().map(Finding::Refused));
        };
        let mut notes = Vec::new();
        check(common_name.map_or(Ok(()), |name| check_name(self.leaf(), name)));
        check(check_use(self.leaf(), policy, &mut notes));
        for certificate in self {
            check(check_dates(certificate, policy));
        }
        if policy.now.is_none() {
            notes.push(ChainNote::ClockUnset);
        }
        findings.extend(notes.into_iter().map(Finding::Noted));
        match linkage::build(self.leaf().clone(), self.iter().skip(1).cloned().collect()) {
            Err(error) => findings.push(Finding::Refused(error)),
            Ok(path) => path_findings(self, &path, policy, &mut findings),
        }
        findings
    }
}

fn key_finding(chain: &CertificateChain, signer: &dyn Signer) -> Option<Finding> {
    let is_ours = |certificate: &Certificate| certificate.public_key() == signer.public_key();
    match chain.iter().position(is_ours) {
        None => Some(Finding::KeyMismatch),
        Some(0) => chain.prove_possession(signer).err().map(|_| Finding::KeyDoesNotSign),
        Some(index) => Some(Finding::LeafNotFirst { index }),
    }
}

fn path_findings(
    chain: &CertificateChain,
    path: &linkage::Path,
    policy: &ChainPolicy<'_>,
    findings: &mut Vec<Finding>,
) {
    let certificates = &path.certificates;
    let outcome = linkage::check_issuers(certificates)
        .and_then(|()| linkage::validate(certificates, policy.anchor, policy.now));
    findings.extend(outcome.err().map(Finding::Refused).filter(|found| !is_told(found, findings)));

    if path.unrelated > 0 {
        findings.push(Finding::Noted(ChainNote::Unrelated { count: path.unrelated }));
    }
    if certificates.iter().zip(chain).any(|(ordered, given)| ordered.as_der() != given.as_der()) {
        findings.push(Finding::OutOfOrder);
    }
    let Some(top) = certificates.last() else { return };
    let is_root = top.subject_name() == top.issuer_name();
    if certificates.len() == 1 && is_root {
        findings.push(Finding::SelfSigned);
    } else if !is_root && policy.anchor.is_none() {
        findings.push(Finding::OpenEnd { issuer: top.issuer() });
    }
}

/// Path validation looks at the leaf's use as well.
fn is_told(found: &Finding, findings: &[Finding]) -> bool {
    let of_use = Finding::Refused(ChainError::Path { reason: PathFault::ExtendedKeyUsage });
    findings.contains(found)
        || *found == of_use
            && findings.contains(&Finding::Refused(ChainError::NotForClientAuthentication))
}
