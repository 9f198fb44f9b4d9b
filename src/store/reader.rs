//! Pages and peeks; has no way to remove. Every call blocks: callers off the async threads only.

use std::time::Instant;

use super::{DeadLetter, DedupeKey, DedupeRecord, LoadedUser, Page, QueueSummary, StoreError};
use crate::ids::{Seq, UserId};

/// A read-only handle on the store; cheap to clone.
#[derive(Clone)]
pub struct Reader {}

/// How [`Reader::queues`] sorts, greatest (or oldest) first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueSort {
    Depth,
    Bytes,
    Age,
}

impl Reader {
    /// All there is to know of a user, in a bounded number of reads. An unknown user is an empty answer.
    pub fn load(&self, _user: &UserId) -> Result<LoadedUser, StoreError> {
        unimplemented!()
    }

    /// Messages with `after < seq <= upto`, in order, at most `max_messages` and about `max_bytes`
    /// (always at least one when there is one).
    pub fn page(
        &self,
        _user: &UserId,
        _after: Seq,
        _upto: Seq,
        _max_messages: usize,
        _max_bytes: u64,
    ) -> Result<Page, StoreError> {
        unimplemented!()
    }

    pub fn dedupe(&self, _key: &DedupeKey) -> Result<Option<DedupeRecord>, StoreError> {
        unimplemented!()
    }

    /// Users whose due time is at or before `now_ms`, oldest first, at most `limit`.
    pub fn due(&self, _now_ms: u64, _limit: usize) -> Result<Vec<(UserId, u64)>, StoreError> {
        unimplemented!()
    }

    /// Users with a backlog; the flag is false when `deadline` cut the scan short.
    pub fn queues(
        &self,
        _sort: QueueSort,
        _limit: usize,
        _deadline: Instant,
    ) -> Result<(Vec<QueueSummary>, bool), StoreError> {
        unimplemented!()
    }

    /// Users with a registered device, in name order after `after`.
    pub fn users(&self, _after: Option<&UserId>, _limit: usize) -> Result<Vec<UserId>, StoreError> {
        unimplemented!()
    }

    /// Dead letters, oldest first, after the opaque key `after`; each with its own key.
    pub fn dead_letters(&self, _after: Option<u64>, _limit: usize) -> Result<Vec<(u64, DeadLetter)>, StoreError> {
        unimplemented!()
    }

    /// Messages and bytes in all inboxes.
    pub fn totals(&self) -> (u64, u64) {
        unimplemented!()
    }

    /// Free bytes on the file system that holds the store.
    pub fn disk_free(&self) -> u64 {
        unimplemented!()
    }

    /// The highest seq that may be given out.
    pub fn ceiling(&self) -> Seq {
        unimplemented!()
    }
}
