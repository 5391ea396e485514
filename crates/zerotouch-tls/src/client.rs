//! The client's side of every connection.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{Resumption, TicketRequest};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use zerotouch_credentials::{Certificate, CertificateChain, Signer};

use crate::roots::{Roots, RootsError};
use crate::signing::IdentityKey;

/// How many configurations are kept: that of the factory's credential, and that of the certificate in
/// use.
const KEPT: usize = 2;

/// Makes rustls configurations that differ in the identity they present and share all else: the
/// provider, and the roots, which are read and parsed once. A certificate is swapped by asking for the
/// next one; connections that stand are not touched.
///
/// An identity that is asked for again gets the configuration it had, and with it the tickets its
/// sessions left: so a reconnection resumes, and never as somebody else.
///
/// Every configuration speaks TLS 1.2 and 1.3, checks the server's chain and name, sends SNI and
/// offers no ALPN protocol. There is no way to switch a check off.
#[derive(Clone, Debug)]
pub struct TlsClient {
    roots: Arc<RootCertStore>,
    /// What all configurations share: without an identity, and without resumption.
    common: Arc<ClientConfig>,
    resumption: bool,
    /// The most recent last.
    kept: Arc<Mutex<Vec<Kept>>>,
}

#[derive(Debug)]
struct Kept {
    identity: Option<(Arc<dyn Signer>, CertificateChain)>,
    config: Arc<ClientConfig>,
}

impl Kept {
    /// The same certificates, and the very same signer: one that was opened anew, after its token
    /// came back, is another.
    fn is_of(&self, identity: Option<&(Arc<dyn Signer>, &CertificateChain)>) -> bool {
        match (&self.identity, identity) {
            (None, None) => true,
            (Some((signer, chain)), Some((other, theirs))) => {
                Arc::ptr_eq(signer, other) && chain == *theirs
            }
            _ => false,
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// There is nobody to believe.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// The chain's leaf is for another key than the signer's.
    #[error("the certificate is for another key than the one given with it")]
    KeyMismatch,
    /// The crypto provider offers no cipher suite for TLS 1.2 or 1.3.
    #[error("the crypto provider cannot speak TLS 1.2 and 1.3: {0}")]
    Provider(rustls::Error),
}

impl TlsClient {
    /// Reads `roots` and uses the provider of the enabled feature: ring if that is on, whatever
    /// else is.
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    pub fn new(roots: &Roots) -> Result<Self, TlsConfigError> {
        #[cfg(feature = "ring")]
        let provider = crate::provider::ring();
        #[cfg(not(feature = "ring"))]
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        Self::with_provider(Arc::new(provider), roots)
    }

    /// Reads `roots` and uses the caller's provider.
    pub fn with_provider(
        provider: Arc<CryptoProvider>,
        roots: &Roots,
    ) -> Result<Self, TlsConfigError> {
        let roots = Arc::new(roots.load()?);
        // Never the process-wide default provider: two crates enabling two of them make that panic.
        let mut common = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsConfigError::Provider)?
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        common.resumption = Resumption::disabled();
        Ok(Self { roots, common: Arc::new(common), resumption: true, kept: Arc::default() })
    }

    /// Whether reconnections may resume the session, by tickets that are kept in memory. They may by
    /// default. A resumed session saves the device a signature and the certificates' bytes; a service
    /// that wants to see the certificate each time refuses it by itself.
    #[must_use]
    pub fn resumption(mut self, resumption: bool) -> Self {
        self.resumption = resumption;
        // RFC 9149: a server that knows the extension makes no tickets for nothing.
        let none = TicketRequest { new_session_count: 0, resumption_count: 0 };
        Arc::make_mut(&mut self.common).send_ticket_request = (!resumption).then_some(none);
        self.kept = Arc::default();
        self
    }

    /// A configuration that presents `identity` if the server asks for one: the leaf and its
    /// intermediates, without the root. `None` presents nothing.
    pub fn config(
        &self,
        identity: Option<(Arc<dyn Signer>, &CertificateChain)>,
    ) -> Result<Arc<ClientConfig>, TlsConfigError> {
        // A panic elsewhere leaves a list that is whole.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.iter().position(|entry| entry.is_of(identity.as_ref()));
        let entry = if let Some(at) = known {
            kept.remove(at)
        } else {
            let config = self.build(identity.clone())?;
            let identity = identity.map(|(signer, chain)| (signer, chain.clone()));
            Kept { identity, config }
        };
        let config = Arc::clone(&entry.config);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(entry);
        Ok(config)
    }

    /// Which root a server's certificates chain to, by its name; they are taken to have been verified. `None`
    /// if they lead to none.
    pub fn root_of(&self, presented: &[CertificateDer<'_>]) -> Option<String> {
        let mut presented =
            presented.iter().rev().filter_map(|der| Certificate::from_der(der).ok());
        // A root's name is kept without the head of its sequence.
        let is_root = |issuer: &[u8]| {
            self.roots.roots.iter().any(|root| issuer.ends_with(root.subject.as_ref()))
        };
        presented.find(|shown| is_root(&shown.issuer_der())).map(|shown| shown.issuer())
    }

    fn build(
        &self,
        identity: Option<(Arc<dyn Signer>, &CertificateChain)>,
    ) -> Result<Arc<ClientConfig>, TlsConfigError> {
        let mut config = ClientConfig::clone(&self.common);
        if let Some((signer, chain)) = identity {
            let key = certified_key(signer, chain)?;
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(key));
        }
        if self.resumption {
            // Its own: a session of one identity is not resumed by another.
            config.resumption = Resumption::default();
        }
        Ok(Arc::new(config))
    }
}

/// One configuration for a caller that needs no second: [`TlsClient::new`] and
/// [`TlsClient::config`].
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub fn client_config(
    roots: &Roots,
    identity: Option<(Arc<dyn Signer>, &CertificateChain)>,
) -> Result<Arc<ClientConfig>, TlsConfigError> {
    TlsClient::new(roots)?.config(identity)
}

fn certified_key(
    signer: Arc<dyn Signer>,
    chain: &CertificateChain,
) -> Result<CertifiedKey, TlsConfigError> {
    if chain.leaf().public_key() != signer.public_key() {
        return Err(TlsConfigError::KeyMismatch);
    }
    let certificates = std::iter::once(chain.leaf())
        .chain(chain.intermediates())
        .map(|certificate| CertificateDer::from(certificate.as_der().to_vec()))
        .collect();
    Ok(CertifiedKey::new(certificates, Arc::new(IdentityKey(signer))))
}
