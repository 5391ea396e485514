//! A dial: the ways to a server, and what became of them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use zerotouch_device::{Dial, TlsIdentity, TransportFailure, TransportFailureKind as Kind};
use zerotouch_tls::{Roots, TlsClient, TlsFailure, classify_io};

use crate::channel::{Channel, Server};
use crate::{Network, Proxy, Resolver, StartError, Transport};

/// How long one address may take to accept a connection, before the next is tried.
pub const ADDRESS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one way may take in all where another is left: some networks drop what they do not like.
const WAY_TIMEOUT: Duration = Duration::from_secs(20);

/// Finds the ways for a device's dials. The roots are read once; clones share what worked last.
#[derive(Clone, Debug)]
pub struct Dialler {
    tls: TlsClient,
    network: Arc<Network>,
    web_socket_first: Arc<AtomicBool>,
}

impl Dialler {
    /// Trusts servers that chain to `roots`.
    pub fn new(roots: &Roots, network: Network) -> Result<Self, StartError> {
        Ok(Self::with_tls(TlsClient::new(roots)?, network))
    }

    /// With roots and a crypto provider of the caller's choice.
    pub fn with_tls(tls: TlsClient, network: Network) -> Self {
        Self { tls, network: Arc::new(network), web_socket_first: Arc::default() }
    }

    /// Whether reconnections may resume the TLS session; they may by default.
    #[must_use]
    pub fn tls_resumption(mut self, resumption: bool) -> Self {
        self.tls = self.tls.resumption(resumption);
        self
    }

    /// The ways for this dial.
    pub fn ways(&self, dial: &Dial) -> Result<Ways, TransportFailure> {
        let mqtt = (dial.port, false);
        let left = match self.network.transport {
            Transport::Mqtt => vec![mqtt],
            Transport::WebSocket { port } => vec![(port, true)],
            Transport::Either { port } if self.web_socket_first.load(Ordering::Relaxed) => {
                vec![(port, true), mqtt]
            }
            Transport::Either { port } => vec![mqtt, (port, true)],
        };
        self.ways_to(&dial.host, left, dial.identity.as_ref())
    }

    /// What goes through a socket that leads straight to this server, for who dials in another way: MQTT
    /// over TLS.
    pub fn channel(
        &self,
        host: &str,
        identity: Option<&TlsIdentity>,
    ) -> Result<Box<Channel>, TransportFailure> {
        let (config, name) = self.tls_to(host, identity)?;
        let server = Server { host, port: 0, proxy: None, web_socket: false };
        Channel::new(&server, config, name).map(Box::new)
    }

    /// Which of the trusted roots the server behind an open channel chains to, by its name.
    #[cfg(feature = "https")]
    pub(crate) fn root_of(&self, channel: &Channel) -> Option<String> {
        self.tls.root_of(channel.server_certificates())
    }

    /// The way to a server of HTTPS.
    #[cfg(feature = "https")]
    pub(crate) fn https(
        &self,
        host: &str,
        port: u16,
        identity: Option<&TlsIdentity>,
    ) -> Result<Ways, TransportFailure> {
        // Of how MQTT comes through it says nothing.
        let dialler = Self { web_socket_first: Arc::default(), ..self.clone() };
        dialler.ways_to(host, vec![(port, false)], identity)
    }

    fn ways_to(
        &self,
        host: &str,
        left: Vec<(u16, bool)>,
        identity: Option<&TlsIdentity>,
    ) -> Result<Ways, TransportFailure> {
        let (config, name) = self.tls_to(host, identity)?;
        let proxy = self.network.proxy_for(host).cloned();
        let failure = TransportFailure::new(Kind::Unreachable, "the name has no address");
        let (dialler, host) = (self.clone(), host.to_owned());
        Ok(Ways { dialler, config, name, host, proxy, left: left.into(), failure })
    }

    fn tls_to(
        &self,
        host: &str,
        identity: Option<&TlsIdentity>,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), TransportFailure> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            TransportFailure::new(Kind::Unreachable, format!("{host:?} is no host name"))
        })?;
        let identity = identity.map(|identity| (Arc::clone(&identity.signer), &identity.chain));
        let config = self
            .tls
            .config(identity)
            .map_err(|error| TransportFailure::new(Kind::Tls, error.to_string()))?;
        Ok((config, name))
    }
}

/// The ways of one dial that are left, to be tried in order until one leads to an open [`Channel`].
#[derive(Debug)]
pub struct Ways {
    dialler: Dialler,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    host: String,
    proxy: Option<Proxy>,
    /// Ports, and whether it is WebSocket.
    left: VecDeque<(u16, bool)>,
    failure: TransportFailure,
}

/// Where to connect to by TCP, and what then.
#[derive(Debug)]
pub struct Way {
    /// A host name, to be resolved anew, or an address: the server's or a proxy's. Each of its addresses
    /// has [`ADDRESS_TIMEOUT`].
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// How long connecting and the handshakes may take together, if another way is left. Otherwise the
    /// device minds the time.
    pub timeout: Option<Duration>,
    /// What goes through the socket.
    pub channel: Box<Channel>,
    resolver: Resolver,
    web_socket: bool,
}

impl Ways {
    /// The next way, if any is left.
    pub fn next_way(&mut self) -> Option<Way> {
        let (port, web_socket) = self.left.pop_front()?;
        let host = &self.host;
        let server = Server { host, port, proxy: self.proxy.as_ref(), web_socket };
        match Channel::new(&server, Arc::clone(&self.config), self.name.clone()) {
            Ok(channel) => {
                let proxy = self.proxy.as_ref().map(|proxy| (&proxy.host, proxy.port));
                let (host, port) = proxy.unwrap_or((host, port));
                let timeout = (!self.left.is_empty()).then_some(WAY_TIMEOUT);
                Some(Way {
                    host: host.clone(),
                    port,
                    timeout,
                    channel: Box::new(channel),
                    resolver: self.dialler.network.resolver.clone(),
                    web_socket,
                })
            }
            Err(failure) => {
                self.failed(failure);
                self.next_way()
            }
        }
    }

    /// A way led to an open channel, which is the end of this dial.
    pub fn succeeded(self, way: Way) -> Box<Channel> {
        self.dialler.web_socket_first.store(way.web_socket, Ordering::Relaxed);
        way.channel
    }

    /// A way did not. Where the server itself was heard, no other way leads elsewhere.
    pub fn failed(&mut self, failure: TransportFailure) {
        match failure.kind {
            Kind::ServerUntrusted
            | Kind::WrongHostName
            | Kind::ServerCertificateDates
            | Kind::ClientCertificateRefused => self.left.clear(),
            _ => {}
        }
        self.failure = failure;
    }

    /// Why none did.
    pub fn into_failure(self) -> TransportFailure {
        self.failure
    }
}

impl Way {
    /// Finds the addresses that are to be tried in turn, at least one. What this returns may wait for
    /// the network, and is called where that does no harm.
    pub fn resolve(
        &self,
    ) -> impl FnOnce() -> Result<Vec<SocketAddr>, TransportFailure> + Send + use<> {
        let (resolver, host, port) = (self.resolver.clone(), self.host.clone(), self.port);
        move || resolver.resolve(&host, port).map_err(|error| transport_failure(&error))
    }

    /// What to say where [`Way::timeout`] was over.
    pub fn timed_out(&self) -> TransportFailure {
        let detail = format!("no connection by way of {}:{} in time", self.host, self.port);
        TransportFailure::new(Kind::Unreachable, detail)
    }
}

/// What an I/O error of a TLS stream means to the device.
pub fn transport_failure(error: &io::Error) -> TransportFailure {
    if let Some(failure) = classify_io(error) {
        return TransportFailure::new(kind(&failure), failure.to_string());
    }
    let kind = match error.kind() {
        // A TLS peer that leaves without close_notify; MQTT knows by itself when it is done.
        io::ErrorKind::UnexpectedEof => Kind::Closed,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted => Kind::Broken,
        _ => Kind::Unreachable,
    };
    TransportFailure::new(kind, error.to_string())
}

fn kind(failure: &TlsFailure) -> Kind {
    match failure {
        TlsFailure::ServerUntrusted | TlsFailure::ServerCertificateInvalid { .. } => {
            Kind::ServerUntrusted
        }
        TlsFailure::WrongHostName { .. } => Kind::WrongHostName,
        TlsFailure::ServerCertificateExpired { .. }
        | TlsFailure::ServerCertificateNotYetValid { .. } => Kind::ServerCertificateDates,
        TlsFailure::ClientCertificateRefused { .. } => Kind::ClientCertificateRefused,
        _ => Kind::Tls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // An ending without close_notify is an ending, not a fault of the network.
    #[test]
    fn network_errors_keep_their_kind() {
        for (error, expected) in [
            (io::ErrorKind::UnexpectedEof, Kind::Closed),
            (io::ErrorKind::ConnectionReset, Kind::Broken),
            (io::ErrorKind::ConnectionRefused, Kind::Unreachable),
        ] {
            assert_eq!(transport_failure(&error.into()).kind, expected);
        }
        let tls =
            io::Error::new(io::ErrorKind::InvalidData, rustls::Error::NoCertificatesPresented);
        assert_eq!(transport_failure(&tls).kind, Kind::ServerUntrusted);
    }
}
