//! Whatever a client sends for a token, reading it ends without a panic; what it is read as is what was
//! sent, and a token of ours for the same is read alike and verifies.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use zerotouch_credentials::{SasClaims, SasToken, SymmetricKey};
use zerotouch_time::UnixTime;

fuzz_target!(|input: &str| {
    let key = SymmetricKey::from_base64("AAECAwQFBgcICQoLDA0ODw==").expect("16 bytes");
    let Ok(claims) = SasClaims::parse(input) else { return };
    let now = UnixTime::from_secs(0);
    let verified = claims.verify(&key, now, Duration::ZERO);
    assert!(claims.is_for(claims.resource()));
    assert!(claims.expiry() >= now, "a time before 1970 was read");
    // Every part of the text is where it belongs: without its signature no token is good.
    let unsigned = input.replace("sig=", "sig=AAAA");
    if let (Ok(()), Ok(unsigned)) = (verified, SasClaims::parse(&unsigned)) {
        assert!(unsigned.verify(&key, now, Duration::ZERO).is_err());
    }

    let Some((scope, id)) = claims.resource().split_once("/registrations/") else { return };
    let ours = SasToken::for_dps(&key, scope, id, claims.expiry());
    let again = SasClaims::parse(ours.as_str()).expect("a token of our own");
    assert_eq!((again.resource(), again.expiry()), (claims.resource(), claims.expiry()));
    assert_eq!(again.key_name(), Some("registration"));
    assert_eq!(again.verify(&key, again.expiry(), Duration::ZERO), Ok(()));
});
