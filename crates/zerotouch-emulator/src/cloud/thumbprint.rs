//! Thumbprints as a registry has them: SHA-256, or SHA-1 as older ones do.

use std::fmt;
use std::str::FromStr;

use sha1::{Digest, Sha1};
use zerotouch_credentials::{Certificate, Thumbprint, ThumbprintError};

use super::namespace::hex;
use super::text_form::Text;

/// Names one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnyThumbprint {
    Sha256(Thumbprint),
    /// It names, and proves nothing: whoever can make two certificates with one of these has both keys.
    Sha1([u8; SHA1_LENGTH]),
}

const SHA1_LENGTH: usize = 20;

impl AnyThumbprint {
    pub(super) fn is_of(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Sha256(print) => *print == certificate.thumbprint(),
            Self::Sha1(print) => Sha1::digest(certificate.as_der())[..] == print[..],
        }
    }
}

impl From<Thumbprint> for AnyThumbprint {
    fn from(print: Thumbprint) -> Self {
        Self::Sha256(print)
    }
}

/// Upper-case hex digits: 64, or 40.
impl fmt::Display for AnyThumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(print) => print.fmt(f),
            Self::Sha1(print) => f.write_str(&hex(print).to_ascii_uppercase()),
        }
    }
}

/// Hex digits of either case.
impl FromStr for AnyThumbprint {
    type Err = ThumbprintError;

    fn from_str(text: &str) -> Result<Self, ThumbprintError> {
        if text.len() != 2 * SHA1_LENGTH {
            return text.to_ascii_uppercase().parse().map(Self::Sha256);
        }
        let mut print = [0; SHA1_LENGTH];
        for (byte, pair) in print.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(ThumbprintError);
            let value = digit(pair[0])? << 4 | digit(pair[1])?;
            *byte = u8::try_from(value).map_err(|_| ThumbprintError)?;
        }
        Ok(Self::Sha1(print))
    }
}

impl Text for AnyThumbprint {
    type Error = ThumbprintError;

    fn write(&self) -> Result<String, ThumbprintError> {
        Ok(self.to_string())
    }

    fn read(text: &str) -> Result<Self, ThumbprintError> {
        text.parse()
    }
}
