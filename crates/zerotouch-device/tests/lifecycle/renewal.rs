//! Renewal as the device does it by itself: rows R1 to R11 of the project's checklist, as far as they are
//! about the lifecycle.

use std::time::Duration;

use zerotouch_device::{Credential, Event, RenewalFailure, RenewalPolicy, State};
use zerotouch_emulator::cloud::{CredentialPolicy, Fixture, HubApiVersion, HubSettings};
use zerotouch_hub::wire::{CREDENTIAL_REPLY_PREFIX, ISSUE_CERTIFICATE_PREFIX};
use zerotouch_store::{Change, Identity};
use zerotouch_time::UnixTime;

use crate::bench::{Bench, fixture};
use crate::{DAY, count};

const HOUR: Duration = Duration::from_secs(3600);

/// A cloud whose certificates are good for so long.
fn living(leaf_validity: Duration) -> Fixture {
    let policies = fixture().credential_policies;
    let policies =
        policies.into_iter().map(|policy| CredentialPolicy { leaf_validity, ..policy }).collect();
    Fixture { credential_policies: policies, ..fixture() }
}

fn connected(fixture: Fixture, change: impl FnOnce(&mut RenewalPolicy)) -> Bench {
    let mut bench = Bench::with(fixture, Identity::default(), |config| change(&mut config.renewal));
    bench.start();
    bench.run_until(|bench| bench.device.state() == State::Connected && bench.generation() == 1);
    bench
}

/// Which part of the active certificate's life is over, in percent.
fn age(bench: &Bench) -> u64 {
    let active = bench.device.identity().active.as_ref().unwrap();
    let leaf = active.chain.leaf();
    let whole = leaf.not_after().since(leaf.not_before()).as_secs();
    bench.now.wall.unwrap().since(leaf.not_before()).as_secs() * 100 / whole
}

fn failures(bench: &Bench) -> Vec<(RenewalFailure, Duration)> {
    let failed = |event: &Event| match event {
        Event::RenewalFailed { failure, retry_in } => Some((failure.clone(), *retry_in)),
        _ => None,
    };
    bench.events.iter().filter_map(failed).collect()
}

// R1: between 57 and 67 percent of its life, at a time that is the certificate's own: a restart draws no
// new one.
#[test]
fn r1_a_certificate_is_renewed_in_its_time() {
    let mut bench = connected(living(DAY), |_| {});
    let policy = RenewalPolicy::default();
    let due =
        |bench: &Bench| policy.due(bench.device.identity().active.as_ref().unwrap().chain.leaf());
    let planned = due(&bench);
    bench.wait(4 * HOUR);
    let mut bench = bench.restart(4 * HOUR);
    bench.start();
    assert_eq!(due(&bench), planned);
    while bench.generation() == 1 {
        assert!(bench.now.wall.unwrap() < planned + Duration::from_secs(60), "{}", age(&bench));
        bench.wait(Duration::from_secs(30));
        if bench.generation() == 1 {
            assert!(age(&bench) <= 67);
        }
    }
    assert!(bench.now.wall.unwrap() >= planned, "too early");
    bench.run_until(|bench| bench.device.state() == State::Connected);
}

// R1 and R11: devices certified in the same minute do not renew in the same one.
#[test]
fn r11_a_fleet_renews_spread_over_a_tenth_of_a_life() {
    let policy = RenewalPolicy::default();
    let mut parts: Vec<f64> = Vec::new();
    // Each renewal makes a certificate as another device would have it.
    let mut bench = connected(living(HOUR), |_| {});
    while parts.len() < 40 {
        let generation = bench.generation();
        let leaf = bench.device.identity().active.as_ref().unwrap().chain.leaf().clone();
        let whole = leaf.not_after().since(leaf.not_before()).as_secs_f64();
        parts.push(policy.due(&leaf).since(leaf.not_before()).as_secs_f64() / whole);
        bench.wait(Duration::from_secs(60));
        bench.run_until(|bench| bench.generation() > generation);
    }
    assert!(parts.iter().all(|part| (0.569..=0.671).contains(part)), "{parts:?}");
    for fifth in [0.57, 0.59, 0.61, 0.63, 0.65] {
        assert!(parts.iter().any(|part| (fifth..fifth + 0.02).contains(part)), "{fifth} {parts:?}");
    }
}

// R2: it fails and fails; the tries never stop, never come faster than they may, and the certificate in
// use goes on being used.
#[test]
fn r2_renewal_is_tried_until_it_succeeds_and_never_hot() {
    let mut bench = connected(living(30 * DAY), |_| {});
    bench.store_fails = Box::new(|change| matches!(change, Change::Begin { .. }));
    bench.wait(20 * DAY);
    while bench.now.wall.unwrap()
        < bench.device.identity().active.as_ref().unwrap().chain.leaf().not_before() + 28 * DAY
    {
        bench.wait(Duration::from_secs(240));
    }
    let failed = failures(&bench);
    // 6 h is the cap; with full jitter that makes about 8 a day for 8 days.
    assert!((24..=200).contains(&failed.len()), "{}", failed.len());
    assert!(failed.iter().all(|(_, retry_in)| *retry_in <= 6 * HOUR));
    let announced =
        |event: &Event| matches!(event, Event::CertificateExpiring { generation: 1, .. });
    assert_eq!(count(&bench, announced), 1, "once, ahead of the end");
    bench.store_fails = Box::new(|_| false);
    bench.run_until_within(7 * HOUR, |bench| bench.generation() == 2);
}

// The hub of a device may not do it, or nobody may have set it up: DPS does.
#[test]
fn a_hub_that_does_not_renew_gives_way_to_dps() {
    let HubSettings { api_versions, .. } = HubSettings::default();
    let api_versions = api_versions
        .into_iter()
        .map(|version| HubApiVersion { renews_certificates: false, ..version })
        .collect();
    let hub = HubSettings { api_versions, ..HubSettings::default() };
    let mut bench = connected(Fixture { hub, ..living(DAY) }, |_| {});
    bench.run_until_within(17 * HOUR, |bench| bench.generation() == 2);
    let dps = |bench: &Bench| bench.dials.iter().filter(|dial| dial.host != "localhost").count();
    assert_eq!(dps(&bench), 2, "one for each certificate");
    assert_eq!(failures(&bench).len(), 1);
    let redirected = count(&bench, |event| matches!(event, Event::RenewalRedirected));
    assert_eq!(redirected, 1, "why it left the hub is told, once");
    bench.run_until(|bench| bench.device.state() == State::Connected);

    // And where DPS does not either, the hub is served, and DPS not asked without end.
    bench.dial_fails = Box::new(|dial| {
        (dial.host != "localhost").then_some(zerotouch_device::TransportFailureKind::Unreachable)
    });
    bench.events.clear();
    bench.wait(13 * HOUR);
    let mut connected = 0_u32;
    for _ in 0..600 {
        bench.wait(Duration::from_secs(60));
        connected += u32::from(bench.device.state() == State::Connected);
    }
    assert!(connected > 570, "of 600 minutes, {connected} at the hub");
    assert!((5..60).contains(&failures(&bench).len()), "{}", failures(&bench).len());
}

// R8: ten years ahead, ten years back, and then right: no storm of requests, and nothing is lost.
#[test]
fn r8_a_clock_that_jumps_starts_no_storm() {
    let years = 10 * 365 * 24 * 3600;
    let mut bench = connected(living(30 * DAY), |_| {});
    for (ahead, hours) in [(years, 24), (-years, 24), (0, 24)] {
        bench.ahead = ahead;
        for _ in 0..hours * 15 {
            bench.wait(Duration::from_secs(240));
        }
    }
    let requests = count(&bench, |event| matches!(event, Event::RenewalRequested { .. }));
    // Ahead, every certificate is over: one try in five minutes would be 288.
    assert!(requests <= 40, "{requests}");
    assert!(bench.dials.len() <= 40, "{}", bench.dials.len());
    assert_eq!(bench.device.state(), State::Connected);
    let active = bench.device.identity().active.as_ref().unwrap();
    assert!(active.chain.leaf().not_after() > bench.now.wall.unwrap());
}

// R10: a life of ten minutes, as in a test; of a few seconds, as by mistake.
#[test]
fn r10_short_lives_are_renewed_in_time_and_without_haste() {
    let mut bench = connected(living(Duration::from_secs(600)), |_| {});
    bench.wait(Duration::from_secs(1));
    let end = bench.now.monotonic + HOUR;
    while bench.now.monotonic < end {
        bench.wait(Duration::from_secs(1));
        assert!(age(&bench) < 100, "expired in use");
    }
    assert!((9..=12).contains(&bench.generation()), "{}", bench.generation());

    // The backdating of five minutes makes these old when they are issued.
    let mut bench = connected(living(Duration::from_secs(20)), |_| {});
    for _ in 0..600 {
        bench.wait(Duration::from_secs(1));
    }
    assert!(bench.generation() <= 60, "{}", bench.generation());
}

// Some devices cannot make keys, and some services want the same one again.
#[test]
fn the_same_key_may_be_certified_again() {
    for same_key in [false, true] {
        let mut bench = connected(living(DAY), |policy| policy.same_key = same_key);
        let key = |bench: &Bench| {
            let active = bench.device.identity().active.clone().unwrap();
            active.chain.leaf().public_key().to_vec()
        };
        let before = key(&bench);
        bench.run_until_within(17 * HOUR, |bench| bench.generation() == 2);
        assert_eq!(key(&bench) == before, same_key);
    }
}

// Who wants to decide decides.
#[test]
fn renewal_may_be_left_to_the_application() {
    let mut bench = connected(living(DAY), |policy| policy.automatic = false);
    for _ in 0..22 {
        bench.wait(HOUR);
    }
    assert_eq!(bench.generation(), 1);
    assert_eq!(count(&bench, |event| matches!(event, Event::CertificateExpiring { .. })), 1);
    let now = bench.now;
    bench.device.renew(now).unwrap();
    bench.run_until(|bench| bench.generation() == 2);
}

// Without a clock nothing is due; when it is set, what is due is due.
#[test]
fn a_device_whose_clock_is_set_late_renews_then() {
    let mut bench = connected(living(DAY), |_| {});
    let wall = bench.now.wall.take().unwrap();
    bench.wait(2 * HOUR);
    assert_eq!(count(&bench, |event| matches!(event, Event::RenewalRequested { .. })), 0);
    bench.now.wall = Some(UnixTime::from_secs(wall.as_secs() + 17 * 3600));
    bench.run_until_within(2 * HOUR, |bench| bench.generation() == 2);
}

// What the hub held ready comes before SUBACK, and so before the certificate in use, which could not be
// stored as active, is tried for that again. It waits: two changes under way at once would take each
// other's place, and a certificate would become active that no hub has seen.
#[test]
fn a_renewal_held_ready_waits_for_the_certificate_in_use() {
    let mut bench = Bench::new();
    bench.store_fails = Box::new(|change| matches!(change, Change::Activate));
    bench.start();
    bench.run_until(|bench| bench.device.state() == State::Connected && bench.changes.len() == 2);
    bench.store_fails = Box::new(|_| false);

    bench.garbles = Box::new(|_| Vec::new());
    bench.device.renew(bench.now).unwrap();
    bench.wait(Duration::from_secs(60));
    bench.garbles = Box::new(|bytes| bytes);
    bench.cut();
    bench.run_until(|bench| bench.generation() == 2);
    let changes = ["begin", "stage", "begin", "activate", "stage", "activate"];
    assert_eq!(bench.changes, changes);
    let accepted =
        |event: &Event| matches!(event, Event::Connected { credential: Credential::Staged, .. });
    assert_eq!(count(&bench, accepted), 3, "twice the first certificate, then the second");
}

// The answer to a request of an earlier connection may come in the bytes that say where answers come to.
// To send the request again before all of them are read is to ask for what is here already.
#[test]
fn what_comes_with_an_answer_does_not_ask_for_it_again() {
    const SUBACK: u8 = 0x90;
    let mut bench = connected(living(DAY), |_| {});
    bench.garbles = Box::new(|_| Vec::new());
    bench.device.renew(bench.now).unwrap();
    bench.wait(Duration::from_secs(60));
    let asked = |bench: &Bench| {
        let asks = |bytes: &[u8]| contains(bytes, ISSUE_CERTIFICATE_PREFIX);
        bench.sent.iter().filter(|(_, bytes)| asks(bytes)).count()
    };
    assert_eq!(asked(&bench), 1);

    let mut held = Vec::new();
    bench.garbles = Box::new(move |bytes| match bytes[0] {
        SUBACK => [bytes, std::mem::take(&mut held)].concat(),
        _ if contains(&bytes, CREDENTIAL_REPLY_PREFIX) => {
            held.extend(bytes);
            Vec::new()
        }
        _ => bytes,
    });
    bench.cut();
    bench.run_until(|bench| bench.generation() == 2);
    assert_eq!(asked(&bench), 1);
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
