//! Running other programs.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What went wrong, in words for whoever runs a task by hand.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// The project's top folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A program to run in the project's top folder.
pub(crate) struct Process(Command);

pub(crate) fn process(program: impl AsRef<OsStr>) -> Process {
    let mut command = Command::new(program);
    command.current_dir(root());
    Process(command)
}

/// Cargo, the one that runs this task.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Process {
    process(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(arguments)
}

impl Process {
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(arguments);
        self
    }

    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.0.current_dir(directory);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs it; its output goes where this program's goes.
    pub(crate) fn run(mut self) -> Result {
        let status = self.0.status().map_err(|error| format!("{}: {error}", self.name()))?;
        if status.success() { Ok(()) } else { Err(format!("{} failed: {status}", self.name())) }
    }

    /// Runs it and yields what it wrote to its standard output.
    pub(crate) fn output(mut self) -> Result<String> {
        let output = self.0.stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| format!("{}: {error}", self.name()))?;
        if !output.status.success() {
            return Err(format!("{} failed: {}", self.name(), output.status));
        }
        String::from_utf8(output.stdout).map_err(|error| format!("{}: {error}", self.name()))
    }

    /// Runs it; what it wrote is told when it has ended, so that it does not mix with what others write.
    pub(crate) fn run_aside(mut self) -> Result {
        let output = self.0.output().map_err(|error| format!("{}: {error}", self.name()))?;
        let [out, errors] =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        println!("\n== {}\n{out}{errors}", self.name());
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("{} failed: {}", self.name(), output.status))
        }
    }

    /// Runs it until it has written a line to its standard output, and yields that.
    pub(crate) fn first_line(mut self) -> Result<String> {
        let child = self.0.stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("{}: {error}", self.name()))?;
        let mut line = String::new();
        let read = match child.stdout.take() {
            Some(output) => BufReader::new(output).read_line(&mut line),
            None => Ok(0),
        };
        // It may have ended already.
        let _ = child.kill();
        let status = child.wait().map_err(|error| format!("{}: {error}", self.name()))?;
        match read {
            Ok(0) => Err(format!("{} failed: {status}", self.name())),
            Ok(_) => Ok(line),
            Err(error) => Err(format!("{}: {error}", self.name())),
        }
    }

    /// Does it run at all, and silently?
    pub(crate) fn works(mut self) -> bool {
        self.0
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Is it there, whatever it makes of its arguments?
    pub(crate) fn starts(mut self) -> bool {
        self.0.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    }

    fn name(&self) -> String {
        let program = PathBuf::from(self.0.get_program());
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let arguments = self.0.get_args().map(OsStr::to_string_lossy);
        std::iter::once(name.into()).chain(arguments).collect::<Vec<_>>().join(" ")
    }
}

/// A check that cannot run here says so. On the machine that decides (`CI` is set) it has failed.
pub(crate) fn skipped(what: &str, why: &str) -> Result {
    let words = format!("skipped: {what}: {why}");
    if std::env::var_os("CI").is_some() {
        return Err(words);
    }
    println!("{words}");
    Ok(())
}
