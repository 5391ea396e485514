//! `zerotouch pki` as a person runs it, with openssl for a witness of what it makes.

use super::*;
use std::os::unix::fs::PermissionsExt;

const CODE: &str = "75B86466DA34D2B04C0C4C9557A119687ADAE7D4732BDDB3";

fn pki(directory: &Path, arguments: &str) -> Output {
    tool(directory, &format!("pki {arguments}"))
}

fn made(directory: &Path, arguments: &str) -> Value {
    document(directory, &format!("pki {arguments}"))
}

fn refused(directory: &Path, arguments: &str) -> (i32, String) {
    super::refused(directory, &format!("pki {arguments}"))
}

// From a root to a device, with each kind of key, and the answer to a verification code.
#[test]
fn openssl_verifies_what_is_made() {
    if no_openssl() {
        return;
    }
    for algorithm in ["p384", "p256", "rsa2048"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let kind = format!("--key-algorithm {algorithm}");
        let root = made(path, &format!("root {kind}"));
        made(path, &format!("intermediate {kind}"));
        let device =
            made(path, &format!("device --registration-id press-7 --issuer intermediate {kind}"));
        let answer = made(path, &format!("verification --code {CODE}"));

        openssl(path, "verify -CAfile root.cert.pem root.cert.pem");
        openssl(
            path,
            "verify -x509_strict -purpose sslclient -CAfile root.cert.pem -untrusted press-7.cert.pem press-7.cert.pem",
        );
        openssl(path, "verify -CAfile root.cert.pem verification.cert.pem");
        assert_eq!(answer["subject"], format!("CN={CODE}"));
        assert_eq!(answer["keyFile"], Value::Null);
        assert_eq!((&device["subject"], &device["chainLength"]), (&"CN=press-7".into(), &3.into()));
        let fingerprint = openssl(path, "x509 -in root.cert.pem -noout -fingerprint -sha256");
        assert!(fingerprint.replace(':', "").contains(root["thumbprint"].as_str().unwrap()));
        // The key is the certificate's, and openssl reads it.
        assert_eq!(
            openssl(path, "pkey -in press-7.key.pem -pubout"),
            openssl(path, "x509 -in press-7.cert.pem -noout -pubkey")
        );
    }
}

// An authority that somebody else has made, with a name of several parts; and keys that exist already.
#[test]
fn issues_with_keys_of_other_makes() {
    if no_openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    openssl(
        path,
        "req -x509 -newkey rsa:2048 -nodes -keyout other.key.pem -out other.cert.pem -days 90 \
         -subj /C=DE/O=Contoso/OU=Devices/CN=Root -addext keyUsage=critical,keyCertSign",
    );
    openssl(path, "ecparam -genkey -noout -name prime256v1 -out mine.key.pem");
    let device = "device --registration-id press-7 --issuer other --key mine.key.pem --out mine";
    assert_eq!(made(path, device)["keyFile"], Value::Null);
    openssl(path, "verify -purpose sslclient -CAfile other.cert.pem mine.cert.pem");
    assert_eq!(
        openssl(path, "x509 -in mine.cert.pem -noout -issuer -nameopt RFC2253"),
        "issuer=CN=Root,OU=Devices,O=Contoso,C=DE\n"
    );
    openssl(
        path,
        "req -x509 -newkey rsa:2048 -nodes -keyout twice.key.pem -out twice.cert.pem -days 90 -subj /OU=a/OU=b/CN=Root",
    );
    let (code, words) = refused(path, "device --registration-id press-8 --issuer twice");
    assert_eq!(code, 2);
    assert!(words.contains("has a form that is not supported"), "{words}");
}

#[test]
fn keys_are_for_their_owner_alone_and_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    made(path, "root");
    let mode = |name: &str| path.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("root.key.pem"), 0o600);
    let before = std::fs::read(path.join("root.key.pem")).unwrap();
    let (code, words) = refused(path, "root");
    assert_eq!(code, 2);
    assert!(words.contains("is there already") && words.contains("help: "), "{words}");
    // One of the two files is enough to refuse, and the other is not made.
    std::fs::remove_file(path.join("root.cert.pem")).unwrap();
    assert_eq!(refused(path, "root").0, 2);
    assert_eq!(std::fs::read(path.join("root.key.pem")).unwrap(), before);

    // Even where others may read the file that is replaced, and where it is a link to another.
    let elsewhere = path.join("elsewhere");
    std::fs::write(&elsewhere, "not to be touched").unwrap();
    std::fs::remove_file(path.join("root.key.pem")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, path.join("root.key.pem")).unwrap();
    assert_eq!(refused(path, "root").0, 2);
    made(path, "root --force");
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "not to be touched");
    assert!(path.join("root.key.pem").symlink_metadata().unwrap().is_file());
    assert_eq!(mode("root.key.pem"), 0o600);
}

#[test]
fn what_cannot_be_made_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    made(path, "root --days 30");
    made(path, "device --registration-id press-1");
    let long = "x".repeat(65);
    for (arguments, code, words) in [
        ("root --out nowhere/root", 8, "cannot write nowhere/root.key.pem"),
        ("root --days 0 --out other", 2, "--days"),
        ("device --registration-id press-7 --days 31", 2, "outlive its issuer"),
        ("device --registration-id a/b", 2, "'/' at position 1"),
        (&format!("device --registration-id {long}"), 2, "65 characters"),
        ("device --registration-id press-7 --issuer nobody", 2, "nobody.cert.pem"),
        ("device --registration-id press-7 --issuer press-1", 2, "not an authority"),
        ("device --registration-id p --issuer-key press-1.key.pem", 2, "another key"),
        ("device --registration-id p --key root.cert.pem", 2, "no private key found"),
        ("device --registration-id p --key pkcs11:object=x", 2, "names no module"),
        ("device --registration-id p --key pkcs11:id=%01?module-path=/x.so", 2, "/x.so"),
        ("verification --code no-code", 2, "no verification code"),
        ("verification --code ", 2, "--code"),
    ] {
        let (got, told) = refused(path, arguments);
        assert_eq!(got, code, "{arguments}: {told}");
        assert!(told.contains(words), "{arguments}: {told}");
    }
    // Machines are told the same.
    let output = pki(path, "verification --code no-code -o json");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["ok"], &document["error"]["exitCode"]), (&false.into(), &2.into()));
}

// C10: whatever is printed, no key is.
#[test]
fn c10_no_key_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for output in ["text", "json"] {
        let output = pki(path, &format!("root --force -o {output}"));
        let key = std::fs::read_to_string(path.join("root.key.pem")).unwrap();
        let secret = &key.lines().nth(1).unwrap()[..20];
        for bytes in [output.stdout, output.stderr] {
            let words = String::from_utf8(bytes).unwrap();
            assert!(!words.contains(secret) && !words.contains("PRIVATE KEY"), "{words}");
        }
    }
}
