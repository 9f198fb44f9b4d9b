//! A daemon inside the test's own process, on the engine in memory: for disks that are stuck, full, broken
//! or without power. It runs on a runtime of its own, so that its tasks can be cut off between any two
//! steps, as a crash does. Must never share state between two lives but what is on the engine's disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use doorstep::clock::wall_us;
use doorstep::config::Config;
use doorstep::cores::Cores;
use doorstep::daemon::{Daemon, DaemonError};
use doorstep::store::memory::{MemoryEngine, Unsynced};
use doorstep::store::writer::Cellar;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::client::{Options, TestClient};
use super::daemon::{Desk, admin_call};
use super::history::History;
use super::wait;

/// How long the tasks of a daemon that was cut off may take to be gone.
const CUT_OFF: Duration = Duration::from_secs(10);
/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

pub struct Inside {
    pub engine: Arc<MemoryEngine>,
    pub config: Config,
    /// The wall clock stands this much before the real one when the store is opened.
    pub clock_behind: Duration,
    life: Option<Life>,
    lives: u32,
    dir: TempDir,
}

/// From a start to an end.
struct Life {
    runtime: Runtime,
    url: String,
    socket: PathBuf,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<(), DaemonError>>,
}

impl Inside {
    /// Starts a daemon on an empty store, with the defaults but for what `configure` changes.
    pub async fn start(configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(MemoryEngine::new(), configure).await
    }

    pub async fn start_on(engine: Arc<MemoryEngine>, configure: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::Builder::new().prefix("doorstep-").tempdir().unwrap();
        let mut config = Config::default();
        config.gateway.listen = "127.0.0.1:0".parse().unwrap();
        config.store.path = dir.path().join("data");
        configure(&mut config);
        let mut inside = Self { engine, config, clock_behind: Duration::ZERO, life: None, lives: 0, dir };
        inside.begin().await;
        inside
    }

    /// As [`Self::start`]: what every device was pushed is held back from the disk for longer than the test
    /// takes, so that no answer can come because time has passed. The real daemon does not allow as much.
    pub async fn start_patient(configure: impl FnOnce(&mut Config)) -> Self {
        Self::start(|config| {
            config.store.commit_delay = FOR_EVER;
            config.queue.accept_timeout = 2 * FOR_EVER;
            configure(config);
        })
        .await
    }

    /// Starts on whatever is on the engine's disk.
    pub async fn begin(&mut self) {
        assert!(self.life.is_none(), "one life at a time");
        self.lives += 1;
        // A socket for each life: the one before may still be closing its own.
        self.config.admin.socket = self.dir.path().join(format!("{}.sock", self.lives));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (engine, behind_ms) = (self.engine.clone(), self.clock_behind.as_millis() as u64);
        let config = self.config.clone();
        let open = move |store: &_, queue: &_, metrics| {
            Cellar::open_on(engine, store, queue, metrics, wall_us() / 1000 - behind_ms)
        };
        let daemon = async { Daemon::start_with(config, Cores::here(), open).await };
        let daemon = runtime.spawn(daemon).await.unwrap().expect("the daemon starts");
        let (url, socket) = (format!("ws://{}/v1/connect", daemon.address()), daemon.socket().to_owned());
        let (stop, stopped) = oneshot::channel::<()>();
        let run = runtime.spawn(daemon.run(async { stopped.await.unwrap_or_default() }));
        self.life = Some(Life { runtime, url, socket, stop, run });
    }

    pub fn url(&self) -> String {
        self.life().url.clone()
    }

    pub async fn connect(&self, options: &Options) -> TestClient {
        match TestClient::attempt(&self.url(), options).await {
            Ok(client) => client,
            Err(refused) => panic!("{options:?} was not welcomed: {refused:?}"),
        }
    }

    /// As [`Self::connect`], recorded, and past `caught_up`.
    pub async fn enter(&self, history: &History, user: &str, device: &str) -> TestClient {
        let mut client = self.connect(&Options::of(user, device).record(history)).await;
        client.expect("caught_up").await;
        client
    }

    pub async fn admin(&self, method: &str, path: &str) -> (u16, Value) {
        admin_call(&self.life().socket, method, path, Bytes::new()).await
    }

    pub async fn admin_with(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        admin_call(&self.life().socket, method, path, body.to_string().into()).await
    }

    /// Waits until a commit waits at a gate of the engine.
    pub async fn until_commit_held(&self) {
        until_commit_held(&self.engine).await;
    }

    pub fn socket(&self) -> &Path {
        &self.life().socket
    }

    /// The power goes: no task gets any further, and what was not synced is lost (or kept, by chance).
    pub async fn crash(&mut self, unsynced: Unsynced) {
        self.engine = self.engine.crash(unsynced);
        self.cut_off().await;
    }

    /// Asks it to stop, as a signal does, and returns how it ended.
    pub async fn stop(&mut self) -> Result<(), DaemonError> {
        let Life { runtime, stop, run, .. } = self.life.take().expect("a running daemon");
        stop.send(()).expect("a daemon that is to be stopped");
        end(runtime, run).await
    }

    /// How it ended by itself.
    pub async fn exit(&mut self) -> Result<(), DaemonError> {
        let Life { runtime, run, stop, .. } = self.life.take().expect("a running daemon");
        let outcome = end(runtime, run).await;
        drop(stop);
        outcome
    }

    async fn cut_off(&mut self) {
        if let Some(life) = self.life.take() {
            tokio::task::spawn_blocking(move || life.runtime.shutdown_timeout(CUT_OFF)).await.unwrap();
        }
    }

    fn life(&self) -> &Life {
        self.life.as_ref().expect("a running daemon")
    }
}

impl Desk for Inside {
    fn desk(&self) -> PathBuf {
        self.socket().to_owned()
    }
}

/// Waits until a commit waits at a gate: written, and not synced.
pub async fn until_commit_held(engine: &MemoryEngine) {
    wait::until("a commit to be held", async || engine.holds_a_commit().then_some(())).await;
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(life) = self.life.take() {
            life.runtime.shutdown_background();
        }
    }
}

async fn end(runtime: Runtime, run: JoinHandle<Result<(), DaemonError>>) -> Result<(), DaemonError> {
    let outcome = wait::within("the end of the daemon", run).await.expect("the daemon does not panic");
    runtime.shutdown_background();
    outcome
}
