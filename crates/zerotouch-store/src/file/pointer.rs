//! `identity.json`: which generation is what.

use std::string::{String, ToString};
use std::vec::Vec;

use serde::{Deserialize, Serialize};
use zerotouch_dps::Assignment;

/// The only format so far. Another number means that readers of this one would misunderstand.
const FORMAT: u64 = 1;

/// The content of `identity.json`. Members this version does not know are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pointer {
    pub(crate) format: u64,
    pub(crate) registration_id: String,
    pub(crate) last_generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) assignment: Option<Assignment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<PendingEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) staged: Option<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) active: Option<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<Entry>,
}

/// A generation and the checksum of its bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) generation: u64,
    pub(crate) sha256: String,
}

/// A pending key, the checksum of its bundle, and the request made for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PendingEntry {
    pub(crate) generation: u64,
    pub(crate) sha256: String,
    pub(crate) request_id: String,
}

/// Why a text is not a pointer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PointerError {
    Corrupt(String),
    NewerFormat(u64),
}

impl Pointer {
    /// The pointer of an identity that was never written.
    pub(crate) fn empty(registration_id: &str) -> Self {
        Self {
            format: FORMAT,
            registration_id: registration_id.to_string(),
            last_generation: 0,
            assignment: None,
            pending: None,
            staged: None,
            active: None,
            previous: None,
        }
    }

    pub(crate) fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    pub(crate) fn decode(bytes: &[u8], registration_id: &str) -> Result<Self, PointerError> {
        #[derive(Deserialize)]
        struct Format {
            format: u64,
        }

        let corrupt = |error: serde_json::Error| PointerError::Corrupt(error.to_string());
        // The format first: what a later one means by the other members is not ours to guess.
        let Format { format } = serde_json::from_slice(bytes).map_err(corrupt)?;
        if format > FORMAT {
            return Err(PointerError::NewerFormat(format));
        }
        let pointer: Self = serde_json::from_slice(bytes).map_err(corrupt)?;
        if pointer.registration_id != registration_id {
            return Err(PointerError::Corrupt("it belongs to another registration id".to_string()));
        }
        Ok(pointer)
    }
}
