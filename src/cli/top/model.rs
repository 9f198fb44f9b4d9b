//! What is shown: the latest figures, their last minutes, and what happened. Pure.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::Value;

use super::feed::News;
use super::series::{Meter, Series};
use super::sse::SseEvent;

/// Happenings that are kept to be shown.
const HAPPENINGS_MAX: usize = 200;

/// `stats`, as far as it is shown.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Stats {
    pub at_ms: u64,
    pub version: String,
    pub uptime_ms: u64,
    pub connections: u64,
    pub sessions: u64,
    pub users_online: u64,
    pub queues: Totals,
    pub elided_share: Option<f64>,
    pub rates: Option<Rates>,
    pub counters: Counters,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Totals {
    pub messages: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Rates {
    /// None while nothing is committed.
    pub commit_seconds: Option<Summary>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Summary {
    pub p99: f64,
}

/// Since the daemon's start.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Counters {
    pub sends: u64,
    pub deliveries: u64,
    pub stored_messages: u64,
    pub rejected: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Health {
    pub ready: bool,
    pub draining: bool,
    pub store: String,
    pub expiry_paused: bool,
    pub disk_free_bytes: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Queues {
    pub queues: Vec<QueueLine>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct QueueLine {
    pub user: String,
    pub messages: u64,
    pub bytes: u64,
    pub oldest_ms: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Depth,
    Bytes,
    Age,
}

impl Sort {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Depth => Self::Bytes,
            Self::Bytes => Self::Age,
            Self::Age => Self::Depth,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Depth => "depth",
            Self::Bytes => "bytes",
            Self::Age => "age",
        }
    }
}

/// Something that happened, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Happening {
    pub at_ms: u64,
    pub kind: String,
    pub text: String,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub stats: Option<Stats>,
    pub health: Option<Health>,
    pub queues: Queues,
    pub happenings: VecDeque<Happening>,
    /// Why there is nothing new.
    pub lost: Option<String>,
    pub sort: Sort,
    pub is_paused: bool,
    pub shows_help: bool,
    pub sends: Series,
    pub deliveries: Series,
    pub spills: Series,
    pub sessions: Series,
    pub depth: Series,
    /// Milliseconds, the greatest of a hundred.
    pub commits_ms: Series,
    meters: Meters,
}

#[derive(Debug, Default)]
struct Meters {
    sends: Meter,
    deliveries: Meter,
    spills: Meter,
}

impl Model {
    /// Takes in what is new; while it is paused nothing changes but whether the daemon is there.
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Lost(why) => {
                self.lost = Some(why);
                self.meters = Meters::default();
            }
            _ if self.is_paused => self.lost = None,
            News::Stats(stats) => self.measure(*stats),
            News::Health(health) => self.health = Some(health),
            News::Queues(queues) => self.queues = queues,
            News::Happened(event) => self.note(&event),
        }
    }

    pub(super) fn toggle_pause(&mut self) {
        self.is_paused = !self.is_paused;
        // What was not read meanwhile would show as one great leap.
        self.meters = Meters::default();
    }

    fn measure(&mut self, stats: Stats) {
        self.lost = None;
        let (at_ms, counters) = (stats.at_ms, stats.counters);
        let rates = [
            (&mut self.sends, self.meters.sends.read(counters.sends, at_ms)),
            (&mut self.deliveries, self.meters.deliveries.read(counters.deliveries, at_ms)),
            (&mut self.spills, self.meters.spills.read(counters.stored_messages, at_ms)),
        ];
        for (series, rate) in rates {
            series.push(rate.unwrap_or_default());
        }
        self.sessions.push(stats.sessions as f64);
        self.depth.push(stats.queues.messages as f64);
        let commit = stats.rates.as_ref().and_then(|rates| rates.commit_seconds);
        self.commits_ms.push(commit.map_or(0.0, |commit| commit.p99 * 1000.0));
        self.stats = Some(stats);
    }

    fn note(&mut self, event: &SseEvent) {
        // What cannot be read was said by a daemon of another version.
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else { return };
        if self.happenings.len() == HAPPENINGS_MAX {
            self.happenings.pop_back();
        }
        let at_ms = data.get("at_ms").and_then(Value::as_u64).unwrap_or_default();
        self.happenings.push_front(Happening { at_ms, kind: event.name.replace('_', " "), text: words(&data) });
    }
}

/// The fields of an event but its time, as `name value`; the user first and bare.
fn words(data: &Value) -> String {
    let Some(fields) = data.as_object() else { return String::new() };
    let user = fields.get("user").and_then(Value::as_str).map(str::to_owned);
    let others = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "at_ms" | "user" | "version" | "session"));
    let others = others.map(|(name, value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    user.into_iter().chain(others).collect::<Vec<_>>().join("  ")
}
