//! The cellar: durable inboxes. This page is the contract; routing knows nothing else of the store.
//!
//! Promises:
//! 1. What a [`CommitReport`] lists as written was synced before the report was made.
//! 2. One [`Write`] is atomic; writes are committed in the order in which they were submitted.
//! 3. After a failed sync the store is poisoned: every later write is reported failed, nothing is retried.
//! 4. Reading never changes anything, and a read that starts after a report sees what it lists.
//! 5. Start-up reads a constant number of records, whatever waits.

mod batch;
mod commit;
mod dead;
mod dedupe;
mod draft;
mod due;
pub mod engine;
mod fjall_engine;
mod journal;
mod keys;
pub mod memory;
mod mend;
mod meta;
mod queue;
mod reach;
pub mod reader;
mod record;
mod shared;
mod tables;
mod watch;
pub mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::ids::{DeviceId, MessageId, Seq, UserId};
use crate::message::{Message, Tally};
use crate::planted::{Bug, planted};

pub use fjall_engine::FjallEngine;
// For those who make stores and journals up.
#[doc(hidden)]
pub use keys::{HashKey, dedupe as dedupe_key};
#[doc(hidden)]
pub use mend::{MendError, mend};

/// Why the store could not do it. `Display` is for people.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("the store at {path} is in use by another process")]
    Locked { path: String },
    #[error("the store at {path} has format {found}, and this doorstep knows format {known} only")]
    OtherFormat { path: String, found: u32, known: u32 },
    #[error("the disk could not be written: {0}")]
    Write(String),
    #[error("the disk could not be read: {0}")]
    Read(String),
    #[error("the store is poisoned by an earlier failed sync")]
    Poisoned,
}

/// What the store can take at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreState {
    Ok,
    /// Below `store.min_free`: durable sends are refused, everything that frees space goes on.
    Low,
    /// A sync failed: nothing is written any more.
    Poisoned,
}

/// A device's registration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceRecord {
    /// Where it began: what is at or below was never meant for it.
    pub start: Seq,
    /// Everything up to here was acknowledged by the device.
    pub cursor: Seq,
    /// The highest seq ever pushed to it in a session that ended.
    pub pushed_upto: Seq,
    pub last_seen_ms: u64,
    /// It lapsed: the next `welcome` says `gap`.
    pub gap: bool,
}

/// What remains of a user's presence while nothing of it is online.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserRecord {
    pub last_seen_ms: u64,
    pub presence_version: u64,
}

/// What dedupe remembers of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupeRecord {
    pub seq: Seq,
    pub digest: u64,
}

/// Why a message ended without being delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    Expired,
    Purged,
    Lapsed,
    DeviceForgotten,
    Corrupt,
}

/// One entry of the dead-letter list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub reason: DeadReason,
    pub user: UserId,
    /// The device that missed it, where only one did.
    pub device: Option<DeviceId>,
    pub seq: Seq,
    /// The message; none when the record could not be read.
    pub message: Option<Arc<Message>>,
    pub buried_ms: u64,
}

/// What the dead-letter list holds under one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundLetter {
    Absent,
    /// It is there, and no message in it can be read.
    Unreadable,
    /// `bytes` is what it takes in the list.
    Whole {
        user: UserId,
        message: Arc<Message>,
        bytes: u64,
    },
}

const WANTED: u8 = 0;
const CANCELLED: u8 = 1;

/// The owner's hold on an append that it has handed over: lets it say that the message is no longer
/// needed on disk. Advisory: the commit report tells what was written all the same.
#[derive(Debug, Clone, Default)]
pub struct Ticket(Arc<AtomicU8>);

impl Ticket {
    pub fn cancel(&self) {
        self.0.store(CANCELLED, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) != WANTED
    }
}

/// One thing an owner asks the writer to do for one user.
#[derive(Debug, Clone)]
pub struct Write {
    pub user: UserId,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    /// A message at the end of the inbox, with its dedupe entry (digest of the body) in the same batch.
    Append { message: Arc<Message>, tally: Tally, digest: u64, ticket: Ticket },
    /// A message that was a dead letter, at the end of the inbox; the letter leaves the list in the same batch, if its
    /// bounds have not taken it by then. Dedupe is told nothing of it, it cannot be called back, and it is reported as
    /// an append.
    Requeue { message: Arc<Message>, tally: Tally, letter: u64, letter_bytes: u64 },
    /// Anything else; all of it or nothing, reported with `token`.
    Change { token: u64, ops: Vec<Op> },
}

/// One part of a [`What::Change`].
#[derive(Debug, Clone)]
pub enum Op {
    /// Takes one message out of the inbox, once. `bytes` is its weight, for the totals. Goes into the
    /// same change as the cursor that makes it superfluous: [`reader::Reader::load`] looks behind the
    /// least cursor only.
    Remove {
        seq: Seq,
        bytes: u64,
    },
    PutDevice {
        device: DeviceId,
        record: DeviceRecord,
    },
    DropDevice {
        device: DeviceId,
    },
    PutUser {
        record: UserRecord,
    },
    /// Someone must look at this user at this time (expiry of messages or of devices).
    /// Rounded up to a minute; repeating it costs nothing.
    PutDue {
        at_ms: u64,
    },
    /// This user was looked at: the entry that [`reader::Reader::due`] reported is done.
    DropDue {
        at_ms: u64,
    },
    Bury {
        letter: DeadLetter,
    },
}

/// What became of the writes of one shard in one batch.
#[derive(Debug, Clone)]
pub struct CommitReport {
    pub written: Vec<Written>,
    /// Set when the batch failed: none of `written` may be counted on (nor ruled out), but what says
    /// `stored: false` is certainly not on disk. With [`StoreError::Poisoned`] nothing was tried.
    pub error: Option<StoreError>,
}

#[derive(Debug, Clone)]
pub enum Written {
    /// `stored` is false when the ticket was cancelled before the batch was cut.
    Append {
        user: UserId,
        seq: Seq,
        stored: bool,
    },
    Change {
        user: UserId,
        token: u64,
    },
}

/// A message as it lies in an inbox.
#[derive(Debug, Clone)]
pub struct Stored {
    pub message: Arc<Message>,
    pub tally: Tally,
}

/// A part of an inbox, in order.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub messages: Vec<Stored>,
    /// Records in the same range that could not be read, with what they weighed.
    pub corrupt: Vec<(Seq, u64)>,
    /// The range was read to its end; otherwise the page was full.
    pub end: bool,
}

/// Everything an owner needs to know of a user it has not in memory.
#[derive(Debug, Clone, Default)]
pub struct LoadedUser {
    pub record: UserRecord,
    pub devices: Vec<LoadedDevice>,
    /// The first and last message of the inbox, with their tallies.
    pub first: Option<(Seq, Tally, u64)>,
    pub last: Option<(Seq, Tally)>,
    /// Some durable dedupe entry may exist for this recipient.
    pub has_dedupe: bool,
}

#[derive(Debug, Clone)]
pub struct LoadedDevice {
    pub device: DeviceId,
    pub record: DeviceRecord,
    /// The tally just before the first message behind the cursor; none if nothing is.
    pub base: Option<Tally>,
}

/// A user with a backlog, for operators.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct QueueSummary {
    pub user: UserId,
    pub messages: u64,
    pub bytes: u64,
    pub oldest_ms: u64,
}

/// The id of a message within dedupe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedupeKey {
    pub recipient: UserId,
    pub from: UserId,
    pub id: MessageId,
}

/// What opening found; decides where the seq clock starts.
#[derive(Debug, Clone)]
pub struct Boot {
    /// Seqs are given out above this, whatever the wall clock says.
    pub floor: Seq,
    /// No seq above this may be given out until [`Reporter::ceiling`] raises it.
    pub ceiling: Seq,
    /// Set once there ever was an unclean stop: anything at or below may have been pushed to any device,
    /// whatever its record says. Only the next unclean stop raises it.
    pub maybe_pushed_upto: Option<Seq>,
    /// The wall clock stands before the stored alive stamp.
    pub clock_went_back: bool,
    /// Expiry begins paused: the clock went back, or nobody has resumed it since it was paused.
    pub expiry_paused: bool,
    /// Records read while opening; at most 100 whatever waits.
    pub records_read: u64,
}

impl Boot {
    /// What was given out is at or below: after an orderly stop what that wrote down, after any other the ceiling.
    pub fn floor_of(clean: Option<Seq>, ceiling: Seq) -> Seq {
        match clean {
            Some(upto) => upto,
            // Then the clock alone decides, and it may stand where seqs were given out before.
            None if planted(Bug::SeqWithoutCeiling) => Seq::ZERO,
            None => ceiling,
        }
    }
}

/// Where the commit thread reports; called on that thread, may block it (it is back-pressure). That the
/// store is poisoned may come from another thread, while a commit hangs.
pub trait Reporter: Send + Sync + 'static {
    fn committed(&self, shard: usize, report: CommitReport);
    fn ceiling(&self, ceiling: Seq);
    fn state(&self, state: StoreState);
}
