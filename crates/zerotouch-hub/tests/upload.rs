//! File upload against scripted answers of the hub and of Azure Storage.

#![cfg(feature = "file-upload")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};
use zerotouch_hub::{
    FILE_UPLOAD_API_VERSION, FileUpload, HttpBody, HttpRequest, UploadError, UploadEvent,
    UploadStep,
};

const PLACE: &str = r#"{"correlationId":"c/1","hostName":"store.blob.core.windows.net",
    "containerName":"logs","blobName":"d 1/a/b#.txt","sasToken":"?sv=2020-08-04&sig=S3cr%2Bt%3D","new":1}"#;
const SECRET: &str = "S3cr";

fn upload() -> FileUpload {
    FileUpload::new("hub.example", "d 1", FILE_UPLOAD_API_VERSION, "a/b#.txt").unwrap()
}

fn json(request: &HttpRequest) -> Value {
    let HttpBody::Json(body) = &request.body else { panic!("{request:?}") };
    assert_eq!(request.headers, [("Content-Type", "application/json")]);
    serde_json::from_slice(body).unwrap()
}

/// One whose place was named and whose file is on its way.
fn storing() -> FileUpload {
    let mut upload = upload();
    upload.poll_request().unwrap();
    upload.handle_response(200, PLACE.as_bytes());
    upload.poll_request().unwrap();
    upload
}

fn failure(upload: &mut FileUpload) -> UploadError {
    assert_eq!(upload.poll_request(), None);
    match upload.poll_event() {
        Some(UploadEvent::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

// The three requests, as the documentation has them; the device shows its credential to the hub alone.
#[test]
fn opens_stores_and_reports() {
    let mut upload = upload();
    let open = upload.poll_request().unwrap();
    assert_eq!((open.method, open.host.as_str()), ("POST", "hub.example"));
    assert_eq!(*open.target, "/devices/d%201/files?api-version=2021-04-12");
    assert_eq!((json(&open), open.authenticated), (json!({"blobName": "a/b#.txt"}), true));
    assert_eq!(upload.poll_request(), None);

    upload.handle_response(200, PLACE.as_bytes());
    let store = upload.poll_request().unwrap();
    assert_eq!((store.method, store.host.as_str()), ("PUT", "store.blob.core.windows.net"));
    assert_eq!(*store.target, "/logs/d%201/a/b%23.txt?sv=2020-08-04&sig=S3cr%2Bt%3D");
    assert_eq!(store.headers, [("x-ms-blob-type", "BlockBlob")]);
    assert_eq!((&store.body, store.authenticated), (&HttpBody::File, false));

    upload.handle_response(201, b"");
    assert_eq!(upload.poll_event(), None, "the hub has not been told");
    let report = upload.poll_request().unwrap();
    assert_eq!((report.method, report.authenticated), ("POST", true));
    assert_eq!(*report.target, "/devices/d%201/files/notifications?api-version=2021-04-12");
    let body = json!({"correlationId": "c/1", "isSuccess": true, "statusCode": 201,
        "statusDescription": "stored"});
    assert_eq!(json(&report), body);
    upload.handle_response(204, b"");
    let uploaded = UploadEvent::Uploaded { blob_name: "d 1/a/b#.txt".into() };
    assert_eq!(upload.poll_event(), Some(uploaded));
    upload.handle_response(204, b"");
    upload.handle_no_answer();
    assert_eq!((upload.poll_request(), upload.poll_event()), (None, None));
}

// A hub counts the uploads that are open: one that failed is told to it, whatever it says to that.
#[test]
fn a_file_that_was_not_stored_is_reported() {
    let xml = b"<?xml?><Error><Code>AuthenticationFailed</Code><Message>S3cr</Message></Error>";
    for (status, code) in [(Some(403), 403), (Some(200), 200), (None, -1)] {
        for last in [Some(204), Some(500), None] {
            let mut upload = storing();
            match status {
                Some(status) => upload.handle_response(status, xml),
                None => upload.handle_no_answer(),
            }
            let report = json(&upload.poll_request().unwrap());
            assert_eq!(
                (&report["isSuccess"], &report["statusCode"]),
                (&json!(false), &json!(code))
            );
            match last {
                Some(status) => upload.handle_response(status, b""),
                None => upload.handle_no_answer(),
            }
            let error = failure(&mut upload);
            match status {
                Some(status) => assert_eq!(
                    error.to_string(),
                    format!("refused to store the file with status {status}: AuthenticationFailed")
                ),
                None => assert_eq!(error, UploadError::NoAnswer(UploadStep::Store)),
            }
        }
    }
}

// A stored file of which the hub does not know is not one that was uploaded.
#[test]
fn a_report_that_is_not_taken_is_a_failure() {
    let mut upload = storing();
    upload.handle_response(201, b"");
    upload.poll_request().unwrap();
    upload.handle_response(404, br#"{"errorCode":404001}"#);
    let error = failure(&mut upload);
    assert!(matches!(&error, UploadError::Refused { step: UploadStep::Report, status: 404, error }
        if error.error_code == Some(404_001)));
    let mut upload = storing();
    upload.handle_response(201, b"");
    upload.poll_request().unwrap();
    upload.handle_no_answer();
    assert_eq!(failure(&mut upload), UploadError::NoAnswer(UploadStep::Report));
}

#[test]
fn an_upload_that_was_not_opened_ends() {
    let mut refused = upload();
    refused.poll_request().unwrap();
    refused.handle_response(403, br#"{"errorCode":403006,"message":"too many uploads"}"#);
    let error = failure(&mut refused);
    assert_eq!(
        error.to_string(),
        "refused to open the upload with status 403: 403006 too many uploads"
    );
    let mut silent = upload();
    silent.poll_request().unwrap();
    silent.handle_no_answer();
    assert_eq!(failure(&mut silent), UploadError::NoAnswer(UploadStep::Open));
}

// What the hub writes goes into a request line: it must not end it, nor lead elsewhere.
#[test]
fn only_a_place_that_is_one_is_written_to() {
    let good: Value = serde_json::from_str(PLACE).unwrap();
    for (member, bad) in [
        ("hostName", ""),
        ("hostName", "h:0"),
        ("hostName", "user@h"),
        ("hostName", "h\r\nx: y"),
        ("containerName", ""),
        ("blobName", ""),
        ("sasToken", ""),
        ("sasToken", "sig=S3cr"),
        ("sasToken", "?sig=S3cr HTTP/1.1\r\n"),
        ("sasToken", "?sig=S3cr#x"),
    ] {
        let mut place = good.clone();
        place[member] = bad.into();
        let mut upload = upload();
        upload.poll_request().unwrap();
        upload.handle_response(200, place.to_string().as_bytes());
        assert_eq!(failure(&mut upload), UploadError::NoPlace, "{member} {bad:?}");
    }
    for body in ["", "{}", "[]", "<html>"] {
        let mut upload = upload();
        upload.poll_request().unwrap();
        upload.handle_response(200, body.as_bytes());
        assert_eq!(failure(&mut upload), UploadError::NoPlace, "{body}");
    }
}

#[test]
fn names_are_checked_before_anything_is_sent() {
    for bad in ["", "a\nb", &"ü".repeat(1025)] {
        let upload = FileUpload::new("h", "d", FILE_UPLOAD_API_VERSION, bad);
        assert_eq!(upload.unwrap_err(), UploadError::BlobName);
    }
    assert!(FileUpload::new("h", "d", FILE_UPLOAD_API_VERSION, &"ü".repeat(1024)).is_ok());
}

// The token in the second request's query is a credential.
#[test]
fn the_token_is_not_printed() {
    let mut upload = upload();
    upload.poll_request().unwrap();
    upload.handle_response(200, PLACE.as_bytes());
    assert!(!format!("{upload:?}").contains(SECRET));
    let request = upload.poll_request().unwrap();
    assert!(request.target.contains(SECRET) && !format!("{request:?}").contains(SECRET));
}
