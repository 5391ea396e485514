//! Checking a certificate signing request, the same for both services.

use zerotouch_credentials::{CertificateRequest, KeyAlgorithm};

use super::fixture::KeyPolicy;
use super::refusal::CsrFault;

/// Reads `csr` (base64 of PKCS#10 DER) and checks that its sender holds the key, that it is for one
/// of `names`, and that the policy certifies such keys. Extensions it asks for are not looked at.
pub(super) fn check(
    csr: &str,
    names: [&str; 2],
    keys: KeyPolicy,
) -> Result<CertificateRequest, CsrFault> {
    let request = CertificateRequest::from_base64(csr).map_err(CsrFault::Unreadable)?;
    request.verify().map_err(CsrFault::Unreadable)?;
    if !request.common_name().is_some_and(|name| names.contains(&name)) {
        return Err(CsrFault::Name {
            found: request.common_name().map(String::from),
            expected: names[0].into(),
        });
    }
    match (keys, request.key_algorithm()) {
        (KeyPolicy::P384Only, Ok(KeyAlgorithm::EcdsaP384)) | (KeyPolicy::Permissive, Ok(_)) => {
            Ok(request)
        }
        _ => Err(CsrFault::KeyAlgorithm),
    }
}
