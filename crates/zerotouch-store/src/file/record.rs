//! The record at the head of every file: which generation was what when the file was written.
//!
//! ```text
//! {
//!   "sha256": "…",          of everything after this line
//!   "format": 1,
//!   "registrationId": "press-7",
//!   "revision": 12,
//!   …
//! }
//! -----BEGIN PRIVATE KEY-----
//! ```
//!
//! `tail -n +3 FILE | sha256sum` says whether a file is as it was written. Every later format keeps
//! the first two lines, so that an older reader tells a newer file from a damaged one.

use std::string::{String, ToString};
use std::vec::Vec;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;
use zerotouch_dps::Assignment;

use super::error::DamageReason;

/// The only format so far. Another number means that readers of this one would misunderstand.
const FORMAT: u64 = 1;
/// Above every number in use: up to here every reader of JSON keeps numbers exact.
pub(crate) const MAX_NUMBER: u64 = 1 << 53;

const BEFORE_SUM: &str = "{\n  \"sha256\": \"";
const AFTER_SUM: &str = "\",\n";

/// What a device was, without its keys and chains. Members this version does not know are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) format: u64,
    pub(crate) registration_id: String,
    /// Of all records that can be read, the one with the highest revision counts.
    pub(crate) revision: u64,
    pub(crate) last_generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) assignment: Option<Assignment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<PendingEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) staged: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) active: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) previous: Vec<u64>,
    /// The address of this file's key, where that is in hardware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_reference: Option<String>,
}

/// A pending key's file, and the request made for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PendingEntry {
    pub(crate) generation: u64,
    pub(crate) request_id: String,
}

/// Why a file's record is not used.
#[derive(Debug)]
pub(crate) enum RecordError {
    Damage(DamageReason),
    NewerFormat(u64),
    OtherRegistration(String),
}

impl Record {
    /// A record of a device that is nobody.
    pub(crate) fn new(registration_id: &str, revision: u64, last_generation: u64) -> Self {
        Self {
            format: FORMAT,
            registration_id: registration_id.to_string(),
            revision,
            last_generation,
            assignment: None,
            pending: None,
            staged: None,
            active: None,
            previous: Vec::new(),
            key_reference: None,
        }
    }

    /// The file that consists of this record and `body`.
    pub(crate) fn encode(&self, body: &str) -> serde_json::Result<Zeroizing<String>> {
        if !self.is_in_bounds() {
            return Err(serde::ser::Error::custom("the numbers are used up"));
        }
        let json = serde_json::to_string_pretty(self)?;
        // A pretty object begins with a brace and a line break, where the checksum goes.
        let members = json.strip_prefix("{\n").unwrap_or(&json);
        let sum = checksum(&[members, "\n", body]);
        let parts = [BEFORE_SUM, &sum, AFTER_SUM, members, "\n", body];
        // Reserved at once, so that growing the buffer leaves no unwiped copy of a key.
        let len = parts.iter().map(|part| part.len()).sum();
        let mut text = Zeroizing::new(String::with_capacity(len));
        for part in parts {
            text.push_str(part);
        }
        Ok(text)
    }

    /// The record of a file, and what follows it.
    pub(crate) fn decode<'a>(
        bytes: &'a [u8],
        registration_id: &str,
    ) -> Result<(Self, &'a str), RecordError> {
        #[derive(Deserialize)]
        struct Format {
            format: u64,
        }

        let text = unsealed(bytes).ok_or(RecordError::Damage(DamageReason::Checksum))?;
        // The format first: what a later one means by the other members is not ours to guess.
        let (Format { format }, _) = first_value(text)?;
        if format > FORMAT {
            return Err(RecordError::NewerFormat(format));
        }
        let (record, body): (Self, _) = first_value(text)?;
        if record.registration_id != registration_id {
            return Err(RecordError::OtherRegistration(record.registration_id));
        }
        if !record.is_in_bounds() {
            return Err(not_a_record("a number is too large"));
        }
        Ok((record, body))
    }

    fn is_in_bounds(&self) -> bool {
        let pending = self.pending.as_ref().map(|entry| entry.generation);
        let others = [&self.revision, &self.last_generation];
        let generations = self.staged.iter().chain(&self.active).chain(&self.previous);
        generations.chain(&pending).chain(others).all(|number| *number < MAX_NUMBER)
    }
}

/// The text of a file whose checksum fits.
fn unsealed(bytes: &[u8]) -> Option<&str> {
    let text = core::str::from_utf8(bytes).ok()?;
    let (sum, rest) = text.strip_prefix(BEFORE_SUM)?.split_at_checked(64)?;
    (sum == checksum(&[rest.strip_prefix(AFTER_SUM)?])).then_some(text)
}

fn first_value<'a, T: Deserialize<'a>>(text: &'a str) -> Result<(T, &'a str), RecordError> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    let value = values.next().ok_or_else(|| not_a_record("it is empty"))?;
    let value = value.map_err(|error| not_a_record(&error.to_string()))?;
    Ok((value, &text[values.byte_offset()..]))
}

fn not_a_record(reason: &str) -> RecordError {
    RecordError::Damage(DamageReason::Record(reason.to_string()))
}

/// The checksum of a text in parts, in lower-case hex as `sha256sum` prints it.
fn checksum(parts: &[&str]) -> String {
    let mut sum = Sha256::new();
    for part in parts {
        sum.update(part);
    }
    let digits = sum.finalize().into_iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Gives an edited file the checksum that fits it, as a person who edits files would.
#[cfg(test)]
pub(crate) fn reseal(text: &str) -> String {
    let members = &text[BEFORE_SUM.len() + 64 + AFTER_SUM.len()..];
    [BEFORE_SUM, &checksum(&[members]), AFTER_SUM, members].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Numbers are counted up from what is read: one that leaves no room would overflow, or be read
    // back as another.
    #[test]
    fn numbers_without_room_are_neither_read_nor_written() {
        let text = Record::new("press-7", 1234, 0).encode("").unwrap();
        for (number, readable) in [(MAX_NUMBER - 1, true), (MAX_NUMBER, false), (u64::MAX, false)] {
            let crafted = reseal(&text.replace("1234", &number.to_string()));
            let read = Record::decode(crafted.as_bytes(), "press-7");
            assert_eq!(read.is_ok(), readable, "{number}");
            let record = Record { staged: Some(number), ..Record::new("press-7", 1, 0) };
            assert_eq!(record.encode("").is_ok(), readable, "{number}");
        }
    }
}
