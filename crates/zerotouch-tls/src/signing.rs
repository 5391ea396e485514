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
        let scheme = scheme(self.0.algorithm())?;
        offered.contains(&scheme).then(|| {
            Box::new(HandshakeSigner { signer: Arc::clone(&self.0), scheme }) as Box<dyn TlsSigner>
        })
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.0.public_key()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl TlsSigner for HandshakeSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.signer.sign(message).map_err(|error| rustls::Error::Other(OtherError(Arc::new(error))))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// The scheme whose hash is the one the signer applies. `None` for kinds of key that came after
/// this code: rustls then presents no certificate, and the server says so.
const fn scheme(algorithm: KeyAlgorithm) -> Option<SignatureScheme> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => Some(SignatureScheme::ECDSA_NISTP256_SHA256),
        KeyAlgorithm::EcdsaP384 => Some(SignatureScheme::ECDSA_NISTP384_SHA384),
        _ => None,
    }
}
