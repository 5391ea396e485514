//! What an application asks of a device, as a line of JSON: to the agent on its standard input or socket,
//! and from one command to itself where no agent runs.
//!
//! An object with a member whose name begins with `$` is a request; any other JSON is telemetry.

use base64ct::{Base64, Encoding};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;
use zerotouch_hub::Telemetry;

/// The name of a request that wants a result.
const ID: &str = "$id";
const JSON_MEDIA_TYPE: &str = "application/json";
const UTF_8: &str = "utf-8";

/// A line.
#[derive(Debug)]
pub(crate) struct Line {
    /// What the result is called; without it only a failure is told.
    pub id: Option<Value>,
    pub request: Request,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Telemetry(Telemetry),
    /// Reported properties.
    Report(Map<String, Value>),
    /// The whole twin.
    Twin,
    Renew,
    Status,
    /// An answer to the method call of that name.
    Respond {
        call: String,
        status: i32,
        payload: Vec<u8>,
    },
    /// Events from now on.
    Subscribe,
}

/// Why a line is no request.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    #[error("the line is no JSON: {0}")]
    NoJson(serde_json::Error),
    #[error("there is no request {name:?}; there are {}", NAMES.join(", "))]
    Unknown { name: String },
    #[error("a line is one request, and beside {ID} nothing else")]
    NotOne,
    #[error("{name}: {reason}")]
    Malformed { name: &'static str, reason: String },
}

const NAMES: [&str; 7] =
    ["$telemetry", "$report", "$twin", "$renew", "$status", "$respond", "$subscribe"];

/// The members of `$telemetry`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TelemetryMembers {
    payload: Option<Value>,
    payload_text: Option<String>,
    payload_base64: Option<String>,
    #[serde(default)]
    properties: Map<String, Value>,
    message_id: Option<String>,
    correlation_id: Option<String>,
    user_id: Option<String>,
    creation_time: Option<String>,
    component: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RespondMembers {
    call: String,
    status: i32,
    payload: Option<Value>,
}

impl Line {
    /// The id is known even where the rest is wrong: whoever waits for it is told.
    pub(crate) fn parse(text: &str) -> Result<Self, (Option<Value>, RequestError)> {
        let text = text.trim();
        let value: Value =
            serde_json::from_str(text).map_err(|error| (None, RequestError::NoJson(error)))?;
        let mut members = match value {
            Value::Object(members) if members.keys().any(|name| name.starts_with('$')) => members,
            _ => return Ok(Self { id: None, request: Request::Telemetry(json_telemetry(text)) }),
        };
        let id = members.remove(ID);
        match Request::parse(members) {
            Ok(request) => Ok(Self { id, request }),
            Err(error) => Err((id, error)),
        }
    }
}

impl Request {
    fn parse(members: Map<String, Value>) -> Result<Self, RequestError> {
        let mut members = members.into_iter();
        let (Some((name, value)), None) = (members.next(), members.next()) else {
            return Err(RequestError::NotOne);
        };
        Ok(match name.as_str() {
            "$telemetry" => Self::Telemetry(telemetry(read("$telemetry", value)?)?),
            "$report" => Self::Report(read("$report", value)?),
            "$twin" => Self::Twin,
            "$renew" => Self::Renew,
            "$status" => Self::Status,
            "$respond" => {
                let members: RespondMembers = read("$respond", value)?;
                let payload = members.payload.map(|payload| payload.to_string().into_bytes());
                let (call, status) = (members.call, members.status);
                Self::Respond { call, status, payload: payload.unwrap_or_default() }
            }
            "$subscribe" => Self::Subscribe,
            _ => return Err(RequestError::Unknown { name }),
        })
    }

    /// As it is written on a line.
    pub(crate) fn to_line(&self, id: u64) -> String {
        let (name, value) = match self {
            Self::Telemetry(telemetry) => ("$telemetry", telemetry_json(telemetry)),
            Self::Report(patch) => ("$report", patch.clone().into()),
            Self::Twin => ("$twin", Value::Null),
            Self::Renew => ("$renew", Value::Null),
            Self::Status => ("$status", Value::Null),
            Self::Respond { call, status, payload } => {
                let payload: Value = serde_json::from_slice(payload).unwrap_or_default();
                ("$respond", json!({ "call": call, "status": status, "payload": payload }))
            }
            Self::Subscribe => ("$subscribe", Value::Null),
        };
        json!({ ID: id, name: value }).to_string()
    }
}

/// A result, as a line.
pub(crate) fn result_json(id: Option<&Value>, outcome: Result<Value, Value>) -> Value {
    match outcome {
        Ok(value) => json!({ "result": id, "ok": true, "value": value }),
        Err(error) => json!({ "result": id, "ok": false, "error": error }),
    }
}

/// Telemetry that is JSON, byte for byte as it was written.
pub(crate) fn json_telemetry(text: &str) -> Telemetry {
    Telemetry::new(text).content_type(JSON_MEDIA_TYPE).content_encoding(UTF_8)
}

fn read<T: for<'de> Deserialize<'de>>(name: &'static str, value: Value) -> Result<T, RequestError> {
    serde_json::from_value(value)
        .map_err(|error| RequestError::Malformed { name, reason: error.to_string() })
}

type Set = fn(Telemetry, String) -> Telemetry;

fn telemetry(members: TelemetryMembers) -> Result<Telemetry, RequestError> {
    let malformed = |reason: String| RequestError::Malformed { name: "$telemetry", reason };
    let payload = (members.payload, members.payload_text, members.payload_base64);
    let (mut telemetry, content_type, encoding) = match payload {
        (Some(value), None, None) => {
            (Telemetry::new(value.to_string()), Some(JSON_MEDIA_TYPE), Some(UTF_8))
        }
        (None, Some(text), None) => (Telemetry::new(text), None, Some(UTF_8)),
        (None, None, Some(text)) => {
            let bytes = Base64::decode_vec(&text)
                .map_err(|error| malformed(format!("payloadBase64: {error}")))?;
            (Telemetry::new(bytes), None, None)
        }
        (None, None, None) => (Telemetry::new(Vec::new()), None, None),
        _ => return Err(malformed("one of payload, payloadText and payloadBase64".into())),
    };
    for (name, value) in members.properties {
        let Value::String(value) = value else {
            return Err(malformed(format!("the property {name:?} is no text")));
        };
        telemetry = telemetry.property(name, value);
    }
    let content_type = members.content_type.or(content_type.map(Into::into));
    let encoding = members.content_encoding.or(encoding.map(Into::into));
    let system: [(Set, Option<String>); 7] = [
        (Telemetry::message_id, members.message_id),
        (Telemetry::correlation_id, members.correlation_id),
        (Telemetry::user_id, members.user_id),
        (Telemetry::creation_time, members.creation_time),
        (Telemetry::component, members.component),
        (Telemetry::content_type, content_type),
        (Telemetry::content_encoding, encoding),
    ];
    Ok(system.into_iter().fold(telemetry, |telemetry, (set, value)| match value {
        Some(value) => set(telemetry, value),
        None => telemetry,
    }))
}

/// All of a message: system properties under their own names, which begin with `$.`.
fn telemetry_json(telemetry: &Telemetry) -> Value {
    let properties: Map<String, Value> =
        telemetry.properties().map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({ "payloadBase64": Base64::encode_string(&telemetry.payload), "properties": properties })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Request, RequestError> {
        Line::parse(text).map(|line| line.request).map_err(|(_, error)| error)
    }

    // An application that knows nothing of requests writes JSON, and its bytes arrive as they are.
    #[test]
    fn plain_json_is_telemetry() {
        for text in ["{\"temperature\": 21.50}", "17", "[1, 2]", "\"x\"", "null", "{}"] {
            let Ok(Request::Telemetry(telemetry)) = parse(text) else { panic!("{text}") };
            assert_eq!(telemetry.payload, text.as_bytes());
        }
    }

    // A request that was misspelt must not become telemetry that nobody misses until somebody looks.
    #[test]
    fn what_begins_with_a_dollar_is_a_request_or_an_error() {
        assert!(matches!(parse("{\"$twins\": 1}"), Err(RequestError::Unknown { .. })));
        assert!(matches!(parse("{\"$renew\": 1, \"x\": 2}"), Err(RequestError::NotOne)));
        assert!(matches!(parse("{\"$id\": 1}"), Err(RequestError::NotOne)));
        assert!(matches!(parse("{\"$report\": []}"), Err(RequestError::Malformed { .. })));
        for members in [
            "{\"payload\": 1, \"payloadText\": \"1\"}",
            "{\"payloadBase64\": \"?\"}",
            "{\"properties\": {\"a\": 1}}",
            "{\"palyoad\": 1}",
        ] {
            let line = format!("{{\"$telemetry\": {members}}}");
            assert!(matches!(parse(&line), Err(RequestError::Malformed { .. })), "{line}");
        }
        assert!(matches!(parse("temperature: 21"), Err(RequestError::NoJson(_))));
        let (id, _) = Line::parse("{\"$id\": 7, \"$twins\": 1}").unwrap_err();
        assert_eq!(id, Some(json!(7)), "whoever waits for 7 is told");
    }

    // What one command hands to the agent arrives there as it was meant.
    #[test]
    fn a_request_survives_its_line() {
        let message = Telemetry::new(vec![0, 159, 255])
            .property("a", "b=c&d")
            .message_id("m1")
            .component("motor")
            .content_type("application/octet-stream");
        let Value::Object(patch) = json!({ "a": null, "b": { "c": 1 } }) else { unreachable!() };
        for request in [
            Request::Telemetry(message),
            Request::Telemetry(json_telemetry("{\"a\": 1}")),
            Request::Report(patch),
            Request::Twin,
            Request::Renew,
            Request::Status,
            Request::Subscribe,
            Request::Respond { call: "3".into(), status: 200, payload: b"{\"a\":1}".to_vec() },
        ] {
            let line = Line::parse(&request.to_line(9)).unwrap();
            assert_eq!((line.id, line.request), (Some(json!(9)), request));
        }
    }
}
