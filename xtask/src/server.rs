//! A server that runs while something is measured.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::process::Result;

/// A server that ends with this.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) port: u16,
    pub(crate) ca_file: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// An emulator on a free port that accepts connections, and what it says of itself.
    pub(crate) fn emulator<'a>(
        zerotouch: &Path,
        options: impl IntoIterator<Item = &'a OsStr>,
    ) -> Result<(Self, Value)> {
        let mut child = Command::new(zerotouch)
            .args(["emulator", "--port", "0", "--output", "json"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("no output")?;
        BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
        let ready: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        let port = ready["port"].as_u64().and_then(|port| port.try_into().ok());
        let port = port.ok_or("the emulator named no port")?;
        let ca_file = ready["caFile"].as_str().unwrap_or_default().into();
        Ok((Self { child, port, ca_file }, ready))
    }

    /// In KiB.
    pub(crate) fn resident(&self) -> Result<u32> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.ok_or_else(|| "no VmRSS".into())
    }

    /// In milliseconds, since it began.
    pub(crate) fn processor_time(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        let mut ticks = || fields.next().and_then(|field| field.parse::<f64>().ok());
        let both = ticks().zip(ticks()).ok_or("no processor time")?;
        Ok((both.0 + both.1) * 10.0)
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
    }
}
