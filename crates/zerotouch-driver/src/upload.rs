//! Uploading a file: the three requests that [`FileUpload`] asks for, each on a connection of its own.

use std::io::{self, Read};
use std::time::Duration;

use thiserror::Error;
use zeroize::Zeroizing;
use zerotouch_device::{HubAccess, TransportFailure};
use zerotouch_hub::{FILE_UPLOAD_API_VERSION, FileUpload, HttpBody, HttpRequest, UploadEvent};

use crate::http::Response;
use crate::{Dialler, blocking, transport_failure};

/// Where HTTPS is unless something else is said.
const HTTPS_PORT: u16 = 443;
/// How long the other side may be silent. Azure Storage answers once it has the whole file.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a file was not uploaded, or the hub does not know that it was.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum UploadError {
    /// There is no hub at the other end now, so it is not known with what one would be asked.
    #[error("not connected to the hub")]
    NotConnected,
    /// One of the requests failed.
    #[error(transparent)]
    Failed(#[from] zerotouch_hub::UploadError),
    /// The device has stopped.
    #[error("the device has stopped")]
    Stopped,
}

/// Uploads a file under a name of the device's choice, and yields the name that the hub gave it. Waits for
/// the network.
pub fn upload(
    dialler: &Dialler,
    access: &HubAccess,
    blob_name: &str,
    file: &[u8],
) -> Result<String, UploadError> {
    let (hub, device_id) = (&access.assignment.assigned_hub, &access.assignment.device_id);
    let mut upload = FileUpload::new(hub, device_id, FILE_UPLOAD_API_VERSION, blob_name)?;
    loop {
        if let Some(request) = upload.poll_request() {
            match make(dialler, access, &request, file) {
                Ok(response) => upload.handle_response(response.status, &response.body),
                Err(failure) => {
                    tracing::warn!(host = request.host, %failure, "upload: no answer");
                    upload.handle_no_answer();
                }
            }
        }
        match upload.poll_event() {
            Some(UploadEvent::Uploaded { blob_name }) => return Ok(blob_name),
            Some(UploadEvent::Failed(error)) => return Err(error.into()),
            _ => {}
        }
    }
}

fn make(
    dialler: &Dialler,
    access: &HubAccess,
    request: &HttpRequest,
    file: &[u8],
) -> Result<Response, TransportFailure> {
    let at_hub = request.authenticated;
    let (host, port) = match request.host.split_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(HTTPS_PORT)),
        None if at_hub => (request.host.as_str(), access.port),
        None => (request.host.as_str(), HTTPS_PORT),
    };
    // Azure Storage is shown nothing but the token in the target.
    let identity = access.identity.as_ref().filter(|_| at_hub);
    let body = match &request.body {
        HttpBody::Json(json) => json.as_slice(),
        HttpBody::File => file,
    };
    let authority = if port == HTTPS_PORT { host.into() } else { format!("{host}:{port}") };
    let mut head = Zeroizing::new(String::with_capacity(1024 + request.target.len()));
    for part in [request.method, " ", &request.target, " HTTP/1.1\r\nHost: ", &authority] {
        head.push_str(part);
    }
    head.push_str("\r\nConnection: close\r\n");
    for (name, value) in request.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if let Some(token) = access.token.as_ref().filter(|_| at_hub) {
        head.extend(["Authorization: ", token.as_str(), "\r\n"]);
    }
    head.extend(["Content-Length: ", &body.len().to_string(), "\r\n\r\n"]);

    let failed = |error: io::Error| transport_failure(&error);
    let (mut tcp, mut channel) = blocking::connect(dialler.https(host, port, identity)?)?;
    blocking::send(&mut tcp, &mut channel, head.as_bytes()).map_err(failed)?;
    blocking::send(&mut tcp, &mut channel, body).map_err(failed)?;
    tcp.set_read_timeout(Some(SILENCE)).map_err(failed)?;
    let mut response = crate::http::Reader::default();
    let mut buffer = vec![0; 4096];
    let response = loop {
        let n = tcp.read(&mut buffer).map_err(failed)?;
        let mut fate = Ok(());
        if n > 0 {
            fate = channel.handle_bytes(&buffer[..n], |bytes| response.handle_bytes(bytes));
        }
        // Whether the end of the connection is an end of the answer is for the answer to say.
        let is_end = n == 0 || fate.is_err();
        match response.poll(is_end) {
            Some(response) => break response?,
            None if is_end => return Err(fate.err().unwrap_or_else(TransportFailure::closed)),
            None => blocking::flush(&mut tcp, &mut channel).map_err(failed)?,
        }
    };
    channel.close();
    // The peer has said what it had to say, and need not hear it.
    let _ = blocking::flush(&mut tcp, &mut channel);
    Ok(response)
}
