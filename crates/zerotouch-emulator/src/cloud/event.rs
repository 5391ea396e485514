//! What goes out of the engine: bytes for connections, and a record of what happened.

use std::fmt;

use serde::Serialize;
use zerotouch_credentials::Thumbprint;
pub use zerotouch_mqtt_session::ConnectionId;
use zerotouch_time::UnixTime;

use super::fault::Operation;
use crate::event_log::Logged;

/// What the caller has to do, in this order.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// Send bytes.
    Transmit {
        /// Where.
        connection: ConnectionId,
        /// What.
        bytes: Vec<u8>,
    },
    /// End a connection once its bytes are sent. The engine has forgotten it.
    Close {
        /// Which.
        connection: ConnectionId,
    },
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Certificates and device data pass here; a log of lengths is enough.
            Self::Transmit { connection, bytes } => {
                write!(f, "Transmit {} bytes on {connection}", bytes.len())
            }
            Self::Close { connection } => write!(f, "Close {connection}"),
        }
    }
}

/// Which service issued a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Via {
    /// The provisioning service, with a registration.
    Dps,
    /// A hub, as a renewal.
    Hub,
}

/// What became of a cloud-to-device message, in the words of the service's feedback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum CommandOutcome {
    /// Its device has it.
    Success,
    /// Its device did not take it in time.
    Expired,
    /// Its device was sent it ten times and has not acknowledged it.
    DeliveryCountExceeded,
    /// An operator has removed it, or its device.
    Purged,
}

/// What happened in the cloud, for tests, logs and onlookers. Serialises to one JSON object whose
/// member `event` names the variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum CloudEvent {
    /// A device was assigned to a hub.
    DeviceRegistered {
        /// Who registered.
        registration_id: String,
        /// The enrolment that took it.
        enrollment: String,
        /// The hub's host name.
        hub: String,
        /// Its name there.
        device_id: String,
        /// As in the answer: `initialAssignment` and so on.
        substatus: &'static str,
    },
    /// The provisioning service refused.
    RegistrationRefused {
        /// Who asked.
        registration_id: String,
        /// The status in the answer's topic.
        status: u16,
        /// The code in the answer's body; none for a disabled enrolment.
        code: Option<u32>,
        /// The same id as in the answer's body.
        tracking_id: Option<String>,
        /// Why: more than the device is told.
        reason: String,
    },
    /// A certificate was issued.
    CertificateIssued {
        /// For whom.
        device_id: String,
        /// SHA-256 of its DER, 64 upper-case hex digits.
        #[serde(serialize_with = "displayed")]
        thumbprint: Thumbprint,
        /// Its serial number, in hex digits.
        serial: String,
        /// Its last second, seconds since 1970.
        #[serde(serialize_with = "seconds")]
        not_after: UnixTime,
        /// By which service.
        via: Via,
    },
    /// A hub refused to renew a certificate.
    RenewalRefused {
        /// Whose.
        device_id: String,
        /// The status in the answer's topic.
        status: u16,
        /// The code in the answer's body.
        code: u32,
        /// Why.
        reason: String,
    },
    /// A device connected to its hub.
    HubConnected {
        /// The hub's host name.
        hub: String,
        /// Which device.
        device_id: String,
        /// Of the certificate it connected with; none if it came with a key.
        #[serde(serialize_with = "displayed_option")]
        thumbprint: Option<Thumbprint>,
    },
    /// A hub refused a device in its CONNACK.
    HubRefused {
        /// The device it said it was.
        device_id: String,
        /// Why: more than the device is told.
        reason: String,
    },
    /// A CONNECT was refused that is for no hub.
    ConnectRefused {
        /// The client id it gave.
        client_id: String,
        /// Why: more than the client is told.
        reason: String,
    },
    /// A device sent a message.
    Telemetry {
        /// Which device.
        device_id: String,
        /// Names and values, decoded, in the order sent.
        properties: Vec<(String, String)>,
        /// The message, in JSON as text with undecodable bytes replaced.
        #[serde(serialize_with = "text")]
        payload: Vec<u8>,
    },
    /// A device read its twin.
    TwinRead {
        /// Which device.
        device_id: String,
    },
    /// A device reported properties.
    TwinReported {
        /// Which device.
        device_id: String,
        /// The version after the change.
        version: u64,
    },
    /// A device answered a direct method.
    MethodAnswered {
        /// Which device.
        device_id: String,
        /// The request id of the call.
        request_id: String,
        /// The device's status.
        status: i32,
        /// Its answer.
        #[serde(serialize_with = "text")]
        payload: Vec<u8>,
    },
    /// A cloud-to-device message has left its queue.
    CommandSettled {
        /// For whom it was.
        device_id: String,
        /// Which.
        message_id: String,
        /// What became of it.
        outcome: CommandOutcome,
    },
    /// A device put a file into the place that its hub had named.
    FileStored {
        /// Which device.
        device_id: String,
        /// Where: the device's id, a slash, and the name it asked for.
        blob_name: String,
        /// In bytes.
        length: usize,
    },
    /// A device told its hub how an upload went.
    FileUploaded {
        /// Which device.
        device_id: String,
        /// As before.
        blob_name: String,
        /// SHA-256 of the file in hex digits, if it is there and the device says so.
        sha256: Option<String>,
        /// The device's account of it.
        status_code: i64,
        /// In words.
        status_description: String,
    },
    /// A fault that was asked for has struck.
    FaultStruck {
        /// With which device, by the name that the operation knows it by.
        device: String,
        /// With what it did.
        operation: Operation,
        /// What goes wrong: how the fault is called in its rule.
        fault: &'static str,
    },
    /// A device's connection to its hub ended.
    Disconnected {
        /// Which device.
        device_id: String,
        /// Why.
        reason: String,
    },
    /// So many events before this one were dropped because nobody fetched them.
    Missed {
        /// How many.
        count: u64,
    },
}

fn displayed<S: serde::Serializer>(value: impl fmt::Display, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&value)
}

#[expect(clippy::ref_option, reason = "serde hands over what the member is")]
fn displayed_option<S: serde::Serializer>(
    value: &Option<impl fmt::Display>,
    s: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => s.collect_str(value),
        None => s.serialize_none(),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn seconds<S: serde::Serializer>(value: &UnixTime, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_i64(value.as_secs())
}

fn text<S: serde::Serializer>(value: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&String::from_utf8_lossy(value))
}

impl Logged for CloudEvent {
    // Names and properties are bounded by the topic.
    fn payload_bytes(&self) -> usize {
        match self {
            Self::Telemetry { payload, .. } | Self::MethodAnswered { payload, .. } => payload.len(),
            _ => 0,
        }
    }

    fn missed(count: u64) -> Self {
        Self::Missed { count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Scripts on the other side of a pipe read these names.
    #[test]
    fn events_are_flat_json() {
        let event = CloudEvent::Telemetry {
            device_id: "d".into(),
            properties: vec![("a".into(), "b".into())],
            payload: b"{}".to_vec(),
        };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"event":"telemetry","deviceId":"d","properties":[["a","b"]],"payload":"{}"}"#
        );
    }
}
