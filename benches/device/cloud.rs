//! An emulator in a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use zerotouch_credentials::SymmetricKey;
use zerotouch_device::{Attestation, Config};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::{DpsSettings, Fixture, Quota};
use zerotouch_tls::Roots;

use crate::Result;

/// What makes this program the cloud.
pub(crate) const ARGUMENT: &str = "--cloud";

/// Serves until nobody holds the other end of its standard input.
pub(crate) fn serve() -> Result {
    // Throttling is not what is measured.
    let registrations = Quota { count: 10_000, period: Duration::from_secs(1) };
    let dps = DpsSettings { retry_after: Duration::ZERO, registrations, ..DpsSettings::default() };
    let emulator = Emulator::builder().fixture(Fixture { dps, ..Fixture::default() }).start()?;
    let group = emulator.group_key("default-group").ok_or("no default group")?;
    let ready = json!({
        "port": emulator.port(),
        "idScope": emulator.id_scope(),
        "groupKey": *group.to_base64(),
        "authority": emulator.ca_pem(),
    });
    println!("{ready}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A running cloud, and what a device must know of it.
pub(crate) struct Cloud {
    process: Child,
    port: u16,
    id_scope: String,
    group_key: SymmetricKey,
    authority: String,
}

impl Cloud {
    pub(crate) fn start() -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = process.stdout.take().ok_or("the cloud's output is not ours")?;
        BufReader::new(output).read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line)?;
        let text = |name: &str| ready[name].as_str().ok_or("the cloud is not ready");
        Ok(Self {
            port: u16::try_from(ready["port"].as_u64().ok_or("no port")?)?,
            id_scope: text("idScope")?.into(),
            group_key: SymmetricKey::from_base64(text("groupKey")?)?,
            authority: text("authority")?.into(),
            process,
        })
    }

    /// A device of the default group.
    pub(crate) fn config(&self, id: &str) -> Result<Config> {
        let attestation = Attestation::SymmetricKey(self.group_key.derive(id));
        let mut config =
            Config::new(IdScope::new(&self.id_scope)?, RegistrationId::new(id)?, attestation);
        config.provisioning_host = "localhost".into();
        config.provisioning_port = self.port;
        config.hub.port = self.port;
        config.hub.hosts.allow("localhost");
        Ok(config)
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::Pem(self.authority.clone().into())
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // It ends with its standard input; whoever cannot wait for it need not.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
