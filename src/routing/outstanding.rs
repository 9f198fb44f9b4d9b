//! How many stored messages of each sender are still waiting: a counter that expires, kept in memory.
//!
//! The gateway asks before it lets a send through; owners count up when a message was stored and
//! down when it left an inbox. After a restart everyone begins at zero: the limit is there to stop a
//! flood, not to keep books.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::UserId;
use crate::maps::SharedUserMap;

/// A clone is another handle on the same counters.
#[derive(Debug, Clone)]
pub struct Outstanding {
    counts: Arc<SharedUserMap<u64>>,
    /// Of all senders. While it is below `max` nobody can have reached that, and nobody need be looked up.
    all: Arc<AtomicU64>,
    max: u64,
}

impl Outstanding {
    /// `max` is `queue.max_outstanding_per_sender`.
    pub fn new(max: u64) -> Self {
        Self { counts: Arc::default(), all: Arc::default(), max }
    }

    /// True when `sender` has as much waiting as it may have.
    pub fn is_full(&self, sender: &UserId) -> bool {
        self.all.load(Ordering::Relaxed) >= self.max && self.counts.get(sender).is_some_and(|count| *count >= self.max)
    }

    pub(super) fn add(&self, sender: &UserId) {
        *self.counts.entry(sender.clone()).or_insert(0) += 1;
        self.all.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, sender: &UserId) {
        self.counts.remove_if_mut(sender, |_, count| {
            // Who is in here has at least one.
            self.all.fetch_sub(1, Ordering::Relaxed);
            *count = count.saturating_sub(1);
            *count == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_as_much_waiting_as_allowed_is_full_until_something_has_left() {
        let (alice, carol) = ("alice".parse().unwrap(), "carol".parse().unwrap());
        let outstanding = Outstanding::new(2);
        outstanding.add(&alice);
        assert!(!outstanding.is_full(&alice));
        outstanding.add(&alice);
        assert!(outstanding.is_full(&alice) && !outstanding.is_full(&carol));
        outstanding.subtract(&alice);
        assert!(!outstanding.is_full(&alice));
    }

    #[test]
    fn senders_with_nothing_waiting_take_no_room() {
        let (alice, outstanding) = ("alice".parse().unwrap(), Outstanding::new(2));
        outstanding.add(&alice);
        outstanding.add(&alice);
        outstanding.subtract(&alice);
        assert_eq!(outstanding.counts.len(), 1);
        outstanding.subtract(&alice);
        // What was counted before a restart may be taken off after it.
        outstanding.subtract(&alice);
        assert!(outstanding.counts.is_empty());
        assert_eq!(outstanding.all.load(Ordering::Relaxed), 0);
    }
}
