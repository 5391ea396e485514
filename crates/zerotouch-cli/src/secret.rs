//! Secrets by reference: what stands on a command line is seen by everybody on the machine.

use std::convert::Infallible;
use std::env::VarError;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;
use zerotouch_credentials::SymmetricKey;
use zerotouch_tokio::Proxy;

use crate::failure::CliError;

/// The longest key is 64 bytes in base64; what is much longer is another file.
const MAX_LENGTH: usize = 4096;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretReference {
    File(PathBuf),
    Environment(String),
    /// What systemd hands to a service (`LoadCredential=`).
    Credential(String),
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
            Some(("credential", name)) if !name.is_empty() && !name.contains('/') => {
                Self::Credential(name.into())
            }
            _ => Self::Literal,
        })
    }
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Credential(name) => write!(f, "systemd credential {name}"),
            Self::StandardInput => f.write_str("standard input"),
            Self::Literal => f.write_str("the command line"),
        }
    }
}

impl SecretReference {
    /// Reads a symmetric key.
    pub(crate) fn read_key(&self) -> Result<SymmetricKey, CliError> {
        let text = self.read()?;
        SymmetricKey::from_base64(&text).map_err(|error| self.unreadable(error))
    }

    fn read(&self) -> Result<Zeroizing<String>, CliError> {
        let from = |source: &mut dyn Read| {
            // Reserved at once, so that growing leaves no unwiped copy.
            let mut text = Zeroizing::new(String::with_capacity(MAX_LENGTH));
            let read = source.take(MAX_LENGTH as u64).read_to_string(&mut text);
            read.map(|_| text).map_err(|error| self.unreadable(error))
        };
        let from_file =
            |path: &Path| from(&mut File::open(path).map_err(|error| self.unreadable(error))?);
        match self {
            Self::Literal => Err(CliError::LiteralSecret),
            Self::File(path) => from_file(path),
            Self::StandardInput => from(&mut std::io::stdin()),
            Self::Environment(name) => std::env::var(name)
                .map(Zeroizing::new)
                // Which may have the value in it.
                .map_err(|error| match error {
                    VarError::NotPresent => self.unreadable("it is not set"),
                    VarError::NotUnicode(_) => self.unreadable("it is no text"),
                }),
            Self::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(directory) => from_file(&Path::new(&directory).join(name)),
                None => Err(self.unreadable("systemd has given this process none")),
            },
        }
    }

    fn unreadable(&self, reason: impl fmt::Display) -> CliError {
        CliError::Secret { reference: self.to_string(), reason: reason.to_string() }
    }
}

/// A proxy's URL, or where one is that has a password in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProxyReference {
    Url(String),
    Secret(SecretReference),
}

impl FromStr for ProxyReference {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match SecretReference::from_str(text)? {
            SecretReference::Literal if !text.contains('@') => Self::Url(text.into()),
            reference => Self::Secret(reference),
        })
    }
}

impl fmt::Display for ProxyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Secret(reference) => reference.fmt(f),
        }
    }
}

impl ProxyReference {
    pub(crate) fn read(&self) -> Result<Proxy, CliError> {
        let url = match self {
            Self::Url(url) => Zeroizing::new(url.clone()),
            Self::Secret(SecretReference::Literal) => return Err(CliError::LiteralProxy),
            Self::Secret(reference) => reference.read()?,
        };
        Ok(Proxy::from_url(url.trim())?)
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
        assert_eq!(parse("credential:key"), SecretReference::Credential("key".into()));
        assert_eq!(parse("credential:../shadow").to_string(), "the command line");
    }
    // The same of a proxy's password.
    #[test]
    fn a_proxy_with_a_password_is_not_kept() {
        let proxy = ProxyReference::from_str("http://ann:hunter2@proxy:3128").unwrap();
        assert!(!format!("{proxy:?} {proxy}").contains("hunter2"));
        assert!(matches!(proxy.read(), Err(CliError::LiteralProxy)));
        assert!(ProxyReference::from_str("http://proxy:3128").unwrap().read().is_ok());
    }
}
