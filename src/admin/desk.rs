//! What the side door works with: the owners, the views, the store's reader, a few controls.
//!
//! It must never wait without a bound, nor block an async thread: reads of the store go to a blocking
//! thread, a few at a time.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::problem::Problem;
use super::stats::Rates;
use crate::clock::Clock;
use crate::config::Config;
use crate::ids::UserId;
use crate::metrics::Metrics;
use crate::routing::command::{Command, NotDone, Query, UserView};
use crate::routing::events::Events;
use crate::routing::outstanding::Outstanding;
use crate::routing::presence_view::PresenceView;
use crate::routing::router::Router;
use crate::shutdown;
use crate::store::reader::Reader;
use crate::store::{StoreError, StoreState};

/// How long an owner may take to answer a question (it answers between batches).
const QUERY_WAIT: Duration = Duration::from_secs(5);
/// How long an owner may take to do what it was told: a purge goes through the whole inbox.
const COMMAND_WAIT: Duration = Duration::from_secs(60);
/// How long a read of the store may take, the wait for its turn included.
const READ_WAIT: Duration = Duration::from_secs(30);
/// Short reads of the store at once: the blocking threads are there for replay first.
const READS_MAX: usize = 4;
/// Scans over all inboxes at once; they have turns of their own, so that health need not wait for one.
const SCANS_MAX: usize = 2;

/// Everything that calls are answered from. The daemon sets it up.
#[derive(Clone)]
pub struct AdminDesk {
    pub router: Router,
    pub view: PresenceView,
    pub events: Events,
    pub outstanding: Outstanding,
    pub reader: Reader,
    pub metrics: Arc<Metrics>,
    pub controls: Arc<dyn Controls>,
    pub config: Arc<Config>,
    /// The effective configuration for `GET /v1/config`, secrets redacted.
    pub config_json: serde_json::Value,
    /// Set by whoever sends `Command::PauseExpiry(true)`; cleared here by an operator.
    pub expiry_paused: Arc<AtomicBool>,
    pub clock: Clock,
    /// No version of anybody's presence is below: what was told before the start is out of date. Owners hold to the
    /// same one, so that it does not matter whether a user is in memory.
    pub presence_floor: u64,
    /// Wall time of the daemon's start, milliseconds since the Unix epoch.
    pub started_ms: u64,
}

/// What the side door may do to the rest of the daemon, and no more: it holds no writer.
pub trait Controls: Send + Sync + 'static {
    /// Begins an orderly stop; returns at once.
    fn drain(&self);
    fn store_state(&self) -> StoreState;
    /// Empties the dead-letter list and tells how many there were. Blocks until synced.
    fn clear_dead_letters(&self) -> Result<u64, StoreError>;
    /// Everything there is to measure, as OpenMetrics text.
    fn exposition(&self) -> Result<String, String>;
}

/// Answers calls at the desk.
pub(super) struct Clerk {
    pub desk: AdminDesk,
    pub shutdown: shutdown::Listener,
    pub rates: Rates,
    reads: Arc<Semaphore>,
    scans: Arc<Semaphore>,
}

impl Clerk {
    pub(super) fn new(desk: AdminDesk, shutdown: shutdown::Listener) -> Self {
        let (reads, scans) = (Arc::new(Semaphore::new(READS_MAX)), Arc::new(Semaphore::new(SCANS_MAX)));
        Self { desk, shutdown, rates: Rates::default(), reads, scans }
    }

    /// Has the owner of `user` do something, and waits until it is done.
    pub(super) async fn tell<T>(
        &self,
        user: &UserId,
        command: impl FnOnce(oneshot::Sender<Result<T, NotDone>>) -> Command,
    ) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        let told = async {
            self.desk.router.ask(user, command(reply)).await?;
            // A reply dropped unanswered: the owner ended, and may or may not have got to it.
            answer.await.map_err(|_| Problem::no_answer())?.map_err(Problem::from)
        };
        tokio::time::timeout(COMMAND_WAIT, told).await.unwrap_or_else(|_| Err(Problem::no_answer()))
    }

    /// Hands an owner something that has no answer; waits for room in its mailbox.
    pub(super) async fn notify(&self, shard: usize, command: Command) -> Result<(), Problem> {
        let sent = self.desk.router.send(shard, smallvec::smallvec![command]);
        let sent = tokio::time::timeout(COMMAND_WAIT, sent).await.map_err(|_| Problem::no_answer())?;
        Ok(sent?)
    }

    /// Asks one owner.
    pub(super) async fn query<T>(
        &self,
        shard: usize,
        query: impl FnOnce(oneshot::Sender<T>) -> Query,
    ) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.desk.router.query(shard, query(reply)).await?;
            answer.await.map_err(|_| Problem::busy("an owner has ended"))
        };
        tokio::time::timeout(QUERY_WAIT, asked).await.unwrap_or_else(|_| Err(Problem::busy("an owner did not answer")))
    }

    /// Asks every owner, all at once; answers come in the order of shards.
    pub(super) async fn query_all<T>(&self, query: impl Fn(oneshot::Sender<T>) -> Query) -> Result<Vec<T>, Problem> {
        let asked = (0..self.desk.router.shards()).map(|shard| self.query(shard, &query));
        futures::future::try_join_all(asked).await
    }

    /// What the owner of `user` knows of it; none when it is not in memory.
    pub(super) async fn user_in_memory(&self, user: &UserId) -> Result<Option<UserView>, Problem> {
        let shard = self.desk.router.shard_of(user);
        self.query(shard, |reply| Query::User { user: user.clone(), reply }).await
    }

    /// Reads the store on a blocking thread.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let reader = self.desk.reader.clone();
        self.blocking(move || read(&reader)).await?.map_err(Problem::from)
    }

    /// Reads the store from end to end on a blocking thread.
    pub(super) async fn scan<T: Send + 'static>(
        &self,
        scan: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let reader = self.desk.reader.clone();
        in_turn(&self.scans, move || scan(&reader)).await?.map_err(Problem::from)
    }

    /// Runs what blocks for a short while, a few at a time.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        in_turn(&self.reads, work).await
    }
}

async fn in_turn<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let done = async {
        let turn = Arc::clone(turns).acquire_owned().await;
        // The turn goes along, so that it ends with the work even when nobody waits for it any more.
        let work = tokio::task::spawn_blocking(move || (turn, work()));
        work.await.map(|(_turn, result)| result).map_err(|_| Problem::internal("the work was broken off"))
    };
    tokio::time::timeout(READ_WAIT, done).await.unwrap_or_else(|_| Err(Problem::busy("the store did not answer")))
}
