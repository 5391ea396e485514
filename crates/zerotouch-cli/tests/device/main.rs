//! The device's commands as a gateway runs them: the binary, against an emulator in this process.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod agent;
mod applications;
mod commands;
mod doctor;
mod exit_codes;
mod settings;
mod systemd;

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::{CloudEvent, Fixture};

/// Longer than anything here takes, so that a test fails rather than hangs.
const LIMIT: Duration = Duration::from_secs(60);
const ID: &str = "press-7";

/// A gateway's files, and the cloud it belongs to.
struct Gateway {
    emulator: Emulator,
    directory: TempDir,
}

impl Gateway {
    fn new() -> Self {
        Self::at(Emulator::builder().start().unwrap())
    }

    fn at(emulator: Emulator) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let gateway = Self { emulator, directory };
        gateway.emulator.write_ca_certificate(&gateway.path("ca.pem")).unwrap();
        let key = gateway.emulator.group_key(Fixture::DEFAULT_GROUP).unwrap();
        std::fs::write(gateway.path("group.key"), key.to_base64().as_bytes()).unwrap();
        gateway.write_settings("");
        gateway
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The settings of a device of the default group, and more.
    fn write_settings(&self, more: &str) {
        let path = |name| self.path(name).display().to_string();
        let settings = format!(
            "id-scope = {:?}\nregistration-id = {ID:?}\nsymmetric-key = \"file:{}\"\ncompute-key = true\n\
             provisioning-host = \"localhost\"\nport = {}\nca-file = {:?}\nstate-dir = {:?}\n{more}",
            self.emulator.id_scope(),
            path("group.key"),
            self.emulator.port(),
            path("ca.pem"),
            path("state"),
        );
        std::fs::write(self.path("zerotouch.toml"), settings).unwrap();
    }

    /// A command without its settings.
    fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zerotouch"));
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.args(["--config", "zerotouch.toml"]);
        command
    }

    /// Runs a command to its end: its exit code, and the document it has written.
    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.command(arguments).args(["-o", "json"]).output().unwrap();
        let document = serde_json::from_slice(&output.stdout);
        let document = document.unwrap_or_else(|_| panic!("{}", words(&output)));
        (output.status.code().unwrap(), document)
    }

    fn provision(&self) {
        let (code, document) = self.json(&["provision"]);
        assert_eq!(code, 0, "{document}");
    }

    fn agent(&self, arguments: &[&str]) -> Agent {
        Agent::start(self.command(&[&["run"], arguments].concat()))
    }

    /// Waits for something to happen in the cloud.
    fn await_event<T>(&self, what: impl Fn(CloudEvent) -> Option<T>) -> T {
        loop {
            let event = self.emulator.next_event(LIMIT).expect("it happens in time");
            if let Some(found) = what(event) {
                return found;
            }
        }
    }

    fn await_telemetry(&self) -> (Vec<(String, String)>, Vec<u8>) {
        self.await_event(|event| match event {
            CloudEvent::Telemetry { properties, payload, .. } => Some((properties, payload)),
            _ => None,
        })
    }
}

fn words(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// An agent that runs, and the ends of its pipes.
struct Agent {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Agent {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { input: child.stdin.take(), child, lines }
    }

    fn write(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line that is meant; those before it are passed over.
    fn read(&mut self, meant: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.lines.next().expect("the agent goes on").unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            if meant(&line) {
                return line;
            }
        }
    }

    fn event(&mut self, name: &str) -> Value {
        self.read(|line| line["event"] == name)
    }

    fn result(&mut self, id: u64) -> Value {
        self.read(|line| line["result"] == id)
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Reads to its end: the last line, and the exit code.
    fn end(mut self) -> (Option<Value>, Option<i32>) {
        let last =
            self.lines.by_ref().last().map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        (last, self.child.wait().unwrap().code())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
