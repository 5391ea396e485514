//! A certificate and those that vouch for it.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use der::pem::{self, LineEnding};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::certificate::{Certificate, CertificateError};
use crate::signer::Signer;
use crate::verify::{self, SignatureError};

/// The PEM label of a certificate (RFC 7468 §5).
const CERTIFICATE: &str = "CERTIFICATE";

/// Certificates in the order in which TLS sends them: the leaf, its issuer, the issuer's issuer and
/// so on, perhaps up to the root. Never empty. Clones share the certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateChain(Arc<[Certificate]>);

/// Why a PEM text is not a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// A block's armour or base64 is broken.
    #[error("the PEM text is broken in block {index}")]
    Armour {
        /// Which certificate block, counted from 0.
        index: usize,
    },
    /// There is no `CERTIFICATE` block.
    #[error("the PEM text holds no certificate")]
    NoCertificate,
    /// A block holds no certificate.
    #[error("block {index} of the PEM text: {reason}")]
    Certificate {
        /// Which certificate block, counted from 0.
        index: usize,
        /// What is wrong with it.
        reason: CertificateError,
    },
}

impl CertificateChain {
    /// A chain of certificates that stand leaf first; `None` without any. Nothing is checked.
    pub fn new(certificates: Vec<Certificate>) -> Option<Self> {
        (!certificates.is_empty()).then(|| Self(certificates.into()))
    }

    /// Reads the `CERTIFICATE` blocks of `pem`, which must stand leaf first; other blocks and text
    /// between blocks are passed over. Nothing is checked beyond the encoding: this is for chains
    /// that were accepted before, or that a person has put into a file.
    pub fn from_pem(pem: &str) -> Result<Self, PemError> {
        let mut certificates = Vec::new();
        for (index, der) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
            let der = der.map_err(|_| PemError::Armour { index })?;
            let certificate = Certificate::from_der(&der)
                .map_err(|reason| PemError::Certificate { index, reason })?;
            certificates.push(certificate);
        }
        Self::new(certificates).ok_or(PemError::NoCertificate)
    }

    /// The chain as `CERTIFICATE` blocks, leaf first.
    pub fn to_pem(&self) -> String {
        self.0.iter().map(to_pem_block).collect()
    }

    /// The device's own certificate.
    pub fn leaf(&self) -> &Certificate {
        &self.0[0]
    }

    /// All certificates, leaf first.
    pub fn iter(&self) -> core::slice::Iter<'_, Certificate> {
        self.0.iter()
    }

    /// What stands between the leaf and the root. A self-signed root, if the chain ends in one, is
    /// left out: the other side has it or does not trust it.
    pub fn intermediates(&self) -> &[Certificate] {
        match &*self.0 {
            [_, between @ .., last] if last.subject_name() == last.issuer_name() => between,
            [_, rest @ ..] => rest,
            [] => &[],
        }
    }

    /// Checks that `signer` holds the private key of the leaf, by having it sign and verifying the
    /// signature with the certified key.
    ///
    /// Comparing public keys would not notice two swapped key files or HSM slots.
    pub fn prove_possession(&self, signer: &dyn Signer) -> Result<(), SignatureError> {
        let challenge = b"zerotouch: does this key belong to this certificate?";
        let signature = signer.sign(challenge).map_err(|_| SignatureError::Invalid)?;
        verify::verify_signature(self.leaf().public_key(), challenge, &signature)
    }
}

impl<'a> IntoIterator for &'a CertificateChain {
    type Item = &'a Certificate;
    type IntoIter = core::slice::Iter<'a, Certificate>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[expect(clippy::expect_used, reason = "a fixed label and certificates of bounded size")]
fn to_pem_block(certificate: &Certificate) -> String {
    pem::encode_string(CERTIFICATE, LineEnding::LF, certificate.as_der())
        .expect("the label is valid and the length fits")
}
