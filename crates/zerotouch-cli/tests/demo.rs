//! `zerotouch demo` as a person runs it: the binary, its words, its exit code, and what it leaves
//! behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn zerotouch(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zerotouch"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a demo that must fail: its exit code, its words to a person, and its files of this device.
fn failed(state: &Path, id: &str, arguments: &[&str]) -> (i32, String, Vec<PathBuf>) {
    let directory = state.to_str().unwrap();
    let common = ["demo", "--state-dir", directory, "--registration-id", id];
    let output = zerotouch(&[&common[..], arguments].concat());
    let files = std::fs::read_dir(state.join(id))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
    let stdout = text(&output.stdout);
    assert!(!stdout.contains("done in"), "{stdout}");
    (output.status.code().unwrap(), text(&output.stderr), files.unwrap_or_default())
}

fn key_file(directory: &Path) -> String {
    let path = directory.join("wrong.key");
    std::fs::write(&path, "c29tZWJvZHkgZWxzZSdzIGtleSwgMzIgYnl0ZXMuLi4=\n").unwrap();
    format!("file:{}", path.display())
}

// The whole way as one JSON document, in the order it happened; and a second run with the same
// directory, which has no need of the provisioning service.
#[test]
fn the_whole_way_and_once_more_from_what_was_kept() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().to_str().unwrap();
    let run = || {
        let output =
            zerotouch(&["demo", "--state-dir", state, "--messages", "3", "--output", "json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&document["schemaVersion"], &document["ok"]), (&1.into(), &true.into()));
        let steps = document["steps"].as_array().unwrap().clone();
        let names: Vec<_> =
            steps.iter().map(|step| step["step"].as_str().unwrap().to_owned()).collect();
        (document, steps, names)
    };

    let (document, steps, names) = run();
    assert_eq!(
        names,
        [
            "emulator",
            "device key",
            "key pair",
            "dps",
            "assigned",
            "certificate",
            "hub",
            "activated",
            "telemetry",
            "key pair",
            "renewal",
            "accepted",
            "certificate",
            "hub",
            "activated",
            "disconnected",
            "confirmed",
        ]
    );
    assert_eq!(document["totals"]["provisioned"], true);
    let first = &steps[5]["proved"];
    assert_eq!(first["thumbprint"].as_str().unwrap().len(), 64);
    assert_eq!(first["chainLength"], 3);
    assert_eq!(
        first["thumbprint"], steps[6]["proved"]["thumbprint"],
        "the hub saw what was issued"
    );
    assert_ne!(first["thumbprint"], steps[12]["proved"]["thumbprint"]);
    assert_eq!(steps[16]["proved"]["arrived"], 3);

    let (document, steps, names) = run();
    assert_eq!(names[..4], ["identity", "emulator", "device key", "hub"]);
    assert_eq!(steps[0]["proved"]["generation"], 2);
    assert_eq!(document["totals"]["provisioned"], false);
}

#[test]
fn people_read_one_line_for_each_step() {
    let output = zerotouch(&["demo", "--messages", "1", "--key-algorithm", "p256"]);
    let story = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(story.contains("new ECDSA P-256 key pair"), "{story}");
    assert!(story.lines().last().unwrap().starts_with("  done in "), "{story}");
    assert_eq!(text(&output.stderr), "");
}

// What the service refuses: its code and tracking id, the class in the exit code, and nothing half
// done in the state directory.
#[test]
fn refusals_name_the_cause_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let wrong = key_file(directory.path());

    let (code, words, files) =
        failed(&state, "pump", &["--symmetric-key", &wrong, "--compute-key"]);
    assert_eq!(code, 4, "{words}");
    assert!(words.contains("401002") && words.contains("tracking id"), "{words}");
    assert!(words.contains("help: the key does not fit the enrolment"), "{words}");
    assert_eq!(files, [""; 0].map(PathBuf::from));

    let (code, words, files) = failed(&state, "unknown-pump", &["--symmetric-key", &wrong]);
    assert_eq!(code, 4, "{words}");
    assert!(words.contains("no enrolment is for this id"), "{words}");
    assert_eq!(files.len(), 0);

    let (code, words, files) = failed(&state, "disabled-device", &[]);
    assert_eq!(code, 3, "{words}");
    assert!(
        words.contains("the enrolment is disabled") && words.contains("help: enable"),
        "{words}"
    );
    assert_eq!(files.len(), 0);

    let (code, words, files) = failed(&state, "pump", &["--id-scope", "0neWRONG"]);
    assert_eq!(code, 4, "{words}");
    assert!(words.contains("401000") && words.contains("id scope"), "{words}");
    assert_eq!(files.len(), 0);
}

#[test]
fn a_server_of_another_authority_is_not_talked_to() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.pem");
    let state = directory.path().join("state");
    // Another emulator's root: a real one, and not the right one.
    let emulator = zerotouch_emulator::Emulator::builder().seed(99).start().unwrap();
    emulator.write_ca_certificate(&other).unwrap();
    let (code, words, files) = failed(&state, "pump", &["--ca-file", other.to_str().unwrap()]);
    assert_eq!(code, 5, "{words}");
    assert!(
        words.contains("does not chain to a trusted root") && words.contains("--ca-file"),
        "{words}"
    );
    assert_eq!(files.len(), 0);
}

#[test]
fn what_is_wrong_on_this_machine_is_known_before_anything_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");

    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let (code, words, files) = failed(&state, "pump", &["--port", &port]);
    assert_eq!(code, 5, "{words}");
    assert!(words.contains("is in use by another program"), "{words}");
    assert_eq!(files.len(), 0);

    // A file where the directory should be: unwritable for everybody, root included.
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = zerotouch(&["demo", "--state-dir", file.join("state").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(8), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("--state-dir"));

    for (arguments, words) in [
        (&["--registration-id", "a/b"][..], "'/' at position 1"),
        (&["--symmetric-key", "file:/nonexistent"], "cannot read the key"),
        (&["--ca-file", "/nonexistent"], "cannot read /nonexistent"),
        (&["--provisioning-host", "localhost"], "--id-scope"),
        (&["--messages", "many"], "--messages"),
    ] {
        let output = zerotouch(&[&["demo"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
}

// C10, S9: a secret on the command line is refused, and no output repeats a secret, however it came.
#[test]
fn no_key_is_ever_printed() {
    const SECRET: &str = "c29tZWJvZHkgZWxzZSdzIGtleSwgMzIgYnl0ZXMuLi4=";
    let output = zerotouch(&["demo", "--symmetric-key", SECRET]);
    assert_eq!(output.status.code(), Some(2));
    let words = text(&output.stderr);
    assert!(words.contains("file:PATH") && !words.contains(&SECRET[..12]), "{words}");

    let mut child = Command::new(env!("CARGO_BIN_EXE_zerotouch"))
        .args(["demo", "--symmetric-key", "-", "--compute-key", "--output", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{SECRET}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    for words in [text(&output.stdout), text(&output.stderr)] {
        for secret in [&SECRET[..12], "SharedAccessSignature", "PRIVATE KEY"] {
            assert!(!words.contains(secret), "{words}");
        }
    }
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["ok"], &document["error"]["exitCode"]), (&false.into(), &4.into()));
    assert_eq!(document["error"]["serviceErrorCode"], 401_002);
}
