//! Reads the metrics back: what `/metrics` gives to machines, `/v1/stats` gives to people.
//!
//! The metrics crate lets nobody look into a histogram except by its text form, so that is what is read
//! here. Reading the text also means that no counter can be forgotten in `/v1/stats`.

use std::collections::BTreeMap;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use serde::Serialize;

use crate::metrics::Metrics;

/// One reading of all metrics.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// Counters (without their `_total`) and levels by name.
    pub values: BTreeMap<String, i64>,
    histograms: BTreeMap<String, Distribution>,
}

/// What a histogram knows, as read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Distribution {
    sum: f64,
    count: f64,
    /// Upper bounds with the count of all observations up to them, ascending.
    buckets: Vec<(f64, f64)>,
}

/// What is shown of a histogram; quantiles are the upper bounds of the buckets they fall into.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    pub mean: f64,
    pub p50: f64,
    pub p99: f64,
}

impl Samples {
    pub(super) fn read(metrics: &Metrics) -> Result<Self, std::fmt::Error> {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut exposition = String::new();
        text::encode(&mut exposition, &registry)?;
        Ok(Self::parse(&exposition))
    }

    fn parse(exposition: &str) -> Self {
        let mut samples = Self::default();
        let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
        for line in exposition.lines() {
            match line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                Some((name, kind)) => {
                    kinds.insert(name, kind);
                }
                None if line.starts_with('#') => {}
                None => samples.take(line, &kinds),
            }
        }
        samples
    }

    fn take(&mut self, line: &str, kinds: &BTreeMap<&str, &str>) {
        let Some((name, value)) = line.rsplit_once(' ') else { return };
        let is_histogram = |name: &str| kinds.get(name).is_some_and(|kind| *kind == "histogram");
        if let Some((base, part)) = name.rsplit_once('_')
            && let Some(part) = Part::parse(part)
            && is_histogram(base)
        {
            let value: f64 = value.parse().unwrap_or_default();
            self.histograms.entry(base.to_owned()).or_default().take(part, value);
        } else {
            let name = name.strip_suffix("_total").unwrap_or(name);
            self.values.insert(name.to_owned(), value.parse().unwrap_or_default());
        }
    }

    /// None before the first observation.
    pub(super) fn summary(&self, histogram: &str) -> Option<Summary> {
        self.histograms.get(histogram)?.summary()
    }

    pub(super) fn distribution(&self, histogram: &str) -> Distribution {
        self.histograms.get(histogram).cloned().unwrap_or_default()
    }

    pub(super) fn value(&self, name: &str) -> i64 {
        self.values.get(name).copied().unwrap_or_default()
    }
}

enum Part {
    Sum,
    Count,
    Bucket { upto: f64 },
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "sum" => Some(Self::Sum),
            "count" => Some(Self::Count),
            _ => {
                let bound = text.strip_prefix("bucket{le=\"")?.strip_suffix("\"}")?;
                let upto = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
                Some(Self::Bucket { upto })
            }
        }
    }
}

impl Distribution {
    fn take(&mut self, part: Part, value: f64) {
        match part {
            Part::Sum => self.sum = value,
            Part::Count => self.count = value,
            Part::Bucket { upto } => self.buckets.push((upto, value)),
        }
    }

    /// What was observed since `earlier`, which was read from the same histogram.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = earlier.buckets.iter().map(|(_, count)| *count).chain(std::iter::repeat(0.0));
        let buckets = self.buckets.iter().zip(before).map(|((upto, now), then)| (*upto, now - then)).collect();
        Self { sum: self.sum - earlier.sum, count: self.count - earlier.count, buckets }
    }

    /// None without an observation.
    pub(super) fn summary(&self) -> Option<Summary> {
        let (p50, p99) = (self.quantile(0.5), self.quantile(0.99));
        (self.count > 0.0).then(|| Summary { mean: self.sum / self.count, p50, p99 })
    }

    /// The bound of the bucket that holds it; the last finite bound for what lies beyond all.
    fn quantile(&self, share: f64) -> f64 {
        let mut finite = self.buckets.iter().filter(|(upto, _)| upto.is_finite());
        let found = finite.clone().find(|(_, count)| *count >= share * self.count);
        found.or_else(|| finite.next_back()).map_or(0.0, |(upto, _)| *upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_observed_before_does_not_show_in_what_came_since() {
        let metrics = Metrics::new();
        metrics.commit_changes.observe(100_000.0);
        let read = || Samples::read(&metrics).unwrap().distribution("commit_changes");
        let earlier = read();
        assert_eq!(read().since(&earlier).summary(), None);
        metrics.commit_changes.observe(1.0);
        let summary = read().since(&earlier).summary().unwrap();
        assert_eq!((summary.mean, summary.p99), (1.0, 1.0));
        assert_eq!(earlier.since(&Distribution::default()), earlier);
    }

    #[test]
    fn counters_levels_and_histograms_are_read_back() {
        let metrics = Metrics::new();
        metrics.sends.inc_by(7);
        metrics.sessions.set(-2);
        for changes in [1.0, 1.0, 4.0, 100_000.0] {
            metrics.commit_changes.observe(changes);
        }
        let samples = Samples::read(&metrics).unwrap();
        assert_eq!(samples.value("sends"), 7);
        assert_eq!(samples.value("sessions"), -2);
        assert_eq!(samples.value("acks"), 0);
        assert!(samples.values.contains_key("acks") && !samples.values.contains_key("commit_changes_sum"));
        let changes = samples.summary("commit_changes").unwrap();
        assert_eq!(changes, Summary { mean: 25_001.5, p50: 1.0, p99: 8192.0 });
        assert_eq!(samples.summary("commit_seconds"), None);
    }
}
