//! TLS as the services do it: the server proves itself, the client may.
//!
//! A client certificate is asked for, not required, and any is taken whose key the client holds:
//! whether it means anything is decided in MQTT. Were it refused here, the client would see an alert
//! where the real services answer.

use std::sync::Arc;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime as PkiTime};
use tokio_rustls::TlsAcceptor;
use zerotouch_credentials::{KeyAlgorithm, PrivateKey, Signer};
use zerotouch_time::UnixTime;

use super::{StartError, crypto_provider};
use crate::cloud::AuthorityError;
use crate::pki::{CertificationAuthority, Validity};

/// How long the server's certificates are good. The authority may end up in somebody's trust store,
/// so it is not for long.
const VALIDITY: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The server's side of TLS, and what clients need to trust it.
pub(super) struct ServerTls {
    pub(super) acceptor: TlsAcceptor,
    pub(super) ca_pem: String,
}

impl ServerTls {
    /// An authority, and a certificate from it for the loopback names and the hubs.
    pub(super) fn new(
        hubs: &[String],
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, StartError> {
        let validity = Validity { from: now, lifetime: VALIDITY };
        let authority = CertificationAuthority::root(
            "zerotouch TLS root EMULATOR - NOT FOR PRODUCTION",
            validity,
            Arc::new(PrivateKey::generate(KeyAlgorithm::EcdsaP256, rng)?),
            rng,
        )
        .map_err(AuthorityError::from)?;
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256, rng)?;
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
        names.extend(hubs.iter().filter(|hub| *hub != "localhost").cloned());
        let certificate = authority
            .certify_server(&names, key.public_key(), validity, rng)
            .map_err(AuthorityError::from)?;

        let key = PrivateKeyDer::from_pem_slice(key.to_pkcs8_pem()?.as_bytes())
            .map_err(|e| rustls::Error::General(e.to_string()))?;
        let provider = crypto_provider();
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_client_cert_verifier(Arc::new(AnyClient { provider }))
            .with_single_cert(vec![CertificateDer::from(certificate.as_der().to_vec())], key)?;
        // One reconnection needs one, and brings the next.
        config.send_tls13_tickets = 1;
        // Nor more for those who ask for a number, but none for those who ask for none (RFC 9149).
        config.max_tls13_tickets = 1;
        let ca_pem = crate::pem::certificate(authority.certificate());
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), ca_pem })
    }
}

/// Takes any certificate whose key the client proves to hold.
#[derive(Debug)]
struct AnyClient {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: PkiTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
