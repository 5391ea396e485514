//! `zerotouch emulator --plain-broker` as a script runs it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

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
