//! Certificates in files.

use std::path::Path;

use zerotouch_credentials::CertificateChain;

use crate::failure::CliError;

/// A certificate and, after it, those of its issuers.
pub(crate) fn read_chain(path: &Path) -> Result<CertificateChain, CliError> {
    let unreadable = |reason: String| CliError::Certificate { path: path.into(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    CertificateChain::from_pem(&text).map_err(|error| unreadable(error.to_string()))
}
