//! Secrets by reference: what stands on a command line is seen by everybody on the machine.

use std::convert::Infallible;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;

use zeroize::Zeroizing;
use zerotouch_credentials::SymmetricKey;

use crate::failure::CliError;

/// The longest key is 64 bytes in base64; what is much longer is another file.
const MAX_LENGTH: u64 = 4096;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretReference {
    File(PathBuf),
    Environment(String),
    StandardInput,
    /// Something else, perhaps the secret itself: it is not kept, and so cannot be repeated by
    /// anybody's error message.
    Literal,
}

impl FromStr for SecretReference {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once(':') {
            _ if text == "-" => Self::StandardInput,
            Some(("file", path)) if !path.is_empty() => Self::File(path.into()),
            Some(("env", name)) if !name.is_empty() => Self::Environment(name.into()),
            _ => Self::Literal,
        })
    }
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::StandardInput => f.write_str("standard input"),
            Self::Literal => f.write_str("the command line"),
        }
    }
}

impl SecretReference {
    /// Reads a symmetric key.
    pub(crate) fn read_key(&self) -> Result<SymmetricKey, CliError> {
        let unreadable = |reason: String| CliError::Secret { reference: self.to_string(), reason };
        let mut text = Zeroizing::new(String::new());
        let read = match self {
            Self::Literal => return Err(CliError::LiteralSecret),
            Self::File(path) => std::fs::File::open(path)
                .and_then(|file| file.take(MAX_LENGTH).read_to_string(&mut text)),
            Self::StandardInput => std::io::stdin().take(MAX_LENGTH).read_to_string(&mut text),
            Self::Environment(name) => {
                let value = std::env::var(name).map_err(|error| unreadable(error.to_string()))?;
                text = Zeroizing::new(value);
                Ok(text.len())
            }
        };
        read.map_err(|error| unreadable(error.to_string()))?;
        SymmetricKey::from_base64(&text).map_err(|error| unreadable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A key typed as text must be refused, and nobody may be able to repeat it.
    #[test]
    fn literals_are_not_kept() {
        let parse = |text| SecretReference::from_str(text).unwrap();
        for text in
            ["8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lE=", "", "file:", "env:", "pass:x", "--"]
        {
            assert_eq!(parse(text), SecretReference::Literal, "{text}");
        }
        assert!(matches!(parse("c2VjcmV0").read_key(), Err(CliError::LiteralSecret)));
        assert_eq!(parse("-"), SecretReference::StandardInput);
        assert_eq!(parse("file:a:b"), SecretReference::File("a:b".into()));
    }
}
