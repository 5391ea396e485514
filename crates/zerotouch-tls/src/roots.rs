//! Whom to believe that a server is who it says.

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};

/// Where the trusted roots come from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Roots {
    /// The operating system's. (`SSL_CERT_FILE` and `SSL_CERT_DIR` override them, as everywhere.)
    Platform,
    /// A list that is part of the program: [`Roots::BUNDLED`], or one's own.
    Anchors(&'static [TrustAnchor<'static>]),
    /// The `CERTIFICATE` blocks of a PEM text, and no others.
    Pem(Vec<u8>),
}

/// Why there are no roots.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootsError {
    /// The system has none, or none that could be read.
    #[error(
        "the system has no readable root certificates ({reasons}); install them \
         (Debian: ca-certificates) or name a PEM file"
    )]
    NoPlatformRoots {
        /// What was tried.
        reasons: String,
    },
    /// The PEM text holds no certificate.
    #[error("the PEM of roots holds no certificate")]
    EmptyPem,
    /// A block of the PEM text is broken.
    #[error("the PEM of roots is broken at certificate {index}")]
    BrokenPem {
        /// Which block, counted from 0.
        index: usize,
    },
    /// A certificate of the PEM text cannot be a root.
    #[error("certificate {index} of the roots cannot be used: {reason}")]
    UnusableRoot {
        /// Which block, counted from 0.
        index: usize,
        /// What rustls says about it.
        reason: rustls::Error,
    },
}

impl Roots {
    /// Those that this release carries: Mozilla's set, whatever the machine has. Among them are the
    /// three that the vendor asks devices to trust: `DigiCert` Global Root G2 and G3, and Microsoft
    /// RSA Root Certificate Authority 2017. They age with the release. A program that never names them
    /// does not carry them.
    pub const BUNDLED: Self = Self::Anchors(webpki_roots::TLS_SERVER_ROOTS);

    pub(crate) fn load(&self) -> Result<RootCertStore, RootsError> {
        match self {
            Self::Platform => platform(),
            Self::Anchors(anchors) => Ok(RootCertStore { roots: anchors.to_vec() }),
            Self::Pem(text) => pem(text),
        }
    }
}

/// A system's set is large and old: what rustls cannot use of it is passed over.
fn platform() -> Result<RootCertStore, RootsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let reasons =
            if reasons.is_empty() { "none found".to_string() } else { reasons.join("; ") };
        return Err(RootsError::NoPlatformRoots { reasons });
    }
    Ok(store)
}

/// A file that was named on purpose: whatever is wrong with it is said.
fn pem(text: &[u8]) -> Result<RootCertStore, RootsError> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(text).enumerate() {
        let certificate = certificate.map_err(|_| RootsError::BrokenPem { index })?;
        store.add(certificate).map_err(|reason| RootsError::UnusableRoot { index, reason })?;
    }
    if store.is_empty() {
        return Err(RootsError::EmptyPem);
    }
    Ok(store)
}
