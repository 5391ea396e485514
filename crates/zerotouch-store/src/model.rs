//! What a device is, and how that may change.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use zerotouch_credentials::{CertificateChain, Signer};
use zerotouch_dps::Assignment;

use crate::key::{Key, KeyReference};

/// How many previous generations are kept unless somebody says otherwise.
pub const DEFAULT_RETAINED: usize = 1;

/// Everything a device knows about who it is.
///
/// ```text
///             Begin            Stage            Activate
///   new key ────────▶ pending ────────▶ staged ────────▶ active ──(Activate)──▶ previous ──▶ gone
///                       │                 │                 ▲                      │
///            DiscardPending          DiscardStaged          └────── RollBack ──────┘
/// ```
///
/// A key enters before the request for it leaves, and a chain never without its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The hub the device was assigned to, if it ever was.
    pub assignment: Option<Assignment>,
    /// The key for which a certificate has been or is about to be requested.
    pub pending: Option<Pending>,
    /// Issued, and not yet accepted by a hub.
    pub staged: Option<Arc<Generation>>,
    /// What the device connects with.
    pub active: Option<Arc<Generation>>,
    /// What it connected with before, for going back; the latest first.
    pub previous: Vec<Arc<Generation>>,
    /// How many previous generations are kept when another one follows.
    pub retained: usize,
    /// The number of the last generation that was staged, 0 before the first.
    pub last_number: u64,
}

/// A key that waits for its certificate.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The key.
    pub key: Key,
    /// The id under which the request was made, so that the same request can be made again.
    pub request_id: String,
}

/// A key and the chain issued for it.
#[derive(Debug)]
pub struct Generation {
    /// Counted from 1 in the order of issue; no number is used twice.
    pub number: u64,
    /// The key.
    pub key: Key,
    /// Its chain, leaf first.
    pub chain: CertificateChain,
}

/// A change of identity. Each is atomic: after a crash it has happened whole or not at all.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change {
    /// A new key, to be stored before the request for it leaves.
    Begin {
        /// The key.
        key: Key,
        /// The id of the request that will be made for it.
        request_id: String,
    },
    /// The pending key got its chain; it becomes the staged generation. A generation staged before
    /// and never activated makes room.
    Stage {
        /// The accepted chain of the pending key.
        chain: CertificateChain,
        /// The assignment that came with it, if one did.
        assignment: Option<Assignment>,
    },
    /// The device belongs to this hub.
    Assign(Assignment),
    /// A hub accepted the staged generation: it becomes active, and the active one previous.
    Activate,
    /// The active generation is refused: back to the previous one.
    RollBack,
    /// The previous generations are no longer wanted. Where two slots in hardware take turns this
    /// comes before a new key is made in the spare one.
    DiscardPrevious,
    /// The staged generation is refused, or no longer wanted.
    DiscardStaged,
    /// The pending key is no longer wanted.
    DiscardPending,
    /// The device is nobody: every generation, the pending key and the assignment go.
    Forget,
}

/// Why a change does not fit the identity. The identity is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A key is pending already: its request is resumed, or it is discarded first.
    #[error("a key is already waiting for its certificate")]
    AlreadyPending,
    /// A chain, and no key it could belong to.
    #[error("no key is waiting for a certificate")]
    NothingPending,
    /// A chain whose leaf is not for the pending key.
    #[error("the chain is not for the pending key")]
    KeyMismatch,
    /// Nothing is staged.
    #[error("no generation is staged")]
    NothingStaged,
    /// There is nothing to go back to.
    #[error("there is no previous generation")]
    NoPrevious,
}

impl Identity {
    /// Applies `change`.
    ///
    /// Pure: a store applies it to a copy, makes the copy durable, and only then believes it.
    pub fn apply(&mut self, change: &Change) -> Result<(), ModelError> {
        match change {
            Change::Begin { key, request_id } => {
                if self.pending.is_some() {
                    return Err(ModelError::AlreadyPending);
                }
                self.pending = Some(Pending { key: key.clone(), request_id: request_id.clone() });
            }
            Change::Stage { chain, assignment } => {
                let pending = self.pending.as_ref().ok_or(ModelError::NothingPending)?;
                if chain.leaf().public_key() != pending.key.public_key() {
                    return Err(ModelError::KeyMismatch);
                }
                let key = pending.key.clone();
                let number = self.last_number.saturating_add(1);
                self.staged = Some(Arc::new(Generation { number, key, chain: chain.clone() }));
                self.last_number = number;
                self.pending = None;
                if assignment.is_some() {
                    self.assignment.clone_from(assignment);
                }
            }
            Change::Assign(assignment) => self.assignment = Some(assignment.clone()),
            Change::Activate => {
                let staged = self.staged.take().ok_or(ModelError::NothingStaged)?;
                // The first activation after a corruption has no active one; what is previous stays.
                if let Some(active) = self.active.replace(staged) {
                    self.previous.insert(0, active);
                    self.previous.truncate(self.retained);
                }
            }
            Change::RollBack => {
                if self.previous.is_empty() {
                    return Err(ModelError::NoPrevious);
                }
                self.active = Some(self.previous.remove(0));
            }
            Change::DiscardPrevious => {
                if self.previous.is_empty() {
                    return Err(ModelError::NoPrevious);
                }
                self.previous.clear();
            }
            Change::DiscardStaged => {
                self.staged.take().ok_or(ModelError::NothingStaged)?;
            }
            Change::DiscardPending => {
                self.pending.take().ok_or(ModelError::NothingPending)?;
            }
            Change::Forget => {
                let (retained, last_number) = (self.retained, self.last_number);
                *self = Self { retained, last_number, ..Self::default() };
            }
        }
        Ok(())
    }

    /// The generation of this number, if it is kept.
    pub fn generation(&self, number: u64) -> Option<&Generation> {
        let mut kept = self.staged.iter().chain(&self.active).chain(&self.previous);
        kept.find(|generation| generation.number == number).map(|generation| &**generation)
    }

    /// The addresses of all keys in hardware.
    pub fn key_addresses(&self) -> Vec<&str> {
        let generations = self.staged.iter().chain(&self.active).chain(&self.previous);
        let keys = generations.map(|one| &one.key).chain(self.pending.iter().map(|one| &one.key));
        keys.filter_map(|key| match key {
            Key::Reference(reference) => Some(reference.uri()),
            Key::Software(_) => None,
        })
        .collect()
    }

    /// Gives the keys in hardware that have none yet what signs with them. `open` yields `None` for
    /// a key it cannot open; that one, and one whose slot holds another key by now, stays as it is
    /// and fails when it should sign.
    pub fn attach(&mut self, mut open: impl FnMut(&KeyReference) -> Option<Arc<dyn Signer>>) {
        let mut attached = |key: &Key| match key {
            Key::Reference(reference) if !reference.is_attached() => {
                let mut reference = reference.clone();
                reference.attach(open(&reference)?);
                Some(Key::Reference(reference))
            }
            _ => None,
        };
        if let Some(pending) = &mut self.pending
            && let Some(key) = attached(&pending.key)
        {
            pending.key = key;
        }
        let generations = self.staged.iter_mut().chain(&mut self.active).chain(&mut self.previous);
        for generation in generations {
            if let Some(key) = attached(&generation.key) {
                let (number, chain) = (generation.number, generation.chain.clone());
                *generation = Arc::new(Generation { number, key, chain });
            }
        }
    }
}

impl Default for Identity {
    /// That of a device which is nobody yet.
    fn default() -> Self {
        Self {
            assignment: None,
            pending: None,
            staged: None,
            active: None,
            previous: Vec::new(),
            retained: DEFAULT_RETAINED,
            last_number: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assignment, begin, fingerprint, key, stage};

    fn after(changes: &[Change]) -> Identity {
        let mut identity = Identity::default();
        for change in changes {
            identity.apply(change).unwrap();
        }
        identity
    }

    // The picture above the type, walked along.
    #[test]
    fn generations_follow_each_other() {
        let (a, b, c) = (key(1), key(2), key(3));
        let mut identity = after(&[begin(&a), stage(&a, Some("first")), Change::Activate]);
        assert_eq!(identity.active.as_ref().unwrap().number, 1);
        assert!(identity.pending.is_none() && identity.staged.is_none());
        assert_eq!(identity.assignment, Some(assignment("first")));

        for change in [begin(&b), stage(&b, None), Change::Activate] {
            identity.apply(&change).unwrap();
        }
        assert_eq!(identity.active.as_ref().unwrap().key.public_key(), b.public_key());
        assert_eq!(identity.previous[0].key.public_key(), a.public_key());
        assert_eq!(identity.assignment, Some(assignment("first")), "a renewal keeps the hub");

        identity.apply(&Change::RollBack).unwrap();
        assert_eq!(identity.active.as_ref().unwrap().number, 1);
        assert!(identity.previous.is_empty());

        for change in [begin(&c), stage(&c, Some("second"))] {
            identity.apply(&change).unwrap();
        }
        assert_eq!(identity.staged.as_ref().unwrap().number, 3, "2 was used");
        identity.apply(&Change::Forget).unwrap();
        assert_eq!(
            fingerprint(&identity),
            fingerprint(&Identity { last_number: 3, ..Identity::default() })
        );
    }

    // A change that does not fit is refused and leaves everything as it was.
    #[test]
    fn what_does_not_fit_changes_nothing() {
        let (a, b) = (key(1), key(2));
        let staged = [begin(&a), stage(&a, None)];
        let cases: [(&[Change], Change, ModelError); 9] = [
            (&[begin(&a)], begin(&b), ModelError::AlreadyPending),
            (&[], stage(&a, None), ModelError::NothingPending),
            (&staged, stage(&a, None), ModelError::NothingPending),
            (&[begin(&a)], stage(&b, None), ModelError::KeyMismatch),
            (&[begin(&a)], Change::Activate, ModelError::NothingStaged),
            (&[], Change::DiscardStaged, ModelError::NothingStaged),
            (&staged, Change::DiscardPending, ModelError::NothingPending),
            (&staged, Change::RollBack, ModelError::NoPrevious),
            (&staged, Change::DiscardPrevious, ModelError::NoPrevious),
        ];
        for (before, change, error) in cases {
            let mut identity = after(before);
            let untouched = fingerprint(&identity);
            assert_eq!(identity.apply(&change), Err(error), "{change:?}");
            assert_eq!(fingerprint(&identity), untouched, "{change:?}");
        }
    }

    // Who keeps more can go back further; who keeps none cannot go back.
    #[test]
    fn as_many_previous_generations_are_kept_as_asked_for() {
        for retained in [0, 1, 2, 3] {
            let mut identity = Identity { retained, ..Identity::default() };
            for seed in 1..=4 {
                for change in [begin(&key(seed)), stage(&key(seed), None), Change::Activate] {
                    identity.apply(&change).unwrap();
                }
            }
            let numbers: Vec<u64> = identity.previous.iter().map(|one| one.number).collect();
            assert_eq!(numbers, [3, 2, 1][..retained]);
            for number in numbers {
                identity.apply(&Change::RollBack).unwrap();
                assert_eq!(identity.active.as_ref().unwrap().number, number);
            }
            assert_eq!(identity.apply(&Change::RollBack), Err(ModelError::NoPrevious));
        }
    }

    // Two slots in hardware take turns: the spare one is given up before a key is made in it, so
    // that no generation is left whose key is gone.
    #[test]
    fn slots_in_hardware_take_turns() {
        let mut identity = Identity::default();
        for (seed, slot) in [(1, "slot:a"), (2, "slot:b")] {
            let reference = KeyReference::new(slot, key(seed)).unwrap();
            let begin = Change::Begin { key: reference.into(), request_id: "3f1c".into() };
            for change in [begin, stage(&key(seed), None), Change::Activate] {
                identity.apply(&change).unwrap();
            }
        }
        identity.apply(&Change::DiscardPrevious).unwrap();
        let Key::Reference(active) = &identity.active.as_ref().unwrap().key else { panic!() };
        assert_eq!(active.uri(), "slot:b");
        assert!(identity.previous.is_empty(), "slot:a is free");
    }

    // A store gives back addresses; the signers are found once, wherever they are needed.
    #[test]
    fn keys_in_hardware_are_attached_wherever_they_are() {
        let bare = |seed: u64| {
            let uri = alloc::format!("slot:{seed}");
            Key::from(KeyReference::unattached(&uri, key(seed).public_key()).unwrap())
        };
        let mut identity = Identity { retained: 1, ..Identity::default() };
        for seed in 1..=4 {
            identity.apply(&Change::Begin { key: bare(seed), request_id: "3f1c".into() }).unwrap();
            if seed < 4 {
                identity.apply(&stage(&key(seed), None)).unwrap();
            }
            if seed < 3 {
                identity.apply(&Change::Activate).unwrap();
            }
        }
        identity.attach(|reference| {
            let seed: u64 = reference.uri().strip_prefix("slot:")?.parse().ok()?;
            // The third token is not plugged in, and in the first slot there is another key.
            match seed {
                1 => Some(key(9)),
                3 => None,
                _ => Some(key(seed)),
            }
        });
        let signs = |key: &Key| key.signer().is_ok();
        assert!(signs(&identity.pending.unwrap().key));
        assert!(!signs(&identity.staged.unwrap().key));
        assert!(signs(&identity.active.unwrap().key));
        assert!(!signs(&identity.previous[0].key));
    }
}
