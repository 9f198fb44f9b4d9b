//! What the store's tests stand on: a store that can be opened again and again on either engine, a
//! reporter that remembers, and an engine that counts what is read.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use doorstep::clock::{Clock, wall_us};
use doorstep::config;
use doorstep::ids::{DeviceId, MessageId, Seq, UserId};
use doorstep::message::{Message, Tally};
use doorstep::metrics::Metrics;
use doorstep::store::engine::{Change, Engine, KeyRange, Keyspace, Order, Visitor};
use doorstep::store::memory::{MemoryEngine, Unsynced};
use doorstep::store::reader::Reader;
use doorstep::store::writer::{Cellar, Writer};
use doorstep::store::{
    Boot, CommitReport, FjallEngine, Op, Reporter, StoreError, StoreState, Ticket, What, Write, Written,
};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub fn store_config(path: &Path) -> config::Store {
    config::Store {
        path: path.to_owned(),
        commit_delay: Duration::from_millis(20),
        commit_delay_max: Duration::from_millis(200),
        min_free: 0,
        poison_grace: Duration::from_secs(30),
        page_messages: 256,
        page_bytes: 256 << 10,
        cache_bytes: 8 << 20,
        dead_letters_bytes: 1 << 20,
        dead_letters_age: Duration::from_secs(3600),
    }
}

pub fn queue_config() -> config::Queue {
    config::Queue {
        accept_timeout: Duration::from_secs(10),
        dedupe_window: Duration::from_secs(3600),
        dedupe_max: 1000,
        ttl: Duration::from_secs(3600),
        max_messages: 1000,
        max_bytes: 1 << 20,
        max_total_bytes: 1 << 30,
        max_outstanding_per_sender: 1000,
        max_devices_per_user: 8,
        device_expiry: Duration::from_secs(3600),
        expiry_grace: std::time::Duration::ZERO,
    }
}

/// Where a store lives; outlives every opening of it.
pub enum Ground {
    Disk(tempfile::TempDir),
    Memory(Arc<MemoryEngine>),
}

pub struct Home {
    pub ground: Ground,
    pub store: config::Store,
    pub queue: config::Queue,
}

impl Home {
    pub fn on_disk() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = store_config(dir.path());
        Self { ground: Ground::Disk(dir), store, queue: queue_config() }
    }

    pub fn in_memory() -> Self {
        let store = store_config(Path::new("memory"));
        Self { ground: Ground::Memory(MemoryEngine::new()), store, queue: queue_config() }
    }

    /// The engine of this opening. On disk there can be only one at a time.
    pub fn engine(&self) -> Arc<dyn Engine> {
        match &self.ground {
            Ground::Disk(dir) => Arc::new(FjallEngine::open(dir.path(), self.store.cache_bytes).unwrap()),
            Ground::Memory(engine) => engine.clone(),
        }
    }

    pub fn memory(&self) -> Arc<MemoryEngine> {
        match &self.ground {
            Ground::Memory(engine) => engine.clone(),
            Ground::Disk(_) => panic!("this test needs the engine in memory"),
        }
    }

    /// The power goes while the store runs; the next opening sees what is on disk.
    pub fn crash(&mut self, unsynced: Unsynced) {
        self.ground = Ground::Memory(self.memory().crash(unsynced));
    }

    pub fn open(&self) -> Cellar {
        self.open_at(wall_us() / 1000)
    }

    pub fn open_at(&self, wall_ms: u64) -> Cellar {
        self.try_open_on(self.engine(), wall_ms).unwrap()
    }

    pub fn try_open_on(&self, engine: Arc<dyn Engine>, wall_ms: u64) -> Result<Cellar, StoreError> {
        Cellar::open_on(engine, &self.store, &self.queue, Metrics::new(), wall_ms)
    }

    pub fn start(&self) -> Running {
        self.start_on(self.engine())
    }

    pub fn start_on(&self, engine: Arc<dyn Engine>) -> Running {
        self.start_on_at(engine, wall_us() / 1000)
    }

    /// Opened at this wall time; the commit thread's clock is the real one.
    pub fn start_at(&self, wall_ms: u64) -> Running {
        self.start_on_at(self.engine(), wall_ms)
    }

    fn start_on_at(&self, engine: Arc<dyn Engine>, wall_ms: u64) -> Running {
        let metrics = Metrics::new();
        let cellar = Cellar::open_on(engine, &self.store, &self.queue, metrics.clone(), wall_ms).unwrap();
        Running::new(cellar, metrics)
    }
}

/// A store whose commit thread runs.
pub struct Running {
    pub boot: Boot,
    pub reader: Reader,
    pub writer: Writer,
    pub log: Arc<Log>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

impl Running {
    fn new(cellar: Cellar, metrics: Arc<Metrics>) -> Self {
        let (boot, reader, log) = (cellar.boot.clone(), cellar.reader.clone(), Arc::new(Log::default()));
        let clock = Clock::start(boot.floor.0);
        let writer = cellar.start(4, clock, log.clone()).unwrap();
        Self { boot, reader, writer, log, clock, metrics }
    }

    /// Hands over writes of shard 0 and waits for their report.
    pub fn commit(&self, writes: Vec<Write>) -> CommitReport {
        let (before, count) = (self.log.written(0).len(), writes.len());
        self.writer.submit(0, writes);
        self.log.wait("a report", |log| log.count(0) >= before + count);
        self.log.last(0)
    }

    /// A commit that must work.
    pub fn store(&self, writes: Vec<Write>) {
        assert!(self.commit(writes).error.is_none());
    }

    pub fn change(&self, name: &str, ops: Vec<Op>) {
        self.store(vec![change(name, 0, ops)]);
    }

    /// The seqs that a page over a whole inbox shows.
    pub fn inbox(&self, name: &str) -> Vec<u64> {
        let page = self.reader.page(&user(name), Seq::ZERO, Seq::MAX, usize::MAX, u64::MAX).unwrap();
        assert!(page.end && page.corrupt.is_empty());
        page.messages.iter().map(|stored| stored.message.seq.0).collect()
    }
}

/// A reporter that remembers.
#[derive(Default)]
pub struct Log {
    entries: Mutex<Entries>,
    grown: Condvar,
}

#[derive(Default)]
pub struct Entries {
    pub reports: Vec<(usize, CommitReport)>,
    pub ceilings: Vec<Seq>,
    pub states: Vec<StoreState>,
}

impl Entries {
    pub fn count(&self, shard: usize) -> usize {
        self.reports.iter().filter(|(at, _)| *at == shard).map(|(_, report)| report.written.len()).sum()
    }
}

impl Log {
    /// Waits until `done` is true of what was reported.
    pub fn wait(&self, what: &str, done: impl Fn(&Entries) -> bool) {
        let entries = self.entries.lock().unwrap();
        let (_entries, timeout) = self.grown.wait_timeout_while(entries, PATIENCE, |now| !done(now)).unwrap();
        assert!(!timeout.timed_out(), "waited in vain for {what}");
    }

    pub fn look<T>(&self, at: impl FnOnce(&Entries) -> T) -> T {
        at(&self.entries.lock().unwrap())
    }

    pub fn written(&self, shard: usize) -> Vec<Written> {
        let all = |log: &Entries| {
            let of_shard = log.reports.iter().filter(|(at, _)| *at == shard);
            of_shard.flat_map(|(_, report)| report.written.clone()).collect()
        };
        self.look(all)
    }

    fn last(&self, shard: usize) -> CommitReport {
        self.look(|log| log.reports.iter().rfind(|(at, _)| *at == shard).unwrap().1.clone())
    }

    fn add(&self, grow: impl FnOnce(&mut Entries)) {
        grow(&mut self.entries.lock().unwrap());
        self.grown.notify_all();
    }
}

impl Reporter for Log {
    fn committed(&self, shard: usize, report: CommitReport) {
        self.add(|log| log.reports.push((shard, report)));
    }

    fn ceiling(&self, ceiling: Seq) {
        self.add(|log| log.ceilings.push(ceiling));
    }

    fn state(&self, state: StoreState) {
        self.add(|log| log.states.push(state));
    }
}

/// A message of one recipient's inbox whose body is `body_bytes` long.
pub fn message(seq: u64, body_bytes: usize) -> Arc<Message> {
    Arc::new(Message {
        seq: Seq(seq),
        id: MessageId::new(&format!("m{seq:016}")).unwrap(),
        from: user("alice"),
        body: Bytes::from(vec![b'x'; body_bytes]),
        ts_ms: 1_000 + seq,
        expires_ms: u64::MAX,
        retry: false,
    })
}

/// An append as an owner makes it, with the tally of an inbox of equal messages with seqs from 1 on.
pub fn append(name: &str, seq: u64) -> Write {
    append_with(name, seq, Ticket::default())
}

pub fn append_with(name: &str, seq: u64, ticket: Ticket) -> Write {
    let message = message(seq, 10);
    let tally = Tally { messages: seq, bytes: seq * message.weight() };
    Write { user: user(name), what: What::Append { message, tally, digest: seq * 7, ticket } }
}

pub fn change(name: &str, token: u64, ops: Vec<Op>) -> Write {
    Write { user: user(name), what: What::Change { token, ops } }
}

/// The seqs of the appends that a report calls stored.
pub fn stored(written: &[Written]) -> Vec<u64> {
    let seq = |written: &Written| match written {
        Written::Append { seq, stored: true, .. } => Some(seq.0),
        _ => None,
    };
    written.iter().filter_map(seq).collect()
}

/// Counts records: those asked for by key, and those shown by scans.
pub struct Counting {
    inner: Arc<dyn Engine>,
    pub reads: AtomicU64,
    /// The thread that commits next dies of it.
    pub commits_panic: AtomicBool,
}

impl Counting {
    pub fn new(inner: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Self { inner, reads: AtomicU64::new(0), commits_panic: AtomicBool::new(false) })
    }

    /// How many records `work` reads.
    pub fn reads_of<T>(&self, work: impl FnOnce() -> T) -> (T, u64) {
        let before = self.reads.load(Ordering::SeqCst);
        let outcome = work();
        (outcome, self.reads.load(Ordering::SeqCst) - before)
    }
}

impl Engine for Counting {
    fn commit(&self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        assert!(!self.commits_panic.load(Ordering::SeqCst), "a panic was asked for");
        self.inner.commit(changes)
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.get(keyspace, key)
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        order: Order,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        let mut counting = |key: &[u8], value: &[u8]| -> ControlFlow<()> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            visit(key, value)
        };
        self.inner.scan(keyspace, range, order, &mut counting)
    }

    fn clear(&self, keyspace: Keyspace) -> Result<(), StoreError> {
        self.inner.clear(keyspace)
    }

    fn is_poisoned(&self) -> bool {
        self.inner.is_poisoned()
    }

    fn reclaim(&self, live: &[(Keyspace, u64)], short_of_space: bool) {
        self.inner.reclaim(live, short_of_space);
    }

    fn disk_bytes(&self) -> u64 {
        self.inner.disk_bytes()
    }

    fn disk_free(&self) -> Result<u64, StoreError> {
        self.inner.disk_free()
    }
}

/// Returns when a commit waits at a gate: written, and not synced.
pub fn until_commit_held(engine: &MemoryEngine) {
    let deadline = Instant::now() + PATIENCE;
    while !engine.holds_a_commit() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for a commit to be held");
        std::thread::yield_now();
    }
}
