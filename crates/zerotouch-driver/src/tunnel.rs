//! HTTP CONNECT: asking a proxy for a connection (RFC 9110 §9.3.6).

use std::net::Ipv6Addr;

use zeroize::Zeroizing;
use zerotouch_device::{TransportFailure, TransportFailureKind as Kind};

use crate::network::Proxy;

/// The most that a proxy may say before it has said yes or no.
const MAX_ANSWER: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// What to say to the proxy.
pub(crate) fn request(proxy: &Proxy, host: &str, port: u16) -> Zeroizing<Vec<u8>> {
    let authority = authority(host, port);
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(authorization) = &proxy.authorization {
        // In one piece, so that no copy of the secret is left behind.
        request.reserve_exact(authorization.len() + 64);
        request.extend_from_slice(b"Proxy-Authorization: Basic ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    Zeroizing::new(request)
}

/// A host and a port as one, an IPv6 address in brackets.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.parse::<Ipv6Addr>().is_ok() {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Reads the proxy's answer.
#[derive(Debug, Default)]
pub(crate) struct Tunnel {
    answer: Vec<u8>,
}

impl Tunnel {
    /// `true` once the connection stands. Until then, none of the bytes are the server's.
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8]) -> Result<bool, TransportFailure> {
        self.answer.extend_from_slice(bytes);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&self.answer) {
            Err(error) => {
                Err(unreachable(format!("what answers for the proxy does not speak HTTP: {error}")))
            }
            Ok(httparse::Status::Partial) if self.answer.len() > MAX_ANSWER => {
                Err(unreachable("the proxy's answer has no end"))
            }
            Ok(httparse::Status::Partial) => Ok(false),
            Ok(httparse::Status::Complete(length)) => match response.code {
                Some(200..=299) if length == self.answer.len() => Ok(true),
                // A TLS server waits to be spoken to.
                Some(200..=299) => Err(unreachable("the proxy said more than it was asked")),
                code => {
                    let status = code.unwrap_or_default();
                    let detail = if status == 407 {
                        "the proxy wants other credentials (status 407)".into()
                    } else {
                        let reason = response.reason.unwrap_or_default();
                        format!("the proxy refused the connection with status {status}: {reason:?}")
                    };
                    Err(TransportFailure::new(Kind::ProxyRefused { status }, detail))
                }
            },
        }
    }
}

fn unreachable(detail: impl Into<String>) -> TransportFailure {
    TransportFailure::new(Kind::Unreachable, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Result<bool, TransportFailure> {
        Tunnel::default().handle_bytes(text.as_bytes())
    }

    // To the letter, as proxies are strict.
    #[test]
    fn the_request_names_the_server_and_the_user() {
        let plain = request(&Proxy::new("proxy", 1), "hub.example", 8883);
        assert_eq!(*plain, b"CONNECT hub.example:8883 HTTP/1.1\r\nHost: hub.example:8883\r\n\r\n");
        let proxy = Proxy::new("proxy", 1).basic_auth("ann", "x");
        let login = request(&proxy, "::1", 443);
        let expected = "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\
                        Proxy-Authorization: Basic YW5uOng=\r\n\r\n";
        assert_eq!(*login, expected.as_bytes());
    }

    // Whatever comes in whatever pieces, the connection stands after a whole yes and never otherwise.
    #[test]
    fn only_a_whole_yes_is_one() {
        let yes = "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
        assert_eq!(answer(yes), Ok(true));
        for length in 0..yes.len() {
            let mut tunnel = Tunnel::default();
            assert_eq!(tunnel.handle_bytes(&yes.as_bytes()[..length]), Ok(false));
            assert_eq!(tunnel.handle_bytes(&yes.as_bytes()[length..]), Ok(true));
        }
        for status in [407, 503, 302] {
            let refused = answer(&format!("HTTP/1.1 {status} No\r\n\r\n")).unwrap_err();
            assert_eq!(refused.kind, Kind::ProxyRefused { status });
            assert!(refused.detail.contains(&status.to_string()), "{refused}");
        }
        let detail = |text: &str| answer(text).unwrap_err().detail;
        assert!(detail(&format!("{yes}x")).contains("more"));
        assert!(detail("\x16\x03\x01 hello").contains("HTTP"));
        assert!(
            detail(&format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_ANSWER))).contains("end")
        );
    }
}
