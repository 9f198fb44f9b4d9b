//! The changes of one commit, gathered so that each key is named once and the last word counts.
//!
//! A busy device moves its cursor many times within one batch: only the last place is written.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::engine::{Change, Keyspace};
use crate::maps::Seeded;

#[derive(Debug, Default)]
pub struct Batch {
    changes: Vec<Change>,
    /// Where in `changes` a key is.
    places: HashTable<usize>,
    seeded: Seeded,
}

impl Batch {
    pub fn put(&mut self, keyspace: Keyspace, key: Vec<u8>, value: Vec<u8>) {
        self.change(Change { keyspace, key, value: Some(value) });
    }

    pub fn remove(&mut self, keyspace: Keyspace, key: Vec<u8>) {
        self.change(Change { keyspace, key, value: None });
    }

    fn change(&mut self, change: Change) {
        let Self { changes, places, seeded } = self;
        let hash = |change: &Change| seeded.hash_one((change.keyspace, &change.key));
        let is_it =
            |at: &usize| changes.get(*at).is_some_and(|it| (it.keyspace, &it.key) == (change.keyspace, &change.key));
        match places.entry(hash(&change), is_it, |at| changes.get(*at).map_or(0, hash)) {
            Entry::Vacant(entry) => {
                entry.insert(changes.len());
                changes.push(change);
            }
            Entry::Occupied(entry) => {
                if let Some(earlier) = changes.get_mut(*entry.get()) {
                    *earlier = change;
                }
            }
        }
    }

    pub fn len(&self) -> usize {
        self.changes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_key_counts() {
        let mut batch = Batch::default();
        batch.put(Keyspace::Device, b"a".to_vec(), b"1".to_vec());
        batch.put(Keyspace::Inbox, b"a".to_vec(), b"other keyspace".to_vec());
        batch.remove(Keyspace::Device, b"a".to_vec());
        batch.put(Keyspace::Device, b"a".to_vec(), b"2".to_vec());
        let changes = batch.into_changes();
        assert_eq!(changes.len(), 2);
        assert_eq!(changes[0].value.as_deref(), Some(b"2".as_slice()));
    }
}
