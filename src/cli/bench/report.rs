//! Figures: collected while the bench runs, printed at its end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::cli::CliError;
use crate::cli::table::count;

use super::BenchArgs;
use super::ledger::Faults;

/// Three digits of every latency are kept.
const DIGITS: u8 = 3;
const PERCENTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

/// Said when the figure is not what the router can do, but what it was told to allow.
const RATE_LIMITED: &str = "the figure is bounded by limits.sends_per_second_per_session (or _per_user): \
    more pairs, or higher limits, get more out of the router";

/// One thing that a pair saw. `counts` is false while warming up and finishing.
pub(super) enum Sample {
    Delivered { after: Duration, counts: bool },
    Accepted { after: Duration, stored: bool, counts: bool },
    Rejected { code: String },
}

/// What all pairs saw.
pub(super) struct Tally {
    delivery_ns: Histogram<u64>,
    accept_ns: Histogram<u64>,
    stored: u64,
    rejected: BTreeMap<String, u64>,
    pub(super) delivered_ever: u64,
}

/// A pair that panicked has left nothing half done here.
pub(super) fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    pub(super) fn new() -> Result<Self, CliError> {
        let histogram = || Histogram::new(DIGITS).map_err(|error| CliError::new(error.to_string()));
        Ok(Self {
            delivery_ns: histogram()?,
            accept_ns: histogram()?,
            stored: 0,
            rejected: BTreeMap::new(),
            delivered_ever: 0,
        })
    }

    pub(super) fn take(&mut self, samples: &mut Vec<Sample>) {
        for sample in samples.drain(..) {
            match sample {
                Sample::Delivered { after, counts } => {
                    self.delivered_ever += 1;
                    record(&mut self.delivery_ns, after, counts);
                }
                Sample::Accepted { after, stored, counts } => {
                    self.stored += u64::from(stored && counts);
                    record(&mut self.accept_ns, after, counts);
                }
                Sample::Rejected { code } => *self.rejected.entry(code).or_default() += 1,
            }
        }
    }
}

fn record(histogram: &mut Histogram<u64>, after: Duration, counts: bool) {
    if counts {
        // The histogram grows as far as numbers go, so that recording cannot fail.
        let _recorded = histogram.record(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)).is_ok();
    }
}

/// A finished run.
pub(super) struct Report {
    args: BenchArgs,
    /// Shorter than asked for when it was interrupted.
    measured: Duration,
    delivered: u64,
    accepted: u64,
    stored: u64,
    rejected: BTreeMap<String, u64>,
    delivery_us: Vec<(&'static str, f64)>,
    accept_us: Vec<(&'static str, f64)>,
    pub(super) faults: Faults,
}

impl Report {
    pub(super) fn new(args: &BenchArgs, measured: Duration, tally: &Mutex<Tally>, faults: Faults) -> Self {
        let tally = locked(tally);
        Self {
            args: args.clone(),
            measured,
            delivered: tally.delivery_ns.len(),
            accepted: tally.accept_ns.len(),
            stored: tally.stored,
            rejected: tally.rejected.clone(),
            delivery_us: percentiles(&tally.delivery_ns),
            accept_us: percentiles(&tally.accept_ns),
            faults,
        }
    }

    fn per_second(&self) -> f64 {
        if self.measured.is_zero() { 0.0 } else { self.delivered as f64 / self.measured.as_secs_f64() }
    }

    /// To the millisecond.
    fn seconds(&self) -> f64 {
        self.measured.as_millis() as f64 / 1000.0
    }

    fn stored_share(&self) -> f64 {
        if self.accepted == 0 { 0.0 } else { self.stored as f64 / self.accepted as f64 }
    }

    pub(super) fn json(&self) -> String {
        let object = |pairs: &[(&'static str, f64)]| -> Value {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
        };
        let faults: Value = self.faults.counts().map(|(name, n)| (name.to_owned(), json!(n))).collect();
        json!({
            "pairs": self.args.pairs,
            "window": self.args.window,
            "size_bytes": self.args.size,
            "duration_s": self.seconds(),
            "delivered": self.delivered,
            "accepted": self.accepted,
            "messages_per_second": self.per_second().round(),
            "delivery_us": object(&self.delivery_us),
            "accept_us": object(&self.accept_us),
            "stored_share": self.stored_share(),
            "rejected": self.rejected,
            "faults": faults,
        })
        .to_string()
    }

    pub(super) fn table(&self) -> String {
        let BenchArgs { pairs, window, size, .. } = &self.args;
        let (pairs, window) = (count(*pairs, "pair"), count(*window, "unanswered send"));
        let (seconds, stored) = (self.seconds(), self.stored_share() * 100.0);
        let mut lines = vec![
            format!("{pairs}, {window} each, {size}-byte bodies, {seconds} s"),
            String::new(),
            format!("delivered    {:>10.0} messages/s  ({} in all)", self.per_second(), self.delivered),
            format!("accepted     {:>10}  ({:.1} % handed over, {stored:.1} % stored)", self.accepted, 100.0 - stored),
            String::new(),
            format!("latency (µs) {}", columns(PERCENTILES.iter().map(|(name, _)| (*name).to_owned()))),
            format!("  to arrive  {}", columns(self.delivery_us.iter().map(|(_, us)| format!("{us:.0}")))),
            format!("  to accept  {}", columns(self.accept_us.iter().map(|(_, us)| format!("{us:.0}")))),
        ];
        for (code, n) in &self.rejected {
            lines.push(format!("rejected as {code}: {n}"));
        }
        if self.rejected.contains_key("rate_limited") {
            lines.push(RATE_LIMITED.to_owned());
        }
        let faults: Vec<_> =
            self.faults.counts().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
        lines.push(String::new());
        lines.push(match faults.is_empty() {
            true => "everything accepted arrived, once and in order".to_owned(),
            false => format!("FAULTS: {}", faults.join(", ").replace('_', " ")),
        });
        lines.join("\n")
    }
}

fn columns(cells: impl Iterator<Item = String>) -> String {
    cells.map(|cell| format!("{cell:>10}")).collect()
}

fn percentiles(histogram: &Histogram<u64>) -> Vec<(&'static str, f64)> {
    let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    PERCENTILES.iter().map(|(name, quantile)| (*name, us(*quantile))).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn report(line: &str, measured_ms: u64, samples: Vec<Sample>) -> Report {
        let Line { args } = Line::try_parse_from(std::iter::once("bench").chain(line.split_whitespace())).unwrap();
        let tally = Mutex::new(Tally::new().unwrap());
        locked(&tally).take(&mut { samples });
        Report::new(&args, Duration::from_millis(measured_ms), &tally, Faults::default())
    }

    #[test]
    fn an_interrupted_run_is_judged_by_what_was_measured() {
        let delivered = || Sample::Delivered { after: Duration::from_millis(1), counts: true };
        let half = report("--pairs 1 --window 1", 500, vec![delivered(), delivered()]);
        assert_eq!(half.per_second(), 4.0);
        assert!(
            half.table().starts_with("1 pair, 1 unanswered send each, 200-byte bodies, 0.5 s\n"),
            "{}",
            half.table()
        );
        assert_eq!(report("", 0, vec![]).per_second(), 0.0, "interrupted while warming up");
    }

    #[test]
    fn a_figure_that_limits_hold_down_says_so() {
        let table = |code: &str| report("", 1000, vec![Sample::Rejected { code: code.to_owned() }]).table();
        assert!(table("rate_limited").contains("bounded by limits.sends_per_second_per_session"));
        assert!(!table("overloaded").contains("bounded by"));
    }

    #[test]
    fn less_than_a_second_is_no_measurement() {
        assert!(Line::try_parse_from(["bench", "--duration", "0s"]).is_err());
        assert!(Line::try_parse_from(["bench", "--duration", "999ms"]).is_err());
        assert!(Line::try_parse_from(["bench", "--duration", "1s", "--warmup", "0s"]).is_ok());
    }
}
