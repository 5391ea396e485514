//! From loose certificates to a path, and whether the path holds.
//!
//! Our part is order: who issued whom, by name and by signature, with bounded effort. Whether the
//! ordered path is valid by RFC 5280 is the work of rustls-webpki; only what it takes on trust,
//! the certificate at the top, is checked here.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use zerotouch_time::UnixTime;

use crate::certificate::Certificate;
use crate::chain_error::{ChainError, PathFault};
use crate::verify::{ALGORITHMS, Link, SignatureError, Verified};

/// A path from the leaf upwards.
pub(crate) struct Path {
    /// Leaf first; each is signed by the next.
    pub(crate) certificates: Vec<Certificate>,
    /// How many certificates have no place in it.
    pub(crate) unrelated: usize,
}

/// Follows the issuers from `leaf` through `others` as far as they go.
///
/// Each certificate is used once, so the effort is bounded by the square of their number, which is
/// bounded before.
pub(crate) fn build(leaf: Certificate, mut others: Vec<Certificate>) -> Result<Path, ChainError> {
    let mut certificates = Vec::with_capacity(others.len() + 1);
    let mut last = leaf;
    loop {
        let self_issued = last.subject_name() == last.issuer_name();
        // Where no other certificate has that name, nothing comes after it whatever its signature is.
        let is_alone =
            others.iter().chain(&certificates).all(|c| c.subject_name() != last.subject_name());
        let is_root = self_issued && (is_alone || last.verify_signed_by(&last).is_ok());
        let next = if is_root { None } else { find_issuer(&last, &mut others)? };
        let issuer = last.issuer_name().clone();
        certificates.push(last);
        if let Some(issuer) = next {
            last = issuer;
            continue;
        }
        let closes = |certificate: &Certificate| certificate.subject_name() == &issuer;
        let below_top = certificates.len() - 1;
        if !is_root && !issuer.is_empty() && certificates[..below_top].iter().any(closes) {
            return Err(ChainError::Cycle { subject: issuer.to_string() });
        }
        return Ok(Path { certificates, unrelated: others.len() });
    }
}

/// Takes the issuer of `certificate` out of `others`: of those with its issuer's name, the one
/// whose key made its signature.
fn find_issuer(
    certificate: &Certificate,
    others: &mut Vec<Certificate>,
) -> Result<Option<Certificate>, ChainError> {
    let mut refused = None;
    for index in 0..others.len() {
        let candidate = &others[index];
        if candidate.subject_name() != certificate.issuer_name() {
            continue;
        }
        match certificate.verify_signed_by(candidate) {
            Ok(()) => return Ok(Some(others.swap_remove(index))),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        None => Ok(None),
        Some(SignatureError::UnsupportedAlgorithm) => {
            Err(ChainError::UnsupportedSignature { subject: certificate.subject() })
        }
        Some(SignatureError::Invalid) => Err(ChainError::BadSignature {
            subject: certificate.subject(),
            issuer: certificate.issuer(),
        }),
    }
}

/// Checks that every certificate above the leaf may issue. rustls-webpki does so for all but the
/// one it is told to trust; without a pinned anchor that is the top of what the service sent.
pub(crate) fn check_issuers(path: &[Certificate]) -> Result<(), ChainError> {
    let mut authorities_below = 0;
    for issuer in path.iter().skip(1) {
        let refuse = |reason| Err(ChainError::Issuer { subject: issuer.subject(), reason });
        if !issuer.is_v3() {
            return refuse(PathFault::Version);
        }
        if !issuer.is_ca() {
            return refuse(PathFault::NotAnAuthority);
        }
        if !issuer.may_sign_certificates() {
            return refuse(PathFault::KeyUsage);
        }
        // A root's extended key usage is not its issuer's statement about it, and means nothing.
        let self_issued = issuer.subject_name() == issuer.issuer_name();
        if !self_issued && !issuer.may_authenticate_clients() {
            return refuse(PathFault::ExtendedKeyUsage);
        }
        if issuer.path_len().is_some_and(|limit| authorities_below > usize::from(limit)) {
            return refuse(PathFault::PathLength);
        }
        // RFC 5280 §4.2.1.9: self-issued certificates do not count.
        if !self_issued {
            authorities_below += 1;
        }
    }
    Ok(())
}

/// Validates `path` up to `anchor`, or to its own top if none is pinned, at a time `near` now. The path is
/// one that [`build`] has built: what it has verified is not verified again.
///
/// `near` may be off by the skew the caller forgave, so the nearest time is taken at which every
/// certificate of the path is valid; that each is valid now was checked before.
pub(crate) fn validate(
    path: &[Certificate],
    anchor: Option<&Certificate>,
    near: Option<UnixTime>,
) -> Result<(), ChainError> {
    let ders: Vec<CertificateDer<'_>> =
        path.iter().map(|certificate| CertificateDer::from(certificate.as_der())).collect();
    let Some((leaf_der, issuer_ders)) = ders.split_first() else {
        return Err(ChainError::NoChain);
    };
    let leaf = EndEntityCert::try_from(leaf_der).map_err(|error| refusal(&error, path))?;
    let Some(anchor) = anchor.or_else(|| path.get(1..)?.last()) else {
        // The leaf alone, and nothing to check it against: the caller notes that.
        return Ok(());
    };
    let anchor_der = CertificateDer::from(anchor.as_der());
    let anchor = anchor_from_trusted_cert(&anchor_der).map_err(|error| refusal(&error, path))?;
    let links: Vec<Link<'_>> =
        path.windows(2).filter_map(|pair| Link::new(&pair[0], &pair[1])).collect();
    let algorithms: Vec<_> = ALGORITHMS
        .iter()
        .map(|algorithm| Verified { links: &links, algorithm: *algorithm })
        .collect();
    let algorithms: Vec<&dyn SignatureVerificationAlgorithm> =
        algorithms.iter().map(|verified| verified as _).collect();
    leaf.verify_for_usage(
        &algorithms,
        &[anchor],
        issuer_ders,
        common_time(path, near),
        KeyUsage::client_auth(),
        None,
        None,
    )
    .map(|_| ())
    .map_err(|error| refusal(&error, path))
}

fn common_time(path: &[Certificate], near: Option<UnixTime>) -> rustls_pki_types::UnixTime {
    let begin = path.iter().map(Certificate::not_before).max().unwrap_or_default();
    let end = path.iter().map(Certificate::not_after).min().unwrap_or_default();
    let time = near.unwrap_or(begin).max(begin).min(end);
    let secs = u64::try_from(time.as_secs()).unwrap_or(0);
    rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(secs))
}

fn refusal(error: &webpki::Error, path: &[Certificate]) -> ChainError {
    use webpki::Error;
    let subject = || path.first().map_or_else(String::new, Certificate::subject);
    let reason = match error {
        // Signatures within the path were verified before; one that fails here is the anchor's.
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => return unreached(path),
        Error::CaUsedAsEndEntity => return ChainError::LeafIsAuthority,
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            return ChainError::UnsupportedSignature { subject: subject() };
        }
        Error::EmptyEkuExtension | Error::RequiredEkuNotFoundContext(_) => {
            PathFault::ExtendedKeyUsage
        }
        Error::EndEntityUsedAsCa => PathFault::NotAnAuthority,
        Error::PathLenConstraintViolated => PathFault::PathLength,
        Error::UnsupportedCertVersion => PathFault::Version,
        Error::UnsupportedCriticalExtension => PathFault::CriticalExtension,
        Error::NameConstraintViolation => PathFault::NameConstraint,
        Error::CertExpired { .. } | Error::CertNotValidYet { .. } | Error::InvalidCertValidity => {
            PathFault::Validity
        }
        Error::MaximumNameConstraintComparisonsExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded => PathFault::NoPath,
        // BadDer and its kin; the enum is not exhaustive, and none of its other variants arises
        // without revocation lists and host names.
        _ => PathFault::Malformed,
    };
    ChainError::Path { reason }
}

/// No path to the pinned anchor: either an issuer is missing, or the chain is of another root.
fn unreached(path: &[Certificate]) -> ChainError {
    match path.last() {
        Some(top) if top.subject_name() != top.issuer_name() => {
            ChainError::Incomplete { issuer: top.issuer() }
        }
        Some(top) => ChainError::Untrusted { root: top.subject() },
        None => ChainError::NoChain,
    }
}
