//! What is wrong with the certificate a device brings: each fault in its own words, all of them at once,
//! before the service says `401002` to every one.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "what fails here fails the test"
)]

mod support;

use rcgen::{ExtendedKeyUsagePurpose, IsCa};
use support::{Authority, Chain, DAY, Key, NOW, Tweak, at, unix};
use zerotouch_credentials::{
    Certificate, CertificateChain, ChainError, ChainNote, ChainPolicy, Finding, KeyAlgorithm,
    PathFault, PrivateKey, SignError, Signer,
};

fn chain_of(ders: &[&[u8]]) -> CertificateChain {
    let certificates = ders.iter().map(|der| Certificate::from_der(der).unwrap()).collect();
    CertificateChain::new(certificates).unwrap()
}

/// Leaf, issuing authority and root, with the right key.
fn findings(tweak: Tweak<'_>) -> Vec<Finding> {
    let chain = Chain::with(tweak);
    chain_of(&[&chain.leaf, &chain.issuing.der, &chain.root.der])
        .lint(&chain.key.key, &chain.policy())
}

fn refused(error: ChainError) -> Vec<Finding> {
    vec![Finding::Refused(error)]
}

#[test]
fn a_good_credential_has_no_findings() {
    let chain = Chain::new();
    assert_eq!(findings(&|_| {}), []);
    // Up to the authority that is verified at the service, whichever that is.
    let (root, issuing) = (chain.root.certificate(), chain.issuing.certificate());
    let whole = [&*chain.leaf, &chain.issuing.der, &chain.root.der];
    for (sent, anchor) in [(1, &issuing), (2, &root), (3, &root), (2, &issuing)] {
        let policy = ChainPolicy { anchor: Some(anchor), ..chain.policy() };
        assert_eq!(chain_of(&whole[..sent]).lint(&chain.key.key, &policy), [], "{sent}");
    }
}

// Without the key or the name, what does not depend on them is looked at all the same.
#[test]
fn what_is_not_given_is_not_judged() {
    let chain = Chain::new();
    let (given, other) =
        (chain_of(&[&chain.leaf, &chain.issuing.der, &chain.root.der]), Key::new(9));
    let (policy, expired) = (
        ChainPolicy { common_name: "another", ..chain.policy() },
        ChainPolicy { now: Some(unix(NOW + 3650 * DAY)), ..chain.policy() },
    );
    assert_eq!(given.lint_partly(None, None, &policy), []);
    assert_eq!(given.lint_partly(Some(&other.key), None, &policy), [Finding::KeyMismatch]);
    let named = given.lint_partly(None, Some("another"), &policy);
    assert!(matches!(&named[..], [Finding::Refused(ChainError::WrongName { .. })]), "{named:?}");
    let expired = given.lint_partly(None, None, &expired);
    assert!(expired.iter().all(|it| matches!(it, Finding::Refused(ChainError::Expired { .. }))));
    assert_eq!(expired.len(), 3);
}

/// A token that shows one key and signs with another.
#[derive(Debug)]
struct MixedUp(PrivateKey, PrivateKey);

impl Signer for MixedUp {
    fn algorithm(&self) -> KeyAlgorithm {
        self.0.algorithm()
    }

    fn public_key(&self) -> &[u8] {
        self.0.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.1.sign(message)
    }
}

#[test]
fn the_key_must_be_the_leafs() {
    let chain = Chain::new();
    let (leaf, issuing) = (&*chain.leaf, &*chain.issuing.der);
    let policy = chain.policy();
    let lint = |ders: &[&[u8]], signer: &dyn Signer| chain_of(ders).lint(signer, &policy);
    let other = Key::new(9).key;
    assert_eq!(lint(&[leaf, issuing, &chain.root.der], &other), [Finding::KeyMismatch]);
    let mixed_up = MixedUp(Key::new(3).key, other);
    assert_eq!(lint(&[leaf, issuing, &chain.root.der], &mixed_up), [Finding::KeyDoesNotSign]);
    let reversed = lint(&[issuing, leaf], &chain.key.key);
    assert!(reversed.contains(&Finding::LeafNotFirst { index: 1 }), "{reversed:?}");
}

#[test]
fn name_dates_and_use() {
    let policy_for_other = |name| {
        let chain = Chain::new();
        let policy = ChainPolicy { common_name: name, ..chain.policy() };
        chain_of(&[&chain.leaf, &chain.issuing.der, &chain.root.der]).lint(&chain.key.key, &policy)
    };
    let found = || Some("press-7".into());
    for name in ["press-8", "Press-7"] {
        let wrong = ChainError::WrongName { expected: name.into(), found: found() };
        assert_eq!(policy_for_other(name), refused(wrong));
    }
    let subject = || "CN=press-7".to_string();
    assert_eq!(
        findings(&|params| params.not_after = at(NOW - 1)),
        refused(ChainError::Expired { subject: subject(), not_after: unix(NOW - 1) })
    );
    assert_eq!(
        findings(&|params| params.not_before = at(NOW + DAY)),
        refused(ChainError::NotYetValid { subject: subject(), not_before: unix(NOW + DAY) })
    );
    assert_eq!(
        findings(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        refused(ChainError::NotForClientAuthentication)
    );
    assert_eq!(findings(&|params| params.extended_key_usages.clear()), [], "absent allows it");
    let authority = findings(&|params| {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    assert_eq!(authority, refused(ChainError::LeafIsAuthority));
    // Factory certificates live for years, and that is no fault of theirs.
    assert_eq!(findings(&|params| params.not_after = at(NOW + 3_000 * DAY)), []);
}

#[test]
fn several_faults_are_told_together() {
    let chain = Chain::with(&|params| params.not_after = at(NOW - 1));
    let policy = ChainPolicy { common_name: "press-8", ..chain.policy() };
    let findings = chain_of(&[&chain.leaf, &chain.root.der]).lint(&Key::new(9).key, &policy);
    let kinds = findings.iter().map(|finding| match finding {
        Finding::KeyMismatch => "key",
        Finding::Refused(ChainError::WrongName { .. }) => "name",
        Finding::Refused(ChainError::Expired { .. }) => "expired",
        Finding::Noted(ChainNote::Unrelated { count: 1 }) => "unrelated",
        Finding::OpenEnd { issuer } if issuer == "CN=issuing" => "open end",
        other => panic!("{other:?}"),
    });
    assert_eq!(kinds.collect::<Vec<_>>(), ["key", "name", "expired", "unrelated", "open end"]);
}

// The most frequent fault of all, and what the service says of it.
#[test]
fn a_missing_intermediate() {
    let chain = Chain::new();
    let key = &chain.key.key;
    let alone = chain_of(&[&chain.leaf]);
    let unpinned = alone.lint(key, &chain.policy());
    assert_eq!(unpinned, [Finding::OpenEnd { issuer: "CN=issuing".into() }]);
    assert!(!unpinned[0].is_error(), "the issuing authority may be what is verified");

    let root = chain.root.certificate();
    let pinned = ChainPolicy { anchor: Some(&root), ..chain.policy() };
    let missing = alone.lint(key, &pinned);
    assert_eq!(missing, refused(ChainError::Incomplete { issuer: "CN=issuing".into() }));
    assert!(missing[0].is_error());
    assert_eq!(missing[0].service_says(), Some("401002 CA certificate not found"));
    assert!(missing[0].to_string().contains("the certificate of CN=issuing is missing"));

    let other = Authority::root("another root", 7).certificate();
    let policy = ChainPolicy { anchor: Some(&other), ..chain.policy() };
    let whole = chain_of(&[&chain.leaf, &chain.issuing.der, &chain.root.der]);
    let untrusted = whole.lint(key, &policy);
    assert_eq!(untrusted, refused(ChainError::Untrusted { root: "CN=root".into() }));
    assert_eq!(untrusted[0].service_says(), Some("401002 CA certificate not found"));
}

#[test]
fn order_and_strangers() {
    let chain = Chain::new();
    let (leaf, issuing, root) = (&*chain.leaf, &*chain.issuing.der, &*chain.root.der);
    let lint = |ders: &[&[u8]]| chain_of(ders).lint(&chain.key.key, &chain.policy());
    assert_eq!(lint(&[leaf, root, issuing]), [Finding::OutOfOrder]);
    let stranger = Authority::root("stranger", 8).der;
    let unrelated = Finding::Noted(ChainNote::Unrelated { count: 1 });
    assert_eq!(lint(&[leaf, issuing, root, &stranger]), [unrelated]);
    let rogue = chain.root.below("issuing", 66).der;
    let forged =
        ChainError::BadSignature { subject: "CN=press-7".into(), issuer: "CN=issuing".into() };
    assert_eq!(lint(&[leaf, &rogue, root]), refused(forged));
}

#[test]
fn an_issuer_that_may_not_issue() {
    let chain = Chain::new();
    let bad = chain.root.below_with("issuing", 2, &|params| params.is_ca = IsCa::NoCa);
    let found =
        chain_of(&[&chain.leaf, &bad.der, &chain.root.der]).lint(&chain.key.key, &chain.policy());
    assert_eq!(
        found,
        refused(ChainError::Issuer {
            subject: "CN=issuing".into(),
            reason: PathFault::NotAnAuthority
        })
    );
}

// An individual enrolment may hold the thumbprint of a certificate nobody else vouches for.
#[test]
fn self_signed_is_told_and_no_error() {
    let key = Key::new(3);
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = support::common_name(support::DEVICE);
    params.not_before = at(NOW - 60);
    params.not_after = at(NOW + DAY);
    params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![1]);
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[7]));
    let der = params.self_signed(&&key).unwrap().der().to_vec();
    let policy = ChainPolicy { now: Some(unix(NOW)), ..ChainPolicy::new(&[], support::DEVICE) };
    let found = chain_of(&[&der]).lint(&key.key, &policy);
    assert_eq!(found, [Finding::SelfSigned]);
    assert!(!found[0].is_error());
}

// Without a clock the dates are not judged, and the rest is.
#[test]
fn a_clock_that_is_unset() {
    let chain = Chain::with(&|params| params.not_after = at(NOW - 1));
    let policy = ChainPolicy { now: None, ..chain.policy() };
    let found =
        chain_of(&[&chain.leaf, &chain.issuing.der, &chain.root.der]).lint(&chain.key.key, &policy);
    assert_eq!(found, [Finding::Noted(ChainNote::ClockUnset)]);
}

// What a person is shown: names of each kind, escaped where they would write to a terminal, and uses.
#[test]
fn extensions_are_told_in_words() {
    use rcgen::SanType;
    let chain = Chain::with(&|params| {
        params.subject_alt_names = vec![
            SanType::DnsName("press-7.example".try_into().unwrap()),
            SanType::URI("urn:a\u{1b}[31m".try_into().unwrap()),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::CodeSigning);
    });
    let leaf = Certificate::from_der(&chain.leaf).unwrap();
    assert_eq!(
        leaf.subject_alternative_names().unwrap(),
        ["DNS:press-7.example", "URI:urn:a\\u{1b}[31m", "IP:127.0.0.1"]
    );
    assert_eq!(leaf.extended_key_usage().unwrap().unwrap(), ["clientAuth", "1.3.6.1.5.5.7.3.3"]);
    assert_eq!(leaf.key_algorithm(), Ok(chain.key.key.algorithm()));
    let root = chain.root.certificate();
    assert_eq!(root.subject_alternative_names(), Ok(Vec::new()));
    assert_eq!(root.extended_key_usage(), Ok(None));
}
