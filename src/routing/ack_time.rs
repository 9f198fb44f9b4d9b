//! How long acknowledgements usually take: what decides how long it is worth waiting for one.
//!
//! Devices are near or far, and on a router that has no time left everything takes longer. A message that goes to disk a
//! moment before its last ack comes was written for nothing, which on such a router makes the next ack later still.

/// Of what it knows, an ack changes so small a part.
const SHARE: u64 = 64;
/// What took longer than so many times the longest wait says nothing about a wait: such a device is served from disk.
const FAR_OFF: u64 = 4;

/// A mean that follows what was lately. Before the first ack it is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct AckTime {
    /// Microseconds, times [`SHARE`].
    sum_us: u64,
}

impl AckTime {
    /// A message was acknowledged by a device this long after it had its place in the inbox; `wait_max_us` is the longest
    /// that anybody waits for that.
    pub fn note(&mut self, took_us: u64, wait_max_us: u64) {
        if took_us <= wait_max_us.saturating_mul(FAR_OFF) {
            self.sum_us = self.sum_us - self.usual_us() + took_us;
        }
    }

    pub fn usual_us(self) -> u64 {
        self.sum_us / SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT_MAX_US: u64 = 200_000;

    fn after(acks: usize, took_us: u64, mut time: AckTime) -> AckTime {
        (0..acks).for_each(|_| time.note(took_us, WAIT_MAX_US));
        time
    }

    #[test]
    fn it_follows_what_acks_take_and_is_not_moved_by_one_of_them() {
        let quick = after(1_000, 2_000, AckTime::default());
        assert!((1_900..=2_000).contains(&quick.usual_us()), "{quick:?}");
        assert!(after(1, 60_000, quick).usual_us() < 3_000);
        let slow = after(300, 60_000, quick);
        assert!((59_000..=60_000).contains(&slow.usual_us()), "{slow:?}");
        let quick_again = after(1_000, 2_000, slow);
        assert!((1_900..=2_100).contains(&quick_again.usual_us()), "{quick_again:?}");
    }

    #[test]
    fn who_is_far_behind_says_nothing_about_acks() {
        let quick = after(1_000, 2_000, AckTime::default());
        assert_eq!(after(1_000, FAR_OFF * WAIT_MAX_US + 1, quick), quick);
        assert!(after(1, FAR_OFF * WAIT_MAX_US, quick).usual_us() > quick.usual_us());
        assert_eq!(after(3, u64::MAX, quick), quick);
    }
}
