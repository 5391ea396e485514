//! A [`Signer`] behind rustls's traits, so that one key serves requests and handshakes alike.

use std::sync::Arc;

use rustls::sign::{Signer as TlsSigner, SigningKey};
use rustls::{OtherError, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use zerotouch_credentials::{KeyAlgorithm, Signer};

/// The device's key, offered to a handshake.
#[derive(Debug)]
pub(crate) struct IdentityKey(pub(crate) Arc<dyn Signer>);

#[derive(Debug)]
struct HandshakeSigner {
    signer: Arc<dyn Signer>,
    scheme: SignatureScheme,
}

impl SigningKey for IdentityKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn TlsSigner>> {
        let scheme = *schemes(self.0.algorithm()).iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(HandshakeSigner { signer: Arc::clone(&self.0), scheme }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.0.public_key()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        if self.0.algorithm().rsa_bits().is_some() {
            SignatureAlgorithm::RSA
        } else {
            SignatureAlgorithm::ECDSA
        }
    }
}

impl TlsSigner for HandshakeSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        match self.scheme {
            SignatureScheme::RSA_PSS_SHA256 => self.signer.sign_pss(message),
            _ => self.signer.sign(message),
        }
        .map_err(|error| rustls::Error::Other(OtherError(Arc::new(error))))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// The schemes whose hash is the one the signer applies, the best first. None for kinds of key that
/// came after this code: rustls then presents no certificate, and the server says so.
///
/// Of the two that RSA has, TLS 1.3 offers PSS alone. In TLS 1.2 the older is preferred: there are
/// tokens and TPMs that cannot do PSS, or only with a salt that TLS refuses.
const fn schemes(algorithm: KeyAlgorithm) -> &'static [SignatureScheme] {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => &[SignatureScheme::ECDSA_NISTP256_SHA256],
        KeyAlgorithm::EcdsaP384 => &[SignatureScheme::ECDSA_NISTP384_SHA384],
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
            &[SignatureScheme::RSA_PKCS1_SHA256, SignatureScheme::RSA_PSS_SHA256]
        }
        _ => &[],
    }
}
