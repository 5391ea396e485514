//! The promise of the file store, tested by enumeration: after any crash at any instant the store
//! opens to the identity before the change or after it, whole.

use std::collections::BTreeMap;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::simulated::{Contents, Fault, Simulated};
use super::vault::Vault;
use crate::model::Change;
use crate::testing::{assignment, begin, fingerprint, key, stage};

const ID: &str = "press-7";

fn open(directory: Simulated) -> Vault<Simulated> {
    Vault::open(directory, ID).unwrap()
}

/// A life: first identity, renewals, a refusal, a roll-back, the end. Each scenario of the store
/// occurs, each on the traces of those before.
fn life() -> Vec<Change> {
    let keys: Vec<_> = (0..6).map(key).collect();
    vec![
        begin(&keys[0]),
        stage(&keys[0], Some("first")),
        Change::Activate,
        begin(&keys[1]),
        stage(&keys[1], None),
        Change::Activate,
        begin(&keys[2]),
        Change::DiscardPending,
        begin(&keys[3]),
        stage(&keys[3], Some("second")),
        // A second answer before the first was tried.
        begin(&keys[4]),
        stage(&keys[4], None),
        Change::DiscardStaged,
        Change::RollBack,
        Change::Assign(assignment("third")),
        begin(&keys[5]),
        stage(&keys[5], None),
        Change::Activate,
        Change::Forget,
    ]
}

/// Opens what crashes left, each state once, and checks what comes out.
#[derive(Default)]
struct Inspector {
    seen: BTreeMap<Contents, String>,
}

impl Inspector {
    fn check(&mut self, contents: Contents, allowed: &[&String], when: &str) {
        let found = self.seen.entry(contents).or_insert_with_key(|contents| {
            let vault = Vault::open(Simulated::from_contents(contents), ID)
                .unwrap_or_else(|error| panic!("{when}: {error}; {:?}", contents.keys()));
            assert!(vault.damage().is_empty(), "{when}: {:?}", vault.damage());
            fingerprint(vault.identity())
        });
        assert!(allowed.contains(&&*found), "{when}: found {found}, allowed {allowed:#?}");
    }

    fn check_power_loss(&mut self, directory: &Simulated, allowed: &[&String], when: &str) {
        for contents in directory.after_power_loss() {
            self.check(contents, allowed, when);
        }
    }
}

/// Runs `change` with the fault after each number of operations in turn, until it strikes no more.
fn strike_each(
    before: &Simulated,
    change: &Change,
    fault: Fault,
    mut then: impl FnMut(usize, &Simulated, Vault<Simulated>, bool),
) {
    for operations in 0.. {
        let directory = before.fork();
        let mut vault = open(directory.clone());
        directory.arm(operations, fault);
        let applied = vault.apply(change).is_ok();
        if !directory.has_struck() {
            assert!(applied, "{change:?} failed without a fault");
            assert!(operations >= 5, "a change has fewer than five operations: {operations}");
            return;
        }
        then(operations, &directory, vault, applied);
    }
}

// A loss of power at any instant of any change; and a killed process, whose successor opens the
// store and then loses power in its turn.
#[test]
fn a_crash_leaves_the_old_or_the_new() {
    let mut inspector = Inspector::default();
    let world = Simulated::default();
    for (step, change) in life().iter().enumerate() {
        let old = fingerprint(open(world.fork()).identity());
        let mut vault = open(world.fork());
        vault.apply(change).unwrap();
        let new = fingerprint(vault.identity());

        strike_each(&world, change, Fault::Crash, |operations, directory, _, applied| {
            let when = std::format!("step {step}, after {operations} operations");
            // Once a change is reported, it stays.
            let allowed: &[_] = if applied { &[&new] } else { &[&old, &new] };
            inspector.check_power_loss(directory, allowed, &when);

            let killed = directory.fork();
            for more in 0.. {
                let successor = killed.fork();
                successor.arm(more, Fault::Crash);
                Vault::open(successor.clone(), ID).ok();
                inspector.check_power_loss(&successor, allowed, &when);
                if !successor.has_struck() {
                    break;
                }
            }
        });

        let mut vault = open(world.clone());
        vault.apply(change).unwrap();
        inspector.check_power_loss(&world, &[&new], "after the change");
    }
    assert!(inspector.seen.len() > 200, "only {} states were seen", inspector.seen.len());
}

// K7, K9, K21: a disk that is full or fails at any one operation. The change is refused and the old
// identity stands, on disk too; or it is done. Afterwards the same change succeeds.
#[test]
fn a_failed_operation_leaves_the_old_and_can_be_repeated() {
    let mut inspector = Inspector::default();
    let world = Simulated::default();
    for (step, change) in life().iter().enumerate() {
        let old = fingerprint(open(world.fork()).identity());
        let mut vault = open(world.fork());
        vault.apply(change).unwrap();
        let new = fingerprint(vault.identity());

        for fault in [Fault::Fail, Fault::FailLate] {
            strike_each(&world, change, fault, |operations, directory, mut vault, applied| {
                let when = std::format!("step {step}, {fault:?} after {operations} operations");
                let believed = fingerprint(vault.identity());
                assert_eq!(believed, if applied { new.clone() } else { old.clone() }, "{when}");
                let allowed: &[_] = if applied { &[&new] } else { &[&old, &new] };
                inspector.check_power_loss(directory, allowed, &when);

                if !applied {
                    vault.apply(change).unwrap_or_else(|error| panic!("{when}: {error}"));
                }
                inspector.check_power_loss(directory, &[&new], &when);
                let names = directory.shown();
                assert!(names.keys().all(|name| !name.starts_with('.')), "{when}: {names:?}");
            });
        }
        open(world.clone()).apply(change).unwrap();
    }
}

// A change that failed late may be on the disk. The next one is another change, whose bundle has
// the same name, and the power goes in the middle of it: neither may spoil the other.
#[test]
fn a_failed_change_does_not_spoil_the_next() {
    let mut inspector = Inspector::default();
    let world = Simulated::default();
    let (first, second) = (begin(&key(1)), begin(&key(2)));
    let none = fingerprint(open(world.fork()).identity());
    let after = |change: &Change| {
        let mut vault = open(world.fork());
        vault.apply(change).unwrap();
        fingerprint(vault.identity())
    };
    let (one, two) = (after(&first), after(&second));
    strike_each(&world, &first, Fault::FailLate, |at, directory, mut vault, applied| {
        if applied {
            return;
        }
        for operations in 0.. {
            let world = directory.fork();
            let mut vault = vault.over(world.clone());
            world.arm(operations, Fault::Crash);
            vault.apply(&second).ok();
            let when = std::format!("first failed at {at}, crash at {operations} of the second");
            inspector.check_power_loss(&world, &[&none, &one, &two], &when);
            if !world.has_struck() {
                break;
            }
        }
        vault.apply(&second).unwrap();
        inspector.check_power_loss(directory, &[&two], "after the second");
    });
}

// Keys of discarded generations do not stay behind.
#[test]
fn what_is_discarded_is_gone() {
    let world = Simulated::default();
    let mut vault = open(world.clone());
    for change in life() {
        vault.apply(&change).unwrap();
        let identity = vault.identity();
        let generations = [&identity.staged, &identity.active, &identity.previous];
        let expected =
            generations.into_iter().flatten().count() + usize::from(identity.pending.is_some());
        let shown = world.shown();
        let bundles = shown.keys().filter(|name| name.as_str() != "identity.json").count();
        assert_eq!(bundles, expected, "{change:?}: {:?}", shown.keys());
    }
}
