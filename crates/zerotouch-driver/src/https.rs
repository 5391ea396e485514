//! One request over HTTPS, on a connection of its own.

use std::io::{self, Read};
use std::time::Duration;

use zeroize::Zeroizing;
use zerotouch_device::{TlsIdentity, TransportFailure};

use crate::http::Reader;
use crate::{Dialler, blocking, transport_failure};

/// Where HTTPS is unless something else is said.
pub(crate) const HTTPS_PORT: u16 = 443;
/// How long the other side may be silent. Azure Storage answers once it has the whole file.
const SILENCE: Duration = Duration::from_secs(60);

/// A request. What is in it goes out as it is: none of its texts may have a line's end in it.
#[derive(Debug)]
pub struct HttpsRequest<'a> {
    /// The server.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// What TLS presents.
    pub identity: Option<&'a TlsIdentity>,
    /// `GET` and so on.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Beside `Host`, `Connection` and `Content-Length`.
    pub headers: Vec<(&'a str, &'a str)>,
    /// May be empty.
    pub body: &'a [u8],
}

/// An answer, whole.
#[derive(Debug, PartialEq, Eq)]
pub struct HttpsResponse {
    /// The status.
    pub status: u16,
    /// The server's time, as in `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub date: Option<String>,
    /// At most 64 KiB.
    pub body: Vec<u8>,
}

/// Makes a request, through the proxy of `dialler` if it has one, and waits for the answer.
pub fn https(
    dialler: &Dialler,
    request: &HttpsRequest<'_>,
) -> Result<HttpsResponse, TransportFailure> {
    let (host, port) = (request.host, request.port);
    let authority = if port == HTTPS_PORT { host.into() } else { format!("{host}:{port}") };
    let mut head = Zeroizing::new(String::with_capacity(1024 + request.target.len()));
    for part in [request.method, " ", request.target, " HTTP/1.1\r\nHost: ", &authority] {
        head.push_str(part);
    }
    head.push_str("\r\nConnection: close\r\n");
    for (name, value) in &request.headers {
        head.extend([*name, ": ", *value, "\r\n"]);
    }
    head.extend(["Content-Length: ", &request.body.len().to_string(), "\r\n\r\n"]);

    let failed = |error: io::Error| transport_failure(&error);
    let ways = dialler.https(host, port, request.identity)?;
    let (mut tcp, mut channel) = blocking::connect(ways)?;
    blocking::send(&mut tcp, &mut channel, head.as_bytes()).map_err(failed)?;
    blocking::send(&mut tcp, &mut channel, request.body).map_err(failed)?;
    tcp.set_read_timeout(Some(SILENCE)).map_err(failed)?;
    let mut response = Reader::default();
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

/// Connects to a server with TLS, hangs up, and says to which of the trusted roots it chains.
pub fn root_behind(
    dialler: &Dialler,
    host: &str,
    port: u16,
) -> Result<Option<String>, TransportFailure> {
    let (mut tcp, mut channel) = blocking::connect(dialler.https(host, port, None)?)?;
    let root = dialler.root_of(&channel);
    channel.close();
    // The peer need not hear it.
    let _ = blocking::flush(&mut tcp, &mut channel);
    Ok(root)
}
