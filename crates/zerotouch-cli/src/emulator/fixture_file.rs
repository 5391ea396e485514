//! A fixture in TOML.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zerotouch_emulator::cloud::Fixture;

use crate::emulation::EmulationError;

/// Reads a fixture. A text that begins with `file:` stands for what is in that file, found from where
/// the fixture is: certificates and keys need not be copied into it.
pub(super) fn read(path: &Path) -> Result<Fixture, EmulationError> {
    let unreadable = |reason: String| EmulationError::Fixture { path: path.into(), reason };
    let mut text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let at = |error: &toml::de::Error, text: &str| {
        // Not the line itself, which may hold a key.
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        unreadable(format!("{line}{}", error.message()))
    };
    let mut references = Vec::new();
    let table = DeTable::parse(&text).map_err(|error| at(&error, &text))?;
    table.get_ref().values().for_each(|value| find(value, &mut references));
    // From the end, so that places before it stay as they are.
    references.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let directory = path.parent().unwrap_or(Path::new(""));
    for (span, file) in references {
        let file = directory.join(file);
        let contents = std::fs::read_to_string(&file)
            .map_err(|error| unreadable(format!("cannot read {}: {error}", file.display())))?;
        // On one line, so that lines stay what they are; a string in JSON is one in TOML.
        text.replace_range(span, &serde_json::Value::from(contents.trim()).to_string());
    }
    toml::from_str(&text).map_err(|error| at(&error, &text))
}

type Reference = (std::ops::Range<usize>, String);

fn find(value: &Spanned<DeValue<'_>>, references: &mut Vec<Reference>) {
    match value.get_ref() {
        DeValue::String(text) => {
            let file = text.strip_prefix("file:");
            references.extend(file.map(|file| (value.span(), file.into())));
        }
        DeValue::Array(values) => values.iter().for_each(|one| find(one, references)),
        DeValue::Table(table) => table.values().for_each(|one| find(one, references)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_text(text: &str) -> Result<Fixture, EmulationError> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join("key.txt"),
            "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lE=\n",
        )
        .unwrap();
        let path = directory.path().join("fixture.toml");
        fs::write(&path, text).unwrap();
        read(&path)
    }

    // What stands in other files is found; what is left out is as in the default fixture.
    #[test]
    fn keys_can_stand_elsewhere() {
        let fixture = read_text(
            r#"hubs = ["localhost", "127.0.0.2"]
               [[enrollmentGroups]]
               id = "line-4"
               attestation = { symmetricKeys = { primary = "file:key.txt" } }
               [[credentialPolicies]]
               name = "default"
               leafValidity = "36h"
            "#,
        )
        .unwrap();
        let group = format!("{:?}", fixture.enrollment_groups);
        assert!(group.contains("line-4") && !group.contains("8isr"), "{group}");
        assert_eq!(fixture.credential_policies[0].leaf_validity.as_secs(), 36 * 60 * 60);
        assert_eq!(fixture.id_scope, Fixture::DEFAULT_ID_SCOPE);
    }

    // At 3 a.m. a line number is worth a lot, and a key on the screen is worth a new one.
    #[test]
    fn says_where_it_is_wrong_and_shows_no_key() {
        for (text, words) in [
            ("hubs = [\n", "line 1: "),
            ("\n\nhosts = []\n", "line 3: unknown field `hosts`"),
            (
                "[[enrollmentGroups]]\nid = \"a\"\nattestation = { symmetricKeys = { primary = \"file:key.txt\", x = 1 } }",
                "line 3: unknown field `x`",
            ),
            ("idScope = \"file:nothing\"", "cannot read "),
            ("[[credentialPolicies]]\nname = \"a\"\nleafValidity = \"soon\"", "line 3: "),
        ] {
            let error = read_text(text).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("8isr"), "{error}");
        }
    }
}
