//! The dead-letter list: numbered as buried, bounded in bytes and age, trimmed at its old end. From its midst a letter
//! goes only back to the inbox that it came from.
//!
//! Trimming starts at the oldest letter that is left, so it costs what it drops and never a scan of
//! the list. It must never drop without saying how many.

use std::ops::ControlFlow;
use std::time::Duration;

use super::batch::Batch;
use super::engine::{Engine, Keyspace, Order};
use super::meta::DeadBooks;
use super::{DeadLetter, StoreError, keys, record};

/// Letters dropped in one commit, at most.
const DROP_MAX: usize = 4096;
const KEY_BYTES: u64 = 8;

/// Which letters are too many.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub bytes: u64,
    /// Letters buried before this are too old, and so are those buried after the other one: their time is
    /// that of a wrong clock, and would keep them, and all behind them, for good.
    pub oldest_ms: u64,
    pub youngest_ms: u64,
}

impl Bounds {
    /// Fits nothing: everything is dropped.
    pub const NOTHING: Self = Self { bytes: 0, oldest_ms: u64::MAX, youngest_ms: 0 };

    /// Letters of any age.
    pub fn of_bytes(bytes: u64) -> Self {
        Self { bytes, oldest_ms: 0, youngest_ms: u64::MAX }
    }

    pub fn of_bytes_and_age(bytes: u64, age: Duration, now_ms: u64) -> Self {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self { bytes, oldest_ms: now_ms.saturating_sub(age_ms), youngest_ms: now_ms.saturating_add(age_ms) }
    }

    /// None where that cannot be told: a letter that cannot be read has no age.
    fn is_too_old(self, value: &[u8]) -> Option<bool> {
        let fits_nothing = self.oldest_ms > self.youngest_ms;
        let buried = record::decode_dead(value).ok().map(|letter| letter.buried_ms);
        buried.map(|ms| ms < self.oldest_ms || ms > self.youngest_ms).or(fits_nothing.then_some(true))
    }
}

pub fn bury(letter: &DeadLetter, books: &mut DeadBooks, batch: &mut Batch) {
    let record = |bytes: &mut Vec<u8>| {
        let before = bytes.len();
        record::put_dead(letter, bytes);
        books.bytes += bytes_of(bytes.get(before..).unwrap_or_default());
    };
    batch.put(Keyspace::Dead, &keys::dead(books.next), record);
    books.next += 1;
}

/// What a letter takes in the list whose record is so long.
pub fn bytes_of(record: &[u8]) -> u64 {
    KEY_BYTES + record.len() as u64
}

/// Takes a letter out that goes back to an inbox. One that was dropped meanwhile is gone already, and is not taken
/// off the books a second time.
pub fn exhume(number: u64, bytes: u64, books: &mut DeadBooks, batch: &mut Batch) {
    if number < books.head {
        return;
    }
    batch.remove(Keyspace::Dead, &keys::dead(number));
    books.bytes = books.bytes.saturating_sub(bytes);
    if number == books.head {
        books.head = number.saturating_add(1);
    }
}

/// Drops the oldest letters that are synced until the list is within its bounds; returns how many.
/// What is buried in the same batch stays until the next time, so the bound may be passed by a batch.
///
/// A letter that cannot be read is as old as the next one that can: it goes with that one, or stays. Those in `gone`
/// leave in the same batch for an inbox, so they are neither dropped nor counted.
pub fn trim(
    engine: &dyn Engine,
    bounds: Bounds,
    gone: &[u64],
    books: &mut DeadBooks,
    batch: &mut Batch,
) -> Result<usize, StoreError> {
    let mut dropped = 0;
    let mut unsure = Vec::new();
    engine.scan(Keyspace::Dead, &keys::dead_from(books.head), Order::Ascending, &mut |key, value| {
        let Some(number) = keys::split_dead(key).filter(|number| !gone.contains(number)) else {
            return ControlFlow::Continue(());
        };
        if dropped + unsure.len() == DROP_MAX {
            return ControlFlow::Break(());
        }
        unsure.push((number, bytes_of(value)));
        match bounds.is_too_old(value) {
            Some(false) if books.bytes <= bounds.bytes => return ControlFlow::Break(()),
            None if books.bytes <= bounds.bytes => return ControlFlow::Continue(()),
            _ => {}
        }
        for (number, bytes) in unsure.drain(..) {
            batch.remove(Keyspace::Dead, &keys::dead(number));
            books.head = number.saturating_add(1);
            books.bytes = books.bytes.saturating_sub(bytes);
            dropped += 1;
        }
        ControlFlow::Continue(())
    })?;
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use super::*;
    use crate::ids::{Seq, UserId};
    use crate::store::DeadReason;
    use crate::store::memory::MemoryEngine;

    const AGE: Duration = Duration::from_millis(100);

    /// A list of letters that were buried at these times; None cannot be read.
    fn list(buried: &[Option<u64>]) -> (Arc<MemoryEngine>, DeadBooks) {
        let (engine, mut books, mut batch) = (MemoryEngine::new(), DeadBooks::default(), Batch::default());
        for at in buried {
            let (reason, user) = (DeadReason::Purged, UserId::new("bob").unwrap());
            let buried_ms = at.unwrap_or(0);
            bury(
                &DeadLetter { reason, user, device: None, seq: Seq(1), message: None, buried_ms },
                &mut books,
                &mut batch,
            );
            if at.is_none() {
                batch.put(Keyspace::Dead, &keys::dead(books.next - 1), |bytes| bytes.extend_from_slice(b"no letter"));
            }
        }
        engine.commit(&batch.changes()).unwrap();
        (engine, books)
    }

    fn dropped(buried: &[Option<u64>], bounds: Bounds) -> usize {
        let (engine, mut books) = list(buried);
        trim(&*engine, bounds, &[], &mut books, &mut Batch::default()).unwrap()
    }

    #[test]
    fn what_has_no_age_does_not_keep_what_is_too_old() {
        let at_1000 = Bounds::of_bytes_and_age(u64::MAX, AGE, 1_000);
        let (old, young, unreadable) = (Some(800), Some(950), None);
        assert_eq!(dropped(&[old, old, young, old], at_1000), 2);
        assert_eq!(dropped(&[unreadable, unreadable, old, young], at_1000), 3);
        assert_eq!(dropped(&[old, unreadable, young], at_1000), 1, "as young as the next");
        assert_eq!(dropped(&[unreadable], at_1000), 0);
        assert_eq!(dropped(&[Some(5_000), old, young], at_1000), 2, "the clock was wrong");
        assert_eq!(dropped(&[Some(1_050), young], at_1000), 0, "a little ahead is nothing");
    }

    #[test]
    fn a_letter_may_be_just_as_old_as_its_bound_or_as_far_ahead() {
        let at_1000 = Bounds::of_bytes_and_age(u64::MAX, AGE, 1_000);
        for (buried_ms, is_dropped) in [(899, true), (900, false), (1_100, false), (1_101, true)] {
            assert_eq!(dropped(&[Some(buried_ms)], at_1000), usize::from(is_dropped), "buried at {buried_ms}");
        }
        let no_age = Bounds::of_bytes_and_age(u64::MAX, Duration::ZERO, 1_000);
        assert_eq!(dropped(&[None], no_age), 0, "it cannot be told to be older than that");
    }

    #[test]
    fn one_commit_drops_a_bounded_number_of_letters() {
        assert_eq!(dropped(&[Some(1); DROP_MAX + 1], Bounds::NOTHING), DROP_MAX);
    }

    #[test]
    fn a_clearing_takes_what_cannot_be_read_even_when_the_books_were_lost() {
        let (engine, _) = list(&[None, Some(1), None]);
        let mut lost = DeadBooks::default();
        assert_eq!(trim(&*engine, Bounds::NOTHING, &[], &mut lost, &mut Batch::default()).unwrap(), 3);
    }

    #[test]
    fn bytes_are_bounded_whatever_can_be_read() {
        for buried in [[Some(1); 5], [None; 5]] {
            let (_, books) = list(&buried);
            assert_eq!(dropped(&buried, Bounds::NOTHING), 5);
            assert_eq!(dropped(&buried, Bounds::of_bytes(books.bytes)), 0);
            assert_eq!(dropped(&buried, Bounds::of_bytes(books.bytes - 1)), 1, "a byte too many costs a letter");
        }
        let (_, books) = list(&[Some(1); 5]);
        assert_eq!(dropped(&[Some(1); 5], Bounds::of_bytes(books.bytes / 2)), 3);
    }

    #[test]
    fn a_letter_that_goes_back_is_taken_off_the_books_once() {
        let (engine, before) = list(&[Some(1); 4]);
        let each = before.bytes / 4;
        let (mut books, mut batch) = (before, Batch::default());
        exhume(2, each, &mut books, &mut batch);
        assert_eq!(books, DeadBooks { bytes: 3 * each, ..before });
        // The batch is not synced, so the disk still shows it.
        assert_eq!(trim(&*engine, Bounds::NOTHING, &[2], &mut books, &mut batch).unwrap(), 3);
        assert_eq!((books.bytes, books.head), (0, 4));
        exhume(1, each, &mut books, &mut batch);
        assert_eq!((books.bytes, books.head), (0, 4), "it was dropped before");
    }

    #[test]
    fn the_list_begins_behind_a_first_letter_that_went_back() {
        let (engine, mut books) = list(&[Some(1); 2]);
        let each = books.bytes / 2;
        exhume(0, each, &mut books, &mut Batch::default());
        assert_eq!((books.head, books.bytes), (1, each));
        assert_eq!(trim(&*engine, Bounds::of_bytes(0), &[0], &mut books, &mut Batch::default()).unwrap(), 1);
    }
}
