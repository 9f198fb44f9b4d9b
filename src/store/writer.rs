//! The way in: opening the store, and the owners' handle on the commit thread.
//!
//! A handle never waits for the disk but where it says so, and never writes by itself.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::commit::{Committer, Settings};
use super::dedupe::{self, Epochs};
use super::engine::Engine;
use super::fjall_engine::FjallEngine;
use super::meta::{self, Books, Found};
use super::queue::{Queue, Submission};
use super::shared::Shared;
use super::watch::Announcer;
use super::{Boot, Reporter, StoreError, StoreState, Write};
use crate::clock::{self, Clock};
use crate::config;

use crate::metrics::Metrics;
use crate::store::reader::Reader;

/// An opened store whose commit thread does not run yet.
pub struct Cellar {
    pub boot: Boot,
    pub reader: Reader,
    shared: Arc<Shared>,
    /// As they are on disk.
    books: Books,
    /// As the first batch of this start is to make them.
    first: Books,
    settings: Settings,
}

impl Cellar {
    /// Opens or creates the store, checks format, lock and clean mark; reads at most 100 records.
    pub fn open(config: &config::Store, queue: &config::Queue, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let engine = Arc::new(FjallEngine::open(&config.path, config.cache_bytes)?);
        Self::open_on(engine, config, queue, metrics, clock::wall_ms())
    }

    /// The same on any engine, at the wall time given: for tests and simulation.
    pub fn open_on(
        engine: Arc<dyn Engine>,
        config: &config::Store,
        queue: &config::Queue,
        metrics: Arc<Metrics>,
        wall_ms: u64,
    ) -> Result<Self, StoreError> {
        let found = meta::read(&*engine, &config.path.display().to_string())?;
        let boot = boot(&found, wall_ms);
        metrics.start_records_read.inc_by(boot.records_read);
        let Books { dedupe, dedupe_window_ms, .. } = found.books;
        let epochs = Epochs::new(queue.dedupe_window, (dedupe, dedupe_window_ms), wall_ms);
        let dedupe_window_ms = dedupe::window_ms(queue.dedupe_window);
        let (unclean_upto, expiry_paused) = (boot.maybe_pushed_upto, boot.expiry_paused);
        let first = Books { unclean_upto, expiry_paused, dedupe: epochs.held(), dedupe_window_ms, ..found.books };
        let shared = Arc::new(Shared::new(engine, metrics, epochs, &first));
        let settings = Settings {
            min_free: config.min_free,
            dead_letters_bytes: config.dead_letters_bytes,
            dead_letters_age: config.dead_letters_age,
        };
        Ok(Self { boot, reader: Reader::new(shared.clone()), shared, books: found.books, first, settings })
    }

    /// Removes the clean mark and writes down what opening found (synced), sets a fresh ceiling and starts
    /// the commit thread.
    ///
    /// `clock` must have been started at or above [`Boot::floor`]. [`Reader::ceiling`] has the fresh ceiling as
    /// soon as this returns.
    pub fn start(self, _shards: usize, clock: Clock, reporter: Arc<dyn Reporter>) -> Result<Writer, StoreError> {
        let queue = Arc::new(Queue::default());
        let announcer = Arc::new(Announcer::new(self.shared.clone(), reporter.clone()));
        let (parts, telling) = ((self.shared.clone(), queue.clone()), (reporter, announcer.clone()));
        let committer = Committer::start(parts, telling, self.settings, clock, (self.books, self.first))?;
        let (running, ended) = sync_channel::<Infallible>(0);
        let watcher = spawn("store-watch", move || announcer.watch(&ended))?;
        let committing = move || {
            let _running = running;
            committer.run()
        };
        let threads = Threads { committer: spawn("commit", committing)?, watcher };
        let line = Line { queue, threads: Mutex::new(Some(threads)) };
        Ok(Writer { line: Arc::new(line), shared: self.shared })
    }
}

/// The owners' handle on the commit thread; cheap to clone. When the last one is dropped without
/// [`Writer::close`], the thread commits what waits and ends without the clean mark.
#[derive(Clone)]
pub struct Writer {
    line: Arc<Line>,
    shared: Arc<Shared>,
}

impl Writer {
    /// Queues writes of one shard; returns at once. What may wait is bounded by the owners
    /// (`routing.pending_appends`, one change a user), so this never refuses.
    ///
    /// Nothing may be submitted after [`Writer::close`]: there is nobody left to report on it.
    pub fn submit(&self, shard: usize, writes: Vec<Write>) {
        let count = writes.len();
        if count > 0 && !self.line.queue.submit(Submission { shard, writes }) {
            tracing::error!(shard, count, "writes came after the store was closed and were not taken");
        }
    }

    pub fn state(&self) -> StoreState {
        self.shared.state()
    }

    /// Whether expiry is paused is on disk within about a second and at [`Writer::close`], and comes
    /// back as [`Boot::expiry_paused`].
    pub fn set_expiry_paused(&self, paused: bool) {
        self.shared.expiry_paused.store(paused, Ordering::Relaxed);
    }

    /// What [`Writer::set_expiry_paused`] sets, to be shared by those who pause, resume and show it: one
    /// flag cannot disagree with itself. It begins as [`Boot::expiry_paused`].
    pub fn expiry_paused(&self) -> Arc<AtomicBool> {
        self.shared.expiry_paused.clone()
    }

    /// Empties the dead-letter list; returns how many there were. Blocks until synced.
    pub fn clear_dead_letters(&self) -> Result<u64, StoreError> {
        let closed = || StoreError::Write("the store is closed".into());
        let (reply, answer) = sync_channel(1);
        if !self.line.queue.clear_dead(reply) {
            return Err(closed());
        }
        answer.recv().map_err(|_| closed())?
    }

    /// Commits what waits, writes the clean mark when `clean`, syncs, ends the thread. Blocks.
    /// A second call does nothing.
    pub fn close(&self, clean: bool) -> Result<(), StoreError> {
        self.line.queue.close(clean);
        let threads = self.line.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Threads { committer, watcher }) = threads else { return Ok(()) };
        let outcome = committer.join().unwrap_or_else(|_| Err(StoreError::Write("the commit thread has died".into())));
        // It ends with the commit thread, and has nothing to say.
        let _ended = watcher.join().is_ok();
        outcome
    }
}

struct Line {
    queue: Arc<Queue>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    committer: JoinHandle<Result<(), StoreError>>,
    watcher: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.queue.close(false);
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StoreError> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(work);
    spawned.map_err(|error| StoreError::Write(format!("the thread `{name}` cannot be started: {error}")))
}

fn boot(found: &Found, wall_ms: u64) -> Boot {
    let Books { ceiling, alive_ms, .. } = found.books;
    let unclean = !found.fresh && found.clean.is_none();
    let floor = Boot::floor_of(found.clean, ceiling);
    let newly = (unclean || found.lost_unclean).then_some(floor);
    let clock_went_back = wall_ms < alive_ms;
    Boot {
        floor,
        ceiling,
        maybe_pushed_upto: newly.max(found.books.unclean_upto),
        clock_went_back,
        expiry_paused: clock_went_back || found.books.expiry_paused || found.lost_expiry,
        records_read: found.records_read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::ids::Seq;
    use crate::logged::logged;
    use crate::store::memory::MemoryEngine;
    use crate::store::{CommitReport, Op, UserRecord, What};

    struct Deaf;

    impl Reporter for Deaf {
        fn committed(&self, _: usize, _: CommitReport) {}
        fn ceiling(&self, _: Seq) {}
        fn state(&self, _: StoreState) {}
    }

    fn writer() -> Writer {
        let config = Config::default();
        let engine = MemoryEngine::new();
        let cellar = Cellar::open_on(engine, &config.store, &config.queue, Metrics::new(), clock::wall_ms()).unwrap();
        let clock = Clock::start(cellar.boot.floor.0 + 1);
        cellar.start(1, clock, Arc::new(Deaf)).unwrap()
    }

    #[test]
    fn whoever_pauses_expiry_and_whoever_shows_it_share_one_flag() {
        let writer = writer();
        let shown = writer.expiry_paused();
        writer.set_expiry_paused(true);
        assert!(shown.load(Ordering::Relaxed));
    }

    #[test]
    fn what_comes_when_the_store_is_closed_is_told_of_and_nothing_else() {
        let writer = writer();
        let ops = || vec![Op::PutUser { record: UserRecord::default() }];
        let write = || Write { user: "bob".parse().unwrap(), what: What::Change { token: 1, ops: ops() } };
        assert_eq!(logged(|| writer.submit(0, vec![write()])), [""; 0]);
        writer.close(true).unwrap();
        assert_eq!(logged(|| writer.submit(0, vec![write()])).len(), 1);
        assert_eq!(logged(|| writer.submit(0, Vec::new())), [""; 0]);
    }
}
