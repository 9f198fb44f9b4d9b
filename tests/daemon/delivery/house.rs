//! A daemon within the test's own process, on a store that the test holds in its hand.
//! Must never be used where a real process would do: what is tested there is one step further from life.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use doorstep::clock;
use doorstep::config::Config;
use doorstep::cores::Cores;
use doorstep::daemon::Daemon;
use doorstep::store::StoreError;
use doorstep::store::engine::{Change, Engine, KeyRange, Keyspace, Order, Visitor};
use doorstep::store::memory::MemoryEngine;
use doorstep::store::writer::Cellar;
use tempfile::TempDir;

use crate::common::client::{Options, Refused, TestClient};
use crate::common::daemon::Desk;
use crate::common::wait;

pub struct House {
    url: String,
    socket: PathBuf,
    _dir: TempDir,
}

impl House {
    pub async fn start(engine: Arc<dyn Engine>, configure: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::Builder::new().prefix("doorstep-").tempdir().unwrap();
        let mut config = Config::default();
        config.gateway.listen = "127.0.0.1:0".parse().unwrap();
        config.admin.socket = dir.path().join("doorstep.sock");
        configure(&mut config);
        config.check().unwrap();
        let daemon = Daemon::start_with(config, Cores::here(), move |store, queue, metrics| {
            Cellar::open_on(engine, store, queue, metrics, clock::wall_us() / 1000)
        });
        let daemon = daemon.await.unwrap();
        let (url, socket) = (format!("ws://{}/v1/connect", daemon.address()), daemon.socket().to_owned());
        // It ends with the test's runtime, as suddenly as by a kill.
        tokio::spawn(daemon.run(std::future::pending()));
        Self { url, socket, _dir: dir }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn open(&self, options: Options) -> TestClient {
        match self.attempt(&options).await {
            Ok(client) => client,
            Err(refused) => panic!("{options:?} was not welcomed: {refused:?}"),
        }
    }

    pub async fn attempt(&self, options: &Options) -> Result<TestClient, Refused> {
        TestClient::attempt(&self.url, options).await
    }
}

impl Desk for House {
    fn desk(&self) -> PathBuf {
        self.socket.clone()
    }
}

/// An engine whose reads of inboxes wait, each until it is let go, or panic. Everything else is as in memory.
pub struct HeldReads {
    inner: Arc<MemoryEngine>,
    held: Mutex<Held>,
    moved: Condvar,
}

#[derive(Default)]
struct Held {
    holding: bool,
    /// So many of the next ones panic.
    panics: usize,
    /// Reads that came while holding; each has its number, from 1 on.
    come: usize,
    let_go: HashSet<usize>,
}

impl HeldReads {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { inner: MemoryEngine::new(), held: Mutex::default(), moved: Condvar::new() })
    }

    /// Where everything is kept.
    pub fn disk(&self) -> &Arc<MemoryEngine> {
        &self.inner
    }

    /// From now on reads of inboxes wait.
    pub fn hold(&self) {
        *self.held.lock().unwrap() = Held { holding: true, ..Held::default() };
    }

    /// Returns when `count` reads have come since [`Self::hold`].
    pub async fn until_come(&self, count: usize) {
        let what = format!("read {count} to be held");
        wait::until(&what, async || (self.come() >= count).then_some(())).await;
    }

    /// The next `count` reads of inboxes panic.
    pub fn panic_next(&self, count: usize) {
        self.held.lock().unwrap().panics = count;
    }

    /// How many reads have come since [`Self::hold`].
    pub fn come(&self) -> usize {
        self.held.lock().unwrap().come
    }

    pub fn let_go(&self, number: usize) {
        self.held.lock().unwrap().let_go.insert(number);
        self.moved.notify_all();
    }

    pub fn let_all_go(&self) {
        self.held.lock().unwrap().holding = false;
        self.moved.notify_all();
    }

    fn wait_in_line(&self) {
        let mut held = self.held.lock().unwrap();
        if let Some(left) = held.panics.checked_sub(1) {
            held.panics = left;
            drop(held);
            panic!("a panic was asked for");
        }
        if held.holding {
            held.come += 1;
            let number = held.come;
            drop(self.moved.wait_while(held, |held| held.holding && !held.let_go.contains(&number)).unwrap());
        }
    }
}

impl Engine for HeldReads {
    fn commit(&self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        self.inner.commit(changes)
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(keyspace, key)
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        order: Order,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        if keyspace == Keyspace::Inbox {
            self.wait_in_line();
        }
        self.inner.scan(keyspace, range, order, visit)
    }

    fn clear(&self, keyspace: Keyspace) -> Result<(), StoreError> {
        self.inner.clear(keyspace)
    }

    fn is_poisoned(&self) -> bool {
        self.inner.is_poisoned()
    }

    fn disk_bytes(&self) -> u64 {
        self.inner.disk_bytes()
    }

    fn disk_free(&self) -> Result<u64, StoreError> {
        self.inner.disk_free()
    }
}
