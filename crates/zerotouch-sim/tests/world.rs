//! Lives in virtual time: the same engines that run on sockets, against the same cloud.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::time::Duration;

use zerotouch_sim::{
    At, Fault, Incident, Mutant, Options, Outage, Plan, Weather, World, fleet, invariant_names,
    judge, schedule, shrink,
};

/// So many seeds have the whole device pass, and every mutant found.
const SEEDS: u64 = 400;

fn traced() -> Options {
    Options { trace: true, ..Options::default() }
}

// The canonical life: bootstrap key, certificate, telemetry, renewal, telemetry.
#[test]
fn a_device_provisions_sends_and_renews() {
    let story = World::run(&Plan::calm(1), traced()).unwrap();
    assert_eq!((story.activations, story.connections), (2, 2));
    assert_eq!(story.acknowledged, 14);
}

// A failure that is seen once can be seen again, byte for byte.
#[test]
fn a_plan_tells_the_same_story_twice() {
    let tell = |seed| match judge(&schedule::random(seed), traced()) {
        Ok(story) => story.trace,
        Err(violation) => violation.trace,
    };
    for seed in 0..20 {
        assert!(tell(seed) == tell(seed), "seed {seed}");
    }
    assert!(tell(1) != tell(2));
}

// A plan that is printed is read back as it was.
#[test]
fn a_plan_is_text_and_back() {
    for seed in 0..500 {
        let plan = schedule::random(seed);
        assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
    }
}

// Whatever goes wrong, the invariants hold.
#[test]
fn random_worlds() {
    for seed in 0..SEEDS {
        let plan = schedule::random(seed);
        if let Err(violation) = judge(&plan, Options::default()) {
            panic!("{}", shrink(&plan, violation, Options::default()));
        }
    }
}

// What was found once stays away.
#[test]
fn regressions() {
    for line in include_str!("../regressions.txt").lines().filter(|line| line.starts_with('{')) {
        let plan: Plan = line.parse().unwrap();
        if let Err(violation) = judge(&plan, Options::default()) {
            panic!("{}", shrink(&plan, violation, Options::default()));
        }
    }
}

// The simulator itself is guarded: what is broken on purpose is found, and each invariant finds something.
// Every mutant is tried with the same seeds, with which the whole engine passes (`random_worlds`).
#[test]
fn mutants_are_caught() {
    let mut missed = Vec::new();
    let mut idle = BTreeSet::from_iter(invariant_names());
    for mutant in Mutant::ALL {
        let options = Options { mutant: Some(mutant), ..Options::default() };
        let found = (0..SEEDS).find_map(|seed| {
            let violation = judge(&schedule::random(seed), options).err()?;
            Some((seed, violation))
        });
        match found {
            Some((seed, violation)) => {
                println!("{mutant:?}: seed {seed}, {}: {}", violation.invariant, violation.what);
                idle.remove(violation.invariant);
            }
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "{missed:?} were not caught within {SEEDS} seeds");
    assert!(idle.is_empty(), "{idle:?} caught none");
}

// Whatever goes wrong with a file, at whichever operation, the store stands it; and what is to strike strikes.
#[test]
fn faults_at_every_operation_on_a_file() {
    let story = judge(&schedule::canonical(), Options::default()).unwrap();
    assert_eq!(story.file_operations, schedule::FILE_OPERATIONS);
    for plan in schedule::file_faults() {
        match judge(&plan, Options::default()) {
            Ok(story) => assert_eq!(story.file_faults, 1, "{plan}"),
            Err(violation) => panic!("{}", shrink(&plan, violation, Options::default())),
        }
    }
}

// The shortest story: nothing is left in the plan that the failure does not need.
#[test]
fn a_finding_is_shrunk() {
    let options = Options { mutant: Some(Mutant::GivesUp), ..Options::default() };
    let noise = |at| Incident::new(At::Millis(at), 60_000, Fault::Latency { millis: 100 });
    let reset = Incident::new(At::Millis(120_000), 5_000, Fault::Reset);
    let plan =
        Plan { devices: 2, incidents: vec![noise(1_000), reset, noise(200_000)], ..Plan::calm(3) };
    let violation = judge(&plan, options).unwrap_err();
    let finding = shrink(&plan, violation, options);
    assert_eq!(finding.violation.invariant, "return");
    let faults: Vec<&Fault> = finding.plan.incidents.iter().map(|one| &one.fault).collect();
    assert_eq!((finding.plan.devices, faults), (1, vec![&Fault::Reset]));
    assert!(finding.to_string().contains("FAULT"));
}

// With a stored identity, telemetry leaves two round trips after TLS, and is acknowledged after three:
// CONNECT, SUBSCRIBE, PUBLISH. Latency is virtual, and therefore exact.
#[test]
fn telemetry_leaves_two_round_trips_after_tls() {
    let one_way = Duration::from_millis(50);
    let weather = Weather { least: one_way, most: one_way, pieces: false };
    let plan = Plan { minutes: 0, ..Plan::calm(1) };
    let mut world = World::new(&plan, Options { weather, ..traced() }).unwrap();
    assert!(world.run_until(Duration::from_secs(60), World::all_connected).unwrap());
    world.restart(0).unwrap();
    world.send_telemetry(0).unwrap();
    let began = world.trace().len();
    assert!(world.run_until(Duration::from_secs(60), World::all_acknowledged).unwrap());
    let when = |what: &str| {
        let mut lines = world.trace()[began..].iter();
        let line = lines.find(|line| line.contains(what)).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    let round_trips = |what| (when(what) - when("dialled")) / (2.0 * one_way.as_secs_f64());
    assert!((round_trips("→ Hub PUBLISH devices/") - 2.0).abs() < 1e-6);
    assert!((round_trips("TelemetryAcknowledged") - 3.0).abs() < 1e-6);
}

// Power returns to all at once, or the hub does: spread, nobody is turned away by a hub that takes 100 a
// second. As many come in a second here as of 10,000 devices in 5 minutes.
#[test]
fn a_fleet_comes_back_within_the_quota() {
    for outage in [Outage::Power, Outage::Hub] {
        let curve = fleet(1, 500, outage, Duration::from_secs(15)).unwrap();
        assert_eq!((curve.total(), curve.turned_away), (500, 0), "{outage:?}");
        assert!(curve.peak() < 70, "{outage:?}: {}", curve.peak());
    }
    let at_once = fleet(1, 500, Outage::Power, Duration::ZERO).unwrap();
    assert!(at_once.peak() > 300 && at_once.turned_away > 300, "{at_once:?}");
}

// Devices with certificates from the factory live as those with keys do, and come back to the provisioning
// service with what they had at first.
#[test]
fn certificates_from_the_factory_lead_to_certificates_in_use() {
    let incidents = vec![Incident::new(At::Millis(900_000), 0, Fault::Revoke)];
    let plan = Plan { devices: 2, certified: 1, minutes: 20, incidents, ..Plan::calm(1) };
    let story = World::run(&plan, traced()).unwrap();
    for device in ["device-0", "device-1"] {
        let registered = format!("\"registrationId\":\"{device}\",\"enrollment\"");
        let registered = story.trace.iter().filter(|line| line.contains(&registered)).count();
        assert!(registered >= 2, "{device}: {registered}");
    }
}

// A name with two addresses, of which one is wrong: some dials go astray, and the device comes to its hub all
// the same, on the slow ladder, while that lasts.
#[test]
fn a_name_has_two_addresses() {
    let mut astray = 0;
    for seed in 0..8 {
        let two = Incident::new(At::Millis(0), 86_400_000, Fault::TwoAddresses);
        let plan = Plan { incidents: vec![two], ..Plan::calm(seed) };
        let mut world = World::new(&plan, traced()).unwrap();
        assert!(world.run_until(Duration::from_secs(43_200), World::all_connected).unwrap());
        astray += world.trace().iter().filter(|line| line.contains("another name")).count();
    }
    assert!(astray > 4, "{astray}");
}

// A hub whose address changes under a connection: the device notices for itself, finds somebody else at the
// old address for as long as names lead there, and then its hub.
#[test]
fn a_hub_moves_under_a_connection() {
    const MINUTE: u64 = 60_000;
    let moved = Fault::Moved { stranger: true };
    let moved = Incident::new(At::Millis(2 * MINUTE), 20 * MINUTE, moved);
    let plan = Plan { minutes: 30, incidents: vec![moved], ..Plan::calm(1) };
    let story = World::run(&plan, traced()).unwrap();
    let when = |what: &str| -> Vec<f64> {
        let lines = story.trace.iter().filter(|line| line.contains(what));
        lines.map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect()
    };
    let others = when("✗ dial: ");
    assert!(others.len() > 3, "{others:?}");
    assert!(others.iter().all(|at| (120.0..1321.0).contains(at)), "{others:?}");
    let connected = when("· connected to");
    assert!(connected.iter().all(|at| !(120.0..1320.0).contains(at)), "{connected:?}");
    assert!(connected.iter().any(|at| *at < 120.0) && connected.iter().any(|at| *at > 1320.0));
}

// Every single fault at some steps of the canonical life; the binary's `--exhaustive` tries all.
#[test]
fn single_faults() {
    let steps = judge(&schedule::canonical(), Options::default()).unwrap().steps;
    for plan in schedule::singles(steps).step_by(7) {
        if let Err(violation) = judge(&plan, Options::default()) {
            panic!("{}", shrink(&plan, violation, Options::default()));
        }
    }
}
