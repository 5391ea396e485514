//! What a certificate's extensions say, in words for a person. Nothing is decided by it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::{Ipv4Addr, Ipv6Addr};

use der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};

use crate::certificate::{Certificate, CertificateError};
use crate::oid::CLIENT_AUTH;

const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");

impl Certificate {
    /// The subject's alternative names, each with its kind before it, as in `DNS:press-7.example`. Control
    /// characters are escaped.
    pub fn subject_alternative_names(&self) -> Result<Vec<String>, CertificateError> {
        let found = self.parsed().tbs_certificate().get_extension::<SubjectAltName>();
        let names = found.map_err(CertificateError::Extension)?;
        Ok(names.map(|(_, names)| names.0.iter().map(general_name).collect()).unwrap_or_default())
    }

    /// What the key may be used for by the extended key usage: `clientAuth`, `serverAuth`, or an object
    /// identifier. `None` without the extension, which is every use.
    pub fn extended_key_usage(&self) -> Result<Option<Vec<String>>, CertificateError> {
        let found = self.parsed().tbs_certificate().get_extension::<ExtendedKeyUsage>();
        let uses = found.map_err(CertificateError::Extension)?;
        let name = |oid: &ObjectIdentifier| match *oid {
            CLIENT_AUTH => "clientAuth".into(),
            SERVER_AUTH => "serverAuth".into(),
            other => other.to_string(),
        };
        Ok(uses.map(|(_, uses)| uses.0.iter().map(name).collect()))
    }
}

fn general_name(name: &GeneralName) -> String {
    match name {
        GeneralName::DnsName(name) => labelled("DNS", name.as_str()),
        GeneralName::UniformResourceIdentifier(uri) => labelled("URI", uri.as_str()),
        GeneralName::Rfc822Name(address) => labelled("email", address.as_str()),
        GeneralName::DirectoryName(name) => format!("name:{name}"),
        GeneralName::RegisteredId(oid) => format!("oid:{oid}"),
        GeneralName::IpAddress(bytes) => ip_address(bytes.as_bytes()),
        _ => "of another kind".into(),
    }
}

fn labelled(kind: &str, text: &str) -> String {
    let mut label = format!("{kind}:");
    for character in text.chars() {
        if character.is_control() {
            label.extend(character.escape_default());
        } else {
            label.push(character);
        }
    }
    label
}

fn ip_address(bytes: &[u8]) -> String {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return format!("IP:{}", Ipv4Addr::from(octets));
    }
    if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
        return format!("IP:{}", Ipv6Addr::from(octets));
    }
    let mut label = String::from("IP:");
    for byte in bytes {
        // A String takes whatever is written.
        let _ = write!(label, "{byte:02x}");
    }
    label
}
