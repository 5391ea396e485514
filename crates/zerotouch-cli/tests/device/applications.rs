//! Applications that speak with the agent: over its pipes and its socket.

use super::*;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// An application on the socket.
struct Application {
    stream: UnixStream,
    lines: Lines<BufReader<UnixStream>>,
}

impl Application {
    fn connect(gateway: &Gateway) -> Self {
        let stream = UnixStream::connect(gateway.path("state/press-7.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        Self { stream, lines }
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.stream, "{request}").unwrap();
        self.line()
    }

    fn line(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

fn connected(gateway: &Gateway) -> Agent {
    let mut agent = gateway.agent(&[]);
    agent.event("activated");
    agent.event("twin");
    agent
}

fn invoke(gateway: &Gateway, request_id: &str) -> bool {
    gateway.emulator.with_cloud(|cloud, now| {
        cloud.invoke_method(ID, ("reboot", request_id), b"{\"in\":5}", now)
    })
}

fn answer(gateway: &Gateway, call: &str) -> (i32, Value) {
    gateway.await_event(|event| match event {
        CloudEvent::MethodAnswered { status, payload, request_id, .. } if request_id == call => {
            Some((status, serde_json::from_slice(&payload).unwrap_or_default()))
        }
        _ => None,
    })
}

// Each request's own result, by its id, and the device's messages with all their properties.
#[test]
fn requests_have_results() {
    let gateway = Gateway::new();
    let mut agent = connected(&gateway);
    agent.write(
        &json!({ "$id": 1, "$telemetry": {
            "payloadBase64": "AJ//", "properties": { "a b": "c&d" }, "messageId": "m1", "contentType": "x/y",
        }})
        .to_string(),
    );
    assert_eq!(agent.result(1)["ok"], true);
    let (properties, payload) = gateway.await_telemetry();
    assert_eq!(payload, [0, 159, 255]);
    for (name, value) in [("a b", "c&d"), ("$.mid", "m1"), ("$.ct", "x/y")] {
        assert!(properties.contains(&(name.into(), value.into())), "{properties:?}");
    }
    agent.write(&json!({ "$id": 2, "$report": { "fw": "1.2" } }).to_string());
    assert!(agent.result(2)["value"]["version"].is_u64());
    agent.write(&json!({ "$id": 3, "$twin": null }).to_string());
    assert_eq!(agent.result(3)["value"]["reported"], json!({ "fw": "1.2" }));
    agent.write("no json");
    assert_eq!(agent.read(|line| line["ok"] == false)["error"]["exitCode"], 2);
    agent.write(&json!({ "$id": 4, "$twins": null }).to_string());
    assert_eq!(agent.result(4)["ok"], false);
    agent.write(&"x".repeat(600 * 1024));
    let too_long = agent.read(|line| line["ok"] == false);
    assert_eq!(too_long["error"]["message"], "the line has more than 512 KiB");
    agent.write(
        &json!({ "$id": 5, "$telemetry": { "payloadText": "y".repeat(300 * 1024) } }).to_string(),
    );
    assert_eq!(agent.result(5)["ok"], false, "more than the hub takes");
    agent.write(&json!({ "$id": 6, "$respond": { "call": "99", "status": 200 } }).to_string());
    assert_eq!(agent.result(6)["error"]["message"], "no call \"99\" awaits an answer");
}

// What the cloud sends is heard as it was sent, and calls are answered by whoever hears them.
#[test]
fn the_cloud_is_heard_and_answered() {
    let gateway = Gateway::new();
    let mut agent = connected(&gateway);
    let patch = json!({ "rate": 5 }).as_object().unwrap().clone();
    gateway.emulator.with_cloud(|cloud, now| cloud.update_desired(ID, patch, now)).unwrap();
    assert_eq!(agent.event("desired")["patch"], json!({ "rate": 5 }));
    for (sent, heard) in [
        (&b"{\"a\":1}"[..], json!({ "payload": { "a": 1 } })),
        (b"words", json!({ "payloadText": "words" })),
        (b"\0\xff", json!({ "payloadBase64": "AP8=" })),
    ] {
        let properties = [("colour", "red"), ("$.mid", "m7")];
        gateway
            .emulator
            .with_cloud(|cloud, now| cloud.send_command(ID, &properties, sent, now))
            .unwrap();
        let message = agent.event("message");
        for (name, value) in heard.as_object().unwrap() {
            assert_eq!(&message[name], value, "{message}");
        }
        assert_eq!(
            (&message["properties"]["colour"], &message["properties"]["$.mid"]),
            (&json!("red"), &json!("m7"))
        );
    }
    assert!(invoke(&gateway, "1"));
    let call = agent.event("method");
    assert_eq!((&call["method"], &call["payload"]), (&json!("reboot"), &json!({ "in": 5 })));
    agent.write(&json!({ "$respond": { "call": call["call"], "status": 202, "payload": { "done": true } } }).to_string());
    assert_eq!(answer(&gateway, "1"), (202, json!({ "done": true })));
}

// A caller must not be kept waiting for an application that is not there.
#[test]
fn calls_that_nobody_can_answer_are_answered() {
    let gateway = Gateway::new();
    let mut agent = connected(&gateway);
    let mut application = Application::connect(&gateway);
    drop(agent.input.take());
    // Its end has been read by the agent once a call is refused: until then, one is open. Each
    // has its own name, so that none is under way any more once the last one is answered.
    let refused = (1..).find_map(|attempt: u32| {
        let name = format!("refused-{attempt}");
        assert!(invoke(&gateway, &name));
        let open = application.ask(&json!({ "$id": 1, "$status": null }));
        assert_eq!(open["ok"], true);
        let end = Instant::now() + Duration::from_millis(100);
        while let Some(event) = gateway.emulator.next_event(end - Instant::now()) {
            match event {
                CloudEvent::MethodAnswered { status, request_id, .. } if request_id == name => {
                    return Some(status);
                }
                _ => {}
            }
        }
        None
    });
    assert_eq!(refused, Some(501));
    assert_eq!(application.ask(&json!({ "$id": 2, "$subscribe": null }))["result"], 2);
    assert!(invoke(&gateway, "2"));
    let call = application.line();
    assert_eq!(call["event"], "method");
    let respond = json!({ "$id": 3, "$respond": { "call": call["call"], "status": 200 } });
    assert_eq!(application.ask(&respond)["ok"], true);
    assert_eq!(answer(&gateway, "2").0, 200);
}

// The socket is its user's alone, several use it at once, and one that asks for no events gets none.
#[test]
fn several_applications_share_the_socket() {
    let gateway = Gateway::new();
    let mut agent = connected(&gateway);
    let mode = std::fs::metadata(gateway.path("state/press-7.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut applications: Vec<_> = (0..3).map(|_| Application::connect(&gateway)).collect();
    for (number, application) in applications.iter_mut().enumerate() {
        writeln!(application.stream, "{{\"from\":{number}}}").unwrap();
        gateway.await_telemetry();
    }
    let patch = json!({ "rate": 5 }).as_object().unwrap().clone();
    gateway.emulator.with_cloud(|cloud, now| cloud.update_desired(ID, patch, now)).unwrap();
    agent.event("desired");
    let status = applications[0].ask(&json!({ "$id": 1, "$status": null }));
    assert_eq!(status["value"]["deviceId"], ID, "its result, and not the event before it");
}

// Commands use the agent's connection, and end as it says.
#[test]
fn commands_go_through_the_agent() {
    let gateway = Gateway::new();
    let agent = connected(&gateway);
    let (code, sent) = gateway.json(&["telemetry", "send", "{\"x\":1}", "--property", "a=b"]);
    assert_eq!((code, &sent["result"]["acknowledged"]), (0, &json!(1)), "{sent}");
    let (properties, payload) = gateway.await_telemetry();
    assert_eq!(payload, b"{\"x\":1}");
    assert!(properties.contains(&("a".into(), "b".into())));
    assert!(properties.contains(&("$.ct".into(), "application/json".into())), "{properties:?}");
    assert_eq!(gateway.json(&["twin", "patch", "{\"a\":1}"]).0, 0);
    assert_eq!(gateway.json(&["twin", "get"]).1["result"]["reported"], json!({ "a": 1 }));
    assert_eq!(gateway.json(&["provision"]).1["result"]["nothingToDo"], true);
    let large = json!({ "a": "x".repeat(40_000) }).to_string();
    let (code, refused) = gateway.json(&["twin", "patch", &large]);
    assert_eq!(code, 5, "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("the hub takes"), "{refused}");
    agent.signal("TERM");
    assert_eq!(agent.end().1, Some(0));
}
