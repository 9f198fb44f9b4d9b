//! The dead-letter list: numbered as buried, bounded in bytes and age, trimmed at its old end.
//!
//! Trimming starts at the oldest letter that is left, so it costs what it drops and never a scan of
//! the list. It must never drop without saying how many.

use std::ops::ControlFlow;

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
    /// Letters buried before this are too old.
    pub oldest_ms: u64,
}

impl Bounds {
    /// Fits nothing: everything is dropped.
    pub const NOTHING: Self = Self { bytes: 0, oldest_ms: u64::MAX };
}

pub fn bury(letter: &DeadLetter, books: &mut DeadBooks, batch: &mut Batch) {
    let record = record::encode_dead(letter);
    books.bytes += KEY_BYTES + record.len() as u64;
    batch.put(Keyspace::Dead, keys::dead(books.next), record);
    books.next += 1;
}

/// Drops the oldest letters that are synced until the list is within its bounds; returns how many.
/// What is buried in the same batch stays until the next time, so the bound may be passed by a batch.
pub fn trim(
    engine: &dyn Engine,
    bounds: Bounds,
    books: &mut DeadBooks,
    batch: &mut Batch,
) -> Result<usize, StoreError> {
    let mut dropped = 0;
    engine.scan(Keyspace::Dead, &keys::dead_from(books.head), Order::Ascending, &mut |key, value| {
        let Some(number) = keys::split_dead(key) else { return ControlFlow::Continue(()) };
        let fits = books.bytes <= bounds.bytes && is_young(value, bounds.oldest_ms);
        if fits || dropped == DROP_MAX {
            return ControlFlow::Break(());
        }
        batch.remove(Keyspace::Dead, key.to_vec());
        books.head = number.saturating_add(1);
        books.bytes = books.bytes.saturating_sub(KEY_BYTES + value.len() as u64);
        dropped += 1;
        ControlFlow::Continue(())
    })?;
    Ok(dropped)
}

/// A letter that cannot be read has no age: it stays until it is in the way.
fn is_young(value: &[u8], oldest_ms: u64) -> bool {
    record::decode_dead(value).map_or(oldest_ms < u64::MAX, |letter| letter.buried_ms >= oldest_ms)
}
