//! The JSON body of a refusal.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::MAX_RETRY_AFTER;

/// What a service says when it refuses: `ProvisioningServiceErrorDetails` of DPS, and the same shape
/// from IoT Hub's credential operations. Every member is kept as sent; absent ones are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceError {
    /// Six digits, of which the first three are the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<u32>,
    /// What the service's operators need to find the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracking_id: Option<String>,
    /// The service's explanation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When, by the service's clock (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_utc: Option<String>,
    /// Seconds to wait before another try, where the service says so in the body.
    #[serde(rename = "retryAfter", skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
    /// Further members, such as `requestId` and `operationExpires` of a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<serde_json::Map<String, serde_json::Value>>,
}

impl ServiceError {
    /// Parses a body; one that is not such JSON yields an error with its text as the message,
    /// because a proxy's page says more than "unparsable".
    pub fn parse(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_else(|_| {
            let text: String = String::from_utf8_lossy(body).chars().take(256).collect();
            Self { message: (!text.trim().is_empty()).then_some(text), ..Self::default() }
        })
    }

    /// The delay the body asks for, at most [`MAX_RETRY_AFTER`].
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after_seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
    }

    /// A textual member of `info`.
    pub fn info(&self, name: &str) -> Option<&str> {
        self.info.as_ref()?.get(name)?.as_str()
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.error_code, &self.message) {
            (Some(code), Some(message)) => write!(f, "{code} {}", Printable(message))?,
            (Some(code), None) => write!(f, "{code}")?,
            (None, Some(message)) => write!(f, "{}", Printable(message))?,
            (None, None) => f.write_str("no explanation given")?,
        }
        match &self.tracking_id {
            Some(id) => write!(f, " (tracking id {})", Printable(id)),
            None => Ok(()),
        }
    }
}

/// Text of another machine's, on its way to a terminal or a log: control characters are escaped.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if c.is_control() { write!(f, "{}", c.escape_default()) } else { write!(f, "{c}") }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    // The recorded 401 of the provisioning service, with a member nobody knows yet.
    #[test]
    fn keeps_code_tracking_id_and_message() {
        let error = ServiceError::parse(
            br#"{"errorCode":401002,"trackingId":"5c9a","message":"Invalid certificate.","timestampUtc":"2026-01-31T12:52:20Z","new":[1]}"#,
        );
        assert_eq!(error.error_code, Some(401_002));
        assert_eq!(error.to_string(), "401002 Invalid certificate. (tracking id 5c9a)");
    }

    #[test]
    fn conflict_details_are_readable() {
        let error = ServiceError::parse(
            br#"{"errorCode":409005,"retryAfter":99999999,"info":{"requestId":"abcd","n":1}}"#,
        );
        assert_eq!(
            (error.info("requestId"), error.info("n"), error.info("x")),
            (Some("abcd"), None, None)
        );
        assert_eq!(error.retry_after(), Some(MAX_RETRY_AFTER));
    }

    // A proxy or captive portal answers with a page; and no server may write to our terminal.
    #[test]
    fn other_bodies_become_printable_messages() {
        assert_eq!(ServiceError::parse(b"").to_string(), "no explanation given");
        assert_eq!(ServiceError::parse(b"<html>\x1b[2J").to_string(), "<html>\\u{1b}[2J");
        assert_eq!(ServiceError::parse(&[b'x'; 5_000]).message.unwrap().len(), 256);
        assert_eq!(ServiceError::parse(&[0xFF, 0xFE]).to_string(), "\u{FFFD}\u{FFFD}");
    }
}
