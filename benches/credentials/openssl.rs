//! OpenSSL, the one of the system.

use criterion::Criterion;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::{Signer, Verifier};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509NameBuilder, X509ReqBuilder, X509StoreContext};
use zerotouch_credentials::KeyAlgorithm;

use super::{MESSAGE, NAME, Work, measure};

const OPENSSL: &str = "openssl";

pub(super) fn keys(criterion: &mut Criterion, work: &Work) {
    measure(criterion, &work.row("generate"), OPENSSL, || match work.algorithm {
        KeyAlgorithm::EcdsaP256 => ec(Nid::X9_62_PRIME256V1),
        KeyAlgorithm::EcdsaP384 => ec(Nid::SECP384R1),
        _ => PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key"),
    });
    let key = PKey::private_key_from_pkcs8(&work.pkcs8_der()).expect("our key");
    let hash = match work.algorithm {
        KeyAlgorithm::EcdsaP384 => MessageDigest::sha384(),
        _ => MessageDigest::sha256(),
    };
    measure(criterion, &work.row("sign"), OPENSSL, || {
        let mut signer = Signer::new(hash, &key).expect("a signer");
        signer.sign_oneshot_to_vec(MESSAGE).expect("a signature")
    });
    measure(criterion, &work.row("verify"), OPENSSL, || {
        let mut verifier = Verifier::new(hash, &key).expect("a verifier");
        assert!(verifier.verify_oneshot(&work.signature, MESSAGE).expect("no fault"));
    });
    measure(criterion, &work.row("request"), OPENSSL, || request(&key, hash));
    chain(criterion, work);
}

fn ec(curve: Nid) -> PKey<Private> {
    let group = EcGroup::from_curve_name(curve).expect("a curve");
    PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key")
}

/// Signed, and verified before it leaves, as ours.
fn request(key: &PKey<Private>, hash: MessageDigest) -> Vec<u8> {
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_nid(Nid::COMMONNAME, NAME).expect("a name");
    let mut request = X509ReqBuilder::new().expect("a request");
    request.set_subject_name(&name.build()).expect("a name");
    request.set_pubkey(key).expect("a key");
    request.sign(key, hash).expect("a signature");
    let request = request.build();
    assert!(request.verify(key).expect("no fault"));
    request.to_der().expect("DER")
}

fn chain(criterion: &mut Criterion, work: &Work) {
    measure(criterion, &work.row("accept-chain"), OPENSSL, || {
        let [leaf, issuing, root] =
            [0, 1, 2].map(|at| X509::from_der(&work.chain[at]).expect("a certificate"));
        let mut store = X509StoreBuilder::new().expect("a store");
        store.add_cert(root).expect("a root");
        let mut others = Stack::new().expect("a stack");
        others.push(issuing).expect("an authority");
        let mut context = X509StoreContext::new().expect("a context");
        let good = context
            .init(&store.build(), &leaf, &others, |context| context.verify_cert())
            .expect("no fault");
        assert!(good);
    });
}

/// The HMAC alone, without the text around it.
pub(super) fn tokens(criterion: &mut Criterion) {
    let key = PKey::hmac(&[7; 32]).expect("a key");
    let signed = b"0ne00000000%2Fregistrations%2Fpress-7\n1790000000";
    measure(criterion, "sas-sign", "openssl, the HMAC alone", || {
        let mut signer = Signer::new(MessageDigest::sha256(), &key).expect("a signer");
        signer.sign_oneshot_to_vec(signed).expect("a signature")
    });
}
