//! Keys that live in hardware: the store keeps the address and the certificate, two slots take turns.
//! After any crash every address in the identity holds the key that its certificate is for.

use std::collections::BTreeMap;
use std::format;
use std::fs;
use std::process::Command;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use tempfile::TempDir;
use zerotouch_credentials::{PrivateKey, Signer};

use super::FileStore;
use super::crashes::{ID, TERMS, open};
use super::simulated::{Fault, Simulated};
use super::vault::Vault;
use crate::key::{Key, KeyReference};
use crate::model::{Change, Identity};
use crate::store::Store;
use crate::testing::{fingerprint, key, stage};

const SLOTS: [&str; 2] = ["pkcs11:object=slot-a", "pkcs11:object=slot-b"];

/// What is in which slot. Writing one is one step, of the hardware's own.
type Slots = BTreeMap<String, Arc<PrivateKey>>;

fn references(identity: &Identity) -> Vec<KeyReference> {
    let generations = identity.staged.iter().chain(&identity.active).chain(&identity.previous);
    let keys = generations.map(|generation| &generation.key);
    let keys = keys.chain(identity.pending.iter().map(|pending| &pending.key));
    let reference = |key: &Key| match key {
        Key::Reference(reference) => reference.clone(),
        Key::Software(_) => panic!("{key:?}"),
    };
    keys.map(reference).collect()
}

fn spare(identity: &Identity) -> Option<&'static str> {
    let used = references(identity);
    SLOTS.into_iter().find(|slot| used.iter().all(|reference| reference.uri() != *slot))
}

/// Every address holds the key that is expected there.
fn holds(identity: &Identity, slots: &Slots) -> bool {
    let held = |reference: &KeyReference| {
        slots.get(reference.uri()).is_some_and(|key| key.public_key() == reference.public_key())
    };
    references(identity).iter().all(held)
}

// Protocol G of the crash table: four renewals through two slots, the power gone at any instant.
#[test]
fn k11_slots_hold_what_the_store_says() {
    let world = Simulated::default();
    let mut slots = Slots::new();
    let mut states = 0;
    let mut apply = |change: &Change, slots: &Slots| {
        let old = fingerprint(open(world.fork()).identity());
        let mut vault = open(world.fork());
        vault.apply(change).unwrap();
        let new = fingerprint(vault.identity());
        for operations in 0.. {
            let directory = world.fork();
            let mut vault = open(directory.clone());
            directory.arm(operations, Fault::Crash);
            let applied = vault.apply(change).is_ok();
            for contents in directory.after_power_loss() {
                let vault = Vault::open(Simulated::from_contents(&contents), ID, TERMS).unwrap();
                let found = fingerprint(vault.identity());
                assert!(found == new || !applied && found == old, "{change:?}: {found}");
                assert!(holds(vault.identity(), slots), "{change:?}: {:?}", vault.identity());
                states += 1;
            }
            if !directory.has_struck() {
                break;
            }
        }
        open(world.clone()).apply(change).unwrap();
    };
    for seed in 1..=4 {
        if spare(open(world.fork()).identity()).is_none() {
            apply(&Change::DiscardPrevious, &slots);
        }
        let slot = spare(open(world.fork()).identity()).unwrap();
        // The power may go before and after: the store says the same, and both must fit.
        slots.insert(slot.into(), key(seed));
        let identity = open(world.fork()).identity().clone();
        assert!(holds(&identity, &slots), "{identity:?}");

        let reference = KeyReference::new(slot, key(seed)).unwrap();
        apply(&Change::Begin { key: reference.into(), request_id: "3f1c".into() }, &slots);
        apply(&stage(&key(seed), Some("first")), &slots);
        apply(&Change::Activate, &slots);
    }
    assert!(states > 100, "only {states} states were seen");
    let identity = open(world.clone()).identity().clone();
    assert_eq!(identity.active.unwrap().number, 4);
    let shown = world.shown();
    let secret = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).contains("PRIVATE KEY");
    assert!(!shown.values().any(secret), "{:?}", shown.keys());
}

// On disk: an address, a public key and a chain that a person can read; in memory, after attaching,
// a key that signs. A slot that holds another key does not sign.
#[test]
fn a_key_in_hardware_outlives_the_process() {
    let state = TempDir::new().unwrap();
    let reference = KeyReference::new(SLOTS[0], key(1)).unwrap();
    let begin = Change::Begin { key: reference.into(), request_id: "3f1c".into() };
    let mut store = FileStore::open(state.path(), ID).unwrap();
    store.apply(&begin).unwrap();
    let pending = state.path().join(ID).join("pending-1.pem");
    assert!(fs::read_to_string(&pending).unwrap().contains(SLOTS[0]));
    let openssl = |arguments: &[&str], file| {
        let output = Command::new("openssl").args(arguments).arg("-in").arg(file).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let public = openssl(&["pkey", "-pubin", "-pubout"], pending);
    store.apply(&stage(&key(1), None)).unwrap();
    store.apply(&Change::Activate).unwrap();
    let generation = state.path().join(ID).join("generation-1.pem");
    assert_eq!(openssl(&["x509", "-noout", "-pubkey"], generation), public);
    drop(store);

    for (in_slot, signs) in [(key(1), true), (key(2), false)] {
        let mut store = FileStore::open(state.path(), ID).unwrap();
        let active = store.load().unwrap().active.unwrap();
        let error = active.key.signer().unwrap_err();
        assert!(format!("{error:?}").contains(SLOTS[0]), "{error:?}");
        store.attach(|reference| {
            assert_eq!(reference.uri(), SLOTS[0]);
            Some(Arc::clone(&in_slot) as _)
        });
        let active = store.load().unwrap().active.unwrap();
        let signer = active.key.signer();
        assert_eq!(signer.is_ok(), signs);
        if let Ok(signer) = signer {
            active.chain.prove_possession(&*signer).unwrap();
        }
    }
}
