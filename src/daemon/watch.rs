//! The daemon's own regular looks: is something due in the store, has the wall clock stepped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::routing::command::Command;
use crate::routing::router::Router;
use crate::store::reader::Reader;

/// Users that are looked at in one go because something of theirs is due.
const DUE_USERS_MAX: usize = 256;
/// How often the store is asked what is due.
const DUE_EVERY: Duration = Duration::from_secs(5);
/// How soon it is asked again when there was more than could be looked at.
const DUE_AGAIN: Duration = Duration::from_millis(200);
/// How often the two clocks are compared.
const COMPARE_EVERY: Duration = Duration::from_secs(1);

/// Starts both; they end when they are aborted. What is set in `paused` the store keeps over restarts.
pub(super) fn spawn(
    router: Router,
    reader: Reader,
    clock: Clock,
    paused: Arc<AtomicBool>,
    expiry_grace: Duration,
) -> JoinSet<()> {
    let mut watchers = JoinSet::new();
    let (owners, stopped) = (router.clone(), paused.clone());
    watchers.spawn(async move {
        // Nothing expires before, so there is no reason to touch anyone.
        tokio::time::sleep(expiry_grace).await;
        watch_due(owners, reader, clock, stopped).await;
    });
    watchers.spawn(watch_clock(router, clock, paused));
    watchers
}

/// Brings users of whom something has expired before their owners.
async fn watch_due(router: Router, reader: Reader, clock: Clock, paused: Arc<AtomicBool>) {
    let mut pause = DUE_EVERY;
    loop {
        tokio::time::sleep(pause).await;
        if paused.load(Ordering::Relaxed) {
            continue;
        }
        let (reader, now_ms) = (reader.clone(), clock.now().wall_ms);
        let Ok(Ok(due)) = tokio::task::spawn_blocking(move || reader.due(now_ms, DUE_USERS_MAX)).await else {
            tracing::error!("the store cannot be asked what is due");
            continue;
        };
        pause = if due.len() < DUE_USERS_MAX { DUE_EVERY } else { DUE_AGAIN };
        for (user, at_ms) in due {
            if router.ask(&user, Command::Due { user: user.clone(), at_ms }).await.is_err() {
                return;
            }
        }
    }
}

/// Pauses expiry when the wall clock steps, until an operator says that it is right.
async fn watch_clock(router: Router, clock: Clock, paused: Arc<AtomicBool>) {
    let mut usual_ms = clock.now().lead_ms();
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        let now = clock.now();
        let Some(step_ms) = now.step_since(usual_ms) else { continue };
        tracing::warn!(step_ms, "the wall clock stepped: expiry is paused until resumed");
        usual_ms = now.lead_ms();
        paused.store(true, Ordering::Relaxed);
        for shard in 0..router.shards() {
            if router.send(shard, smallvec::smallvec![Command::PauseExpiry(true)]).await.is_err() {
                return;
            }
        }
    }
}
