//! Uploading a file: the three requests that [`FileUpload`] asks for, each on a connection of its own.

use thiserror::Error;
use zerotouch_device::{HubAccess, TransportFailure};
use zerotouch_hub::{FILE_UPLOAD_API_VERSION, FileUpload, HttpBody, HttpRequest, UploadEvent};

use crate::https::HTTPS_PORT;
use crate::{Dialler, HttpsRequest, HttpsResponse, https};

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
) -> Result<HttpsResponse, TransportFailure> {
    let at_hub = request.authenticated;
    let (host, port) = match request.host.split_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(HTTPS_PORT)),
        None if at_hub => (request.host.as_str(), access.port),
        None => (request.host.as_str(), HTTPS_PORT),
    };
    let mut headers = request.headers.to_vec();
    // Azure Storage is shown nothing but the token in the target.
    if let Some(token) = access.token.as_ref().filter(|_| at_hub) {
        headers.push(("Authorization", token.as_str()));
    }
    let body = match &request.body {
        HttpBody::Json(json) => json.as_slice(),
        HttpBody::File => file,
    };
    let identity = access.identity.as_ref().filter(|_| at_hub);
    let (method, target) = (request.method, request.target.as_str());
    https(dialler, &HttpsRequest { host, port, identity, method, target, headers, body })
}
