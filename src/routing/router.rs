//! A cheap handle on the owners: user → shard. Everyone who wants something of an owner holds one.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::command::{Command, Query};
use super::send_key::SendKeys;
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
    keys: SendKeys,
}

impl Router {
    pub(super) fn new(mailboxes: Vec<Mailbox>) -> Self {
        Self { mailboxes: mailboxes.into(), keys: SendKeys::new(fastrand::u64(..)) }
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

    /// What the sends of this process are known by.
    pub fn keys(&self) -> SendKeys {
        self.keys
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::routing::mailboxes;

    #[test]
    fn there_are_as_many_owners_as_mailboxes() {
        assert_eq!([1, 3].map(|shards| Router::to_test(shards, 1).0.shards()), [1, 3]);
    }

    #[test]
    fn a_batch_is_handed_over_while_there_is_room_and_given_back_when_there_is_none() {
        let (router, mut mail) = Router::to_test(1, 1);
        let (first, second) = (smallvec::smallvec![Command::Tick], smallvec::smallvec![Command::PauseExpiry(true)]);
        assert!(matches!(router.try_send(0, first), Ok(None)));
        let back = router.try_send(0, second).unwrap().expect("it is full");
        assert!(matches!(back[..], [Command::PauseExpiry(true)]));
        assert!(matches!(mail[0].try_recv().unwrap()[..], [Command::Tick]));
        assert!(mail[0].try_recv().is_err());
        drop(mail);
        assert!(matches!(router.try_send(0, back), Err(Gone)));
    }

    #[tokio::test]
    async fn what_is_asked_for_a_user_comes_to_the_owner_of_that_user() {
        let (router, mut mail) = Router::to_test(4, 1);
        let bob: UserId = "bob".parse().unwrap();
        router.ask(&bob, Command::Tick).await.unwrap();
        let told: Vec<_> = mail.iter_mut().map(|batches| batches.try_recv().is_ok()).collect();
        let expected: Vec<_> = (0..4).map(|shard| shard == router.shard_of(&bob)).collect();
        assert_eq!(told, expected);
        drop(mail);
        assert_eq!(router.ask(&bob, Command::Tick).await, Err(Gone));
    }

    #[tokio::test]
    async fn a_question_comes_to_its_owner_past_a_line_that_is_full() {
        let (router, mut mail) = mailboxes(2, 1);
        assert!(matches!(router.try_send(1, smallvec::smallvec![Command::Tick]), Ok(None)));
        router.query(1, Query::Stats { reply: oneshot::channel().0 }).await.unwrap();
        assert!(matches!(mail[1].queries.try_recv(), Ok(Query::Stats { .. })));
        assert!(mail[0].queries.try_recv().is_err());
        assert_eq!(router.query(2, Query::Stats { reply: oneshot::channel().0 }).await, Err(Gone));
    }
}
