//! Commands that need no network, as a person runs them, with openssl for a witness.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod certificates;
mod keys;
mod pki;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn tool(directory: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zerotouch"))
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .env("GROUP_KEY", keys::GROUP_KEY)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn printed(directory: &Path, arguments: &str) -> String {
    let output = tool(directory, arguments);
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The document, whatever the exit code.
fn outcome(directory: &Path, arguments: &str) -> (i32, Value) {
    let output = tool(directory, &format!("{arguments} -o json"));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["schemaVersion"], 1);
    assert_eq!(document["ok"], output.status.success());
    (output.status.code().unwrap(), document)
}

/// The document of what must succeed.
fn document(directory: &Path, arguments: &str) -> Value {
    let (code, document) = outcome(directory, arguments);
    assert_eq!(code, 0, "{arguments}: {document}");
    document
}

/// The exit code and the words of what must fail, and as many files as before.
fn refused(directory: &Path, arguments: &str) -> (i32, String) {
    let files = || std::fs::read_dir(directory).unwrap().count();
    let before = files();
    let output = tool(directory, arguments);
    assert_eq!(files(), before, "{arguments} left something behind");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Without openssl the test says so and ends; on the machine that decides it has failed.
fn no_openssl() -> bool {
    let missing = Command::new("openssl").arg("version").output().is_err();
    if missing {
        assert!(std::env::var_os("CI").is_none(), "openssl is not installed");
        eprintln!("skipped: openssl is not installed");
    }
    missing
}

/// What it says, of which some is on standard error.
fn openssl(directory: &Path, arguments: &str) -> String {
    openssl_with(directory, &arguments.split_whitespace().collect::<Vec<_>>())
}

fn openssl_with(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}
