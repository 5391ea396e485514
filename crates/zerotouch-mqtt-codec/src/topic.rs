//! Topic names and topic filters: what may be written (section 4.7), and which filter matches which
//! name.

use core::fmt;

use crate::scan;
use crate::text::as_text;

/// The longest topic name or filter, in bytes of UTF-8 `[MQTT-4.7.3-3]`.
pub const MAX_TOPIC_LEN: usize = 65_535;

/// Why a string is no topic name or no topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// It has no characters.
    #[error("a topic has at least one character [MQTT-4.7.3-1]")]
    Empty,
    /// It is longer than 65,535 bytes.
    #[error("the topic has {length} bytes, the most is 65535 [MQTT-4.7.3-3]")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It contains U+0000.
    #[error("U+0000 at byte {position} of the topic [MQTT-4.7.3-2]")]
    Nul {
        /// Where, in bytes from its start.
        position: usize,
    },
    /// It is a topic name and contains `+` or `#`.
    #[error("wildcard at byte {position} of a topic name [MQTT-4.7.1-1]")]
    WildcardInName {
        /// Where, in bytes from its start.
        position: usize,
    },
    /// It is a topic filter with a `#` that is not a whole level, or not the last.
    #[error("`#` at byte {position} of a topic filter is not its whole last level [MQTT-4.7.1-2]")]
    MultiLevelWildcard {
        /// Where, in bytes from its start.
        position: usize,
    },
    /// It is a topic filter with a `+` that is not a whole level.
    #[error("`+` at byte {position} of a topic filter is not a whole level [MQTT-4.7.1-3]")]
    SingleLevelWildcard {
        /// Where, in bytes from its start.
        position: usize,
    },
}

/// A topic name: what a message is published to.
///
/// 1 to 65,535 bytes, without U+0000 and without wildcards. A topic known beforehand can be checked
/// when the program is compiled:
///
/// ```
/// use zerotouch_mqtt_codec::TopicName;
///
/// const STATUS: TopicName<'static> = match TopicName::new("plant/7/status") {
///     Ok(topic) => topic,
///     Err(_) => panic!("not a topic name"),
/// };
/// assert_eq!(STATUS.as_str(), "plant/7/status");
/// assert!(TopicName::new("plant/+/status").is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks a topic name.
    #[inline]
    pub const fn new(name: &'a str) -> Result<Self, TopicError> {
        match name_error(name.as_bytes()) {
            None => Ok(Self(name)),
            Some(error) => Err(error),
        }
    }

    /// The same as [`new`](Self::new), faster, and not for constants.
    #[inline(always)]
    pub(crate) fn from_wire(name: &'a str) -> Result<Self, TopicError> {
        let bytes = name.as_bytes();
        if (1..=MAX_TOPIC_LEN).contains(&bytes.len()) && scan::is_plain(bytes) {
            Ok(Self(name))
        } else {
            Self::new(name)
        }
    }

    /// A name that was checked before and kept as its bytes.
    #[cfg(feature = "bytes")]
    pub(crate) const fn checked_before(name: &'a str) -> Self {
        Self(name)
    }

    /// The name as text.
    #[inline]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

/// A topic filter: what a client subscribes to.
///
/// 1 to 65,535 bytes, without U+0000; `+` stands for one whole level, `#` for all levels from there
/// on and must be last.
///
/// ```
/// use zerotouch_mqtt_codec::{TopicFilter, TopicName};
///
/// let filter = TopicFilter::new("plant/+/status/#")?;
/// assert!(filter.matches(TopicName::new("plant/7/status")?));
/// assert!(filter.matches(TopicName::new("plant/7/status/door/open")?));
/// assert!(!filter.matches(TopicName::new("plant/7/speed")?));
/// # Ok::<(), zerotouch_mqtt_codec::TopicError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    /// Checks a topic filter.
    #[inline]
    pub const fn new(filter: &'a str) -> Result<Self, TopicError> {
        match filter_error(filter.as_bytes()) {
            None => Ok(Self(filter)),
            Some(error) => Err(error),
        }
    }

    /// The same as [`new`](Self::new), faster, and not for constants: most filters are plain but for a
    /// wildcard that is their last level.
    #[inline(always)]
    pub(crate) fn from_wire(filter: &'a str) -> Result<Self, TopicError> {
        match filter.as_bytes() {
            [before @ .., b'/', b'#' | b'+'] if scan::is_plain(before) => Ok(Self(filter)),
            bytes if !bytes.is_empty() && scan::is_plain(bytes) => Ok(Self(filter)),
            _ => Self::new(filter),
        }
    }

    /// A filter that was checked before and kept as its bytes.
    pub(crate) const fn checked_before(filter: &'a str) -> Self {
        Self(filter)
    }

    /// The filter as text.
    #[inline]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether it contains a wildcard, so that it may match more than one topic name.
    pub const fn has_wildcard(self) -> bool {
        // A filter has no U+0000, so what is found is a wildcard.
        scan::find_nul_or_wildcard(self.0.as_bytes()).is_some()
    }

    /// Whether a message published to `name` goes to this filter.
    ///
    /// Compares level by level, character by character, without normalisation `[MQTT-4.7.3-4]`.
    /// `a/#` matches `a` itself (section 4.7.1.2). A filter that begins with a wildcard does not match
    /// a name that begins with `$` `[MQTT-4.7.2-1]`. Time is linear, whatever the levels.
    pub fn matches(self, name: TopicName<'_>) -> bool {
        if name.0.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = name.0.split('/');
        for wanted in self.0.split('/') {
            if wanted == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

/// What is wrong with a topic name, if anything is.
const fn name_error(bytes: &[u8]) -> Option<TopicError> {
    if let Some(error) = length_error(bytes) {
        return Some(error);
    }
    match scan::find_nul_or_wildcard(bytes) {
        None => None,
        Some(position) if bytes[position] == 0 => Some(TopicError::Nul { position }),
        Some(position) => Some(TopicError::WildcardInName { position }),
    }
}

/// What is wrong with a topic filter, if anything is.
const fn filter_error(bytes: &[u8]) -> Option<TopicError> {
    if let Some(error) = length_error(bytes) {
        return Some(error);
    }
    let mut rest = bytes;
    while let Some(found) = scan::find_nul_or_wildcard(rest) {
        let position = bytes.len() - rest.len() + found;
        let begins_level = position == 0 || bytes[position - 1] == b'/';
        let is_last = position + 1 == bytes.len();
        match bytes[position] {
            b'#' if begins_level && is_last => return None,
            b'#' => return Some(TopicError::MultiLevelWildcard { position }),
            b'+' if begins_level && (is_last || bytes[position + 1] == b'/') => {}
            b'+' => return Some(TopicError::SingleLevelWildcard { position }),
            _ => return Some(TopicError::Nul { position }),
        }
        (_, rest) = rest.split_at(found + 1);
    }
    None
}

const fn length_error(bytes: &[u8]) -> Option<TopicError> {
    match bytes.len() {
        0 => Some(TopicError::Empty),
        1..=MAX_TOPIC_LEN => None,
        length => Some(TopicError::TooLong { length }),
    }
}

as_text!(TopicName or TopicError, TopicFilter or TopicError);
