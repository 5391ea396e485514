//! A device twin: desired and reported properties, each with a version.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The largest reported or desired document the hub takes: 32 KiB of JSON.
pub(super) const MAX_DOCUMENT: usize = 32 * 1024;
/// The largest document of tags.
const MAX_TAGS: usize = 8 * 1024;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Twin {
    desired: Properties,
    reported: Properties,
    /// For the service alone.
    tags: Map<String, Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Properties {
    members: Map<String, Value>,
    version: u64,
}

/// Why a patch was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TwinError {
    /// There is no such device.
    #[error("there is no such device")]
    NoDevice,
    /// The patch is no JSON object.
    #[error("the patch is no JSON object")]
    NoObject,
    /// The document would be larger than 32 KiB, or that of the tags than 8 KiB.
    #[error("the document would be larger than {limit} bytes")]
    TooLarge {
        /// What is allowed.
        limit: usize,
    },
}

impl Default for Twin {
    fn default() -> Self {
        let empty = || Properties { members: Map::new(), version: 1 };
        Self { desired: empty(), reported: empty(), tags: Map::new() }
    }
}

impl Twin {
    /// Both documents, as the device reads them.
    pub(super) fn document(&self) -> Value {
        json!({ "desired": self.desired.document(), "reported": self.reported.document() })
    }

    /// The same with the tags, as the service reads it.
    pub(super) fn service_document(&self) -> Value {
        json!({ "tags": self.tags, "properties": self.document() })
    }

    /// Merges a patch of the service's into the tags.
    pub(super) fn tag(&mut self, patch: Map<String, Value>) -> Result<(), TwinError> {
        self.tags = merged(self.tags.clone(), patch, MAX_TAGS)?;
        Ok(())
    }

    /// Puts other tags into the place of those there are.
    pub(super) fn replace_tags(&mut self, tags: Map<String, Value>) -> Result<(), TwinError> {
        self.tags = merged(Map::new(), tags, MAX_TAGS)?;
        Ok(())
    }

    /// Puts other desired properties into the place of those there are; yields what the device is sent.
    pub(super) fn replace_desired(
        &mut self,
        properties: Map<String, Value>,
    ) -> Result<(u64, Value), TwinError> {
        let former = std::mem::take(&mut self.desired.members);
        let version = self.desired.merge(properties);
        if version.is_err() {
            self.desired.members = former;
        }
        Ok((version?, self.desired.document()))
    }

    /// Merges a patch of the device into the reported properties; yields their new version.
    pub(super) fn report(&mut self, patch: &[u8]) -> Result<u64, TwinError> {
        let patch = serde_json::from_slice(patch).map_err(|_| TwinError::NoObject)?;
        self.reported.merge(patch)
    }

    /// Merges a patch of the service's into the desired properties; yields what the device is sent.
    pub(super) fn desire(&mut self, patch: Map<String, Value>) -> Result<(u64, Value), TwinError> {
        let mut sent = patch.clone();
        let version = self.desired.merge(patch)?;
        sent.insert("$version".into(), version.into());
        Ok((version, Value::Object(sent)))
    }
}

impl Properties {
    fn document(&self) -> Value {
        let mut members = self.members.clone();
        members.insert("$version".into(), self.version.into());
        Value::Object(members)
    }

    fn merge(&mut self, patch: Map<String, Value>) -> Result<u64, TwinError> {
        self.members = merged(self.members.clone(), patch, MAX_DOCUMENT)?;
        self.version += 1;
        Ok(self.version)
    }
}

/// Members with a patch merged into them, if that is not too large.
fn merged(
    mut members: Map<String, Value>,
    patch: Map<String, Value>,
    limit: usize,
) -> Result<Map<String, Value>, TwinError> {
    merge(&mut members, patch);
    // Serialising a `Map` cannot fail.
    if serde_json::to_vec(&members).unwrap_or_default().len() > limit {
        return Err(TwinError::TooLarge { limit });
    }
    Ok(members)
}

/// JSON merge patch (RFC 7396); `$version` and its kin are the service's own. The depth is bounded
/// by the JSON parser.
pub(super) fn merge(members: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match value {
            _ if name.starts_with('$') => {}
            Value::Null => {
                members.remove(&name);
            }
            Value::Object(inner) => {
                let member = members.entry(name).or_insert(Value::Null);
                if !member.is_object() {
                    *member = Value::Object(Map::new());
                }
                if let Value::Object(member) = member {
                    merge(member, inner);
                }
            }
            value => {
                members.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The examples of RFC 7396 that a twin can see, and the version counting each change once.
    #[test]
    fn merges_as_the_standard_says() {
        let mut twin = Twin::default();
        assert_eq!(twin.report(br#"{"a":{"b":1,"c":2},"x":[1]}"#), Ok(2));
        assert_eq!(
            twin.report(br#"{"a":{"b":null,"d":{"e":null}},"x":{"y":1},"$version":99}"#),
            Ok(3)
        );
        assert_eq!(
            twin.document(),
            json!({"desired":{"$version":1},"reported":{"a":{"c":2,"d":{}},"x":{"y":1},"$version":3}})
        );
    }

    #[test]
    fn refuses_what_is_no_patch_and_stays_as_it_was() {
        let mut twin = Twin::default();
        assert_eq!(twin.report(b"[1]"), Err(TwinError::NoObject));
        assert_eq!(twin.report(b"{"), Err(TwinError::NoObject));
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_DOCUMENT));
        assert_eq!(twin.report(large.as_bytes()), Err(TwinError::TooLarge { limit: MAX_DOCUMENT }));
        assert_eq!(twin.document()["reported"], json!({"$version": 1}));
    }
}
