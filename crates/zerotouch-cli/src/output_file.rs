//! Files that a command writes for its user.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use tempfile::Builder;

use crate::failure::CliError;

/// Who may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its owner alone.
    Secret,
    /// Everybody whom the umask lets.
    Public,
}

/// Writes a file that appears whole or not at all, with its mode from the first byte. What is there
/// already is replaced only by `force`, and then a link itself and not what it points to.
pub(crate) fn write(path: &Path, bytes: &[u8], kind: Kind, force: bool) -> Result<(), CliError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => CliError::Exists { path: path.into() },
        // Without the name of the temporary file, which means nothing to anybody.
        kind => CliError::Write { path: path.into(), source: kind.into() },
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let mut file = builder(kind).tempfile_in(directory).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    let kept = if force { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map_err(|error| failed(error.error))?;
    // What this says of a directory that cannot be synchronised changes nothing: the file is there.
    let _ = fs::File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

fn builder(kind: Kind) -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(".zerotouch-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = match kind {
            Kind::Secret => 0o600,
            Kind::Public => 0o644,
        };
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = kind;
    builder
}
