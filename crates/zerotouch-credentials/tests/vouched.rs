//! Certificates that were read before, in a thread in which somebody vouches for signatures.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "what fails here fails the test"
)]

mod support;

use support::{Chain, Key, base64};
use zerotouch_credentials::{Certificate, CertificateChain, ChainError, Signer, Vouched};

fn place(certificate: &Certificate) -> usize {
    certificate.as_der().as_ptr().addr()
}

// A world that takes base64 for DER, or one certificate for another, is not the world. And where nobody
// vouches for anything, nothing is kept.
#[test]
fn the_same_bytes_are_read_once() {
    let chain = Chain::new();
    let (der, answer) = (&*chain.leaf, chain.answer());
    let read = || Certificate::from_der(der).unwrap();
    let accept = |answer: &[String]| CertificateChain::accept(answer, &chain.policy());
    let (one, other) = (read(), read());
    assert_ne!(place(&one), place(&other));

    Vouched(Key::new(9).key).sign(b"").unwrap();
    let known = read();
    assert_eq!(place(&known), place(&read()));
    let accepted = accept(&answer).unwrap();
    assert_eq!(place(accepted.leaf()), place(&known));
    assert_eq!(place(accept(&answer).unwrap().leaf()), place(&known));

    Certificate::from_der(answer[0].as_bytes()).unwrap_err();
    Certificate::from_der(&der[1..]).unwrap_err();
    let mut broken = der.to_vec();
    broken[der.len() - 1] ^= 1;
    assert_ne!(place(&Certificate::from_der(&broken).unwrap()), place(&known));
    let broken = [base64(&broken), answer[1].clone(), answer[2].clone()];
    assert!(matches!(accept(&broken), Err(ChainError::BadSignature { .. })));
}
