//! How many stored messages of each sender are still waiting: a counter that expires, kept in memory.
//!
//! The gateway asks before it lets a send through; owners count up when a message was stored and
//! down when it left an inbox. After a restart everyone begins at zero: the limit is there to stop a
//! flood, not to keep books.

use std::sync::Arc;

use crate::ids::UserId;
use crate::maps::SharedUserMap;

/// A clone is another handle on the same counters.
#[derive(Debug, Clone)]
pub struct Outstanding {
    counts: Arc<SharedUserMap<u64>>,
    max: u64,
}

impl Outstanding {
    /// `max` is `queue.max_outstanding_per_sender`.
    pub fn new(max: u64) -> Self {
        Self { counts: Arc::default(), max }
    }

    /// True when `sender` has as much waiting as it may have.
    pub fn is_full(&self, sender: &UserId) -> bool {
        self.counts.get(sender).is_some_and(|count| *count >= self.max)
    }

    pub(super) fn add(&self, sender: &UserId) {
        *self.counts.entry(sender.clone()).or_insert(0) += 1;
    }

    pub(super) fn subtract(&self, sender: &UserId) {
        self.counts.remove_if_mut(sender, |_, count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }
}
