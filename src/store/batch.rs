//! The changes of one commit, gathered so that each key is named once and the last word counts.
//!
//! A busy device moves its cursor many times within one batch: only the last place is written. Keys and
//! values lie one behind the other in one buffer: with a buffer for each, a batch spent more on getting and
//! giving back memory than on anything else.

use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::engine::{Change, Keyspace};
use crate::maps::Seeded;

#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    changes: Vec<Place>,
    /// Where in `changes` a key is.
    places: HashTable<usize>,
    seeded: Seeded,
}

/// A change, and where in the buffer its parts lie.
#[derive(Debug)]
struct Place {
    keyspace: Keyspace,
    key: Range<usize>,
    value: Option<Range<usize>>,
}

impl Batch {
    /// `write` appends the value to what it is given.
    pub fn put(&mut self, keyspace: Keyspace, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let key = self.append(|bytes| bytes.extend_from_slice(key));
        let value = self.append(write);
        self.change(Place { keyspace, key, value: Some(value) });
    }

    pub fn remove(&mut self, keyspace: Keyspace, key: &[u8]) {
        let key = self.append(|bytes| bytes.extend_from_slice(key));
        self.change(Place { keyspace, key, value: None });
    }

    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let start = self.bytes.len();
        write(&mut self.bytes);
        start..self.bytes.len()
    }

    fn change(&mut self, change: Place) {
        let Self { bytes, changes, places, seeded } = self;
        let key = |place: &Place| (place.keyspace, bytes.get(place.key.clone()));
        let hash = |place: &Place| seeded.hash_one(key(place));
        let is_it = |at: &usize| changes.get(*at).is_some_and(|it| key(it) == key(&change));
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

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub fn changes(&self) -> Vec<Change<'_>> {
        let part = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        let change = |Place { keyspace, key, value }: &Place| Change {
            keyspace: *keyspace,
            key: part(key),
            value: value.as_ref().map(part),
        };
        self.changes.iter().map(change).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_key_counts() {
        let mut batch = Batch::default();
        let mut put = |keyspace, value: &[u8]| batch.put(keyspace, b"a", |bytes| bytes.extend_from_slice(value));
        put(Keyspace::Device, b"1");
        put(Keyspace::Inbox, b"other keyspace");
        put(Keyspace::Device, b"22");
        batch.remove(Keyspace::Device, b"a");
        batch.put(Keyspace::Device, b"a", |bytes| bytes.extend_from_slice(b"3"));
        batch.remove(Keyspace::User, b"");
        let change = |keyspace, key, value| Change { keyspace, key, value };
        let expected = [
            change(Keyspace::Device, &b"a"[..], Some(&b"3"[..])),
            change(Keyspace::Inbox, b"a", Some(b"other keyspace")),
            change(Keyspace::User, b"", None),
        ];
        assert_eq!(batch.changes(), expected);
    }
}
