//! What a client keeps beyond its process: sends without an answer, and what was done.
//!
//! Types only. With a storage a send outlives the process that made it, and a message that was done in one process is
//! not done again in the next; without one both hold as long as the process lives.

use std::fmt;
use std::io;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::ids::{MessageId, Seq, UserId};

/// Names of done messages that are worth keeping: a client remembers no more.
pub const NAMES_MAX: usize = 8192;

/// A place that outlives the process, for one device of one user at one router.
///
/// The library calls it on threads that may block, one call at a time, and waits for each to return before it relies on
/// what was written: a send goes out after [`Change::Send`] was written, a message is acked after [`Change::Done`]
/// was. A storage that fails ends its client, with [`super::Closed::Storage`]: going on would break those promises.
///
/// What it is given is bounded: sends by 16 MiB with 4 KiB for each, done messages by the window.
pub trait Storage: fmt::Debug + Send + Sync {
    /// Everything that was written and holds still. Called once, before the client connects.
    ///
    /// # Errors
    /// When it cannot be read, or what was read makes no sense.
    fn load(&self) -> io::Result<Kept>;

    /// Makes `changes` last, in this order; after a crash meanwhile, either a part from the front or all of them hold.
    ///
    /// # Errors
    /// When it is not known that all of them will outlive the process and the machine.
    fn write(&self, changes: &[Change]) -> io::Result<()>;
}

/// One thing to be kept, or to be dropped.
#[derive(Debug, Clone)]
pub enum Change {
    /// Who the router says this is.
    User(UserId),
    /// A message that waits for its answer.
    Send(KeptSend),
    /// The message has its answer.
    Settled { id: MessageId, to: UserId },
    /// Everything up to `seq` is done; `name` is that of the message at `seq`.
    Done { seq: Seq, name: u128 },
    /// The device was unregistered: all of the above is dropped.
    Forgotten,
}

/// A message that may have been sent, and has no answer yet.
#[derive(Debug, Clone)]
pub struct KeptSend {
    pub id: MessageId,
    pub to: UserId,
    /// One JSON value, byte for byte.
    pub body: Box<RawValue>,
    pub ttl: Option<Duration>,
}

/// What a storage holds.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Who the router said this is; a client that is taken for another one ends.
    pub user: Option<UserId>,
    /// In the order in which they were written.
    pub sends: Vec<KeptSend>,
    /// Everything up to here is done.
    pub done: Seq,
    /// The last [`NAMES_MAX`] that were done, oldest first.
    pub names: Vec<u128>,
}

impl Kept {
    /// Makes `change` part of what is held.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::User(user) => self.user = Some(user.clone()),
            Change::Send(send) => self.sends.push(send.clone()),
            Change::Settled { id, to } => self.sends.retain(|send| send.id != *id || send.to != *to),
            Change::Done { seq, name } => {
                self.done = self.done.max(*seq);
                self.names.push(*name);
                // In large steps, or each would move all of them.
                if self.names.len() > NAMES_MAX * 2 {
                    self.names.drain(..self.names.len() - NAMES_MAX);
                }
            }
            Change::Forgotten => *self = Self::default(),
        }
    }
}
