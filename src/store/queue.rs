//! What waits for the commit thread. One producer side for all owners, one consumer.
//!
//! It is bounded by the owners, who stop taking sends in before they have too much pending; so
//! handing over never waits and never refuses, and an owner is never held up by the disk.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Op, StoreError, What, Write};

/// What one batch may weigh: enough to make a sync worth its while, little enough to be encoded in a
/// few milliseconds. A single submission may be more; owners bound that.
const BATCH_BYTES_MAX: u64 = 4 << 20;
/// What a change costs beside the body that it carries, roughly.
const CHANGE_BYTES: u64 = 160;

/// The writes of one shard, in the order of that shard.
#[derive(Debug)]
pub struct Submission {
    pub shard: usize,
    pub writes: Vec<Write>,
}

/// What the commit thread is to do next.
#[derive(Debug)]
pub enum Next {
    Commit(Vec<Submission>),
    /// Empty the dead-letter list and say how many there were.
    ClearDead(SyncSender<Result<u64, StoreError>>),
    /// Nothing came within the time given.
    Idle,
    /// Everything that was handed over is done, and nothing more will come.
    Close {
        clean: bool,
    },
}

enum Item {
    Writes { submission: Submission, bytes: u64 },
    ClearDead(SyncSender<Result<u64, StoreError>>),
}

#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    closing: Option<bool>,
}

impl Queue {
    /// False when the queue is closed; the writes are dropped then.
    pub fn submit(&self, submission: Submission) -> bool {
        let bytes = submission.writes.iter().map(cost).sum();
        self.push(Item::Writes { submission, bytes })
    }

    /// False when the queue is closed.
    pub fn clear_dead(&self, reply: SyncSender<Result<u64, StoreError>>) -> bool {
        self.push(Item::ClearDead(reply))
    }

    /// Nothing is taken in any more. The first call decides how clean the end is.
    pub fn close(&self, clean: bool) {
        self.lock().closing.get_or_insert(clean);
        self.arrived.notify_all();
    }

    /// Nobody is left to take anything: whoever waits for an answer is let go.
    pub fn abandon(&self) {
        self.close(false);
        let unheard = std::mem::take(&mut self.lock().items);
        drop(unheard);
    }

    /// Waits until there is something to do, or for `patience`.
    pub fn next(&self, patience: Duration) -> Next {
        let idle = |waiting: &mut Waiting| waiting.items.is_empty() && waiting.closing.is_none();
        let (mut waiting, _) =
            self.arrived.wait_timeout_while(self.lock(), patience, idle).unwrap_or_else(PoisonError::into_inner);
        match waiting.items.pop_front() {
            Some(Item::ClearDead(reply)) => Next::ClearDead(reply),
            Some(Item::Writes { submission, bytes }) => Next::Commit(waiting.fill(submission, bytes)),
            None => waiting.closing.map_or(Next::Idle, |clean| Next::Close { clean }),
        }
    }

    fn push(&self, item: Item) -> bool {
        let mut waiting = self.lock();
        if waiting.closing.is_some() {
            return false;
        }
        waiting.items.push_back(item);
        self.arrived.notify_one();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Adds what waits behind `first` until the batch is full.
    fn fill(&mut self, first: Submission, mut bytes: u64) -> Vec<Submission> {
        let mut batch = vec![first];
        while let Some(Item::Writes { bytes: more, .. }) = self.items.front() {
            bytes += more;
            if bytes > BATCH_BYTES_MAX {
                break;
            }
            if let Some(Item::Writes { submission, .. }) = self.items.pop_front() {
                batch.push(submission);
            }
        }
        batch
    }
}

fn cost(write: &Write) -> u64 {
    match &write.what {
        What::Append { message, .. } | What::Requeue { message, .. } => 2 * CHANGE_BYTES + message.weight(),
        What::Change { ops, .. } => ops.iter().map(op_cost).sum(),
    }
}

fn op_cost(op: &Op) -> u64 {
    match op {
        Op::Bury { letter } => CHANGE_BYTES + letter.message.as_ref().map_or(0, |message| message.weight()),
        _ => CHANGE_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::{MessageId, Seq, UserId};
    use crate::message::{ENVELOPE_WEIGHT, Message, Tally};
    use crate::store::{DeadLetter, DeadReason, Ticket};

    fn submission(ops: usize) -> Submission {
        let user = UserId::new("u").unwrap();
        let ops = (0..ops).map(|at| Op::PutDue { at_ms: at as u64 }).collect();
        Submission { shard: 0, writes: vec![Write { user, what: What::Change { token: 0, ops } }] }
    }

    #[test]
    fn a_batch_is_bounded_and_takes_at_least_one() {
        let queue = Queue::default();
        let full = (BATCH_BYTES_MAX / CHANGE_BYTES) as usize;
        for ops in [2 * full, full / 2, full / 4, full / 2] {
            assert!(queue.submit(submission(ops)));
        }
        let taken = || match queue.next(Duration::ZERO) {
            Next::Commit(batch) => batch.len(),
            _ => 0,
        };
        assert_eq!([taken(), taken(), taken(), taken()], [1, 2, 1, 0]);
    }

    #[test]
    fn closing_comes_after_everything_that_waited() {
        let queue = Queue::default();
        assert!(queue.submit(submission(1)));
        queue.close(true);
        queue.close(false);
        assert!(!queue.submit(submission(1)));
        assert!(matches!(queue.next(Duration::ZERO), Next::Commit(_)));
        assert!(matches!(queue.next(Duration::ZERO), Next::Close { clean: true }));
    }

    #[test]
    fn whoever_waits_is_let_go_when_the_queue_is_abandoned() {
        let (queue, (reply, answer)) = (Queue::default(), std::sync::mpsc::sync_channel(1));
        assert!(queue.submit(submission(1)) && queue.clear_dead(reply));
        queue.abandon();
        assert!(answer.recv().is_err());
        assert!(!queue.submit(submission(1)));
        assert!(matches!(queue.next(Duration::ZERO), Next::Close { clean: false }));
    }

    fn message(weight: u64) -> Arc<Message> {
        let (id, from) = (MessageId::new("m").unwrap(), UserId::new("u").unwrap());
        let body = vec![b'x'; (weight - ENVELOPE_WEIGHT) as usize - 2].into();
        let message = Message { seq: Seq(1), id, from, body, ts_ms: 0, expires_ms: 0, retry: false };
        assert_eq!(message.weight(), weight);
        Arc::new(message)
    }

    /// How many of two submissions go into the first batch: a message and its entry in dedupe, which cost so much, and
    /// a letter, which costs so much.
    fn taken_at_once(append_bytes: u64, bury_bytes: u64) -> usize {
        let (queue, user) = (Queue::default(), UserId::new("u").unwrap());
        let message_of = |bytes: u64, changes: u64| message(bytes - changes * CHANGE_BYTES);
        let (tally, ticket) = (Tally::default(), Ticket::default());
        let append = What::Append { message: message_of(append_bytes, 2), tally, digest: 0, ticket };
        let (reason, message) = (DeadReason::Purged, Some(message_of(bury_bytes, 1)));
        let letter = DeadLetter { reason, user: user.clone(), device: None, seq: Seq(1), message, buried_ms: 0 };
        for what in [append, What::Change { token: 0, ops: vec![Op::Bury { letter }] }] {
            assert!(queue.submit(Submission { shard: 0, writes: vec![Write { user: user.clone(), what }] }));
        }
        match queue.next(Duration::ZERO) {
            Next::Commit(batch) => batch.len(),
            _ => 0,
        }
    }

    #[test]
    fn a_batch_is_filled_to_its_last_byte_and_no_further() {
        let bytes = BATCH_BYTES_MAX / 2;
        assert_eq!(taken_at_once(bytes, bytes), 2);
        assert_eq!(taken_at_once(bytes + 1, bytes), 1);
        assert_eq!(taken_at_once(bytes, bytes + 1), 1);
    }
}
