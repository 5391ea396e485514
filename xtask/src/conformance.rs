//! The normative statements of MQTT 3.1.1 and the tests that bear their numbers.
//!
//! `MQTT-3.1.2-22` is shown by every test named `mqtt_3_1_2_22` or, where there is more than one view of
//! it, `mqtt_3_1_2_22_client` and the like, in the crates of the codec and the engines.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use crate::process::{Result, root};

/// A row of the list.
struct Statement {
    id: String,
    /// Why it cannot apply; empty if it does.
    not_applicable: String,
}

/// Runs the tests, prints statement, tests and result, and fails unless every statement that applies is
/// shown.
pub(crate) fn run() -> Result {
    let statements = statements()?;
    let mut results = test_results()?;
    let mut faults = Vec::new();
    println!("{:<15} {:<8} tests", "statement", "result");
    for Statement { id, not_applicable } in &statements {
        let tests = take_tests_of(id, &mut results);
        let verdict = match (tests.is_empty(), not_applicable.is_empty()) {
            (true, true) => "missing",
            (true, false) => "n/a",
            (false, false) => "listed",
            (false, true) if tests.values().all(|passed| *passed) => "ok",
            (false, true) => "FAILED",
        };
        if !matches!(verdict, "ok" | "n/a") {
            faults.push(format!("{id} is {verdict}"));
        }
        let names: Vec<_> = tests.keys().map(String::as_str).collect();
        let shown = if names.is_empty() { not_applicable.clone() } else { names.join(" ") };
        println!("{id:<15} {verdict:<8} {shown}");
    }
    faults.extend(results.into_keys().map(|test| format!("{test} names no statement")));
    println!("{} statements", statements.len());
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n       ")) }
}

fn statements() -> Result<Vec<Statement>> {
    let path = root().join("docs/mqtt-conformance.csv");
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let rows = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    rows.map(|row| match &fields(row)[..] {
        [id, _, _, not_applicable] => {
            Ok(Statement { id: id.clone(), not_applicable: not_applicable.clone() })
        }
        _ => Err(format!("{}: not four fields: {row}", path.display())),
    })
    .collect()
}

/// The fields of a line of CSV (RFC 4180, no line breaks in fields).
fn fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let (mut field, mut quoted) = (String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

/// Runs all tests that are named after a statement: which passed.
fn test_results() -> Result<BTreeMap<String, bool>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // A test that fails is a result like any other, so the status of the run is not asked for.
    let output = Command::new(cargo)
        // All of the workspace, of which these are run: as it was built for all the other tests.
        .args(["test", "--workspace", "--all-features", "--locked", "--no-fail-fast"])
        .args(["--test", "codec", "--test", "session", "--", "mqtt_"])
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo test: {error}"))?;
    let mut results = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((name, passed)) = result(line) {
            // The codec and the engines may show the same statement under the same name.
            *results.entry(name.to_owned()).or_insert(true) &= passed;
        }
    }
    if results.is_empty() { Err("cargo test ran no test".into()) } else { Ok(results) }
}

/// A line of libtest's: the test's name without its modules, and whether it passed.
fn result(line: &str) -> Option<(&str, bool)> {
    let (path, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let name = path.rsplit("::").next()?;
    name.starts_with("mqtt_").then_some((name, outcome == "ok"))
}

fn take_tests_of(id: &str, results: &mut BTreeMap<String, bool>) -> BTreeMap<String, bool> {
    let (tests, others) =
        std::mem::take(results).into_iter().partition(|(test, _)| shows(test, id));
    *results = others;
    tests
}

/// Is this the statement's number, alone or with the name of a view behind it?
fn shows(test: &str, id: &str) -> bool {
    let number = id.to_lowercase().replace(['-', '.'], "_");
    match test.strip_prefix(&number) {
        Some("") => true,
        Some(rest) => rest
            .strip_prefix('_')
            .is_some_and(|view| view.starts_with(|first: char| first.is_ascii_alphabetic())),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `MQTT-3.1.2-2` must not be taken for shown by a test of `MQTT-3.1.2-22`.
    #[test]
    fn a_test_shows_its_own_statement_only() {
        assert!(shows("mqtt_3_1_2_2", "MQTT-3.1.2-2"));
        assert!(shows("mqtt_3_1_2_2_server", "MQTT-3.1.2-2"));
        assert!(!shows("mqtt_3_1_2_22", "MQTT-3.1.2-2"));
        assert!(!shows("mqtt_3_1_2_2_2", "MQTT-3.1.2-2"));
    }

    #[test]
    fn results_are_read_as_libtest_writes_them() {
        assert_eq!(result("test a::b::mqtt_1_5_3_1 ... ok"), Some(("mqtt_1_5_3_1", true)));
        assert_eq!(result("test mqtt_1_5_3_1 ... FAILED"), Some(("mqtt_1_5_3_1", false)));
        assert_eq!(result("test mqtt_1_5_3_1 ... ignored"), Some(("mqtt_1_5_3_1", false)));
        assert_eq!(result("test broker::other ... ok"), None);
        assert_eq!(result("test result: ok. 1 passed"), None);
    }
}
