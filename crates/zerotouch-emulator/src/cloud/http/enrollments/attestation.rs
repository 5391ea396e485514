//! The JSON of how an enrolment's devices prove who they are.

use base64ct::{Base64, Encoding};
use chacha20::ChaCha20Rng;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use x509_cert::der::Decode;
use zerotouch_credentials::{Certificate, CertificateChain, SymmetricKey};

use super::super::super::clock::rfc3339;
use super::super::super::fixture::{Attestation, GroupAttestation, SymmetricKeys, TpmKeys};
use super::super::super::namespace::hex;
use super::Fault;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AttestationBody {
    r#type: Type,
    #[serde(skip_serializing_if = "Option::is_none")]
    tpm: Option<TpmBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x509: Option<X509Body>,
    #[serde(skip_serializing_if = "Option::is_none")]
    symmetric_key: Option<KeysBody>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Type {
    None,
    Tpm,
    X509,
    SymmetricKey,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TpmBody {
    endorsement_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_root_key: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct KeysBody {
    primary_key: Option<String>,
    secondary_key: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct X509Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificates: Option<Pair<CertificateBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_certificates: Option<Pair<CertificateBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_references: Option<Pair<String>>,
}

#[derive(Serialize, Deserialize)]
struct Pair<T> {
    #[serde(skip_serializing_if = "Option::is_none", default = "Option::default")]
    primary: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none", default = "Option::default")]
    secondary: Option<T>,
}

/// The certificate in a request, what there is to say of it in an answer. A request that changes something
/// else says the same, and means the same certificate.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<CertificateInfo>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CertificateInfo {
    subject_name: String,
    sha1_thumbprint: String,
    sha256_thumbprint: String,
    issuer_name: String,
    not_before_utc: String,
    not_after_utc: String,
    serial_number: String,
    version: u8,
}

/// How certificates are given.
enum Given {
    Client(Vec<Certificate>),
    Signing(Vec<Certificate>),
    References(Vec<String>),
}

pub(super) fn individual(
    body: AttestationBody,
    former: Option<&Attestation>,
    rng: &mut ChaCha20Rng,
) -> Result<Attestation, Fault> {
    match body.r#type {
        Type::None => Err(Fault::Member("attestation is none")),
        Type::SymmetricKey => {
            let former = match former {
                Some(Attestation::SymmetricKeys(keys)) => Some(keys),
                _ => None,
            };
            keys(body.symmetric_key, former, rng).map(Attestation::SymmetricKeys)
        }
        Type::Tpm => {
            let given = body.tpm.ok_or(Fault::Member("attestation.tpm is missing"))?;
            let TpmBody { endorsement_key, storage_root_key } = given;
            let is_base64 = |key: &String| Base64::decode_vec(key).is_ok_and(|key| !key.is_empty());
            if !is_base64(&endorsement_key) || storage_root_key.iter().any(|key| !is_base64(key)) {
                return Err(Fault::Member("a key of the TPM is no base64"));
            }
            Ok(Attestation::Tpm(TpmKeys { endorsement_key, storage_root_key }))
        }
        Type::X509 => {
            let former = match former {
                Some(
                    Attestation::X509 { certificates: known }
                    | Attestation::SignedX509 { authorities: known },
                ) => known,
                _ => &[][..],
            };
            Ok(match certificates(body.x509, former)? {
                Given::Client(certificates) => Attestation::X509 { certificates },
                Given::Signing(authorities) => Attestation::SignedX509 { authorities },
                Given::References(names) => Attestation::CaReferences { names },
            })
        }
    }
}

pub(super) fn group(
    body: AttestationBody,
    former: Option<&GroupAttestation>,
    rng: &mut ChaCha20Rng,
) -> Result<GroupAttestation, Fault> {
    match body.r#type {
        Type::None | Type::Tpm => Err(Fault::Member("a group attests by keys or X.509")),
        Type::SymmetricKey => {
            let former = match former {
                Some(GroupAttestation::SymmetricKeys(keys)) => Some(keys),
                _ => None,
            };
            keys(body.symmetric_key, former, rng).map(GroupAttestation::SymmetricKeys)
        }
        Type::X509 => {
            let former = match former {
                Some(GroupAttestation::X509 { authorities }) => authorities,
                _ => &[][..],
            };
            match certificates(body.x509, former)? {
                Given::Client(_) => Err(Fault::Member("clientCertificates are for one device")),
                Given::Signing(authorities) => Ok(GroupAttestation::X509 { authorities }),
                Given::References(names) => Ok(GroupAttestation::CaReferences { names }),
            }
        }
    }
}

/// Keys that are not given stay as they are, or are drawn.
fn keys(
    body: Option<KeysBody>,
    former: Option<&SymmetricKeys>,
    rng: &mut ChaCha20Rng,
) -> Result<SymmetricKeys, Fault> {
    let KeysBody { primary_key, secondary_key } = body.unwrap_or_default();
    let former = former.map(SymmetricKeys::copy).unwrap_or_default();
    let key = |given: Option<String>, former| match given.filter(|text| !text.is_empty()) {
        None => Ok(former),
        Some(text) => match SymmetricKey::from_base64(&text) {
            Ok(key) => Ok(Some(key)),
            Err(_) => Err(Fault::Member("a symmetric key is none")),
        },
    };
    let mut keys = SymmetricKeys {
        primary: key(primary_key, former.primary)?,
        secondary: key(secondary_key, former.secondary)?,
    };
    keys.complete(rng)?;
    Ok(keys)
}

fn certificates(body: Option<X509Body>, former: &[Certificate]) -> Result<Given, Fault> {
    let read = |pair: Pair<CertificateBody>| -> Result<Vec<Certificate>, Fault> {
        pair.some()?.into_iter().map(|one| certificate(one, former)).collect()
    };
    match body.unwrap_or_default() {
        X509Body {
            client_certificates: Some(pair),
            signing_certificates: None,
            ca_references: None,
        } => Ok(Given::Client(read(pair)?)),
        X509Body {
            client_certificates: None,
            signing_certificates: Some(pair),
            ca_references: None,
        } => {
            let authorities = read(pair)?;
            if authorities.iter().any(|one| !one.is_authority()) {
                return Err(Fault::Member("a signing certificate is no authority's"));
            }
            Ok(Given::Signing(authorities))
        }
        X509Body {
            client_certificates: None,
            signing_certificates: None,
            ca_references: Some(pair),
        } => Ok(Given::References(pair.some()?)),
        _ => Err(Fault::Member(
            "attestation.x509 has one of clientCertificates, signingCertificates, caReferences",
        )),
    }
}

impl<T> Pair<T> {
    fn new(values: impl IntoIterator<Item = T>) -> Self {
        let mut values = values.into_iter();
        Self { primary: values.next(), secondary: values.next() }
    }

    fn some(self) -> Result<Vec<T>, Fault> {
        let Self { primary, secondary } = self;
        let primary = primary.ok_or(Fault::Member("attestation.x509 has nothing primary"))?;
        Ok([primary].into_iter().chain(secondary).collect())
    }
}

/// PEM, or base64 of DER, or, as some tools make of a file, base64 of PEM.
fn certificate(body: CertificateBody, former: &[Certificate]) -> Result<Certificate, Fault> {
    let unreadable = Fault::Member("a certificate cannot be read");
    let from_pem = |pem: &str| CertificateChain::from_pem(pem).map(|chain| chain.leaf().clone());
    let Some(text) = body.certificate.filter(|text| !text.is_empty()) else {
        let wanted = body.info.unwrap_or_default().sha256_thumbprint;
        let known = former.iter().find(|one| one.thumbprint().to_string() == wanted);
        return known.cloned().ok_or(Fault::Member("a certificate is missing"));
    };
    if text.contains("-----BEGIN") {
        return from_pem(&text).map_err(|_| unreadable);
    }
    let text: String = text.split_whitespace().collect();
    let bytes =
        Base64::decode_vec(&text).map_err(|_| Fault::Member("a certificate is no base64"))?;
    let read = match std::str::from_utf8(&bytes) {
        Ok(pem) => from_pem(pem).ok(),
        Err(_) => Certificate::from_der(&bytes).ok(),
    };
    read.ok_or(unreadable)
}

pub(super) fn info(certificate: &Certificate) -> CertificateInfo {
    let parsed = x509_cert::Certificate::from_der(certificate.as_der());
    // It was parsed before; the numbers on the wire begin at 0.
    let version = parsed.map_or(3, |parsed| parsed.tbs_certificate().version() as u8 + 1);
    CertificateInfo {
        subject_name: certificate.subject(),
        sha1_thumbprint: hex(&Sha1::digest(certificate.as_der())).to_ascii_uppercase(),
        sha256_thumbprint: certificate.thumbprint().to_string(),
        issuer_name: certificate.issuer(),
        not_before_utc: rfc3339(certificate.not_before()),
        not_after_utc: rfc3339(certificate.not_after()),
        serial_number: hex(certificate.serial()).to_ascii_uppercase(),
        version,
    }
}

fn infos(certificates: &[Certificate]) -> Pair<CertificateBody> {
    let info = |one| CertificateBody { certificate: None, info: Some(info(one)) };
    Pair::new(certificates.iter().map(info))
}

pub(super) fn of_individual(attestation: &Attestation, with_keys: bool) -> AttestationBody {
    match attestation {
        Attestation::SymmetricKeys(keys) => of_keys(keys, with_keys),
        Attestation::X509 { certificates } => {
            let client_certificates = Some(infos(certificates));
            of_x509(X509Body { client_certificates, ..X509Body::default() })
        }
        Attestation::SignedX509 { authorities } => of_authorities(authorities),
        Attestation::CaReferences { names } => of_references(names),
        Attestation::Tpm(TpmKeys { endorsement_key, storage_root_key }) => {
            let (endorsement_key, storage_root_key) =
                (endorsement_key.clone(), storage_root_key.clone());
            let tpm = Some(TpmBody { endorsement_key, storage_root_key });
            AttestationBody { tpm, ..AttestationBody::new(Type::Tpm) }
        }
    }
}

pub(super) fn of_group(attestation: &GroupAttestation, with_keys: bool) -> AttestationBody {
    match attestation {
        GroupAttestation::SymmetricKeys(keys) => of_keys(keys, with_keys),
        GroupAttestation::X509 { authorities } => of_authorities(authorities),
        GroupAttestation::CaReferences { names } => of_references(names),
    }
}

fn of_keys(keys: &SymmetricKeys, with_keys: bool) -> AttestationBody {
    let text = |key: &Option<SymmetricKey>| Some(key.as_ref()?.to_base64().to_string());
    let symmetric_key = with_keys.then(|| KeysBody {
        primary_key: text(&keys.primary),
        secondary_key: text(&keys.secondary),
    });
    AttestationBody { symmetric_key, ..AttestationBody::new(Type::SymmetricKey) }
}

fn of_authorities(authorities: &[Certificate]) -> AttestationBody {
    let signing_certificates = Some(infos(authorities));
    of_x509(X509Body { signing_certificates, ..X509Body::default() })
}

fn of_references(names: &[String]) -> AttestationBody {
    let ca_references = Some(Pair::new(names.iter().cloned()));
    of_x509(X509Body { ca_references, ..X509Body::default() })
}

fn of_x509(x509: X509Body) -> AttestationBody {
    AttestationBody { x509: Some(x509), ..AttestationBody::new(Type::X509) }
}

impl AttestationBody {
    const fn new(r#type: Type) -> Self {
        Self { r#type, tpm: None, x509: None, symmetric_key: None }
    }
}
