//! Secrets by reference: what stands on a command line is seen by everybody on the machine.

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
}

impl FromStr for SecretReference {
    type Err = String;

    /// The text is not repeated in the error: it may be the secret.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            _ if text == "-" => Ok(Self::StandardInput),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("env", name)) if !name.is_empty() => Ok(Self::Environment(name.into())),
            _ => Err(
                "a secret is given as file:PATH, env:NAME or - (standard input), never as text: \
                      a command line is visible to others and stays in the shell's history"
                    .into(),
            ),
        }
    }
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::StandardInput => f.write_str("standard input"),
        }
    }
}

impl SecretReference {
    /// Reads a symmetric key.
    pub(crate) fn read_key(&self) -> Result<SymmetricKey, CliError> {
        let unreadable = |reason: String| CliError::Secret { reference: self.to_string(), reason };
        let mut text = Zeroizing::new(String::new());
        let read = match self {
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

    // A key typed as text must be refused without being repeated.
    #[test]
    fn literals_are_refused_without_an_echo() {
        let key = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lE=";
        let refusal = SecretReference::from_str(key).unwrap_err();
        assert!(!refusal.contains(&key[..8]) && refusal.contains("file:PATH"));
        for text in ["", "file:", "env:", "pass:x", "--"] {
            assert!(SecretReference::from_str(text).is_err(), "{text}");
        }
        assert_eq!(SecretReference::from_str("-"), Ok(SecretReference::StandardInput));
        assert_eq!(SecretReference::from_str("file:a:b"), Ok(SecretReference::File("a:b".into())));
    }
}
