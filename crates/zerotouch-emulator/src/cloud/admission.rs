//! Whom a hub lets in.

use std::time::Duration;

use zerotouch_credentials::{
    Certificate, CertificateChain, ChainError, ChainPolicy, SasClaims, SasError, Thumbprint,
};
use zerotouch_mqtt_codec::ConnectRefusal;
use zerotouch_time::UnixTime;

use super::authority::device_identifier;
use super::clock::Clock;
use super::enrollment::SAS_SKEW;
use super::fixture::SymmetricKeys;
use super::namespace::Namespace;
use super::registry::{DeviceKey, HubCredential};

/// Why a hub refuses a device. The device reads [`HubRefusal::code`]; this is for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum HubRefusal {
    #[error("no hub is called {host:?}")]
    UnknownHub { host: String },
    #[error("the hub takes no connections for {} ms more", retry_after.as_millis())]
    Throttled { retry_after: Duration },
    #[error("api-version {version:?} is not known")]
    ApiVersion { version: String },
    #[error("the client id {client_id:?} is not the device id of the user name")]
    ClientId { client_id: String },
    #[error("the device is not registered at this hub")]
    UnknownDevice,
    #[error("the device is disabled")]
    Disabled,
    #[error("neither a token nor a certificate was given")]
    NoCredential,
    #[error("the device has to come with {0}")]
    OtherCredential(&'static str),
    #[error("the token is refused: {0}")]
    Token(#[from] SasError),
    #[error("the token is for {resource:?}")]
    TokenResource { resource: String },
    #[error("the certificate cannot be read")]
    UnreadableCertificate,
    #[error("the certificate is not the one the device registered with")]
    OtherCertificate,
    #[error("the certificate's issuer {issuer:?} has not been synchronized to the hub")]
    NotSynchronized { issuer: String },
    #[error("the certificate is refused: {0}")]
    Certificate(#[from] ChainError),
    #[error("the certificate has been revoked: its device identifier is no longer the device's")]
    Revoked,
}

impl HubRefusal {
    /// What CONNACK says of it.
    pub(super) const fn code(&self) -> ConnectRefusal {
        match self {
            // How the service says it is not published; other codes are about who asks.
            Self::Throttled { .. } => ConnectRefusal::ServerUnavailable,
            _ => ConnectRefusal::NotAuthorized,
        }
    }
}

/// What a device shows to a hub.
#[derive(Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub(super) host: &'a str,
    /// DER, leaf first; TLS has proved that the device holds the leaf's key.
    pub(super) chain: &'a [Vec<u8>],
    pub(super) password: Option<&'a [u8]>,
}

/// What a device was let in by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Admission {
    /// Of the certificate it came with.
    pub(super) thumbprint: Option<Thumbprint>,
    /// The last second in which the token is taken that it came with.
    pub(super) token_ends: Option<UnixTime>,
}

/// Checks a device's proof.
pub(super) fn admit(
    key: &DeviceKey,
    evidence: Evidence<'_>,
    namespace: &Namespace,
    clock: Clock,
) -> Result<Admission, HubRefusal> {
    let device = namespace.registry.device(key).ok_or(HubRefusal::UnknownDevice)?;
    if !device.enabled {
        return Err(HubRefusal::Disabled);
    }
    match (&device.credential, evidence.password, evidence.chain.first()) {
        (HubCredential::Keys(keys), Some(token), _) => {
            let expires = verify_token(keys, token, evidence.host, &key.device_id, clock)?;
            Ok(Admission { token_ends: Some(expires + SAS_SKEW), ..Admission::default() })
        }
        (HubCredential::Keys(_), None, Some(_)) => {
            Err(HubRefusal::OtherCredential("a token signed with its key"))
        }
        (_, None, Some(leaf)) => {
            let leaf =
                Certificate::from_der(leaf).map_err(|_| HubRefusal::UnreadableCertificate)?;
            if let HubCredential::Certificates(expected) = &device.credential {
                if !expected.iter().any(|print| print.is_of(&leaf)) {
                    return Err(HubRefusal::OtherCertificate);
                }
            } else {
                verify_issued(&leaf, &key.device_id, namespace, clock)?;
                if device_identifier(&leaf).as_ref() != Some(&device.identifier) {
                    return Err(HubRefusal::Revoked);
                }
            }
            let thumbprint = Some(leaf.thumbprint());
            Ok(Admission { thumbprint, ..Admission::default() })
        }
        (_, Some(_), _) => Err(HubRefusal::OtherCredential("its certificate, and no password")),
        (_, None, None) => Err(HubRefusal::NoCredential),
    }
}

/// The leaf alone counts: the hub has the issuing authorities from the namespace, and what else a
/// device sends along proves nothing.
fn verify_issued(
    leaf: &Certificate,
    device_id: &str,
    namespace: &Namespace,
    clock: Clock,
) -> Result<(), HubRefusal> {
    let anchor = namespace
        .synchronized()
        .find(|authority| leaf.names_as_issuer(authority))
        .ok_or_else(|| HubRefusal::NotSynchronized { issuer: leaf.issuer() })?;
    let policy = ChainPolicy {
        now: Some(clock.wall),
        anchor: Some(anchor),
        ..ChainPolicy::new(leaf.public_key(), device_id)
    };
    CertificateChain::accept_read(std::slice::from_ref(leaf), &policy)?;
    Ok(())
}

fn verify_token(
    keys: &SymmetricKeys,
    token: &[u8],
    host: &str,
    device_id: &str,
    clock: Clock,
) -> Result<UnixTime, HubRefusal> {
    let token = std::str::from_utf8(token).map_err(|_| SasError::Scheme)?;
    let claims = SasClaims::parse(token)?;
    if !claims.is_for(&[host, "/devices/", device_id].concat()) {
        return Err(HubRefusal::TokenResource { resource: claims.resource().into() });
    }
    keys.verify(&claims, clock)?;
    Ok(claims.expiry())
}
