//! `zerotouch doctor`: each line says how it is, and what to do about it.

use super::*;

/// The findings of one check, as verdict and message.
fn findings(report: &Value, check: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    let findings = findings.filter(|finding| finding["check"] == check);
    for finding in findings.clone() {
        assert_eq!(finding["verdict"] == "ok", finding["remedy"].is_null(), "{finding}");
    }
    findings.map(|finding| (text(&finding["verdict"]), text(&finding["message"]))).collect()
}

fn only(report: &Value, check: &str) -> (String, String) {
    let found = findings(report, check);
    assert_eq!(found.len(), 1, "{report}");
    found[0].clone()
}

fn doctor(gateway: &Gateway, arguments: &[&str]) -> (i32, Value) {
    // The emulator has HTTPS where it has MQTT.
    let port = gateway.emulator.port().to_string();
    gateway.json(&[&["doctor", "--web-socket-port", &port], arguments].concat())
}

// A device that is well has no problem, before it is provisioned and after; and what it is to learn is not
// learnt by the look at it.
#[test]
fn a_healthy_device() {
    let gateway = Gateway::new();
    let (code, report) = doctor(&gateway, &["--dry-run"]);
    assert_eq!(
        (code, &report["problems"], &report["warnings"]),
        (0, &0.into(), &0.into()),
        "{report}"
    );
    assert_eq!(only(&report, "identity").1, "none yet");
    assert!(only(&report, "dry run").1.contains("404"));
    assert!(
        only(&report, "tls")
            .1
            .ends_with("chains to CN=zerotouch TLS root EMULATOR - NOT FOR PRODUCTION")
    );
    assert_eq!(findings(&report, "clock").len(), 2, "ours, and how far it is from theirs");
    gateway.provision();
    let (code, report) = doctor(&gateway, &["--dry-run"]);
    assert_eq!((code, &report["problems"]), (0, &0.into()), "{report}");
    assert!(only(&report, "identity").1.starts_with("valid until "));
    assert_eq!(only(&report, "dry run").1, "the service knows it: assigned, localhost");
    assert_eq!(only(&report, "agent").1, "does not run");
    let mut agent = gateway.agent(&[]);
    agent.event("connected");
    let (code, report) = doctor(&gateway, &[]);
    assert_eq!((code, only(&report, "agent").1), (0, "connected".into()), "{report}");
    assert!(only(&report, "store").1.ends_with("in use by the agent"));
}

// Each thing that is wrong is found by the check that is for it, and its class is the exit code.
#[test]
fn what_is_wrong_is_found() {
    let gateway = Gateway::new();
    gateway.provision();
    std::fs::write(gateway.path("wrong.key"), "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lE=")
        .unwrap();
    std::fs::write(gateway.path("file"), "").unwrap();
    let cases: [(&[&str], &str, i32, &str); 7] = [
        (&["--symmetric-key", "file:nothing"], "settings", 2, "cannot read the key from nothing"),
        (&["--ca-file", "wrong.key"], "roots", 2, "no certificate"),
        (&["--proxy", "socks5://x"], "proxy", 2, "http://"),
        (&["--provisioning-host", "no-such-host.invalid"], "dns", 5, "no-such-host.invalid"),
        (&["--port", "1"], "tcp", 5, "localhost:1: "),
        (&["--provisioning-host", "127.0.0.1", "--hub-port", "1"], "tls", 5, "localhost:1: "),
        (&["--state-dir", "file"], "store", 8, "file"),
    ];
    for (arguments, check, expected, words) in cases {
        let (code, report) = doctor(&gateway, arguments);
        let found = findings(&report, check);
        let problem = found.iter().find(|(verdict, _)| verdict == "problem");
        let problem = problem.unwrap_or_else(|| panic!("{arguments:?}: {report}"));
        assert!(problem.1.contains(words), "{arguments:?}: {report}");
        assert_eq!(code, expected, "{arguments:?}: {report}");
    }
    let (_, report) = doctor(&gateway, &["--dry-run", "--symmetric-key", "file:nothing"]);
    assert_eq!(only(&report, "dry run").1, "not made");
    let (code, report) = doctor(&gateway, &["--dry-run", "--symmetric-key", "file:wrong.key"]);
    assert_eq!((code, only(&report, "dry run").0), (4, "problem".into()), "{report}");
}

// A shut port that the settings do not need is no reason to send for anybody.
#[test]
fn a_port_that_is_not_needed_is_a_warning() {
    let gateway = Gateway::new();
    let (code, report) = gateway.json(&["doctor", "--web-socket-port", "1"]);
    assert_eq!((code, &report["problems"]), (0, &0.into()), "{report}");
    assert_eq!(findings(&report, "tcp")[1].0, "warning");
    assert_eq!(only(&report, "https").0, "warning");
    let (code, report) =
        gateway.json(&["doctor", "--web-socket-port", "1", "--transport", "web-socket"]);
    assert_eq!(code, 5, "{report}");
}

// A certificate that the service would refuse is told in the service's words, and damage is told.
#[test]
fn certificates_and_files_are_looked_at() {
    let gateway = Gateway::new();
    for arguments in
        [&["pki", "root"][..], &["pki", "device", "--registration-id", "other", "--days", "20"]]
    {
        assert!(gateway.bare(arguments).output().unwrap().status.success());
    }
    let x509 = format!(
        "id-scope = \"0ne0\"\nregistration-id = {ID:?}\nstate-dir = \"state\"\nca-file = \"ca.pem\"\n\
         provisioning-host = \"localhost\"\nport = {}\ncertificate-file-path = \"other.cert.pem\"\n\
         key-file-path = \"other.key.pem\"\n",
        gateway.emulator.port()
    );
    std::fs::write(gateway.path("zerotouch.toml"), x509).unwrap();
    let (code, report) = doctor(&gateway, &[]);
    assert_eq!(code, 7, "{report}");
    assert!(only(&report, "certificate").1.contains("for \"other\", not for press-7"), "{report}");
    let (code, report) = doctor(&gateway, &["--registration-id", "other"]);
    assert_eq!(code, 0, "{report}");
    let (verdict, words) = findings(&report, "certificate").pop().unwrap();
    assert_eq!(verdict, "warning", "it has 20 days: {words}");

    gateway.write_settings("");
    gateway.provision();
    for entry in std::fs::read_dir(gateway.path("state/press-7")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            std::fs::write(path, "damaged").unwrap();
        }
    }
    let (code, report) = doctor(&gateway, &[]);
    assert!(
        findings(&report, "store")
            .iter()
            .any(|(verdict, words)| verdict == "warning" && words.contains("damaged")),
        "{report}"
    );
    assert_eq!(code, 8, "the identity is lost: {report}");
}
