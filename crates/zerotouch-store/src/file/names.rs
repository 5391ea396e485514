//! The names of the store's files.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::record::MAX_NUMBER;

/// The record of a change that brought no key.
pub(crate) const POINTER: &str = "identity.json";
/// Space held from the request of a certificate to its arrival.
pub(crate) const RESERVE: &str = "reserve";
/// Held by the process that has the store open.
pub(crate) const LOCK: &str = "lock";
/// How temporary files are named at the front; the rest is unpredictable.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp-";
/// How files are named at the front that could not be read.
const DAMAGED_PREFIX: &str = "damaged-";

pub(crate) type Names = Vec<String>;

/// What a name in the store's directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A file with a record.
    Recorded(Recorded),
    /// A file that is nothing any more.
    Leftover,
    /// A generation that was damaged; its number is spent.
    DamagedGeneration(u64),
    /// None of the store's business.
    Foreign,
}

/// A file with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    Pointer,
    Pending(u64),
    Generation(u64),
}

/// The name of a generation's bundle.
pub(crate) fn generation_name(number: u64) -> String {
    format!("generation-{number}.pem")
}

/// The name of the bundle of a key that waits for the certificate of generation `number`.
pub(crate) fn pending_name(number: u64) -> String {
    format!("pending-{number}.pem")
}

/// The `attempt`-th name that evidence may get.
pub(crate) fn damaged_name(name: &str, attempt: usize) -> String {
    if attempt == 0 {
        return format!("{DAMAGED_PREFIX}{name}");
    }
    format!("{DAMAGED_PREFIX}{attempt}-{name}")
}

impl Name {
    pub(crate) fn parse(name: &str) -> Self {
        if name == POINTER {
            return Self::Recorded(Recorded::Pointer);
        }
        if name == RESERVE || name.starts_with(TEMPORARY_PREFIX) {
            return Self::Leftover;
        }
        if name.starts_with(DAMAGED_PREFIX) {
            let generation = name.find("generation-").and_then(|at| number(&name[at..]));
            return generation.map_or(Self::Foreign, Self::DamagedGeneration);
        }
        let Some(number) = number(name) else { return Self::Foreign };
        // Only what the store would have written itself: no leading zeros, no signs.
        if name == generation_name(number) {
            Self::Recorded(Recorded::Generation(number))
        } else if name == pending_name(number) {
            Self::Recorded(Recorded::Pending(number))
        } else {
            Self::Foreign
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let (_, number) = name.strip_suffix(".pem")?.rsplit_once('-')?;
    number.parse().ok().filter(|number| *number < MAX_NUMBER)
}

/// Whether `registration_id` is safe as the name of a directory: the service's alphabet (letters,
/// digits, `-`, `.`, `_`, `:`), at most 128 characters, not beginning with a dot.
pub(crate) fn is_directory_name(registration_id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    (1..=128).contains(&registration_id.len())
        && registration_id.bytes().all(allowed)
        && !registration_id.starts_with('.')
}

/// What is filled with nothing: incompressible, because some file systems for flash compress.
pub(crate) fn padding(len: usize) -> Vec<u8> {
    // Numerical Recipes' linear congruential generator.
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    // Whatever lies in the directory, the store sweeps and reads only what it has written.
    #[test]
    fn names_are_the_stores_own_or_foreign() {
        for recorded in [Recorded::Pending(7), Recorded::Generation(12), Recorded::Pointer] {
            let name = match recorded {
                Recorded::Pending(number) => pending_name(number),
                Recorded::Generation(number) => generation_name(number),
                Recorded::Pointer => POINTER.to_string(),
            };
            assert_eq!(Name::parse(&name), Name::Recorded(recorded));
        }
        for attempt in [0, 1, 12] {
            let damaged = damaged_name(&generation_name(3), attempt);
            assert_eq!(Name::parse(&damaged), Name::DamagedGeneration(3), "{damaged}");
            assert_eq!(Name::parse(&damaged_name(POINTER, attempt)), Name::Foreign);
        }
        for leftover in [".tmp-0123", "reserve"] {
            assert_eq!(Name::parse(leftover), Name::Leftover, "{leftover}");
        }
        for foreign in [
            "lock",
            "notes.txt",
            "generation-.pem",
            "generation-03.pem",
            "generation-+3.pem",
            "generation-3.pem.bak",
            "generation-99999999999999999999.pem",
            "my-generation-3.pem",
            "generation-18446744073709551615.pem",
            "",
        ] {
            assert_eq!(Name::parse(foreign), Name::Foreign, "{foreign}");
        }
    }

    // What compresses to nothing reserves nothing.
    #[test]
    fn padding_does_not_compress() {
        let mut bytes = padding(4096);
        bytes.sort_unstable();
        bytes.dedup();
        assert!(bytes.len() > 250, "only {} values", bytes.len());
    }
}
