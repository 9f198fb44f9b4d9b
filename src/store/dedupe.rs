//! How dedupe forgets: two keyspaces used in turn, each emptied whole when its turn comes again.
//!
//! Time is cut into epochs of one dedupe window. Entries go to the keyspace of the present epoch's
//! parity, so an entry is found for at least one window and at most two, and none is ever deleted by
//! itself (a tombstone per message would double the work of the engine).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::engine::Keyspace;

/// Epochs that lie further than this ahead of the wall clock were counted by a wrong one.
const AHEAD_MAX: u64 = 2;

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
    /// `held` is what the store remembers, in epochs of `counted_in_ms`; 0 where it does not say. Time never
    /// goes back below it: after a step of the wall clock to the past, entries are kept longer, never shorter.
    /// But not for good: epochs that only a wrong clock can have counted are renamed, see [`renamed`]. So are
    /// those of another window, whose numbers mean nothing in this one.
    pub fn new(window: Duration, (held, counted_in_ms): ([Option<u64>; 2], u64), wall_ms: u64) -> Self {
        let window_ms = window_ms(window);
        let now = wall_ms / window_ms;
        let is_far_ahead = latest(held).is_some_and(|latest| latest > now.saturating_add(AHEAD_MAX));
        let held = if is_far_ahead || counted_in_ms != window_ms { renamed(held, now) } else { held };
        let latest = latest(held).unwrap_or(0);
        let current = AtomicU64::new(latest.max(wall_ms / window_ms));
        Self { window_ms, current, held: held.map(|epoch| AtomicU64::new(epoch.unwrap_or(NONE))) }
    }

    /// Which epoch each of the keyspaces holds.
    pub fn held(&self) -> [Option<u64>; 2] {
        self.held.each_ref().map(|held| Some(held.load(Ordering::Acquire)).filter(|epoch| *epoch != NONE))
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

/// Other names for the epochs that the keyspaces hold, when the wall clock says that it is `now`: those that
/// keep them longest among the ones that come round again, the latest one the next epoch of its parity after
/// the present, the other one the epoch before.
///
/// So neither is emptied before a whole window is over, however young its entries are: the present
/// epoch, whose end may be near, is not given to either. Emptying them here would forget what was sent
/// a moment ago; leaving them would mean that nothing is ever emptied again.
fn renamed(held: [Option<u64>; 2], now: u64) -> [Option<u64>; 2] {
    let Some(latest) = latest(held) else { return held };
    let next = now + 1 + u64::from(parity(latest) != parity(now + 1));
    held.map(|epoch| epoch.map(|epoch| if epoch == latest { next } else { next - 1 }))
}

/// The window as epochs are counted in it.
pub fn window_ms(window: Duration) -> u64 {
    u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn latest(held: [Option<u64>; 2]) -> Option<u64> {
    held.into_iter().flatten().max()
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

    fn epochs(held: [Option<u64>; 2], wall_ms: u64) -> Epochs {
        Epochs::new(Duration::from_millis(100), (held, 100), wall_ms)
    }

    fn readable(epochs: &Epochs) -> Vec<Keyspace> {
        epochs.readable().collect()
    }

    #[test]
    fn an_entry_is_found_for_one_window_and_at_most_two() {
        let epochs = epochs([None, None], 1_000);
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
        let epochs = epochs([Some(10), Some(9)], 800);
        assert_eq!(readable(&epochs), [keyspace(10), keyspace(9)]);
        assert_eq!((epochs.advance(899), epochs.held()), (10, [Some(10), Some(9)]));
    }

    /// Whichever parity the far epochs and the present one have, and however late in the present one it is.
    #[test]
    fn epochs_of_a_wrong_clock_are_kept_for_a_window_and_then_emptied_in_turn() {
        let far = [[Some(1_000), Some(999)], [Some(1_000), Some(1_001)], [Some(4), Some(1_001)], [None, Some(1_001)]];
        for (held, wall_ms) in far.into_iter().flat_map(|held| [400, 499, 500, 599, 0].map(|wall_ms| (held, wall_ms))) {
            let epochs = epochs(held, wall_ms);
            let both = readable(&epochs);
            assert_eq!(both.len(), held.iter().flatten().count(), "{held:?} at {wall_ms}");
            assert_eq!(both.first().copied(), latest(held).map(keyspace), "the latest is asked first");
            epochs.advance(wall_ms + 99);
            assert_eq!(readable(&epochs), both, "{held:?} at {wall_ms}: a window is not over yet");
            for later_ms in [300, 400] {
                let epoch = epochs.advance(wall_ms + later_ms);
                assert_eq!(epoch, (wall_ms + later_ms) / 100, "time goes on");
                assert_ne!(epochs.held()[parity(epoch)], Some(epoch), "its keyspace is to be emptied first");
            }
            assert_eq!(readable(&epochs), []);
            assert_eq!(self::epochs(epochs.held(), wall_ms).held(), epochs.held());
        }
    }

    #[test]
    fn another_window_forgets_nothing_at_first() {
        for counted_in_ms in [7, 99, 101, 1_000, 50_000, 0] {
            let held = [Some(4), Some(3)];
            let epochs = Epochs::new(Duration::from_millis(100), (held, counted_in_ms), 100_050);
            assert_eq!(readable(&epochs), [keyspace(4), keyspace(3)], "{counted_in_ms}");
            epochs.advance(100_149);
            assert_eq!(readable(&epochs).len(), 2, "{counted_in_ms}: a window is not over yet");
            epochs.advance(100_400);
            assert_eq!(readable(&epochs), [], "{counted_in_ms}");
        }
    }

    /// A store was written with that: otherwise the next start looks for each entry where the others are.
    #[test]
    fn an_epoch_keeps_its_keyspace_from_one_build_to_the_next() {
        assert_eq!([0, 1, 10, 11].map(|epoch| keyspace(epoch).name()), ["dedupe0", "dedupe1", "dedupe0", "dedupe1"]);
    }
}
