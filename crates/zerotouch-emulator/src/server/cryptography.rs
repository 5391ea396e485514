//! Whose cryptography it is. With the feature `aws-lc-rs` AWS-LC's, which is the faster where there are
//! thousands of devices. Without it ring's in TLS, and for certificates that of the keys themselves, which
//! make the smaller program.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as implementation;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as implementation;
use zerotouch_credentials::{PrivateKey, PrivateKeyError, Signer};

/// What the emulator does TLS by, for clients that have as many connections.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(implementation::default_provider())
}

/// The key, which signs as fast as the features allow. With `aws-lc-rs` two signatures of the same message
/// differ, for it draws random numbers of the system.
pub fn fast_signer(key: Arc<PrivateKey>) -> Result<Arc<dyn Signer>, PrivateKeyError> {
    #[cfg(feature = "aws-lc-rs")]
    if key.algorithm().rsa_bits().is_none() {
        return Ok(Arc::new(zerotouch_credentials::AwsLcKey::new(&key)?));
    }
    Ok(key)
}
