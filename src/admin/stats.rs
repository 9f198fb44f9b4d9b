//! Calls about the daemon as a whole: health, figures, draining, expiry.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::desk::Clerk;
use super::problem::Problem;
use super::samples::{Distribution, Samples, Summary};
use super::server::{Answer, json, json_with};
use crate::metrics::Metrics;
use crate::routing::command::{Command, Query, ShardStats};
use crate::shutdown::Phase;
use crate::store::StoreState;

/// Rates are looked at this often, and are means over this many looks.
const RATE_STEP: Duration = Duration::from_secs(1);
const RATE_STEPS: usize = 10;
/// Whoever waits for a commit that takes so long has given up; new users had better go elsewhere.
const COMMIT_STUCK: Duration = Duration::from_secs(10);

/// `GET /v1/health`.
#[derive(Debug, Serialize)]
struct Health {
    /// Every owner answers.
    live: bool,
    /// Clients are let in and served.
    ready: bool,
    draining: bool,
    store: StoreState,
    /// How long the commit under way has taken so far.
    commit_running_ms: u64,
    disk_free_bytes: u64,
    /// How long seqs can be given out before the store must raise its ceiling.
    ceiling_left_ms: u64,
    expiry_paused: bool,
}

/// `GET /v1/stats`.
#[derive(Debug, Serialize)]
pub(super) struct Stats {
    version: &'static str,
    started_ms: u64,
    uptime_ms: u64,
    connections: i64,
    sessions: u64,
    users_online: usize,
    users_loaded: u64,
    pending_appends: u64,
    queues: Totals,
    rates: Option<RatesPage>,
    /// Of the messages accepted, the share that never touched the disk; none before the first.
    elided_share: Option<f64>,
    commit_seconds: Option<Summary>,
    commit_changes: Option<Summary>,
    counters: BTreeMap<String, i64>,
    shards: Vec<ShardStats>,
}

#[derive(Debug, Serialize)]
struct Totals {
    messages: u64,
    bytes: u64,
}

impl Clerk {
    pub(super) async fn health(&self) -> Answer {
        let live = self.query_all(|reply| Query::Stats { reply }).await.is_ok();
        let store = self.desk.controls.store_state();
        let draining = self.shutdown.phase() >= Phase::Draining;
        let commit_running = self.desk.reader.commit_running();
        let reader = self.desk.reader.clone();
        let (disk_free_bytes, ceiling) = self.blocking(move || (reader.disk_free(), reader.ceiling())).await?;
        let health = Health {
            live,
            // A store that is low on space refuses sends, but must be reachable to be drained by acks.
            ready: live && !draining && store != StoreState::Poisoned && commit_running < COMMIT_STUCK,
            draining,
            store,
            commit_running_ms: commit_running.as_millis() as u64,
            disk_free_bytes,
            ceiling_left_ms: ceiling.0.saturating_sub(self.desk.clock.now().us) / 1000,
            expiry_paused: self.desk.expiry_paused.load(Ordering::Relaxed),
        };
        let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json_with(status, &health)
    }

    pub(super) async fn stats(&self) -> Answer {
        json(&self.figures().await?)
    }

    pub(super) async fn figures(&self) -> Result<Stats, Problem> {
        let mut shards = self.query_all(|reply| Query::Stats { reply }).await?;
        shards.sort_unstable_by_key(|shard| shard.shard);
        let reader = self.desk.reader.clone();
        let (messages, bytes) = self.blocking(move || reader.totals()).await?;
        let samples = Samples::read(&self.desk.metrics).map_err(|error| Problem::internal(error.to_string()))?;
        Ok(self.gather(shards, Totals { messages, bytes }, samples))
    }

    fn gather(&self, shards: Vec<ShardStats>, queues: Totals, samples: Samples) -> Stats {
        let now_ms = self.desk.clock.now().wall_ms;
        Stats {
            version: env!("CARGO_PKG_VERSION"),
            started_ms: self.desk.started_ms,
            uptime_ms: now_ms.saturating_sub(self.desk.started_ms),
            connections: samples.value("connections"),
            sessions: shards.iter().map(|shard| shard.sessions).sum(),
            users_online: self.desk.view.online(),
            users_loaded: shards.iter().map(|shard| shard.users_loaded).sum(),
            pending_appends: shards.iter().map(|shard| shard.pending_appends).sum(),
            queues,
            rates: self.rates.page(),
            elided_share: elided_share(&samples),
            commit_seconds: samples.summary("commit_seconds"),
            commit_changes: samples.summary("commit_changes"),
            counters: samples.values,
            shards,
        }
    }

    pub(super) fn drain(&self) -> Answer {
        tracing::info!("drain asked for by an operator");
        self.desk.controls.drain();
        json_with(StatusCode::ACCEPTED, &json!({ "draining": true }))
    }

    pub(super) async fn resume_expiry(&self) -> Answer {
        // The flag falls first: should the clock step again meanwhile, health shows a pause that is
        // already over rather than hiding one that holds.
        let was_paused = self.desk.expiry_paused.swap(false, Ordering::Relaxed);
        for shard in 0..self.desk.router.shards() {
            self.notify(shard, Command::PauseExpiry(false)).await?;
        }
        tracing::info!(was_paused, "expiry resumed by an operator");
        json(&json!({ "was_paused": was_paused, "expiry_paused": false }))
    }
}

fn elided_share(samples: &Samples) -> Option<f64> {
    let (stored, handed_over) = (samples.value("accepted_stored"), samples.value("accepted_handed_over"));
    let accepted = stored + handed_over;
    (accepted > 0).then(|| handed_over as f64 / accepted as f64)
}

/// Counts at one moment.
#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    commit_seconds: Distribution,
    sends: u64,
    deliveries: u64,
    acks: u64,
    rejected: u64,
    commits: u64,
}

impl Look {
    fn at(metrics: &Metrics, at: Instant) -> Self {
        let samples = Samples::read(metrics).unwrap_or_default();
        Self {
            at,
            commit_seconds: samples.distribution("commit_seconds"),
            sends: metrics.sends.get(),
            deliveries: metrics.deliveries.get(),
            acks: metrics.acks.get(),
            rejected: metrics.rejected.get(),
            commits: metrics.commits.get(),
        }
    }
}

/// The last looks at the counters, so that a call can tell rates without changing anything.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<VecDeque<Look>>);

#[derive(Debug, PartialEq, Serialize)]
struct RatesPage {
    over_ms: u64,
    sends_per_second: f64,
    deliveries_per_second: f64,
    acks_per_second: f64,
    rejected_per_second: f64,
    commits_per_second: f64,
    /// None without a commit.
    commit_seconds: Option<Summary>,
}

impl Rates {
    /// Looks again and again; never returns.
    pub(super) async fn keep(&self, metrics: &Metrics) {
        let mut steps = tokio::time::interval(RATE_STEP);
        steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            steps.tick().await;
            self.note(Look::at(metrics, Instant::now()));
        }
    }

    fn note(&self, look: Look) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() > RATE_STEPS {
            looks.pop_front();
        }
        looks.push_back(look);
    }

    /// None in the first second.
    fn page(&self) -> Option<RatesPage> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = (looks.front()?, looks.back()?);
        let over = last.at.duration_since(first.at);
        if over.is_zero() {
            return None;
        }
        let per_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / over.as_secs_f64();
        Some(RatesPage {
            over_ms: over.as_millis() as u64,
            sends_per_second: per_second(last.sends, first.sends),
            deliveries_per_second: per_second(last.deliveries, first.deliveries),
            acks_per_second: per_second(last.acks, first.acks),
            rejected_per_second: per_second(last.rejected, first.rejected),
            commits_per_second: per_second(last.commits, first.commits),
            commit_seconds: last.commit_seconds.since(&first.commit_seconds).summary(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_means_over_the_last_looks_only() {
        let (rates, metrics, start) = (Rates::default(), Metrics::new(), Instant::now());
        rates.note(Look::at(&metrics, start));
        assert_eq!(rates.page(), None);
        metrics.sends.inc_by(1_000_000);
        metrics.commit_seconds.observe(3.0);
        for step in 1..=RATE_STEPS as u32 + 1 {
            metrics.sends.inc_by(50);
            metrics.commit_seconds.observe(0.0001);
            rates.note(Look::at(&metrics, start + RATE_STEP * step));
        }
        let page = rates.page().unwrap();
        assert_eq!(page.over_ms, 10_000);
        assert_eq!(page.sends_per_second, 50.0, "the burst before the window has left it");
        assert_eq!(page.acks_per_second, 0.0);
        assert_eq!(page.commit_seconds.unwrap().p99, 0.0001, "and so has the slow commit");
    }
}
