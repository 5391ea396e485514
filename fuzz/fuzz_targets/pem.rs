//! Whatever a file holds that should be a key or a chain: reading it ends without a panic, and what is read
//! is written and read again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zerotouch_credentials::{CertificateChain, PrivateKey, Signer, verify_signature};

fuzz_target!(|input: &[u8]| {
    if let Ok(key) = PrivateKey::from_bytes(input) {
        let pem = key.to_pkcs8_pem().expect("was read before");
        let again = PrivateKey::from_pem(&pem).expect("of our own");
        assert_eq!((again.algorithm(), again.public_key()), (key.algorithm(), key.public_key()));
        // A key may be broken in ways that only signing shows; never may two differ.
        if let (Ok(one), Ok(other)) = (key.sign(b"m"), again.sign(b"m")) {
            assert_eq!(one, other);
            let _ = verify_signature(key.public_key(), b"m", &one);
        }
    }
    let Ok(text) = str::from_utf8(input) else { return };
    if let Ok(chain) = CertificateChain::from_pem(text) {
        assert_eq!(CertificateChain::from_pem(&chain.to_pem()).as_ref(), Ok(&chain));
    }
});
