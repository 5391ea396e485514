//! Telemetry that waits on disk while the hub is away. Shared by the tests of the drivers.

use std::io::{BufRead, BufReader, Lines};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use zerotouch_credentials::SymmetricKey;
use zerotouch_device::{Attestation, Config};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::{CloudEvent, DpsSettings, Fixture};
use zerotouch_store::{FileQueue, RecordQueue, StoreError, Waiting};

pub(crate) const ID: &str = "pump-17";
const PATIENCE: Duration = Duration::from_secs(30);
/// Names the state directory to the other process.
const STATE: &str = "ZEROTOUCH_TEST_STATE";

/// An emulator without the real service's pauses.
pub(crate) fn emulator(seed: u64) -> Emulator {
    let dps = DpsSettings { retry_after: Duration::ZERO, ..DpsSettings::default() };
    let fixture = Fixture { dps, ..Fixture::default() };
    Emulator::builder().fixture(fixture).seed(seed).start().unwrap()
}

/// A device of that cloud.
pub(crate) fn config(emulator: &Emulator) -> Config {
    let key = emulator.group_key("default-group").unwrap().derive(ID);
    let mut config = Config::new(
        IdScope::new(&emulator.id_scope()).unwrap(),
        RegistrationId::new(ID).unwrap(),
        Attestation::SymmetricKey(key),
    );
    config.provisioning_host = "localhost".into();
    config.provisioning_port = emulator.port();
    config.hub.port = emulator.port();
    config.hub.hosts.allow("localhost");
    config.queue.max_messages = 100_000;
    config.queue.max_bytes = usize::MAX;
    config
}

/// A device whose cloud is not there.
pub(crate) fn away() -> Config {
    let key = SymmetricKey::from_base64("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    let mut config = Config::new(
        IdScope::new("0ne00000A0A").unwrap(),
        RegistrationId::new(ID).unwrap(),
        Attestation::SymmetricKey(key),
    );
    config.provisioning_host = "127.0.0.1".into();
    config.provisioning_port =
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    config.queue.max_messages = 100_000;
    config.queue.max_bytes = usize::MAX;
    config
}

/// The next `count` messages that the hub gets.
pub(crate) fn arrived(emulator: &Emulator, count: usize) -> Vec<String> {
    let events = std::iter::from_fn(|| emulator.next_event(PATIENCE));
    let payload = |event| match event {
        CloudEvent::Telemetry { payload, .. } => Some(String::from_utf8(payload).unwrap()),
        _ => None,
    };
    events.filter_map(payload).take(count).collect()
}

/// How many messages wait on disk.
pub(crate) fn waiting(state: &Path) -> usize {
    FileQueue::open(state, ID).unwrap().load().unwrap().records.len()
}

/// This test program once more, running an ignored test that tells what was taken, until it is killed.
pub(crate) struct Victim {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Victim {
    pub(crate) fn start(test: &str, state: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--ignored", "--nocapture", "--quiet"]).env(STATE, state);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Kills it once it has told of so many; says of how many it had told by then.
    pub(crate) fn kill_after(mut self, messages: usize) -> usize {
        let told = |line: &String| line.starts_with("taken");
        let mut taken = 0;
        while taken < messages {
            taken += usize::from(told(&self.lines.next().expect("it ended").unwrap()));
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        taken + self.lines.map_while(Result::ok).filter(told).count()
    }
}

/// For the victim.
pub(crate) fn state() -> PathBuf {
    std::env::var_os(STATE).unwrap().into()
}

/// For the victim.
pub(crate) fn tell() {
    // A line of its own, whatever the test harness has printed before.
    println!("\ntaken");
}

/// A queue on a disk that is full the first time.
#[derive(Debug)]
pub(crate) struct FullAtFirst {
    pub(crate) queue: FileQueue,
    pub(crate) is_full: bool,
}

impl RecordQueue for FullAtFirst {
    fn load(&mut self) -> Result<Waiting, StoreError> {
        self.queue.load()
    }

    fn append(&mut self, records: &[Vec<u8>]) -> Result<Range<u64>, StoreError> {
        if std::mem::take(&mut self.is_full) {
            return Err(StoreError::Other("the disk is full".into()));
        }
        self.queue.append(records)
    }

    fn finish(&mut self, numbers: &[u64]) -> Result<(), StoreError> {
        self.queue.finish(numbers)
    }
}
