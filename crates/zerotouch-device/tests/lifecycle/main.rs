//! The lifecycle engine against the emulated cloud, in virtual time: each test holds back or changes
//! one thing that the canonical life takes for granted. Some bear the names of the collected hostile
//! sequences.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod bench;
mod bootstrap;
mod configuration;
mod failures;
mod hardware;
mod renewal;
mod steady;
mod telemetry;

use std::num::NonZeroU32;
use std::time::Duration;

use bench::{Bench, fixture};
use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use zerotouch_credentials::{ChainError, KeyAlgorithm, PrivateKey};
use zerotouch_device::{
    Credential, Event, Failure, FailureClass, HubHosts, RenewError, RenewalFailure, Scope, State,
    TransportFailure, TransportFailureKind as Kind,
};
use zerotouch_emulator::cloud::{CloudEvent, CredentialPolicy, Fixture};
use zerotouch_hub::Telemetry;
use zerotouch_store::{Change, Identity, Pending};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The last failed attempt: where, with what, what it means.
fn last_failure(bench: &Bench) -> (Scope, Credential, FailureClass, Failure, Option<Duration>) {
    let found = bench.events.iter().rev().find_map(|event| match event {
        Event::AttemptFailed { scope, credential, failure, class, retry_in } => {
            Some((*scope, *credential, *class, failure.clone(), *retry_in))
        }
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no attempt failed: {:#?}", bench.events))
}

fn count(bench: &Bench, wanted: impl Fn(&Event) -> bool) -> usize {
    bench.events.iter().filter(|event| wanted(event)).count()
}

// The order of things: the key is durable before anything leaves, chain and assignment before the hub
// is dialled, and the generation is active only after the hub has said yes.
#[test]
fn each_step_waits_for_the_store() {
    let bench = Bench::connected();
    assert_eq!(bench.changes, ["begin", "stage", "activate"]);
    let hosts: Vec<_> =
        bench.dials.iter().map(|dial| (dial.host.as_str(), dial.identity.is_some())).collect();
    assert_eq!(hosts, [("global.azure-devices-provisioning.net", false), ("localhost", true)]);
    let order: Vec<_> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            Event::KeyCreated { .. } => Some("key"),
            Event::ProvisioningConnected { .. } => Some("dps"),
            Event::Assigned { .. } => Some("assigned"),
            Event::CertificateIssued(_) => Some("issued"),
            Event::Connected { .. } => Some("connected"),
            Event::Activated { .. } => Some("activated"),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["key", "dps", "assigned", "issued", "connected", "activated"]);
}

#[test]
fn without_a_stored_key_nothing_leaves() {
    let mut bench = Bench::new();
    bench.store_fails = Box::new(|change| matches!(change, Change::Begin { .. }));
    bench.start();
    assert!(bench.dials.is_empty());
    let (scope, _, class, failure, retry_in) = last_failure(&bench);
    assert_eq!((scope, class), (Scope::Dps, FailureClass::Retryable));
    assert!(matches!(failure, Failure::Store(_)), "{failure}");
    assert!(retry_in.unwrap() <= Duration::from_secs(1));
    bench.store_fails = Box::new(|_| false);
    bench.run_until(|bench| bench.device.state() == State::Connected);
}

// Row 21: nothing is half stored, and the same key is used for the next try (C6).
#[test]
fn row_21_a_chain_that_cannot_be_stored_fails_the_registration() {
    let mut bench = Bench::new();
    let mut failures = 2;
    bench.store_fails = Box::new(move |change| {
        let fails = matches!(change, Change::Stage { .. }) && failures > 0;
        failures -= i32::from(fails);
        fails
    });
    bench.start();
    bench.run_until(|bench| bench.device.state() == State::Connected);
    assert_eq!(bench.changes, ["begin", "stage", "activate"]);
    assert_eq!(
        count(&bench, |event| matches!(
            event,
            Event::AttemptFailed { failure: Failure::Store(_), .. }
        )),
        2
    );
}

// A disk that is full for an hour costs the provisioning service what any failure costs it: that it has
// answered is no success, and the ladder goes on.
#[test]
fn row_21_a_full_disk_is_waited_for_on_the_ladder() {
    let mut bench = Bench::new();
    bench.store_fails = Box::new(|change| matches!(change, Change::Stage { .. }));
    bench.start();
    bench.wait(Duration::from_secs(3600));
    let assigned = count(&bench, |event| matches!(event, Event::Assigned { .. }));
    assert!((60..180).contains(&assigned), "{assigned}");
}

// The hub has accepted the certificate; a store that does not take note of it is told again next time.
#[test]
fn an_activation_that_cannot_be_stored_is_made_up_for() {
    let mut bench = Bench::new();
    bench.store_fails = Box::new(|change| matches!(change, Change::Activate));
    bench.start();
    bench.run_until(|bench| bench.device.state() == State::Connected);
    assert!(
        bench.device.send_telemetry(Telemetry::new("x"), bench.now).is_ok(),
        "the session lives"
    );
    bench.pump();
    let mut bench = bench.restart(Duration::from_secs(60));
    bench.start();
    bench.run_until(|bench| bench.generation() == 1);
    assert_eq!(bench.changes, ["activate"]);
}

// The assignment decides where credentials go.
#[test]
fn a_hub_off_the_list_is_never_dialled() {
    let mut bench = Bench::with(fixture(), Identity::default(), |config| {
        config.hub.hosts = HubHosts::default();
    });
    bench.start();
    bench.run_until(|bench| matches!(bench.device.state(), State::Waiting { .. }));
    let (_, _, class, failure, _) = last_failure(&bench);
    assert_eq!(class, FailureClass::Terminal);
    assert!(matches!(failure, Failure::HubNotAllowed { host } if host == "localhost"));
    assert_eq!((bench.dials.len(), &bench.changes[..]), (1, &["begin"][..]));
}

// Row 20: never to the hub with the bootstrap credential.
#[test]
fn assigned_without_chain() {
    let mut fixture = fixture();
    fixture.enrollment_groups[0].credential_policy = None;
    let mut bench = Bench::with(fixture, Identity::default(), |_| {});
    bench.start();
    bench.run_until(|bench| matches!(bench.device.state(), State::Waiting { .. }));
    assert!(last_failure(&bench).3.to_string().contains("no certificate was issued"));
    assert_eq!(bench.dials.len(), 1);
}

// Rows 10 and 41: issued by an authority that the hub was never told of. The certificate is discarded
// and the device provisions again, slowly; once somebody has mended it, it comes back by itself.
#[test]
fn row_41_a_first_certificate_that_the_hub_refuses_is_discarded() {
    let policy =
        CredentialPolicy { synchronized: false, ..CredentialPolicy::new(Fixture::DEFAULT_POLICY) };
    let fixture = Fixture { credential_policies: vec![policy], ..fixture() };
    let mut bench = Bench::with(fixture, Identity::default(), |_| {});
    bench.start();
    bench.run_until(|bench| bench.changes.contains(&"discard staged"));
    let (scope, credential, class, _, retry_in) = last_failure(&bench);
    assert_eq!(
        (scope, credential, class),
        (Scope::Hub, Credential::Staged, FailureClass::IdentityTerminal)
    );
    assert!(retry_in.unwrap() <= Duration::from_secs(300));
    assert!(bench.device.identity().staged.is_none());
    bench.cloud.synchronize();
    bench.run_until(|bench| bench.device.state() == State::Connected && bench.generation() > 0);
}

// Row 41: a renewed certificate that is refused gives way to the one before, at once.
#[test]
fn r5_row_41_a_refused_renewal_rolls_back_at_once() {
    let mut bench = Bench::connected();
    let first = bench.device.identity().active.as_ref().unwrap().chain.leaf().thumbprint();
    bench.dial_fails = Box::new(move |dial| {
        let leaf = dial.identity.as_ref()?.chain.leaf().thumbprint();
        (leaf != first).then_some(Kind::ClientCertificateRefused)
    });
    bench.device.renew(bench.now).unwrap();
    bench.pump();
    let before = bench.now.monotonic;
    bench.run_until(|bench| count(bench, |event| matches!(event, Event::RolledBack { .. })) == 1);
    assert!(bench.now.monotonic - before < Duration::from_secs(2), "only the hub's own delay");
    bench.run_until(|bench| bench.device.state() == State::Connected);
    assert_eq!(bench.generation(), 1);
    assert_eq!(bench.changes, ["begin", "stage", "activate", "begin", "stage", "discard staged"]);
}

// R6: a year in a box. No attempt with the expired certificate, no error: straight to DPS.
#[test]
fn r6_row_08_an_expired_identity_provisions_anew() {
    let mut bench = Bench::connected().restart(31 * DAY);
    bench.start();
    assert_eq!(bench.dials.last().unwrap().host, "global.azure-devices-provisioning.net");
    bench.run_until(|bench| bench.device.state() == State::Connected && bench.generation() == 2);
    assert_eq!(bench.dials.len(), 2);
}

#[test]
fn a_good_identity_goes_straight_to_its_hub() {
    let mut bench = Bench::connected().restart(DAY);
    bench.start();
    bench.run_until(|bench| bench.device.state() == State::Connected);
    assert_eq!((bench.dials.len(), bench.changes.len()), (1, 0));
    assert!(matches!(&bench.events[..], [Event::Connected { credential: Credential::Active, .. }]));
}

// A token needs the time; a device without a clock says so and waits for one.
#[test]
fn an_unset_clock_is_said_and_waited_for() {
    let mut bench = Bench::new();
    let wall = bench.now.wall.take();
    bench.start();
    assert!(matches!(last_failure(&bench).3, Failure::ClockUnset));
    bench.now.wall = wall;
    bench.run_until(|bench| bench.device.state() == State::Connected);
}

// Row 1, and the ladder: attempts spread and slow down, and never stop.
#[test]
fn row_01_an_unreachable_service_is_tried_for_ever_and_ever_slower() {
    let mut bench = Bench::new();
    bench.dial_fails = Box::new(|_| Some(Kind::Unreachable));
    bench.start();
    bench.run_until(|bench| bench.dials.len() == 40);
    let mut top = Duration::from_secs(1);
    for event in &bench.events {
        if let Event::AttemptFailed { retry_in, class, .. } = event {
            assert_eq!(*class, FailureClass::Retryable);
            assert!(retry_in.unwrap() <= top, "{retry_in:?} above {top:?}");
            top = (top * 2).min(Duration::from_secs(60));
        }
    }
    bench.dial_fails = Box::new(|_| None);
    bench.run_until(|bench| bench.device.state() == State::Connected);
}

#[test]
fn a_limit_of_attempts_ends_the_device() {
    let mut bench = Bench::with(fixture(), Identity::default(), |config| {
        config.retry.max_attempts = Some(NonZeroU32::new(2).unwrap());
    });
    bench.dial_fails = Box::new(|_| Some(Kind::ServerUntrusted));
    bench.start();
    bench.run_until(|bench| bench.device.state() == State::Stopped);
    assert_eq!(bench.dials.len(), 2);
    assert_eq!(last_failure(&bench).4, None, "no further attempt is promised");
    assert!(matches!(bench.events.last(), Some(Event::Stopped)));
    assert_eq!(bench.device.poll_timeout(), None);
}

// C9 and recorded scenarios 019–020: the link drops between 202 and 200.
#[test]
fn renewal_response_after_reconnect() {
    let mut bench = Bench::connected();
    bench.device.renew(bench.now).unwrap();
    bench.pump();
    assert_eq!(count(&bench, |event| matches!(event, Event::RenewalAccepted { .. })), 1);
    bench.cut();
    bench.run_until(|bench| bench.generation() == 2 && bench.device.state() == State::Connected);
    let ids = bench.events.iter().filter_map(|event| match event {
        Event::RenewalRequested { request_id } => Some(request_id.clone()),
        _ => None,
    });
    let ids: Vec<_> = ids.collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "the same request under the same id");
    let issued = std::iter::from_fn(|| bench.cloud.poll_event())
        .filter(|event| matches!(event, CloudEvent::CertificateIssued { .. }));
    assert_eq!(issued.count(), 2, "the answer that the hub held was not heard");
    let changes = &bench.changes[..];
    assert_eq!(changes, ["begin", "stage", "activate", "begin", "stage", "activate"]);
}

// The same across the end of the process: the key and the id were stored first.
#[test]
fn c9_r3_a_renewal_survives_a_restart() {
    let mut bench = Bench::connected();
    bench.device.renew(bench.now).unwrap();
    bench.pump();
    let mut bench = bench.restart(Duration::from_secs(5));
    bench.start();
    bench.run_until(|bench| bench.generation() == 2 && bench.device.state() == State::Connected);
    assert_eq!(bench.changes, ["stage", "activate"], "no new key was made");
}

// X1: the answer to a request of another key. It is refused, the certificate in use stays, and the key
// that the answer was not for is given up.
#[test]
fn chain_key_mismatch() {
    let mut bench = Bench::connected();
    bench.device.renew(bench.now).unwrap();
    bench.pump();
    let mut bench = bench.restart_as(Duration::from_secs(5), |identity| {
        let pending = identity.pending.take().expect("a key that waits");
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP384, &mut ChaCha20Rng::seed_from_u64(9));
        identity.pending = Some(Pending { key: key.unwrap().into(), ..pending });
    });
    bench.start();
    bench
        .run_until(|bench| count(bench, |event| matches!(event, Event::RenewalFailed { .. })) == 1);
    assert!(bench.events.iter().any(|event| matches!(
        event,
        Event::RenewalFailed {
            failure: RenewalFailure::Device(Failure::Chain(ChainError::KeyMismatch)),
            ..
        }
    )));
    assert_eq!((bench.generation(), &bench.changes[..]), (1, &["discard pending"][..]));
    assert_eq!(bench.device.state(), State::Connected);
}

#[test]
fn c8_one_renewal_at_a_time_and_only_when_connected() {
    let mut bench = Bench::new();
    assert_eq!(bench.device.renew(bench.now), Err(RenewError::NotConnected));
    let mut bench = Bench::connected();
    bench.device.renew(bench.now).unwrap();
    assert_eq!(bench.device.renew(bench.now), Err(RenewError::Busy));
    bench.pump();
    assert_eq!(bench.device.renew(bench.now), Err(RenewError::Busy));
}

// Row 42: whatever it is doing, it ends, once.
#[test]
fn row_42_closing_ends_the_device_in_every_state() {
    type Make = fn() -> Bench;
    let states: [(&str, Make); 5] = [
        ("idle", Bench::new),
        ("provisioning", || {
            let mut bench = Bench::new();
            bench.start();
            assert_eq!(bench.device.state(), State::Provisioning);
            bench
        }),
        ("waiting", || {
            let mut bench = Bench::new();
            bench.dial_fails = Box::new(|_| Some(Kind::Unreachable));
            bench.start();
            assert!(matches!(bench.device.state(), State::Waiting { .. }));
            bench
        }),
        ("connected", Bench::connected),
        ("renewing", || {
            let mut bench = Bench::connected();
            bench.device.renew(bench.now).unwrap();
            bench.pump();
            bench
        }),
    ];
    for (state, make) in states {
        let mut bench = make();
        bench.device.close(bench.now);
        bench.pump();
        bench.device.close(bench.now);
        bench.device.start(bench.now);
        bench.pump();
        assert_eq!(bench.device.state(), State::Stopped, "{state}");
        assert_eq!(count(&bench, |event| matches!(event, Event::Stopped)), 1, "{state}");
        assert_eq!(bench.device.poll_timeout(), None, "{state}");
    }
}

// Row 13 and its like: what belongs to a connection that is gone changes nothing.
#[test]
fn row_13_answers_of_connections_that_are_gone_are_ignored() {
    let mut bench = Bench::connected();
    let gone = bench.connection();
    bench.cut();
    bench.run_until(|bench| bench.device.state() == State::Connected);
    let events = bench.events.len();
    bench.device.handle_bytes(gone, &[0x20, 2, 0, 5], bench.now);
    bench.device.handle_dialled(gone, bench.now);
    bench.device.handle_dial_failed(gone, TransportFailure::closed(), bench.now);
    bench.device.handle_disconnected(gone, TransportFailure::closed(), bench.now);
    bench.device.handle_stored(Ok(()), bench.now);
    bench.pump();
    assert_eq!(bench.device.state(), State::Connected);
    assert_eq!(bench.events.len(), events);
}

// Row 4: deadlines are measured on the clock that does not step.
#[test]
fn clock_step_back() {
    let mut bench = Bench::connected();
    let due = bench.device.poll_timeout();
    bench.now.wall = bench.now.wall.map(|wall| wall - 400 * DAY);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.device.poll_timeout(), due);
    assert_eq!(bench.device.state(), State::Connected);
}
