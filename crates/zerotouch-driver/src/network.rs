//! How connections are made: which transport, through which proxy.

use std::fmt;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use thiserror::Error;
use zeroize::Zeroizing;
use zerotouch_wire::percent_decode;

use crate::Resolver;

/// HTTPS, and MQTT over WebSocket inside of it.
const HTTPS_PORT: u16 = 443;

/// What carries MQTT, to the provisioning service and to hubs alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// TLS on the port of the configuration, 8883 by default.
    #[default]
    Mqtt,
    /// WebSocket over TLS, for networks that let nothing else out.
    WebSocket {
        /// The services listen on 443.
        port: u16,
    },
    /// TLS on the port of the configuration and, where nothing comes through there, WebSocket. What worked
    /// last is tried first.
    Either {
        /// The port for WebSocket.
        port: u16,
    },
}

impl Transport {
    /// WebSocket on 443.
    pub const WEB_SOCKET: Self = Self::WebSocket { port: HTTPS_PORT };
    /// MQTT or, failing that, WebSocket on 443.
    pub const EITHER: Self = Self::Either { port: HTTPS_PORT };
}

/// An HTTP proxy that connects to where it is told (CONNECT).
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `user:password` in Base64.
    pub(crate) authorization: Option<Arc<Zeroizing<String>>>,
}

/// Why something names no proxy. The text is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Only a proxy that is spoken to in plain HTTP is supported; what goes through it is TLS anyway.
    #[error("a proxy is written as http://host:port or http://user:password@host:port")]
    NoHttpUrl,
    /// No host, no port, or what cannot be either.
    #[error("the proxy's host and port are not readable")]
    Authority,
    /// A percent sign without two digits, or something that is no UTF-8.
    #[error("the proxy's user or password is badly percent-encoded")]
    Credentials,
}

impl Proxy {
    /// Without credentials.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, authorization: None }
    }

    /// With basic authentication: the proxy, and whoever listens on the way to it, sees the password.
    #[must_use]
    pub fn basic_auth(mut self, user: &str, password: &str) -> Self {
        let pair = Zeroizing::new(format!("{user}:{password}"));
        let encoded = Zeroizing::new(Base64::encode_string(pair.as_bytes()));
        self.authorization = Some(Arc::new(encoded));
        self
    }

    /// From `http://user:password@host:port`, percent-encoded where need be; the scheme and the
    /// credentials may be left out.
    pub fn from_url(url: &str) -> Result<Self, ProxyError> {
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(ProxyError::NoHttpUrl),
            None => url,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, authority),
        };
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().map_err(|_| ProxyError::Authority)?)
            }
            _ => (address, 80),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(ProxyError::Authority);
        }
        let proxy = Self::new(host, port);
        let Some(login) = login else { return Ok(proxy) };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let decode = |text| percent_decode(text).map_err(|_| ProxyError::Credentials);
        Ok(proxy.basic_auth(&decode(user)?, &Zeroizing::new(decode(password)?)))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authorization = self.authorization.as_ref().map(|_| "(secret)");
        f.debug_struct("Proxy")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("authorization", &authorization)
            .finish()
    }
}

/// How a device's connections are made; by default directly, as MQTT over TLS.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// What carries MQTT.
    pub transport: Transport,
    /// Whom to ask for connections.
    pub proxy: Option<Proxy>,
    /// Hosts that are reached without the proxy, as in `NO_PROXY`: a name stands for itself and
    /// everything below it, with or without a dot before it, `*` for all. Address ranges are not
    /// understood.
    pub no_proxy: Vec<String>,
    /// How addresses are found, a proxy's and a server's.
    pub resolver: Resolver,
}

impl Network {
    /// Takes the proxy from `HTTPS_PROXY` and `NO_PROXY`, or their lower-case names, which come first.
    pub fn proxy_from_environment(self) -> Result<Self, ProxyError> {
        let variable = |names: [&str; 2]| {
            let values = names.iter().filter_map(|name| std::env::var(name).ok());
            values.into_iter().find(|value| !value.is_empty())
        };
        let proxy = variable(["https_proxy", "HTTPS_PROXY"]);
        self.proxy_from(proxy.as_deref(), variable(["no_proxy", "NO_PROXY"]).as_deref())
    }

    fn proxy_from(
        mut self,
        proxy: Option<&str>,
        no_proxy: Option<&str>,
    ) -> Result<Self, ProxyError> {
        self.proxy = proxy.map(Proxy::from_url).transpose()?;
        let entries = no_proxy.unwrap_or_default().split(',').map(str::trim);
        self.no_proxy = entries.filter(|entry| !entry.is_empty()).map(Into::into).collect();
        Ok(self)
    }

    /// The proxy on the way to that host.
    pub(crate) fn proxy_for(&self, host: &str) -> Option<&Proxy> {
        let host = host.to_ascii_lowercase();
        let is_direct = |entry: &String| {
            let entry = entry.trim_start_matches('.').to_ascii_lowercase();
            let below = host.strip_suffix(entry.as_str());
            entry == "*" || below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.proxy.as_ref().filter(|_| !self.no_proxy.iter().any(is_direct))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // As people write them. What is no proxy is refused without being repeated.
    #[test]
    fn proxies_are_read_from_urls() {
        let plain = Proxy::new("proxy.example", 3128);
        for url in ["http://proxy.example:3128", "proxy.example:3128", "http://proxy.example:3128/"]
        {
            assert_eq!(Proxy::from_url(url).as_ref(), Ok(&plain), "{url}");
        }
        assert_eq!(Proxy::from_url("http://[::1]:8080"), Ok(Proxy::new("::1", 8080)));
        assert_eq!(Proxy::from_url("http://proxy"), Ok(Proxy::new("proxy", 80)));
        let login = Proxy::from_url("http://ann:s%40cret%3A@proxy.example:3128").unwrap();
        assert_eq!(login, plain.clone().basic_auth("ann", "s@cret:"));
        assert_eq!(login.authorization.as_ref().unwrap().as_str(), "YW5uOnNAY3JldDo=");
        for (url, error) in [
            ("https://proxy:443", ProxyError::NoHttpUrl),
            ("socks5://proxy:1080", ProxyError::NoHttpUrl),
            ("", ProxyError::Authority),
            ("http://:80", ProxyError::Authority),
            ("http://proxy:port", ProxyError::Authority),
            ("http://pro xy:80", ProxyError::Authority),
            ("http://a:%zz@proxy:80", ProxyError::Credentials),
        ] {
            assert_eq!(Proxy::from_url(url), Err(error), "{url}");
        }
    }

    // The password must not be found in a log.
    #[test]
    fn a_proxy_prints_no_secret() {
        let proxy = Proxy::new("proxy.example", 3128).basic_auth("ann", "hunter2");
        let encoded = proxy.authorization.clone().unwrap();
        let printed = format!("{:?}", Network { proxy: Some(proxy), ..Network::default() });
        assert!(printed.contains("proxy.example"));
        assert!(!printed.contains("hunter2") && !printed.contains(encoded.as_str()), "{printed}");
    }

    // What an administrator excepts from the proxy must not go there, and nothing else may go around it.
    #[test]
    fn excepted_hosts_go_around_the_proxy() {
        let network = Network::default()
            .proxy_from(Some("http://proxy:3128"), Some("localhost, .example.org,hub.example.net"))
            .unwrap();
        let direct = |host: &str| network.proxy_for(host).is_none();
        for host in ["localhost", "example.org", "a.Example.ORG", "hub.example.net"] {
            assert!(direct(host), "{host}");
        }
        for host in ["notexample.org", "example.net", "localhost.example.com"] {
            assert!(!direct(host), "{host}");
        }
        let all = Network::default().proxy_from(Some("proxy:1"), Some("*")).unwrap();
        assert!(all.proxy_for("any").is_none());
    }
}
