//! `zerotouch cert` as a person runs it, with openssl for a witness of what it shows.

use super::*;

/// A root, an intermediate and a device below it, and a root that has nothing to do with them.
fn certificates() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        "root",
        "intermediate",
        "device --registration-id press-7 --issuer intermediate",
        "root --out stranger",
    ] {
        printed(directory.path(), &format!("pki {arguments}"));
    }
    directory
}

// Each value as openssl tells it, in PEM and in DER.
#[test]
fn shows_what_openssl_shows() {
    if no_openssl() {
        return;
    }
    let directory = certificates();
    let path = directory.path();
    let (_, told) = outcome(path, "cert show press-7.cert.pem");
    let shown = told["certificates"].as_array().unwrap();
    let authorities: Vec<_> = shown.iter().map(|it| it["isAuthority"].as_bool().unwrap()).collect();
    assert_eq!(authorities, [false, true, true]);
    assert_eq!(shown[0]["extendedKeyUsage"], serde_json::json!(["clientAuth"]));
    assert_eq!(shown[1]["pathLength"], 0);
    // Of 30 days, whole ones: all of them only within the second in which it was made.
    assert!((29..=30).contains(&shown[0]["daysLeft"].as_i64().unwrap()), "{}", shown[0]);
    let x509 = |what: &[&str]| {
        let told =
            openssl_with(path, &[&["x509", "-in", "press-7.cert.pem", "-noout"], what].concat());
        told.trim_end().split_once('=').unwrap().1.replace(':', "")
    };
    for (member, what) in [
        ("subject", &["-subject", "-nameopt", "RFC2253"][..]),
        ("issuer", &["-issuer", "-nameopt", "RFC2253"]),
        ("serial", &["-serial"]),
        ("thumbprint", &["-fingerprint", "-sha256"]),
        ("sha1Thumbprint", &["-fingerprint", "-sha1"]),
    ] {
        assert_eq!(shown[0][member], x509(what), "{member}");
    }
    openssl_with(
        path,
        &["x509", "-in", "press-7.cert.pem", "-outform", "DER", "-out", "press-7.der"],
    );
    let (_, der) = outcome(path, "cert show press-7.der");
    // Not all of it: the days that are left may be one fewer by now.
    assert_eq!(der["certificates"].as_array().unwrap().len(), 1);
    assert_eq!(der["certificates"][0]["thumbprint"], shown[0]["thumbprint"]);
}

// Names of every kind and an end that has passed; and nothing that a certificate says moves the cursor.
#[test]
fn shows_what_strangers_have_written() {
    if no_openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let names = "subjectAltName=DNS:press.example,IP:10.0.0.1,URI:urn:press";
    let make = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-utf8",
        "-subj",
        "/CN=a\u{1b}[31mb\u{9b}c",
        "-days",
        "-3",
        "-addext",
        names,
    ];
    // Versions of openssl that make no certificate of the past make one of today.
    let mut make = make.to_vec();
    if !Command::new("openssl").args(&make).current_dir(path).output().unwrap().status.success() {
        make[13] = "1";
        openssl_with(path, &make);
    }
    let told = printed(path, "cert show cert.pem");
    assert!(told.contains("DNS:press.example, IP:10.0.0.1, URI:urn:press"), "{told}");
    assert!(told.contains("RSA-2048"), "{told}");
    assert!(told.contains("EXPIRED 3 days ago") || make[13] == "1", "{told}");
    assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{told:?}");
}

// A generation of the state directory is a key and its chain in one file: the chain is shown, and no part of
// the key, wherever in the file it stands.
#[test]
fn c10_a_key_in_the_same_file_is_not_shown() {
    let directory = certificates();
    let path = directory.path();
    let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
    let (key, chain) = (read("press-7.key.pem"), read("press-7.cert.pem"));
    let secret: Vec<_> = key.lines().filter(|line| !line.starts_with('-')).collect();
    for (name, bundle) in [("first", format!("{key}{chain}")), ("last", format!("{chain}{key}"))] {
        std::fs::write(path.join(name), bundle).unwrap();
        for form in ["text", "json"] {
            let output = tool(path, &format!("cert show {name} -o {form}"));
            assert!(output.status.success());
            let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(words.contains("CN=press-7"), "{words}");
            assert!(secret.iter().all(|line| !words.contains(line)), "{words}");
            assert!(!words.contains("BEGIN"), "{words}");
        }
        assert_eq!(outcome(path, &format!("cert show {name}")).1["holdsPrivateKey"], true);
        let verify = format!("cert verify --certificate-file-path {name} --key-file-path {name}");
        assert_eq!(outcome(path, &verify).0, 0);
    }
    // Nor where there is no certificate to be shown.
    let output = tool(path, "cert show press-7.key.pem");
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("holds no certificate") && !words.contains(secret[0]), "{words}");
}

#[test]
fn what_cannot_be_read_says_why() {
    let directory = certificates();
    let path = directory.path();
    let pem = std::fs::read_to_string(path.join("root.cert.pem")).unwrap();
    std::fs::write(path.join("cut"), &pem[..pem.len() / 2]).unwrap();
    std::fs::write(path.join("binary"), [0xFF; 64]).unwrap();
    std::fs::write(path.join("der"), [0x30, 0x03, 0x02, 0x01, 0x00]).unwrap();
    std::fs::write(path.join("large"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
    for (file, words) in [
        ("absent", "No such file"),
        (".", "cannot read the certificate ."),
        ("cut", "certificate"),
        ("binary", "neither PEM nor DER"),
        ("der", "not a DER certificate"),
        ("large", "too large"),
    ] {
        for command in ["cert show", "cert verify --certificate-file-path"] {
            let output = tool(path, &format!("{command} {file}"));
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{file}: {told}");
            assert!(told.contains(words), "{file}: {told}");
        }
    }
}

// The words of what is wrong, for people and machines, and its exit code: it may stand in a script.
#[test]
fn verify_tells_every_fault() {
    let directory = certificates();
    let path = directory.path();
    let verify = "cert verify --certificate-file-path press-7.cert.pem";
    let good = format!("{verify} --key-file-path press-7.key.pem --registration-id press-7");
    let told = printed(path, &format!("{good} --anchor root.cert.pem"));
    assert!(told.ends_with("  good     nothing is wrong with it\n"), "{told}");

    let bad = format!(
        "{verify} --key-file-path stranger.key.pem --registration-id press-8 --anchor stranger.cert.pem"
    );
    let output = tool(path, &bad);
    assert_eq!(output.status.code(), Some(7));
    let told = String::from_utf8(output.stdout).unwrap();
    for words in [
        "for another key",
        "not for press-8",
        "not the pinned anchor",
        "(DPS says: 401002 CA certificate not found)",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let (code, told) = outcome(path, &bad);
    assert_eq!((code, told["findings"].as_array().unwrap().len()), (7, 3));
    assert_eq!(told["findings"][2]["serviceSays"], "401002 CA certificate not found");
    assert_eq!(told["notChecked"], serde_json::json!([]));
}

// What is not given is not looked at, and that is said; links are looked at in any case.
#[test]
fn verify_says_what_it_has_not_looked_at() {
    let directory = certificates();
    let path = directory.path();
    let (code, told) = outcome(path, "cert verify --certificate-file-path press-7.cert.pem");
    assert_eq!((code, &told["findings"]), (0, &serde_json::json!([])));
    assert_eq!(told["notChecked"], serde_json::json!(["key", "name", "anchor"]));
    let words = printed(path, "cert verify --certificate-file-path press-7.cert.pem");
    assert!(words.contains("the key was not looked at: give --key-file-path"), "{words}");

    // One byte of the intermediate's signature is another: its last certificate stays a certificate.
    let pem = std::fs::read_to_string(path.join("press-7.cert.pem")).unwrap();
    let end = pem.match_indices("-----END").nth(1).unwrap().0;
    let (before, behind) = pem.split_at(end - 12);
    let other = if behind.starts_with('A') { "B" } else { "A" };
    std::fs::write(path.join("bad"), format!("{before}{other}{}", &behind[1..])).unwrap();
    let (code, told) = outcome(path, "cert verify --certificate-file-path bad");
    assert_eq!(code, 7, "{told}");
    let name = "cert verify --certificate-file-path press-7.cert.pem --registration-id press-8";
    assert_eq!(outcome(path, name).0, 7);
    let key = "cert verify --certificate-file-path press-7.cert.pem --key-file-path root.key.pem";
    assert_eq!(outcome(path, key).0, 7);
}
