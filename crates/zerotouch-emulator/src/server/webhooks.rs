//! Carrying the cloud's questions to webhooks, over HTTP/1.1 without TLS.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::cloud::StoredCloud;
use super::shared::Shared;
use crate::cloud::{MAX_WEBHOOK_ANSWER, WebhookRequest};

/// How long an answer may take, from the first byte to the last.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many questions are under way at once; others wait.
const AT_ONCE: usize = 32;

/// Carries each question and brings back its answer, until the emulator is dropped.
pub(super) async fn carry(
    mut questions: mpsc::UnboundedReceiver<WebhookRequest>,
    shared: Weak<Shared<StoredCloud>>,
) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(question) = questions.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let shared = Weak::clone(&shared);
        tokio::spawn(async move {
            let WebhookRequest { id, url, body } = question;
            let result = match timeout(PATIENCE, ask(&url, body)).await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err(format!("none came in {} s", PATIENCE.as_secs())),
            };
            drop(place);
            if let Some(shared) = shared.upgrade() {
                shared.with(|engine, now| engine.cloud.handle_webhook(&id, result, now));
            }
        });
    }
}

/// Redirections are answers like others.
async fn ask(url: &str, body: Vec<u8>) -> io::Result<(u16, Vec<u8>)> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    let uri: Uri = url.parse().map_err(|_| invalid("the webhook's URL is none"))?;
    let authority = uri.authority().ok_or_else(|| invalid("the webhook's URL names no host"))?;
    if uri.scheme_str() != Some("http") {
        return Err(invalid("webhooks are called over http alone"));
    }
    // As URLs write IPv6 addresses, sockets do not.
    let host = authority.host().trim_matches(['[', ']']);
    let socket = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::post(target)
        .header(HOST, authority.as_str())
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"))
        .body(Full::<Bytes>::new(body.into()))
        .map_err(io::Error::other)?;
    // With the sender goes the connection.
    let answer = async move {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_WEBHOOK_ANSWER).collect();
        let body = body.await.map_err(io::Error::other)?;
        Ok((status, body.to_bytes().into()))
    };
    let (answer, _) = tokio::join!(answer, connection);
    answer
}
