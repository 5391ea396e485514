//! Where a secret must not be found: among the arguments, in the environment, on the disk.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::Fixture;

/// What every file below a directory holds.
fn contents(directory: &Path) -> Vec<u8> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| std::fs::read(&path).unwrap_or_else(|_| contents(&path))).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

// S9: a device at work with a key from standard input. Whoever lists processes meanwhile, and whoever
// reads the disk afterwards, sees neither the key nor a token.
#[test]
fn s09_keys_and_tokens_are_in_no_argument_and_no_file() {
    let emulator = Emulator::builder().seed(7).start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    emulator.write_ca_certificate(&ca_file).unwrap();
    let group_key = emulator.group_key(Fixture::DEFAULT_GROUP).unwrap();
    let device_key = group_key.derive("press-7").to_base64();
    let group_key = group_key.to_base64();

    let state = directory.path().join("state");
    let mut child = Command::new(env!("CARGO_BIN_EXE_zerotouch"))
        .args(["demo", "--registration-id", "press-7", "--symmetric-key", "-", "--compute-key"])
        .args(["--provisioning-host", "localhost", "--port", &emulator.port().to_string()])
        .args(["--id-scope", &emulator.id_scope(), "--ca-file"])
        .arg(&ca_file)
        .arg("--state-dir")
        .arg(&state)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = PathBuf::from("/proc").join(child.id().to_string());
    writeln!(child.stdin.take().unwrap(), "{}", group_key.as_str()).unwrap();

    let (mut seen, mut token_used) = (Vec::new(), false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        token_used |= line.unwrap().contains("over TLS, and subscribed");
        for listed in ["cmdline", "environ"] {
            seen.extend(std::fs::read(process.join(listed)).unwrap_or_default());
        }
        seen.extend(contents(&state));
    }
    child.wait().unwrap();
    seen.extend(contents(&state));
    assert!(token_used && holds(&seen, "--symmetric-key"));
    for secret in [&**group_key, &**device_key, "SharedAccessSignature"] {
        assert!(!holds(&seen, secret));
    }
}

// K18: a process that dies of a fault leaves its memory on the disk, keys and all. Not this one: `sleep`,
// under the same limits, shows that the system would.
#[test]
fn k18_a_crash_leaves_no_core_file() {
    use std::os::unix::process::ExitStatusExt;
    let directory = tempfile::tempdir().unwrap();
    let dies = |command: &str| {
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -c unlimited; exec {command}")])
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The emulator has read and made keys when it says that it is ready; `sleep` says nothing.
        if command.contains("emulator") {
            BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        }
        let killed = Command::new("kill").args(["-ABRT", &child.id().to_string()]).status();
        assert!(killed.unwrap().success());
        child.wait().unwrap()
    };
    let tool = env!("CARGO_BIN_EXE_zerotouch");
    let status = dies(&format!("{tool} emulator --port 0 --output json"));
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
    if !dies("sleep 60").core_dumped() {
        eprintln!("nothing here leaves core files, so that this one does not shows nothing");
    }
}
