//! The simulated world from a command line. It ends with 1 where an invariant was broken.

#![forbid(unsafe_code)]
#![allow(clippy::cast_precision_loss, reason = "rates, of far less than 2^52 things")]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use mimalloc::MiMalloc;
use zerotouch_sim::{
    Finding, Milestones, Options, Outage, Plan, Weather, curves, fleet, judge, schedule, shrink,
    timeline,
};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Devices, one cloud and a faulty network in virtual time, from a seed.
#[derive(Debug, Parser)]
#[command(name = "zerotouch-sim", version)]
struct Arguments {
    /// Run the plan of this seed
    #[arg(long, group = "what")]
    seed: Option<u64>,
    /// Run this plan, one line of JSON
    #[arg(long, group = "what")]
    plan: Option<Plan>,
    /// Print what each party saw
    #[arg(long)]
    trace: bool,
    /// Run the plans of these seeds: from..to
    #[arg(long, group = "what", value_parser = range)]
    seeds: Option<(u64, u64)>,
    /// Run seed after seed for so many minutes, beginning with one that the clock gives
    #[arg(long, group = "what")]
    minutes: Option<u64>,
    /// Try every single fault at every step of the canonical life
    #[arg(long, group = "what")]
    exhaustive: bool,
    /// And every pair of faults in its first provisioning and its renewal
    #[arg(long, requires = "exhaustive")]
    pairs: bool,
    /// Run so many whole lives in which little goes wrong, on one thread, and say how fast that was
    #[arg(long, group = "what")]
    speed: Option<u64>,
    /// Print how a fleet of so many devices comes back after three kinds of outage, as CSV
    #[arg(long, group = "what")]
    fleet: Option<usize>,
    /// Also draw that, and one device's life, into this folder
    #[arg(long)]
    pictures: Option<PathBuf>,
    /// Add what is found to this file, as plans to be run again
    #[arg(long)]
    keep: Option<PathBuf>,
    /// On how many threads
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("a range is written from..to")?;
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
    Ok((number(from)?, number(to)?))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic of an engine is a finding, and told as one.
    std::panic::set_hook(Box::new(|_| {}));
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let options = Options::default();
    if let Some(plan) = arguments.plan.clone().or_else(|| arguments.seed.map(schedule::random)) {
        return one(&plan, arguments, options);
    }
    if let Some(devices) = arguments.fleet {
        return pictures(devices, arguments.pictures.as_deref());
    }
    if let Some(lives) = arguments.speed {
        speed(lives);
        return Ok(true);
    }
    if arguments.exhaustive {
        let story = judge(&schedule::canonical(), options)?;
        let steps = story.steps;
        println!("the canonical life has {steps} steps");
        let singles: Vec<Plan> = schedule::singles(steps).collect();
        let mut good = hunt("single faults", singles, arguments)?;
        if arguments.pairs {
            let Milestones { renewals, activations } = story.milestones;
            let ([renewal, ..], [first, second, ..]) = (&*renewals, &*activations) else {
                return Err("the canonical life has no renewal".into());
            };
            println!("provisioning: to step {first}; renewal: from step {renewal} to {second}");
            let pairs: Vec<Plan> = schedule::pairs(1..=*first).collect();
            good &= hunt("pairs in the first provisioning", pairs, arguments)?;
            let pairs: Vec<Plan> = schedule::pairs(*renewal..=*second).collect();
            good &= hunt("pairs in a renewal", pairs, arguments)?;
        }
        return Ok(good);
    }
    if let Some((from, to)) = arguments.seeds {
        return hunt("seeds", (from..to).map(schedule::random), arguments);
    }
    let minutes = Duration::from_secs(60 * arguments.minutes.unwrap_or(1));
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let first = clock.as_secs() << 20;
    println!("from seed {first}");
    let end = Instant::now() + minutes;
    let seeds = (first..).take_while(|_| Instant::now() < end);
    hunt("seeds", seeds.map(schedule::random), arguments)
}

fn one(
    plan: &Plan,
    arguments: &Arguments,
    options: Options,
) -> Result<bool, Box<dyn std::error::Error>> {
    match judge(plan, Options { trace: arguments.trace, ..options }) {
        Ok(story) => {
            for line in &story.trace {
                println!("{line}");
            }
            println!(
                "passed: {plan}\n{} steps, {:?} of virtual time, {} certificates, {} connections, {} \
                 messages",
                story.steps,
                story.elapsed,
                story.activations,
                story.connections,
                story.acknowledged
            );
            Ok(true)
        }
        Err(violation) if arguments.trace => {
            for line in &violation.trace {
                println!("{line}");
            }
            println!("{violation}");
            Ok(false)
        }
        Err(violation) => {
            let finding = shrink(plan, violation, options);
            report(&finding, arguments.keep.as_deref())?;
            Ok(false)
        }
    }
}

/// Runs plans on some threads; says whether all were good.
fn hunt(
    what: &str,
    plans: impl IntoIterator<Item = Plan, IntoIter: Send>,
    arguments: &Arguments,
) -> Result<bool, Box<dyn std::error::Error>> {
    const MOST: u32 = 10;
    let began = Instant::now();
    let plans = Mutex::new(plans.into_iter());
    let broken = Mutex::new(0);
    let (count, lives) = (AtomicU64::new(0), AtomicU64::new(0));
    let next = || plans.lock().ok().and_then(|mut plans| plans.next());
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                while let Some(plan) = next() {
                    count.fetch_add(1, Ordering::Relaxed);
                    lives.fetch_add(plan.devices as u64, Ordering::Relaxed);
                    let Err(violation) = judge(&plan, Options::default()) else { continue };
                    // Told at once: much may follow, and may be broken off.
                    let finding = shrink(&plan, violation, Options::default());
                    let Ok(mut broken) = broken.lock() else { return };
                    if let Err(error) = report(&finding, arguments.keep.as_deref()) {
                        eprintln!("error: {error}");
                    }
                    *broken += 1;
                    if *broken >= MOST {
                        return;
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().map_err(|_| "a thread died")?;
    let (count, lives) = (count.into_inner(), lives.into_inner());
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{what}: {count} worlds, {lives} devices, {broken} broken, in {seconds:.1} s: {:.0} worlds a second",
        count as f64 / seconds
    );
    if next().is_some() {
        println!("{what}: broken off, as so many are broken; the rest was not run");
    }
    Ok(broken == 0)
}

fn report(finding: &Finding, keep: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    println!("{finding}");
    if let Some(path) = keep {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "# {}\n{}", finding.violation, finding.plan)?;
    }
    Ok(())
}

/// Full lives: provisioning, telemetry, a renewal, one recovery.
fn lives(seed: u64, devices: usize) -> Plan {
    use zerotouch_sim::{At, Fault, Incident};
    let incidents = vec![Incident::new(At::Millis(500_000), 0, Fault::Reset)];
    Plan { seed, devices, hardware: true, incidents, ..Plan::calm(seed) }
}

/// Fifty to a world: the authorities of its cloud take as much work as a life or two.
fn speed(count: u64) {
    const DEVICES: usize = 50;
    let began = Instant::now();
    let mut steps = 0;
    let weather = Weather::default();
    let worlds = count.div_ceil(DEVICES as u64);
    for seed in 0..worlds {
        match judge(&lives(seed, DEVICES), Options { weather, ..Options::default() }) {
            Ok(story) => steps += story.steps,
            Err(violation) => println!("seed {seed}: {violation}"),
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let count = worlds * DEVICES as u64;
    println!(
        "{count} lives, {steps} steps in {seconds:.2} s: {:.0} lives a second on one thread",
        count as f64 / seconds
    );
}

fn pictures(devices: usize, folder: Option<&Path>) -> Result<bool, Box<dyn std::error::Error>> {
    let spread = Duration::from_secs(300);
    let outages = [
        (Outage::Power, Duration::ZERO),
        (Outage::Power, spread),
        (Outage::Hub, Duration::ZERO),
        (Outage::Hub, spread),
    ];
    let mut drawn = Vec::new();
    println!("outage,second,connections");
    for (outage, spread) in outages {
        let curve = fleet(1, devices, outage, spread)?;
        for (second, count) in curve.per_second.iter().enumerate() {
            println!("{},{second},{count}", curve.name);
        }
        eprintln!(
            "{}: {} in all, at most {} a second, {} turned away",
            curve.name,
            curve.total(),
            curve.peak(),
            curve.turned_away
        );
        drawn.push(curve);
    }
    if let Some(folder) = folder {
        fs::write(folder.join("fleet.svg"), curves(&drawn))?;
        let story = judge(
            &Plan { hardware: false, ..lives(1, 1) },
            Options { trace: true, ..Options::default() },
        )?;
        let title = "One device: provisioning, telemetry, renewal, recovery (seed 1)";
        fs::write(folder.join("life.svg"), timeline(title, &story.trace))?;
    }
    Ok(true)
}
