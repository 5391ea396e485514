//! Files of certificates and requests that a person names.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;
use zerotouch_credentials::{Certificate, CertificateChain};

use crate::failure::CliError;

/// The longest file that is read: a hundred times what a chain comes to.
const MAX_LEN: usize = 1024 * 1024;

/// A file's bytes. They wipe themselves, as a key may stand beside what is looked for.
pub(crate) fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Reserved at once, so that growing the buffer leaves no unwiped copy.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN + 1));
    File::open(path)?.take(MAX_LEN as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_LEN {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large for that"));
    }
    Ok(bytes)
}

/// A file of certificates.
pub(crate) struct CertificateFile {
    pub(crate) chain: CertificateChain,
    /// Whether there is a private key in it as well.
    pub(crate) holds_key: bool,
}

impl CertificateFile {
    /// Reads PEM, leaf first, whatever stands between; or the DER of one certificate.
    pub(crate) fn open(path: &Path) -> Result<Self, CliError> {
        let unreadable = |reason: String| CliError::Certificate { path: path.into(), reason };
        let bytes = read(path).map_err(|error| unreadable(error.to_string()))?;
        if bytes.first() == Some(&0x30) {
            let certificate = Certificate::from_der(&bytes);
            let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
            let chain = CertificateChain::new(vec![certificate]).ok_or(CliError::Stopped)?;
            return Ok(Self { chain, holds_key: false });
        }
        let text = str::from_utf8(&bytes).map_err(|_| unreadable("neither PEM nor DER".into()))?;
        // The block of a key that stands first is not shown to a parser that wipes nothing.
        let certificates = text.find("-----BEGIN CERTIFICATE-----").map_or("", |at| &text[at..]);
        let chain = CertificateChain::from_pem(certificates);
        Ok(Self {
            chain: chain.map_err(|error| unreadable(error.to_string()))?,
            holds_key: text.contains("PRIVATE KEY-----"),
        })
    }
}

/// The certificates of a file.
pub(crate) fn read_chain(path: &Path) -> Result<CertificateChain, CliError> {
    CertificateFile::open(path).map(|file| file.chain)
}
