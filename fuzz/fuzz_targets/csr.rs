//! Whatever a device sends for a request, reading and verifying it ends without a panic; what verifies is
//! kept byte for byte, and no longer verifies with another byte of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zerotouch_credentials::CertificateRequest;

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = str::from_utf8(input) {
        let _ = CertificateRequest::from_base64(text);
    }
    let Ok(request) = CertificateRequest::from_der(input) else { return };
    assert_eq!(request.as_der(), input);
    let again = CertificateRequest::from_base64(&request.to_base64()).expect("was read before");
    assert_eq!(again, request);
    if request.verify().is_err() {
        return;
    }
    request.key_algorithm().ok();
    // The name and the key are what is signed; the last byte but one is the signature's.
    for at in [input.len() / 2, input.len() - 2] {
        let mut changed = input.to_vec();
        changed[at] ^= 1;
        if let Ok(changed) = CertificateRequest::from_der(&changed) {
            assert!(changed.verify().is_err(), "byte {at} does not count");
        }
    }
});
