//! The story of a run: one line for each step that has happened, and a line of totals.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::arguments::Output;
use crate::failure::CliError;

/// The version of the JSON document's shape.
const SCHEMA_VERSION: u32 = 1;

/// One thing that has happened.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    #[serde(rename = "step")]
    name: &'static str,
    duration_ms: f64,
    proved: Map<String, Value>,
}

/// Steps as they happen: shown to people at once, kept for machines until the end.
#[derive(Debug)]
pub(crate) struct Timeline {
    output: Output,
    began: Instant,
    last: Instant,
    steps: Vec<Step>,
}

impl Timeline {
    pub(crate) fn new(output: Output, title: &str) -> Self {
        let now = Instant::now();
        let timeline = Self { output, began: now, last: now, steps: Vec::new() };
        timeline.print(&format!("{title}\n"));
        timeline
    }

    /// A step is done: `words` tell a person what was proved, `proved` tells a machine.
    pub(crate) fn done(&mut self, step: &'static str, words: &str, proved: Value) {
        let now = Instant::now();
        let duration = now - self.last;
        self.last = now;
        self.print(&format!("  {:>9}  {step:<13} {words}", seconds(duration)));
        let proved = match proved {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        self.steps.push(Step { name: step, duration_ms: millis(duration), proved });
    }

    /// Something goes on that is not done yet. For people only.
    pub(crate) fn note(&self, words: &str) {
        self.print(&format!("  {:>9}  {:<13} {words}", "", ""));
    }

    /// The end: totals, or why there are none.
    pub(crate) fn finish(self, outcome: Result<&Value, &CliError>) {
        let total = self.began.elapsed();
        if self.output == Output::Text {
            if let Ok(totals) = outcome {
                let words = totals["summary"].as_str().unwrap_or_default();
                self.print(&format!("\n  done in {}: {words}", seconds(total)));
            }
            return;
        }
        let mut document = json!({
            "schemaVersion": SCHEMA_VERSION,
            "ok": outcome.is_ok(),
            "steps": self.steps,
            "totalMs": millis(total),
        });
        match outcome {
            Ok(totals) => document["totals"] = totals.clone(),
            Err(error) => document["error"] = error_json(error),
        }
        write_line(&format!("{document:#}"));
    }

    fn print(&self, line: &str) {
        if self.output == Output::Text {
            write_line(line);
        }
    }
}

/// Why a command failed, in the shape that every document has.
pub(crate) fn error_json(error: &CliError) -> Value {
    let (service_code, tracking_id) = error.service();
    json!({
        "code": error.code(),
        "exitCode": error.exit_code(),
        "message": error.to_string(),
        "remedy": error.remedy(),
        "serviceErrorCode": service_code,
        "trackingId": tracking_id,
    })
}

/// A reader that went away early is no reason to fail, or to panic.
pub(crate) fn write_line(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

/// Milliseconds to the microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
