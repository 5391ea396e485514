//! One certificate: X.509 v3, RFC 5280.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use der::{Decode, Encode};
use sha2::{Digest, Sha256};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::time::Time;
use zerotouch_time::UnixTime;

use crate::name;
use crate::oid::CLIENT_AUTH;
use crate::request::first_element;
use crate::signer::KeyAlgorithm;
use crate::verify::{self, SignatureError};
#[cfg(feature = "simulation")]
use crate::vouched;

/// A certificate, parsed once and kept with its exact DER. Clones share it.
///
/// Parsed is not trusted: [`CertificateChain::accept`](crate::CertificateChain::accept) decides that.
#[derive(Clone)]
pub struct Certificate(Arc<Contents>);

struct Contents {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
    common_names: Vec<Option<String>>,
    public_key: Vec<u8>,
    constraints: Constraints,
    thumbprint: Thumbprint,
}

/// The DER says everything else.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

/// What the extensions say about the use of the certificate's key.
struct Constraints {
    is_ca: bool,
    path_len: Option<u8>,
    key_cert_sign: bool,
    client_auth: bool,
}

/// Why bytes are not a certificate that may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not one DER `Certificate`, or something after it.
    #[error("not a DER certificate: {0}")]
    Malformed(der::Error),
    /// An extension that occurs once occurs twice, or does not parse.
    #[error("an extension of the certificate is malformed: {0}")]
    Extension(der::Error),
    /// The signed and the unsigned statement of the signature algorithm differ.
    #[error("the certificate names two different signature algorithms")]
    AlgorithmMismatch,
}

impl Certificate {
    /// Reads the DER form. Trailing bytes are an error.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        #[cfg(feature = "simulation")]
        return vouched::read_once(vouched::Form::Der, der, Self::parse);
        #[cfg(not(feature = "simulation"))]
        Self::parse(der)
    }

    fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let parsed = x509_cert::Certificate::from_der(der).map_err(CertificateError::Malformed)?;
        let signed = parsed.tbs_certificate();
        if signed.signature() != parsed.signature_algorithm() {
            return Err(CertificateError::AlgorithmMismatch);
        }
        Ok(Self(Arc::new(Contents {
            common_names: name::common_names(signed.subject()),
            public_key: signed
                .subject_public_key_info()
                .to_der()
                .map_err(CertificateError::Malformed)?,
            constraints: Constraints::read(&parsed).map_err(CertificateError::Extension)?,
            // Once: a device draws from it, whenever anything happens, whether to renew.
            thumbprint: Thumbprint(Sha256::digest(der).into()),
            der: der.to_vec(),
            parsed,
        })))
    }

    /// The DER form, byte for byte as received.
    pub fn as_der(&self) -> &[u8] {
        &self.0.der
    }

    /// The subject's common name, if it has exactly one and it is text.
    pub fn common_name(&self) -> Option<&str> {
        match self.0.common_names.as_slice() {
            [only] => only.as_deref(),
            _ => None,
        }
    }

    /// The first second of the validity period.
    pub fn not_before(&self) -> UnixTime {
        unix_time(self.0.parsed.tbs_certificate().validity().not_before)
    }

    /// The last second of the validity period.
    pub fn not_after(&self) -> UnixTime {
        unix_time(self.0.parsed.tbs_certificate().validity().not_after)
    }

    /// The serial number, big-endian as encoded: a first byte of 0x80 or more means it is negative.
    pub fn serial(&self) -> &[u8] {
        self.0.parsed.tbs_certificate().serial_number().as_bytes()
    }

    /// The certified public key, as the DER of a `SubjectPublicKeyInfo`.
    pub fn public_key(&self) -> &[u8] {
        &self.0.public_key
    }

    /// The kind of the certified key.
    pub fn key_algorithm(&self) -> Result<KeyAlgorithm, SignatureError> {
        verify::key_algorithm(&self.0.public_key)
    }

    /// Whether the certificate is an authority's: its basic constraints say so, and its key usage does
    /// not forbid it to sign certificates.
    pub fn is_authority(&self) -> bool {
        self.is_ca() && self.may_sign_certificates()
    }

    /// The subject, as RFC 4514 writes names.
    pub fn subject(&self) -> String {
        self.subject_name().to_string()
    }

    /// The issuer, as RFC 4514 writes names.
    pub fn issuer(&self) -> String {
        self.issuer_name().to_string()
    }

    /// The issuer's name, in DER.
    pub fn issuer_der(&self) -> Vec<u8> {
        // A name that was read can be written.
        self.issuer_name().to_der().unwrap_or_default()
    }

    /// Whether this certificate names `issuer` as its issuer. Its signature is not looked at.
    pub fn names_as_issuer(&self, issuer: &Self) -> bool {
        self.issuer_name() == issuer.subject_name()
    }

    /// The SHA-256 hash of the DER form, which is what tools call the fingerprint.
    pub fn thumbprint(&self) -> Thumbprint {
        self.0.thumbprint
    }

    pub(crate) fn parsed(&self) -> &x509_cert::Certificate {
        &self.0.parsed
    }

    pub(crate) fn subject_name(&self) -> &Name {
        self.0.parsed.tbs_certificate().subject()
    }

    pub(crate) fn issuer_name(&self) -> &Name {
        self.0.parsed.tbs_certificate().issuer()
    }

    pub(crate) fn is_v3(&self) -> bool {
        self.0.parsed.tbs_certificate().version() == x509_cert::certificate::Version::V3
    }

    pub(crate) fn is_ca(&self) -> bool {
        self.0.constraints.is_ca
    }

    /// How many authorities may stand between this one and a leaf; `None` where there is no limit.
    pub fn path_len(&self) -> Option<u8> {
        self.0.constraints.path_len
    }

    pub(crate) fn may_sign_certificates(&self) -> bool {
        self.0.constraints.key_cert_sign
    }

    pub(crate) fn may_authenticate_clients(&self) -> bool {
        self.0.constraints.client_auth
    }

    /// Verifies the signature on this certificate by `issuer`'s key. Names are not looked at.
    pub(crate) fn verify_signed_by(&self, issuer: &Self) -> Result<(), SignatureError> {
        let (signed, signature) = self.signed_parts().ok_or(SignatureError::Invalid)?;
        let algorithm = self.0.parsed.signature_algorithm().oid;
        verify::verify_with(issuer.public_key(), algorithm, signed, signature)
    }

    /// What is signed, and its signature.
    pub(crate) fn signed_parts(&self) -> Option<(&[u8], &[u8])> {
        Some((first_element(&self.0.der).ok()?, self.0.parsed.signature().as_bytes()?))
    }

    /// Whether the authority key identifier contradicts `issuer`'s subject key identifier. Absent
    /// identifiers contradict nothing.
    pub(crate) fn names_other_issuer_key(&self, issuer: &Self) -> bool {
        let own = self.0.parsed.tbs_certificate().get_extension::<AuthorityKeyIdentifier>();
        let theirs = issuer.parsed().tbs_certificate().get_extension::<SubjectKeyIdentifier>();
        match (own, theirs) {
            (Ok(Some((_, own))), Ok(Some((_, theirs)))) => {
                own.key_identifier.is_some_and(|own| own != theirs.0)
            }
            _ => false,
        }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject())
            .field("issuer", &self.issuer())
            .field("not_before", &self.not_before())
            .field("not_after", &self.not_after())
            .field("thumbprint", &self.thumbprint())
            .finish_non_exhaustive()
    }
}

impl Constraints {
    fn read(parsed: &x509_cert::Certificate) -> der::Result<Self> {
        let signed = parsed.tbs_certificate();
        let basic = signed.get_extension::<BasicConstraints>()?.map(|(_, basic)| basic);
        let usage = signed.get_extension::<KeyUsage>()?;
        let extended = signed.get_extension::<ExtendedKeyUsage>()?;
        Ok(Self {
            is_ca: basic.as_ref().is_some_and(|basic| basic.ca),
            path_len: basic.and_then(|basic| basic.path_len_constraint),
            // Absent, both extensions allow every use (RFC 5280 §4.2.1.3, §4.2.1.12).
            key_cert_sign: usage.is_none_or(|(_, usage)| usage.key_cert_sign()),
            client_auth: extended.is_none_or(|(_, extended)| extended.0.contains(&CLIENT_AUTH)),
        })
    }
}

/// The SHA-256 hash of a certificate; displays as 64 upper-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// The hash itself.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The text is not 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a thumbprint has 64 hex digits")]
pub struct ThumbprintError;

impl core::str::FromStr for Thumbprint {
    type Err = ThumbprintError;

    /// Reads 64 hex digits of either case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut hash = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != hash.len() || !rest.is_empty() {
            return Err(ThumbprintError);
        }
        for (byte, pair) in hash.iter_mut().zip(pairs) {
            let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
            let value = high.zip(low).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
            *byte = value.ok_or(ThumbprintError)?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

fn unix_time(time: Time) -> UnixTime {
    // DER times run from 1970 to 9999, so the conversion cannot fail; saturating keeps it honest.
    UnixTime::from_secs(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}
