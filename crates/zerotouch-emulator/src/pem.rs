//! PEM armour (RFC 7468) around a certificate, or a request for one.

use base64ct::{Base64, Encoding};
use zerotouch_credentials::{Certificate, CertificateRequest};

pub(crate) fn certificate(certificate: &Certificate) -> String {
    armour("CERTIFICATE", certificate.as_der())
}

pub(crate) fn request(request: &CertificateRequest) -> String {
    armour("CERTIFICATE REQUEST", request.as_der())
}

fn armour(label: &str, der: &[u8]) -> String {
    let base64 = Base64::encode_string(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    // Base64 is ASCII, so every cut is between characters.
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.extend(["-----END ", label, "-----\n"]);
    pem
}
