//! What a registration yields.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Which protocol the assigned hub speaks (`registrationState.connectionProfile`, since api-version
/// 2026-11-01).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<String>", into = "String")]
#[non_exhaustive]
pub enum ConnectionProfile {
    /// MQTT 3.1.1: also what an absent or null member means.
    #[default]
    Classic,
    /// MQTT 5.
    MqttV5,
    /// A profile this version does not know, as the service wrote it.
    Other(String),
}

impl From<Option<String>> for ConnectionProfile {
    fn from(raw: Option<String>) -> Self {
        match raw {
            None => Self::Classic,
            Some(text) => match text.as_str() {
                "classic" => Self::Classic,
                "mqttV5" => Self::MqttV5,
                _ => Self::Other(text),
            },
        }
    }
}

impl From<ConnectionProfile> for String {
    fn from(profile: ConnectionProfile) -> Self {
        match profile {
            ConnectionProfile::Classic => "classic".into(),
            ConnectionProfile::MqttV5 => "mqttV5".into(),
            ConnectionProfile::Other(text) => text,
        }
    }
}

/// Where a device belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The hub's host name.
    pub assigned_hub: String,
    /// The device's name at that hub; often, not always, the registration id.
    pub device_id: String,
    /// The protocol of the hub.
    #[serde(default)]
    pub connection_profile: ConnectionProfile,
}

/// A registration that succeeded.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Where the device belongs.
    pub assignment: Assignment,
    /// The service's name for the operation.
    pub operation_id: Option<String>,
    /// `initialAssignment`, `deviceDataMigrated`, `deviceDataReset` or
    /// `reprovisionedToInitialAssignment`, or what else the service wrote.
    pub substatus: Option<String>,
    /// The issued chain as sent, base64 of DER each; empty if no request was sent. Nothing about it
    /// has been checked.
    pub issued_certificate_chain: Vec<String>,
    /// JSON from a custom allocation webhook.
    pub payload: Option<Box<RawValue>>,
}
