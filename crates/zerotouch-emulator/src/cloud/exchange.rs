//! A request over HTTPS and its answer, whole.

use super::http::EventFilter;

/// The longest body of a request that is taken, in bytes: files are kept in memory while they pass.
pub const MAX_HTTP_BODY: usize = 16 * 1024 * 1024;

/// Names a request over HTTPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A request over HTTPS, whole.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// Its method, upper case.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The host it is for, perhaps with a port.
    pub host: String,
    /// What authorizes it, if the client's certificate does not.
    pub authorization: Option<String>,
    /// Which version of a thing it is to change.
    pub if_match: Option<String>,
    /// The other headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// What follows the headers.
    pub body: Vec<u8>,
    /// What the client presented in TLS, DER, leaf first, empty if nothing; it holds the leaf's key.
    pub client_chain: Vec<Vec<u8>>,
}

impl HttpRequest {
    /// The value of one of the other headers; its name is in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(given, _)| given == name)?;
        Some(&header.1)
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// Headers beside `Content-Length`.
    pub headers: Vec<(&'static str, String)>,
    /// What follows them.
    pub body: Vec<u8>,
    /// What follows that for as long as the client listens: the events that pass.
    pub events: Option<EventFilter>,
}

impl HttpResponse {
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), events: None }
    }

    pub(super) fn json(status: u16, body: Vec<u8>) -> Self {
        let headers = vec![("content-type", "application/json; charset=utf-8".into())];
        Self { status, headers, body, events: None }
    }
}

/// What became of the call of a direct method that somebody waits for.
#[derive(Debug)]
pub(super) enum CallOutcome {
    /// The device has answered.
    Answered { status: i32, payload: Vec<u8> },
    /// It has not, in time.
    TimedOut,
}
