//! How far the journals are known to be synced: a few bytes in a file beside them, written at every start
//! and orderly end. A journal that is shorter was cut by other hands than those of a power cut, and what is
//! gone may have been called stored. Must never claim what was not synced before.
//!
//! The file holds three numbers, big-endian: the journal's, its length up to there, XXH3-64 of both. One that
//! is torn or not there claims nothing.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

const FILE: &str = "synced";
const FIELDS_BYTES: usize = 16;

/// Up to here the journal of this number is synced, and those before it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    pub journal: u64,
    pub bytes: u64,
}

impl Reach {
    pub fn read(store: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(store.join(FILE)) {
            Ok(bytes) => Ok(Self::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// It need not succeed: what was claimed before goes on being true.
    pub fn write(self, store: &Path) {
        let write = || {
            // In place: that takes no room on a full disk, and so few bytes are torn seldom and noticed always.
            let mut file = File::options().create(true).truncate(false).write(true).open(store.join(FILE))?;
            file.write_all(&self.encode())?;
            file.sync_all()
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "how far the journal reaches cannot be written down");
        }
    }

    /// For a store that is not there any more.
    pub fn remove(store: &Path) {
        let _never_there = std::fs::remove_file(store.join(FILE)).is_err();
    }

    fn encode(self) -> Vec<u8> {
        let fields = [self.journal.to_be_bytes(), self.bytes.to_be_bytes()].concat();
        let checksum = xxh3_64(&fields);
        [fields, checksum.to_be_bytes().to_vec()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (fields, checksum) = bytes.split_at_checked(FIELDS_BYTES)?;
        let (journal, length) = fields.split_first_chunk()?;
        let is_whole = u64::from_be_bytes(checksum.try_into().ok()?) == xxh3_64(fields);
        let reach = Self { journal: u64::from_be_bytes(*journal), bytes: u64::from_be_bytes(length.try_into().ok()?) };
        is_whole.then_some(reach)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_was_torn_claims_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let read = || Reach::read(dir.path()).unwrap();
        assert_eq!(read(), None);
        for reach in [Reach { journal: 3, bytes: 70_000 }, Reach { journal: 4, bytes: 12 }] {
            reach.write(dir.path());
            assert_eq!(read(), Some(reach));
        }
        let whole = std::fs::read(dir.path().join(FILE)).unwrap();
        for length in 0..whole.len() {
            std::fs::write(dir.path().join(FILE), whole.get(..length).unwrap()).unwrap();
            assert_eq!(read(), None, "{length} bytes");
        }
        Reach::remove(dir.path());
        assert_eq!(read(), None);
    }

    #[test]
    fn what_was_removed_claims_nothing() {
        let dir = tempfile::tempdir().unwrap();
        Reach { journal: 3, bytes: 70_000 }.write(dir.path());
        Reach::remove(dir.path());
        assert_eq!(Reach::read(dir.path()).unwrap(), None);
    }

    #[test]
    fn a_claim_that_is_there_and_cannot_be_read_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        // Even root cannot read a folder as a file.
        std::fs::create_dir(dir.path().join(FILE)).unwrap();
        assert!(Reach::read(dir.path()).is_err());
    }
}
