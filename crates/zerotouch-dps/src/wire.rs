//! Topics and JSON, for both ends of the wire.
//!
//! The device serialises what the service deserialises, and the other way round; the same types serve
//! an emulator. Unknown members are ignored, unknown enum values kept.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ConnectionProfile;

/// The one topic filter a device subscribes to.
pub const SUBSCRIPTION: &str = "$dps/registrations/res/#";
/// How every answer's topic begins.
pub const REPLY_PREFIX: &str = "$dps/registrations/res/";
/// How the topic of a registration request begins; a property bag follows.
pub const REGISTER_PREFIX: &str = "$dps/registrations/PUT/iotdps-register/?";
/// How the topic of a status request begins; a property bag follows.
pub const STATUS_PREFIX: &str = "$dps/registrations/GET/iotdps-get-operationstatus/?";

/// The largest message the service takes: 96 KiB (Azure docs, DPS limits).
pub const MAX_MESSAGE_LENGTH: usize = 96 * 1024;

/// The topic that registers.
pub fn register_topic(request_id: &str) -> String {
    format!("{REGISTER_PREFIX}$rid={request_id}")
}

/// The topic that asks how far a registration is.
pub fn status_topic(request_id: &str, operation_id: &str) -> String {
    format!("{STATUS_PREFIX}$rid={request_id}&operationId={operation_id}")
}

/// The body of a registration request. The service takes the registration id from the CONNECT packet;
/// clients may leave the whole body empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterRequest {
    /// The registration id, again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_id: Option<String>,
    /// JSON for a custom allocation webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// A PKCS#10 request: base64 of DER, no armour (since 2025-07-01-preview).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr: Option<String>,
}

/// How far a registration is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum RegistrationStatus {
    /// Not begun.
    #[default]
    Unassigned,
    /// Under way: ask again later.
    Assigning,
    /// Done.
    Assigned,
    /// Ended in an error.
    Failed,
    /// The enrolment is disabled.
    Disabled,
    /// A status this version does not know.
    Other(String),
}

impl From<String> for RegistrationStatus {
    fn from(text: String) -> Self {
        match text.as_str() {
            "unassigned" => Self::Unassigned,
            "assigning" => Self::Assigning,
            "assigned" => Self::Assigned,
            "failed" => Self::Failed,
            // `blacklisted` is what old services called it.
            "disabled" | "blacklisted" => Self::Disabled,
            _ => Self::Other(text),
        }
    }
}

impl From<RegistrationStatus> for String {
    fn from(status: RegistrationStatus) -> Self {
        match status {
            RegistrationStatus::Unassigned => "unassigned".into(),
            RegistrationStatus::Assigning => "assigning".into(),
            RegistrationStatus::Assigned => "assigned".into(),
            RegistrationStatus::Failed => "failed".into(),
            RegistrationStatus::Disabled => "disabled".into(),
            RegistrationStatus::Other(text) => text,
        }
    }
}

/// The body of an answer with status 200 or 202.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationOperationStatus {
    /// The service's name for the operation: `{n}.{16 hex digits}.{guid}`. Empty in some answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// How far it is.
    pub status: RegistrationStatus,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_state: Option<RegistrationState>,
}

/// The record of a registration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistrationState {
    /// Present, and empty, for a device that attested by certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x509: Option<serde_json::Value>,
    /// Names the enrolment group of a device that attested by symmetric key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<serde_json::Value>,
    /// The registration id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration_id: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_date_time_utc: Option<String>,
    /// The hub's host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assigned_hub: Option<String>,
    /// The device's name at the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// How far the registration is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<RegistrationStatus>,
    /// In what way it was assigned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substatus: Option<String>,
    /// Six digits, with [`RegistrationStatus::Failed`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<u32>,
    /// The service's explanation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_date_time_utc: Option<String>,
    /// Base64 of a quoted string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// JSON from a custom allocation webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// Leaf first, base64 of DER each (since 2025-07-01-preview).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_certificate_chain: Option<Vec<String>>,
    /// The hub's protocol (since 2026-11-01).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_profile: Option<ConnectionProfile>,
}
