//! A commit in the making: writes become changes, and the store's books move along with them.
//!
//! Nothing here touches the disk but to empty a dedupe keyspace whose turn has come and to find the
//! oldest dead letters; what a draft says is true only once it was committed.

use super::batch::Batch;
use super::dead::{self, Bounds};
use super::due::DueMemory;
use super::engine::{Engine, Keyspace};
use super::meta::Books;
use super::{DedupeKey, DedupeRecord, Op, StoreError, What, Write, Written};
use super::{dedupe, keys, record};
use crate::ids::UserId;
use crate::message::{Message, Tally};

pub struct Draft {
    pub batch: Batch,
    pub books: Books,
    /// Entries of the appends in `batch`, whose keyspace depends on when it is committed.
    dedupe: Vec<([u8; 20], DedupeRecord)>,
    /// The epoch in which they were put.
    pub epoch: Option<u64>,
    /// The earliest due entry that was put.
    pub due_from: Option<u64>,
    pub dropped_letters: usize,
    /// Letters that went back to an inbox: the disk still shows them.
    requeued: Vec<u64>,
}

impl Draft {
    pub fn new(books: Books) -> Self {
        let batch = Batch::default();
        Self { batch, books, dedupe: Vec::new(), epoch: None, due_from: None, dropped_letters: 0, requeued: Vec::new() }
    }

    /// Adds one write and says what the report will say of it.
    pub fn write(&mut self, write: Write, due: &mut DueMemory) -> Written {
        let user = write.user;
        match write.what {
            What::Append { message, tally, digest, ticket } => {
                let stored = !ticket.is_cancelled();
                if stored {
                    self.append(&user, &message, tally, due);
                    self.know(&user, &message, digest);
                }
                Written::Append { user, seq: message.seq, stored }
            }
            What::Requeue { message, tally, letter, letter_bytes } => {
                self.append(&user, &message, tally, due);
                dead::exhume(letter, letter_bytes, &mut self.books.dead, &mut self.batch);
                self.requeued.push(letter);
                Written::Append { user, seq: message.seq, stored: true }
            }
            What::Change { token, ops } => {
                for op in ops {
                    self.apply(&user, op, due);
                }
                Written::Change { user, token }
            }
        }
    }

    /// Puts the dedupe entries into the keyspace of this epoch, emptied first when its turn has come.
    ///
    /// Until this draft is synced, the books on disk name an epoch that is too old to be looked at,
    /// so a crash in between only means that the keyspace is emptied once more.
    pub fn put_dedupe(&mut self, engine: &dyn Engine, epoch: u64) -> Result<(), StoreError> {
        if self.dedupe.is_empty() {
            return Ok(());
        }
        let keyspace = dedupe::keyspace(epoch);
        if let Some(held) = self.books.dedupe.get_mut(dedupe::parity(epoch))
            && *held != Some(epoch)
        {
            engine.clear(keyspace)?;
            *held = Some(epoch);
        }
        for (key, entry) in self.dedupe.drain(..) {
            self.batch.put(keyspace, &key, |bytes| record::put_dedupe(entry, bytes));
        }
        self.epoch = Some(epoch);
        Ok(())
    }

    pub fn trim_dead(&mut self, engine: &dyn Engine, bounds: Bounds) -> Result<usize, StoreError> {
        let dropped = dead::trim(engine, bounds, &self.requeued, &mut self.books.dead, &mut self.batch)?;
        self.dropped_letters += dropped;
        Ok(dropped)
    }

    fn append(&mut self, user: &UserId, message: &Message, tally: Tally, due: &mut DueMemory) {
        let record = |bytes: &mut Vec<u8>| record::put_message(message, tally, bytes);
        self.batch.put(Keyspace::Inbox, &keys::inbox(user, message.seq), record);
        self.books.totals = self.books.totals.plus(message.weight());
        let minute = keys::minute_after(message.expires_ms);
        if due.remember(user, minute) {
            self.put_due(user, minute);
        }
    }

    fn know(&mut self, user: &UserId, message: &Message, digest: u64) {
        let key = DedupeKey { recipient: user.clone(), from: message.from.clone(), id: message.id.clone() };
        self.dedupe.push((keys::dedupe(self.books.hash_key, &key), DedupeRecord { seq: message.seq, digest }));
    }

    fn apply(&mut self, user: &UserId, op: Op, due: &mut DueMemory) {
        match op {
            Op::Remove { seq, bytes } => {
                self.batch.remove(Keyspace::Inbox, &keys::inbox(user, seq));
                self.books.totals = self.books.totals.since(Tally { messages: 1, bytes });
            }
            Op::PutDevice { device, record } => {
                let key = keys::device(user, &device);
                self.batch.put(Keyspace::Device, &key, |bytes| record::put_device(&record, bytes));
            }
            Op::DropDevice { device } => self.batch.remove(Keyspace::Device, &keys::device(user, &device)),
            Op::PutUser { record } => {
                self.batch.put(Keyspace::User, &keys::user(user), |bytes| record::put_user(&record, bytes));
            }
            Op::PutDue { at_ms } => {
                let minute = keys::minute_after(at_ms);
                due.remember(user, minute);
                self.put_due(user, minute);
            }
            Op::DropDue { at_ms } => {
                let minute = keys::minute_after(at_ms);
                due.forget(user, minute);
                self.batch.remove(Keyspace::Due, &keys::due(minute, user));
            }
            Op::Bury { letter } => dead::bury(&letter, &mut self.books.dead, &mut self.batch),
        }
    }

    fn put_due(&mut self, user: &UserId, minute: u64) {
        self.batch.put(Keyspace::Due, &keys::due(minute, user), |_| ());
        self.due_from = Some(self.due_from.map_or(minute, |from| from.min(minute)));
    }
}
