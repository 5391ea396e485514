//! What may become a device's identity, and what may not: one test per row of the project's
//! checklist for issued chains, bearing the row's number. Here: what came in, whose it is, and
//! when it is valid; `path.rs` goes on with who issued it.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "what fails here fails the test"
)]

mod support;

use std::sync::LazyLock;

use proptest::prelude::*;
use rcgen::{DistinguishedName, DnType, DnValue};
use support::{
    Authority, Chain, DAY, DEVICE, Key, NOW, at, base64, common_name, examine, issuing, leaf,
    no_openssl, openssl, seconds, unix,
};
use zerotouch_credentials::{
    Base64Fault, Certificate, CertificateChain, CertificateError, ChainError, ChainNote,
    ChainPolicy, SignatureError, Signer,
};

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
    if no_openssl() {
        return;
    }
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

// What a client has shown in TLS is read already: it is judged as an answer is, within the same bounds.
#[test]
fn certificates_that_were_read_are_judged_alike() {
    let chain = Chain::new();
    let read = |der: &[u8]| Certificate::from_der(der).unwrap();
    let [leaf, issuing, root] =
        [&chain.leaf, &chain.issuing.der, &chain.root.der].map(|it| read(it));
    let judged =
        |certificates: &[Certificate]| CertificateChain::accept_read(certificates, &chain.policy());
    let accepted = CertificateChain::accept(chain.answer(), &chain.policy());
    assert!(accepted.is_ok());
    assert_eq!(judged(&[leaf.clone(), issuing.clone(), root.clone()]), accepted);
    assert_eq!(judged(&[issuing.clone(), leaf.clone(), root]), accepted);
    assert_eq!(judged(&[]), Err(ChainError::NoChain));
    assert_eq!(judged(&[issuing]), Err(ChainError::KeyMismatch));
    let many = Err(ChainError::TooManyCertificates { limit: 8 });
    assert_eq!(judged(&vec![leaf; 9]), many);
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
    let refused = examine(std::slice::from_ref(&pem), &chain.policy()).unwrap_err();
    assert_eq!(refused, ChainError::PemArmour { index: 0 });
    assert!(refused.to_string().contains("PEM armour found"));

    // Allowed, it may be one text, one for each certificate, or mixed with base64.
    let lenient = ChainPolicy { allow_pem: true, ..chain.policy() };
    let block = |der: &[u8]| {
        CertificateChain::new(vec![Certificate::from_der(der).unwrap()]).unwrap().to_pem()
    };
    let (leaf, issuing) = (block(&chain.leaf), block(&chain.issuing.der));
    let mixed = [issuing.clone(), chain.answer()[2].clone(), leaf.clone()];
    assert_eq!(examine(std::slice::from_ref(&pem), &lenient), Ok(vec![]));
    assert_eq!(examine(&[leaf.clone(), issuing], &lenient), Ok(vec![]));
    assert_eq!(examine(&mixed, &lenient), Ok(vec![ChainNote::Reordered]));
    assert_eq!(examine(&chain.answer(), &lenient), Ok(vec![]));
    // Within the same bounds, and with the same care.
    let many = Err(ChainError::TooManyCertificates { limit: 8 });
    assert_eq!(examine(&[leaf.repeat(9)], &lenient), many);
    assert_eq!(examine(&[leaf.repeat(5), leaf.repeat(4)], &lenient), many);
    let large = Err(ChainError::CertificateTooLarge { index: 1, limit: 8192 });
    assert_eq!(examine(&[leaf.clone(), leaf.repeat(100_000)], &lenient), large);
    let broken = leaf.replacen("MII", "M!I", 1);
    let not_base64 = ChainError::NotBase64 { index: 0, reason: Base64Fault::Malformed };
    assert_eq!(examine(&[broken], &lenient), Err(not_base64.clone()));
    assert_eq!(examine(&["-----BEGIN nothing".into()], &lenient), Err(not_base64));
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
