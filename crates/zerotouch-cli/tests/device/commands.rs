//! Commands that do one thing, with a connection of their own.

use super::*;
use serde_json::json;

// What a script needs: what is to be done is done, and where nothing is, that is no failure.
#[test]
fn provisioning_is_done_once() {
    let gateway = Gateway::new();
    let (code, before) = gateway.json(&["status"]);
    assert_eq!((code, &before["error"]["message"]), (3, &json!("the device is not provisioned")));

    let (code, done) = gateway.json(&["provision"]);
    assert_eq!(code, 0, "{done}");
    assert_eq!(done["schemaVersion"], 1);
    assert_eq!(done["result"]["nothingToDo"], false);
    assert_eq!(done["result"]["hub"], "localhost");
    assert_eq!(done["result"]["active"]["subject"], "CN=press-7");
    let steps: Vec<_> =
        done["steps"].as_array().unwrap().iter().map(|step| &step["step"]).collect();
    assert_eq!(steps, ["key pair", "dps", "assigned", "certificate", "hub", "activated"]);

    let (code, again) = gateway.json(&["provision"]);
    assert_eq!((code, &again["result"]["nothingToDo"]), (0, &json!(true)));
    for name in ["generation", "thumbprint"] {
        assert_eq!(again["result"]["active"][name], done["result"]["active"][name]);
    }
    let (code, after) = gateway.json(&["status"]);
    assert_eq!((code, &after["provisioned"], &after["agent"]), (0, &json!(true), &Value::Null));
}

// A stream has one document a line, people read words, and those about progress are on standard error.
#[test]
fn results_are_for_machines_and_for_people() {
    let gateway = Gateway::new();
    let output = gateway.command(&["provision", "-o", "jsonl"]).output().unwrap();
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 7, "six steps and the result");
    assert!(lines.iter().all(|line| line["schemaVersion"] == 1));
    assert_eq!((&lines[0]["step"], &lines[6]["ok"]), (&json!("key pair"), &json!(true)));

    let output = gateway.command(&["telemetry", "send", "1"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 acknowledged by the hub\n");
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(progress.contains("connected to localhost with the active certificate"), "{progress}");
    assert!(!progress.contains('\x1b'), "no terminal, no control characters");
}

// The order is that of the command line and of the lines, and each is what it was.
#[test]
fn telemetry_arrives_as_it_was_written() {
    let gateway = Gateway::new();
    gateway.provision();
    let mut command = gateway.command(&[
        "telemetry",
        "send",
        "{\"t\": 21.50}",
        "words",
        "-",
        "-7",
        "--property",
        "line=4",
        "--component",
        "oven",
    ]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{\"a\":1}\n\n[2]\r\nlast").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "6 acknowledged by the hub\n");
    for (payload, is_json) in [
        ("{\"t\": 21.50}", true),
        ("words", false),
        ("{\"a\":1}", true),
        ("[2]", true),
        ("last", false),
        ("-7", true),
    ] {
        let (properties, found) = gateway.await_telemetry();
        assert_eq!(String::from_utf8_lossy(&found), payload);
        let value = |name: &str| {
            properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        assert_eq!((value("line"), value("$.sub")), (Some("4"), Some("oven")));
        assert_eq!(value("$.ct"), is_json.then_some("application/json"), "{payload}");
    }
}

// Both halves of the twin, and a patch that is none.
#[test]
fn the_twin_is_read_and_reported_to() {
    let gateway = Gateway::new();
    gateway.provision();
    let (code, patched) = gateway.json(&["twin", "patch", "{\"fw\": \"1.2\", \"old\": null}"]);
    assert_eq!((code, patched["result"]["version"].is_u64()), (0, true), "{patched}");
    let patch = json!({ "rate": 5 }).as_object().unwrap().clone();
    gateway.emulator.with_cloud(|cloud, now| cloud.update_desired(ID, patch, now)).unwrap();
    let (code, twin) = gateway.json(&["twin", "get"]);
    assert_eq!(code, 0, "{twin}");
    assert_eq!(twin["result"]["desired"], json!({ "rate": 5 }));
    assert_eq!(twin["result"]["reported"], json!({ "fw": "1.2" }));
    let (code, refused) = gateway.json(&["twin", "patch", "[1]"]);
    assert_eq!((code, &refused["error"]["code"]), (2, &json!("configuration")));
}

// The next generation is in use, and the one before is kept.
#[test]
fn a_certificate_is_renewed() {
    let gateway = Gateway::new();
    gateway.provision();
    let (_, before) = gateway.json(&["status"]);
    let (code, renewed) = gateway.json(&["renew"]);
    assert_eq!(code, 0, "{renewed}");
    assert_eq!(renewed["result"]["active"]["generation"], 2);
    let previous = &renewed["result"]["previous"][0];
    assert_eq!(previous["thumbprint"], before["active"]["thumbprint"]);
}
