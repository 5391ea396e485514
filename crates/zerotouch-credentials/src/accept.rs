//! Whether an issued chain may become the device's identity.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use zerotouch_time::UnixTime;

use crate::certificate::Certificate;
use crate::chain::CertificateChain;
use crate::chain_error::ChainError;
use crate::{decode, linkage};

/// A longer lifetime than the service's policies allow (90 days) is noted.
const USUAL_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// What an issued chain is held against.
///
/// ```
/// # use zerotouch_credentials::ChainPolicy;
/// # use zerotouch_time::UnixTime;
/// # let public_key = &[][..];
/// let policy = ChainPolicy { now: Some(UnixTime::from_secs(1_790_000_000)), ..ChainPolicy::new(public_key, "press-7") };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ChainPolicy<'a> {
    /// The key the request was for: the DER of its `SubjectPublicKeyInfo`.
    pub public_key: &'a [u8],
    /// The name the leaf must bear, byte for byte: the registration id or the device id.
    pub common_name: &'a str,
    /// The wall clock; `None` if it is known to be unset, and validity is then not checked.
    pub now: Option<UnixTime>,
    /// How far `now` may be behind a certificate's first second.
    pub skew: Duration,
    /// The authority the chain must lead to, if one is pinned.
    pub anchor: Option<&'a Certificate>,
    /// The certificate in use, if there is one: an answer that is not newer is a replay.
    pub current: Option<&'a Certificate>,
    /// A time that has certainly passed, such as that of the build: a clock before it is wrong.
    pub clock_floor: Option<UnixTime>,
    /// Whether an element may be PEM text instead, with one certificate or several. One page of the
    /// service's documentation shows that; no service is known to send it.
    pub allow_pem: bool,
}

impl<'a> ChainPolicy<'a> {
    /// The skew forgiven by default: five minutes.
    pub const DEFAULT_SKEW: Duration = Duration::from_secs(300);

    /// A policy that asks for the key and the name alone: no clock, no pinned anchor.
    pub const fn new(public_key: &'a [u8], common_name: &'a str) -> Self {
        Self {
            public_key,
            common_name,
            now: None,
            skew: Self::DEFAULT_SKEW,
            anchor: None,
            current: None,
            clock_floor: None,
            allow_pem: false,
        }
    }
}

/// An accepted chain, and what was odd about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The chain, leaf first, each certificate signed by the next.
    pub chain: CertificateChain,
    /// Oddities that do not forbid its use and belong in a log.
    pub notes: Vec<ChainNote>,
}

/// An oddity of an accepted chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainNote {
    /// The certificates did not stand leaf first, or not in order of issue.
    #[error("the certificates were not in order")]
    Reordered,
    /// Exact copies were dropped.
    #[error("{count} repeated certificates were dropped")]
    Duplicates {
        /// How many.
        count: usize,
    },
    /// Certificates that have no place in the path were dropped.
    #[error("{count} unrelated certificates were dropped")]
    Unrelated {
        /// How many.
        count: usize,
    },
    /// The leaf came without its issuer, so that nothing vouches for it here.
    #[error("the certificate came without its issuer")]
    Incomplete,
    /// The leaf begins in the future, within the skew that is forgiven.
    #[error("the certificate begins {by:?} from now by our clock")]
    NotYetValid {
        /// How far ahead.
        by: Duration,
    },
    /// The clock is unset: validity was not checked.
    #[error("the clock is unset, so the certificate's dates were not checked")]
    ClockUnset,
    /// The leaf lives longer than the service's policies allow.
    #[error("the certificate's lifetime of {lifetime:?} is unusually long")]
    LongLived {
        /// From first to last second.
        lifetime: Duration,
    },
    /// The leaf's serial number is zero or negative; its pinned issuer was trusted nevertheless.
    #[error("the certificate's serial number is not positive")]
    SerialNotPositive,
    /// The leaf names no issuer; the pinned anchor was trusted nevertheless.
    #[error("the certificate names no issuer")]
    NoIssuer,
    /// A key identifier contradicts the signature, which counts.
    #[error("a key identifier does not match the issuer's")]
    KeyIdentifierMismatch,
}

impl CertificateChain {
    /// Accepts the chain of an answer, given as base64 of DER per certificate in any order, or says
    /// why not.
    ///
    /// The checks in order, each refusal a variant of its own: number and sizes, base64, DER, the
    /// leaf by its key, its name, its use, dates, issue and signatures, constraints, the pinned
    /// anchor, and that it is newer than what is in use. What remains is to use the key once:
    /// [`CertificateChain::prove_possession`].
    pub fn accept(
        certificates: impl IntoIterator<Item = impl AsRef<str>>,
        policy: &ChainPolicy<'_>,
    ) -> Result<Self, ChainError> {
        Self::examine(certificates, policy).map(|accepted| accepted.chain)
    }

    /// As [`CertificateChain::accept`], telling also what was odd.
    pub fn examine(
        certificates: impl IntoIterator<Item = impl AsRef<str>>,
        policy: &ChainPolicy<'_>,
    ) -> Result<Accepted, ChainError> {
        judge(&decode::decode(certificates, policy.allow_pem)?, policy)
    }

    /// As [`CertificateChain::accept`] for certificates that were read already, such as those that a
    /// client has shown in TLS.
    pub fn accept_read(
        certificates: &[Certificate],
        policy: &ChainPolicy<'_>,
    ) -> Result<Self, ChainError> {
        decode::check_bounds(certificates)?;
        judge(certificates, policy).map(|accepted| accepted.chain)
    }
}

fn judge(received: &[Certificate], policy: &ChainPolicy<'_>) -> Result<Accepted, ChainError> {
    let mut notes = Vec::new();
    let (leaf, others) = take_leaf(without_copies(received, &mut notes), policy)?;
    check_name(&leaf, policy.common_name)?;
    check_use(&leaf, policy, &mut notes)?;
    check_dates(&leaf, policy)?;
    note_dates(&leaf, policy, &mut notes);

    let path = linkage::build(leaf, others)?;
    linkage::check_issuers(&path.certificates)?;
    for issuer in path.certificates.iter().skip(1) {
        check_dates(issuer, policy)?;
    }
    linkage::validate(&path.certificates, policy.anchor, policy.now)?;
    check_newer(&path.certificates[0], policy)?;

    note_path(&path, received, policy, &mut notes);
    let chain = CertificateChain::new(path.certificates).ok_or(ChainError::NoChain)?;
    Ok(Accepted { chain, notes })
}

fn without_copies(received: &[Certificate], notes: &mut Vec<ChainNote>) -> Vec<Certificate> {
    let mut distinct: Vec<Certificate> = Vec::with_capacity(received.len());
    for certificate in received {
        if distinct.iter().all(|known| known.as_der() != certificate.as_der()) {
            distinct.push(certificate.clone());
        }
    }
    if distinct.len() < received.len() {
        notes.push(ChainNote::Duplicates { count: received.len() - distinct.len() });
    }
    distinct
}

/// Splits off the certificate of our key, wherever it stands.
fn take_leaf(
    mut certificates: Vec<Certificate>,
    policy: &ChainPolicy<'_>,
) -> Result<(Certificate, Vec<Certificate>), ChainError> {
    if certificates.is_empty() {
        return Err(ChainError::NoChain);
    }
    let is_for = |key: &[u8], certificate: &Certificate| certificate.public_key() == key;
    let mut ours = certificates.iter().enumerate().filter(|(_, c)| is_for(policy.public_key, c));
    match (ours.next(), ours.next()) {
        (Some((index, _)), None) => {
            drop(ours);
            Ok((certificates.remove(index), certificates))
        }
        (Some(_), Some(_)) => Err(ChainError::AmbiguousLeaf),
        (None, _) => {
            let stale = policy.current.is_some_and(|current| {
                certificates.iter().any(|c| is_for(current.public_key(), c))
            });
            Err(if stale { ChainError::StaleKey } else { ChainError::KeyMismatch })
        }
    }
}

/// The leaf must bear the expected name, once, byte for byte in whatever string type. Another case
/// is another name: the hub compares likewise.
pub(crate) fn check_name(leaf: &Certificate, expected: &str) -> Result<(), ChainError> {
    if leaf.common_name() == Some(expected) && !expected.contains('\0') {
        return Ok(());
    }
    Err(ChainError::WrongName {
        expected: expected.to_string(),
        found: leaf.common_name().map(String::from),
    })
}

pub(crate) fn check_use(
    leaf: &Certificate,
    policy: &ChainPolicy<'_>,
    notes: &mut Vec<ChainNote>,
) -> Result<(), ChainError> {
    if !leaf.is_v3() {
        return Err(ChainError::Path { reason: crate::PathFault::Version });
    }
    if leaf.is_ca() {
        return Err(ChainError::LeafIsAuthority);
    }
    if !leaf.may_authenticate_clients() {
        return Err(ChainError::NotForClientAuthentication);
    }
    let pinned = policy.anchor.is_some();
    let serial = leaf.serial();
    if serial.iter().all(|&byte| byte == 0) || serial[0] >= 0x80 {
        if !pinned {
            return Err(ChainError::SerialNotPositive);
        }
        notes.push(ChainNote::SerialNotPositive);
    }
    if leaf.issuer_name().is_empty() {
        if !pinned {
            return Err(ChainError::NoIssuer);
        }
        notes.push(ChainNote::NoIssuer);
    }
    Ok(())
}

pub(crate) fn check_dates(
    certificate: &Certificate,
    policy: &ChainPolicy<'_>,
) -> Result<(), ChainError> {
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    let subject = || certificate.subject();
    if not_after <= not_before {
        return Err(ChainError::NeverValid { subject: subject() });
    }
    let Some(now) = policy.now else { return Ok(()) };
    if now >= not_after {
        return Err(ChainError::Expired { subject: subject(), not_after });
    }
    if not_before > now + policy.skew {
        let current = policy.current.map(Certificate::not_before);
        let clock_is_wrong = policy.clock_floor.max(current).is_some_and(|floor| now < floor);
        return Err(if clock_is_wrong {
            ChainError::ClockSuspect { subject: subject(), not_before, now }
        } else {
            ChainError::NotYetValid { subject: subject(), not_before }
        });
    }
    Ok(())
}

fn note_dates(leaf: &Certificate, policy: &ChainPolicy<'_>, notes: &mut Vec<ChainNote>) {
    match policy.now {
        None => notes.push(ChainNote::ClockUnset),
        Some(now) if leaf.not_before() > now => {
            notes.push(ChainNote::NotYetValid { by: leaf.not_before().since(now) });
        }
        Some(_) => {}
    }
    let lifetime = leaf.not_after().since(leaf.not_before());
    // The last second counts, and authorities reach back a few minutes for slow clocks.
    if lifetime > USUAL_LIFETIME + Duration::from_secs(60 * 60) {
        notes.push(ChainNote::LongLived { lifetime });
    }
}

fn check_newer(leaf: &Certificate, policy: &ChainPolicy<'_>) -> Result<(), ChainError> {
    match policy.current {
        Some(current)
            if leaf.not_before() < current.not_before()
                || (leaf.serial() == current.serial()
                    && leaf.issuer_name() == current.issuer_name()) =>
        {
            Err(ChainError::Replay)
        }
        _ => Ok(()),
    }
}

fn note_path(
    path: &linkage::Path,
    received: &[Certificate],
    policy: &ChainPolicy<'_>,
    notes: &mut Vec<ChainNote>,
) {
    let certificates = &path.certificates;
    if certificates.iter().zip(received).any(|(ours, theirs)| ours.as_der() != theirs.as_der()) {
        notes.push(ChainNote::Reordered);
    }
    if path.unrelated > 0 {
        notes.push(ChainNote::Unrelated { count: path.unrelated });
    }
    if certificates.len() == 1 && policy.anchor.is_none() {
        notes.push(ChainNote::Incomplete);
    }
    if certificates.windows(2).any(|pair| pair[0].names_other_issuer_key(&pair[1])) {
        notes.push(ChainNote::KeyIdentifierMismatch);
    }
}
