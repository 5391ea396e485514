//! A key and its chain in one PEM file that `openssl` reads.

use std::format;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;
use zerotouch_credentials::{CertificateChain, PrivateKey, PrivateKeyError};

use super::error::DamageReason;
use crate::model::Generation;

/// The name of a generation's bundle.
pub(crate) fn generation_name(number: u64) -> String {
    format!("generation-{number}.pem")
}

/// The name of the bundle of a key that waits for the certificate of generation `number`.
pub(crate) fn pending_name(number: u64) -> String {
    format!("pending-{number}.pem")
}

/// The bundle of a pending key. What stands outside the PEM blocks is for people; readers of PEM
/// pass over it.
pub(crate) fn encode_pending(
    registration_id: &str,
    key: &PrivateKey,
) -> Result<Zeroizing<String>, PrivateKeyError> {
    encode(&format!("A key of {registration_id} that waits for its certificate.\n"), key, "")
}

/// The bundle of a generation.
pub(crate) fn encode_generation(
    registration_id: &str,
    generation: &Generation,
) -> Result<Zeroizing<String>, PrivateKeyError> {
    let about = format!(
        "Generation {} of {registration_id}: private key, certificate, issuers.\n\
         SHA-256 of the certificate: {}\n",
        generation.number,
        generation.chain.leaf().thumbprint(),
    );
    encode(&about, &generation.key, &generation.chain.to_pem())
}

fn encode(
    about: &str,
    key: &PrivateKey,
    chain: &str,
) -> Result<Zeroizing<String>, PrivateKeyError> {
    let key = key.to_pkcs8_pem()?;
    // Reserved at once, so that growing the buffer leaves no unwiped copy of the key.
    let mut text = Zeroizing::new(String::with_capacity(about.len() + key.len() + chain.len()));
    text.push_str(about);
    text.push_str(&key);
    text.push_str(chain);
    Ok(text)
}

/// The key of a pending bundle.
pub(crate) fn decode_pending(bytes: &[u8]) -> Result<Arc<PrivateKey>, DamageReason> {
    let text = core::str::from_utf8(bytes).map_err(|_| PrivateKeyError::NotPem)?;
    Ok(Arc::new(PrivateKey::from_pem(text)?))
}

/// The generation of a bundle, once its key has been seen to sign for its certificate.
pub(crate) fn decode_generation(number: u64, bytes: &[u8]) -> Result<Generation, DamageReason> {
    let key = decode_pending(bytes)?;
    let text = core::str::from_utf8(bytes).map_err(|_| PrivateKeyError::NotPem)?;
    // The key's block is not shown to the chain's parser, which wipes nothing.
    let certificates = text.find("-----BEGIN CERTIFICATE-----").map_or("", |at| &text[at..]);
    let chain = CertificateChain::from_pem(certificates)?;
    chain.prove_possession(&*key).map_err(|_| DamageReason::KeyMismatch)?;
    Ok(Generation { number, key, chain })
}

/// The checksum of a bundle, in lower-case hex as `sha256sum` prints it.
pub(crate) fn checksum(bytes: &[u8]) -> String {
    let digest: Vec<String> = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    digest.concat()
}
