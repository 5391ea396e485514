//! From an answer's strings to certificates, within bounds.

use alloc::vec::Vec;

use base64ct::{Base64, Encoding};

use crate::certificate::Certificate;
use crate::chain::{CertificateChain, PemError};
use crate::chain_error::{Base64Fault, ChainError};
#[cfg(feature = "simulation")]
use crate::vouched::{self, Form};

/// The most certificates an answer may hold. The service is known to send three.
const MAX_CERTIFICATES: usize = 8;
/// The largest certificate, in bytes of DER. The service's are near 1,500.
const MAX_CERTIFICATE_LEN: usize = 8 * 1024;
/// What follows from the two: a whole chain fits a message of the service (96 KiB) as base64.
const _: () = assert!(MAX_CERTIFICATES * MAX_CERTIFICATE_LEN <= 64 * 1024);

/// What [`MAX_CERTIFICATES`] of [`MAX_CERTIFICATE_LEN`] come to in PEM, with line breaks and armour.
const MAX_PEM_LEN: usize = 96 * 1024;

/// Decodes every element. Number and sizes are checked before anything is decoded.
pub(crate) fn decode(
    elements: impl IntoIterator<Item = impl AsRef<str>>,
    allow_pem: bool,
) -> Result<Vec<Certificate>, ChainError> {
    let mut texts = Vec::new();
    for (index, element) in elements.into_iter().enumerate() {
        if index == MAX_CERTIFICATES {
            return Err(ChainError::TooManyCertificates { limit: MAX_CERTIFICATES });
        }
        let text = element.as_ref();
        let too_large = if allow_pem && is_pem(text) {
            text.len() > MAX_PEM_LEN
        } else {
            decoded_len(text) > MAX_CERTIFICATE_LEN
        };
        if too_large {
            return Err(ChainError::CertificateTooLarge { index, limit: MAX_CERTIFICATE_LEN });
        }
        texts.push(element);
    }
    let mut certificates = Vec::new();
    for (index, text) in texts.iter().map(AsRef::as_ref).enumerate() {
        if allow_pem && is_pem(text) {
            decode_pem(index, text, &mut certificates)?;
        } else {
            certificates.push(decode_one(index, text)?);
        }
    }
    Ok(certificates)
}

fn is_pem(text: &str) -> bool {
    text.contains("-----BEGIN")
}

/// The length that `text` decodes to, if it is base64.
fn decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take(2).take_while(|&byte| byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

/// The bounds hold for what comes out of the text as well.
fn decode_pem(index: usize, text: &str, into: &mut Vec<Certificate>) -> Result<(), ChainError> {
    let chain = CertificateChain::from_pem(text).map_err(|error| match error {
        PemError::Certificate { reason, .. } => ChainError::NotACertificate { index, reason },
        PemError::Armour { .. } | PemError::NoCertificate => {
            ChainError::NotBase64 { index, reason: Base64Fault::Malformed }
        }
    })?;
    if chain.iter().any(is_too_large) {
        return Err(ChainError::CertificateTooLarge { index, limit: MAX_CERTIFICATE_LEN });
    }
    into.extend(chain.iter().cloned());
    check_number(into)
}

/// The bounds hold for certificates that were read elsewhere, too.
pub(crate) fn check_bounds(certificates: &[Certificate]) -> Result<(), ChainError> {
    check_number(certificates)?;
    match certificates.iter().position(is_too_large) {
        Some(index) => Err(ChainError::CertificateTooLarge { index, limit: MAX_CERTIFICATE_LEN }),
        None => Ok(()),
    }
}

fn check_number(certificates: &[Certificate]) -> Result<(), ChainError> {
    if certificates.len() > MAX_CERTIFICATES {
        return Err(ChainError::TooManyCertificates { limit: MAX_CERTIFICATES });
    }
    Ok(())
}

fn is_too_large(certificate: &Certificate) -> bool {
    certificate.as_der().len() > MAX_CERTIFICATE_LEN
}

fn decode_one(index: usize, text: &str) -> Result<Certificate, ChainError> {
    #[cfg(feature = "simulation")]
    return vouched::read_once(Form::Base64, text.as_bytes(), |_| decode_base64(index, text));
    #[cfg(not(feature = "simulation"))]
    decode_base64(index, text)
}

fn decode_base64(index: usize, text: &str) -> Result<Certificate, ChainError> {
    if is_pem(text) {
        return Err(ChainError::PemArmour { index });
    }
    let der = Base64::decode_vec(text)
        .map_err(|_| ChainError::NotBase64 { index, reason: fault(text) })?;
    Certificate::from_der(&der).map_err(|reason| ChainError::NotACertificate { index, reason })
}

fn fault(text: &str) -> Base64Fault {
    if text.contains(|c: char| c.is_ascii_whitespace()) {
        Base64Fault::Whitespace
    } else if text.contains(['-', '_']) {
        Base64Fault::UrlSafe
    } else if !text.len().is_multiple_of(4) {
        Base64Fault::Padding
    } else {
        Base64Fault::Malformed
    }
}
