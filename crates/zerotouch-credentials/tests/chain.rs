//! What may become a device's identity, and what may not: one test per row of the project's
//! checklist for issued chains, bearing the row's number. (Row 27, a chain that the hub refuses, is
//! the lifecycle's.)

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "what fails here fails the test"
)]

mod support;

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CustomExtension, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose,
    IsCa, KeyUsagePurpose, SerialNumber,
};
use support::{
    AS_IT_IS, Authority, Chain, DAY, DEVICE, Key, NOW, Tweak, at, base64, common_name, openssl,
    seconds,
};
use zerotouch_credentials::{
    Base64Fault, Certificate, CertificateChain, CertificateError, CertificateRequest, ChainError,
    ChainNote, ChainPolicy, PathFault, SignatureError, Signer,
};
use zerotouch_time::UnixTime;

fn examine(answer: &[String], policy: &ChainPolicy<'_>) -> Result<Vec<ChainNote>, ChainError> {
    CertificateChain::examine(answer, policy).map(|accepted| accepted.notes)
}

/// What becomes of a chain whose leaf is tweaked.
fn leaf(tweak: Tweak<'_>) -> Result<Vec<ChainNote>, ChainError> {
    let chain = Chain::with(tweak);
    examine(&chain.answer(), &chain.policy())
}

/// What becomes of a chain whose issuing authority is tweaked.
fn issuing(tweak: Tweak<'_>) -> Result<Vec<ChainNote>, ChainError> {
    let mut chain = Chain::new();
    chain.issuing = Arc::new(chain.root.below_with("issuing", 2, tweak));
    chain.leaf = chain.issuing.issue(&chain.key, AS_IT_IS);
    examine(&chain.answer(), &chain.policy())
}

fn unix(secs: i64) -> UnixTime {
    UnixTime::from_secs(secs)
}

#[test]
fn the_usual_chain_is_accepted_and_told_apart() {
    let chain = Chain::new();
    let root = chain.root.certificate();
    for anchor in [None, Some(&root)] {
        let policy = ChainPolicy { anchor, ..chain.policy() };
        let accepted = CertificateChain::examine(chain.answer(), &policy).unwrap();
        assert_eq!(accepted.notes, []);
        let ders: Vec<&[u8]> = accepted.chain.iter().map(Certificate::as_der).collect();
        assert_eq!(ders, [&*chain.leaf, &*chain.issuing.der, &*chain.root.der]);
        let leaf = accepted.chain.leaf();
        assert_eq!(leaf.common_name(), Some(DEVICE));
        assert_eq!((leaf.not_before(), leaf.not_after()), (unix(NOW - 60), unix(NOW + 30 * DAY)));
        assert_eq!(leaf.serial(), DEVICE.as_bytes());
        assert_eq!((leaf.subject(), leaf.issuer()), ("CN=press-7".into(), "CN=issuing".into()));
        assert_eq!(leaf.public_key(), chain.key.public_key());
        assert_eq!(accepted.chain.intermediates().len(), 1);
    }
}

#[test]
fn a_chain_survives_pem() {
    let chain = CertificateChain::accept(Chain::new().answer(), &Chain::new().policy()).unwrap();
    let pem = chain.to_pem();
    assert_eq!(CertificateChain::from_pem(&pem).unwrap(), chain);
    // As in a bundle: with the key before it, and people's words between.
    let key = Chain::new().key.key.to_pkcs8_pem().unwrap();
    let bundle = format!("Generation 1\n{}{pem}\nthe end\n", *key);
    assert_eq!(CertificateChain::from_pem(&bundle).unwrap(), chain);
    assert!(CertificateChain::from_pem("").is_err());
    assert!(CertificateChain::from_pem(&key).is_err());
    assert!(CertificateChain::from_pem(&pem[..pem.len() - 40]).is_err());
}

// A thumbprint is compared by eye with what other tools print.
#[test]
fn the_thumbprint_is_what_openssl_prints() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Chain::new();
    std::fs::write(directory.path().join("leaf.der"), &chain.leaf).unwrap();
    let printed =
        openssl(directory.path(), "x509 -inform DER -in leaf.der -noout -fingerprint -sha256");
    let thumbprint = Certificate::from_der(&chain.leaf).unwrap().thumbprint().to_string();
    assert_eq!(thumbprint.len(), 64);
    assert!(printed.replace(':', "").contains(&thumbprint), "{printed}");
}

#[test]
fn x01_a_chain_for_another_key() {
    let (chain, sibling) = (Chain::new(), Key::new(9));
    let policy = ChainPolicy { public_key: sibling.public_key(), ..chain.policy() };
    assert_eq!(examine(&chain.answer(), &policy), Err(ChainError::KeyMismatch));
}

#[test]
fn x02_a_chain_for_the_key_in_use() {
    let (chain, new) = (Chain::new(), Key::new(9));
    let current = Certificate::from_der(&chain.leaf).unwrap();
    let policy =
        ChainPolicy { public_key: new.public_key(), current: Some(&current), ..chain.policy() };
    assert_eq!(examine(&chain.answer(), &policy), Err(ChainError::StaleKey));
}

#[test]
fn x03_the_private_key_must_sign_for_the_leaf() {
    let chain = Chain::new();
    let accepted = CertificateChain::accept(chain.answer(), &chain.policy()).unwrap();
    assert_eq!(accepted.prove_possession(&chain.key.key), Ok(()));
    let swapped: &dyn Signer = &Key::new(9).key;
    assert_eq!(accepted.prove_possession(swapped), Err(SignatureError::Invalid));
}

#[test]
fn x04_the_name_is_ours_once_and_byte_for_byte() {
    let named = |name: DistinguishedName| leaf(&|params| params.distinguished_name = name.clone());
    // Whatever type of string the authority chose.
    for value in [
        DnValue::Utf8String(DEVICE.into()),
        DnValue::PrintableString(DEVICE.try_into().unwrap()),
        DnValue::Ia5String(DEVICE.try_into().unwrap()),
        DnValue::TeletexString(DEVICE.try_into().unwrap()),
        DnValue::BmpString(DEVICE.try_into().unwrap()),
    ] {
        assert_eq!(named(common_name(value.clone())), Ok(vec![]), "{value:?}");
    }
    let mut among_others = DistinguishedName::new();
    among_others.push(DnType::OrganizationName, "Contoso");
    among_others.push(DnType::CommonName, DEVICE);
    assert_eq!(named(among_others), Ok(vec![]));

    let wrong = |found: Option<&str>| {
        Err(ChainError::WrongName { expected: DEVICE.into(), found: found.map(Into::into) })
    };
    for other in ["press-8", "Press-7", "press-7\0", "press-7 ", "press-", "\u{ff50}ress-7"] {
        assert_eq!(named(common_name(other)), wrong(Some(other)), "{other:?}");
    }
    let mut without = DistinguishedName::new();
    without.push(DnType::OrganizationName, DEVICE);
    assert_eq!(named(without), wrong(None));
    let mut two = common_name(DEVICE);
    two.push(DnType::CustomDnType(vec![2, 5, 4, 3]), DEVICE);
    assert_eq!(named(two), wrong(None));
}

#[test]
fn x05_an_expired_certificate() {
    let until = |secs| leaf(&|params| params.not_after = at(NOW + secs));
    let expired = |secs| {
        Err(ChainError::Expired { subject: "CN=press-7".into(), not_after: unix(NOW + secs) })
    };
    assert_eq!(until(-1), expired(-1));
    assert_eq!(until(0), expired(0));
    assert_eq!(until(1), Ok(vec![]));
    assert_eq!(
        issuing(&|params| params.not_after = at(NOW - 1)),
        Err(ChainError::Expired { subject: "CN=issuing".into(), not_after: unix(NOW - 1) })
    );
}

#[test]
fn x06_a_certificate_that_begins_within_the_skew() {
    for secs in [1, 5, 300] {
        assert_eq!(
            leaf(&|params| params.not_before = at(NOW + secs)),
            Ok(vec![ChainNote::NotYetValid { by: seconds(secs.unsigned_abs()) }])
        );
    }
    assert_eq!(
        leaf(&|params| params.not_before = at(NOW + 301)),
        Err(ChainError::NotYetValid { subject: "CN=press-7".into(), not_before: unix(NOW + 301) })
    );
}

#[test]
fn x07_a_clock_that_cannot_be_right() {
    let chain = Chain::new();
    let suspect = |policy: &ChainPolicy<'_>| {
        matches!(examine(&chain.answer(), policy), Err(ChainError::ClockSuspect { .. }))
    };
    let at_1970 = ChainPolicy { now: Some(unix(100)), ..chain.policy() };
    assert!(!suspect(&at_1970), "nothing tells that the clock is wrong");
    assert!(suspect(&ChainPolicy { clock_floor: Some(unix(NOW - 90 * DAY)), ..at_1970 }));
    let older = chain.issuing.issue(&Key::new(8), &|params| params.not_before = at(NOW - DAY));
    let older = Certificate::from_der(&older).unwrap();
    assert!(suspect(&ChainPolicy { current: Some(&older), ..at_1970 }));
    // A clock known to be unset judges nothing.
    let unset = ChainPolicy { now: None, ..chain.policy() };
    assert_eq!(examine(&chain.answer(), &unset), Ok(vec![ChainNote::ClockUnset]));
}

#[test]
fn x08_odd_lifetimes() {
    let lives = |from: i64, to: i64| {
        leaf(&|params| (params.not_before, params.not_after) = (at(from), at(to)))
    };
    let never = || Err(ChainError::NeverValid { subject: "CN=press-7".into() });
    assert_eq!(lives(NOW - 5, NOW - 10), never());
    assert_eq!(lives(NOW - 5, NOW - 5), never());
    let long = |lifetime| Ok(vec![ChainNote::LongLived { lifetime }]);
    assert_eq!(lives(NOW - 60, NOW + 90 * DAY), Ok(vec![]));
    assert_eq!(lives(NOW, NOW + 91 * DAY), long(seconds(91 * 86_400)));
    let year_9999 = 253_402_300_799;
    assert_eq!(lives(NOW, year_9999), long(seconds((year_9999 - NOW).unsigned_abs())));
}

#[test]
fn x09_any_order_becomes_leaf_first() {
    let chain = Chain::new();
    let sorted = CertificateChain::accept(chain.answer(), &chain.policy()).unwrap();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let answer = order.map(|at| chain.answer()[at].clone());
        let accepted = CertificateChain::examine(answer, &chain.policy()).unwrap();
        assert_eq!(accepted.chain, sorted, "{order:?}");
        let expected: &[ChainNote] = if order == [0, 1, 2] { &[] } else { &[ChainNote::Reordered] };
        assert_eq!(accepted.notes, expected, "{order:?}");
    }
}

#[test]
fn x10_the_leaf_alone() {
    let chain = Chain::new();
    let alone = &chain.answer()[..1];
    assert_eq!(examine(alone, &chain.policy()), Ok(vec![ChainNote::Incomplete]));
    let root = chain.root.certificate();
    let pinned = ChainPolicy { anchor: Some(&root), ..chain.policy() };
    assert_eq!(
        examine(alone, &pinned),
        Err(ChainError::Incomplete { issuer: "CN=issuing".into() })
    );
}

#[test]
fn x11_with_and_without_the_root() {
    let chain = Chain::new();
    let root = chain.root.certificate();
    let pinned = ChainPolicy { anchor: Some(&root), ..chain.policy() };
    for policy in [chain.policy(), pinned] {
        assert_eq!(examine(&chain.answer()[..2], &policy), Ok(vec![]));
        assert_eq!(examine(&chain.answer(), &policy), Ok(vec![]));
    }
    let accepted = CertificateChain::accept(&chain.answer()[..2], &chain.policy()).unwrap();
    assert_eq!(accepted.intermediates().len(), 1);
}

// A pinned anchor that has the right name and another key is another authority.
#[test]
fn x11_a_chain_of_another_root() {
    let chain = Chain::new();
    for name in ["root", "another root"] {
        let other = Authority::root(name, 7).certificate();
        let pinned = ChainPolicy { anchor: Some(&other), ..chain.policy() };
        let refused = examine(&chain.answer(), &pinned).unwrap_err();
        assert!(
            matches!(&refused, ChainError::Untrusted { root } if root == "CN=root")
                || matches!(refused, ChainError::BadSignature { .. }),
            "{name}: {refused:?}"
        );
    }
}

#[test]
fn x12_no_chain_at_all() {
    assert_eq!(examine(&[], &Chain::new().policy()), Err(ChainError::NoChain));
}

#[test]
fn x13_more_than_any_real_chain() {
    let chain = Chain::new();
    let leaf = chain.answer()[0].clone();
    let repeated = |count| examine(&vec![leaf.clone(); count], &chain.policy());
    assert_eq!(repeated(8), Ok(vec![ChainNote::Duplicates { count: 7 }, ChainNote::Incomplete]));
    for count in [9, 100, 100_000] {
        assert_eq!(repeated(count), Err(ChainError::TooManyCertificates { limit: 8 }));
    }
    let large = |len: usize| examine(&[base64(&vec![0x30; len])], &chain.policy());
    let too_large = Err(ChainError::CertificateTooLarge { index: 0, limit: 8192 });
    assert!(matches!(large(8192), Err(ChainError::NotACertificate { .. })));
    assert_eq!(large(8193), too_large);
    assert_eq!(large(100_000), too_large);
}

#[test]
fn x14_what_is_not_base64() {
    let chain = Chain::new();
    let good = chain.answer()[0].clone();
    let refused = |text: String| match examine(&[chain.answer()[1].clone(), text], &chain.policy())
    {
        Err(ChainError::NotBase64 { index: 1, reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(format!("{good}\n")), Base64Fault::Whitespace);
    assert_eq!(refused(format!("{} {}", &good[..64], &good[64..])), Base64Fault::Whitespace);
    assert_eq!(refused(good.replace(['+', '/'], "_")), Base64Fault::UrlSafe);
    assert_eq!(refused(good[..good.len() - 1].into()), Base64Fault::Padding);
    assert_eq!(refused(format!("!!!!{good}")), Base64Fault::Malformed);
    assert_eq!(refused("{\"not\":\"a string\"}  ".into()), Base64Fault::Whitespace);
}

#[test]
fn x15_pem_where_der_belongs() {
    let chain = Chain::new();
    let pem = CertificateChain::accept(chain.answer(), &chain.policy()).unwrap().to_pem();
    let refused = examine(&[pem], &chain.policy()).unwrap_err();
    assert_eq!(refused, ChainError::PemArmour { index: 0 });
    assert!(refused.to_string().contains("PEM armour found"));
}

#[test]
fn x16_what_is_not_der() {
    let chain = Chain::new();
    let leaf = &chain.leaf;
    let mut deep = vec![0x30, 0x80];
    for _ in 0..1_000 {
        deep.splice(
            0..0,
            [0x30, 0x82, u8::try_from(deep.len() >> 8).unwrap(), deep.len().to_le_bytes()[0]],
        );
    }
    let cases = [
        ("nothing", vec![]),
        ("trailing byte", [leaf.as_slice(), &[0]].concat()),
        ("two certificates", [leaf.as_slice(), leaf].concat()),
        ("truncated", leaf[..leaf.len() - 1].to_vec()),
        ("half", leaf[..leaf.len() / 2].to_vec()),
        ("indefinite length", [&[0x30, 0x80], &leaf[4..], &[0, 0]].concat()),
        ("length beyond the end", [&[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF], &leaf[4..]].concat()),
        ("deep nesting", deep),
    ];
    for (what, der) in cases {
        let refused = examine(&[base64(&der)], &chain.policy());
        assert!(
            matches!(
                refused,
                Err(ChainError::NotACertificate {
                    index: 0,
                    reason: CertificateError::Malformed(_)
                })
            ),
            "{what}: {refused:?}"
        );
    }
}

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
    // What Azure Device Registry documents, and its neighbours.
    assert_eq!(by_openssl(&curve("secp384r1"), "-sha384", 3), Ok(vec![]));
    assert_eq!(by_openssl(&curve("secp384r1"), "-sha256", 3), Ok(vec![]));
    assert_eq!(by_openssl(&curve("prime256v1"), "-sha256", 3), Ok(vec![]));
    assert_eq!(by_openssl(&curve("prime256v1"), "-sha384", 3), Ok(vec![]));

    let unsupported = Err(ChainError::UnsupportedSignature { subject: "CN=press-7".into() });
    assert_eq!(by_openssl(&curve("prime256v1"), "-sha1", 3), unsupported);
    assert_eq!(by_openssl(&curve("prime192v1"), "-sha256", 3), unsupported);
    assert_eq!(
        by_openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024", "-sha256", 3),
        unsupported
    );
    assert_eq!(
        by_openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", "-sha256", 3),
        unsupported
    );
}

#[test]
fn x22_explicit_curve_parameters() {
    let explicit = "ecparam -genkey -noout -name prime256v1 -param_enc explicit";
    assert_eq!(
        by_openssl(explicit, "-sha256", 3),
        Err(ChainError::UnsupportedSignature { subject: "CN=press-7".into() })
    );
}

#[test]
fn x23_extensions_and_versions() {
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

// Refusals are read by people, in logs; each must say something of its own.
#[test]
fn refusals_say_what_is_wrong() {
    let message = leaf(&|params| params.distinguished_name = common_name("press-8")).unwrap_err();
    assert_eq!(message.to_string(), "the certificate is for \"press-8\", not for press-7");
    let hostile = leaf(&|params| params.distinguished_name = common_name("\u{1b}[2J")).unwrap_err();
    assert!(!hostile.to_string().contains('\u{1b}'), "{hostile:?}");
}

static USUAL: LazyLock<Chain> = LazyLock::new(Chain::new);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    // Whatever happens to the bytes on the way, the answer is a refusal and not a panic, unless
    // the change left every certificate of the path alone.
    #[test]
    fn a_changed_answer_is_never_accepted_as_ours(
        at in 0..3_usize, position in any::<prop::sample::Index>(), change in 1..=255_u8,
    ) {
        let chain = &*USUAL;
        let mut ders = [chain.leaf.clone(), chain.issuing.der.clone(), chain.root.der.clone()];
        let place = position.index(ders[at].len());
        ders[at][place] ^= change;
        let root = chain.root.certificate();
        let policy = ChainPolicy { anchor: Some(&root), ..chain.policy() };
        let accepted = CertificateChain::accept(ders.each_ref().map(|der| base64(der)), &policy);
        if let Ok(accepted) = accepted {
            prop_assert_eq!(accepted.leaf().as_der(), &*chain.leaf);
            prop_assert!(accepted.intermediates()[0].as_der() == chain.issuing.der);
        }
    }
}
