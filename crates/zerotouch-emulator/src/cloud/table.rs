//! What a cloud has learned, in tables that know which of their entries have changed since a copy was
//! made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pki::PkiError;

/// An entry of a table as it is kept elsewhere: on disk, for the next cloud.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Which table.
    pub table: &'static str,
    /// Which entry of it, as JSON; empty where there is one alone.
    pub key: String,
    /// What it is now, as JSON; `None` if it is no longer there. It may hold keys: to be kept where only
    /// its owner can read it.
    pub value: Option<String>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} {})", self.table, self.key)
    }
}

/// A record is not one that a cloud could have written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// There is no such table.
    #[error("there is no table {table:?}")]
    Table {
        /// Its name.
        table: String,
    },
    /// Hubs that devices and enrolments refer to are gone, or in another place.
    #[error(
        "the hubs were {kept:?}; more may follow these, but {given:?} does not begin with them"
    )]
    Hubs {
        /// As they were.
        kept: Vec<String>,
        /// As they are to be.
        given: Vec<String>,
    },
    /// Key or value cannot be read.
    #[error("an entry of table {table:?} cannot be read: {source}")]
    Entry {
        /// In which table.
        table: String,
        /// Why.
        source: serde_json::Error,
    },
    /// An authority that was kept cannot sign.
    #[error(transparent)]
    Authority(#[from] PkiError),
}

/// A map that notes which of its entries may have changed.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    entries: BTreeMap<K, V>,
    changed: BTreeSet<K>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), changed: BTreeSet::new() }
    }
}

impl<K: Ord + Clone, V> Table<K, V> {
    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// For changing it; whoever only looks uses [`Table::get`].
    pub(super) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: std::borrow::Borrow<Q>,
    {
        // The key as the table has it, not as it is asked for.
        let (key, _) = self.entries.get_key_value(key)?;
        let key = key.clone();
        let value = self.entries.get_mut::<K>(&key);
        self.changed.insert(key);
        value
    }

    pub(super) fn entry(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        self.changed.insert(key.clone());
        self.entries.entry(key.clone()).or_default()
    }

    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.changed.insert(key.clone());
        self.entries.insert(key, value)
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let (key, value) = self.entries.remove_entry(key)?;
        self.changed.insert(key);
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    /// For completing what was restored; what is changed thereby is not what is kept.
    pub(super) fn restored(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut()
    }

    pub(super) fn range(&self, keys: RangeInclusive<K>) -> impl Iterator<Item = (&K, &V)> {
        self.entries.range(keys)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values()
    }
}

impl<K: Ord + Clone, V> FromIterator<(K, V)> for Table<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut table = Self::default();
        for (key, value) in entries {
            table.insert(key, value);
        }
        table
    }
}

/// A table as whoever keeps copies sees it.
pub(super) trait Kept {
    fn is_changed(&self) -> bool;

    /// Takes an entry that has changed; as JSON, without a value if it is gone.
    fn take_change(&mut self) -> Option<Result<(String, Option<String>), serde_json::Error>>;

    /// Has all there is count as changed.
    fn touch(&mut self);

    /// Forgets all there is.
    fn clear(&mut self);

    fn restore(&mut self, key: &str, value: &str) -> Result<(), serde_json::Error>;
}

impl<K, V> Kept for Table<K, V>
where
    K: Ord + Clone + Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    fn take_change(&mut self) -> Option<Result<(String, Option<String>), serde_json::Error>> {
        let key = self.changed.pop_first()?;
        let value = self.entries.get(&key).map(serde_json::to_string).transpose();
        Some(serde_json::to_string(&key).and_then(|key| Ok((key, value?))))
    }

    fn touch(&mut self) {
        self.changed.extend(self.entries.keys().cloned());
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.changed.clear();
    }

    fn restore(&mut self, key: &str, value: &str) -> Result<(), serde_json::Error> {
        self.entries.insert(serde_json::from_str(key)?, serde_json::from_str(value)?);
        Ok(())
    }
}

/// A table of the one entry that is always there.
#[derive(Debug)]
pub(super) struct Single<V> {
    value: V,
    is_changed: bool,
}

impl<V> Single<V> {
    pub(super) const fn new(value: V) -> Self {
        Self { value, is_changed: true }
    }

    pub(super) const fn get(&self) -> &V {
        &self.value
    }

    pub(super) fn set(&mut self, value: V) {
        *self = Self::new(value);
    }
}

impl<V: Serialize + DeserializeOwned> Kept for Single<V> {
    fn is_changed(&self) -> bool {
        self.is_changed
    }

    fn take_change(&mut self) -> Option<Result<(String, Option<String>), serde_json::Error>> {
        std::mem::take(&mut self.is_changed)
            .then(|| Ok((String::new(), Some(serde_json::to_string(&self.value)?))))
    }

    fn touch(&mut self) {
        self.is_changed = true;
    }

    fn clear(&mut self) {}

    fn restore(&mut self, _: &str, value: &str) -> Result<(), serde_json::Error> {
        *self = Self { value: serde_json::from_str(value)?, is_changed: false };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every way of changing an entry is noted, once, with what it is at last.
    #[test]
    fn changes_are_told_once() {
        let mut table = Table::<String, u32>::default();
        table.insert("a".into(), 1);
        *table.entry(&"b".into()) = 2;
        *table.get_mut("a").unwrap() = 3;
        table.insert("c".into(), 4);
        table.remove("c");
        assert_eq!(table.get_mut("d"), None);
        assert_eq!(table.remove("d"), None);
        let told: Vec<_> = std::iter::from_fn(|| table.take_change()).map(Result::unwrap).collect();
        let change = |key: &str, value: Option<&str>| (key.to_owned(), value.map(String::from));
        assert_eq!(
            told,
            [change(r#""a""#, Some("3")), change(r#""b""#, Some("2")), change(r#""c""#, None)]
        );
        assert!(!table.is_changed());
        assert_eq!(table.get("a"), Some(&3));
    }

    #[test]
    fn what_was_told_makes_the_same_table() {
        let mut table = Table::<String, u8>::default();
        table.insert("a".into(), 1);
        let mut single = Single::new(2);
        let mut copies = (Table::<String, u8>::default(), Single::new(0));
        let tables: [(&mut dyn Kept, &mut dyn Kept); 2] =
            [(&mut table, &mut copies.0), (&mut single, &mut copies.1)];
        for (table, copy) in tables {
            let (key, value) = table.take_change().unwrap().unwrap();
            assert!(table.take_change().is_none());
            let value = value.unwrap();
            copy.restore(&key, &value).unwrap();
            // Copies are of what is kept elsewhere already.
            assert!(!copy.is_changed());
            copy.touch();
            let again = copy.take_change().unwrap().unwrap();
            assert_eq!(again, (key.clone(), Some(value)));
            assert!(copy.restore(&key, "{}").is_err());
        }
        assert_eq!((copies.0.get("a"), copies.1.get()), (Some(&1), &2));
    }
}
