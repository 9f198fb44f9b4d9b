//! The changes of one commit, gathered so that each key is named once and the last word counts.
//!
//! A busy device moves its cursor many times within one batch: only the last place is written.

use std::collections::HashMap;

use super::engine::{Change, Keyspace};

#[derive(Debug, Default)]
pub struct Batch {
    changes: Vec<Change>,
    /// Where in `changes` a key is.
    places: HashMap<(Keyspace, Vec<u8>), usize>,
}

impl Batch {
    pub fn put(&mut self, keyspace: Keyspace, key: Vec<u8>, value: Vec<u8>) {
        self.change(Change { keyspace, key, value: Some(value) });
    }

    pub fn remove(&mut self, keyspace: Keyspace, key: Vec<u8>) {
        self.change(Change { keyspace, key, value: None });
    }

    fn change(&mut self, change: Change) {
        let place = *self.places.entry((change.keyspace, change.key.clone())).or_insert(self.changes.len());
        match self.changes.get_mut(place) {
            Some(earlier) => *earlier = change,
            None => self.changes.push(change),
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
