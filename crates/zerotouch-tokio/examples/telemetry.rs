//! Registers by symmetric key, connects to the hub with it, sends so many messages, each once the one
//! before is acknowledged, stays connected for a while and leaves: all on one thread.
//!
//!     telemetry HOST ID_SCOPE REGISTRATION_ID DEVICE_KEY CA_FILE MESSAGES SECONDS
//!
//! `CA_FILE` has the roots to trust and nothing else: that of `zerotouch emulator`, for one.

use std::error::Error;
use std::time::Duration;

use zerotouch_credentials::SymmetricKey;
use zerotouch_device::{Attestation, Config, HubCredential};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_hub::Telemetry;
use zerotouch_store::MemoryStore;
use zerotouch_tls::Roots;
use zerotouch_tokio::Device;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, id_scope, registration_id, key, ca_file, messages, seconds] = &arguments[..] else {
        return Err("HOST ID_SCOPE REGISTRATION_ID DEVICE_KEY CA_FILE MESSAGES SECONDS".into());
    };
    let attestation = Attestation::SymmetricKey(SymmetricKey::from_base64(key)?);
    let (id_scope, registration_id) =
        (IdScope::new(id_scope)?, RegistrationId::new(registration_id)?);
    let mut config = Config::new(id_scope, registration_id, attestation);
    config.provisioning_host.clone_from(host);
    config.hub.hosts.allow(host);
    // No certificate is asked for.
    config.hub.credential = HubCredential::Bootstrap;
    let roots = Roots::Pem(std::fs::read(ca_file)?);
    let (device, _) = Device::builder(config).roots(roots).connect(MemoryStore::new()).await?;
    for number in 0..messages.parse::<u32>()? {
        device.send_telemetry(Telemetry::new(format!("{{\"number\":{number}}}"))).await?;
    }
    tokio::time::sleep(Duration::from_secs(seconds.parse()?)).await;
    device.close().await;
    Ok(())
}
