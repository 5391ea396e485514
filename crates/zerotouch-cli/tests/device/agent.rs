//! `zerotouch run`: the life of the agent.

use super::*;
use serde_json::json;
use zerotouch_emulator::cloud::{Fault, FaultRule, Operation};

// From nothing to telemetry without a word from anybody, and with an identity that the next start has.
#[test]
fn the_agent_provisions_and_connects() {
    let gateway = Gateway::new();
    let mut agent = gateway.agent(&[]);
    for name in [
        "keyCreated",
        "provisioningConnected",
        "assigned",
        "certificateIssued",
        "connected",
        "activated",
    ] {
        agent.event(name);
    }
    agent.write("{\"t\": 1}");
    assert_eq!(gateway.await_telemetry().1, b"{\"t\": 1}");
    agent.signal("TERM");
    let (last, code) = agent.end();
    assert_eq!((last.unwrap()["state"].as_str(), code), (Some("stopped"), Some(0)));
    assert!(!gateway.path("state/press-7.sock").exists());

    let mut agent = gateway.agent(&[]);
    let connected = agent.read(|line| line["event"] == "connected" || line["event"] == "assigned");
    assert_eq!(
        (&connected["event"], &connected["credential"]),
        (&json!("connected"), &json!("active certificate"))
    );
}

// What is told to end sends what waits: nothing that was taken is lost, even with the hub away.
#[test]
fn what_waits_is_sent_by_the_next_one() {
    let gateway = Gateway::new();
    gateway.provision();
    let port = gateway.emulator.port();
    // A port that nobody listens on: the hub is away.
    let mut agent = gateway.agent(&["--hub-port", "1"]);
    agent.event("attemptFailed");
    for number in 0..20 {
        agent.write(&number.to_string());
    }
    agent.write("{\"$id\": 1, \"$status\": null}");
    assert_eq!(agent.result(1)["value"]["state"], "waiting");
    agent.signal("KILL");
    agent.end();
    let _agent = gateway.agent(&["--hub-port", &port.to_string()]);
    for number in 0..20 {
        assert_eq!(gateway.await_telemetry().1, number.to_string().as_bytes());
    }
}

// An operator who renews, or a clock that does: applications are told, and the hook runs.
#[test]
fn a_renewal_is_told() {
    let gateway = Gateway::new();
    let hook = gateway.path("hook.sh");
    std::fs::write(&hook, "#!/bin/sh\nread line; echo \"$ZEROTOUCH_EVENT $ZEROTOUCH_REGISTRATION_ID $SECRET $line\" >> log\n").unwrap();
    make_executable(&hook);
    let hook = hook.display();
    gateway.write_settings(&format!("on-provisioned = \"{hook}\"\non-renewed = \"{hook}\"\n"));
    let mut command = gateway.command(&["run"]);
    let mut agent = Agent::start({
        command.env("SECRET", "hunter2");
        command
    });
    agent.event("activated");
    let (code, renewed) = gateway.json(&["renew"]);
    assert_eq!((code, &renewed["result"]["active"]["generation"]), (0, &json!(2)), "{renewed}");
    assert_eq!(agent.event("renewalRequested")["event"], "renewalRequested");
    assert_eq!(agent.event("activated")["generation"], 2);
    let log = loop {
        let log = std::fs::read_to_string(gateway.path("log")).unwrap_or_default();
        if log.lines().count() == 2 {
            break log;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let lines: Vec<_> = log.lines().map(|line| line.split_once(" press-7  ").unwrap()).collect();
    assert_eq!(
        (lines[0].0, lines[1].0),
        ("provisioned", "renewed"),
        "and no SECRET in its environment"
    );
    let told: Vec<Value> =
        lines.iter().map(|(_, line)| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&told[0]["hub"], &told[0]["certificate"]["generation"]),
        (&json!("localhost"), &json!(1))
    );
    assert_eq!(told[1]["certificate"]["generation"], 2);
}

fn make_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

// Other settings without another process; a mistake in them costs nothing.
#[test]
fn settings_are_read_again() {
    let gateway = Gateway::new();
    let mut agent = gateway.agent(&[]);
    agent.event("activated");
    gateway.write_settings("model-id = \"dtmi:com:example:Oven;1\"\n");
    agent.signal("HUP");
    agent.event("stopped");
    agent.event("connected");
    gateway.write_settings("model = 5\n");
    agent.signal("HUP");
    let failed = agent.event("reloadFailed");
    assert!(
        failed["error"]["message"].as_str().unwrap().contains("no setting \"model\""),
        "{failed}"
    );
    agent.write("{\"$id\": 1, \"$telemetry\": {\"payload\": 1}}");
    // The device was not disturbed.
    let next = agent.read(|line| line["event"] == "connected" || line["result"] == 1);
    assert_eq!(next["ok"], true, "{next}");
    // Another device is another agent.
    gateway.write_settings("socket = \"elsewhere.sock\"\n");
    agent.signal("HUP");
    assert_eq!(agent.event("reloadFailed")["error"]["exitCode"], 2);
}

// One whose efforts end by its policy ends with the reason, for systemd not to start it again.
#[test]
fn an_agent_that_gives_up_says_why() {
    let gateway = Gateway::new();
    gateway.provision();
    gateway.emulator.with_cloud(|cloud, now| cloud.revoke_device(ID, true, now));
    let (last, code) = gateway.agent(&["--on-refusal", "stop"]).end();
    assert_eq!((last.unwrap()["event"].as_str(), code), (Some("stopped"), Some(4)));
}

// Two agents of one device would lose it its identity: the second does not start.
#[test]
fn there_is_one_agent() {
    let gateway = Gateway::new();
    let mut agent = gateway.agent(&[]);
    agent.event("activated");
    let output = gateway.command(&["run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(8), "{}", words(&output));
    let (code, status) = gateway.json(&["status"]);
    assert_eq!((code, &status["agent"]["state"]), (0, &json!("connected")));
}

// A service that is busy is waited for, and people and machines see that it is so.
#[test]
fn a_busy_service_is_waited_for() {
    let gateway = Gateway::new();
    let rule = FaultRule {
        count: Some(1),
        ..FaultRule::new(
            Operation::Register,
            Fault::Error { status: 429, error_code: None, retry_after: Some(1), message: None },
        )
    };
    gateway.emulator.with_cloud(|cloud, _| cloud.add_fault(rule)).unwrap();
    let mut agent = gateway.agent(&[]);
    assert_eq!(agent.event("throttled")["status"], 429);
    agent.event("activated");
}
