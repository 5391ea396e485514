//! Requests to an emulator that runs in another process of this machine.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::crypto_provider;

/// A request to an emulator's HTTPS API.
#[derive(Clone, Debug)]
pub struct RemoteRequest<'a> {
    /// `GET` and so on.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// A token of one of the service policies.
    pub authorization: &'a str,
    /// JSON, or nothing.
    pub body: Vec<u8>,
}

/// Makes a request to the emulator on a port of 127.0.0.1 whose certificate chains to `ca_pem`; yields
/// status and body of its answer. In a tokio runtime. An error of the kind `InvalidInput` is the request's
/// own, one of the kind `ConnectionRefused` says that nobody listens.
pub async fn request(
    port: u16,
    ca_pem: &str,
    request: RemoteRequest<'_>,
) -> io::Result<(u16, Vec<u8>)> {
    let invalid = |error: hyper::http::Error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let request = Request::builder()
        .method(request.method)
        .uri(request.path)
        .header(HOST, format!("localhost:{port}"))
        .header(CONTENT_TYPE, "application/json")
        .header(AUTHORIZATION, request.authorization)
        .body(Full::<Bytes>::new(request.body.into()))
        .map_err(invalid)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let stream = TlsConnector::from(config(ca_pem)?).connect(name, socket).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // With the sender goes the connection.
    let answer = async move {
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(io::Error::other)?;
        Ok((status, body.to_bytes().into()))
    };
    let (answer, _) = tokio::join!(answer, connection);
    answer
}

fn config(ca_pem: &str) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(root.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let config = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
