//! The roots a release carries.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fmt::Write;

use rustls_pki_types::TrustAnchor;
use sha2::{Digest, Sha256};
use zerotouch_tls::{Roots, TlsClient};

/// What the vendor's documentation ("TLS support in IoT Hub", "in DPS") asks devices to trust: common
/// name, and SHA-256 of the `SubjectPublicKeyInfo`, taken from the certificates with the published
/// fingerprints CB3CCBB7…, 31AD6648… and C741F70F….
const ASKED_FOR: [(&str, &str); 3] = [
    ("DigiCert Global Root G2", "8bb593a93be1d0e8a822bb887c547890c3e706aad2dab76254f97fb36b82fc26"),
    ("DigiCert Global Root G3", "b94c198300cec5c057ad0727b70bbe91816992256439a7b32f4598119dda9c97"),
    (
        "Microsoft RSA Root Certificate Authority 2017",
        "b2f7298b52bf2c3cac4ddfe72de4d682ac58957595982f2b62301af597c699c5",
    ),
];

/// An anchor holds what is inside the outermost SEQUENCE, whose head is put back here.
fn spki_hash(anchor: &TrustAnchor<'_>) -> String {
    let inner = &anchor.subject_public_key_info;
    let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
    let head = match inner.len() {
        0..0x80 => vec![0x30, length[1]],
        0x80..0x100 => vec![0x30, 0x81, length[1]],
        _ => vec![0x30, 0x82, length[0], length[1]],
    };
    let digest = Sha256::new().chain_update(head).chain_update(inner).finalize();
    digest.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

// The set is Mozilla's and changes with it; a release without the roots the services chain to would
// strand every device that uses it.
#[test]
fn the_bundled_set_has_the_vendors_roots() {
    for (name, hash) in ASKED_FOR {
        let found = webpki_roots::TLS_SERVER_ROOTS
            .iter()
            .filter(|anchor| anchor.subject.windows(name.len()).any(|at| at == name.as_bytes()))
            .map(spki_hash)
            .collect::<Vec<_>>();
        assert_eq!(found, [hash], "{name}");
    }
    TlsClient::new(&Roots::BUNDLED).unwrap();
}
