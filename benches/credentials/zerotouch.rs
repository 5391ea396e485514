//! Ours.

use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use criterion::Criterion;
use zerotouch_credentials::{
    CertificateChain, CertificateRequest, ChainPolicy, PrivateKey, SasClaims, SasToken, Signer,
    verify_signature,
};
use zerotouch_time::UnixTime;

use super::{MESSAGE, NAME, Work, measure, symmetric_key};

const OURS: &str = "zerotouch";

pub(super) fn keys(criterion: &mut Criterion, work: &Work) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    measure(criterion, &work.row("generate"), OURS, || {
        PrivateKey::generate(work.algorithm, &mut rng).expect("a key")
    });
    measure(criterion, &work.row("sign"), OURS, || work.key.sign(MESSAGE).expect("a signature"));
    measure(criterion, &work.row("verify"), OURS, || {
        verify_signature(work.key.public_key(), MESSAGE, &work.signature).expect("it is ours");
    });
    // Signed, and verified before it leaves.
    measure(criterion, &work.row("request"), OURS, || {
        CertificateRequest::new(&*work.key, NAME).expect("a request")
    });
    let answer = work.base64_chain();
    let policy =
        ChainPolicy { now: Some(work.now), ..ChainPolicy::new(work.key.public_key(), NAME) };
    measure(criterion, &work.row("accept-chain"), OURS, || {
        CertificateChain::accept(&answer, &policy).expect("it is good")
    });
}

pub(super) fn tokens(criterion: &mut Criterion) {
    let (key, expiry) = (symmetric_key(), UnixTime::from_secs(1_790_000_000));
    measure(criterion, "sas-sign", OURS, || SasToken::for_dps(&key, "0ne00000000", NAME, expiry));
    let token = SasToken::for_dps(&key, "0ne00000000", NAME, expiry);
    measure(criterion, "sas-verify", OURS, || {
        let claims = SasClaims::parse(token.as_str()).expect("a token");
        claims.verify(&key, expiry, Duration::ZERO).expect("it is good");
    });
}
