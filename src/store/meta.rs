//! What the store knows of itself: format, seq ceiling, clean mark, totals, dead letters, dedupe epochs.
//!
//! Read once at opening, in a constant number of reads; after that the commit thread holds the truth
//! and writes what changed along with its batches. It must never decide anything about a message.

use super::batch::Batch;
use super::engine::{Engine, Keyspace};
use super::keys::HashKey;
use super::record::{decode_numbers, numbers_bytes, put_numbers};
use super::{StoreError, keys};
use crate::ids::Seq;
use crate::message::Tally;

/// The format that this doorstep writes, and the only one that it reads.
pub const FORMAT: u64 = 2;

const KEY_FORMAT: &str = "format";
const KEY_CEILING: &str = "ceiling";
const KEY_CLEAN: &str = "clean";
const KEY_TOTALS: &str = "totals";
const KEY_DEAD: &str = "dead";
const KEY_DEDUPE: [&str; 2] = ["dedupe0", "dedupe1"];
const KEY_WINDOW: &str = "window";
const KEY_UNCLEAN: &str = "unclean";
const KEY_EXPIRY: &str = "expiry";

/// Where the dead-letter list begins and ends. Letters are numbered as they are buried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeadBooks {
    /// The oldest letter; everything below was dropped.
    pub head: u64,
    /// What the next letter will be called.
    pub next: u64,
    /// Keys and values of all letters.
    pub bytes: u64,
}

/// The store's books, as they are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Books {
    /// Written with the format, and never changed.
    pub hash_key: HashKey,
    /// No seq above this was ever given out.
    pub ceiling: Seq,
    /// Wall time at which someone was last alive here, milliseconds.
    pub alive_ms: u64,
    /// Messages in all inboxes.
    pub totals: Tally,
    pub dead: DeadBooks,
    /// Which epoch each of the two dedupe keyspaces holds.
    pub dedupe: [Option<u64>; 2],
    /// How long these epochs are, in milliseconds; 0 where that was not written down yet.
    pub dedupe_window_ms: u64,
    /// The highest ceiling that was ever found after an unclean stop; never lowered.
    pub unclean_upto: Option<Seq>,
    /// Nothing expires until an operator has said that the clock is right.
    pub expiry_paused: bool,
}

impl Books {
    /// Adds to `batch` what differs from `before`.
    pub fn write_changes(&self, before: &Self, batch: &mut Batch) {
        if (self.ceiling, self.alive_ms) != (before.ceiling, before.alive_ms) {
            put(batch, KEY_CEILING, [self.ceiling.0, self.alive_ms]);
        }
        if self.totals != before.totals {
            put(batch, KEY_TOTALS, [self.totals.messages, self.totals.bytes]);
        }
        if self.dead != before.dead {
            put(batch, KEY_DEAD, [self.dead.head, self.dead.next, self.dead.bytes]);
        }
        for ((key, epoch), old) in KEY_DEDUPE.into_iter().zip(self.dedupe).zip(before.dedupe) {
            if let (Some(epoch), true) = (epoch, epoch != old) {
                put(batch, key, [epoch]);
            }
        }
        if self.dedupe_window_ms != before.dedupe_window_ms {
            put(batch, KEY_WINDOW, [self.dedupe_window_ms]);
        }
        if let (Some(upto), true) = (self.unclean_upto, self.unclean_upto != before.unclean_upto) {
            put(batch, KEY_UNCLEAN, [upto.0]);
        }
        if self.expiry_paused != before.expiry_paused {
            put(batch, KEY_EXPIRY, [self.expiry_paused.into()]);
        }
    }
}

/// The mark of an orderly end; `upto` is at or above every seq that was given out.
pub fn put_clean(batch: &mut Batch, upto: Seq) {
    put(batch, KEY_CLEAN, [upto.0]);
}

/// Whether this is the mark of an orderly end. A user may have the same name, but not as short a record.
pub fn is_clean(key: &[u8], value: &[u8]) -> bool {
    key == KEY_CLEAN.as_bytes() && value.len() == numbers_bytes(1)
}

pub fn drop_clean(batch: &mut Batch) {
    batch.remove(Keyspace::Meta, KEY_CLEAN.as_bytes());
}

/// What opening found.
#[derive(Debug)]
pub struct Found {
    /// Nothing was ever written here but the format.
    pub fresh: bool,
    pub clean: Option<Seq>,
    /// As they are on disk.
    pub books: Books,
    /// There is an `unclean` that cannot be read.
    pub lost_unclean: bool,
    /// There is an `expiry` that cannot be read.
    pub lost_expiry: bool,
    pub records_read: u64,
}

/// Reads the books, and writes the format into a store that has none.
pub fn read(engine: &dyn Engine, path: &str) -> Result<Found, StoreError> {
    let mut read = Reads { engine, count: 0 };
    let hash_key = read.hash_key(path)?;
    let ceiling = read.numbers(KEY_CEILING)?;
    let [ceiling_us, alive_ms] = ceiling.unwrap_or_default();
    let [messages, bytes] = read.lenient(KEY_TOTALS)?.unwrap_or_default();
    let [head, next, dead_bytes] = read.lenient(KEY_DEAD)?.unwrap_or_default();
    let mut dedupe = [None; 2];
    for (slot, key) in dedupe.iter_mut().zip(KEY_DEDUPE) {
        *slot = read.lenient(key)?.map(|[epoch]| epoch);
    }
    let [dedupe_window_ms] = read.lenient(KEY_WINDOW)?.unwrap_or_default();
    // A clean mark that cannot be read is none: the ceiling is always the safe answer.
    let clean = read.lenient(KEY_CLEAN)?.map(|[upto]| Seq(upto));
    let (unclean, expiry) = (read.marked(KEY_UNCLEAN)?, read.marked(KEY_EXPIRY)?);
    let dead = DeadBooks { head, next: read.next_dead(next)?, bytes: dead_bytes };
    let totals = Tally { messages, bytes };
    let (unclean_upto, expiry_paused) = (unclean.number().map(Seq), expiry.number().is_some_and(|paused| paused != 0));
    let books = Books {
        hash_key,
        ceiling: Seq(ceiling_us),
        alive_ms,
        totals,
        dead,
        dedupe,
        dedupe_window_ms,
        unclean_upto,
        expiry_paused,
    };
    Ok(Found {
        fresh: ceiling.is_none(),
        clean,
        books,
        lost_unclean: unclean == Mark::Damaged,
        lost_expiry: expiry == Mark::Damaged,
        records_read: read.count,
    })
}

/// A record whose absence has a meaning of its own, so that a damaged one may not pass for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Absent,
    Damaged,
    Is(u64),
}

impl Mark {
    fn number(self) -> Option<u64> {
        match self {
            Self::Is(number) => Some(number),
            Self::Absent | Self::Damaged => None,
        }
    }
}

struct Reads<'a> {
    engine: &'a dyn Engine,
    count: u64,
}

impl Reads<'_> {
    /// The one of the store, which is of the format that is known here; one that is new is given both.
    fn hash_key(&mut self, path: &str) -> Result<HashKey, StoreError> {
        self.count += 1;
        let Some(record) = self.engine.get(Keyspace::Meta, KEY_FORMAT.as_bytes())? else {
            return put_format(self.engine);
        };
        // The first number is the format, whatever may follow in another one.
        match needed(KEY_FORMAT, &record)? {
            [FORMAT] => needed(KEY_FORMAT, &record).map(|[_, first, second]| HashKey([first, second])),
            [found] => Err(other_format(path, found)),
        }
    }

    /// Without this record the store cannot be used safely, so a damaged one is an error.
    fn numbers<const N: usize>(&mut self, key: &str) -> Result<Option<[u64; N]>, StoreError> {
        self.count += 1;
        let record = self.engine.get(Keyspace::Meta, key.as_bytes())?;
        record.map(|record| needed(key, &record)).transpose()
    }

    /// Without this record the store is only less exact, so a damaged one counts as none.
    fn lenient<const N: usize>(&mut self, key: &str) -> Result<Option<[u64; N]>, StoreError> {
        self.count += 1;
        let record = self.engine.get(Keyspace::Meta, key.as_bytes())?;
        Ok(record.and_then(|record| decode_or_report(key, &record)))
    }

    fn marked(&mut self, key: &str) -> Result<Mark, StoreError> {
        self.count += 1;
        let Some(record) = self.engine.get(Keyspace::Meta, key.as_bytes())? else { return Ok(Mark::Absent) };
        Ok(decode_or_report(key, &record).map_or(Mark::Damaged, |[number]| Mark::Is(number)))
    }

    /// Never a number that a letter already has, even when the books were lost.
    fn next_dead(&mut self, next: u64) -> Result<u64, StoreError> {
        self.count += 1;
        let mut free = next;
        self.engine.scan(Keyspace::Dead, &keys::dead_from(next), super::engine::Order::Descending, &mut |key, _| {
            free = keys::split_dead(key).map_or(free, |last| last.saturating_add(1));
            std::ops::ControlFlow::Break(())
        })?;
        Ok(free)
    }
}

fn needed<const N: usize>(key: &str, record: &[u8]) -> Result<[u64; N], StoreError> {
    let damaged = |error| StoreError::Read(format!("the store's own record `{key}` is damaged: {error}"));
    decode_numbers(record).map_err(damaged)
}

fn decode_or_report<const N: usize>(key: &str, record: &[u8]) -> Option<[u64; N]> {
    let report = |error: &_| tracing::error!(key, %error, "the store lost a record of its own");
    decode_numbers(record).inspect_err(report).ok()
}

fn put<const N: usize>(batch: &mut Batch, key: &str, numbers: [u64; N]) {
    batch.put(Keyspace::Meta, key.as_bytes(), |bytes| put_numbers(numbers, bytes));
}

fn put_format(engine: &dyn Engine) -> Result<HashKey, StoreError> {
    let hash_key = HashKey::random();
    let HashKey([first, second]) = hash_key;
    let mut batch = Batch::default();
    put(&mut batch, KEY_FORMAT, [FORMAT, first, second]);
    engine.commit(&batch.changes())?;
    Ok(hash_key)
}

fn other_format(path: &str, found: u64) -> StoreError {
    let small = |format: u64| u32::try_from(format).unwrap_or(u32::MAX);
    StoreError::OtherFormat { path: path.to_owned(), found: small(found), known: small(FORMAT) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;
    use crate::store::UserRecord;
    use crate::store::engine::Change;
    use crate::store::memory::MemoryEngine;
    use crate::store::record::put_user;

    #[test]
    fn what_changed_in_the_books_is_written_and_nothing_else() {
        let engine = MemoryEngine::new();
        let mut books = read(&*engine, "memory").unwrap().books;
        type Alter = fn(&mut Books);
        let changes: [(&str, Alter); 8] = [
            ("unclean", |books| books.unclean_upto = Some(Seq(1))),
            ("dedupe0", |books| books.dedupe[0] = Some(2)),
            ("ceiling", |books| books.ceiling = Seq(3)),
            ("ceiling", |books| books.alive_ms = 4),
            ("totals", |books| books.totals = Tally { messages: 5, bytes: 6 }),
            ("dead", |books| books.dead = DeadBooks { head: 7, next: 8, bytes: 9 }),
            ("window", |books| books.dedupe_window_ms = 10),
            ("expiry", |books| books.expiry_paused = true),
        ];
        for (key, change) in changes {
            let (before, mut batch) = (books, Batch::default());
            change(&mut books);
            books.write_changes(&before, &mut batch);
            let keys: Vec<_> = batch.changes().iter().map(|change| change.key).collect();
            assert_eq!(keys, [key.as_bytes()]);
            engine.commit(&batch.changes()).unwrap();
            assert_eq!(read(&*engine, "memory").unwrap().books, books, "{key} is read as it was written");
        }
    }

    #[test]
    fn nothing_but_the_mark_of_an_orderly_end_is_taken_for_it() {
        let mut batch = Batch::default();
        put_clean(&mut batch, Seq(7));
        put(&mut batch, KEY_WINDOW, [7]);
        let namesake = keys::user(&UserId::new(KEY_CLEAN).unwrap());
        batch.put(Keyspace::User, &namesake, |bytes| put_user(&UserRecord::default(), bytes));
        let judged = |change: &Change<'_>| is_clean(change.key, change.value.unwrap());
        assert_eq!(batch.changes().iter().map(judged).collect::<Vec<_>>(), [true, false, false]);
    }
}
