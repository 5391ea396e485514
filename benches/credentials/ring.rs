//! ring, and rustls-webpki with it.

use criterion::Criterion;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1,
    ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use zerotouch_credentials::KeyAlgorithm;

use super::{MESSAGE, Work, measure};

const RING: &str = "ring";

pub(super) fn keys(criterion: &mut Criterion, work: &Work) {
    let verification: &'static dyn VerificationAlgorithm = match work.algorithm {
        KeyAlgorithm::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
        KeyAlgorithm::EcdsaP384 => &ECDSA_P384_SHA384_ASN1,
        _ => &RSA_PKCS1_2048_8192_SHA256,
    };
    let public = UnparsedPublicKey::new(verification, work.public_bits());
    measure(criterion, &work.row("verify"), RING, || {
        public.verify(MESSAGE, &work.signature).expect("it is ours");
    });
    match work.algorithm {
        KeyAlgorithm::EcdsaP256 => ecdsa(criterion, work, &ECDSA_P256_SHA256_ASN1_SIGNING),
        KeyAlgorithm::EcdsaP384 => ecdsa(criterion, work, &ECDSA_P384_SHA384_ASN1_SIGNING),
        _ => rsa(criterion, work),
    }
    chain(criterion, work);
}

fn ecdsa(criterion: &mut Criterion, work: &Work, signing: &'static EcdsaSigningAlgorithm) {
    let rng = SystemRandom::new();
    measure(criterion, &work.row("generate"), RING, || {
        EcdsaKeyPair::generate_pkcs8(signing, &rng).expect("a key")
    });
    let key = EcdsaKeyPair::from_pkcs8(signing, &work.pkcs8_der(), &rng).expect("our key");
    measure(criterion, &work.row("sign"), RING, || key.sign(&rng, MESSAGE).expect("a signature"));
}

fn rsa(criterion: &mut Criterion, work: &Work) {
    let rng = SystemRandom::new();
    let key = RsaKeyPair::from_pkcs8(&work.pkcs8_der()).expect("our key");
    let mut signature = vec![0; key.public().modulus_len()];
    measure(criterion, &work.row("sign"), RING, || {
        key.sign(&RSA_PKCS1_SHA256, &rng, MESSAGE, &mut signature).expect("a signature");
    });
}

/// Signatures and path alone: no base64, no name, no key.
fn chain(criterion: &mut Criterion, work: &Work) {
    let ders: Vec<_> = work.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let now = work.now.as_secs().unsigned_abs();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
    measure(criterion, &work.row("accept-chain"), "rustls-webpki with ring", || {
        let anchor = anchor_from_trusted_cert(&ders[2]).expect("a root");
        let leaf = EndEntityCert::try_from(&ders[0]).expect("a certificate");
        let usage = KeyUsage::client_auth();
        leaf.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &[anchor],
            &ders[1..2],
            now,
            usage,
            None,
            None,
        )
        .map(drop)
        .expect("it is good");
    });
}

/// The HMAC alone, without the text around it.
pub(super) fn tokens(criterion: &mut Criterion) {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[7; 32]);
    let signed = b"0ne00000000%2Fregistrations%2Fpress-7\n1790000000";
    measure(criterion, "sas-sign", "ring, the HMAC alone", || ring::hmac::sign(&key, signed));
    let tag = ring::hmac::sign(&key, signed);
    measure(criterion, "sas-verify", "ring, the HMAC alone", || {
        ring::hmac::verify(&key, signed, tag.as_ref()).expect("it is good");
    });
}
