//! A look at a store while another process changes it, by enumeration: the change falls between any
//! two steps of the look.

use std::cell::Cell;
use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;

use zeroize::Zeroizing;

use super::crashes::{ID, life, open};
use super::directory::Directory;
use super::error::FileError;
use super::names::Names;
use super::simulated::Simulated;
use super::survey::survey;
use crate::model::Change;
use crate::testing::fingerprint;

/// A directory that changes after some number of steps of whoever reads it.
struct Restless<'a> {
    directory: Simulated,
    steps: Cell<usize>,
    change: &'a Change,
}

impl Restless<'_> {
    fn step(&self) {
        if self.steps.get() == 1 {
            open(self.directory.clone()).apply(self.change).unwrap();
        }
        self.steps.set(self.steps.get().saturating_sub(1));
    }
}

impl Directory for Restless<'_> {
    type File = ();

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
        let read = self.directory.read(name);
        self.step();
        read
    }

    fn names(&self) -> Result<Names, FileError> {
        let names = self.directory.names();
        self.step();
        names
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.directory.path_of(name)
    }

    fn temporary_name(&mut self) -> String {
        unreachable!("readers write nothing")
    }

    fn create_new(&mut self, _: &str) -> Result<(), FileError> {
        unreachable!("readers write nothing")
    }

    fn write(&mut self, (): &mut (), _: &[u8]) -> Result<(), FileError> {
        unreachable!("readers write nothing")
    }

    fn sync(&mut self, (): &()) -> Result<(), FileError> {
        unreachable!("readers write nothing")
    }

    fn rename(&mut self, _: &str, _: &str) -> Result<(), FileError> {
        unreachable!("readers write nothing")
    }

    fn sync_directory(&mut self) -> Result<(), FileError> {
        unreachable!("readers write nothing")
    }

    fn erase(&mut self, _: &str) -> Result<(), FileError> {
        unreachable!("readers write nothing")
    }

    fn remove(&mut self, _: &str) -> Result<(), FileError> {
        unreachable!("readers write nothing")
    }
}

// K12: what a reader sees is the identity before the change or after it, and no damage.
#[test]
fn k12_a_look_falls_into_no_gap() {
    let world = Simulated::default();
    let mut interrupted = 0;
    for change in life() {
        let mut vault = open(world.fork());
        let old = fingerprint(vault.identity());
        vault.apply(&change).unwrap();
        let new = fingerprint(vault.identity());
        for steps in 1.. {
            let directory = world.fork();
            let reader = Restless { directory, steps: Cell::new(steps), change: &change };
            let seen = survey(&reader, ID).unwrap();
            assert!(seen.damage.is_empty(), "{change:?} after {steps}: {:?}", seen.damage);
            let found = fingerprint(&seen.identity);
            assert!(found == old || found == new, "{change:?} after {steps}: {found}");
            if reader.steps.get() > 0 {
                break;
            }
            interrupted += 1;
        }
        open(world.clone()).apply(&change).unwrap();
    }
    assert!(interrupted > 60, "only {interrupted} looks were interrupted");
}
