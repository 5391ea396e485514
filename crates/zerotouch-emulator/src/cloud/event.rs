//! What goes out of the engine: bytes for connections, and a record of what happened.

use std::collections::VecDeque;
use std::fmt;

use serde::Serialize;
use zerotouch_credentials::Thumbprint;
use zerotouch_time::UnixTime;

/// The caller's name for a transport connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.0)
    }
}

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

/// The events nobody has fetched yet, bounded in number and in bytes.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    waiting: VecDeque<CloudEvent>,
    payload_bytes: usize,
    missed: u64,
}

impl EventLog {
    /// An onlooker that sleeps must not cost memory without bound; the newest events are kept.
    const CAPACITY: usize = 16 * 1024;
    /// What devices' messages may take of it.
    const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;

    pub(super) fn push(&mut self, event: CloudEvent) {
        self.payload_bytes += event.payload_bytes();
        self.waiting.push_back(event);
        while self.waiting.len() > Self::CAPACITY || self.payload_bytes > Self::MAX_PAYLOAD_BYTES {
            self.take();
            self.missed += 1;
        }
    }

    pub(super) fn pop(&mut self) -> Option<CloudEvent> {
        match std::mem::take(&mut self.missed) {
            0 => self.take(),
            count => Some(CloudEvent::Missed { count }),
        }
    }

    fn take(&mut self) -> Option<CloudEvent> {
        let event = self.waiting.pop_front()?;
        self.payload_bytes -= event.payload_bytes();
        Some(event)
    }
}

impl CloudEvent {
    /// How much of a device's message it holds; names and properties are bounded by the topic.
    fn payload_bytes(&self) -> usize {
        match self {
            Self::Telemetry { payload, .. } | Self::MethodAnswered { payload, .. } => payload.len(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What was dropped is said, once, before what remains.
    #[test]
    fn a_full_log_says_what_it_lost() {
        let mut log = EventLog::default();
        for n in 0..EventLog::CAPACITY + 3 {
            log.push(CloudEvent::TwinRead { device_id: n.to_string() });
        }
        assert_eq!(log.pop(), Some(CloudEvent::Missed { count: 3 }));
        assert_eq!(log.pop(), Some(CloudEvent::TwinRead { device_id: "3".into() }));
    }

    // Few events can be large, too.
    #[test]
    fn large_messages_fill_the_log_sooner() {
        let message = |byte: u8| CloudEvent::Telemetry {
            device_id: "d".into(),
            properties: Vec::new(),
            payload: vec![byte; EventLog::MAX_PAYLOAD_BYTES / 4],
        };
        let mut log = EventLog::default();
        (0..6).for_each(|byte| log.push(message(byte)));
        assert_eq!(log.pop(), Some(CloudEvent::Missed { count: 2 }));
        assert_eq!(log.pop(), Some(message(2)));
        (6..7).for_each(|byte| log.push(message(byte)));
        assert_eq!(log.pop(), Some(message(3)));
    }

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
