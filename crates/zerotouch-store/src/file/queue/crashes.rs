//! The promise of the queue, tested by enumeration: after any crash at any instant it holds what was
//! taken and is not finished, in order, and nothing that was never offered. And the tests of that test.

use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::spool::{Spool, Terms};
use crate::file::careless::{Careless, Slip};
use crate::file::simulated::{Contents, Fault, Simulated};

/// Three short messages fill a file.
const TERMS: Terms = Terms { segment_len: 120, block_len: 25 };

#[derive(Clone, Debug)]
enum Step {
    /// So many messages at once.
    Append(usize),
    /// Those at these places among what waits.
    Finish(&'static [usize]),
}

/// One message that is stuck while others pass, several files at once, files that become empty, one that
/// is moved to the end, and a queue that is empty and begins again.
fn life() -> Vec<Step> {
    use Step::{Append, Finish};
    vec![
        Append(1),
        Append(3),
        Finish(&[1]),
        Append(5),
        Finish(&[1, 2, 3]),
        Append(2),
        Finish(&[1, 3]),
        Append(4),
        Finish(&[1, 2, 3, 4, 5]),
        Finish(&[0]),
        Append(1),
        Finish(&[0, 1]),
        Append(2),
    ]
}

/// What the application knows.
#[derive(Clone, Default)]
struct Known {
    offered: BTreeSet<String>,
    /// Taken and not finished, in order.
    waiting: Vec<(u64, String)>,
}

impl Known {
    fn offer(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut record = || {
            let text = format!("message {}", self.offered.len());
            self.offered.insert(text.clone());
            text.into_bytes()
        };
        (0..count).map(|_| record()).collect()
    }

    /// Does a step; whether it was done.
    fn step(&mut self, spool: &mut Spool<Careless>, step: &Step) -> bool {
        match step {
            Step::Append(count) => {
                let records = self.offer(*count);
                let Ok(numbers) = spool.append(&records) else { return false };
                let texts = records.into_iter().map(|record| String::from_utf8(record).unwrap());
                self.waiting.extend(numbers.zip(texts));
                true
            }
            Step::Finish(places) => {
                let numbers: Vec<_> = places.iter().map(|place| self.waiting[*place].0).collect();
                self.waiting.retain(|(number, _)| !numbers.contains(number));
                spool.finish(&numbers).is_ok()
            }
        }
    }
}

fn open(directory: Simulated, slip: Option<Slip>) -> Spool<Careless> {
    Spool::open(Careless::new(directory, slip), TERMS).unwrap()
}

/// Numbers and messages, as a process finds them.
fn found(spool: &mut Spool<impl crate::file::directory::Directory>) -> Vec<(u64, String)> {
    let waiting = spool.load().unwrap();
    let text = |(number, record)| (number, String::from_utf8(record).unwrap());
    waiting.records.into_iter().map(text).collect()
}

/// Opens what crashes left, each state once, and notes what should not come out.
#[derive(Default)]
struct Inspector {
    seen: BTreeMap<Contents, Vec<(u64, String)>>,
    violations: Vec<String>,
}

impl Inspector {
    fn check(&mut self, directory: &Simulated, known: &Known, when: &str) {
        for contents in directory.after_power_loss() {
            let found = self.seen.entry(contents).or_insert_with_key(|contents| {
                let world = Simulated::from_contents(contents);
                let before = found(&mut open(world.fork(), None));
                // And it goes on: what is new comes after what was there, also for the next process.
                let mut spool = open(world.clone(), None);
                let number = spool.append(&[b"new".to_vec()]).unwrap().start;
                let after = found(&mut open(world, None));
                let expected: Vec<_> =
                    before.iter().cloned().chain([(number, "new".to_string())]).collect();
                assert_eq!(after, expected);
                before
            });
            let offered = found.iter().all(|(_, text)| known.offered.contains(text));
            let mut left = found.iter();
            let kept = known.waiting.iter().all(|message| left.any(|found| found == message));
            if !offered || !kept {
                let waiting = &known.waiting;
                self.violations.push(format!("{when}: found {found:?}, waiting {waiting:?}"));
            }
        }
    }
}

/// A fault after each number of operations of each step in turn. `then` gets what it left.
fn strike_each(
    slip: Option<Slip>,
    fault: Fault,
    mut then: impl FnMut(&mut Inspector, &Simulated, (Spool<Careless>, Known), bool, &str),
) -> Inspector {
    let mut inspector = Inspector::default();
    let life = life();
    for (at, step) in life.iter().enumerate() {
        for operations in 0.. {
            let world = Simulated::default();
            let (mut spool, mut known) = (open(world.clone(), slip), Known::default());
            assert!(life[..at].iter().all(|step| known.step(&mut spool, step)));
            world.arm(operations, fault);
            let done = known.step(&mut spool, step);
            let when = format!("step {at}, {step:?}, {fault:?} after {operations} operations");
            inspector.check(&world, &known, &when);
            if !world.has_struck() {
                assert!(done, "{when}: failed without a fault");
                break;
            }
            then(&mut inspector, &world, (spool, known), done, &when);
        }
        if !inspector.violations.is_empty() {
            break;
        }
    }
    inspector
}

/// A loss of power at any instant; and a killed process, whose successor loses power in its turn.
fn crash_everywhere(slip: Option<Slip>) -> Inspector {
    strike_each(slip, Fault::Crash, |inspector, world, (_, known), _, when| {
        for more in 0.. {
            let successor = world.fork();
            successor.arm(more, Fault::Crash);
            Spool::open(Careless::new(successor.clone(), slip), TERMS).ok();
            inspector.check(&successor, &known, when);
            if !successor.has_struck() {
                break;
            }
        }
    })
}

/// A fault at any one operation: nothing that was taken is lost, and the same step can be done again.
fn fail_everywhere(slip: Option<Slip>, fault: Fault) -> Inspector {
    strike_each(slip, fault, |inspector, world, (mut spool, mut known), _, when| {
        world.mend();
        for step in [Step::Append(2), Step::Finish(&[0]), Step::Append(1)] {
            assert!(known.step(&mut spool, &step), "{when}: {step:?} afterwards");
            inspector.check(world, &known, when);
        }
    })
}

// Whatever was reported taken is there after a loss of power at any instant, in order.
#[test]
fn a_crash_loses_nothing_that_was_taken() {
    let inspector = crash_everywhere(None);
    assert_eq!(inspector.violations.first(), None);
    assert!(inspector.seen.len() > 200, "only {} states were seen", inspector.seen.len());
}

// A disk that fails or is full refuses a message and costs no other.
#[test]
fn a_failure_loses_nothing_that_was_taken() {
    for fault in [Fault::Fail, Fault::FailLate, Fault::Full] {
        assert_eq!(fail_everywhere(None, fault).violations.first(), None);
    }
}

// What these tests are worth: each mistake is noticed.
#[test]
fn every_slip_is_noticed() {
    for slip in [Slip::NoFileSync, Slip::NoDirectorySync, Slip::SyncOnce] {
        assert!(!crash_everywhere(Some(slip)).violations.is_empty(), "{slip:?}");
    }
    for slip in [Slip::SyncAgain, Slip::SyncRegardless] {
        assert!(!fail_everywhere(Some(slip), Fault::Fail).violations.is_empty(), "{slip:?}");
    }
}

// An orderly end keeps what is finished finished, and what waits in its order.
#[test]
fn a_restart_brings_back_what_waits_and_nothing_else() {
    let world = Simulated::default();
    let mut known = Known::default();
    for step in life() {
        assert!(known.step(&mut open(world.clone(), None), &step), "{step:?}");
        let mut spool = open(world.clone(), None);
        assert_eq!(found(&mut spool), known.waiting, "{step:?}");
        assert_eq!(spool.load().unwrap().lost, 0, "{step:?}");
    }
}

// One message is stuck for ever while thousands pass: the disk does not fill with them.
#[test]
fn what_is_finished_takes_no_space() {
    let world = Simulated::default();
    let (mut spool, mut known) = (open(world.clone(), None), Known::default());
    let taken = || world.shown().values().map(Vec::len).sum::<usize>();
    known.step(&mut spool, &Step::Append(1));
    let mut most = 0;
    for _ in 0..200 {
        known.step(&mut spool, &Step::Append(3));
        known.step(&mut spool, &Step::Finish(&[1, 2, 3]));
        most = most.max(taken());
    }
    assert!(most <= 4 * TERMS.segment_len, "{most} bytes for one message");
    assert_eq!(found(&mut open(world, None)), known.waiting);
}

/// Six messages in two files, all waiting.
fn six() -> (Simulated, Known) {
    let world = Simulated::default();
    let (mut spool, mut known) = (open(world.clone(), None), Known::default());
    known.step(&mut spool, &Step::Append(2));
    known.step(&mut spool, &Step::Append(4));
    (world, known)
}

// A byte that has rotted costs the message it was in; how many were lost is told, unless it was the last,
// which cannot be told from one that was being written when the power went.
#[test]
fn damage_costs_what_it_hits_and_is_told() {
    let (world, known) = six();
    let contents = world.shown();
    assert!(contents.len() > 1, "{:?}", contents.keys());
    let last = contents.keys().last().unwrap();
    for (name, bytes) in &contents {
        for at in 0..bytes.len() {
            let mut damaged = contents.clone();
            damaged.get_mut(name).unwrap()[at] ^= 0x40;
            let mut spool = open(Simulated::from_contents(&damaged), None);
            let waiting = spool.load().unwrap();
            let numbers: Vec<_> = waiting.records.iter().map(|(number, _)| *number).collect();
            let missing: Vec<_> =
                known.waiting.iter().map(|(n, _)| *n).filter(|n| !numbers.contains(n)).collect();
            assert!(missing.len() <= 1 && numbers.is_sorted(), "{name} at {at}: {numbers:?}");
            let told = missing.len() as u64;
            let was_last = name == last && missing == [6];
            assert_eq!(waiting.lost, if was_last { 0 } else { told }, "{name} at {at}");
        }
    }
    let mut without = contents.clone();
    without.remove(contents.keys().next().unwrap());
    let mut spool = open(Simulated::from_contents(&without), None);
    assert!(spool.load().unwrap().records.len() < 6);
}

// A payload that is itself a record of a queue is taken for none, though what is before it is damaged.
#[test]
fn a_payload_is_no_record() {
    let (world, _) = six();
    let forged = world.shown().into_values().next().unwrap();
    let world = Simulated::default();
    open(world.clone(), None).append(&[forged, b"after".to_vec()]).unwrap();
    let mut contents = world.shown();
    contents.values_mut().next().unwrap()[26] ^= 1;
    let waiting = open(Simulated::from_contents(&contents), None).load().unwrap();
    assert_eq!((waiting.records, waiting.lost), (vec![(2, b"after".to_vec())], 1));
}
