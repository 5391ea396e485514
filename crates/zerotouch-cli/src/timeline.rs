//! The story of a command: one line for each step that has happened, and what came of it.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::arguments::Output;
use crate::failure::CliError;
use crate::progress::Progress;
use crate::telling::Telling;

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

/// Steps as they happen: shown to people at once, kept for machines until the end or, as a stream, written
/// at once.
#[derive(Debug)]
pub(crate) struct Timeline {
    output: Output,
    /// Where people read it while the command is at work; `None` where the story is what it is for.
    progress: Option<Progress>,
    began: Instant,
    last: Instant,
    steps: Vec<Step>,
}

impl Timeline {
    /// A story that is what the command is for.
    #[cfg(feature = "emulator")]
    pub(crate) fn new(output: Output, title: &str) -> Self {
        let timeline = Self::at(output, None);
        timeline.print(&format!("{title}\n"));
        timeline
    }

    /// A story on standard error, while the command is at work.
    pub(crate) fn of_progress(output: Output) -> Self {
        Self::at(output, Some(Progress::new(output == Output::Text)))
    }

    fn at(output: Output, progress: Option<Progress>) -> Self {
        let now = Instant::now();
        Self { output, progress, began: now, last: now, steps: Vec::new() }
    }

    /// What has happened to the device.
    pub(crate) fn tell(&mut self, telling: &Telling) {
        match telling.step {
            Some(step) => self.done(step, &telling.words, telling.members.clone().into()),
            None => self.note(&telling.words),
        }
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
        let step = Step { name: step, duration_ms: millis(duration), proved };
        match (self.output, serde_json::to_value(&step)) {
            (Output::Jsonl, Ok(step)) => write_line(&stream_line(&step)),
            _ => self.steps.push(step),
        }
    }

    /// Something goes on that is not done yet. For people only.
    pub(crate) fn note(&self, words: &str) {
        self.print(&format!("  {:>9}  {:<13} {words}", "", ""));
    }

    /// The end: what came of it, under the name `result`, or why nothing did. For people its `summary`,
    /// if it has one.
    pub(crate) fn finish(self, result: &str, outcome: Result<&Value, &CliError>) {
        let total = self.began.elapsed();
        if self.output == Output::Text {
            if let Some(words) = outcome.ok().and_then(|members| members["summary"].as_str()) {
                self.print(&format!("\n  done in {}: {words}", seconds(total)));
            }
            return;
        }
        let mut document = json!({ "schemaVersion": SCHEMA_VERSION, "ok": outcome.is_ok() });
        if self.output == Output::Json {
            document["steps"] = json!(self.steps);
        }
        document["totalMs"] = millis(total).into();
        match outcome {
            Ok(members) => document[result] = members.clone(),
            Err(error) => document["error"] = error_json(error),
        }
        write_document(self.output, &document);
    }

    fn print(&self, line: &str) {
        if self.output == Output::Text {
            match &self.progress {
                None => write_line(line),
                Some(progress) => progress.line(line),
            }
        }
    }
}

/// One line of a stream for machines.
pub(crate) fn stream_line(members: &Value) -> String {
    let mut line = Map::from_iter([("schemaVersion".to_owned(), SCHEMA_VERSION.into())]);
    line.extend(members.as_object().cloned().unwrap_or_default());
    Value::from(line).to_string()
}

/// A document for machines: on several lines where it is the only one.
pub(crate) fn write_document(output: Output, document: &Value) {
    match output {
        Output::Jsonl => write_line(&document.to_string()),
        _ => write_line(&format!("{document:#}")),
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
