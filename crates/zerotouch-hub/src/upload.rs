//! Uploading a file: three HTTPS requests, one after the other (Azure docs, "Upload files with IoT Hub").
//!
//! | state | input | next |
//! |---|---|---|
//! | `Opening` | 200 that names a place | `Storing` |
//! | | anything else | `Done`: there is nothing to take back |
//! | `Storing` | 201 | `Reporting` the success |
//! | | anything else | `Reporting` the failure: the hub allows few open uploads |
//! | `Reporting` | 2xx | `Done` |
//! | | anything else | `Done`: the hub was not told |
//!
//! The file itself passes by: whoever sends the second request has it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::mem;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;
use zerotouch_wire::{ServiceError, percent_encode, percent_encode_to};

/// The api-version of the vendor's Node.js client.
pub const FILE_UPLOAD_API_VERSION: &str = "2021-04-12";

/// The longest name Azure Storage allows.
const MAX_BLOB_NAME_LENGTH: usize = 1024;
/// The longest host name DNS allows.
const MAX_HOST_LENGTH: usize = 253;
const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];
const BLOB: &[(&str, &str)] = &[("x-ms-blob-type", "BlockBlob")];

/// A request to make over HTTPS, port 443 unless the host names another.
#[derive(PartialEq, Eq)]
pub struct HttpRequest {
    /// `POST` or `PUT`.
    pub method: &'static str,
    /// Whom to connect to, and the `Host` header.
    pub host: String,
    /// Path and query. That of the second request is a credential, and not printed whole.
    pub target: Zeroizing<String>,
    /// Headers beside `Host`, `Content-Length` and what authenticates the device.
    pub headers: &'static [(&'static str, &'static str)],
    /// What follows them.
    pub body: HttpBody,
    /// Whether the device shows its credential: its certificate in TLS, or a token in `Authorization`.
    /// Azure Storage is shown none.
    pub authenticated: bool,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, _) = self.target.split_once('?').unwrap_or((self.target.as_str(), ""));
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("host", &self.host)
            .field("path", &path)
            .field("body", &self.body)
            .field("authenticated", &self.authenticated)
            .finish_non_exhaustive()
    }
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpBody {
    /// These bytes.
    Json(Vec<u8>),
    /// The file.
    File,
}

/// Which of the three requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadStep {
    /// The hub names a place.
    Open,
    /// The file goes there.
    Store,
    /// The hub is told how that went.
    Report,
}

impl fmt::Display for UploadStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "to open the upload",
            Self::Store => "to store the file",
            Self::Report => "to report the upload",
        })
    }
}

/// What happened. The last and only event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UploadEvent {
    /// The file is stored, and the hub knows.
    Uploaded {
        /// The name the hub gave it: the device id, a slash, and the name asked for.
        blob_name: String,
    },
    /// It is not, or the hub does not know.
    Failed(UploadError),
}

/// Why an upload failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The name is no blob's.
    #[error("a blob's name has 1 to {MAX_BLOB_NAME_LENGTH} characters and no control characters")]
    BlobName,
    /// The request was refused.
    #[error("refused {step} with status {status}: {error}")]
    Refused {
        /// Which request.
        step: UploadStep,
        /// The status.
        status: u16,
        /// The body. Of Azure Storage's, which is XML, the code as the message.
        error: Box<ServiceError>,
    },
    /// There was no answer.
    #[error("no answer to the request {0}")]
    NoAnswer(UploadStep),
    /// The hub has opened the upload and names no place that a request can be made to. The body is not
    /// kept, as it may hold a credential.
    #[error("the hub named no place for the file")]
    NoPlace,
}

#[derive(Debug)]
enum State {
    Opening,
    Storing { correlation_id: String, blob_name: String },
    Reporting { outcome: Result<String, UploadError> },
    Done,
}

/// One file on its way.
#[derive(Debug)]
pub struct FileUpload {
    hub: String,
    /// Up to where the three differ.
    path: String,
    api_version: String,
    state: State,
    request: Option<HttpRequest>,
    event: Option<UploadEvent>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Open<'a> {
    blob_name: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    correlation_id: String,
    host_name: String,
    container_name: String,
    blob_name: String,
    sas_token: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    correlation_id: &'a str,
    is_success: bool,
    status_code: i32,
    status_description: &'a str,
}

impl FileUpload {
    /// An upload of a device at its hub, under a name of the device's choice that may hold slashes.
    /// `api_version` is [`FILE_UPLOAD_API_VERSION`] unless there is a reason.
    pub fn new(
        hub: &str,
        device_id: &str,
        api_version: &str,
        blob_name: &str,
    ) -> Result<Self, UploadError> {
        let length = blob_name.chars().count();
        if !(1..=MAX_BLOB_NAME_LENGTH).contains(&length) || blob_name.contains(char::is_control) {
            return Err(UploadError::BlobName);
        }
        let mut upload = Self {
            hub: hub.into(),
            path: format!("/devices/{}/files", percent_encode(device_id)),
            api_version: api_version.into(),
            state: State::Opening,
            request: None,
            event: None,
        };
        upload.ask_hub("", &Open { blob_name });
        Ok(upload)
    }

    /// The next request to make.
    pub fn poll_request(&mut self) -> Option<HttpRequest> {
        self.request.take()
    }

    /// What came of it all.
    pub fn poll_event(&mut self) -> Option<UploadEvent> {
        self.event.take()
    }

    /// The answer to the last request.
    pub fn handle_response(&mut self, status: u16, body: &[u8]) {
        let refused = |step| UploadError::Refused {
            step,
            status,
            error: Box::new(match step {
                UploadStep::Store => storage_error(body),
                _ => ServiceError::parse(body),
            }),
        };
        match mem::replace(&mut self.state, State::Done) {
            State::Opening if status == 200 => self.store(body),
            State::Opening => self.end(Err(refused(UploadStep::Open))),
            State::Storing { correlation_id, blob_name } => {
                let outcome =
                    if status == 201 { Ok(blob_name) } else { Err(refused(UploadStep::Store)) };
                self.report(&correlation_id, status.into(), outcome);
            }
            State::Reporting { outcome } => self.end(match outcome {
                Ok(_) if !(200..300).contains(&status) => Err(refused(UploadStep::Report)),
                outcome => outcome,
            }),
            State::Done => {}
        }
    }

    /// The last request had no answer, and will not have one.
    pub fn handle_no_answer(&mut self) {
        match mem::replace(&mut self.state, State::Done) {
            State::Opening => self.end(Err(UploadError::NoAnswer(UploadStep::Open))),
            State::Storing { correlation_id, .. } => {
                let error = UploadError::NoAnswer(UploadStep::Store);
                // The vendor's Node.js client has this number for it.
                self.report(&correlation_id, -1, Err(error));
            }
            State::Reporting { outcome } => {
                self.end(outcome.and(Err(UploadError::NoAnswer(UploadStep::Report))));
            }
            State::Done => {}
        }
    }

    fn store(&mut self, body: &[u8]) {
        let Some((place, target)) = parse_place(body) else {
            return self.end(Err(UploadError::NoPlace));
        };
        let Place { correlation_id, host_name: host, blob_name, .. } = place;
        self.request = Some(HttpRequest {
            method: "PUT",
            host,
            target,
            headers: BLOB,
            body: HttpBody::File,
            authenticated: false,
        });
        self.state = State::Storing { correlation_id, blob_name };
    }

    fn report(
        &mut self,
        correlation_id: &str,
        status_code: i32,
        outcome: Result<String, UploadError>,
    ) {
        let status_description = if outcome.is_ok() { "stored" } else { "not stored" };
        let is_success = outcome.is_ok();
        let report = Report { correlation_id, is_success, status_code, status_description };
        self.ask_hub("/notifications", &report);
        self.state = State::Reporting { outcome };
    }

    fn ask_hub(&mut self, below: &str, body: &impl Serialize) {
        let Self { path, api_version, .. } = self;
        let target = format!("{path}{below}?api-version={}", percent_encode(api_version));
        self.request = Some(HttpRequest {
            method: "POST",
            host: self.hub.clone(),
            target: target.into(),
            headers: JSON,
            // Strings and numbers: nothing in it can fail to serialise.
            body: HttpBody::Json(serde_json::to_vec(body).unwrap_or_default()),
            authenticated: true,
        });
    }

    fn end(&mut self, outcome: Result<String, UploadError>) {
        self.event = Some(match outcome {
            Ok(blob_name) => UploadEvent::Uploaded { blob_name },
            Err(error) => UploadEvent::Failed(error),
        });
    }
}

/// The place that the hub names, and path and query there, if a request can be made of them: nothing that
/// the hub writes may end the line it is written on.
fn parse_place(body: &[u8]) -> Option<(Place, Zeroizing<String>)> {
    let mut place: Place = serde_json::from_slice(body).ok()?;
    let token = Zeroizing::new(mem::take(&mut place.sas_token));
    // Azure Storage is on 443; what stands in for it may name a port.
    let (host, port) = place.host_name.split_once(':').unwrap_or((&place.host_name, "443"));
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let legal = (1..=MAX_HOST_LENGTH).contains(&host.len())
        && host.bytes().all(is_host)
        && port.parse::<u16>().is_ok_and(|port| port != 0)
        && token.starts_with('?')
        && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !legal || place.container_name.is_empty() || place.blob_name.is_empty() {
        return None;
    }
    // One allocation, so that no copy of the token is left behind by a growing buffer.
    let names = place.container_name.len() + place.blob_name.len();
    let mut target = Zeroizing::new(String::with_capacity(2 + 3 * names + token.len()));
    for level in [place.container_name.as_str()].into_iter().chain(place.blob_name.split('/')) {
        target.push('/');
        percent_encode_to(&mut target, level);
    }
    target.push_str(&token);
    Some((place, target))
}

/// The code of Azure Storage's XML; the rest may repeat what it was asked.
fn storage_error(body: &[u8]) -> ServiceError {
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let message = code.map(|(code, _)| code.chars().take(64).collect());
    ServiceError { message, ..ServiceError::default() }
}
