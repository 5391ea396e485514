//! What has happened to a device, in words for people and in JSON for machines.

use base64ct::{Base64, Encoding};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zerotouch_device::{Event, Failure, FailureClass, IssuedCertificate, RenewalFailure, State};
use zerotouch_hub::{CloudMessage, MethodEvent, TwinEvent};
use zerotouch_time::UnixTime;

/// An event, told.
#[derive(Debug)]
pub(crate) struct Telling {
    /// Its name for machines.
    pub event: &'static str,
    /// Its name for people, if it ends a step; otherwise it is a note.
    pub step: Option<&'static str>,
    pub words: String,
    pub members: Map<String, Value>,
}

impl Telling {
    fn new(event: &'static str, step: Option<&'static str>, words: String, members: Value) -> Self {
        let members = match members {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        Self { event, step, words, members }
    }

    /// One line of a stream of events.
    pub(crate) fn json(&self, at: Option<UnixTime>) -> Value {
        let mut line = Map::new();
        line.insert("event".into(), self.event.into());
        line.insert("time".into(), at.map(date).into());
        line.extend(self.members.clone());
        line.into()
    }
}

/// `None` for what is nobody's business but the engine's.
#[allow(clippy::too_many_lines, reason = "one arm for each event")]
pub(crate) fn tell(event: &Event) -> Option<Telling> {
    Some(match event {
        Event::StateChanged(state) => {
            let members = state_json(state);
            Telling::new("state", None, state.to_string(), members)
        }
        Event::KeyCreated { algorithm } => Telling::new(
            "keyCreated",
            Some("key pair"),
            format!("new {algorithm} key pair, stored before anything is asked for with it"),
            json!({ "algorithm": algorithm.to_string() }),
        ),
        Event::ProvisioningConnected { host } => Telling::new(
            "provisioningConnected",
            Some("dps"),
            format!("connected to {host} over TLS, and subscribed"),
            json!({ "host": host }),
        ),
        Event::Assigning { next_poll, operation_id } => {
            let seconds = next_poll.as_secs_f64();
            Telling::new(
                "assigning",
                None,
                format!("operation {operation_id} is under way; asking again in {seconds:.1} s"),
                json!({ "operationId": operation_id, "retryInSeconds": seconds }),
            )
        }
        Event::Throttled { status, error, retry_in } => {
            let seconds = retry_in.as_secs_f64();
            Telling::new(
                "throttled",
                None,
                format!("status {status}: {error}; asking again in {seconds:.1} s"),
                json!({ "status": status, "message": error.to_string(), "trackingId": error.tracking_id, "retryInSeconds": seconds }),
            )
        }
        Event::Assigned { assignment, substatus } => {
            let substatus = substatus.as_deref().unwrap_or("assigned");
            let (hub, device_id) = (&assignment.assigned_hub, &assignment.device_id);
            Telling::new(
                "assigned",
                Some("assigned"),
                format!("hub {hub}, device {device_id} ({substatus})"),
                json!({ "hub": hub, "deviceId": device_id, "substatus": substatus }),
            )
        }
        Event::CertificateIssued(issued) => Telling::new(
            "certificateIssued",
            Some("certificate"),
            certificate_words(issued),
            certificate_json(issued),
        ),
        Event::Connected { assignment, credential, thumbprint } => {
            let thumbprint = thumbprint.as_ref().map(ToString::to_string);
            let shown = thumbprint.as_ref().map_or_else(|| "a token".into(), short);
            let (hub, device_id) = (&assignment.assigned_hub, &assignment.device_id);
            Telling::new(
                "connected",
                Some("hub"),
                format!("connected to {hub} with the {credential}, {shown}"),
                json!({ "hub": hub, "deviceId": device_id, "credential": credential.to_string(), "thumbprint": thumbprint }),
            )
        }
        Event::Activated { generation, thumbprint } => Telling::new(
            "activated",
            Some("activated"),
            format!("accepted by the hub: generation {generation} is now the stored identity"),
            json!({ "generation": generation, "thumbprint": thumbprint.to_string() }),
        ),
        Event::TelemetryDropped { reason, .. } => Telling::new(
            "telemetryDropped",
            None,
            format!("a message is dropped: {reason}"),
            json!({ "reason": reason.to_string() }),
        ),
        Event::Message(message) => Telling::new(
            "message",
            None,
            format!("a message of {} bytes from the cloud", message.payload.len()),
            message_json(message),
        ),
        Event::Method(event) => return method(event),
        Event::Twin(event) => return twin(event),
        Event::RenewalRequested { request_id } => Telling::new(
            "renewalRequested",
            Some("renewal"),
            format!("new request sent over the hub, id {request_id}"),
            json!({ "requestId": request_id }),
        ),
        Event::RenewalAccepted { operation_expires } => Telling::new(
            "renewalAccepted",
            Some("accepted"),
            "202: the hub has taken the request".into(),
            json!({ "operationExpires": operation_expires }),
        ),
        Event::RenewalRedirected => Telling::new(
            "renewalRedirected",
            None,
            "the hub did not renew: the provisioning service is asked".into(),
            json!({}),
        ),
        Event::RenewalFailed { failure, retry_in } => {
            let seconds = retry_in.as_secs_f64();
            let mut members = renewal_failure_json(failure);
            members["retryInSeconds"] = seconds.into();
            let words = format!("the renewal failed: {failure}; the certificate in use stays");
            Telling::new("renewalFailed", None, words, members)
        }
        Event::CertificateExpiring { generation, not_after } => Telling::new(
            "certificateExpiring",
            None,
            format!("the certificate ends {}, and there is no new one yet", date(*not_after)),
            json!({ "generation": generation, "notAfter": date(*not_after) }),
        ),
        Event::RolledBack { generation } => Telling::new(
            "rolledBack",
            None,
            format!("generation {generation} was refused and is discarded; back to the one before"),
            json!({ "generation": generation }),
        ),
        Event::TakeoverSuspected { connections } => Telling::new(
            "takeoverSuspected",
            None,
            format!(
                "the last {connections} connections ended soon after they began: another device may be using this identity"
            ),
            json!({ "connections": connections }),
        ),
        Event::AttemptFailed { scope, credential, failure, class, retry_in } => {
            let seconds = retry_in.map(|retry_in| retry_in.as_secs_f64());
            let next = seconds.map_or_else(
                || "no further attempt".into(),
                |seconds| format!("next attempt in {seconds:.1} s"),
            );
            let mut members = failure_json(failure);
            members["scope"] = scope.to_string().into();
            members["credential"] = credential.to_string().into();
            members["class"] = class_name(*class).into();
            members["retryInSeconds"] = seconds.into();
            Telling::new("attemptFailed", None, format!("{scope}: {failure}; {next}"), members)
        }
        Event::Stopped => Telling::new("stopped", None, "stopped".into(), Value::Null),
        // Acknowledgements are told to whoever waits for them.
        _ => return None,
    })
}

fn class_name(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Retryable => "retryable",
        FailureClass::IdentityTerminal => "identityTerminal",
        FailureClass::Terminal => "terminal",
    }
}

pub(crate) fn state_json(state: &State) -> Value {
    let name = match state {
        State::Waiting { .. } => "waiting".into(),
        state => state.to_string(),
    };
    match state {
        State::Waiting { scope, .. } => json!({ "state": name, "scope": scope.to_string() }),
        _ => json!({ "state": name }),
    }
}

fn failure_json(failure: &Failure) -> Value {
    json!({
        "layer": failure.layer().to_string(),
        "code": failure.code(),
        "message": failure.to_string(),
        "trackingId": failure.service_error().and_then(|error| error.tracking_id.as_deref()),
    })
}

fn renewal_failure_json(failure: &RenewalFailure) -> Value {
    match failure {
        RenewalFailure::Device(failure) => failure_json(failure),
        failure => json!({ "message": failure.to_string() }),
    }
}

/// A payload: as JSON where it is that, as text where it is that, otherwise in Base64.
pub(crate) fn payload_json(payload: &[u8]) -> (&'static str, Value) {
    if let Ok(value) = serde_json::from_slice(payload) {
        return ("payload", value);
    }
    match str::from_utf8(payload) {
        Ok(text) => ("payloadText", text.into()),
        Err(_) => ("payloadBase64", Base64::encode_string(payload).into()),
    }
}

fn message_json(message: &CloudMessage) -> Value {
    let (name, payload) = payload_json(&message.payload);
    let properties = message.properties.iter();
    let properties: Map<String, Value> =
        properties.map(|(name, value)| (name.clone(), value.clone().into())).collect();
    json!({ name: payload, "properties": properties })
}

/// Calls are named by the agent, which knows who may answer them.
fn method(event: &MethodEvent) -> Option<Telling> {
    let MethodEvent::TurnedAway { method, calls } = event else { return None };
    let words = format!("{calls} calls turned away, of {method}: too many await an answer");
    let members = json!({ "method": method, "calls": calls });
    Some(Telling::new("methodsTurnedAway", None, words, members))
}

fn twin(event: &TwinEvent) -> Option<Telling> {
    Some(match event {
        TwinEvent::Read { desired, reported, .. } => Telling::new(
            "twin",
            None,
            format!("twin read, desired version {}", desired.version),
            json!({
                "desired": desired.values, "desiredVersion": desired.version,
                "reported": reported.values, "reportedVersion": reported.version,
            }),
        ),
        TwinEvent::Desired { patch, version } => Telling::new(
            "desired",
            None,
            format!("desired properties changed, version {version}"),
            json!({ "patch": patch, "version": version }),
        ),
        TwinEvent::ReadFailed { error, retry_in } => Telling::new(
            "twinReadFailed",
            None,
            format!("the twin was not read: {error}"),
            json!({ "message": error.to_string(), "retryInSeconds": retry_in.as_secs_f64() }),
        ),
        // Told to who reported.
        _ => return None,
    })
}

fn certificate_words(issued: &IssuedCertificate) -> String {
    let leaf = issued.chain.leaf();
    format!(
        "{}, {} to {}, chain of {} by {}; matches the key, stored",
        short(&leaf.thumbprint()),
        date(leaf.not_before()),
        date(leaf.not_after()),
        issued.chain.iter().len(),
        leaf.issuer(),
    )
}

pub(crate) fn certificate_json(issued: &IssuedCertificate) -> Value {
    let leaf = issued.chain.leaf();
    json!({
        "generation": issued.generation,
        "thumbprint": leaf.thumbprint().to_string(),
        "subject": leaf.subject(),
        "issuer": leaf.issuer(),
        "notBefore": date(leaf.not_before()),
        "notAfter": date(leaf.not_after()),
        "chainLength": issued.chain.iter().len(),
    })
}

/// As much of a thumbprint as tells two apart by eye; the JSON has it whole.
pub(crate) fn short(thumbprint: &impl ToString) -> String {
    format!("thumbprint {}…", &thumbprint.to_string()[..16])
}

/// RFC 3339.
pub(crate) fn date(at: UnixTime) -> String {
    let date =
        OffsetDateTime::from_unix_timestamp(at.as_secs()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    date.format(&Rfc3339).unwrap_or_default()
}
