//! `zerotouch key` and `zerotouch csr` as a person runs them, with openssl for a witness and vectors that the
//! service's documentation has printed.

use super::*;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use zerotouch_credentials::{SasClaims, SymmetricKey};
use zerotouch_time::UnixTime;

// The key and name of "Symmetric key attestation" in the service's documentation, and what it derives.
pub(crate) const GROUP_KEY: &str =
    "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";
const NAME: &str = "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6";
const DEVICE_KEY: &str = "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=";

// A key file is its owner's alone, of PKCS#8, never overwritten unasked and never printed.
#[test]
fn new_keys_are_for_their_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for output in ["text", "json"] {
        let output = tool(path, &format!("key new --force -o {output}"));
        assert!(output.status.success());
        let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let key = std::fs::read_to_string(path.join("device.key.pem")).unwrap();
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert!(!words.contains(&key.lines().nth(1).unwrap()[..20]), "{words}");
    }
    let file = path.join("device.key.pem");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&file).unwrap();
    let (code, words) = refused(path, "key new");
    assert_eq!(code, 2);
    assert!(words.contains("is there already") && words.contains("--force"), "{words}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(refused(path, "key new --out nowhere/key.pem").0, 8);
    if no_openssl() {
        return;
    }
    for (algorithm, bits) in
        [("p256", "(256 bit)"), ("p384", "(384 bit)"), ("rsa2048", "(2048 bit")]
    {
        printed(path, &format!("key new --out {algorithm} --key-algorithm {algorithm}"));
        let told = openssl(path, &format!("pkey -in {algorithm} -noout -text"));
        assert!(told.contains(bits), "{told}");
    }
}

// S6: the derivation that the documentation prints, from each place a key may be, and from no other.
#[test]
fn s06_derives_the_documented_device_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("group.key"), format!("{GROUP_KEY}\n")).unwrap();
    let derive = format!("key derive --registration-id {NAME} --symmetric-key");
    for reference in ["file:group.key", "env:GROUP_KEY"] {
        assert_eq!(printed(path, &format!("{derive} {reference}")), format!("{DEVICE_KEY}\n"));
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_zerotouch"))
        .args(derive.split_whitespace())
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{GROUP_KEY}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{DEVICE_KEY}\n"));
    let told = document(path, &format!("{derive} env:GROUP_KEY"));
    assert_eq!(
        (&told["symmetricKey"], &told["registrationId"]),
        (&DEVICE_KEY.into(), &NAME.into())
    );

    let (code, words) = refused(path, &format!("{derive} {GROUP_KEY}"));
    assert_eq!(code, 2);
    assert!(words.contains("file:PATH, env:NAME") && !words.contains(&GROUP_KEY[..8]), "{words}");
    for reference in ["file:absent", "env:ABSENT"] {
        assert_eq!(refused(path, &format!("{derive} {reference}")).0, 2);
    }
    let illegal = "key derive --registration-id a/b --symmetric-key env:GROUP_KEY";
    assert_eq!(refused(path, illegal).0, 2);
}

// What the service would make of the token: for that resource, by that key, until then.
#[test]
fn tokens_are_those_the_service_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (group, device) = (
        SymmetricKey::from_base64(GROUP_KEY).unwrap(),
        SymmetricKey::from_base64(DEVICE_KEY).unwrap(),
    );
    let dps = format!("--id-scope 0ne00000000 --registration-id {NAME}");
    let hub = format!("--hub contoso.azure-devices.net --device-id {NAME}");
    for (arguments, key, resource, policy) in [
        (
            format!("{dps} --compute-key"),
            &device,
            format!("0ne00000000/registrations/{NAME}"),
            Some("registration"),
        ),
        (dps.clone(), &group, format!("0ne00000000/registrations/{NAME}"), Some("registration")),
        (
            format!("{hub} --compute-key"),
            &device,
            format!("contoso.azure-devices.net/devices/{NAME}"),
            None,
        ),
        (hub.clone(), &group, format!("contoso.azure-devices.net/devices/{NAME}"), None),
    ] {
        let sas = format!("key sas --symmetric-key env:GROUP_KEY {arguments}");
        let text = printed(path, &sas);
        let token = SasClaims::parse(text.trim_end()).unwrap();
        assert!(token.is_for(&resource), "{text}");
        assert_eq!(token.key_name(), policy);
        let told = document(path, &format!("{sas} --valid-for 2d"));
        let expiry = UnixTime::parse_rfc3339(told["expiry"].as_str().unwrap()).unwrap();
        let token = SasClaims::parse(told["sasToken"].as_str().unwrap()).unwrap();
        let second = std::time::Duration::from_secs(1);
        assert!(token.verify(key, expiry - second, std::time::Duration::ZERO).is_ok(), "{text}");
        assert!(token.verify(key, expiry + second, std::time::Duration::ZERO).is_err(), "{text}");
    }
    for arguments in [
        "",
        "--id-scope 0ne",
        "--registration-id a",
        "--hub h",
        "--device-id d",
        "--hub h --device-id d --id-scope 0ne --registration-id a",
        "--hub h/x --device-id d",
        "--id-scope a/b --registration-id a",
        "--hub h --device-id d --valid-for 0s",
        "--hub h --device-id d --valid-for 2y",
        "--hub h --device-id d --valid-for soon",
    ] {
        let (code, words) =
            refused(path, &format!("key sas --symmetric-key env:GROUP_KEY {arguments}"));
        assert_eq!(code, 2, "{arguments}: {words}");
    }
}

// In each form, for a key that was there and for a new one, and openssl takes the request.
#[test]
fn openssl_verifies_requests_in_every_form() {
    if no_openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    openssl(path, "ecparam -genkey -noout -name prime256v1 -out mine.pem");
    printed(path, "csr new --registration-id press-7 --key mine.pem --out mine.csr");
    printed(path, "csr new --registration-id press-7 --key mine.pem --der --out mine.der");
    let base64 = printed(path, "csr new --registration-id press-7 --key mine.pem --base64");
    assert_eq!(base64.lines().count(), 1);
    std::fs::write(path.join("mine.b64"), &base64).unwrap();
    let told = openssl(path, "req -in mine.csr -verify -noout -subject -nameopt RFC2253");
    assert!(told.contains("verify OK") && told.contains("subject=CN=press-7\n"), "{told}");
    assert!(openssl(path, "req -inform DER -in mine.der -verify -noout").contains("verify OK"));
    assert_eq!(
        openssl(path, "req -in mine.csr -noout -pubkey"),
        openssl(path, "pkey -in mine.pem -pubout")
    );
    for file in ["mine.csr", "mine.der", "mine.b64"] {
        let told = document(path, &format!("csr show {file}"));
        assert_eq!(
            (&told["subject"], &told["keyAlgorithm"], &told["signatureVerified"]),
            (&"CN=press-7".into(), &"ECDSA P-256".into(), &true.into())
        );
    }
    // A new key is kept beside the request.
    std::fs::create_dir(path.join("new")).unwrap();
    let told = document(path, "csr new --registration-id press-8 --out new/request.pem");
    assert_eq!(told["keyFile"], "new/press-8.key.pem");
    let mode = path.join("new/press-8.key.pem").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        openssl(path, "req -in new/request.pem -noout -pubkey"),
        openssl(path, "pkey -in new/press-8.key.pem -pubout")
    );
    // A request of another make.
    openssl(path, "req -new -key mine.pem -subj /C=DE/O=Contoso/CN=press-9 -out other.csr");
    assert_eq!(document(path, "csr show other.csr")["subject"], "CN=press-9,O=Contoso,C=DE");
}

#[test]
fn requests_that_are_not_made_or_not_verified() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    printed(path, "key new --out key.pem");
    printed(path, "csr new --registration-id press-7 --key key.pem --der --out good.der");
    let mut bytes = std::fs::read(path.join("good.der")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path.join("bad.der"), &bytes).unwrap();
    let (code, words) = refused(path, "csr show bad.der");
    assert_eq!(code, 7);
    assert!(words.contains("the signature does not verify"), "{words}");
    let output = tool(path, "csr show bad.der -o json");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((&told["ok"], &told["signatureVerified"]), (&false.into(), &false.into()));

    let long = "x".repeat(65);
    for (arguments, words) in [
        ("show absent", "absent"),
        ("show key.pem", "no certificate request found"),
        ("new --registration-id a/b --key key.pem", "'/' at position 1"),
        (&format!("new --registration-id {long} --key key.pem"), "65 characters"),
        (&format!("new --registration-id {long} --out request"), "65 characters"),
        ("new --registration-id press-7 --key good.der", "good.der"),
        ("new --registration-id press-7 --key key.pem --out good.der", "is there already"),
        ("new --registration-id press-7 --key pkcs11:object=x", "names no module"),
        ("new --registration-id press-7 --key key.pem --der --base64", "cannot be used"),
    ] {
        let (code, told) = refused(path, &format!("csr {arguments}"));
        assert_eq!(code, 2, "{arguments}: {told}");
        assert!(told.contains(words), "{arguments}: {told}");
    }
    // Neither is left where the other cannot be written.
    let absent = refused(path, "csr new --registration-id press-7 --out nowhere/request.pem");
    assert_eq!(absent.0, 8);
}
