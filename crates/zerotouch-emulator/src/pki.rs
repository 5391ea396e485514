//! Making certificates: roots, issuing authorities, and what they certify.
//!
//! ```text
//!   root  ──►  issuing authority  ──►  device, server, or the answer to a verification code
//! ```
//!
//! Beneath the emulated registry's authority, beneath the listener's own TLS, and for whoever wants to
//! try X.509 attestation. It is as pure as the rest: keys, times and randomness are handed in. A key
//! signs through the [`Signer`] trait, so an authority's may be in hardware.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use chacha20::ChaCha20Rng; // seed it from the operating system
//! use chacha20::rand_core::SeedableRng;
//! use zerotouch_credentials::{CertificateChain, ChainPolicy, KeyAlgorithm, PrivateKey, Signer};
//! use zerotouch_emulator::pki::{CertificationAuthority, Validity};
//! use zerotouch_time::UnixTime;
//!
//! let mut rng = ChaCha20Rng::seed_from_u64(1);
//! let now = UnixTime::from_secs(1_790_000_000);
//! let validity = Validity { from: now, lifetime: Duration::from_secs(86_400) };
//! let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256, &mut rng)?;
//! let root = CertificationAuthority::root("test root", validity, Arc::new(key), &mut rng)?;
//!
//! let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256, &mut rng)?;
//! let leaf = root.certify_device("press-7", key.public_key(), validity, &mut rng)?;
//!
//! // Is it what a group of this root would take from a device of that name?
//! let chain = CertificateChain::new(vec![leaf]).ok_or("empty")?;
//! let policy = ChainPolicy {
//!     now: Some(now),
//!     anchor: Some(root.certificate()),
//!     ..ChainPolicy::new(key.public_key(), "press-7")
//! };
//! assert_eq!(chain.lint(&key, &policy), []);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand_core::Rng;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber, SignatureAlgorithm, SigningKey,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectKeyIdentifier;
use x509_cert::name::Name;
use x509_cert::spki::SubjectPublicKeyInfoRef;
use zerotouch_credentials::{Certificate, CertificateError, PrivateKeyError, Signer};
use zerotouch_time::UnixTime;

/// How far back a certificate reaches, for devices whose clock is slow. Short-lived certificates
/// reach back a tenth of their life at most, so that most of it lies ahead.
const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A key was not made.
    #[error("the key was not made: {0}")]
    Key(#[from] PrivateKeyError),
    /// The public key is of no kind that can be certified, or can certify.
    #[error("the public key is of a kind that cannot be certified")]
    PublicKey,
    /// The certificate could not be encoded or signed.
    #[error("the certificate was not made: {0}")]
    Encoding(#[from] rcgen::Error),
    /// What was made cannot be read back.
    #[error("the certificate made cannot be read: {0}")]
    Unreadable(#[from] CertificateError),
    /// The issuer's certificate is for another key.
    #[error("the issuer's certificate is for another key than the one given with it")]
    KeyMismatch,
    /// The issuer's certificate is not an authority's.
    #[error("{subject} is not an authority and cannot issue certificates")]
    NotAnAuthority {
        /// Who it is.
        subject: String,
    },
    /// The issuer's name has a form that cannot be repeated in what it issues.
    #[error("the issuer's name, {subject}, has a form that is not supported")]
    IssuerName {
        /// The name.
        subject: String,
    },
    /// The certificate would be valid for longer than its issuer.
    #[error("the certificate would outlive its issuer, which ends at {issuer_ends}")]
    OutlivesIssuer {
        /// When the issuer's certificate ends.
        issuer_ends: UnixTime,
    },
}

/// When a certificate is valid. It begins a little earlier, for devices whose clock is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From when.
    pub from: UnixTime,
    /// For how long.
    pub lifetime: Duration,
}

/// A key, its certificate, and the right to sign others.
#[derive(Debug)]
pub struct CertificationAuthority {
    key: Arc<dyn Signer>,
    /// As far as rcgen needs them to issue: name, key identifier, use.
    params: CertificateParams,
    certificate: Certificate,
}

impl CertificationAuthority {
    /// A root: self-signed, and free to have authorities below it.
    pub fn root(
        common_name: &str,
        validity: Validity,
        key: Arc<dyn Signer>,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, PkiError> {
        let mut params = params(common_name, validity, rng);
        authorise(&mut params, BasicConstraints::Unconstrained);
        let signer = AuthorityKey::new(&*key)?;
        params.key_identifier_method = KeyIdMethod::PreSpecified(signer.subject.identifier());
        let certificate = Certificate::from_der(params.self_signed(&signer)?.der())?;
        Ok(Self { key, params, certificate })
    }

    /// An authority that exists already, made by whomever.
    pub fn open(certificate: Certificate, key: Arc<dyn Signer>) -> Result<Self, PkiError> {
        if certificate.public_key() != key.public_key() {
            return Err(PkiError::KeyMismatch);
        }
        let parsed = x509_cert::Certificate::from_der(certificate.as_der())
            .map_err(|error| PkiError::Unreadable(CertificateError::Malformed(error)))?;
        let signed = parsed.tbs_certificate();
        if !certificate.is_authority() {
            return Err(PkiError::NotAnAuthority { subject: certificate.subject() });
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(signed.subject())
            .ok_or_else(|| PkiError::IssuerName { subject: certificate.subject() })?;
        let identifier = match signed.get_extension::<SubjectKeyIdentifier>() {
            Ok(Some((_, identifier))) => identifier.0.as_bytes().to_vec(),
            _ => SubjectKey::new(key.public_key())?.identifier(),
        };
        params.key_identifier_method = KeyIdMethod::PreSpecified(identifier);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self { key, params, certificate })
    }

    /// An authority below this one, which may issue to end entities only.
    pub fn subordinate(
        &self,
        common_name: &str,
        validity: Validity,
        key: Arc<dyn Signer>,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, PkiError> {
        let certificate = self.certify_authority(common_name, key.public_key(), validity, rng)?;
        Self::open(certificate, key)
    }

    /// The certificate of such an authority, whose key somebody else has.
    pub fn certify_authority(
        &self,
        common_name: &str,
        public_key: &[u8],
        validity: Validity,
        rng: &mut ChaCha20Rng,
    ) -> Result<Certificate, PkiError> {
        self.check_end(validity)?;
        let mut params = params(common_name, validity, rng);
        authorise(&mut params, BasicConstraints::Constrained(0));
        params.use_authority_key_identifier_extension = true;
        self.certify(params, &SubjectKey::new(public_key)?)
    }

    /// A device's certificate: for TLS clients, with one name, which is the registration id. The
    /// answer to a verification code is the same with the code for a name.
    pub fn certify_device(
        &self,
        common_name: &str,
        public_key: &[u8],
        validity: Validity,
        rng: &mut ChaCha20Rng,
    ) -> Result<Certificate, PkiError> {
        self.check_end(validity)?;
        self.certify_device_with((common_name, public_key), Vec::new(), validity, rng)
    }

    /// As [`CertificationAuthority::certify_device`], with alternative names, and however long.
    pub(crate) fn certify_device_with(
        &self,
        (common_name, public_key): (&str, &[u8]),
        alternative_names: Vec<SanType>,
        validity: Validity,
        rng: &mut ChaCha20Rng,
    ) -> Result<Certificate, PkiError> {
        let mut params = params(common_name, validity, rng);
        params.subject_alt_names = alternative_names;
        self.certify_end_entity(params, ExtendedKeyUsagePurpose::ClientAuth, public_key)
    }

    /// A server's certificate for `names`, host names or addresses.
    pub fn certify_server(
        &self,
        names: &[String],
        public_key: &[u8],
        validity: Validity,
        rng: &mut ChaCha20Rng,
    ) -> Result<Certificate, PkiError> {
        self.check_end(validity)?;
        let common_name = names.first().map_or("localhost", String::as_str);
        let mut params = params(common_name, validity, rng);
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        self.certify_end_entity(params, ExtendedKeyUsagePurpose::ServerAuth, public_key)
    }

    /// What outlives its issuer is refused by everybody once the issuer has ended, to the surprise of
    /// whoever made it.
    fn check_end(&self, validity: Validity) -> Result<(), PkiError> {
        let issuer_ends = self.certificate.not_after();
        if validity.from + validity.lifetime > issuer_ends {
            return Err(PkiError::OutlivesIssuer { issuer_ends });
        }
        Ok(())
    }

    /// This authority's own certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn certify_end_entity(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
        public_key: &[u8],
    ) -> Result<Certificate, PkiError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        self.certify(params, &SubjectKey::new(public_key)?)
    }

    fn certify(
        &self,
        mut params: CertificateParams,
        subject: &SubjectKey<'_>,
    ) -> Result<Certificate, PkiError> {
        params.key_identifier_method = KeyIdMethod::PreSpecified(subject.identifier());
        let issuer = Issuer::from_params(&self.params, AuthorityKey::new(&*self.key)?);
        Ok(Certificate::from_der(params.signed_by(subject, &issuer)?.der())?)
    }
}

/// What every certificate has: one name, dates, and a serial number of 16 random bytes.
fn params(common_name: &str, validity: Validity, rng: &mut ChaCha20Rng) -> CertificateParams {
    let Validity { from, lifetime } = validity;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = offset_date_time(from - BACKDATE.min(lifetime / 10));
    params.not_after = offset_date_time(from + lifetime);
    let mut serial = [0; 16];
    rng.fill_bytes(&mut serial);
    // Positive and never shortened: the first bit is clear, the second set.
    serial[0] = serial[0] & 0x7F | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

fn authorise(params: &mut CertificateParams, constraints: BasicConstraints) {
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
}

/// A date within what certificates and RFC 3339 can express; times outside are taken as its ends.
pub(crate) fn offset_date_time(at: UnixTime) -> OffsetDateTime {
    const LATEST: i64 = 253_402_300_799; // 9999-12-31T23:59:59Z
    let secs = at.as_secs().clamp(0, LATEST);
    OffsetDateTime::from_unix_timestamp(secs).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A name that encodes to the same bytes; `None` if rcgen cannot express it (an attribute twice,
/// several in one place, an unusual type of string).
fn distinguished_name(name: &Name) -> Option<DistinguishedName> {
    let mut copy = DistinguishedName::new();
    for place in name.iter_rdn() {
        let [attribute] = place.as_ref().as_slice() else { return None };
        let kind = DnType::CustomDnType(attribute.oid.arcs().map(u64::from).collect());
        let text = str::from_utf8(attribute.value.value()).ok()?;
        let value = match attribute.value.tag() {
            Tag::Utf8String => DnValue::Utf8String(text.into()),
            Tag::PrintableString => DnValue::PrintableString(text.try_into().ok()?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into().ok()?),
            _ => return None,
        };
        if copy.get(&kind).is_some() {
            return None;
        }
        copy.push(kind, value);
    }
    Some(copy)
}

/// A public key, as rcgen wants it: its bits without their wrapping.
struct SubjectKey<'a> {
    bits: &'a [u8],
    algorithm: &'static SignatureAlgorithm,
}

impl<'a> SubjectKey<'a> {
    fn new(public_key: &'a [u8]) -> Result<Self, PkiError> {
        const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
        const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
        const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
        let spki =
            SubjectPublicKeyInfoRef::from_der(public_key).map_err(|_| PkiError::PublicKey)?;
        let algorithm = match (spki.algorithm.oid, spki.algorithm.parameters_oid()) {
            (RSA, _) => &rcgen::PKCS_RSA_SHA256,
            (_, Ok(P256)) => &rcgen::PKCS_ECDSA_P256_SHA256,
            (_, Ok(P384)) => &rcgen::PKCS_ECDSA_P384_SHA384,
            _ => return Err(PkiError::PublicKey),
        };
        let bits = spki.subject_public_key.as_bytes().ok_or(PkiError::PublicKey)?;
        Ok(Self { bits, algorithm })
    }

    /// The leftmost 160 bits of the SHA-256 hash of the key (RFC 7093 §2, method 1).
    fn identifier(&self) -> Vec<u8> {
        Sha256::digest(self.bits)[..20].to_vec()
    }
}

impl PublicKeyData for SubjectKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// An authority's key: rcgen signs with the project's own signer, so that no second
/// implementation of the curves is linked and a seed gives the same certificates everywhere.
struct AuthorityKey<'a> {
    subject: SubjectKey<'a>,
    key: &'a dyn Signer,
}

impl<'a> AuthorityKey<'a> {
    fn new(key: &'a dyn Signer) -> Result<Self, PkiError> {
        Ok(Self { subject: SubjectKey::new(key.public_key())?, key })
    }
}

impl PublicKeyData for AuthorityKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.subject.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.subject.algorithm
    }
}

impl SigningKey for AuthorityKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
