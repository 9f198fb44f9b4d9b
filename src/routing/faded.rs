//! Sends that memory had to let go of before their time and the disk still knows: a Bloom filter of them. What is not
//! in it needs no look at the disk; what is in it may be there by chance, which costs one look.
//!
//! Two filters take turns, each filled for one dedupe window and kept for another, so that whatever was put in is
//! found for at least a window. When they are too full, more and more sends are looked up; none is missed.

use super::send_key::SendKey;

/// Bits that each key sets.
const PROBES: u64 = 4;
/// Bits for each send that may be known in memory: with ten for each in the filter, one in eighty is looked up in vain,
/// so this is enough for six times as many.
const BITS_PER_KNOWN: usize = 64;
const WORD_BITS: u64 = u64::BITS as u64;

#[derive(Debug)]
pub struct Faded {
    window_us: u64,
    /// A power of two.
    words: usize,
    /// The one that is being filled, and the one before; no words in one that nothing was put in.
    pub(super) filters: [Vec<u64>; 2],
    /// When the present one was begun, hybrid microseconds.
    pub(super) since_us: u64,
}

impl Faded {
    /// Beside a memory of `known` sends.
    pub fn new(known: usize, window_us: u64) -> Self {
        let words = (known.saturating_mul(BITS_PER_KNOWN) / WORD_BITS as usize).max(16).next_power_of_two();
        Self { window_us, words, filters: Default::default(), since_us: 0 }
    }

    pub fn note(&mut self, key: SendKey, now_us: u64) {
        self.take_turns(now_us);
        let [present, _] = &mut self.filters;
        if present.is_empty() {
            present.resize(self.words, 0);
        }
        for bit in probes(key, self.words) {
            if let Some(word) = present.get_mut((bit / WORD_BITS) as usize) {
                *word |= 1 << (bit % WORD_BITS);
            }
        }
    }

    /// False when it was certainly not put in within the last window.
    pub fn may_have(&self, key: SendKey) -> bool {
        let is_set = |filter: &Vec<u64>, bit: u64| {
            filter.get((bit / WORD_BITS) as usize).is_some_and(|word| word & (1 << (bit % WORD_BITS)) != 0)
        };
        self.filters.iter().any(|filter| probes(key, self.words).all(|bit| is_set(filter, bit)))
    }

    /// Touches the first word that will be looked at.
    pub fn touch(&self, key: SendKey) {
        let [present, before] = &self.filters;
        let word = probes(key, self.words).next().map_or(0, |bit| (bit / WORD_BITS) as usize);
        std::hint::black_box((present.get(word).copied(), before.get(word).copied()));
    }

    fn take_turns(&mut self, now_us: u64) {
        let [present, before] = &mut self.filters;
        if now_us < self.since_us.saturating_add(self.window_us) {
            return;
        }
        std::mem::swap(present, before);
        present.clear();
        if now_us >= self.since_us.saturating_add(self.window_us.saturating_mul(2)) {
            before.clear();
        }
        self.since_us = now_us;
    }
}

/// The key is a hash already, and of a seed that nobody outside knows.
fn probes(SendKey(key): SendKey, words: usize) -> impl Iterator<Item = u64> {
    let (first, step) = (key as u64, (key >> 64) as u64 | 1);
    let bits = words as u64 * WORD_BITS;
    (0..PROBES).map(move |n| first.wrapping_add(n.wrapping_mul(step)) & (bits - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> SendKey {
        SendKey(xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes()))
    }

    #[test]
    fn what_was_put_in_is_found_for_a_window_and_gone_after_three() {
        let mut faded = Faded::new(1_000, 100);
        for now_us in 1_000..2_000 {
            faded.note(key(now_us), now_us);
            assert!((now_us - 99..=now_us).all(|then| then < 1_000 || faded.may_have(key(then))), "at {now_us}");
        }
        assert!(!faded.may_have(key(1_700)));
    }

    #[test]
    fn a_long_silence_forgets_both_at_once() {
        let mut faded = Faded::new(10, 100);
        faded.note(key(1), 1_000);
        faded.note(key(2), 1_200);
        assert!(!faded.may_have(key(1)) && faded.may_have(key(2)));
    }

    #[test]
    fn six_times_as_many_as_memory_knows_cost_few_looks_in_vain() {
        let mut faded = Faded::new(1_000, 1_000_000);
        (0..6_000).for_each(|n| faded.note(key(n), 1));
        assert!((0..6_000).all(|n| faded.may_have(key(n))));
        let in_vain = (10_000..20_000).filter(|n| faded.may_have(key(*n))).count();
        assert!(in_vain < 300, "{in_vain} of 10,000");
    }

    #[test]
    fn nothing_is_kept_for_those_who_never_forget_early() {
        let faded = Faded::new(1_000_000, 100);
        assert!(!faded.may_have(key(1)) && faded.filters.iter().all(Vec::is_empty));
    }

    #[test]
    fn what_was_put_in_a_whole_window_ago_is_found() {
        let mut faded = Faded::new(10, 100);
        for (n, now_us) in [(1, 1_000), (2, 1_100), (3, 1_200)] {
            faded.note(key(n), now_us);
        }
        assert_eq!([1, 2, 3].map(|n| faded.may_have(key(n))), [false, true, true]);
    }

    #[test]
    fn every_key_sets_as_many_bits_as_any_other() {
        for high in 0..100 {
            let bits: std::collections::BTreeSet<u64> = probes(SendKey(high << 64), 16).collect();
            assert_eq!(bits.len() as u64, PROBES, "{high}");
        }
    }
}
