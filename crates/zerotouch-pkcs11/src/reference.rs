//! Where a key is, as people write it on a command line or in a file of settings.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use zeroize::Zeroizing;
use zerotouch_credentials::{PrivateKey, PrivateKeyError, Signer};

#[cfg(feature = "token")]
use crate::signer::{Pkcs11Error, Pkcs11Signer};
use crate::uri::{KeyUri, KeyUriError};

/// The longest key file that is read. RSA of 4,096 bits comes to a twentieth; a bundle may have its chain
/// beside the key.
const MAX_FILE_LEN: usize = 64 * 1024;

/// A private key in a file, or in a token: what begins with `pkcs11:` is a URI, everything else a path.
///
/// ```
/// use zerotouch_pkcs11::KeyReference;
///
/// let file: KeyReference = "/etc/press/identity.pem".parse()?;
/// assert!(matches!(file, KeyReference::File(_)));
/// let token: KeyReference = "pkcs11:object=identity?module-path=/usr/lib/softhsm/libsofthsm2.so".parse()?;
/// assert!(matches!(token, KeyReference::Token(_)));
/// # Ok::<(), zerotouch_pkcs11::KeyUriError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyReference {
    /// A file: PEM or DER of PKCS#8, SEC1 or PKCS#1.
    File(PathBuf),
    /// A key in a token.
    Token(Box<KeyUri>),
}

/// Why the key that is referred to cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyReferenceError {
    /// The file cannot be read.
    #[error("the key file {path} cannot be read: {source}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds no key of ours.
    #[error("{path}: {source}")]
    Key {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        source: PrivateKeyError,
    },
    /// The key in the token cannot be used.
    #[cfg(feature = "token")]
    #[error(transparent)]
    Token(#[from] Pkcs11Error),
    /// The feature `token` is off.
    #[cfg(not(feature = "token"))]
    #[error("this build knows no keys in tokens, only in files")]
    NoTokens,
}

impl FromStr for KeyReference {
    type Err = KeyUriError;

    fn from_str(text: &str) -> Result<Self, KeyUriError> {
        match text.parse() {
            Ok(uri) => Ok(Self::Token(Box::new(uri))),
            Err(KeyUriError::Scheme) => Ok(Self::from(Path::new(text))),
            Err(error) => Err(error),
        }
    }
}

impl From<&Path> for KeyReference {
    fn from(path: &Path) -> Self {
        Self::File(path.to_path_buf())
    }
}

impl fmt::Display for KeyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Token(uri) => match (&uri.object, &uri.token) {
                (Some(object), Some(token)) => write!(f, "key {object} of token {token}"),
                (Some(object), None) => write!(f, "key {object} of a token"),
                (None, _) => f.write_str("a key of a token"),
            },
        }
    }
}

impl KeyReference {
    /// Opens the key, for whatever it is to sign.
    pub fn open(&self) -> Result<Arc<dyn Signer>, KeyReferenceError> {
        match self {
            #[cfg(feature = "token")]
            Self::Token(uri) => Ok(Arc::new(Pkcs11Signer::open(uri)?)),
            #[cfg(not(feature = "token"))]
            Self::Token(_) => Err(KeyReferenceError::NoTokens),
            Self::File(path) => {
                let bytes = read(path)
                    .map_err(|source| KeyReferenceError::Read { path: path.clone(), source })?;
                let key = PrivateKey::from_bytes(&bytes)
                    .map_err(|source| KeyReferenceError::Key { path: path.clone(), source })?;
                Ok(Arc::new(key))
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Reserved at once, so that growing the buffer leaves no unwiped copy of the key.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_LEN + 1));
    File::open(path)?.take(MAX_FILE_LEN as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE_LEN {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large for a key"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<KeyReference, KeyUriError> {
        text.parse()
    }

    // A path must not be taken for a URI, nor a broken URI for a path.
    #[test]
    fn tells_files_from_tokens() {
        for path in ["key.pem", "/a/b", "pkcs11", "C:\\key.pem", "./pkcs11:x", "file:key"] {
            assert_eq!(parse(path), Ok(KeyReference::File(path.into())), "{path}");
        }
        assert!(matches!(parse("PKCS11:id=%01?module-path=m"), Ok(KeyReference::Token(_))));
        assert_eq!(parse("pkcs11:object=x"), Err(KeyUriError::NoModule));
    }

    // Whoever reads the message must know which file, and no byte of what is in it.
    #[test]
    fn files_that_hold_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            KeyReference::File(path).open().unwrap_err()
        };
        let no_pem = file("words", b"my secret");
        assert!(matches!(&no_pem, KeyReferenceError::Key { source: PrivateKeyError::NotPem, .. }));
        let words = format!("{no_pem} {no_pem:?}");
        assert!(words.contains("words: no private key found") && !words.contains("secret"));
        assert!(matches!(
            file("large", &vec![b'x'; MAX_FILE_LEN + 1]),
            KeyReferenceError::Read { source, .. } if source.kind() == io::ErrorKind::FileTooLarge
        ));
        let missing = KeyReference::File(directory.path().join("nothing")).open().unwrap_err();
        assert!(missing.to_string().contains("nothing cannot be read"), "{missing}");
        assert!(KeyReference::File(directory.path().into()).open().is_err(), "a directory");
    }
}
