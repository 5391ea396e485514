//! Whatever an answer holds as certificates, judging it ends, without a panic; and what is accepted
//! is for our key and name, is in order, and is accepted again.
//!
//! Input: certificates, each behind its length (two bytes, big-endian); what is left over is looked
//! at as text. The key and name to expect are those of each certificate in turn, so that the later
//! checks are reached.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zerotouch_credentials::{Certificate, CertificateChain, ChainNote, ChainPolicy};
use zerotouch_time::UnixTime;

fuzz_target!(|input: &[u8]| {
    let (ders, rest) = split(input);
    let texts: Vec<String> = ders.iter().map(|der| base64(der)).collect();
    let rest = String::from_utf8_lossy(rest);
    let _ = CertificateChain::from_pem(&rest);
    let lenient = ChainPolicy { allow_pem: true, ..ChainPolicy::new(&[], "") };
    assert!(CertificateChain::accept([rest], &lenient).is_err(), "no certificate is for no key");

    for der in &ders {
        let Ok(expected) = Certificate::from_der(der) else { continue };
        let Some(name) = expected.common_name() else { continue };
        let policy = ChainPolicy {
            now: Some(UnixTime::from_secs(1_780_272_000)),
            ..ChainPolicy::new(expected.public_key(), name)
        };
        let Ok(accepted) = CertificateChain::examine(&texts, &policy) else { continue };
        let chain = accepted.chain;
        assert_eq!(chain.leaf().public_key(), expected.public_key());
        assert_eq!(chain.leaf().common_name(), Some(name));
        assert_eq!(CertificateChain::from_pem(&chain.to_pem()).as_ref(), Ok(&chain));

        let ordered: Vec<String> = chain.iter().map(|one| base64(one.as_der())).collect();
        let again = CertificateChain::examine(&ordered, &policy).expect("accepted before");
        assert_eq!(again.chain, chain);
        assert!(!again.notes.contains(&ChainNote::Reordered));
    }
});

fn split(mut input: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut ders = Vec::new();
    while let [high, low, rest @ ..] = input {
        let Some((der, rest)) =
            rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
        else {
            break;
        };
        ders.push(der);
        input = rest;
    }
    (ders, input)
}

fn base64(der: &[u8]) -> String {
    use base64ct::{Base64, Encoding};
    Base64::encode_string(der)
}
