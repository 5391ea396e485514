//! Identifiers, checked where they enter.

use alloc::string::String;
use core::fmt;

use thiserror::Error;

/// Why an identifier cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdError {
    /// It is empty.
    #[error("{what} is empty")]
    Empty {
        /// Which identifier.
        what: &'static str,
    },
    /// It is longer than the service takes.
    #[error("{what} has {length} characters, at most {limit} are allowed")]
    TooLong {
        /// Which identifier.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The service's limit.
        limit: usize,
    },
    /// It holds a character that the service does not take there.
    #[error("{what} holds {character:?} at position {position}, which is not allowed there")]
    Character {
        /// Which identifier.
        what: &'static str,
        /// The character.
        character: char,
        /// Its position, counted in characters from 0.
        position: usize,
    },
}

/// Checks length and alphabet; `allowed` is asked for every character and told whether it is the last.
fn check(
    what: &'static str,
    text: &str,
    limit: usize,
    allowed: impl Fn(char, bool) -> bool,
) -> Result<(), IdError> {
    let length = text.chars().count();
    if length == 0 {
        return Err(IdError::Empty { what });
    }
    if length > limit {
        return Err(IdError::TooLong { what, length, limit });
    }
    match text.chars().enumerate().find(|&(at, c)| !allowed(c, at + 1 == length)) {
        Some((position, character)) => Err(IdError::Character { what, character, position }),
        None => Ok(()),
    }
}

/// The name of a provisioning service instance, as in `0ne00000A0A`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdScope(String);

impl IdScope {
    /// At most 64 letters, digits and hyphens. The service publishes no rule; what it hands out is
    /// `0n`, a letter and hexadecimal digits.
    pub fn new(text: &str) -> Result<Self, IdError> {
        check("id scope", text, 64, |c, _| c.is_ascii_alphanumeric() || c == '-')?;
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name under which a device registers: up to 128 of `A–Z a–z 0–9 - . _ :`, the last a letter, a
/// digit or `-` (Azure docs, "X.509 certificate attestation"). The service compares without regard to
/// case; keys are derived from the text as given here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegistrationId(String);

impl RegistrationId {
    /// Takes `text` if it is within the service's alphabet and length.
    pub fn new(text: &str) -> Result<Self, IdError> {
        check("registration id", text, 128, |c, last| {
            c.is_ascii_alphanumeric() || c == '-' || (!last && matches!(c, '.' | '_' | ':'))
        })?;
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RegistrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The id ends up in topics, user names, certificates and directory names.
    #[test]
    fn registration_ids_keep_to_the_alphabet() {
        for good in ["a", "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6", "A.b_c:d-", &"x".repeat(128)] {
            assert!(RegistrationId::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a.",
            "a_",
            "a:",
            "a/b",
            "a b",
            "ä",
            "a+",
            "a#",
            "a\0",
            "..",
            "a&x=1",
            &"x".repeat(129),
        ] {
            assert!(RegistrationId::new(bad).is_err(), "{bad}");
        }
        assert_eq!(
            RegistrationId::new("ab/c"),
            Err(IdError::Character { what: "registration id", character: '/', position: 2 })
        );
    }
}
