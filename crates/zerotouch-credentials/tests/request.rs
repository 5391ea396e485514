//! Private keys and the requests made with them, with openssl as the second opinion; tests bear the
//! number of their row in the project's checklist for requests.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "what fails here fails the test"
)]

mod support;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{SeedableRng, TryCryptoRng, TryRng};
use proptest::prelude::*;
use support::{DEVICE, Key, base64, no_openssl, openssl};
use zerotouch_credentials::{
    CertificateRequest, KeyAlgorithm, PrivateKey, PrivateKeyError, RandomnessError, RequestError,
    SignError, SignatureError, Signer, verify_signature,
};

const CURVES: [KeyAlgorithm; 2] = [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384];
const KINDS: [KeyAlgorithm; 3] =
    [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Rsa2048];

fn request_of(kind: KeyAlgorithm) -> CertificateRequest {
    CertificateRequest::new(&Key::of(kind, 3).key, DEVICE).unwrap()
}

#[test]
fn c01_openssl_verifies_every_kind_of_request() {
    if no_openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (kind, key, hash) in [
        (KeyAlgorithm::EcdsaP256, "ASN1 OID: prime256v1", "ecdsa-with-SHA256"),
        (KeyAlgorithm::EcdsaP384, "ASN1 OID: secp384r1", "ecdsa-with-SHA384"),
        (KeyAlgorithm::Rsa2048, "Public-Key: (2048 bit)", "sha256WithRSAEncryption"),
        (KeyAlgorithm::Rsa3072, "Public-Key: (3072 bit)", "sha256WithRSAEncryption"),
    ] {
        let file = directory.path().join("request.der");
        std::fs::write(&file, request_of(kind).as_der()).unwrap();
        let told =
            openssl(directory.path(), "req -inform DER -in request.der -verify -noout -text");
        assert!(told.contains("verify OK"), "{told}");
        assert!(told.contains("Version: 1 (0x0)"), "{told}");
        assert!(told.contains("Subject: CN = press-7\n"), "{told}");
        assert!(told.contains(key), "{told}");
        assert!(told.contains(&format!("Signature Algorithm: {hash}")), "{told}");
        // The set of attributes is there and empty: [0] of no length.
        assert!(told.contains("Attributes:\n            (none)"), "{told}");
        let parsed = openssl(directory.path(), "asn1parse -inform DER -in request.der");
        assert!(parsed.contains("l=   0 cons: cont [ 0 ]"), "{parsed}");
    }
}

#[test]
fn c01_requests_made_by_openssl_are_read() {
    if no_openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for (curve, hash, kind) in [
        ("prime256v1", "sha256", KeyAlgorithm::EcdsaP256),
        ("prime256v1", "sha384", KeyAlgorithm::EcdsaP256),
        ("secp384r1", "sha256", KeyAlgorithm::EcdsaP384),
        ("secp384r1", "sha384", KeyAlgorithm::EcdsaP384),
    ] {
        openssl(path, &format!("ecparam -genkey -noout -name {curve} -out key.pem"));
        openssl(
            path,
            &format!("req -new -key key.pem -{hash} -subj /O=x/CN=press-7 -outform DER -out r.der"),
        );
        let request = CertificateRequest::from_der(&std::fs::read(path.join("r.der")).unwrap());
        let request = request.unwrap();
        assert_eq!(request.common_name(), Some(DEVICE));
        assert_eq!(request.key_algorithm(), Ok(kind));
        request.verify().unwrap();
    }
    for (bits, kind) in [(2048, KeyAlgorithm::Rsa2048), (3072, KeyAlgorithm::Rsa3072)] {
        openssl(path, &format!("genrsa -out key.pem {bits}"));
        for hash in ["sha256", "sha384", "sha512"] {
            let subject = "-subj /CN=press-7 -outform DER -out r.der";
            openssl(path, &format!("req -new -key key.pem -{hash} {subject}"));
            let der = std::fs::read(path.join("r.der")).unwrap();
            let request = CertificateRequest::from_der(&der).unwrap();
            assert_eq!(request.key_algorithm(), Ok(kind));
            request.verify().unwrap();
        }
    }
    for (key, hash) in [("rsa:1024", "sha256"), ("rsa:2048", "sha1"), ("ed25519", "sha256")] {
        let new = format!("req -new -newkey {key} -{hash} -nodes -keyout k -subj /CN=x");
        openssl(path, &format!("{new} -outform DER -out r.der"));
        let der = std::fs::read(path.join("r.der")).unwrap();
        let refused = CertificateRequest::from_der(&der).unwrap().verify();
        let unsupported = SignatureError::UnsupportedAlgorithm;
        assert!(
            matches!(refused, Err(RequestError::Signature(error)) if error == unsupported),
            "{key} {hash}: {refused:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn c02_the_common_name_is_the_registration_id(id in "[A-Za-z0-9._:-]{1,64}") {
        let key = Key::of(KeyAlgorithm::EcdsaP256, 3);
        let request = CertificateRequest::new(&key.key, &id).unwrap();
        prop_assert_eq!(request.common_name(), Some(&*id));
        let again = CertificateRequest::from_base64(&request.to_base64()).unwrap();
        prop_assert_eq!(&again, &request);
        again.verify().unwrap();
    }

    // The emulator reads whatever a client sends.
    #[test]
    fn a_changed_request_does_not_verify(at in any::<prop::sample::Index>(), change in 1..=255_u8) {
        let mut der = request_of(KeyAlgorithm::EcdsaP256).as_der().to_vec();
        let at = at.index(der.len());
        der[at] ^= change;
        if let Ok(request) = CertificateRequest::from_der(&der) {
            prop_assert!(request.verify().is_err());
        }
    }
}

#[test]
fn c03_a_name_no_authority_would_issue_for() {
    let key = Key::new(3).key;
    let refused = |name: &str| CertificateRequest::new(&key, name).unwrap_err();
    for (name, found) in [("x".repeat(65), 65), ("ä".repeat(65), 65), (String::new(), 0)] {
        let error = refused(&name);
        assert!(
            matches!(error, RequestError::CommonNameLength { found: n } if n == found),
            "{error}"
        );
    }
    CertificateRequest::new(&key, &"ä".repeat(64)).unwrap();
    assert!(matches!(refused("press\0"), RequestError::CommonNameCharacter));
    assert!(matches!(refused("a\nb"), RequestError::CommonNameCharacter));
}

#[test]
fn c04_base64_of_der_without_armour_or_line_breaks() {
    for kind in KINDS {
        let request = request_of(kind);
        assert_eq!(request.to_base64(), base64(request.as_der()));
        assert!(request.to_base64().starts_with("MI"));
        let text = request.to_base64();
        for broken in [format!("{text}\n"), format!(" {text}"), text[1..].to_string()] {
            assert!(matches!(
                CertificateRequest::from_base64(&broken),
                Err(RequestError::NotBase64)
            ));
        }
        let trailing = [request.as_der(), &[0]].concat();
        assert!(matches!(CertificateRequest::from_der(&trailing), Err(RequestError::Malformed(_))));
    }
}

/// A generator that fails, or returns a constant.
struct Broken(Option<u8>);

impl TryRng for Broken {
    type Error = std::fmt::Error;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.0.map(|byte| u32::from_ne_bytes([byte; 4])).ok_or(std::fmt::Error)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0.map(|byte| u64::from_ne_bytes([byte; 8])).ok_or(std::fmt::Error)
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Self::Error> {
        into.fill(self.0.ok_or(std::fmt::Error)?);
        Ok(())
    }
}

impl TryCryptoRng for Broken {}

#[test]
fn c07_no_randomness_no_key() {
    for kind in KINDS {
        let made = |byte| PrivateKey::generate(kind, &mut Broken(byte)).unwrap_err();
        assert_eq!(made(None), PrivateKeyError::Randomness(RandomnessError::Failed));
        for stuck in [0, 0x42, 0xFF] {
            assert_eq!(made(Some(stuck)), PrivateKeyError::Randomness(RandomnessError::Constant));
        }
        let drawn =
            |seed| PrivateKey::generate(kind, &mut ChaCha20Rng::seed_from_u64(seed)).unwrap();
        assert_ne!(drawn(1).public_key(), drawn(2).public_key());
    }
}

#[test]
fn c10_errors_and_debug_show_no_key() {
    for kind in KINDS {
        let key = Key::of(kind, 3).key;
        let pem = key.to_pkcs8_pem().unwrap();
        let secret = &pem.lines().nth(1).unwrap()[..20];
        assert_eq!(format!("{key:?}"), format!("PrivateKey({kind}, ..)"));
        let broken = pem.replacen('M', "!", 1);
        let error = PrivateKey::from_pem(&broken).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret));
    }
}

// Keys come from openssl in two forms, and ours go back into it.
#[test]
fn keys_are_exchanged_with_openssl() {
    if no_openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for (curve, kind) in CURVES.iter().zip(["prime256v1", "secp384r1"]).map(|(k, c)| (c, *k)) {
        // With the parameters block that `ecparam` writes before the key.
        openssl(path, &format!("ecparam -genkey -name {curve} -out sec1.pem"));
        openssl(path, "pkcs8 -topk8 -nocrypt -in sec1.pem -out pkcs8.pem");
        openssl(path, "pkey -in sec1.pem -pubout -outform DER -out public.der");
        let public = std::fs::read(path.join("public.der")).unwrap();
        openssl(path, "ec -in sec1.pem -outform DER -out sec1.der");
        openssl(path, "pkcs8 -topk8 -nocrypt -in sec1.pem -outform DER -out pkcs8.der");
        for file in ["sec1.pem", "pkcs8.pem", "sec1.der", "pkcs8.der"] {
            let key = PrivateKey::from_bytes(&std::fs::read(path.join(file)).unwrap()).unwrap();
            assert_eq!((key.algorithm(), key.public_key()), (kind, &*public), "{file}");
        }
        let ours = Key::of(kind, 3).key;
        std::fs::write(path.join("ours.pem"), &*ours.to_pkcs8_pem().unwrap()).unwrap();
        openssl(path, "pkey -in ours.pem -pubout -outform DER -out public.der");
        assert_eq!(std::fs::read(path.join("public.der")).unwrap(), ours.public_key());
    }
}

// The forms in which factories and other tools hand over RSA keys; and ours go back.
#[test]
fn rsa_keys_are_exchanged_with_openssl() {
    if no_openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for (bits, kind) in [
        (2048, KeyAlgorithm::Rsa2048),
        (3072, KeyAlgorithm::Rsa3072),
        (4096, KeyAlgorithm::Rsa4096),
    ] {
        openssl(path, &format!("genrsa -traditional -out pkcs1.pem {bits}"));
        openssl(path, "pkcs8 -topk8 -nocrypt -in pkcs1.pem -out pkcs8.pem");
        openssl(path, "rsa -traditional -in pkcs1.pem -outform DER -out pkcs1.der");
        openssl(path, "pkcs8 -topk8 -nocrypt -in pkcs1.pem -outform DER -out pkcs8.der");
        openssl(path, "pkey -in pkcs1.pem -pubout -outform DER -out public.der");
        let public = std::fs::read(path.join("public.der")).unwrap();
        for file in ["pkcs1.pem", "pkcs8.pem", "pkcs1.der", "pkcs8.der"] {
            let key = PrivateKey::from_bytes(&std::fs::read(path.join(file)).unwrap()).unwrap();
            assert_eq!((key.algorithm(), key.public_key()), (kind, &*public), "{file}");
            std::fs::write(path.join("ours.pem"), &*key.to_pkcs8_pem().unwrap()).unwrap();
            openssl(path, "pkey -in ours.pem -check -noout");
            openssl(path, "pkey -in ours.pem -pubout -outform DER -out again.der");
            assert_eq!(std::fs::read(path.join("again.der")).unwrap(), public, "{file}");
        }
    }
}

// The signature of TLS 1.3, judged by somebody else. ECDSA keys have none of that kind.
#[test]
fn openssl_verifies_pss() {
    if no_openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let key = Key::of(KeyAlgorithm::Rsa2048, 3).key;
    std::fs::write(path.join("key.pem"), &*key.to_pkcs8_pem().unwrap()).unwrap();
    openssl(path, "pkey -in key.pem -pubout -out public.pem");
    std::fs::write(path.join("message"), "message").unwrap();
    std::fs::write(path.join("signature"), key.sign_pss(b"message").unwrap()).unwrap();
    let padding =
        "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -sigopt rsa_mgf1_md:sha256";
    let verify = "dgst -sha256 -verify public.pem -signature signature";
    let told = openssl(path, &format!("{verify} {padding} message"));
    assert!(told.contains("Verified OK"), "{told}");
    assert_ne!(key.sign_pss(b"message").unwrap(), key.sign_pss(b"massage").unwrap());
    for curve in CURVES {
        assert!(matches!(Key::of(curve, 3).key.sign_pss(b"m"), Err(SignError::Unsupported)));
    }
}

#[test]
fn keys_that_are_none_of_ours_say_so() {
    if no_openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    openssl(path, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out rsa.pem");
    openssl(path, "rsa -in rsa.pem -traditional -out rsa1.pem");
    openssl(path, "genpkey -algorithm ED25519 -out ed.pem");
    openssl(path, "ecparam -genkey -noout -name secp521r1 -out p521.pem");
    openssl(path, "pkcs8 -topk8 -nocrypt -in p521.pem -out p521-8.pem");
    openssl(path, "ecparam -genkey -noout -name prime256v1 -out ec.pem");
    openssl(path, "pkcs8 -topk8 -passout pass:x -in ec.pem -out locked.pem");
    openssl(path, "pkcs8 -topk8 -passout pass:x -in ec.pem -outform DER -out locked.der");
    openssl(path, "rsa -aes128 -traditional -passout pass:x -in rsa.pem -out locked1.pem");
    openssl(path, "ec -in ec.pem -pubout -outform DER -out public.der");
    let read =
        |file: &str| PrivateKey::from_bytes(&std::fs::read(path.join(file)).unwrap()).unwrap_err();
    for file in ["rsa.pem", "rsa1.pem", "ed.pem", "p521.pem", "p521-8.pem"] {
        assert_eq!(read(file), PrivateKeyError::UnsupportedAlgorithm, "{file}");
    }
    for file in ["locked.pem", "locked.der", "locked1.pem"] {
        assert_eq!(read(file), PrivateKeyError::Encrypted, "{file}");
    }
    assert_eq!(read("public.der"), PrivateKeyError::Malformed);
    for (text, error) in [
        ("", PrivateKeyError::NotPem),
        ("-----BEGIN PRIVATE KEY-----\n", PrivateKeyError::NotPem),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            PrivateKeyError::Malformed,
        ),
    ] {
        assert_eq!(PrivateKey::from_bytes(text.as_bytes()).unwrap_err(), error, "{text}");
    }
}

#[test]
fn signatures_verify_under_their_own_key_alone() {
    for kind in KINDS {
        let (key, other) = (Key::of(kind, 3).key, Key::of(kind, 4).key);
        let signature = key.sign(b"message").unwrap();
        assert_eq!(verify_signature(key.public_key(), b"message", &signature), Ok(()));
        let invalid = Err(SignatureError::Invalid);
        assert_eq!(verify_signature(key.public_key(), b"massage", &signature), invalid);
        assert_eq!(verify_signature(other.public_key(), b"message", &signature), invalid);
        assert_eq!(verify_signature(key.public_key(), b"message", &[]), invalid);
    }
}

/// A token that signs with another key than it shows, and may claim that it does not.
#[derive(Debug)]
struct MixedUp {
    shown: PrivateKey,
    used: PrivateKey,
    is_verified: bool,
}

impl Signer for MixedUp {
    fn algorithm(&self) -> KeyAlgorithm {
        self.shown.algorithm()
    }

    fn public_key(&self) -> &[u8] {
        self.shown.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.used.sign(message)
    }

    fn is_verified(&self) -> bool {
        self.is_verified
    }
}

// A mixed-up slot must show here, and not as the authority's riddle. Only who says that it need not be
// looked at is believed, and a key in software whose nonces come from the message never says so.
#[test]
fn a_request_is_verified_before_it_leaves() {
    let [shown, used] = [3, 4].map(|seed| Key::new(seed).key);
    assert!(shown.is_verified());
    let mut mixed_up = MixedUp { shown, used, is_verified: true };
    assert!(matches!(
        CertificateRequest::new(&mixed_up, DEVICE),
        Err(RequestError::SignerMismatch)
    ));
    mixed_up.is_verified = false;
    assert!(CertificateRequest::new(&mixed_up, DEVICE).unwrap().verify().is_err());
}

// A file of a request may come from openssl, from a log of what was sent, or from us.
#[test]
fn a_request_is_read_in_every_form_it_is_kept_in() {
    let request = request_of(KeyAlgorithm::EcdsaP384);
    let pem = request.to_pem().unwrap();
    let base64 = request.to_base64();
    let forms = [
        pem.as_bytes(),
        &[b"Certificate Request:\n    Data:\n", pem.as_bytes()].concat(),
        base64.as_bytes(),
        &[base64.as_bytes(), b"\r\n"].concat(),
        request.as_der(),
    ];
    for form in forms {
        assert_eq!(CertificateRequest::from_bytes(form).unwrap(), request);
    }
    assert_eq!(request.subject(), format!("CN={DEVICE}"));
    let from = |bytes: &[u8]| CertificateRequest::from_bytes(bytes).unwrap_err();
    let other = pem.replace("CERTIFICATE REQUEST", "CERTIFICATE");
    assert!(matches!(from(other.as_bytes()), RequestError::NotPem));
    assert!(matches!(from(&pem.as_bytes()[..pem.len() / 2]), RequestError::NotPem));
    assert!(matches!(from(b"no request"), RequestError::NotBase64));
    assert!(matches!(from(&[0xFF, 0xFE]), RequestError::NotBase64));
    assert!(matches!(from(b""), RequestError::Malformed(_)));
}
