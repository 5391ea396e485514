//! Files that are flipped, cut and mixed up: the store says which and what, uses what is left, and
//! keeps what it could not read; through crashes of the process that does so, too.

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::crashes::{ID, TERMS, life, open};
use super::error::{Condition, DamageReason};
use super::simulated::{Contents, Fault, Simulated};
use super::vault::Vault;
use crate::model::{Change, Identity};
use crate::testing::{assignment, begin, fingerprint, key, stage};

/// Two generations and a pending key, all in files; the identity, and the one before each change.
fn world() -> (Contents, Vec<String>) {
    let world = Simulated::default();
    let mut vault = open(world.clone());
    let mut past = vec![fingerprint(vault.identity())];
    for change in life().into_iter().take(7) {
        vault.apply(&change).unwrap();
        past.push(fingerprint(vault.identity()));
    }
    let contents = world.shown();
    let names: Vec<_> = contents.keys().map(String::as_str).collect();
    let expected =
        ["generation-1.pem", "generation-2.pem", "identity.json", "pending-3.pem", "reserve"];
    assert_eq!(names, expected);
    (contents, past)
}

/// What there must be when `name` is spoilt.
fn left_without(name: &str, identity: &Identity) -> bool {
    let active = identity.active.as_ref().map(|active| active.number);
    let previous: Vec<u64> = identity.previous.iter().map(|one| one.number).collect();
    let pending = identity.pending.is_some();
    match name {
        // The record is in the pending key's file as well, and newer there.
        "identity.json" => (active, &*previous, pending) == (Some(2), &[1], true),
        "generation-1.pem" => (active, &*previous, pending) == (Some(2), &[], true),
        "generation-2.pem" => (active, &*previous, pending) == (Some(1), &[], true),
        "pending-3.pem" => (active, &*previous, pending) == (Some(2), &[1], false),
        _ => false,
    }
}

// K14: whichever bit is flipped and wherever a file is cut, one file is named, the rest is used,
// and the bytes of that file are still there after the store has lived on.
#[test]
fn k14_any_flip_and_any_cut_costs_one_file() {
    let (contents, past) = world();
    let spoilt = |name: &String| {
        let bytes = contents[name].clone();
        // A step that meets every bit and no pattern of the text.
        let flips = (0..bytes.len() * 8).step_by(59).map({
            let bytes = bytes.clone();
            move |bit| {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            }
        });
        let cuts = (0..bytes.len()).step_by(97).map(move |len| bytes[..len].to_vec());
        flips.chain(cuts).collect::<Vec<_>>()
    };
    for name in contents.keys().filter(|name| *name != "reserve") {
        for bytes in spoilt(name) {
            let mut contents = contents.clone();
            contents.insert(name.clone(), bytes.clone());
            let world = Simulated::from_contents(&contents);
            let mut vault = open(world.clone());
            let [damage] = vault.damage() else { panic!("{name}: {:?}", vault.damage()) };
            assert_eq!(damage.reason, DamageReason::Checksum, "{name}");
            assert!(damage.path.ends_with(format!("damaged-{name}")), "{damage}");
            assert!(left_without(name, vault.identity()), "{name}: {:?}", vault.identity());
            assert_eq!(Condition::of(vault.identity(), vault.damage()), Condition::Damaged);
            if name == "pending-3.pem" {
                assert_eq!(fingerprint(vault.identity()), past[past.len() - 2]);
            }
            vault.apply(&Change::Assign(assignment("other"))).unwrap();
            vault.apply(&Change::Forget).unwrap();
            assert!(world.shown().values().any(|kept| *kept == bytes), "{name} is gone");
        }
    }
}

// K14: evidence does not take the place of evidence.
#[test]
fn k14_evidence_is_kept_beside_evidence() {
    let (contents, _) = world();
    let mut world = Simulated::from_contents(&contents);
    for round in 0..3 {
        let mut contents = world.shown();
        contents.insert("identity.json".into(), vec![round]);
        world = Simulated::from_contents(&contents);
        open(world.clone()).apply(&Change::Assign(assignment("other"))).unwrap();
    }
    let shown = world.shown();
    for (round, name) in
        ["damaged-identity.json", "damaged-1-identity.json", "damaged-2-identity.json"]
            .into_iter()
            .enumerate()
    {
        assert_eq!(shown[name], [u8::try_from(round).unwrap()]);
    }
}

// K14: a crash at any instant of the recovery itself, and of the first change after it, leaves the
// evidence, and an identity that was there before or is meant to come.
#[test]
fn k14_a_crash_while_recovering_loses_nothing_more() {
    let (contents, _) = world();
    for name in ["generation-2.pem", "identity.json", "pending-3.pem"] {
        let mut contents = contents.clone();
        let evidence = contents[name][1..].to_vec();
        contents.insert(name.into(), evidence.clone());
        let recovered = fingerprint(open(Simulated::from_contents(&contents)).identity());
        let change = Change::Assign(assignment("other"));
        let mut vault = open(Simulated::from_contents(&contents));
        vault.apply(&change).unwrap();
        let changed = fingerprint(vault.identity());
        for operations in 0.. {
            let world = Simulated::from_contents(&contents);
            world.arm(operations, Fault::Crash);
            if let Ok(mut vault) = Vault::open(world.clone(), ID, TERMS) {
                vault.apply(&change).ok();
            }
            for left in world.after_power_loss() {
                let when = format!("{name}, after {operations} operations: {:?}", left.keys());
                assert!(left.values().any(|kept| *kept == evidence), "{when}");
                let again = Simulated::from_contents(&left);
                let found = fingerprint(open(again.clone()).identity());
                assert!([&recovered, &changed].contains(&&found), "{when}: {found}");
                assert!(again.shown().values().any(|kept| *kept == evidence), "{when}");
            }
            if !world.has_struck() {
                assert!(operations >= 8, "only {operations} operations");
                break;
            }
        }
    }
}

// K14: a number that evidence has used up changes nothing for a key that waits.
#[test]
fn k14_evidence_of_a_later_generation_leaves_the_pending_key() {
    let (mut contents, _) = world();
    contents.insert("damaged-generation-7.pem".into(), vec![7]);
    let world = Simulated::from_contents(&contents);
    let mut vault = open(world.clone());
    assert_eq!(vault.identity().last_number, 7);
    vault.apply(&Change::Assign(assignment("other"))).unwrap();
    let found = open(world);
    assert!(found.damage().is_empty(), "{:?}", found.damage());
    assert_eq!(fingerprint(found.identity()), fingerprint(vault.identity()));
    assert!(found.identity().pending.is_some());
}

// K15: nothing that can be read is nobody, and no number is used again.
#[test]
fn k15_with_nothing_left_a_new_life_begins() {
    let (contents, _) = world();
    let spoilt = contents.iter().map(|(name, bytes)| (name.clone(), bytes[1..].to_vec())).collect();
    let world = Simulated::from_contents(&spoilt);
    let mut vault = open(world.clone());
    assert_eq!(Condition::of(vault.identity(), vault.damage()), Condition::Lost);
    let nobody = Identity { last_number: 2, ..Identity::default() };
    assert_eq!(fingerprint(vault.identity()), fingerprint(&nobody));
    for change in [begin(&key(8)), stage(&key(8), Some("other")), Change::Activate] {
        vault.apply(&change).unwrap();
    }
    assert_eq!(fingerprint(open(world).identity()), fingerprint(vault.identity()));
}
