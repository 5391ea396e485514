//! Renewing a certificate over the hub's connection.
//!
//! | state | input | next |
//! |---|---|---|
//! | `Idle` | `start` (the subscription is granted) | `Asked`; `Done` if the operation has expired meanwhile |
//! | | 200, which a session that outlived its connection delivers at once | `Done` |
//! | `Asked` | 202 | `Accepted` |
//! | `Asked`, `Accepted` | 200 with certificates | `Done` |
//! | | 409 naming our own request id | `Accepted`: the service already has it |
//! | | 409 otherwise, the first | `Asked`, to replace the operation that is in the way |
//! | | 412 after that | `Asked` without: it has gone by itself |
//! | | any other status | `Done` |
//! | | no answer in time | `Done` |
//! | | `interrupt` (the connection ended) | `Idle`, to be started again with the same request |
//!
//! Each 202 begins the wait for the certificate anew. The service holds the result until it is delivered, so after a lost connection the same request
//! goes out again under the same request id. An operation under another id is not this device's any more:
//! the key it was for is gone.

mod error;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use thiserror::Error;
use zerotouch_time::{Instant, Now, UnixTime};
use zerotouch_wire::{ReplyTopic, ServiceError};

pub use self::error::{Recovery, RenewalError};
use crate::Request;
use crate::wire::{
    CertificateRequestAccepted, IssueCertificateRequest, IssuedCertificates, MAX_CSR_LENGTH,
    issue_certificate_topic,
};

/// The name of one credential operation: 4 to 36 letters, digits and hyphens, no hyphen at the ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(String);

/// The text is not within the service's rules for request ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a request id has 4 to 36 letters, digits and hyphens, with no hyphen at either end")]
pub struct RequestIdError;

impl RequestId {
    /// Takes `text` if it is within the service's rules.
    pub fn new(text: &str) -> Result<Self, RequestIdError> {
        let legal = (4..=36).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        legal.then(|| Self(text.into())).ok_or(RequestIdError)
    }

    /// The request id written from 128 random bits.
    pub fn from_bits(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Limits of a renewal.
#[derive(Clone, Copy, Debug)]
pub struct RenewalConfig {
    /// How long to wait for 202, and from then for 200; default 120 s.
    pub response_timeout: Duration,
}

impl Default for RenewalConfig {
    fn default() -> Self {
        Self { response_timeout: Duration::from_secs(120) }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenewalEvent {
    /// The service has taken the request.
    Accepted(CertificateRequestAccepted),
    /// The certificates, leaf first as sent, base64 of DER each; nothing about them has been checked.
    /// The last event.
    Issued(Vec<String>),
    /// It ended without a certificate. The last event.
    Failed(RenewalError),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    Asked { until: Instant },
    Accepted { until: Instant },
    Done,
}

/// One renewal: one request id, one certificate request.
#[derive(Debug)]
pub struct Renewal {
    config: RenewalConfig,
    request_id: RequestId,
    body: IssueCertificateRequest,
    /// Whether an operation in the way was to be replaced before: once is enough.
    has_replaced: bool,
    /// Until when the service keeps the operation.
    expires: Option<UnixTime>,
    state: State,
    request: Option<Request>,
    event: Option<RenewalEvent>,
}

impl Renewal {
    /// A renewal for the device of the session, with a request in base64 of PKCS#10 DER. What the hub
    /// would refuse for its form is refused here.
    pub fn new(
        config: RenewalConfig,
        device_id: &str,
        request_id: RequestId,
        csr: String,
    ) -> Result<Self, RenewalError> {
        if csr.len() > MAX_CSR_LENGTH {
            return Err(RenewalError::TooLarge { length: csr.len() });
        }
        if !is_base64(&csr) {
            return Err(RenewalError::NotBase64);
        }
        let body = IssueCertificateRequest { id: device_id.into(), csr, replace: None };
        Ok(Self {
            config,
            request_id,
            body,
            has_replaced: false,
            expires: None,
            state: State::Idle,
            request: None,
            event: None,
        })
    }

    /// The subscription to [`crate::wire::CREDENTIALS`] was granted: ask, or ask again after a lost
    /// connection. Does nothing while an answer is awaited or when the renewal has ended.
    pub fn start(&mut self, now: Now) {
        if !matches!(self.state, State::Idle) {
            return;
        }
        match self.expires.zip(now.wall) {
            Some((at, wall)) if wall >= at => {
                self.end(RenewalEvent::Failed(RenewalError::Expired { at }));
            }
            _ => self.ask(now.monotonic),
        }
    }

    fn ask(&mut self, now: Instant) {
        self.request = Some(Request {
            topic: issue_certificate_topic(self.request_id.as_str()),
            // Two or three strings: nothing in it can fail to serialise.
            payload: serde_json::to_vec(&self.body).unwrap_or_default(),
        });
        self.state = State::Asked { until: now + self.config.response_timeout };
    }

    /// The connection ended; the operation goes on at the service.
    pub fn interrupt(&mut self) {
        if !matches!(self.state, State::Done) {
            self.state = State::Idle;
            self.request = None;
        }
    }

    /// An answer on [`crate::wire::CREDENTIALS`]; one to another request is ignored. To be called before
    /// [`Renewal::start`], too: a certificate may come before this connection has asked for it.
    pub fn handle_reply(&mut self, reply: &ReplyTopic<'_>, body: &[u8], now: Instant) {
        let awaited = match self.state {
            State::Idle => reply.status == 200,
            State::Asked { .. } | State::Accepted { .. } => true,
            State::Done => false,
        };
        if !awaited || reply.request_id() != Some(self.request_id.as_str()) {
            return;
        }
        let accepted = State::Accepted { until: now + self.config.response_timeout };
        match reply.status {
            202 => {
                let body: CertificateRequestAccepted =
                    serde_json::from_slice(body).unwrap_or_default();
                self.expires = body.expires().or(self.expires);
                // What was in the way is gone: asked again, this would cancel our own operation.
                self.body.replace = None;
                self.state = accepted;
                self.event = Some(RenewalEvent::Accepted(body));
            }
            200 => {
                let certificates =
                    serde_json::from_slice(body).map(IssuedCertificates::into_certificates);
                self.end(match certificates {
                    Ok(certificates) if !certificates.is_empty() => {
                        RenewalEvent::Issued(certificates)
                    }
                    _ => RenewalEvent::Failed(RenewalError::Unreadable {
                        excerpt: String::from_utf8_lossy(body).chars().take(64).collect(),
                    }),
                });
            }
            status => {
                let error = ServiceError::parse(body);
                let in_the_way = error.info("requestId");
                match status {
                    409 if in_the_way == Some(self.request_id.as_str()) => {
                        let expires = error.info("operationExpires");
                        self.expires = expires.and_then(UnixTime::parse_rfc3339).or(self.expires);
                        self.state = accepted;
                        return;
                    }
                    409 if !self.has_replaced => {
                        self.has_replaced = true;
                        // A name that the hub itself would not take is no name.
                        let named = in_the_way.filter(|id| RequestId::new(id).is_ok());
                        self.body.replace = Some(named.unwrap_or("*").into());
                        return self.ask(now);
                    }
                    412 if self.body.replace.take().is_some() => return self.ask(now),
                    _ => {}
                }
                let retry_after = reply.retry_after().or(error.retry_after());
                self.end(RenewalEvent::Failed(RenewalError::Refused {
                    status,
                    error: Box::new(error),
                    retry_after,
                }));
            }
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let what = match self.state {
            State::Asked { until } if now >= until => "answer",
            State::Accepted { until } if now >= until => "certificate",
            _ => return,
        };
        let after = self.config.response_timeout;
        self.end(RenewalEvent::Failed(RenewalError::TimedOut { what, after }));
    }

    /// The message to publish, if there is one.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.request.take()
    }

    /// The event, if there is one. To be drained after every input: a second replaces it.
    pub fn poll_event(&mut self) -> Option<RenewalEvent> {
        self.event.take()
    }

    /// When [`Renewal::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Asked { until } | State::Accepted { until } => Some(until),
            State::Idle | State::Done => None,
        }
    }

    fn end(&mut self, event: RenewalEvent) {
        self.state = State::Done;
        self.request = None;
        self.event = Some(event);
    }
}

/// Base64 of the standard alphabet, with its padding and nothing else.
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    !digits.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - digits.len() <= 2
        && digits.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}
