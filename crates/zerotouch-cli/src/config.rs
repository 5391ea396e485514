//! `zerotouch config`: what is set, and whether a device can be made of it.

use serde_json::{Map, Value, json};

use crate::arguments::{Config, ConfigCommand, Output};
use crate::failure::CliError;
use crate::settings::{Origin, Settings, Shown};
use crate::timeline::{error_json, write_document, write_line};

pub(crate) fn run(arguments: &Config) -> Result<(), CliError> {
    match &arguments.command {
        ConfigCommand::Show(show) => {
            print(&show.settings, show.output);
            Ok(())
        }
        ConfigCommand::Validate(validate) => {
            let outcome = validate.settings.setup().map(drop);
            match (validate.output, &outcome) {
                (Output::Text, Ok(())) => write_line("a device can be made of these settings"),
                (Output::Text, Err(_)) => {}
                (output, outcome) => {
                    let mut document = json!({ "schemaVersion": 1, "ok": outcome.is_ok() });
                    if let Err(error) = outcome {
                        document["error"] = error_json(error);
                    }
                    write_document(output, &document);
                }
            }
            outcome
        }
    }
}

fn print(settings: &Settings, output: Output) {
    if output != Output::Text {
        let values: Map<String, Value> =
            settings.shown.iter().map(|(name, shown)| (name.clone(), json(shown))).collect();
        return write_document(output, &json!({ "schemaVersion": 1, "settings": values }));
    }
    for (name, shown) in &settings.shown {
        let values = match shown.values.as_slice() {
            [] => "-".into(),
            values => values.join(", "),
        };
        write_line(&format!("{name:<22} {values:<44} {}", shown.origin));
    }
}

fn json(shown: &Shown) -> Value {
    let value = match shown.values.as_slice() {
        [] => Value::Null,
        [value] => value.as_str().into(),
        values => json!(values),
    };
    let origin = match &shown.origin {
        Origin::Flag(_) => "flag",
        Origin::Environment(_) => "environment",
        Origin::File { .. } => "file",
        Origin::Default => "default",
    };
    let mut shown_json = json!({ "value": value, "origin": origin });
    match &shown.origin {
        Origin::File { path, line } => {
            shown_json["file"] = path.display().to_string().into();
            shown_json["line"] = (*line).into();
        }
        Origin::Environment(name) => shown_json["variable"] = name.as_str().into(),
        Origin::Flag(_) | Origin::Default => {}
    }
    shown_json
}
