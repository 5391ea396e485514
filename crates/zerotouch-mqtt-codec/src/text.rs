//! Text as a CONNECT carries it: client identifiers and user names (section 1.5.3).

use core::fmt;

use crate::scan;

/// The most bytes behind a length prefix of two.
pub(crate) const MAX_FIELD_LEN: usize = 65_535;

/// Why a string cannot be sent as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// It is longer than 65,535 bytes.
    #[error("the text has {length} bytes, the most is 65535 [section 1.5.3]")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It contains U+0000.
    #[error("U+0000 at byte {position} of the text [MQTT-1.5.3-2]")]
    Nul {
        /// Where, in bytes from its start.
        position: usize,
    },
}

/// A client identifier or a user name: up to 65,535 bytes without U+0000, perhaps none.
///
/// One known beforehand can be checked when the program is compiled:
///
/// ```
/// use zerotouch_mqtt_codec::Text;
///
/// const CLIENT_ID: Text<'static> = match Text::new("press-7") {
///     Ok(text) => text,
///     Err(_) => panic!("not a text"),
/// };
/// assert_eq!(CLIENT_ID.as_str(), "press-7");
/// assert!(Text::new("press\0").is_err());
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// Checks a text.
    #[inline]
    pub const fn new(text: &'a str) -> Result<Self, TextError> {
        if text.len() > MAX_FIELD_LEN {
            return Err(TextError::TooLong { length: text.len() });
        }
        match scan::find_nul(text.as_bytes()) {
            None => Ok(Self(text)),
            Some(position) => Err(TextError::Nul { position }),
        }
    }

    /// The same as [`new`](Self::new), faster, for a text whose length was two bytes.
    #[inline(always)]
    pub(crate) fn from_wire(text: &'a str) -> Result<Self, TextError> {
        if scan::is_text(text.as_bytes()) { Ok(Self(text)) } else { Self::new(text) }
    }

    /// A text that was checked before and kept as its bytes.
    #[cfg(feature = "bytes")]
    pub(crate) const fn checked_before(text: &'a str) -> Self {
        Self(text)
    }

    /// The text as a string.
    #[inline]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

/// What each type of checked text can do that a string can.
macro_rules! as_text {
    ($($text:ident or $error:ident),*) => {$(
        impl AsRef<str> for $text<'_> {
            fn as_ref(&self) -> &str {
                self.0
            }
        }

        impl<'a> TryFrom<&'a str> for $text<'a> {
            type Error = $error;

            fn try_from(text: &'a str) -> Result<Self, $error> {
                Self::new(text)
            }
        }

        impl fmt::Debug for $text<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Display for $text<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.0)
            }
        }
    )*};
}

pub(crate) use as_text;

as_text!(Text or TextError);
