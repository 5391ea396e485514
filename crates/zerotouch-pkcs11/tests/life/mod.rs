//! A device whose keys are made in the token, over real sockets: provisioned, renewed, and started again.

use std::path::Path;
use std::sync::Arc;

use zerotouch_blocking::Device;
use zerotouch_credentials::{KeyAlgorithm, KeySlots};
use zerotouch_device::{Attestation, Config};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_emulator::Emulator;
use zerotouch_hub::Telemetry;
use zerotouch_pkcs11::{KeyUriError, Pkcs11Error, Pkcs11Slots};
use zerotouch_store::{FileStore, Key, Store};
use zerotouch_tls::Roots;

use crate::{cause, uri_text};

const ID: &str = "press-7";

fn slots(directory: &Path) -> Pkcs11Slots {
    let slot = |label: &str| uri_text(directory, &format!("object={label}"));
    Pkcs11Slots::new([slot("slot-a"), slot("slot-b")]).unwrap()
}

fn connect(emulator: &Emulator, algorithm: KeyAlgorithm, directory: &Path) -> Device {
    let key = emulator.group_key("default-group").unwrap().derive(ID);
    let mut config = Config::new(
        IdScope::new(&emulator.id_scope()).unwrap(),
        RegistrationId::new(ID).unwrap(),
        Attestation::SymmetricKey(key),
    );
    config.provisioning_host = "localhost".into();
    config.provisioning_port = emulator.port();
    config.hub.port = emulator.port();
    config.hub.hosts.allow("localhost");
    config.key_algorithm = algorithm;
    config.key_slots = Some(Arc::new(slots(directory)));
    let builder = Device::builder(config).roots(Roots::Pem(emulator.ca_pem().into()));
    builder.connect(FileStore::open(&directory.join("state"), ID).unwrap()).unwrap().0
}

/// Where the keys of the stored identity are: the active one, and the one before.
fn stored(directory: &Path) -> (String, Vec<String>) {
    let identity = FileStore::open(&directory.join("state"), ID).unwrap().load().unwrap();
    let place = |key: &Key| match key {
        Key::Reference(reference) => {
            let uri = reference.uri();
            uri[uri.find("slot-").unwrap()..][..6].to_owned()
        }
        Key::Software(_) => panic!("a key in software"),
    };
    let previous = identity.previous.iter().map(|one| place(&one.key)).collect();
    (place(&identity.active.as_ref().unwrap().key), previous)
}

/// Two slots take turns, whatever the kind of key; what they hold signs in TLS after a restart, too.
pub(crate) fn a_device_lives_by_its_token(directory: &Path) {
    let emulator = Emulator::builder().seed(1).start().unwrap();
    for (algorithm, active, before) in [
        (KeyAlgorithm::EcdsaP384, "slot-a", "slot-b"),
        (KeyAlgorithm::EcdsaP256, "slot-b", "slot-a"),
    ] {
        let device = connect(&emulator, algorithm, directory);
        let times = if algorithm == KeyAlgorithm::EcdsaP384 { 2 } else { 1 };
        for _ in 0..times {
            device.renew().unwrap();
            device.send_telemetry(Telemetry::new("signed for by the token")).unwrap();
        }
        device.close();
        assert_eq!(stored(directory), (active.into(), vec![before.into()]));
    }

    // What is in use is never touched.
    let slots = slots(directory);
    let in_use = ["slot-a", "slot-b"].map(|label| uri_text(directory, &format!("object={label}")));
    let in_use = in_use.each_ref().map(String::as_str);
    assert!(!slots.has_room(&in_use) && slots.has_room(&in_use[1..]));
    let full = slots.create(KeyAlgorithm::EcdsaP256, &in_use).map(|_| Vec::new());
    assert!(matches!(cause(full), Pkcs11Error::NoFreeSlot));
    let stranger = slots.open("pkcs11:object=identity-256").map(|_| Vec::new());
    assert!(matches!(cause(stranger), Pkcs11Error::Key { found: 0 }));
    let by_id = Pkcs11Slots::new([uri_text(directory, "id=%01")]).unwrap_err();
    assert_eq!(by_id, KeyUriError::NoKey);
}

/// A token counts wrong PINs and locks itself; a device tries again for ever.
pub(crate) fn a_refused_pin_is_tried_once(directory: &Path) {
    let wrong = uri_text(directory, "object=slot-a").replace("/pin", "/wrong-pin");
    let slots = Pkcs11Slots::new([wrong.clone()]).unwrap();
    let opened = || cause(slots.open(&wrong).map(|_| Vec::new()));
    assert!(matches!(opened(), Pkcs11Error::Login { .. }));
    assert!(matches!(opened(), Pkcs11Error::PinRefused));
}
