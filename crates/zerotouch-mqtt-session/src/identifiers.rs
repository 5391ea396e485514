//! Packet identifiers: which are in use, and the next that is not.

use alloc::vec::Vec;

use zerotouch_mqtt_codec::PacketIdentifier;

/// A set of packet identifiers. Sorted in a vector, so that few of them take little room and a steady
/// flow through the set allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct IdentifierSet(Vec<PacketIdentifier>);

impl IdentifierSet {
    /// `false` if it was there already.
    pub(crate) fn insert(&mut self, id: PacketIdentifier) -> bool {
        match self.0.binary_search(&id) {
            Ok(_) => false,
            Err(position) => {
                self.0.insert(position, id);
                true
            }
        }
    }

    pub(crate) fn remove(&mut self, id: PacketIdentifier) {
        if let Ok(position) = self.0.binary_search(&id) {
            self.0.remove(position);
        }
    }

    pub(crate) fn contains(&self, id: PacketIdentifier) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Hands out identifiers that are not in use [MQTT-2.3.1-2], one after the other, so that a late
/// acknowledgement finds its identifier reused as late as possible.
#[derive(Debug, Default)]
pub(crate) struct Identifiers {
    used: IdentifierSet,
    last: u16,
}

impl Identifiers {
    /// The next free one, in use from now on; `None` if all 65,535 are.
    pub(crate) fn take(&mut self) -> Option<PacketIdentifier> {
        let used = &self.used.0;
        if used.len() >= usize::from(u16::MAX) {
            return None;
        }
        let mut candidate = following(self.last)?;
        let mut position = used.partition_point(|id| *id < candidate);
        while used.get(position) == Some(&candidate) {
            candidate = following(candidate.get())?;
            position = if candidate == PacketIdentifier::MIN { 0 } else { position + 1 };
        }
        self.last = candidate.get();
        self.used.0.insert(position, candidate);
        Some(candidate)
    }

    /// Its flow is over: the identifier may be used again [MQTT-2.3.1-3].
    pub(crate) fn free(&mut self, id: PacketIdentifier) {
        self.used.remove(id);
    }
}

fn following(number: u16) -> Option<PacketIdentifier> {
    PacketIdentifier::new(number.checked_add(1).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        // Wherever in the circle, and whatever is in use: never twice, and always the nearest.
        #[test]
        fn what_is_in_use_is_not_handed_out(
            last in prop_oneof![0..10_u16, 65_520..=u16::MAX, any::<u16>()],
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..200),
        ) {
            let mut identifiers = Identifiers { used: IdentifierSet::default(), last };
            let (mut model, mut last) = (BTreeSet::new(), last);
            for (take, which) in steps {
                if take || model.is_empty() {
                    let id = identifiers.take().unwrap();
                    loop {
                        last = last.checked_add(1).unwrap_or(1);
                        if !model.contains(&last) {
                            break;
                        }
                    }
                    prop_assert_eq!(id.get(), last);
                    model.insert(last);
                } else {
                    let used: Vec<_> = model.iter().copied().collect();
                    let number = *which.get(&used);
                    model.remove(&number);
                    identifiers.free(PacketIdentifier::new(number).unwrap());
                }
            }
        }
    }

    // The wrap from 65,535 to 1 happens once in a long life: it has to be right the first time.
    #[test]
    fn all_identifiers_are_handed_out_before_any_returns() {
        let mut identifiers = Identifiers::default();
        let id = |number| PacketIdentifier::new(number).unwrap();
        for number in 1..=u16::MAX {
            assert_eq!(identifiers.take(), Some(id(number)));
        }
        assert_eq!(identifiers.take(), None);
        for number in [7, 8, 65_535] {
            identifiers.free(id(number));
        }
        let next: Vec<_> = core::iter::from_fn(|| identifiers.take()).collect();
        assert_eq!(next, [id(7), id(8), id(65_535)], "wraps round, past those in use");

        let mut identifiers = Identifiers { last: 65_534, ..Identifiers::default() };
        identifiers.used.insert(id(65_535));
        identifiers.used.insert(id(1));
        assert_eq!(identifiers.take(), Some(id(2)), "and goes on past those on the other side");
    }
}
