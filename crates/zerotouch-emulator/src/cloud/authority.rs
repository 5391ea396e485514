//! The certificate authority of Azure Device Registry: one root, one issuing authority per policy.
//!
//! ```text
//!   root (P-384)  ──►  issuing authority of a policy (P-384)  ──►  device certificate
//! ```
//!
//! The profile of the device certificate is not published. This one holds what the documentation
//! names: the device id as only name, a per-device identifier, and what a client certificate needs.

use std::collections::BTreeMap;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use chacha20::ChaCha20Rng;
use rand_core::Rng;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
    SigningKey,
};
use sha2::{Digest, Sha256};
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::SubjectPublicKeyInfoRef;
use zerotouch_credentials::{
    Certificate, CertificateError, KeyAlgorithm, PrivateKey, PrivateKeyError, Signer,
};
use zerotouch_time::UnixTime;

use super::clock::offset_date_time;
use super::fixture::CredentialPolicy;

/// Marks every authority of the emulator, for whoever finds its certificate in a trust store.
const MARK: &str = "EMULATOR - NOT FOR PRODUCTION";

/// How far back a certificate reaches, for devices whose clock is slow. Short-lived certificates
/// reach back a tenth of their life at most, so that most of it lies ahead.
const BACKDATE: Duration = Duration::from_secs(5 * 60);

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
    /// A key of the authority was not made.
    #[error("the authority's key was not made: {0}")]
    Key(#[from] PrivateKeyError),
    /// The public key to certify is none of the authority's kinds.
    #[error("the public key cannot be certified")]
    PublicKey,
    /// The certificate could not be encoded or signed.
    #[error("the certificate was not made: {0}")]
    Encoding(#[from] rcgen::Error),
    /// What was made cannot be read back.
    #[error("the certificate made cannot be read: {0}")]
    Unreadable(#[from] CertificateError),
    /// No policy of that name.
    #[error("there is no credential policy of that name")]
    UnknownPolicy,
    /// The device is not registered.
    #[error("the device is not registered")]
    UnknownDevice,
}

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
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, AuthorityError> {
        let root = CertificationAuthority::root(
            &format!("zerotouch device root {MARK}"),
            (now, ROOT_VALIDITY),
            KeyAlgorithm::EcdsaP384,
            rng,
        )?;
        let policies = policies
            .iter()
            .map(|policy| {
                let name = format!("zerotouch policy {} {MARK}", policy.name);
                let issuing = root.subordinate(&name, (now, ISSUING_VALIDITY), rng)?;
                let leaf_validity = policy.leaf_validity;
                Ok((policy.name.clone(), Policy { issuing, leaf_validity }))
            })
            .collect::<Result<_, AuthorityError>>()?;
        Ok(Self { root, policies })
    }

    pub(super) fn root(&self) -> &Certificate {
        &self.root.certificate
    }

    /// The issuing authority's certificate of a policy.
    pub(super) fn issuing(&self, policy: &str) -> Option<&Certificate> {
        Some(&self.policies.get(policy)?.issuing.certificate)
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
        let mut params = params(subject.device_id, (now, policy.leaf_validity), rng);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let identifier = format!("{DEVICE_IDENTIFIER_PREFIX}{}", subject.identifier);
        params.subject_alt_names = vec![SanType::URI(identifier.try_into()?)];
        policy.issuing.certify(params, &SubjectKey::new(subject.public_key)?)
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

/// A key, its certificate, and the right to sign others. Also what the server's own TLS root is.
#[derive(Debug)]
pub(crate) struct CertificationAuthority {
    key: PrivateKey,
    params: CertificateParams,
    certificate: Certificate,
}

impl CertificationAuthority {
    /// A self-signed root, good from `validity.0` for `validity.1`.
    pub(crate) fn root(
        common_name: &str,
        validity: (UnixTime, Duration),
        algorithm: KeyAlgorithm,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, AuthorityError> {
        let key = PrivateKey::generate(algorithm, rng)?;
        let mut params = params(common_name, validity, rng);
        authorise(&mut params, BasicConstraints::Unconstrained);
        let signer = AuthorityKey::new(&key)?;
        params.key_identifier_method = KeyIdMethod::PreSpecified(signer.subject.identifier());
        let certificate = Certificate::from_der(params.self_signed(&signer)?.der())?;
        Ok(Self { key, params, certificate })
    }

    /// An issuing authority under this root, which may sign end entities only.
    fn subordinate(
        &self,
        common_name: &str,
        validity: (UnixTime, Duration),
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, AuthorityError> {
        let key = PrivateKey::generate(self.key.algorithm(), rng)?;
        let mut params = params(common_name, validity, rng);
        authorise(&mut params, BasicConstraints::Constrained(0));
        params.use_authority_key_identifier_extension = true;
        let subject = SubjectKey::new(key.public_key())?;
        params.key_identifier_method = KeyIdMethod::PreSpecified(subject.identifier());
        let certificate = self.certify(params.clone(), &subject)?;
        Ok(Self { key, params, certificate })
    }

    /// A server's certificate for `names`, host names or addresses.
    #[cfg(feature = "server")]
    pub(crate) fn certify_server(
        &self,
        names: &[String],
        public_key: &[u8],
        validity: (UnixTime, Duration),
        rng: &mut ChaCha20Rng,
    ) -> Result<Certificate, AuthorityError> {
        let common_name = names.first().map_or("localhost", String::as_str);
        let mut params = params(common_name, validity, rng);
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        self.certify(params, &SubjectKey::new(public_key)?)
    }

    #[cfg(feature = "server")]
    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn certify(
        &self,
        mut params: CertificateParams,
        subject: &SubjectKey<'_>,
    ) -> Result<Certificate, AuthorityError> {
        params.key_identifier_method = KeyIdMethod::PreSpecified(subject.identifier());
        let issuer = Issuer::from_params(&self.params, AuthorityKey::new(&self.key)?);
        Ok(Certificate::from_der(params.signed_by(subject, &issuer)?.der())?)
    }
}

/// What every certificate has: one name, dates, and a serial number of 16 random bytes.
fn params(
    common_name: &str,
    (now, validity): (UnixTime, Duration),
    rng: &mut ChaCha20Rng,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = offset_date_time(now - BACKDATE.min(validity / 10));
    params.not_after = offset_date_time(now + validity);
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

/// A public key, as rcgen wants it: the point without its wrapping.
struct SubjectKey<'a> {
    point: &'a [u8],
    algorithm: &'static SignatureAlgorithm,
}

impl<'a> SubjectKey<'a> {
    fn new(public_key: &'a [u8]) -> Result<Self, AuthorityError> {
        const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
        const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
        let spki =
            SubjectPublicKeyInfoRef::from_der(public_key).map_err(|_| AuthorityError::PublicKey)?;
        let algorithm = match spki.algorithm.parameters_oid() {
            Ok(P256) => &rcgen::PKCS_ECDSA_P256_SHA256,
            Ok(P384) => &rcgen::PKCS_ECDSA_P384_SHA384,
            _ => return Err(AuthorityError::PublicKey),
        };
        let point = spki.subject_public_key.as_bytes().ok_or(AuthorityError::PublicKey)?;
        Ok(Self { point, algorithm })
    }

    /// The leftmost 160 bits of the SHA-256 hash of the key (RFC 7093 §2, method 1).
    fn identifier(&self) -> Vec<u8> {
        Sha256::digest(self.point)[..20].to_vec()
    }
}

impl PublicKeyData for SubjectKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// An authority's key: rcgen signs with the project's own signer, so that no second
/// implementation of the curves is linked and a seed gives the same certificates everywhere.
struct AuthorityKey<'a> {
    subject: SubjectKey<'a>,
    key: &'a PrivateKey,
}

impl<'a> AuthorityKey<'a> {
    fn new(key: &'a PrivateKey) -> Result<Self, AuthorityError> {
        Ok(Self { subject: SubjectKey::new(key.public_key())?, key })
    }
}

impl PublicKeyData for AuthorityKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.subject.point
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
