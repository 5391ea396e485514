//! PEM armour (RFC 7468) around a certificate.

use base64ct::{Base64, Encoding};
use zerotouch_credentials::Certificate;

pub(crate) fn certificate(certificate: &Certificate) -> String {
    let base64 = Base64::encode_string(certificate.as_der());
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    // Base64 is ASCII, so every cut is between characters.
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
