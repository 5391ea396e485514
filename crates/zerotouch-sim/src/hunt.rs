//! Looking for what breaks an invariant, and telling it as shortly as can be.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::plan::Plan;
use crate::world::{Options, Story, Violation, World, WorldError};

/// How many plans are tried for a shorter one.
const TRIES: u32 = 400;
/// How many lines of a story are told.
const LINES: usize = 80;

/// A plan that breaks an invariant.
#[derive(Clone, Debug)]
pub struct Finding {
    /// As short as it was found.
    pub plan: Plan,
    /// What it breaks.
    pub violation: Violation,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.plan.seed, self.violation)?;
        writeln!(f, "plan: {}", self.plan)?;
        let trace = &self.violation.trace;
        if let Some(hidden) = trace.len().checked_sub(LINES).filter(|hidden| *hidden > 0) {
            writeln!(f, "  … {hidden} lines before these: --plan '…' --trace tells them")?;
        }
        for line in &trace[trace.len().saturating_sub(LINES)..] {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

/// Runs a plan; a panic counts as a violation, and so does a world that cannot go on.
pub fn judge(plan: &Plan, options: Options) -> Result<Story, Violation> {
    let broken = |invariant, what| {
        let (at, trace) = (Duration::ZERO, Vec::new());
        Err(Violation { invariant, what, at, trace })
    };
    match catch_unwind(AssertUnwindSafe(|| World::run(plan, options))) {
        Ok(Ok(story)) => Ok(story),
        Ok(Err(WorldError::Violation(violation))) => Err(*violation),
        Ok(Err(error)) => broken("world", error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            broken("panic", text.unwrap_or("somewhere").to_owned())
        }
    }
}

/// Removes and shortens for as long as the same invariant stays broken, and writes down what each party
/// then sees.
pub fn shrink(plan: &Plan, violation: Violation, options: Options) -> Finding {
    let invariant = violation.invariant;
    let mut best = Finding { plan: plan.clone(), violation };
    let mut tries = 0;
    let mut better = true;
    while better && tries < TRIES {
        better = false;
        for candidate in smaller(&best.plan) {
            tries += 1;
            if let Err(violation) = judge(&candidate, options)
                && violation.invariant == invariant
            {
                best = Finding { plan: candidate, violation };
                better = true;
                break;
            }
        }
    }
    let traced = Options { trace: true, ..options };
    if let Err(violation) = judge(&best.plan, traced) {
        best.violation = violation;
    }
    best
}

/// Plans with less in them, the boldest first.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    for number in 0..plan.incidents.len() {
        let mut fewer = plan.clone();
        fewer.incidents.remove(number);
        plans.push(fewer);
    }
    if plan.devices > 1 {
        plans.push(Plan { devices: 1, ..plan.clone() });
        plans.push(Plan { devices: plan.devices - 1, ..plan.clone() });
    }
    for number in 0..plan.incidents.len() {
        let incident = &plan.incidents[number];
        for lasts in [0, incident.lasts / 2] {
            if lasts < incident.lasts {
                let mut shorter = plan.clone();
                shorter.incidents[number].lasts = lasts;
                plans.push(shorter);
            }
        }
    }
    if plan.minutes > 5 {
        plans.push(Plan { minutes: plan.minutes / 2, ..plan.clone() });
    }
    plans
}
