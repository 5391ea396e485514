//! What follows the record in the file of a key: the key and its chain, in PEM that `openssl` reads.

use std::string::String;
use std::sync::Arc;

use der::Document;
use der::pem::LineEnding;
use zeroize::Zeroizing;
use zerotouch_credentials::{CertificateChain, PrivateKey, PrivateKeyError};

use super::error::DamageReason;
use crate::key::{Key, KeyReference};
use crate::model::Generation;

/// The PEM label of a public key (RFC 7468 §13).
const PUBLIC_KEY: &str = "PUBLIC KEY";

/// The key, and its chain if it has one. Of a key in hardware, the public half.
pub(crate) fn encode(
    key: &Key,
    chain: Option<&CertificateChain>,
) -> Result<Zeroizing<String>, PrivateKeyError> {
    let key = match key {
        Key::Software(key) => key.to_pkcs8_pem()?,
        Key::Reference(reference) => Document::try_from(reference.public_key())
            .and_then(|document| document.to_pem(PUBLIC_KEY, LineEnding::LF))
            .map_err(|_| PrivateKeyError::Malformed)?
            .into(),
    };
    let chain = chain.map(CertificateChain::to_pem).unwrap_or_default();
    // Reserved at once, so that growing the buffer leaves no unwiped copy of the key.
    let mut text = Zeroizing::new(String::with_capacity(key.len() + chain.len()));
    text.push_str(&key);
    text.push_str(&chain);
    Ok(text)
}

/// The key of a body; `reference` is the address in its record.
pub(crate) fn decode_key(reference: Option<&str>, body: &str) -> Result<Key, DamageReason> {
    let Some(uri) = reference else {
        return Ok(Key::Software(Arc::new(PrivateKey::from_pem(body)?)));
    };
    // What follows is no secret.
    let end = body.find("-----BEGIN CERTIFICATE-----").unwrap_or(body.len());
    let (label, document) =
        Document::from_pem(body[..end].trim()).map_err(|_| DamageReason::PublicKey)?;
    if label != PUBLIC_KEY {
        return Err(DamageReason::PublicKey);
    }
    Ok(Key::Reference(KeyReference::unattached(uri, document.as_bytes())?))
}

/// The generation of a body, once its key has been seen to sign for its certificate. A key in
/// hardware is known by its public half; who opens it compares that.
pub(crate) fn decode_generation(
    number: u64,
    reference: Option<&str>,
    body: &str,
) -> Result<Generation, DamageReason> {
    let key = decode_key(reference, body)?;
    // The key's block is not shown to the chain's parser, which wipes nothing.
    let certificates = body.find("-----BEGIN CERTIFICATE-----").map_or("", |at| &body[at..]);
    let chain = CertificateChain::from_pem(certificates)?;
    let fits = match &key {
        Key::Software(key) => chain.prove_possession(&**key).is_ok(),
        Key::Reference(reference) => chain.leaf().public_key() == reference.public_key(),
    };
    if fits { Ok(Generation { number, key, chain }) } else { Err(DamageReason::KeyMismatch) }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use zerotouch_credentials::Signer;

    use super::*;
    use crate::testing::{chain, key};

    const URI: &str = "pkcs11:object=slot-a";

    fn bundle_of(seed: u64, chain_of: u64) -> String {
        let reference = KeyReference::unattached(URI, key(seed).public_key()).unwrap();
        encode(&reference.into(), Some(&chain(&key(chain_of)))).unwrap().to_string()
    }

    // X3 for a key in hardware: the store has its public half, and that must be the certified one.
    #[test]
    fn x03_a_key_in_hardware_fits_its_certificate() {
        let decoded = |body: &str| decode_generation(1, Some(URI), body).map(|one| one.number);
        assert_eq!(decoded(&bundle_of(1, 1)), Ok(1));
        assert_eq!(decoded(&bundle_of(1, 2)), Err(DamageReason::KeyMismatch));
    }

    // Where a public key belongs, nothing else is taken for one.
    #[test]
    fn only_a_public_key_is_a_public_key() {
        let body = bundle_of(1, 1);
        for spoilt in [body.replace("PUBLIC KEY", "PRIVATE KEY"), body.replacen("MF", "?F", 1)] {
            assert_ne!(spoilt, body);
            let decoded = decode_key(Some(URI), &spoilt).map(drop);
            assert_eq!(decoded, Err(DamageReason::PublicKey));
        }
        let pin = decode_key(Some("pkcs11:object=a?pin-value=1"), &body).map(drop);
        assert!(matches!(pin, Err(DamageReason::KeyReference(_))), "{pin:?}");
    }
}
