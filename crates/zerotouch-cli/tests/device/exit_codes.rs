//! One test for each class of failure: scripts and systemd go by the code alone.

use super::*;
use zerotouch_emulator::cloud::{ChainFault, Fault, FaultRule, Operation};

/// A command's exit code, which the document repeats with its class.
fn code_of(gateway: &Gateway, arguments: &[&str]) -> (i32, String) {
    let (code, document) = gateway.json(arguments);
    assert_eq!(document["ok"], false);
    assert_eq!(document["error"]["exitCode"], code);
    assert!(document["error"]["message"].is_string());
    (code, document["error"]["code"].as_str().unwrap().into())
}

fn fault(gateway: &Gateway, operation: Operation, fault: Fault) {
    let rule = FaultRule::new(operation, fault);
    gateway.emulator.with_cloud(|cloud, _| cloud.add_fault(rule)).unwrap();
}

#[test]
fn usage_is_2() {
    let gateway = Gateway::new();
    assert_eq!(
        code_of(&gateway, &["provision", "--ca-file", "nothing"]),
        (2, "configuration".into())
    );
}

#[test]
fn action_needed_is_3() {
    let gateway = Gateway::new();
    assert_eq!(code_of(&gateway, &["status"]), (3, "action-needed".into()));
    // Its enrolment is disabled.
    let arguments = ["provision", "--registration-id", "disabled-device"];
    assert_eq!(code_of(&gateway, &arguments), (3, "action-needed".into()));
}

#[test]
fn identity_refused_is_4() {
    let gateway = Gateway::new();
    std::fs::write(gateway.path("group.key"), "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lE=")
        .unwrap();
    assert_eq!(code_of(&gateway, &["provision"]), (4, "identity-refused".into()));
}

#[test]
fn network_is_5() {
    let gateway = Gateway::new();
    assert_eq!(code_of(&gateway, &["provision", "--port", "1"]), (5, "network".into()));
    // A server that does not chain to the roots.
    let arguments = ["provision", "--roots", "bundled", "--ca-file="];
    let output = gateway.command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "an empty path is no way to unset it");
}

#[test]
fn throttled_is_6() {
    let gateway = Gateway::new();
    let busy =
        Fault::Error { status: 429, error_code: None, retry_after: Some(120), message: None };
    fault(&gateway, Operation::Register, busy);
    assert_eq!(code_of(&gateway, &["provision"]), (6, "throttled".into()));
}

#[test]
fn certificate_is_7() {
    let gateway = Gateway::new();
    fault(&gateway, Operation::Assign, Fault::Chain(ChainFault::Foreign));
    let arguments = ["provision", "--max-attempts", "1"];
    assert_eq!(code_of(&gateway, &arguments), (7, "certificate".into()));
}

#[test]
fn storage_is_8() {
    let gateway = Gateway::new();
    std::fs::write(gateway.path("file"), "").unwrap();
    assert_eq!(code_of(&gateway, &["provision", "--state-dir", "file"]), (8, "storage".into()));
    assert_eq!(code_of(&gateway, &["status", "--state-dir", "file"]), (8, "storage".into()));
}
