//! The checklist for issued chains, continued: issuers, signatures, constraints, replays. (Row 27, a
//! chain that the hub refuses, is the lifecycle's.)

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "what fails here fails the test"
)]

mod support;

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SerialNumber,
};
use support::{
    AS_IT_IS, Authority, Chain, DEVICE, Key, NOW, at, base64, examine, issuing, leaf, no_openssl,
    openssl, unix,
};
use zerotouch_credentials::{
    Certificate, CertificateError, CertificateRequest, ChainError, ChainNote, ChainPolicy,
    PathFault,
};

#[test]
fn x17_duplicates_and_circles() {
    let chain = Chain::new();
    let [leaf, issuing, root]: [String; 3] = chain.answer().try_into().unwrap();
    let doubled = [&leaf, &issuing, &leaf, &root, &issuing, &root].map(Clone::clone);
    assert!(
        examine(&doubled, &chain.policy()).unwrap().contains(&ChainNote::Duplicates { count: 3 })
    );

    // Two authorities that each vouch for the other.
    let a = Authority::root("a", 11);
    let b = a.below("b", 12);
    let a_by_b = b.below("a", 11);
    let by_b = b.issue(&chain.key, AS_IT_IS);
    let circle = [&by_b, &b.der, &a_by_b.der].map(|der| base64(der));
    assert_eq!(
        examine(&circle, &chain.policy()),
        Err(ChainError::Cycle { subject: "CN=b".into() })
    );

    // An authority's new key certified by its old one: self-issued, and not signed by itself.
    let old = Authority::root("issuing", 13);
    let new = old.below("issuing", 14);
    let by_new = new.issue(&chain.key, AS_IT_IS);
    let rollover = [&by_new, &new.der, &old.der].map(|der| base64(der));
    let notes = examine(&rollover, &chain.policy()).unwrap();
    assert!(notes.iter().all(|note| *note == ChainNote::KeyIdentifierMismatch), "{notes:?}");
}

#[test]
fn x18_issuers_that_may_not_issue() {
    let refused = |reason| Err(ChainError::Issuer { subject: "CN=issuing".into(), reason });
    assert_eq!(issuing(&|params| params.is_ca = IsCa::NoCa), refused(PathFault::NotAnAuthority));
    assert_eq!(
        issuing(&|params| params.is_ca = IsCa::ExplicitNoCa),
        refused(PathFault::NotAnAuthority)
    );
    assert_eq!(
        issuing(&|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
        refused(PathFault::KeyUsage)
    );

    // A root that allows no authority below it, and has one.
    let mut chain = Chain::new();
    let path_len_0 = |params: &mut rcgen::CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    };
    chain.root = Arc::new(Authority::root_with("root", 1, &path_len_0));
    chain.issuing = Arc::new(chain.root.below("issuing", 2));
    chain.leaf = chain.issuing.issue(&chain.key, AS_IT_IS);
    assert_eq!(
        examine(&chain.answer(), &chain.policy()),
        Err(ChainError::Issuer { subject: "CN=root".into(), reason: PathFault::PathLength })
    );
    assert_eq!(issuing(&path_len_0), Ok(vec![]), "0 below the issuing authority is right");
}

#[test]
fn x19_a_leaf_that_is_an_authority() {
    assert_eq!(
        leaf(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        Err(ChainError::LeafIsAuthority)
    );
    assert_eq!(leaf(&|params| params.is_ca = IsCa::ExplicitNoCa), Ok(vec![]));
}

#[test]
fn x20_extended_key_usage() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let used = |usages: &[ExtendedKeyUsagePurpose]| {
        leaf(&|params| params.extended_key_usages = usages.to_vec())
    };
    assert_eq!(used(&[]), Ok(vec![]), "absent allows every use");
    assert_eq!(used(&[ServerAuth, ClientAuth]), Ok(vec![]));
    assert_eq!(used(&[ServerAuth]), Err(ChainError::NotForClientAuthentication));
    let empty = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages.clear();
        let empty_sequence = vec![0x30, 0x00];
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[2, 5, 29, 37], empty_sequence)];
    };
    assert_eq!(leaf(&empty), Err(ChainError::NotForClientAuthentication));
    assert_eq!(
        issuing(&|params| params.extended_key_usages = vec![ServerAuth]),
        Err(ChainError::Issuer {
            subject: "CN=issuing".into(),
            reason: PathFault::ExtendedKeyUsage
        }),
        "what the issuing authority may not do it cannot pass on"
    );
}

/// The chain with the issuing authority's signature algorithm replaced, inside and outside.
fn patched(from: [u8; 3], to: [u8; 3], only_outside: bool) -> Result<Vec<ChainNote>, ChainError> {
    let chain = Chain::new();
    let mut der = chain.leaf.clone();
    // ecdsa-with-SHA384 ends in 4.3.3.
    let places: Vec<usize> = (0..der.len() - 10)
        .filter(|&at| der[at..].starts_with(&[6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D]))
        .filter(|&at| der[at + 7..at + 10] == from)
        .collect();
    assert_eq!(places.len(), 2);
    for place in &places[usize::from(only_outside)..] {
        der[place + 7..place + 10].copy_from_slice(&to);
    }
    let answer = [&der, &chain.issuing.der, &chain.root.der].map(|der| base64(der));
    examine(&answer, &chain.policy())
}

#[test]
fn x21_signature_algorithms() {
    let unsupported = Err(ChainError::UnsupportedSignature { subject: "CN=press-7".into() });
    assert_eq!(patched([4, 3, 3], [4, 3, 1], false), unsupported, "SHA-224");
    assert_eq!(patched([4, 3, 3], [4, 3, 4], false), unsupported, "SHA-512");
    assert_eq!(patched([4, 3, 3], [9, 9, 9], false), unsupported, "unknown");
    assert_eq!(
        patched([4, 3, 3], [4, 3, 2], false),
        Err(ChainError::BadSignature { subject: "CN=press-7".into(), issuer: "CN=issuing".into() }),
        "the hash is supported, and is not what was signed"
    );
    assert_eq!(
        patched([4, 3, 3], [4, 3, 2], true),
        Err(ChainError::NotACertificate { index: 0, reason: CertificateError::AlgorithmMismatch })
    );
}

/// An answer from an authority that openssl makes. `new_key` makes its key, `sign` says how it
/// signs, `version` whether the leaf is of version 1 or 3.
fn by_openssl(new_key: &str, sign: &str, version: u8) -> Result<Vec<ChainNote>, ChainError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let key = Key::new(3);
    let request = CertificateRequest::new(&key.key, DEVICE).unwrap();
    std::fs::write(path.join("request.der"), request.as_der()).unwrap();
    std::fs::write(path.join("v3"), "basicConstraints=CA:FALSE\n").unwrap();
    let extensions = if version == 3 { "-extfile v3" } else { "" };
    openssl(path, &format!("{new_key} -out ca.key"));
    openssl(path, &format!("req -x509 -new -key ca.key -subj /CN=ca -days 60 -out ca.pem {sign}"));
    openssl(
        path,
        &format!(
            "x509 -req -inform DER -in request.der -CA ca.pem -CAkey ca.key -set_serial 7 \
             -days 30 -outform DER -out leaf.der {sign} {extensions}"
        ),
    );
    openssl(path, "x509 -in ca.pem -outform DER -out ca.der");
    let answer =
        ["leaf.der", "ca.der"].map(|name| base64(&std::fs::read(path.join(name)).unwrap()));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = unix(i64::try_from(now.as_secs()).unwrap());
    let policy = ChainPolicy { now: Some(now), ..ChainPolicy::new(key.public_key(), DEVICE) };
    examine(&answer, &policy)
}

fn curve(name: &str) -> String {
    format!("ecparam -genkey -noout -name {name}")
}

#[test]
fn x21_keys_and_hashes_of_other_authorities() {
    if no_openssl() {
        return;
    }
    // What Azure Device Registry documents, and its neighbours.
    assert_eq!(by_openssl(&curve("secp384r1"), "-sha384", 3), Ok(vec![]));
    assert_eq!(by_openssl(&curve("secp384r1"), "-sha256", 3), Ok(vec![]));
    assert_eq!(by_openssl(&curve("prime256v1"), "-sha256", 3), Ok(vec![]));
    assert_eq!(by_openssl(&curve("prime256v1"), "-sha384", 3), Ok(vec![]));

    // Authorities of other makes: a device that brings its own certificate has one of these.
    for (bits, hash) in [(2048, "-sha256"), (3072, "-sha384"), (4096, "-sha512")] {
        assert_eq!(by_openssl(&rsa(bits), hash, 3), Ok(vec![]), "{bits}");
    }

    let unsupported = Err(ChainError::UnsupportedSignature { subject: "CN=press-7".into() });
    assert_eq!(by_openssl(&curve("prime256v1"), "-sha1", 3), unsupported);
    assert_eq!(by_openssl(&curve("prime192v1"), "-sha256", 3), unsupported);
    assert_eq!(by_openssl(&rsa(1024), "-sha256", 3), unsupported);
    assert_eq!(by_openssl(&rsa(2040), "-sha256", 3), unsupported);
    assert_eq!(by_openssl(&rsa(2048), "-sha1", 3), unsupported);
}

fn rsa(bits: u32) -> String {
    format!("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:{bits}")
}

#[test]
fn x22_explicit_curve_parameters() {
    if no_openssl() {
        return;
    }
    let explicit = "ecparam -genkey -noout -name prime256v1 -param_enc explicit";
    assert_eq!(
        by_openssl(explicit, "-sha256", 3),
        Err(ChainError::UnsupportedSignature { subject: "CN=press-7".into() })
    );
}

#[test]
fn x23_extensions_and_versions() {
    if no_openssl() {
        return;
    }
    let custom = |critical: bool| {
        let mut extension =
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 311, 7], vec![5, 0]);
        extension.set_criticality(critical);
        extension
    };
    assert_eq!(leaf(&|params| params.custom_extensions = vec![custom(false)]), Ok(vec![]));
    assert_eq!(
        leaf(&|params| params.custom_extensions = vec![custom(true)]),
        Err(ChainError::Path { reason: PathFault::CriticalExtension })
    );
    // A second extended key usage beside the first.
    let second = vec![0x30, 0x0A, 6, 8, 0x2B, 6, 1, 5, 5, 7, 3, 2];
    let twice = |params: &mut rcgen::CertificateParams| {
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[2, 5, 29, 37], second.clone())];
    };
    assert!(matches!(
        leaf(&twice),
        Err(ChainError::NotACertificate { index: 0, reason: CertificateError::Extension(_) })
    ));
    assert_eq!(
        by_openssl(&curve("prime256v1"), "-sha256", 1),
        Err(ChainError::Path { reason: PathFault::Version })
    );
}

#[test]
fn x24_serial_numbers_and_nameless_issuers() {
    let examine_both = |chain: &Chain| {
        let root = chain.root.certificate();
        let pinned = ChainPolicy { anchor: Some(&root), ..chain.policy() };
        (examine(&chain.answer(), &chain.policy()), examine(&chain.answer(), &pinned))
    };
    let with_serial = |serial: &[u8]| {
        examine_both(&Chain::with(&|params| {
            params.serial_number = Some(SerialNumber::from_slice(serial));
        }))
    };
    let refused = Err(ChainError::SerialNotPositive);
    assert_eq!(with_serial(&[0]), (refused, Ok(vec![ChainNote::SerialNotPositive])));
    assert_eq!(with_serial(&[0x7F; 20]), (Ok(vec![]), Ok(vec![])));
    let (unpinned, pinned) = with_serial(&[0x7F; 22]);
    for refused in [unpinned, pinned] {
        assert!(matches!(refused, Err(ChainError::NotACertificate { .. })), "{refused:?}");
    }

    let mut nameless = Chain::new();
    nameless.issuing = Arc::new(nameless.root.below_with("issuing", 2, &|params| {
        params.distinguished_name = DistinguishedName::new();
    }));
    nameless.leaf = nameless.issuing.issue(&nameless.key, AS_IT_IS);
    let (unpinned, pinned) = examine_both(&nameless);
    assert_eq!(unpinned, Err(ChainError::NoIssuer));
    assert!(pinned.is_ok_and(|notes| notes.contains(&ChainNote::NoIssuer)));
}

// rcgen writes positive serials only, so a negative one is made by changing the first byte; that
// breaks the signature, which is looked at later.
#[test]
fn x24_a_negative_serial_number() {
    let chain = Chain::new();
    let mut der = chain.leaf.clone();
    let at = der.windows(DEVICE.len()).position(|bytes| bytes == DEVICE.as_bytes()).unwrap();
    der[at] = 0x80;
    let answer = [&der, &chain.issuing.der].map(|der| base64(der));
    assert_eq!(examine(&answer, &chain.policy()), Err(ChainError::SerialNotPositive));
}

#[test]
fn x25_an_old_answer_repeated() {
    let chain = Chain::new();
    let replayed = |current: &[u8]| {
        let current = Certificate::from_der(current).unwrap();
        let policy = ChainPolicy { current: Some(&current), ..chain.policy() };
        examine(&chain.answer(), &policy)
    };
    assert_eq!(replayed(&chain.leaf), Err(ChainError::Replay), "the very same");
    let newer = chain.issuing.issue(&chain.key, &|params| {
        params.not_before = at(NOW - 59);
        params.serial_number = Some(SerialNumber::from_slice(&[9]));
    });
    assert_eq!(replayed(&newer), Err(ChainError::Replay), "older than what is in use");
    let older = chain.issuing.issue(&chain.key, &|params| {
        params.not_before = at(NOW - 61);
        params.serial_number = Some(SerialNumber::from_slice(&[9]));
    });
    assert_eq!(replayed(&older), Ok(vec![]), "a renewal with the same key");
}

#[test]
fn x26_issuers_by_signature_not_by_name() {
    let chain = Chain::new();
    let rogue = chain.root.below("issuing", 66);
    let answer = [&chain.leaf, &rogue.der, &chain.root.der].map(|der| base64(der));
    let forged =
        Err(ChainError::BadSignature { subject: "CN=press-7".into(), issuer: "CN=issuing".into() });
    assert_eq!(examine(&answer, &chain.policy()), forged);
    // Beside the true issuer, the rogue is merely unrelated.
    let both =
        [&chain.leaf, &rogue.der, &chain.issuing.der, &chain.root.der].map(|der| base64(der));
    assert_eq!(
        examine(&both, &chain.policy()),
        Ok(vec![ChainNote::Reordered, ChainNote::Unrelated { count: 1 }])
    );

    // The right key under another name is not the issuer either.
    let renamed = chain.root.below("other", 2);
    let answer = [&chain.leaf, &renamed.der, &chain.root.der].map(|der| base64(der));
    assert_eq!(
        examine(&answer, &chain.policy()),
        Ok(vec![ChainNote::Unrelated { count: 2 }, ChainNote::Incomplete])
    );

    // The signature counts; a contradicting key identifier is noted.
    let mut odd = Chain::new();
    odd.issuing = Arc::new(odd.root.below_with("issuing", 2, &|params| {
        params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![1, 2, 3]);
    }));
    let answer = [&chain.leaf, &odd.issuing.der, &odd.root.der].map(|der| base64(der));
    assert_eq!(examine(&answer, &chain.policy()), Ok(vec![ChainNote::KeyIdentifierMismatch]));
}
