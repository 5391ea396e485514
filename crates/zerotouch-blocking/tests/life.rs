//! The canonical life over real sockets, driven by blocking std: from a group's key to telemetry over
//! an issued certificate, a renewal, and a second start that needs no provisioning. The emulator
//! confirms each step from its side.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::time::Duration;

use zerotouch_blocking::{Device, RenewError};
use zerotouch_device::{Attestation, Config, Credential, Event, HubCredential};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::{CloudEvent, Fixture};
use zerotouch_hub::Telemetry;
use zerotouch_store::FileStore;
use zerotouch_tls::Roots;

const ID: &str = "pump-17";

fn config(emulator: &Emulator) -> Config {
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
    config
}

fn start(emulator: &Emulator, state: &Path) -> (Device, Vec<Event>) {
    start_as(config(emulator), emulator, state)
}

fn start_as(config: Config, emulator: &Emulator, state: &Path) -> (Device, Vec<Event>) {
    let store = FileStore::open(state, ID).unwrap();
    let roots = Roots::Pem(emulator.ca_pem().into());
    let (device, events) = Device::builder(config).roots(roots).spawn(store).unwrap();
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some(Event::Connected { .. })) {
        seen.push(
            events.recv_timeout(Duration::from_secs(30)).expect("the device never connected"),
        );
    }
    (device, seen)
}

#[test]
fn a_device_provisions_sends_renews_and_remembers() {
    let emulator = Emulator::builder().seed(1).start().unwrap();
    let state = tempfile::tempdir().unwrap();

    let (device, seen) = start(&emulator, state.path());
    assert!(seen.iter().any(|event| matches!(event, Event::Assigned { assignment, .. } if assignment.assigned_hub == "localhost")));
    assert!(matches!(seen.last(), Some(Event::Connected { credential: Credential::Staged, .. })));
    for n in 0..3 {
        device.send_telemetry(Telemetry::new(format!("{n}"))).unwrap();
    }
    let renewed = device.renew().unwrap();
    assert_eq!(renewed.generation, 2);
    device.send_telemetry(Telemetry::new("after")).unwrap();
    device.close();
    device.send_telemetry(Telemetry::new("late")).unwrap_err();

    let (device, seen) = start(&emulator, state.path());
    assert!(
        matches!(&seen[..], [Event::StateChanged(_), Event::Connected { credential: Credential::Active, thumbprint, .. }] if *thumbprint == Some(renewed.chain.leaf().thumbprint())),
        "a good identity needs no provisioning: {seen:?}"
    );
    device.close();

    let cloud: Vec<_> = std::iter::from_fn(|| emulator.next_event(Duration::ZERO)).collect();
    let telemetry: Vec<_> = cloud
        .iter()
        .filter_map(|event| match event {
            CloudEvent::Telemetry { payload, .. } => Some(String::from_utf8_lossy(payload)),
            _ => None,
        })
        .collect();
    assert_eq!(telemetry, ["0", "1", "2", "after"]);
    let count =
        |wanted: fn(&CloudEvent) -> bool| cloud.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, CloudEvent::DeviceRegistered { .. })), 1);
    assert_eq!(count(|event| matches!(event, CloudEvent::CertificateIssued { .. })), 2);
    assert_eq!(count(|event| matches!(event, CloudEvent::HubConnected { .. })), 3);
}

// A device that is certified nowhere goes to its hub with tokens, over the same sockets, one after the
// other.
#[test]
fn a_device_without_a_certificate_works_with_tokens() {
    let mut fixture = Fixture::default();
    fixture.enrollment_groups[0].credential_policy = None;
    let emulator = Emulator::builder().fixture(fixture).seed(1).start().unwrap();
    let state = tempfile::tempdir().unwrap();
    let mut config = config(&emulator);
    config.hub.credential = HubCredential::Bootstrap;
    config.sas_lifetime = Duration::from_secs(2);

    let (device, seen) = start_as(config, &emulator, state.path());
    assert!(matches!(
        seen.last(),
        Some(Event::Connected { credential: Credential::Bootstrap, thumbprint: None, .. })
    ));
    let refused = device.renew().unwrap_err();
    assert!(matches!(refused, RenewError::Rejected(zerotouch_device::RenewError::Bootstrap)));
    let connected = |event: &CloudEvent| matches!(event, CloudEvent::HubConnected { .. });
    let next = || std::iter::from_fn(|| emulator.next_event(Duration::from_secs(30)));
    assert_eq!(next().filter(connected).take(2).count(), 2);
    device.send_telemetry(Telemetry::new("on")).unwrap();
    device.close();
    let arrived = |event: CloudEvent| match event {
        CloudEvent::Telemetry { payload, .. } => Some(payload),
        _ => None,
    };
    assert_eq!(next().find_map(arrived).unwrap(), b"on");
}
