//! How the commands for a running emulator find it: a file of its owner's, named by its port, with what it
//! said when it was ready.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::remote::RemoteError;
use crate::output_file::{self, Kind};

/// The file of a running emulator. Dropping it removes the file.
pub(super) struct RunFile(PathBuf);

impl Drop for RunFile {
    fn drop(&mut self) {
        // Whoever reads one that is left finds nobody at its port.
        let _ = fs::remove_file(&self.0);
    }
}

/// Leaves word of an emulator. Where that cannot be had it is done without, and said.
pub(super) fn write(port: u16, ready: &str) -> Option<RunFile> {
    let written = path(port).map_err(|error| error.to_string()).and_then(|path| {
        output_file::write(&path, ready.as_bytes(), Kind::Secret, true)
            .map(|()| RunFile(path))
            .map_err(|error| error.to_string())
    });
    written
        .inspect_err(|error| {
            eprintln!("warning: the commands for a running emulator will not find it: {error}");
        })
        .ok()
}

/// What the emulator on a port said when it was ready.
pub(super) fn read(port: u16) -> Result<String, RemoteError> {
    path(port).and_then(fs::read_to_string).map_err(|_| RemoteError::NoEmulator { port })
}

fn path(port: u16) -> io::Result<PathBuf> {
    Ok(directory()?.join(format!("emulator-{port}.json")))
}

/// A directory that is the user's alone.
fn directory() -> io::Result<PathBuf> {
    #[cfg(unix)]
    if let Some(directory) = std::env::var_os("XDG_RUNTIME_DIR").filter(|one| !one.is_empty()) {
        return own(&Path::new(&directory).join("zerotouch"));
    }
    #[cfg(unix)]
    let name = format!("zerotouch-{}", rustix::process::getuid().as_raw());
    // Elsewhere temporary files are the user's already.
    #[cfg(not(unix))]
    let name = "zerotouch";
    own(&std::env::temp_dir().join(name))
}

/// Makes the directory, or makes sure that nobody else has.
fn own(directory: &Path) -> io::Result<PathBuf> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let found = fs::symlink_metadata(directory)?;
    #[cfg(unix)]
    let is_own = {
        use std::os::unix::fs::MetadataExt;
        let is_mine = found.uid() == rustix::process::getuid().as_raw();
        let others = 0o077;
        is_mine && found.mode() & others == 0
    };
    #[cfg(not(unix))]
    let is_own = true;
    if found.is_dir() && is_own {
        Ok(directory.into())
    } else {
        let message = format!("{} is not a directory of yours alone", directory.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
    }
}
