//! When a run warms up, counts and ends.

use std::time::{Duration, Instant};

/// How long to wait, after the end, for what is unanswered or undelivered.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(15);

/// The hours of work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) count_from: Instant,
    pub(super) stop_at: Instant,
    pub(super) give_up_at: Instant,
}

impl Plan {
    pub(super) fn starting_now(warmup: Duration, duration: Duration) -> Self {
        let count_from = Instant::now() + warmup;
        let stop_at = count_from + duration;
        Self { count_from, stop_at, give_up_at: stop_at + DRAIN_MAX }
    }

    /// The same, cut short.
    pub(super) fn stopped_at(self, now: Instant) -> Self {
        let stop_at = self.stop_at.min(now);
        Self { stop_at, give_up_at: stop_at + DRAIN_MAX, ..self }
    }

    /// How long what counts goes on.
    pub(super) fn measured(&self) -> Duration {
        self.stop_at.saturating_duration_since(self.count_from)
    }

    pub(super) fn counts(&self, now: Instant) -> bool {
        (self.count_from..self.stop_at).contains(&now)
    }

    /// The line that tells how the second went which ends now.
    pub(super) fn progress(&self, now: Instant, what: &str) -> String {
        // What counts is when most of the second was.
        let middle = now - Duration::from_millis(500);
        let phase = if middle < self.count_from {
            "warming up".to_owned()
        } else if middle < self.stop_at {
            format!("{:>8} s", (now - self.count_from).as_secs_f64().round())
        } else {
            "finishing".to_owned()
        };
        format!("{phase:>10}  {what}")
    }
}
