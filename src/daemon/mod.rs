//! Builds the rooms bottom-up, runs them, closes them top-down. Decides nothing about a message.

mod stop;
mod watch;

#[cfg(test)]
mod million;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Notify, watch as channel};
use tokio::task::{JoinHandle, JoinSet};

use crate::admin::{AdminDesk, AdminDoor, Controls, DoorError};
use crate::clock::{Clock, wall_ms};
use crate::config::{self, Config};
use crate::cores::Cores;
use crate::gateway::{Desk, Gateway, GatewayError};
use crate::metrics::Metrics;
use crate::patience::Background;
use crate::routing::core::{Core, Settings};
use crate::routing::events::Events;
use crate::routing::outstanding::Outstanding;
use crate::routing::presence_view::PresenceView;
use crate::routing::reads::PARTS_AT_ONCE;
use crate::routing::reporter::OwnersReporter;
use crate::routing::router::Router;
use crate::routing::shard::{Mail, Shard, World};
use crate::routing::state::State;
use crate::shutdown::{self, Announcer};
use crate::store::writer::{Cellar, Writer};
use crate::store::{Boot, CommitReport, Reporter, StoreError, StoreState};
use crate::{ids::Seq, routing, telemetry};

/// Why the daemon did not start, or how it ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("signals cannot be caught: {0}")]
    Signals(std::io::Error),
    #[error("the store's thread has died")]
    StoreThread,
    #[error("the threads that read inboxes cannot be started: {0}")]
    Readers(std::io::Error),
    #[error("not everything could be settled within shutdown.grace; nothing accepted is lost")]
    GraceOver,
    #[error("an owner has died; start again, nothing accepted is lost")]
    OwnerDied,
    #[error("a second signal: ended at once; nothing accepted is lost")]
    SecondSignal,
    #[error("the disk has failed: start again once it works; nothing accepted is lost")]
    Poisoned,
}

impl DaemonError {
    /// 75 asks the supervisor to start it again later; 1 is everything else.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Poisoned | Self::OwnerDied) { 75 } else { 1 }
    }
}

/// A running daemon. [`Daemon::run`] has to be called for it to end in order.
pub struct Daemon {
    address: SocketAddr,
    socket: PathBuf,
    config: Arc<Config>,
    router: Router,
    writer: Writer,
    announcer: Announcer,
    drain: Arc<Notify>,
    storage: channel::Receiver<StoreState>,
    gateway: JoinHandle<()>,
    admin: JoinHandle<()>,
    shards: JoinSet<()>,
    watchers: JoinSet<()>,
    #[cfg(test)]
    side_entrance: crate::gateway::SideEntrance,
}

impl Daemon {
    /// Opens the store, takes the addresses and lets clients in.
    ///
    /// # Errors
    /// Whatever stands in the way, each in words: a live daemon at the socket, a store that is in use or
    /// newer, an address that cannot be had.
    pub async fn start(config: Config, cores: Cores) -> Result<Self, DaemonError> {
        Self::start_with(config, cores, Cellar::open).await
    }

    /// The same on a store that `open` opens: for tests that let the disk fail.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub async fn start_with<O>(config: Config, cores: Cores, open: O) -> Result<Self, DaemonError>
    where
        O: FnOnce(&config::Store, &config::Queue, Arc<Metrics>) -> Result<Cellar, StoreError> + Send + 'static,
    {
        let config = Arc::new(config);
        let door = AdminDoor::bind(&config.admin.socket).await?;
        let metrics = Metrics::new();
        let (ours, counters) = (config.clone(), metrics.clone());
        let cellar = blocking(move || open(&ours.store, &ours.queue, counters)).await??;
        let (boot, reader) = (cellar.boot.clone(), cellar.reader.clone());
        let clock = Clock::start(boot.floor.0 + 1);
        let (router, mail) = routing::mailboxes(config.routing.shards, config.routing.mailbox_batches);
        let (told, storage) = channel::channel(StoreState::Ok);
        let reporter = Arc::new(StoreWatch { owners: OwnersReporter::new(router.clone()), told });
        let shards = mail.len();
        let background = Background::start("inbox-reader", shards * PARTS_AT_ONCE).map_err(DaemonError::Readers)?;
        let writer = blocking(move || cellar.start(shards, clock, reporter)).await??;
        let outstanding = Outstanding::new(config.queue.max_outstanding_per_sender);
        let events = Events::default();
        let world = World {
            clock,
            reader: reader.clone(),
            writer: writer.clone(),
            background,
            view: PresenceView::default(),
            events: events.clone(),
            outstanding: outstanding.clone(),
            router: router.clone(),
        };
        let at_start = Boot { ceiling: reader.ceiling(), ..boot.clone() };
        let owners = spawn_owners(&config, &cores, &at_start, &world, mail, &metrics);
        let (announcer, phase) = shutdown::channel();
        let desk = Desk { router: router.clone(), outstanding: outstanding.clone(), metrics: metrics.clone(), clock };
        let gateway = open_gateway(&config, cores, desk, &phase, &writer).await?;
        let paused = writer.expiry_paused();
        let drain = Arc::new(Notify::new());
        let controls = DaemonControls { writer: writer.clone(), metrics: metrics.clone(), drain: drain.clone() };
        let desk = AdminDesk {
            router: router.clone(),
            view: world.view.clone(),
            events,
            outstanding,
            reader: reader.clone(),
            metrics,
            controls: Arc::new(controls),
            config_json: config::to_json(&config),
            config: config.clone(),
            expiry_paused: paused.clone(),
            clock,
            presence_floor: routing::version_floor(boot.floor),
            started_ms: wall_ms(),
        };
        Ok(Self {
            address: gateway.local_addr(),
            socket: config.admin.socket.clone(),
            #[cfg(test)]
            side_entrance: gateway.side_entrance(),
            watchers: watch::spawn(router.clone(), reader, clock, paused, config.queue.expiry_grace),
            gateway: tokio::spawn(gateway.run()),
            admin: tokio::spawn(door.run(desk, phase)),
            shards: owners,
            config,
            router,
            writer,
            announcer,
            drain,
            storage,
        })
    }

    /// Where clients may come.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operators may come.
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// Serves until `stop` is ready, an operator drains it or the disk fails; then ends in order.
    ///
    /// # Errors
    /// [`DaemonError::GraceOver`], [`DaemonError::Poisoned`] and [`DaemonError::OwnerDied`]; nothing accepted is lost either way.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), DaemonError> {
        let drained = self.drain.clone();
        let grace = self.config.store.poison_grace;
        let mut storage = self.storage.clone();
        let poisoned = async move {
            // An error means that the commit thread is gone, which is as bad.
            let _gone = storage.wait_for(|state| *state == StoreState::Poisoned).await.is_err();
            tracing::error!(grace = ?grace, "the disk has failed: durable sends are refused, the daemon will exit");
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            () = stop => tracing::info!("asked to stop"),
            () = drained.notified() => tracing::info!("asked to drain"),
            () = poisoned => {}
            // Its users can neither send nor receive any more, and what it had in memory is gone: only a
            // restart puts that right, as after any crash.
            _dead = self.shards.join_next() => return Err(DaemonError::OwnerDied),
        }
        stop::stop(&mut self).await
    }
}

/// Runs the daemon until a signal, printing where it listens and what to type next. A second signal ends it at once.
///
/// # Errors
/// As [`Daemon::start`] and [`Daemon::run`], and [`DaemonError::SecondSignal`]: what was accepted is safe at
/// any instant, so nothing has to be tidied up. The caller must not wait for what is still running.
pub async fn serve(config: Config, cores: Cores, next_steps: &str) -> Result<(), DaemonError> {
    let mut signals = stop::Signals::catch().map_err(DaemonError::Signals)?;
    let daemon = Daemon::start(config, cores).await?;
    stop::greet(&daemon, next_steps);
    let asked = Arc::new(Notify::new());
    let stop = asked.clone();
    tokio::select! {
        ended = daemon.run(async move { stop.notified().await }) => ended,
        () = async { signals.next().await; asked.notify_one(); signals.next().await } => Err(DaemonError::SecondSignal),
    }
}

/// A door that does not open closes the store again, in order.
async fn open_gateway(
    config: &Arc<Config>,
    cores: Cores,
    desk: Desk,
    phase: &shutdown::Listener,
    writer: &Writer,
) -> Result<Gateway, DaemonError> {
    match Gateway::bind(config.clone(), cores, desk, phase.clone()) {
        Ok(gateway) => Ok(gateway),
        Err(error) => {
            close_store(writer, true).await?;
            Err(error.into())
        }
    }
}

async fn close_store(writer: &Writer, clean: bool) -> Result<(), DaemonError> {
    let writer = writer.clone();
    Ok(blocking(move || writer.close(clean)).await??)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DaemonError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| DaemonError::StoreThread)
}

fn spawn_owners(
    config: &Config,
    cores: &Cores,
    boot: &Boot,
    world: &World,
    mail: Vec<Mail>,
    metrics: &Arc<Metrics>,
) -> JoinSet<()> {
    let settings = Settings::new(config);
    let now = world.clock.now();
    let mut owners = JoinSet::new();
    for (index, mail) in mail.into_iter().enumerate() {
        let mut core = Core::new(settings.clone(), boot, now, metrics.clone());
        // The first word about it may come later than the first send.
        core.storage = world.writer.state();
        let shard = Shard::new(index, State::new(core), world.clone(), mail);
        owners.spawn_on(shard.run(), cores.of(index));
    }
    owners
}

/// Tells the owners, and the daemon, what the store says.
struct StoreWatch {
    owners: OwnersReporter,
    told: channel::Sender<StoreState>,
}

impl Reporter for StoreWatch {
    fn committed(&self, shard: usize, report: CommitReport) {
        self.owners.committed(shard, report);
    }

    fn ceiling(&self, ceiling: Seq) {
        self.owners.ceiling(ceiling);
    }

    fn state(&self, state: StoreState) {
        self.owners.state(state);
        self.told.send_replace(state);
    }
}

/// What the side door may do to the daemon.
struct DaemonControls {
    writer: Writer,
    metrics: Arc<Metrics>,
    drain: Arc<Notify>,
}

impl Controls for DaemonControls {
    fn drain(&self) {
        self.drain.notify_one();
    }

    fn store_state(&self) -> StoreState {
        self.writer.state()
    }

    fn clear_dead_letters(&self) -> Result<u64, StoreError> {
        self.writer.clear_dead_letters()
    }

    fn exposition(&self) -> Result<String, String> {
        telemetry::exposition(&self.metrics).map_err(|error| error.to_string())
    }
}
