//! Why a service says no, and with which numbers.
//!
//! The device is told a status, a code and a sentence that gives nothing away; the event log is told
//! the reason. Codes marked *synthetic* are not published for the real service: they are this
//! emulator's choice, made so that causes can be told apart.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Value};
use zerotouch_credentials::{ChainError, RequestError, SasError};
use zerotouch_mqtt_codec::ConnectRefusal;
use zerotouch_wire::ServiceError;

use super::clock::Clock;
use super::fault::InjectedError;

/// Why a CONNECT that is for no hub is refused: the little that the provisioning service judges there.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectFault {
    #[error("the user name {username:?} is for no service here")]
    UserName { username: String },
    #[error("api-version {version:?} is not known")]
    ApiVersion { version: String },
    #[error("{given:?} is no registration id, or not the client id")]
    RegistrationId { given: String },
}

impl ConnectFault {
    pub(super) const fn code(&self) -> ConnectRefusal {
        match self {
            Self::UserName { .. } | Self::ApiVersion { .. } => ConnectRefusal::NotAuthorized,
            Self::RegistrationId { .. } => ConnectRefusal::IdentifierRejected,
        }
    }
}

/// What the provisioning service refuses. `Display` is the reason for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum DpsRefusal {
    #[error("this service's id scope is {expected:?}, the device gave {given:?}")]
    IdScope { given: String, expected: String },
    #[error("no enrolment is for this registration id, and no group takes this kind of credential")]
    NoEnrollment,
    #[error("neither a token nor a certificate was given")]
    NoCredential,
    #[error("the token is refused: {0}")]
    Token(#[from] SasError),
    #[error("the token is for {resource:?}")]
    TokenResource { resource: String },
    #[error("the token names another key than \"registration\"")]
    TokenKeyName,
    #[error("the token is signed with no key of enrolment {enrollment:?}")]
    Key { enrollment: String },
    #[error("the token is signed with a key derived from no enrolment group's")]
    GroupKey,
    #[error("the certificate is not the one of enrolment {enrollment:?}")]
    OtherCertificate { enrollment: String },
    #[error("the certificate cannot be read")]
    UnreadableCertificate,
    #[error("the certificate is refused: {0}")]
    Certificate(ChainError),
    #[error("the certificate's common name is not the registration id, or its dates are not now")]
    CertificateNameOrDates,
    #[error("enrolment {enrollment:?} is for a TPM, which is not challenged here")]
    Tpm { enrollment: String },
    #[error("the enrolment names no hub that there is")]
    NoHub,
    #[error("the body is no registration request: {0}")]
    Body(serde_json::Error),
    #[error("the body is for registration id {given:?}")]
    BodyRegistrationId { given: String },
    #[error("api-version {version} knows no csr")]
    CsrVersion { version: String },
    #[error("the certificate request is refused: {0}")]
    Csr(#[from] CsrFault),
    #[error("no operation of this device has the id {given:?}")]
    Operation { given: String },
    #[error("the device has not registered")]
    Unregistered,
    #[error("the quota is used up for {} s", retry_after.as_secs())]
    Throttled { retry_after: Duration },
    #[error("the certificate was not issued: {0}")]
    NotIssued(super::authority::AuthorityError),
    #[error("a fault was asked for")]
    Injected(InjectedError),
}

impl DpsRefusal {
    /// The status, the code, and what the device is told.
    pub(super) fn answer(&self) -> (u16, u32, Cow<'static, str>) {
        let (status, code, message) = match self {
            Self::Injected(error) => {
                return (error.status, error.code, Cow::Owned(error.message.clone()));
            }
            Self::IdScope { .. } => {
                (401, 401_000, "Unauthorized: unknown id scope. (synthetic code)")
            }
            Self::NoEnrollment => (404, 404_201, "Enrollment not found. (synthetic code)"),
            Self::NoCredential
            | Self::Token(_)
            | Self::TokenResource { .. }
            | Self::TokenKeyName
            | Self::Key { .. }
            | Self::Tpm { .. }
            | Self::GroupKey => (401, 401_002, "Unauthorized"),
            // What the real service says to a chain it has no authority for.
            Self::Certificate(ChainError::Untrusted { .. } | ChainError::Incomplete { .. }) => {
                (401, 401_002, "CA certificate not found.")
            }
            Self::OtherCertificate { .. }
            | Self::UnreadableCertificate
            | Self::Certificate(_)
            | Self::CertificateNameOrDates => (401, 401_002, "Invalid certificate."),
            Self::Body(_) | Self::CsrVersion { .. } => (400, 400_012, "Deserialization error."),
            Self::BodyRegistrationId { .. } => (
                400,
                400_004,
                "The registrationId is not the one of the connection. (synthetic code)",
            ),
            Self::NoHub => (400, 400_208, "No IoT hub is available. (synthetic text)"),
            Self::Csr(fault) => (400, 400_004, fault.message()),
            Self::Unregistered => (404, 404_203, "Registration not found. (synthetic code)"),
            Self::Operation { .. } => (404, 404_202, "Operation not found. (synthetic code)"),
            Self::Throttled { .. } => (429, 429_001, "Too many requests. (synthetic code)"),
            Self::NotIssued(_) => (500, 500_001, "Internal error."),
        };
        (status, code, Cow::Borrowed(message))
    }
}

impl DpsRefusal {
    /// What `retry-after` says to the device, in seconds, if another try may help.
    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            // Rounded up: not before.
            Self::Throttled { retry_after } => {
                Some(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0))
            }
            Self::Injected(error) => error.retry_after,
            _ => None,
        }
    }
}

/// What is wrong with a certificate signing request.
#[derive(Debug, thiserror::Error)]
pub(super) enum CsrFault {
    #[error("{0}")]
    Unreadable(RequestError),
    #[error("it is for {found:?}, not for {expected:?}")]
    Name { found: Option<String>, expected: String },
    #[error("the credential policy certifies P-384 keys only")]
    KeyAlgorithm,
}

impl CsrFault {
    pub(super) fn message(&self) -> &'static str {
        match self {
            Self::Unreadable(RequestError::NotBase64) => {
                "The csr is not valid base64. (synthetic code)"
            }
            Self::Unreadable(_) => "The csr did not pass verification. (synthetic code)",
            Self::Name { .. } => {
                "The csr's common name is not the registration id. (synthetic code)"
            }
            Self::KeyAlgorithm => "The csr's key algorithm is not allowed. (synthetic code)",
        }
    }
}

/// The body of a refusal, in the shape that both services use.
pub(super) fn body(
    code: u32,
    message: &str,
    tracking_id: String,
    info: Option<Map<String, Value>>,
    clock: Clock,
) -> Vec<u8> {
    let error = ServiceError {
        error_code: Some(code),
        tracking_id: Some(tracking_id),
        message: Some(message.into()),
        timestamp_utc: Some(clock.timestamp()),
        retry_after_seconds: None,
        info,
    };
    // Strings and numbers: nothing in it can fail to serialise.
    serde_json::to_vec(&error).unwrap_or_default()
}
