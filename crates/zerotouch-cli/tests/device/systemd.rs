//! What systemd is told, over the socket that it names.

use super::*;
use std::os::unix::net::UnixDatagram;
use zerotouch_emulator::cloud::{Fault, FaultRule, Operation};

struct Manager(UnixDatagram);

impl Manager {
    fn new(gateway: &Gateway) -> Self {
        let socket = UnixDatagram::bind(gateway.path("notify")).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self(socket)
    }

    /// The datagrams up to the one that is waited for.
    fn until(&self, line: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let mut bytes = [0; 1024];
            let length = self.0.recv(&mut bytes).expect("systemd is told in time");
            let told = String::from_utf8(bytes[..length].to_vec()).unwrap();
            let found = told.lines().any(|told| told == line);
            seen.push(told);
            if found {
                return seen;
            }
        }
    }
}

// Ready means connected, and no earlier: units that wait for the agent wait for its hub. A reload is told
// with its time, the watchdog is fed, the end is told before it comes.
#[test]
fn systemd_is_told_how_it_goes() {
    let gateway = Gateway::new();
    let manager = Manager::new(&gateway);
    let mut command = gateway.command(&["run"]);
    command.env("NOTIFY_SOCKET", gateway.path("notify")).env("WATCHDOG_USEC", "300000");
    let agent = Agent::start(command);
    let seen = manager.until("READY=1");
    assert!(seen.iter().any(|told| told.contains("STATUS=provisioning")), "{seen:?}");
    manager.until("WATCHDOG=1");
    manager.until("WATCHDOG=1");
    agent.signal("HUP");
    let seen = manager.until("RELOADING=1");
    assert!(seen.last().unwrap().contains("MONOTONIC_USEC="), "{seen:?}");
    manager.until("READY=1");
    manager.until("STATUS=connected");
    agent.signal("TERM");
    manager.until("STOPPING=1");
    assert_eq!(agent.end().1, Some(0));
}

// Whoever ends an agent that is just reading its settings again must not have to do it twice.
#[test]
fn an_end_is_not_lost_over_a_reload() {
    let gateway = Gateway::new();
    gateway.provision();
    let manager = Manager::new(&gateway);
    let mut command = gateway.command(&["run"]);
    command.env("NOTIFY_SOCKET", gateway.path("notify"));
    let mut agent = Agent::start(command);
    agent.event("twin");
    // With a message that the hub does not acknowledge, saying goodbye takes its ten seconds.
    let rule = FaultRule::new(Operation::Telemetry, Fault::Silence);
    gateway.emulator.with_cloud(|cloud, _| cloud.add_fault(rule)).unwrap();
    agent.write("1");
    gateway.await_event(|event| matches!(event, CloudEvent::FaultStruck { .. }).then_some(()));
    agent.signal("HUP");
    manager.until("RELOADING=1");
    agent.signal("TERM");
    manager.until("STOPPING=1");
    assert_eq!(agent.end().1, Some(0));
}
