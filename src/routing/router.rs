//! A cheap handle on the owners: user → shard. Everyone who wants something of an owner holds one.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::command::{Command, Query};
use crate::ids::UserId;

/// A batch of commands for one owner; a single one costs no allocation.
pub type Batch = smallvec::SmallVec<[Command; 1]>;

/// The owners are gone: the daemon is at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the router has shut down")]
pub struct Gone;

#[derive(Debug, Clone)]
pub(super) struct Mailbox {
    pub batches: mpsc::Sender<Batch>,
    pub queries: mpsc::Sender<Query>,
}

#[derive(Debug, Clone)]
pub struct Router {
    mailboxes: Arc<[Mailbox]>,
}

impl Router {
    pub(super) fn new(mailboxes: Vec<Mailbox>) -> Self {
        Self { mailboxes: mailboxes.into() }
    }

    /// A router whose mailboxes the test empties itself; each takes `room` batches.
    #[cfg(test)]
    pub(crate) fn to_test(shards: usize, room: usize) -> (Self, Vec<mpsc::Receiver<Batch>>) {
        let (mailboxes, receivers) = (0..shards)
            .map(|_| {
                let (batches, receiver) = mpsc::channel(room);
                let (queries, _unheard) = mpsc::channel(1);
                (Mailbox { batches, queries }, receiver)
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        (Self::new(mailboxes), receivers)
    }

    pub fn shards(&self) -> usize {
        self.mailboxes.len()
    }

    /// The owner of `user`: a stable hash, so that everyone agrees.
    pub fn shard_of(&self, user: &UserId) -> usize {
        (xxhash_rust::xxh3::xxh3_64(user.as_str().as_bytes()) % self.mailboxes.len() as u64) as usize
    }

    /// Waits for room in the owner's mailbox: this is the back-pressure a fast sender feels.
    pub async fn send(&self, shard: usize, batch: Batch) -> Result<(), Gone> {
        let mailbox = self.mailboxes.get(shard).ok_or(Gone)?;
        mailbox.batches.send(batch).await.map_err(|_| Gone)
    }

    /// Hands a batch over if there is room; gives it back if there is none now.
    pub fn try_send(&self, shard: usize, batch: Batch) -> Result<Option<Batch>, Gone> {
        match self.mailboxes.get(shard).ok_or(Gone)?.batches.try_send(batch) {
            Ok(()) => Ok(None),
            Err(TrySendError::Full(batch)) => Ok(Some(batch)),
            Err(TrySendError::Closed(_)) => Err(Gone),
        }
    }

    /// One command to the owner of `user`.
    pub async fn ask(&self, user: &UserId, command: Command) -> Result<(), Gone> {
        self.send(self.shard_of(user), smallvec::smallvec![command]).await
    }

    /// For threads that may block (the commit thread, readers): waits for room.
    pub fn send_blocking(&self, shard: usize, batch: Batch) -> Result<(), Gone> {
        let mailbox = self.mailboxes.get(shard).ok_or(Gone)?;
        mailbox.batches.blocking_send(batch).map_err(|_| Gone)
    }

    /// A question to one owner, past the line of commands.
    pub async fn query(&self, shard: usize, query: Query) -> Result<(), Gone> {
        let mailbox = self.mailboxes.get(shard).ok_or(Gone)?;
        mailbox.queries.send(query).await.map_err(|_| Gone)
    }
}
