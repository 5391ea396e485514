//! The simulated world: so many seeds, or for so long.

use crate::process::{Result, cargo, root};

/// As many as are run when nothing else is said.
const SEEDS: u64 = 100_000;

/// Where plans are kept that have broken something; a test of the simulator runs them all.
const KEPT: &str = "crates/zerotouch-sim/regressions.txt";

pub(crate) fn run(minutes: Option<u64>, seeds: Option<u64>) -> Result {
    let kept = root().join(KEPT);
    let run = cargo(["run", "--quiet", "--release", "--locked", "-p", "zerotouch-sim", "--"]);
    let run = run.arg("--keep").arg(kept);
    match minutes {
        Some(minutes) => run.arg("--minutes").arg(minutes.to_string()),
        None => run.arg("--seeds").arg(format!("0..{}", seeds.unwrap_or(SEEDS))),
    }
    .run()
}
