//! A cloud on this machine, and what a device must know of it.

use std::error::Error;
use std::time::Duration;

use zerotouch_device::{Attestation, Config};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_driver::{Dialler, Network};
use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::CloudEvent;
use zerotouch_tls::Roots;

pub(crate) struct LocalCloud(Emulator);

impl LocalCloud {
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        Ok(Self(Emulator::builder().start()?))
    }

    /// A device of the default group.
    pub(crate) fn config(&self, id: &str) -> Result<Config, Box<dyn Error>> {
        let group = self.0.group_key("default-group").ok_or("no default group")?;
        let mut config = Config::new(
            IdScope::new(&self.0.id_scope())?,
            RegistrationId::new(id)?,
            Attestation::SymmetricKey(group.derive(id)),
        );
        config.provisioning_host = "localhost".into();
        config.provisioning_port = self.0.port();
        config.hub.port = self.0.port();
        config.hub.hosts.allow("localhost");
        Ok(config)
    }

    pub(crate) fn dialler(&self) -> Result<Dialler, Box<dyn Error>> {
        Ok(Dialler::new(&Roots::Pem(self.0.ca_pem().into()), Network::default())?)
    }

    /// From which devices telemetry has arrived.
    pub(crate) fn heard(&self) -> Vec<String> {
        let events = std::iter::from_fn(|| self.0.next_event(Duration::ZERO));
        let sender = |event| match event {
            CloudEvent::Telemetry { device_id, .. } => Some(device_id),
            _ => None,
        };
        events.filter_map(sender).collect()
    }
}
