//! `zerotouch completions` and `zerotouch man`: what packages of the tool carry.

#![cfg(feature = "completions")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Command, Output};

fn tool(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zerotouch")).args(arguments).output().unwrap()
}

// A script for each shell that knows the commands of today.
#[test]
fn every_shell_completes_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = tool(&["completions", shell]);
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("registration-id") && script.contains("decode"), "{shell}");
    }
    assert_eq!(tool(&["completions", "cmd"]).status.code(), Some(2));
}

// A page for each command and each below it, under the names that man looks for.
#[test]
fn every_command_has_a_page() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    assert!(tool(&["man", "--out-dir", pages.to_str().unwrap()]).status.success());
    for (page, words) in [
        ("zerotouch.1", "zerotouch\\-mqtt(1)"),
        ("zerotouch-mqtt-decode.1", "\\-\\-hex"),
        ("zerotouch-key-sas.1", "\\-\\-valid\\-for"),
        ("zerotouch-man.1", "\\-\\-out\\-dir"),
    ] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(words), "{page}: {text}");
    }
    assert!(!pages.join("zerotouch-help.1").exists());
    let output = tool(&["man"]);
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains(".TH zerotouch 1"));
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(tool(&["man", "--out-dir", file.to_str().unwrap()]).status.code(), Some(8));
}
