//! HTTP/1.1 on a connection that speaks it, up to where it becomes a WebSocket.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::cloud::StoredCloud;
use super::connection::Stream;
use super::shared::Shared;
use super::tail::Reader;
use super::web_socket;
use crate::cloud::{HttpRequest, HttpResponse, MAX_HTTP_BODY};

/// How long a client may take for the headers of a request, and then for its body.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many bodies of requests are taken at once: so many times [`MAX_HTTP_BODY`] may be in memory.
const BODIES: usize = 8;
/// Where both services have MQTT over WebSocket.
const WEB_SOCKET_PATH: &str = "/$iothub/websocket";

/// What answers requests.
#[derive(Clone)]
pub(super) struct Http {
    shared: Arc<Shared<StoredCloud>>,
    bodies: Arc<Semaphore>,
}

/// What a response carries.
pub(super) type Content = UnsyncBoxBody<Bytes, Infallible>;

/// What a connection becomes.
type Becomes = Arc<Mutex<Option<OnUpgrade>>>;

impl Http {
    pub(super) fn new(shared: Arc<Shared<StoredCloud>>) -> Self {
        Self { shared, bodies: Arc::new(Semaphore::new(BODIES)) }
    }

    /// Answers the requests of one connection; yields the stream of its WebSocket if it becomes one.
    pub(super) async fn serve(
        &self,
        stream: impl Stream + 'static,
        chain: &[Vec<u8>],
    ) -> io::Result<Option<Box<dyn Stream>>> {
        let becomes = Becomes::default();
        let service = service_fn(|request| self.answer(request, chain, &becomes));
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        let serving = server.serve_connection(TokioIo::new(stream), service);
        serving.with_upgrades().await.map_err(io::Error::other)?;
        let upgrade = becomes.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(upgrade) = upgrade else { return Ok(None) };
        let upgraded = upgrade.await.map_err(io::Error::other)?;
        Ok(Some(Box::new(web_socket::unwrap(TokioIo::new(upgraded)).await)))
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        chain: &[Vec<u8>],
        becomes: &Becomes,
    ) -> io::Result<Response<Content>> {
        if request.uri().path() == WEB_SOCKET_PATH {
            let response = accept_web_socket(request.headers());
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let upgrade = hyper::upgrade::on(&mut request);
                *becomes.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgrade);
            }
            return Ok(response);
        }
        if request.body().size_hint().lower() > MAX_HTTP_BODY as u64 {
            return Ok(status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let text = |name: HeaderName| {
            let value = request.headers().get(name)?;
            value.to_str().ok().map(String::from)
        };
        let target = request.uri().path_and_query().map(ToString::to_string);
        let mut whole = HttpRequest {
            method: request.method().to_string(),
            target: target.unwrap_or_default(),
            host: text(HOST).unwrap_or_default(),
            authorization: text(AUTHORIZATION),
            if_match: text(IF_MATCH),
            headers: others(request.headers()),
            body: Vec::new(),
            client_chain: chain.to_vec(),
        };
        let place = self.bodies.acquire().await.map_err(io::Error::other)?;
        let body = Limited::new(request.into_body(), MAX_HTTP_BODY).collect();
        whole.body = match timeout(PATIENCE, body).await {
            Ok(Ok(body)) => body.to_bytes().into(),
            Ok(Err(_)) => return Ok(status(StatusCode::PAYLOAD_TOO_LARGE)),
            Err(_) => return Ok(status(StatusCode::REQUEST_TIMEOUT)),
        };
        let answer = self.shared.with(|engine, now| engine.handle_request(&whole, now));
        drop((whole, place));
        // Dropped with the engine.
        let (answer, reader) = answer.await.map_err(io::Error::other)?;
        Ok(respond(answer, reader))
    }
}

/// What else a request says about itself, as far as it is text.
fn others(headers: &HeaderMap) -> Vec<(String, String)> {
    let others = headers.iter().filter(|(name, _)| ![AUTHORIZATION, IF_MATCH].contains(name));
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    others.filter_map(text).collect()
}

fn status(status: StatusCode) -> Response<Content> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = status;
    response
}

fn respond(answer: HttpResponse, reader: Option<Reader>) -> Response<Content> {
    if answer.events.is_some() && reader.is_none() {
        return status(StatusCode::SERVICE_UNAVAILABLE);
    }
    let code = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = status(code);
    for (name, value) in answer.headers {
        // What a client has put into its request may come back in a header.
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    *response.body_mut() = match reader {
        Some(reader) => reader.into_body(),
        None => Full::new(answer.body.into()).boxed_unsync(),
    };
    response
}

/// RFC 6455, section 4.2.2. The one subprotocol is the services'.
fn accept_web_socket(headers: &HeaderMap) -> Response<Content> {
    let holds = |name: HeaderName, wanted: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(wanted))
    };
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY).filter(|_| holds(UPGRADE, "websocket")) else {
        return status(StatusCode::UPGRADE_REQUIRED);
    };
    if !holds(SEC_WEBSOCKET_PROTOCOL, "mqtt") {
        return status(StatusCode::BAD_REQUEST);
    }
    let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mqtt"));
    if let Ok(accept) = HeaderValue::try_from(derive_accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}
