//! Asking somebody else for a device's hub (Azure docs, "Understand custom allocation policies").
//!
//! The engine puts the question; whoever drives it carries it over HTTP and brings back what came of it.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::allocation::Map;
use super::fixture::{InitialTwin, Terms};
use super::http::InitialTwinBody;

/// The largest answer that is taken, in bytes.
pub const MAX_WEBHOOK_ANSWER: usize = 256 * 1024;

/// Names a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookId {
    pub(super) registration_id: String,
    pub(super) operation_id: String,
}

/// A question, to be sent by POST as `application/json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookRequest {
    /// Which it is.
    pub id: WebhookId,
    /// Where to: `http://…`.
    pub url: String,
    /// JSON. It holds no keys.
    pub body: Vec<u8>,
}

/// What came of a question: status and body of the answer, or why there is none.
pub type WebhookResult = Result<(u16, Vec<u8>), String>;

/// Where a device goes, and what it gets.
#[derive(Clone, Debug)]
pub(super) struct Allotment {
    pub(super) hub: usize,
    /// Instead of the enrolment's.
    pub(super) initial_twin: Option<InitialTwin>,
    /// For the device.
    pub(super) payload: Option<Box<RawValue>>,
}

impl Allotment {
    pub(super) const fn at(hub: usize) -> Self {
        Self { hub, initial_twin: None, payload: None }
    }
}

/// Why an answer does not say where a device goes.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebhookFault {
    #[error("there is no answer: {0}")]
    Unanswered(String),
    #[error("the status is {0}")]
    Status(u16),
    #[error("the answer cannot be read: {0}")]
    Unreadable(serde_json::Error),
    #[error("the answer names the hub {0:?}, which the enrolment does not allow")]
    Hub(String),
    #[error("the answer's initial twin is too large")]
    Twin,
}

impl WebhookFault {
    /// As seen from the real service (recorded), whatever it was.
    pub(super) const CODE: u32 = 400_207;

    pub(super) fn message(&self) -> String {
        match self {
            Self::Status(status) => format!("Custom allocation failed with status code: {status}"),
            Self::Unanswered(_) => "Custom allocation failed: no answer. (synthetic text)".into(),
            Self::Unreadable(_) | Self::Hub(_) | Self::Twin => {
                "Custom allocation failed: unusable answer. (synthetic text)".into()
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    iot_hub_host_name: String,
    initial_twin: Option<InitialTwinBody>,
    payload: Option<Box<RawValue>>,
}

/// Reads an answer to a question about a device of an enrolment with these terms.
pub(super) fn read(
    result: WebhookResult,
    terms: Terms<'_>,
    map: Map<'_>,
) -> Result<Allotment, WebhookFault> {
    let (status, body) = result.map_err(WebhookFault::Unanswered)?;
    if status != 200 {
        return Err(WebhookFault::Status(status));
    }
    let answer: Answer = serde_json::from_slice(&body).map_err(WebhookFault::Unreadable)?;
    let name = answer.iot_hub_host_name;
    let hub = map.open(terms).find(|(_, hub)| *hub == name);
    let (hub, _) = hub.ok_or(WebhookFault::Hub(name))?;
    let initial_twin = answer.initial_twin.map(InitialTwin::from);
    if initial_twin.as_ref().is_some_and(|twin| twin.twin().is_err()) {
        return Err(WebhookFault::Twin);
    }
    Ok(Allotment { hub, initial_twin, payload: answer.payload })
}
