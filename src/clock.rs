//! The hybrid clock: wall time read once at start, monotonic time after.
//!
//! Owners are handed a [`Now`]; nothing below the shells reads a clock of its own.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading, taken once per batch of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Hybrid time in microseconds since the Unix epoch: never goes back within a process.
    pub us: u64,
    /// Wall time in milliseconds since the Unix epoch: may step.
    pub wall_ms: u64,
}

/// Reads both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_us: u64,
}

impl Clock {
    /// Starts at the wall clock's time, but never below `floor_us` (where an earlier run ended).
    pub fn start(floor_us: u64) -> Self {
        Self { started: Instant::now(), started_us: wall_us().max(floor_us) }
    }

    pub fn now(&self) -> Now {
        let elapsed_us = self.started.elapsed().as_micros() as u64;
        Now { us: self.started_us + elapsed_us, wall_ms: wall_us() / 1000 }
    }

    /// The instant at which [`Now::us`] will be `us`.
    pub fn instant_at(&self, us: u64) -> Instant {
        self.started + Duration::from_micros(us.saturating_sub(self.started_us))
    }
}

/// Wall time in microseconds since the Unix epoch; 0 before it.
pub fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}
