//! Why an issued chain is refused.

use alloc::string::String;

use zerotouch_time::UnixTime;

use crate::certificate::CertificateError;

/// Why an issued chain is not accepted. The identity in use stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A certificate was asked for and the answer holds none.
    #[error("the answer holds no certificate although one was requested")]
    NoChain,
    /// More certificates than any real chain has.
    #[error("the answer holds more than {limit} certificates")]
    TooManyCertificates {
        /// The most that are looked at.
        limit: usize,
    },
    /// One certificate is larger than any real one.
    #[error("certificate {index} is larger than {limit} bytes")]
    CertificateTooLarge {
        /// Place in the answer, counted from 0.
        index: usize,
        /// The most that is looked at, in bytes of DER.
        limit: usize,
    },
    /// PEM where base64 of DER belongs.
    #[error("element {index}: PEM armour found; base64 of DER alone belongs there")]
    PemArmour {
        /// Place in the answer, counted from 0.
        index: usize,
    },
    /// An element is not base64.
    #[error("element {index} is not base64: {reason}")]
    NotBase64 {
        /// Place in the answer, counted from 0.
        index: usize,
        /// What is wrong with it.
        reason: Base64Fault,
    },
    /// An element is not a certificate.
    #[error("element {index}: {reason}")]
    NotACertificate {
        /// Place in the answer, counted from 0.
        index: usize,
        /// What is wrong with it.
        reason: CertificateError,
    },
    /// No certificate in the answer is for the key that was requested for.
    #[error("no certificate of the answer is for our key")]
    KeyMismatch,
    /// The answer is for the key now in use and not for the new one: an old answer, repeated.
    #[error("the answer is for the key already in use, not for the new one")]
    StaleKey,
    /// Two different certificates for our key.
    #[error("two certificates of the answer are for our key")]
    AmbiguousLeaf,
    /// The leaf is for another name, or for none or several.
    #[error("the certificate is for {}, not for {expected}", DisplayName(.found.as_ref()))]
    WrongName {
        /// The name that was requested.
        expected: String,
        /// The only common name of the leaf, if there is exactly one and it is text.
        found: Option<String>,
    },
    /// The validity period ends before it begins, or as it begins.
    #[error("the certificate of {subject} is never valid: it ends before it begins")]
    NeverValid {
        /// Whose certificate.
        subject: String,
    },
    /// The validity period is over.
    #[error("the certificate of {subject} expired at {not_after}")]
    Expired {
        /// Whose certificate.
        subject: String,
        /// When it ended.
        not_after: UnixTime,
    },
    /// The validity period has not begun, by more than the skew that is forgiven.
    #[error("the certificate of {subject} is not valid before {not_before}")]
    NotYetValid {
        /// Whose certificate.
        subject: String,
        /// When it begins.
        not_before: UnixTime,
    },
    /// The validity period has not begun by our clock, and our clock cannot be right: it is before
    /// a time that has certainly passed. The chain may be good; it is not to be thrown away.
    #[error(
        "our clock ({now}) is wrong: the certificate of {subject} begins at {not_before}, and it \
         was later than now already; set the clock"
    )]
    ClockSuspect {
        /// Whose certificate.
        subject: String,
        /// When it begins.
        not_before: UnixTime,
        /// What our clock says.
        now: UnixTime,
    },
    /// The leaf is an authority's certificate.
    #[error("the certificate issued to us is an authority's")]
    LeafIsAuthority,
    /// The leaf's extended key usage does not allow TLS client authentication.
    #[error("the certificate does not allow client authentication")]
    NotForClientAuthentication,
    /// The serial number is zero or negative, and no pinned anchor vouches for the issuer.
    #[error("the certificate's serial number is not positive")]
    SerialNotPositive,
    /// The issuer has no name, and no pinned anchor vouches for it.
    #[error("the certificate names no issuer")]
    NoIssuer,
    /// The same certificate as now, or an older one: an old answer, repeated.
    #[error("the answer is not newer than the certificate in use")]
    Replay,
    /// No certificate with the issuer's name has the key that made the signature.
    #[error("the certificate of {subject} is not signed by the certificate of {issuer}")]
    BadSignature {
        /// Whose certificate.
        subject: String,
        /// Who is named as its issuer.
        issuer: String,
    },
    /// A signature of an algorithm that is weak or not supported.
    #[error("the certificate of {subject} is signed with an algorithm that is not accepted")]
    UnsupportedSignature {
        /// Whose certificate.
        subject: String,
    },
    /// The issuers go in a circle.
    #[error("the issuers of the chain go in a circle at {subject}")]
    Cycle {
        /// Where the circle closes.
        subject: String,
    },
    /// An issuer may not issue.
    #[error("{subject} may not issue certificates: {reason}")]
    Issuer {
        /// Whose certificate.
        subject: String,
        /// What forbids it.
        reason: PathFault,
    },
    /// The path is not valid for another reason.
    #[error("the chain is not valid: {reason}")]
    Path {
        /// The reason.
        reason: PathFault,
    },
    /// The chain does not reach the pinned anchor: an issuer is missing.
    #[error("the chain does not reach the pinned anchor; the certificate of {issuer} is missing")]
    Incomplete {
        /// Whose certificate is missing.
        issuer: String,
    },
    /// The chain is whole, and ends somewhere else than in the pinned anchor.
    #[error("the chain ends in {root}, which is not the pinned anchor")]
    Untrusted {
        /// Where it ends.
        root: String,
    },
}

/// Why a text is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Base64Fault {
    /// Spaces or line breaks.
    #[error("it holds white space")]
    Whitespace,
    /// `-` or `_`: the URL-safe alphabet.
    #[error("it uses the URL-safe alphabet")]
    UrlSafe,
    /// The length is no multiple of four.
    #[error("its padding is missing")]
    Padding,
    /// Anything else, the empty text included.
    #[error("it is malformed")]
    Malformed,
}

/// Why a path of certificates is not valid (RFC 5280 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathFault {
    /// Basic constraints are absent or say that the subject is no authority.
    #[error("not an authority (basic constraints)")]
    NotAnAuthority,
    /// Key usage does not include the signing of certificates.
    #[error("its key may not sign certificates (key usage)")]
    KeyUsage,
    /// More authorities stand below it than its path length allows.
    #[error("its path length is exceeded")]
    PathLength,
    /// Not a version 3 certificate.
    #[error("not a version 3 certificate")]
    Version,
    /// A critical extension that is not known.
    #[error("an unknown critical extension")]
    CriticalExtension,
    /// A name constraint of an issuer excludes the leaf.
    #[error("a name constraint is violated")]
    NameConstraint,
    /// An issuer's extended key usage excludes client authentication.
    #[error("its extended key usage excludes client authentication")]
    ExtendedKeyUsage,
    /// A certificate of the path is not valid at any time at which the others are.
    #[error("the validity periods of the chain do not overlap")]
    Validity,
    /// Encoded in a way that path validation refuses.
    #[error("a certificate is malformed")]
    Malformed,
    /// Validation found no path within its bounds.
    #[error("no valid path was found")]
    NoPath,
}

struct DisplayName<'a>(Option<&'a String>);

impl core::fmt::Display for DisplayName<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            // Debug form: the name comes from the network and may hold control characters.
            Some(name) => write!(f, "{name:?}"),
            None => f.write_str("no single name"),
        }
    }
}
