//! Figures, collected while a bench runs. One thread runs it, so that what all lanes share is never waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::lane;
use super::plan::Plan;
use crate::cli::CliError;

/// Three digits of every latency are kept.
const DIGITS: u8 = 3;
pub(super) const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

/// What all lanes work by, and with.
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) tally: Tally,
    pub(super) buffer: Vec<u8>,
}

impl Shared {
    pub(super) fn new(plan: Plan) -> Result<Arc<Mutex<Self>>, CliError> {
        Ok(Arc::new(Mutex::new(Self { plan, tally: Tally::new()?, buffer: lane::buffer() })))
    }
}

/// A task that panicked has left nothing half done here.
pub(super) fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was seen, from the moment on when it counts.
pub(super) struct Tally {
    pub(super) delivery: Latency,
    pub(super) accept: Latency,
    /// How long after they were due messages were sent.
    pub(super) late: Latency,
    pub(super) stored: u64,
    pub(super) rejected: BTreeMap<String, u64>,
    /// Who was not let in, by the reason.
    pub(super) turned_away: BTreeMap<String, u64>,
    /// Whether it counts or not.
    pub(super) delivered_ever: u64,
    pub(super) accepted_ever: u64,
}

impl Tally {
    pub(super) fn new() -> Result<Self, CliError> {
        Ok(Self {
            delivery: Latency::new()?,
            accept: Latency::new()?,
            late: Latency::new()?,
            stored: 0,
            rejected: BTreeMap::new(),
            turned_away: BTreeMap::new(),
            delivered_ever: 0,
            accepted_ever: 0,
        })
    }

    pub(super) fn delivered(&mut self, sent_at: Instant, now: Instant, counts: bool) {
        self.delivered_ever += 1;
        if counts {
            self.delivery.record(now.saturating_duration_since(sent_at));
        }
    }

    pub(super) fn accepted(&mut self, sent_at: Instant, now: Instant, stored: bool, counts: bool) {
        self.accepted_ever += 1;
        if counts {
            self.stored += u64::from(stored);
            self.accept.record(now.saturating_duration_since(sent_at));
        }
    }

    pub(super) fn late(&mut self, due: Instant, now: Instant, counts: bool) {
        if counts {
            self.late.record(now.saturating_duration_since(due));
        }
    }

    pub(super) fn rejected(&mut self, code: String) {
        *self.rejected.entry(code).or_default() += 1;
    }

    pub(super) fn stored_share(&self) -> f64 {
        share(self.stored, self.accept.count())
    }
}

pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How long something took, again and again.
#[derive(Clone)]
pub(super) struct Latency(Histogram<u64>);

impl Latency {
    pub(super) fn new() -> Result<Self, CliError> {
        Histogram::new(DIGITS).map(Self).map_err(|error| CliError::new(error.to_string()))
    }

    pub(super) fn record(&mut self, after: Duration) {
        // The histogram grows as far as numbers go, so that recording cannot fail.
        let _recorded = self.0.record(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)).is_ok();
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Each percentile, in microseconds.
    pub(super) fn us(&self) -> impl Iterator<Item = (&'static str, f64)> {
        PERCENTILES.iter().map(|(name, quantile)| (*name, self.0.value_at_quantile(*quantile) as f64 / 1000.0))
    }

    pub(super) fn json(&self) -> Value {
        self.us().map(|(name, us)| (name.to_owned(), json!(us))).collect()
    }

    /// A line of a table under [`Self::head`].
    pub(super) fn line(&self, name: &str) -> String {
        format!("  {name:<11}{}", columns(self.us().map(|(_, us)| format!("{us:.0}"))))
    }

    pub(super) fn head() -> String {
        format!("latency (µs) {}", columns(PERCENTILES.iter().map(|(name, _)| (*name).to_owned())))
    }
}

fn columns(cells: impl Iterator<Item = String>) -> String {
    cells.map(|cell| format!("{cell:>10}")).collect()
}
