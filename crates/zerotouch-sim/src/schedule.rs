//! Plans: drawn from a seed, and enumerated.

use std::time::Duration;

use chacha20::ChaCha8Rng;
use chacha20::rand_core::SeedableRng;
use rand_core::Rng;
use zerotouch_emulator::cloud::{self, ChainFault, FaultRule, Operation, Quota};

use crate::plan::{At, Fault, Incident, Plan, Quotas, Service};

type Draw = fn(&mut Dice) -> Fault;

/// How often each kind of fault is drawn, beside the others.
const WEIGHTS: [(u64, Draw); 32] = [
    (12, |_| Fault::Reset),
    (10, |dice| Fault::ResetAfter { bytes: dice.below(2500), inbound: dice.below(2) == 0 }),
    (8, |_| Fault::HalfOpen),
    (6, |_| Fault::Partition),
    (5, |_| Fault::Stall),
    (5, |_| Fault::Refuse),
    (5, |_| Fault::BlackHole),
    (3, |_| Fault::NoName),
    (2, |_| Fault::Untrusted),
    (2, |_| Fault::WrongName),
    (3, |_| Fault::TwoAddresses),
    (4, |dice| Fault::Moved { stranger: dice.below(2) == 0 }),
    (2, |_| Fault::ServerDates),
    (6, |_| Fault::Alert),
    (6, |_| Fault::LateAlert),
    (3, |_| Fault::Portal),
    (4, |dice| Fault::Latency { millis: 1 + dice.below(40_000) }),
    (3, |dice| Fault::Bandwidth { bytes_per_second: 20 + dice.below(2_000) }),
    (3, |_| Fault::Trickle),
    (10, |_| Fault::PowerCut),
    (20, |dice| Fault::PowerCutAtStore { operations: dice.operations(), state: dice.below(64) }),
    (8, |_| Fault::Exit),
    (6, |dice| Fault::DiskFull { operations: dice.operations() }),
    (4, |dice| Fault::DiskFails { operations: dice.operations(), late: dice.below(2) == 0 }),
    (4, |_| Fault::ClockUnset),
    (4, |dice| Fault::ClockStep { seconds: dice.signed(400 * 86_400) }),
    (2, |dice| Fault::ClockDrift { ppm: dice.signed(100_000) }),
    (3, |_| Fault::Twin),
    (30, |dice| {
        let rules = rules();
        let drawn = usize::try_from(dice.below(rules.len() as u64)).unwrap_or(0);
        let rule = rules.into_iter().nth(drawn);
        let count = u32::try_from(1 + dice.below(3)).ok();
        let after = u32::try_from(dice.below(3)).unwrap_or(0);
        rule.map_or(Fault::Reset, |rule| Fault::Rule(FaultRule { count, after, ..rule }))
    }),
    // What a hub says to a certificate that it does not take.
    (6, |dice| {
        let refused = cloud::Fault::Refuse { code: 5 };
        let after = u32::try_from(dice.below(3)).unwrap_or(0);
        let rule = FaultRule::new(Operation::HubConnect, refused);
        Fault::Rule(FaultRule { count: Some(1), after, ..rule })
    }),
    (4, |dice| Fault::CloudRestart { forgets: dice.below(3) == 0 }),
    (3, |dice| match dice.below(4) {
        0 => Fault::Revoke,
        1 => Fault::RevokeIssuer,
        2 => Fault::Failover,
        _ => Fault::CloudClock { seconds: dice.signed(40 * 86_400) },
    }),
];

struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end.max(1)
    }

    /// As often small as large.
    fn spread(&mut self, least: u64, most: u64) -> u64 {
        let bits = u64::from(most.max(1).ilog2() + 1);
        let top = most >> self.below(bits);
        least.max(self.below(top + 1))
    }

    /// A change takes some ten operations on files.
    fn operations(&mut self) -> usize {
        usize::try_from(self.spread(0, 40)).unwrap_or(0)
    }

    fn signed(&mut self, most: u64) -> i64 {
        let size = i64::try_from(self.spread(1, most)).unwrap_or(1);
        if self.below(2) == 0 { size } else { -size }
    }
}

/// What the emulator can be told to do wrong, each in one form.
fn rules() -> Vec<FaultRule> {
    use Operation as Op;
    let error = |status, error_code, retry_after| cloud::Fault::Error {
        status,
        error_code,
        retry_after,
        message: None,
    };
    let outcome = |status: &str| cloud::Fault::Outcome {
        status: status.into(),
        error_code: Some(400_209),
        message: None,
    };
    let seconds = |seconds| Duration::from_secs(seconds);
    let mut rules = Vec::new();
    for op in [Op::DpsConnect, Op::HubConnect] {
        for code in 1..=5 {
            rules.push((op, cloud::Fault::Refuse { code }));
        }
    }
    for op in [Op::Register, Op::Status, Op::Renew, Op::RenewalResult, Op::TwinGet, Op::TwinReport]
    {
        rules.push((op, error(429, None, Some(5))));
        rules.push((op, error(500, None, None)));
        rules.push((op, error(503, None, Some(40))));
        rules.push((op, error(400, None, None)));
        rules.extend([
            (op, cloud::Fault::WrongRequestId),
            (op, cloud::Fault::Garbage),
            (op, cloud::Fault::Duplicate),
        ]);
    }
    rules.push((Op::Register, error(401, Some(401_002), None)));
    rules.push((Op::Renew, error(412, Some(412_001), None)));
    rules.push((Op::Renew, error(409, Some(409_004), None)));
    rules.extend([
        (Op::Status, cloud::Fault::Stuck),
        (Op::Status, outcome("failed")),
        (Op::Status, outcome("disabled")),
        (Op::Renew, cloud::Fault::DocumentedCodes),
        (Op::Renew, cloud::Fault::VersionSuffix),
        (Op::RenewalResult, cloud::Fault::BareArray),
        (Op::RenewalResult, cloud::Fault::DocumentedCodes),
        (Op::RenewalResult, cloud::Fault::VersionSuffix),
    ]);
    for op in [Op::Register, Op::Status, Op::Telemetry, Op::Renew, Op::TwinGet, Op::TwinReport] {
        rules.push((op, cloud::Fault::DropBeforeAcknowledgement));
        rules.push((op, cloud::Fault::DropAfterAcknowledgement));
    }
    for op in [
        Op::DpsConnect,
        Op::Register,
        Op::Status,
        Op::HubConnect,
        Op::Telemetry,
        Op::Renew,
        Op::RenewalResult,
        Op::TwinGet,
        Op::TwinReport,
    ] {
        rules.push((op, cloud::Fault::Silence));
        rules.push((op, cloud::Fault::Delay(seconds(20))));
        rules.push((op, cloud::Fault::Trickle(Duration::from_millis(40))));
    }
    for fault in [
        ChainFault::Missing,
        ChainFault::Empty,
        ChainFault::Reordered,
        ChainFault::Foreign,
        ChainFault::Oversized,
        ChainFault::Pem,
        ChainFault::Expired,
        ChainFault::Revoked,
    ] {
        rules.push((Op::Assign, cloud::Fault::Chain(fault)));
        rules.push((Op::RenewalResult, cloud::Fault::Chain(fault)));
    }
    rules.into_iter().map(|(op, fault)| FaultRule::new(op, fault)).collect()
}

/// The plan of a seed.
pub fn random(seed: u64) -> Plan {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed ^ 0x5eed));
    let devices = [1, 1, 1, 1, 2, 2, 3][usize::try_from(dice.below(7)).unwrap_or(0)];
    let certified = usize::try_from(dice.below(2 * devices)).unwrap_or(0).saturating_sub(1);
    let minutes = 5 + dice.below(30);
    let wishes = dice.below(3);
    let validity_hours = [720, 720, 720, 6][usize::try_from(dice.below(4)).unwrap_or(0)];
    let total: u64 = WEIGHTS.iter().map(|(weight, _)| weight).sum();
    let incidents = (0..=dice.below(6)).map(|_| {
        let mut drawn = dice.below(total);
        let kind = WEIGHTS.iter().find(|(weight, _)| {
            let is_it = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            is_it
        });
        let fault = kind.map_or(Fault::Reset, |(_, draw)| draw(&mut dice));
        // The first seconds are the first provisioning; the rest is long.
        let at = if dice.below(3) == 0 { dice.below(6_000) } else { dice.below(minutes * 60_000) };
        let device = (dice.below(3) == 0).then(|| dice.below(devices));
        let service = match dice.below(4) {
            0 => Some(Service::Dps),
            1 => Some(Service::Hub),
            _ => None,
        };
        // These wait for what they strike.
        let lasts = match fault {
            Fault::Rule(_)
            | Fault::PowerCutAtStore { .. }
            | Fault::DiskFull { .. }
            | Fault::DiskFails { .. } => dice.spread(60_000, 1_800_000),
            _ => dice.spread(100, 900_000),
        };
        Incident {
            at: At::Millis(at),
            lasts,
            device: device.and_then(|device| usize::try_from(device).ok()),
            service,
            fault,
        }
    });
    let incidents = incidents.collect();
    let devices = usize::try_from(devices).unwrap_or(1);
    let hardware = dice.below(2) == 0;
    let quotas = (dice.below(3) == 0).then(|| Quotas {
        registrations: Quota { count: 1, period: Duration::from_secs(1 + dice.below(60)) },
        connections: Quota { count: 1, period: Duration::from_secs(1 + dice.below(30)) },
    });
    Plan { seed, devices, certified, minutes, wishes, validity_hours, hardware, quotas, incidents }
}

/// Faults that may strike at any step, each in the forms worth trying.
fn catalogue() -> Vec<Fault> {
    vec![
        Fault::Reset,
        Fault::ResetAfter { bytes: 1, inbound: false },
        Fault::ResetAfter { bytes: 1, inbound: true },
        Fault::HalfOpen,
        Fault::Partition,
        Fault::Stall,
        Fault::Refuse,
        Fault::BlackHole,
        Fault::Untrusted,
        Fault::TwoAddresses,
        Fault::Moved { stranger: false },
        Fault::Moved { stranger: true },
        Fault::Alert,
        Fault::LateAlert,
        Fault::Portal,
        Fault::PowerCut,
        Fault::Exit,
        Fault::DiskFull { operations: 0 },
        Fault::ClockUnset,
        Fault::ClockStep { seconds: 40 * 86_400 },
        Fault::ClockStep { seconds: -40 * 86_400 },
        Fault::Twin,
        Fault::CloudRestart { forgets: false },
        Fault::Revoke,
        Fault::RevokeIssuer,
        Fault::Failover,
        Fault::CloudClock { seconds: 86_400 },
    ]
}

/// How long faults last that are tried at each step, in milliseconds.
const LASTS: u64 = 20_000;

/// A short canonical life: provisioning, telemetry, a renewal.
pub fn canonical() -> Plan {
    Plan { minutes: 1, wishes: 1, ..Plan::calm(0) }
}

/// How many operations on files the canonical life has.
pub const FILE_OPERATIONS: usize = 51;

/// Every single fault at every one of `steps` steps of the canonical life or at every operation on a file,
/// and every rule.
pub fn singles(steps: u64) -> impl Iterator<Item = Plan> {
    let by_step = catalogue().into_iter().flat_map(move |fault| {
        (1..=steps).map(move |step| Incident::new(At::Step(step), LASTS, fault.clone()))
    });
    let by_rule = rules().into_iter().flat_map(|rule| {
        let count = [Some(1), None];
        count.map(|count| {
            let lasts = if count.is_some() { 600_000 } else { 120_000 };
            let fault = Fault::Rule(FaultRule { count, ..rule.clone() });
            Incident::new(At::Millis(0), lasts, fault)
        })
    });
    let plans = by_step.chain(by_rule).map(|one| Plan { incidents: vec![one], ..canonical() });
    plans.chain(file_faults())
}

/// Everything that can go wrong with a file, at every operation on one in the canonical life; where the
/// power goes, with some of the states that the disk may be left in.
pub fn file_faults() -> impl Iterator<Item = Plan> {
    (0..FILE_OPERATIONS).flat_map(|operations| {
        let cuts = (0..4).map(move |state| Fault::PowerCutAtStore { operations, state });
        let fails = [false, true].map(|late| Fault::DiskFails { operations, late });
        let faults = cuts.chain([Fault::DiskFull { operations }]).chain(fails);
        let incidents = faults.map(|fault| Incident::new(At::Millis(0), 50_000, fault));
        incidents.map(|one| Plan { incidents: vec![one], ..canonical() })
    })
}

/// Every pair of faults at two of these steps of the canonical life.
pub fn pairs(steps: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = Plan> {
    // What a second fault can make worse; the many ways in which a dial fails are one here.
    let worth = [
        Fault::Reset,
        Fault::ResetAfter { bytes: 1, inbound: false },
        Fault::ResetAfter { bytes: 1, inbound: true },
        Fault::HalfOpen,
        Fault::Refuse,
        Fault::LateAlert,
        Fault::PowerCut,
        Fault::PowerCutAtStore { operations: 0, state: 0 },
        Fault::PowerCutAtStore { operations: 6, state: 1 },
        Fault::Exit,
        Fault::DiskFull { operations: 0 },
        Fault::ClockStep { seconds: 40 * 86_400 },
        Fault::Twin,
        Fault::CloudRestart { forgets: false },
        Fault::Revoke,
    ];
    let all: Vec<Incident> = worth
        .iter()
        .flat_map(|fault| {
            steps.clone().map(|step| Incident::new(At::Step(step), LASTS, fault.clone()))
        })
        .collect();
    (0..all.len()).flat_map(move |first| {
        let one = all[first].clone();
        all[first..]
            .iter()
            .map(|two| Plan { incidents: vec![one.clone(), two.clone()], ..canonical() })
            .collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chacha20::ChaCha20Rng;
    use serde::de::DeserializeOwned;
    use zerotouch_emulator::cloud::{Cloud, Fixture};
    use zerotouch_time::UnixTime;

    use super::*;

    /// What an enumeration's variants are called: what it says when it is given another.
    fn variants<T: DeserializeOwned>() -> Vec<String> {
        let told = serde_json::from_str::<T>("\"none of them\"").err().unwrap().to_string();
        let (_, known) = told.split_once("expected one of").unwrap();
        known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// What the text of a fault or an operation is called.
    fn name(value: impl serde::Serialize) -> String {
        match serde_json::to_value(value).unwrap() {
            serde_json::Value::Object(one) => one.keys().next().unwrap().clone(),
            text => text.as_str().unwrap().to_owned(),
        }
    }

    // Whatever the emulator can be told to do wrong is tried, with every operation that can go wrong in that
    // way: a fault that is new there is missed here.
    #[test]
    fn every_fault_of_the_emulator_is_tried() {
        let tried: BTreeSet<(String, String)> =
            rules().iter().map(|rule| (name(rule.operation), name(&rule.fault))).collect();
        let rng = ChaCha20Rng::seed_from_u64(0);
        let mut cloud = Cloud::new(Fixture::default(), rng, UnixTime::from_secs(0)).unwrap();
        let operations = variants::<Operation>();
        assert!(operations.len() >= 10, "{operations:?}");
        for fault in variants::<cloud::Fault>() {
            let example = rules().into_iter().find(|rule| name(&rule.fault) == fault);
            let example = example.unwrap_or_else(|| panic!("{fault} is not tried")).fault;
            for operation in &operations {
                let parsed = serde_json::from_value(operation.as_str().into()).unwrap();
                let applies = cloud.add_fault(FaultRule::new(parsed, example.clone())).is_ok();
                let is_tried = tried.contains(&(operation.clone(), fault.clone()));
                assert_eq!(is_tried, applies, "{fault} at {operation}");
            }
        }
        for chain in variants::<ChainFault>() {
            let told = |rule: &FaultRule| match rule.fault {
                cloud::Fault::Chain(fault) => name(fault) == chain,
                _ => false,
            };
            assert!(rules().iter().any(told), "{chain} is not tried");
        }
    }

    // Whatever can go wrong is drawn, and soon.
    #[test]
    fn every_fault_is_drawn() {
        let drawn: BTreeSet<String> = (0..600)
            .flat_map(|seed| random(seed).incidents)
            .map(|incident| name(incident.fault))
            .collect();
        let known: BTreeSet<String> = variants::<Fault>().into_iter().collect();
        assert_eq!(drawn, known);
    }
}
