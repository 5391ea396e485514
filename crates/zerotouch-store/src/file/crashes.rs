//! The promise of the file store, tested by enumeration: after any crash at any instant the store
//! opens to the identity before the change or after it, whole. And the tests of that test: mistakes
//! in the vault, each of which must be noticed.

use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::careless::{Careless, Slip};
use super::simulated::{Contents, Fault, Simulated};
use super::vault::{Terms, Vault};
use crate::model::Change;
use crate::testing::{assignment, begin, fingerprint, key, stage};

pub(crate) const ID: &str = "press-7";
pub(crate) const TERMS: Terms = Terms { retained: 1, reserve: 8 };

pub(crate) fn open(directory: Simulated) -> Vault<Simulated> {
    Vault::open(directory, ID, TERMS).unwrap()
}

/// A life: first identity, renewals, a refusal, a roll-back, clean-up, another hub, the end. Each
/// scenario of the store occurs, each on the traces of those before.
pub(crate) fn life() -> Vec<Change> {
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
        // A request that waits while the answer before it is tried.
        begin(&keys[2]),
        Change::Activate,
        Change::DiscardPrevious,
        Change::Forget,
    ]
}

/// Opens what crashes left, each state once, and notes what should not come out.
#[derive(Default)]
struct Inspector {
    seen: BTreeMap<Contents, String>,
    violations: Vec<String>,
}

impl Inspector {
    fn check(&mut self, contents: Contents, allowed: &[&String], when: &str) {
        let found = self.seen.entry(contents).or_insert_with_key(|contents| {
            match Vault::open(Simulated::from_contents(contents), ID, TERMS) {
                Err(error) => format!("{error}; {:?}", contents.keys()),
                Ok(vault) if !vault.damage().is_empty() => format!("{:?}", vault.damage()),
                Ok(vault) => fingerprint(vault.identity()),
            }
        });
        if !allowed.contains(&&*found) {
            self.violations.push(format!("{when}: found {found}, allowed {allowed:#?}"));
        }
    }

    fn check_power_loss(&mut self, directory: &Simulated, allowed: &[&String], when: &str) {
        for contents in directory.after_power_loss() {
            self.check(contents, allowed, when);
        }
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(what());
        }
    }
}

/// Calls `then` with the world before each change of a life and the fingerprints before and after
/// it, until something is wrong.
fn live(
    inspector: &mut Inspector,
    slip: Option<Slip>,
    mut then: impl FnMut(&mut Inspector, &Simulated, &Change, &String, &String),
) {
    let world = Simulated::default();
    for change in life() {
        let old = fingerprint(open(world.fork()).identity());
        let mut vault = open(world.fork());
        vault.apply(&change).unwrap();
        let new = fingerprint(vault.identity());
        then(inspector, &world, &change, &old, &new);

        let mut vault = Vault::open(Careless::new(world.clone(), slip), ID, TERMS).unwrap();
        vault.apply(&change).unwrap();
        inspector.check_power_loss(&world, &[&new], &format!("after {change:?}"));
        if !inspector.violations.is_empty() {
            return;
        }
    }
}

/// Runs `change` with the fault after each number of operations in turn, until it strikes no more.
fn strike_each(
    before: &Simulated,
    change: &Change,
    slip: Option<Slip>,
    fault: Fault,
    mut then: impl FnMut(usize, &Simulated, Vault<Careless>, bool),
) {
    let opened = Vault::open(Careless::new(before.fork(), slip), ID, TERMS).unwrap();
    for operations in 0.. {
        let directory = before.fork();
        let mut vault = opened.over(Careless::new(directory.clone(), slip));
        directory.arm(operations, fault);
        let applied = vault.apply(change).is_ok();
        if !directory.has_struck() {
            assert!(applied, "{change:?} failed without a fault");
            assert!(slip.is_some() || operations >= 5, "{change:?}: only {operations} operations");
            return;
        }
        then(operations, &directory, vault, applied);
    }
}

/// A loss of power at any instant of any change; and a killed process, whose successor opens the
/// store and then loses power in its turn.
fn crash_everywhere(slip: Option<Slip>) -> Inspector {
    let mut inspector = Inspector::default();
    live(&mut inspector, slip, |inspector, world, change, old, new| {
        strike_each(world, change, slip, Fault::Crash, |operations, directory, _, applied| {
            let when = format!("{change:?}, after {operations} operations");
            // Once a change is reported, it stays.
            let allowed: &[_] = if applied { &[new] } else { &[old, new] };
            inspector.check_power_loss(directory, allowed, &when);

            let killed = directory.fork();
            for more in 0.. {
                let successor = killed.fork();
                successor.arm(more, Fault::Crash);
                Vault::open(Careless::new(successor.clone(), slip), ID, TERMS).ok();
                inspector.check_power_loss(&successor, allowed, &when);
                if !successor.has_struck() {
                    break;
                }
            }
        });
    });
    inspector
}

/// A fault at any one operation. The change is refused and the old identity stands, on disk too; or
/// it is done. Afterwards the same change succeeds, with nobody having cleaned up.
fn fail_everywhere(slip: Option<Slip>, fault: Fault) -> Inspector {
    let mut inspector = Inspector::default();
    live(&mut inspector, slip, |inspector, world, change, old, new| {
        strike_each(world, change, slip, fault, |operations, directory, mut vault, applied| {
            let when = format!("{change:?}, {fault:?} after {operations} operations");
            let believed = fingerprint(vault.identity());
            let right = if applied { new } else { old };
            inspector.expect(believed == *right, || format!("{when}: believed {believed}"));
            let allowed: &[_] = if applied { &[new] } else { &[old, new] };
            inspector.check_power_loss(directory, allowed, &when);

            directory.mend();
            if !applied {
                vault.apply(change).unwrap_or_else(|error| panic!("{when}: {error}"));
            }
            inspector.check_power_loss(directory, &[new], &when);
            open(directory.clone());
            let names = directory.shown();
            let temporary = names.keys().any(|name| name.starts_with('.'));
            inspector.expect(!temporary, || format!("{when}: {names:?}"));
        });
    });
    inspector
}

// K10, K11, K13.
#[test]
fn k11_a_crash_leaves_the_old_or_the_new() {
    let inspector = crash_everywhere(None);
    assert_eq!(inspector.violations.first(), None);
    assert!(inspector.seen.len() > 200, "only {} states were seen", inspector.seen.len());
}

// K6: a write that stops half-way and reports success is noticed before anything depends on it.
#[test]
fn k06_a_short_write_leaves_the_old_and_can_be_repeated() {
    assert_eq!(fail_everywhere(None, Fault::Short).violations.first(), None);
}

// K7, K9: any one operation fails, before or after it had its effect.
#[test]
fn k07_a_failed_operation_leaves_the_old_and_can_be_repeated() {
    for fault in [Fault::Fail, Fault::FailLate] {
        assert_eq!(fail_everywhere(None, fault).violations.first(), None);
    }
}

// K21: the disk is full from any one operation on. Once there is space again the same change
// succeeds, with nobody having cleaned up.
#[test]
fn k21_a_full_disk_leaves_the_old_and_is_recovered_from() {
    assert_eq!(fail_everywhere(None, Fault::Full).violations.first(), None);
}

// What these tests are worth: each mistake is noticed.
#[test]
fn k10_every_slip_is_noticed() {
    for slip in [Slip::NoFileSync, Slip::NoDirectorySync, Slip::RenameFirst] {
        assert!(!crash_everywhere(Some(slip)).violations.is_empty(), "{slip:?}");
    }
    // K9 and K6.
    for (slip, fault) in [(Slip::SyncAgain, Fault::Fail), (Slip::NoReadBack, Fault::Short)] {
        assert!(!fail_everywhere(Some(slip), fault).violations.is_empty(), "{slip:?}");
    }
}

// K9: a file that could not be made durable is given up for a new one, once.
#[test]
fn k09_a_failed_sync_gets_one_new_file() {
    for (faults, succeeds) in [(1, true), (2, false)] {
        let world = Simulated::default();
        let mut vault = open(world.clone());
        world.fail_syncs(faults);
        assert_eq!(vault.apply(&Change::Assign(assignment("first"))).is_ok(), succeeds);
        assert_eq!(open(world).identity().assignment.is_some(), succeeds);
    }
}

// K7: the space for a certificate is held from before it is asked for until it has come.
#[test]
fn k07_space_is_held_while_a_certificate_is_awaited() {
    let world = Simulated::default();
    let mut vault = open(world.clone());
    let holds = || world.shown().get("reserve").map(Vec::len);
    for (change, held) in [
        (begin(&key(1)), Some(TERMS.reserve)),
        (Change::Assign(assignment("first")), Some(TERMS.reserve)),
        (stage(&key(1), None), None),
        (begin(&key(2)), Some(TERMS.reserve)),
        (Change::DiscardPending, None),
    ] {
        vault.apply(&change).unwrap();
        assert_eq!(holds(), held, "{change:?}");
        vault = open(world.clone());
        assert_eq!(holds(), held, "{change:?}, opened again");
    }
    // For a request that cannot be made nothing is held.
    strike_each(&world, &begin(&key(3)), None, Fault::Full, |at, directory, _, applied| {
        assert_eq!(directory.shown().contains_key("reserve"), applied, "full after {at}");
    });
}

// A change that failed late may be on the disk. The next one is another change, in a file of the same
// name or of another, and the power goes in the middle of it: neither may spoil the other, and once
// the second is done the first does not come back.
#[test]
fn a_failed_change_does_not_spoil_the_next() {
    let assign = Change::Assign(assignment("first"));
    for (first, second) in [
        (begin(&key(1)), begin(&key(2))),
        (begin(&key(1)), assign.clone()),
        (assign, begin(&key(1))),
    ] {
        let mut inspector = Inspector::default();
        let world = Simulated::default();
        let none = fingerprint(open(world.fork()).identity());
        let after = |change: &Change| {
            let mut vault = open(world.fork());
            vault.apply(change).unwrap();
            fingerprint(vault.identity())
        };
        let (one, two) = (after(&first), after(&second));
        strike_each(&world, &first, None, Fault::FailLate, |at, directory, mut vault, applied| {
            if applied {
                return;
            }
            for operations in 0.. {
                let world = directory.fork();
                let mut vault = vault.over(Careless::new(world.clone(), None));
                world.arm(operations, Fault::Crash);
                let done = vault.apply(&second).is_ok();
                let when = format!("first failed at {at}, crash at {operations} of the second");
                let allowed: &[_] = if done { &[&two] } else { &[&none, &one, &two] };
                inspector.check_power_loss(&world, allowed, &when);
                if !world.has_struck() {
                    break;
                }
            }
            vault.apply(&second).unwrap();
            inspector.check_power_loss(directory, &[&two], "after the second");
        });
        assert_eq!(inspector.violations.first(), None);
    }
}

// Keys of discarded generations do not stay behind, however many are kept.
#[test]
fn what_is_discarded_is_gone() {
    for retained in 0..3 {
        let world = Simulated::default();
        let terms = Terms { retained, ..TERMS };
        let mut vault = Vault::open(world.clone(), ID, terms).unwrap();
        for change in life() {
            // With nothing to go back to there is no way back.
            if vault.apply(&change).is_err() {
                assert!(vault.identity().previous.is_empty(), "{change:?}");
                continue;
            }
            let identity = vault.identity();
            let generations = identity.staged.iter().chain(&identity.active).count();
            let expected =
                generations + identity.previous.len() + usize::from(identity.pending.is_some());
            let shown = world.shown();
            let bundles = shown.keys().filter(|name| name.contains("pem")).count();
            assert_eq!(bundles, expected, "{change:?}: {:?}", shown.keys());
            assert!(shown.keys().all(|name| !name.starts_with('.')), "{:?}", shown.keys());
        }
    }
}

// A discarded key is overwritten before its file is removed, so that its blocks do not hold it.
#[test]
fn discarded_keys_are_overwritten() {
    let world = Simulated::default();
    let mut vault = open(world.clone());
    for change in life() {
        vault.apply(&change).unwrap();
        for (name, content) in world.removed() {
            assert!(content.iter().all(|byte| *byte == 0), "{name} after {change:?}");
        }
    }
}
