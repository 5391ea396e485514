//! `zerotouch emulator` as a script runs it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

fn plain_broker(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zerotouch"));
    command.args(["emulator", "--plain-broker"]).args(arguments).stdin(Stdio::null());
    command
}

fn failed(arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = plain_broker(arguments).output().unwrap();
    assert_eq!(stdout, b"");
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

// One line when it can be dialled, one for each event, an end when it is told to.
#[test]
fn a_script_reads_lines_and_sends_a_signal() {
    let mut child = plain_broker(&["--port", "0", "-o", "json", "--refuse-subscribe", "no/#"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let ready = line();
    let port = u16::try_from(ready["port"].as_u64().unwrap()).unwrap();
    let expected = json!({ "ready": true, "host": "127.0.0.1", "port": port, "plainBroker": true });
    assert_eq!(ready, expected);

    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let connect = b"\x10\x0D\0\x04MQTT\x04\x02\0\x3C\0\x01c";
    let subscribe = b"\x82\x09\0\x01\0\x04no/#\x02";
    socket.write_all(&[&connect[..], subscribe].concat()).unwrap();
    let mut answers = [0; 9];
    socket.read_exact(&mut answers).unwrap();
    assert_eq!(answers, *b"\x20\x02\0\0\x90\x03\0\x01\x80");
    assert_eq!(
        line(),
        json!({ "event": "connected", "connection": 1, "clientId": "c", "sessionPresent": false })
    );

    let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert!(child.wait().unwrap().success());
    assert_eq!(socket.read(&mut [0]).unwrap_or(0), 0, "its connections end with it");
}

// What cannot be meant is said before anything runs.
#[test]
fn a_faulty_command_line_is_refused() {
    for (arguments, words) in [
        (&["--seed", "1"][..], "'--seed <SEED>'"),
        (&["--data-dir", "x"], "'--data-dir <DIR>'"),
        (&["--refuse-subscribe", "a/#/b"], "invalid value 'a/#/b'"),
    ] {
        let (code, told) = failed(arguments);
        assert_eq!(code, 2, "{told}");
        assert!(told.contains(words), "{told}");
    }
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = occupied.local_addr().unwrap().port().to_string();
    let (code, told) = failed(&["--port", &port]);
    assert_eq!(code, 5, "{told}");
    assert!(told.contains("in use by another program"), "{told}");
}

/// A running emulator of the cloud, with its line when ready.
struct Cloud {
    child: Child,
    ready: Value,
    runtime_dir: TempDir,
}

impl Cloud {
    fn start(arguments: &[&str]) -> Self {
        let runtime_dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_zerotouch"))
            .args(["emulator", "--port", "0", "-o", "json"])
            .args(arguments)
            .env("XDG_RUNTIME_DIR", runtime_dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { child, ready: serde_json::from_str(&line).unwrap(), runtime_dir }
    }

    fn port(&self) -> String {
        self.ready["port"].to_string()
    }

    /// Runs a command for it; yields its exit code and what it wrote.
    fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_zerotouch"))
            .arg("emulator")
            .args(arguments)
            .args(["--port", &self.port()])
            .env("XDG_RUNTIME_DIR", self.runtime_dir.path())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// The same where one JSON document is expected.
    fn json(&self, arguments: &[&str]) -> Value {
        let (code, out, told) = self.command(arguments);
        assert_eq!(code, 0, "{told}");
        serde_json::from_str(&out).unwrap()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

// Thirty days in a moment, from another terminal.
#[test]
fn a_running_emulators_clock_is_set() {
    let cloud = Cloud::start(&[]);
    let (code, before, _) = cloud.command(&["clock"]);
    assert!(code == 0 && before.starts_with("It is 20"), "{before}");
    cloud.command(&["clock", "2031-05-01T00:00:00Z"]);
    cloud.command(&["clock", "+30d"]);
    let time = cloud.json(&["clock", "-o", "json"]);
    assert!(time["time"].as_str().unwrap().starts_with("2031-05-31T00:0"), "{time}");
    let (code, _, told) = cloud.command(&["clock", "soon"]);
    assert!(code == 2 && told.contains("not a time"), "{told}");
}

#[test]
fn things_go_wrong_on_demand() {
    let cloud = Cloud::start(&[]);
    let add = |arguments: &[&str]| cloud.command(&[&["fault", "add"], arguments].concat());
    let (code, out, _) = add(&["status", "stuck", "--device", "pump-*", "--count", "3"]);
    assert_eq!((code, &*out), (0, "Fault 1 is in force.\n"));
    add(&["register", r#"{"error":{"status":429,"retryAfter":5}}"#]);
    let faults = cloud.json(&["fault", "list", "-o", "json"]);
    assert_eq!(faults["value"][0]["device"], "pump-*");
    assert_eq!(faults["value"][1]["fault"], json!({ "error": { "status": 429, "retryAfter": 5 } }));
    for (arguments, words) in [
        (["register", "stuck"], "cannot fail that way"),
        (["status", "stuk"], "unknown variant `stuk`"),
    ] {
        let (code, _, told) = add(&arguments);
        assert!(code == 2 && told.contains(words), "{told}");
    }
    assert_eq!(cloud.command(&["fault", "remove", "1"]).0, 0);
    assert_eq!(cloud.command(&["fault", "remove", "1"]).0, 3);
    cloud.command(&["fault", "clear"]);
    assert_eq!(cloud.command(&["fault", "list"]).1, "No faults are in force.\n");
}

// What has no command of its own is a request away; who runs no emulator is told so.
#[test]
fn any_request_can_be_made() {
    let cloud = Cloud::start(&[]);
    assert_eq!(cloud.json(&["call", "GET", "/devices"]), json!([]));
    let made = cloud.json(&["call", "PUT", "/devices/d1", r#"{"deviceId":"d1"}"#]);
    assert_eq!(made["deviceId"], "d1");
    let (code, _, told) = cloud.command(&["call", "GET", "/devices/d2"]);
    assert!(code == 3 && told.contains("d2 is not registered"), "{told}");

    let runtime_dir = cloud.runtime_dir.path().join("zerotouch");
    let port = cloud.port();
    let file = runtime_dir.join(format!("emulator-{port}.json"));
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // It holds keys.
    assert_eq!((mode(&runtime_dir), mode(&file)), (0o700, 0o600));
    let command = |port: &str| {
        Command::new(env!("CARGO_BIN_EXE_zerotouch"))
            .args(["emulator", "clock", "--port", port])
            .env("XDG_RUNTIME_DIR", cloud.runtime_dir.path())
            .output()
            .unwrap()
    };
    // One that has left a file behind, and one that never was.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let gone = std::fs::read_to_string(&file).unwrap().replace(&port, &free);
    std::fs::write(runtime_dir.join(format!("emulator-{free}.json")), gone).unwrap();
    for port in [&*free, "1"] {
        let Output { status, stderr, .. } = command(port);
        let told = String::from_utf8(stderr).unwrap();
        assert!(status.code() == Some(5) && told.contains("no emulator of yours"), "{told}");
    }
}

// A fixture in a file; the authority made for its X.509 group is one that `zerotouch pki` issues with.
#[test]
fn a_fixture_is_read_and_its_group_can_be_issued_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let fixture = "hubs = ['localhost', '127.0.0.2']\n\
                   [[enrollmentGroups]]\nid = 'presses'\nattestation = { x509 = {} }\n";
    std::fs::write(path("fixture.toml"), fixture).unwrap();
    let cloud = Cloud::start(&["--config", &path("fixture.toml")]);
    assert_eq!(cloud.ready["hubs"], json!(["localhost", "127.0.0.2"]));
    // The second hub is there, at the same port.
    TcpStream::connect(("127.0.0.2", cloud.port().parse().unwrap())).unwrap();
    let group = &cloud.ready["enrollmentGroups"][0];
    assert_eq!((&group["id"], &group["attestation"]), (&json!("presses"), &json!("x509")));
    let issuer = group["caCertFile"].as_str().unwrap().strip_suffix(".cert.pem").unwrap();
    let tool = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_zerotouch")).args(arguments).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let device = path("press-7");
    tool(&["pki", "device", "--registration-id", "press-7", "--issuer", issuer, "--out", &device]);
    let (cert, key) = (format!("{device}.cert.pem"), format!("{device}.key.pem"));
    let anchor = group["caCertFile"].as_str().unwrap();
    tool(&[
        "cert",
        "verify",
        "--certificate-file-path",
        &cert,
        "--key-file-path",
        &key,
        "--registration-id",
        "press-7",
        "--anchor",
        anchor,
    ]);
}

// The book's fixture is one.
#[test]
fn the_fixture_of_the_book_is_read() {
    let book = include_str!("../../../docs/src/emulator.md");
    let (_, fixture) = book.split_once("```toml\n").unwrap();
    let (fixture, _) = fixture.split_once("```").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), fixture).unwrap();
    let cloud = Cloud::start(&["--config", file.path().to_str().unwrap()]);
    assert_eq!(cloud.ready["idScope"], "0neFACTORY");
    let faults = cloud.json(&["fault", "list", "-o", "json"]);
    assert_eq!(faults["value"][0]["operation"], "register");
}
