//! The way in: opening the store, and the owners' handle on the commit thread.
//!
//! A handle never waits for the disk but where it says so, and never writes by itself.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::commit::{Committer, Settings};
use super::dedupe::Epochs;
use super::engine::Engine;
use super::fjall_engine::FjallEngine;
use super::meta::{self, Books, Found};
use super::queue::{Queue, Submission};
use super::shared::Shared;
use super::{Boot, Reporter, StoreError, StoreState, Write};
use crate::clock::{self, Clock};
use crate::config;
use crate::ids::Seq;

use crate::metrics::Metrics;
use crate::store::reader::Reader;

/// An opened store whose commit thread does not run yet.
pub struct Cellar {
    pub boot: Boot,
    pub reader: Reader,
    shared: Arc<Shared>,
    books: Books,
    settings: Settings,
}

impl Cellar {
    /// Opens or creates the store, checks format, lock and clean mark; reads at most 100 records.
    pub fn open(config: &config::Store, queue: &config::Queue, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let engine = Arc::new(FjallEngine::open(&config.path, config.cache_bytes)?);
        Self::open_on(engine, config, queue, metrics, clock::wall_us() / 1000)
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
        let epochs = Epochs::new(queue.dedupe_window, found.books.dedupe, wall_ms);
        let shared = Arc::new(Shared::new(engine, metrics, epochs, &found.books));
        let settings = Settings {
            min_free: config.min_free,
            dead_letters_bytes: config.dead_letters_bytes,
            dead_letters_age: config.dead_letters_age,
        };
        Ok(Self { boot, reader: Reader::new(shared.clone()), shared, books: found.books, settings })
    }

    /// Removes the clean mark (synced), notes a crash that it is the first to see, sets a fresh ceiling and starts the commit thread.
    ///
    /// `clock` must have been started at or above [`Boot::floor`]. The reporter is called on the commit
    /// thread only, the ceiling first; [`Reader::ceiling`] has it as soon as this returns.
    pub fn start(self, _shards: usize, clock: Clock, reporter: Arc<dyn Reporter>) -> Result<Writer, StoreError> {
        let queue = Arc::new(Queue::default());
        let parts = (self.shared.clone(), queue.clone(), reporter);
        let committer = Committer::start(parts, self.settings, clock, self.books, self.boot.maybe_pushed_upto)?;
        let thread = std::thread::Builder::new()
            .name("commit".into())
            .spawn(move || committer.run())
            .map_err(|error| StoreError::Write(format!("the commit thread cannot be started: {error}")))?;
        let line = Line { queue, thread: Mutex::new(Some(thread)) };
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
        let thread = self.line.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(StoreError::Write("the commit thread has died".into())))
    }
}

struct Line {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.queue.close(false);
    }
}

fn boot(found: &Found, wall_ms: u64) -> Boot {
    let Books { ceiling, alive_ms, unclean, .. } = found.books;
    let crashed = !found.fresh && found.clean.is_none();
    // An earlier crash counts too: a device that has not come since is still to be told.
    let maybe_pushed_upto = if crashed { ceiling } else { unclean };
    Boot {
        floor: found.clean.unwrap_or(ceiling),
        ceiling,
        maybe_pushed_upto: (maybe_pushed_upto > Seq::ZERO).then_some(maybe_pushed_upto),
        clock_went_back: wall_ms < alive_ms,
        records_read: found.records_read,
    }
}
