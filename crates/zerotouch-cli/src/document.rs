//! The outcome of a command, for people or for machines.

use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::arguments::Output;
use crate::failure::CliError;
use crate::timeline::{error_json, write_document, write_line};

/// Tells what became of a command: `words` to people, to whom `main` tells the error, or a document that has
/// either what `json` has or the error.
pub(crate) fn tell<T>(
    output: Output,
    outcome: &Result<T, CliError>,
    words: impl FnOnce(&T) -> String,
    json: impl FnOnce(&T) -> Value,
) {
    let mut document = Map::from_iter([("schemaVersion".into(), 1.into())]);
    document.insert("ok".into(), outcome.is_ok().into());
    match (output, outcome) {
        (Output::Text, Ok(done)) => {
            // Names in certificates are whatever somebody wrote, and terminals obey control characters.
            let is_foreign = |c: char| c.is_control() && c != '\n';
            return write_line(&words(done).replace(is_foreign, "\u{fffd}"));
        }
        (Output::Text, Err(_)) => return,
        (_, Ok(done)) => {
            if let Value::Object(members) = json(done) {
                document.extend(members);
            }
        }
        (_, Err(error)) => {
            document.insert("error".into(), error_json(error));
        }
    }
    write_document(output, &Value::Object(document));
}

/// Writes what a command makes to standard output. A reader that went away early is no reason to fail.
pub(crate) fn write_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::Write { path: "standard output".into(), source: error })
        }
        _ => Ok(()),
    }
}
