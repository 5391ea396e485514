//! Merging a patch, as the hub does: the merge patch of RFC 7396, whose arrays are replaced whole.

use alloc::string::String;

use serde_json::{Map, Value};

/// The deepest level that is merged; below it a patch replaces. The hub allows ten.
const MAX_DEPTH: usize = 32;

/// Merges a patch into properties, as the hub does (RFC 7396): `null` deletes, objects are merged, all else
/// replaces. For whoever keeps what was reported.
pub fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    merge_level(target, patch, MAX_DEPTH);
}

fn merge_level(target: &mut Map<String, Value>, patch: &Map<String, Value>, depth: usize) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(patch) if depth > 0 => {
                let member = target.entry(name.as_str()).or_insert_with(|| Map::new().into());
                if !member.is_object() {
                    *member = Map::new().into();
                }
                if let Value::Object(member) = member {
                    merge_level(member, patch, depth - 1);
                }
            }
            other => {
                target.insert(name.clone(), other.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The examples of RFC 7396, appendix A, whose target and patch are objects.
    #[test]
    fn merges_as_the_standard_does() {
        for (target, patch, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let parse = |text| serde_json::from_str::<Map<String, Value>>(text).unwrap();
            let mut merged = parse(target);
            merge(&mut merged, &parse(patch));
            assert_eq!(merged, parse(expected), "{target} {patch}");
        }
    }
}
