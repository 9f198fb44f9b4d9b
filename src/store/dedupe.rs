//! How dedupe forgets: two keyspaces used in turn, each emptied whole when its turn comes again.
//!
//! Time is cut into epochs of one dedupe window. Entries go to the keyspace of the present epoch's
//! parity, so an entry is found for at least one window and at most two, and none is ever deleted by
//! itself (a tombstone per message would double the work of the engine).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::engine::Keyspace;

/// Stands for "this keyspace holds nothing".
const NONE: u64 = u64::MAX;

/// The turn of the two keyspaces; written by the commit thread, read by readers.
#[derive(Debug)]
pub struct Epochs {
    window_ms: u64,
    current: AtomicU64,
    held: [AtomicU64; 2],
}

impl Epochs {
    /// `held` is what the store remembers. Time never goes back below it: after a step of the wall
    /// clock to the past, entries are kept longer, never shorter.
    pub fn new(window: Duration, held: [Option<u64>; 2], wall_ms: u64) -> Self {
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1);
        let latest = held.iter().flatten().copied().max().unwrap_or(0);
        let current = AtomicU64::new(latest.max(wall_ms / window_ms));
        Self { window_ms, current, held: held.map(|epoch| AtomicU64::new(epoch.unwrap_or(NONE))) }
    }

    /// Moves on to the epoch of this time and returns it; never back.
    pub fn advance(&self, wall_ms: u64) -> u64 {
        let epoch = wall_ms / self.window_ms;
        self.current.fetch_max(epoch, Ordering::AcqRel).max(epoch)
    }

    /// The keyspace of an epoch now holds that epoch and nothing else.
    pub fn turned(&self, epoch: u64) {
        if let Some(held) = self.held.get(parity(epoch)) {
            held.store(epoch, Ordering::Release);
        }
    }

    /// The keyspaces in which a look-up may find something, the present one first.
    pub fn readable(&self) -> impl Iterator<Item = Keyspace> {
        let current = self.current.load(Ordering::Acquire);
        [current, current.wrapping_sub(1)].into_iter().filter_map(|epoch| {
            let held = self.held.get(parity(epoch))?.load(Ordering::Acquire);
            (held == epoch && held != NONE).then(|| keyspace(epoch))
        })
    }
}

pub fn keyspace(epoch: u64) -> Keyspace {
    if parity(epoch) == 0 { Keyspace::Dedupe0 } else { Keyspace::Dedupe1 }
}

pub fn parity(epoch: u64) -> usize {
    usize::from(!epoch.is_multiple_of(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(epochs: &Epochs) -> Vec<Keyspace> {
        epochs.readable().collect()
    }

    #[test]
    fn an_entry_is_found_for_one_window_and_at_most_two() {
        let epochs = Epochs::new(Duration::from_millis(100), [None, None], 1_000);
        assert_eq!(readable(&epochs), []);
        let epoch = epochs.advance(1_099);
        epochs.turned(epoch);
        assert_eq!(readable(&epochs), [keyspace(10)]);
        epochs.advance(1_199);
        assert_eq!(readable(&epochs), [keyspace(10)], "still within two windows, nothing new yet");
        epochs.turned(epochs.advance(1_199));
        assert_eq!(readable(&epochs), [keyspace(11), keyspace(10)]);
        epochs.advance(1_200);
        assert_eq!(readable(&epochs), [keyspace(11)], "too old, though its keyspace was not emptied yet");
    }

    #[test]
    fn time_that_goes_back_keeps_entries() {
        let epochs = Epochs::new(Duration::from_millis(100), [Some(10), Some(9)], 300);
        assert_eq!(readable(&epochs), [keyspace(10), keyspace(9)]);
        assert_eq!(epochs.advance(400), 10);
    }
}
