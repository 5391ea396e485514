//! Topics and JSON, for both ends of the wire. Sources: the IoT Hub MQTT documentation, and for the
//! credential topics the vendor's preview SDKs and recorded runs (the documentation page has them in
//! the singular, which no service answers).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use zerotouch_time::UnixTime;
use zerotouch_wire::percent_encode;

/// The first api-version that renews certificates.
pub const DEFAULT_API_VERSION: &str = "2025-08-01-preview";

/// Filter for direct methods.
pub const METHODS: &str = "$iothub/methods/POST/#";
/// Filter for answers to twin requests.
pub const TWIN_RESPONSES: &str = "$iothub/twin/res/#";
/// Filter for changes of desired properties.
pub const DESIRED_PROPERTIES: &str = "$iothub/twin/PATCH/properties/desired/#";
/// Filter for answers to credential requests.
pub const CREDENTIALS: &str = "$iothub/credentials/res/#";

/// How the topic of an answer to a credential request begins.
pub const CREDENTIAL_REPLY_PREFIX: &str = "$iothub/credentials/res/";
/// How the topic of a certificate request begins; a property bag follows.
pub const ISSUE_CERTIFICATE_PREFIX: &str = "$iothub/credentials/POST/issueCertificate/?";
/// How the topic of an answer to a twin request begins.
pub const TWIN_REPLY_PREFIX: &str = "$iothub/twin/res/";
/// How the topic of a method call begins; the name and a property bag follow.
pub const METHOD_PREFIX: &str = "$iothub/methods/POST/";
/// How the topic of a method's answer begins; the status and a property bag follow.
pub const METHOD_REPLY_PREFIX: &str = "$iothub/methods/res/";
/// How the topic that asks for the twin begins; a property bag follows.
pub const TWIN_GET_PREFIX: &str = "$iothub/twin/GET/?";
/// How the topic that reports properties begins; a property bag follows.
pub const TWIN_REPORT_PREFIX: &str = "$iothub/twin/PATCH/properties/reported/?";
/// How the topic of a changed desired property begins; a property bag follows.
pub const DESIRED_PREFIX: &str = "$iothub/twin/PATCH/properties/desired/?";

/// The largest request the hub takes: 8 KiB of base64.
pub const MAX_CSR_LENGTH: usize = 8192;
/// The largest payload of a method's call or answer: 128 KiB.
pub const MAX_METHOD_LENGTH: usize = 128 * 1024;
/// The largest report of twin properties: 32 KiB.
pub const MAX_REPORTED_LENGTH: usize = 32 * 1024;
/// The largest telemetry message: 256 KiB.
pub const MAX_TELEMETRY_LENGTH: usize = 256 * 1024;

/// The filter for cloud-to-device messages of this device.
pub fn commands_filter(device_id: &str) -> String {
    format!("devices/{device_id}/messages/devicebound/#")
}

/// How the topic of a cloud-to-device message begins; a property bag follows.
pub fn command_prefix(device_id: &str) -> String {
    format!("devices/{device_id}/messages/devicebound/")
}

/// How the topic of a telemetry message begins; a property bag follows.
pub fn telemetry_prefix(device_id: &str) -> String {
    format!("devices/{device_id}/messages/events/")
}

/// The topic that asks for a certificate.
pub fn issue_certificate_topic(request_id: &str) -> String {
    format!("{ISSUE_CERTIFICATE_PREFIX}$rid={request_id}")
}

/// The user name of the CONNECT packet; unlike DPS's it has a `?` before the parameters. A device that
/// implements a model says which by its `model_id`, as `dtmi:com:example:Thermostat;1`.
pub fn username(
    host: &str,
    device_id: &str,
    api_version: &str,
    client_version: &str,
    model_id: Option<&str>,
) -> String {
    let mut username = format!(
        "{host}/{device_id}/?api-version={api_version}&DeviceClientType={}",
        percent_encode(client_version)
    );
    if let Some(model_id) = model_id {
        username.push_str("&model-id=");
        username.push_str(&percent_encode(model_id));
    }
    username
}

/// The body of a certificate request. The hub refuses unknown members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssueCertificateRequest {
    /// The device id of the session.
    pub id: String,
    /// PKCS#10: base64 of DER, no armour.
    pub csr: String,
    /// The request id of an operation to cancel, `*` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<String>,
}

/// The body of status 202: the request is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateRequestAccepted {
    /// For the service's operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Until when the service keeps the operation, RFC 3339; about 12 hours ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_expires: Option<String>,
}

impl CertificateRequestAccepted {
    /// Until when the service keeps the operation, if it says so legibly.
    pub fn expires(&self) -> Option<UnixTime> {
        UnixTime::parse_rfc3339(self.operation_expires.as_deref()?)
    }
}

/// The body of status 200: the certificate. One preview service writes the array alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IssuedCertificates {
    /// `{"correlationId":…,"certificates":[…]}`
    Object {
        /// For the service's operators.
        #[serde(rename = "correlationId", default, skip_serializing_if = "Option::is_none")]
        correlation_id: Option<String>,
        /// Leaf first, base64 of DER each.
        certificates: Vec<String>,
    },
    /// `[…]`
    Array(Vec<String>),
}

impl IssuedCertificates {
    /// The certificates, in the order sent.
    pub fn into_certificates(self) -> Vec<String> {
        match self {
            Self::Object { certificates, .. } | Self::Array(certificates) => certificates,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // As the vendor's clients write it: parameters are encoded, the host and the device id are not.
    #[test]
    fn usernames_carry_version_client_and_model() {
        let model = Some("dtmi:com:example:Thermostat;1");
        assert_eq!(
            username("h.example", "d'1", "2021-04-12", "zerotouch/0.1 (x)", model),
            "h.example/d'1/?api-version=2021-04-12&DeviceClientType=zerotouch%2F0.1%20%28x%29\
             &model-id=dtmi%3Acom%3Aexample%3AThermostat%3B1"
        );
        assert!(username("h", "d", "1", "c", None).ends_with("&DeviceClientType=c"));
    }
}
