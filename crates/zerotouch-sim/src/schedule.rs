//! Plans: drawn from a seed, and enumerated.

use std::time::Duration;

use chacha20::ChaCha8Rng;
use chacha20::rand_core::SeedableRng;
use rand_core::Rng;
use zerotouch_emulator::cloud::{self, ChainFault, FaultRule, Operation};

use crate::plan::{At, Fault, Incident, Plan, Service};

type Draw = fn(&mut Dice) -> Fault;

/// How often each kind of fault is drawn, beside the others.
const WEIGHTS: [(u64, Draw); 28] = [
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
    (2, |_| Fault::ServerDates),
    (3, |_| Fault::Alert),
    (3, |_| Fault::LateAlert),
    (3, |_| Fault::Portal),
    (4, |dice| Fault::Latency { millis: 1 + dice.below(40_000) }),
    (3, |dice| Fault::Bandwidth { bytes_per_second: 20 + dice.below(2_000) }),
    (3, |_| Fault::Trickle),
    (10, |_| Fault::PowerCut),
    (10, |dice| Fault::PowerCutAtStore { durable: dice.below(2) == 0 }),
    (8, |_| Fault::Exit),
    (6, |_| Fault::DiskFull),
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
        for code in [3, 5] {
            rules.push((op, cloud::Fault::Refuse { code }));
        }
    }
    for op in [Op::Register, Op::Status, Op::Renew, Op::RenewalResult] {
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
    ]);
    for op in [Op::Register, Op::Status, Op::Telemetry, Op::Renew] {
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
    let minutes = 5 + dice.below(30);
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
        Incident {
            at: At::Millis(at),
            lasts: dice.spread(100, 900_000),
            device: device.and_then(|device| usize::try_from(device).ok()),
            service,
            fault,
        }
    });
    let incidents = incidents.collect();
    let devices = usize::try_from(devices).unwrap_or(1);
    let hardware = dice.below(2) == 0;
    Plan { seed, devices, minutes, validity_hours, hardware, incidents }
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
        Fault::Alert,
        Fault::LateAlert,
        Fault::Portal,
        Fault::PowerCut,
        Fault::PowerCutAtStore { durable: false },
        Fault::PowerCutAtStore { durable: true },
        Fault::Exit,
        Fault::DiskFull,
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
    Plan { minutes: 1, ..Plan::calm(0) }
}

/// Every single fault at every one of `steps` steps of the canonical life, and every rule.
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
    by_step.chain(by_rule).map(|one| Plan { incidents: vec![one], ..canonical() })
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
        Fault::PowerCutAtStore { durable: false },
        Fault::PowerCutAtStore { durable: true },
        Fault::Exit,
        Fault::DiskFull,
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
