//! What the agent takes of a gateway's memory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::process::{Result, root};
use crate::server::Server;

/// How long it stays connected and idle before it is measured.
const IDLE: Duration = Duration::from_secs(5);

/// Resident memory of an agent that is connected and idle, in bytes, against the emulator of `tool`.
pub(crate) fn resident(agent: &Path, tool: &Path) -> Result<u64> {
    let told = |error: std::io::Error| error.to_string();
    let directory = root().join("target/memory");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).map_err(told)?;
    let (emulator, ready) = Server::emulator(tool, ["--quiet".as_ref()])?;
    let groups = ready["enrollmentGroups"].as_array().ok_or("no groups")?;
    let key = groups.iter().find_map(|group| group["primaryKey"].as_str()).ok_or("no key")?;
    fs::write(directory.join("key"), key).map_err(told)?;
    let child = Command::new(agent)
        .args(["run", "--provisioning-host", "localhost", "--registration-id", "gateway"])
        .args(["--id-scope", ready["idScope"].as_str().unwrap_or_default()])
        .args(["--port", &emulator.port.to_string(), "--symmetric-key", "file:key"])
        .args(["--compute-key", "--state-dir", "state", "--ca-file"])
        .arg(&emulator.ca_file)
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(told)?;
    let mut agent = Server { child, port: 0, ca_file: emulator.ca_file.clone() };
    let output = agent.child.stdout.take().ok_or("no output")?;
    let mut lines = BufReader::new(output).lines().map_while(std::result::Result::ok);
    lines.find(|line| line.contains("\"event\":\"activated\"")).ok_or("it did not connect")?;
    sleep(IDLE);
    agent.resident().map(|kib| u64::from(kib) * 1024)
}
