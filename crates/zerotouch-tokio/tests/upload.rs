//! A file goes to the hub's storage over HTTPS, by certificate and by token.

#![cfg(feature = "file-upload")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use zerotouch_device::{Attestation, Config, HubCredential};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::{CloudEvent, DpsSettings, Fixture};
use zerotouch_hub::UploadError as Refused;
use zerotouch_store::MemoryStore;
use zerotouch_tls::Roots;
use zerotouch_tokio::{Builder, Device, UploadError};

const ID: &str = "pump-17";
const PATIENCE: Duration = Duration::from_secs(30);

fn builder(emulator: &Emulator, credential: HubCredential) -> Builder {
    let key = emulator.group_key("default-group").unwrap().derive(ID);
    let mut config = Config::new(
        IdScope::new(&emulator.id_scope()).unwrap(),
        RegistrationId::new(ID).unwrap(),
        Attestation::SymmetricKey(key),
    );
    config.provisioning_host = "localhost".into();
    config.provisioning_port = emulator.port();
    config.hub.port = emulator.port();
    config.hub.https_port = emulator.port();
    config.hub.hosts.allow("localhost");
    config.hub.credential = credential;
    Device::builder(config).roots(Roots::Pem(emulator.ca_pem().into()))
}

fn emulator() -> Emulator {
    let dps = DpsSettings { retry_after: Duration::ZERO, ..DpsSettings::default() };
    Emulator::builder().fixture(Fixture { dps, ..Fixture::default() }).seed(1).start().unwrap()
}

/// Waits until the hub was told of an upload; yields its name and the hash of what is there.
fn uploaded(emulator: &Emulator) -> (String, Option<String>) {
    loop {
        let event = emulator.next_event(PATIENCE).expect("the hub is told nothing");
        if let CloudEvent::FileUploaded { blob_name, sha256, .. } = event {
            return (blob_name, sha256);
        }
    }
}

// More than one record of TLS, and more than one read of the server's.
#[tokio::test]
async fn a_file_is_uploaded() {
    let file = vec![7; 100_000];
    let expected =
        Some("2c4b101169bf328cd4a882e640a8b57eb3acf76518b3d105869905cf629e791c".to_owned());
    for credential in [HubCredential::Issued, HubCredential::Bootstrap] {
        let emulator = emulator();
        let (device, _events) =
            builder(&emulator, credential).connect(MemoryStore::new()).await.unwrap();
        let name = device.upload_file("logs/a b.bin", file.clone()).await.unwrap();
        assert_eq!(name, "pump-17/logs/a b.bin");
        assert_eq!(uploaded(&emulator), (name, expected.clone()));
        device.close().await;
        let after = device.upload_file("x", file.clone()).await;
        assert!(matches!(after, Err(UploadError::Stopped)), "{after:?}");
    }
}

// What cannot be a name is refused before anybody is asked.
#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    let emulator = emulator();
    let (device, _events) =
        builder(&emulator, HubCredential::Issued).connect(MemoryStore::new()).await.unwrap();
    let refused = device.upload_file("", []).await;
    assert!(matches!(refused, Err(UploadError::Failed(Refused::BlobName))), "{refused:?}");
    device.close().await;
}
