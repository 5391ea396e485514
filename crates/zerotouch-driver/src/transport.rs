//! TLS for a dial, and what became of it.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use zerotouch_device::{Dial, TransportFailure, TransportFailureKind as Kind};
use zerotouch_tls::{Roots, TlsClient, TlsFailure, classify_io};

use crate::StartError;

/// Makes the TLS side of each dial. The roots are read once.
#[derive(Clone, Debug)]
pub struct TlsDialler(TlsClient);

impl TlsDialler {
    /// Trusts servers that chain to `roots`.
    pub fn new(roots: &Roots) -> Result<Self, StartError> {
        Ok(Self(TlsClient::new(roots)?))
    }

    /// Whether reconnections may resume the TLS session; they may by default.
    #[must_use]
    pub fn resumption(self, resumption: bool) -> Self {
        Self(self.0.resumption(resumption))
    }

    /// The configuration that presents the dial's identity, and the name the server must prove.
    pub fn prepare(
        &self,
        dial: &Dial,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), TransportFailure> {
        let name = ServerName::try_from(dial.host.clone()).map_err(|_| {
            TransportFailure::new(Kind::Unreachable, format!("{:?} is no host name", dial.host))
        })?;
        let identity =
            dial.identity.as_ref().map(|identity| (Arc::clone(&identity.signer), &identity.chain));
        let config = self
            .0
            .config(identity)
            .map_err(|error| TransportFailure::new(Kind::Tls, error.to_string()))?;
        Ok((config, name))
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
