//! Shutdown is a form of delivery: empty the mailboxes, commit, answer, say goodbye, write the clean mark.

use std::io::Write;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Daemon, DaemonError, close_store};
use crate::codes::CloseCode;
use crate::routing::command::Command;
use crate::routing::router::Router;
use crate::routing::session_handle::Closing;
use crate::shutdown::Phase;
use crate::store::StoreState;

/// With a failed disk there is nothing to wait for; sessions still get their goodbye.
const POISONED_GRACE: Duration = Duration::from_secs(2);
/// What the last commit may take when the grace is over.
const LAST_COMMIT_WAIT: Duration = Duration::from_secs(2);
/// What clients are told to wait at least before they come back, in milliseconds.
const COME_BACK_MS: u64 = 500;

/// SIGTERM and SIGINT, heeded until it is dropped.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn catch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Says where it listens and what to type next.
pub(super) fn greet(daemon: &Daemon, next_steps: &str) {
    let page =
        if daemon.config.has_demo() { format!("chat page at http://{}/\n", daemon.address()) } else { String::new() };
    let text = format!(
        "doorstep {version} listens on ws://{address}/v1/connect\n\
         {page}\
         data in {data}, admin socket {socket}\n\
         {next_steps}\n",
        version = env!("CARGO_PKG_VERSION"),
        address = daemon.address(),
        data = daemon.config.store.path.display(),
        socket = daemon.socket().display(),
    );
    // Standard output may be closed; the daemon serves all the same.
    let mut out = std::io::stdout();
    let _unheard = out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err();
}

/// Closes the rooms top-down, within the grace.
pub(super) async fn stop(daemon: &mut Daemon) -> Result<(), DaemonError> {
    let grace = if is_poisoned(daemon) { POISONED_GRACE } else { daemon.config.shutdown.grace };
    let deadline = Instant::now() + grace;
    daemon.watchers.abort_all();
    daemon.announcer.announce(Phase::Draining);
    // Whatever the answers take, there is time left for goodbyes.
    let answered = timeout_at(deadline - grace / 3, drain(&daemon.router)).await == Ok(true);
    say_goodbye(daemon).await;
    daemon.announcer.announce(Phase::Closing);
    let left = timeout_at(deadline, &mut daemon.gateway).await.is_ok();
    // The sessions' last cursors.
    let flushed = timeout_at(deadline, drain(&daemon.router)).await == Ok(true);
    let closed = timeout_at(deadline, &mut daemon.admin).await.is_ok();
    daemon.shards.shutdown().await;
    // The clean mark stands for "nothing was pushed that is not written down".
    let clean = answered && flushed && !is_poisoned(daemon);
    let at_least = Instant::now() + LAST_COMMIT_WAIT;
    let stored = timeout_at(deadline.max(at_least), close_store(&daemon.writer, clean)).await;
    if is_poisoned(daemon) {
        return Err(DaemonError::Poisoned);
    }
    let stored_in_time = stored.is_ok();
    if clean && left && closed && stored_in_time {
        tracing::info!("stopped; everything taken is answered and stored");
    } else {
        let (answered_and_flushed, clients_left, admin_closed) = (clean, left, closed);
        tracing::warn!(answered_and_flushed, clients_left, admin_closed, stored_in_time, "stopped before all was done");
    }
    match stored {
        Ok(stored) => stored?,
        Err(_late) => return Err(DaemonError::GraceOver),
    }
    if clean && left { Ok(()) } else { Err(DaemonError::GraceOver) }
}

fn is_poisoned(daemon: &Daemon) -> bool {
    *daemon.storage.borrow() == StoreState::Poisoned
}

/// Returns when every owner has answered every send and written every cursor of those who left; true if every
/// owner was there to do so.
async fn drain(router: &Router) -> bool {
    let mut drained = Vec::new();
    for shard in 0..router.shards() {
        let (reply, answer) = oneshot::channel();
        if router.send(shard, smallvec::smallvec![Command::Drain { reply }]).await.is_err() {
            return false;
        }
        drained.push(answer);
    }
    futures::future::join_all(drained).await.iter().all(Result::is_ok)
}

async fn say_goodbye(daemon: &Daemon) {
    let spread_ms = daemon.config.shutdown.reconnect_spread.as_millis() as u64;
    let closing =
        Closing { code: CloseCode::Restarting, reason: "the router is restarting", retry_after_ms: Some(COME_BACK_MS) };
    for shard in 0..daemon.router.shards() {
        let command = Command::CloseAll { closing: closing.clone(), spread_ms };
        let _gone = daemon.router.send(shard, smallvec::smallvec![command]).await.is_err();
    }
}
