//! From an answer's strings to certificates, within bounds.

use alloc::vec::Vec;

use base64ct::{Base64, Encoding};

use crate::certificate::Certificate;
use crate::chain_error::{Base64Fault, ChainError};

/// The most certificates an answer may hold. The service is known to send three.
pub(crate) const MAX_CERTIFICATES: usize = 8;
/// The largest certificate, in bytes of DER. The service's are near 1,500.
pub(crate) const MAX_CERTIFICATE_LEN: usize = 8 * 1024;
/// The largest chain, in bytes of DER.
pub(crate) const MAX_CHAIN_LEN: usize = 64 * 1024;

/// Decodes every element, cheapest check first: nothing is decoded before its size is known to be
/// in bounds, and no more elements are looked at than may be there.
pub(crate) fn decode(
    elements: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<Vec<Certificate>, ChainError> {
    let mut texts = Vec::new();
    let mut total = 0;
    for (index, element) in elements.into_iter().enumerate() {
        if index == MAX_CERTIFICATES {
            return Err(ChainError::TooManyCertificates { limit: MAX_CERTIFICATES });
        }
        let decoded_len = element.as_ref().len() / 4 * 3;
        if decoded_len > MAX_CERTIFICATE_LEN + 2 {
            return Err(ChainError::CertificateTooLarge { index, limit: MAX_CERTIFICATE_LEN });
        }
        total += decoded_len;
        texts.push(element);
    }
    // Cannot happen while MAX_CERTIFICATES of MAX_CERTIFICATE_LEN fit; the bound is stated apart so
    // that raising one of them does not quietly raise it.
    if total > MAX_CHAIN_LEN + 2 * MAX_CERTIFICATES {
        return Err(ChainError::ChainTooLarge { limit: MAX_CHAIN_LEN });
    }
    texts.iter().enumerate().map(|(index, text)| decode_one(index, text.as_ref())).collect()
}

fn decode_one(index: usize, text: &str) -> Result<Certificate, ChainError> {
    if text.contains("-----BEGIN") {
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
