//! What the daemon tells its operator: log lines on standard error, and counters as OpenMetrics text.
//!
//! Logging must never hold up the router: lines go through a bounded queue to a thread of their own. When that queue
//! is full a line is lost rather than a shard stopped, and the loss is reported at the end.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Log, LogFormat};
use crate::metrics::Metrics;

/// Log lines that may wait for a slow terminal or pipe.
const WAITING_LINES_MAX: usize = 16_384;
/// What these log below a warning are whole frames, with tokens and bodies in them; no level asks for that.
const TALK_OF_FRAMES: [&str; 2] = ["tungstenite", "tokio_tungstenite"];
/// What the storage engine tells of its ordinary work is shown to those who ask for it by name.
const QUIET: &str = "fjall=warn,lsm_tree=warn";
/// Names of metrics begin so.
const METRICS_PREFIX: &str = "doorstep";

/// Why there is no logging. Neither gets better by trying again.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("{origin} is not a log filter: {filter:?}: {source}")]
    Filter { origin: &'static str, filter: String, source: ParseError },
    #[error("logging is already set up in this process")]
    AlreadySet(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Keeps the log flowing; dropped last, it writes out what still waits.
#[must_use = "dropping it ends logging"]
pub struct Guard {
    worker: Option<WorkerGuard>,
    lost: ErrorCounter,
}

/// Sends log lines to standard error from here on. `RUST_LOG`, when set, wins over the configured level.
pub fn init(log: &Log) -> Result<Guard, TelemetryError> {
    let filter = filter(&log.level, std::env::var("RUST_LOG").ok())?;
    let (writer, worker) =
        NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES_MAX).thread_name("log").finish(io::stderr());
    let guard = Guard { lost: writer.error_counter(), worker: Some(worker) };
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let set = match log.format {
        LogFormat::Text => subscriber.with_ansi(colours).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    set.map(|()| guard).map_err(TelemetryError::AlreadySet)
}

/// All counters as OpenMetrics text, for `GET /metrics`.
pub fn exposition(metrics: &Metrics) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(METRICS_PREFIX);
    metrics.register(&mut registry);
    let mut exposition = String::new();
    text::encode(&mut exposition, &registry)?;
    Ok(exposition)
}

fn filter(level: &str, rust_log: Option<String>) -> Result<EnvFilter, TelemetryError> {
    let (origin, filter) = match rust_log.filter(|filter| !filter.is_empty()) {
        Some(filter) => ("RUST_LOG", filter),
        None => ("log.level", level.to_owned()),
    };
    let parsed = EnvFilter::builder().parse(format!("{QUIET},{filter}"));
    let parsed = parsed.map_err(|source| TelemetryError::Filter { origin, filter, source })?;
    Ok(TALK_OF_FRAMES.into_iter().fold(parsed, |filter, target| match format!("{target}=warn").parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }))
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The worker goes first, for it still writes what waits.
        drop(self.worker.take());
        let lost = self.lost.dropped_lines();
        if lost > 0 {
            // Nothing is left that could take a failure to write this.
            let _ = writeln!(io::stderr(), "{lost} log lines were lost because standard error was too slow");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_and_a_bad_filter_names_where_it_came_from() {
        let shown = |rust_log: Option<&str>| filter("info", rust_log.map(str::to_owned)).unwrap().to_string();
        assert!(shown(None).contains("info") && shown(Some("")).contains("info"));
        assert!(
            shown(Some("doorstep=debug")).contains("doorstep=debug") && !shown(Some("doorstep=debug")).contains("info")
        );
        assert!(shown(None).contains("fjall=warn") && shown(Some("fjall=debug")).contains("fjall=debug"));
        assert!(shown(Some("tungstenite=trace")).contains("tungstenite=warn"), "nobody gets to see frames");
        assert!(!shown(Some("tungstenite=trace")).contains("trace"));
        let message = filter("info", Some("a=b=c".to_owned())).unwrap_err().to_string();
        assert!(message.starts_with("RUST_LOG is not a log filter: \"a=b=c\""), "{message}");
    }

    #[test]
    fn every_metric_is_exposed_once_under_a_well_formed_name() {
        let metrics = Metrics::new();
        metrics.sends.inc_by(3);
        metrics.sessions.set(2);
        metrics.commit_seconds.observe(0.004);
        let text = exposition(&metrics).unwrap();
        assert!(text.ends_with("# EOF\n"));
        for line in ["doorstep_sends_total 3", "doorstep_sessions 2", "doorstep_commit_seconds_count 1"] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        let names = |mark: &'static str| text.lines().filter_map(move |line| line.strip_prefix(mark));
        let mut described: Vec<_> = names("# TYPE ").filter_map(|line| line.split(' ').next()).collect();
        assert!(described.iter().all(|name| name.starts_with("doorstep_") && !name.ends_with("_total")));
        let all = described.len();
        described.sort_unstable();
        described.dedup();
        assert_eq!(described.len(), all, "a name is used twice");
        assert!(names("# HELP ").all(|line| line.ends_with('.') && !line.ends_with("..")));
    }
}
