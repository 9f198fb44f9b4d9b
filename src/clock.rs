//! The hybrid clock: wall time read once at start, monotonic time after.
//!
//! Owners are handed a [`Now`]; nothing below the shells reads a clock of its own.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A wall clock that moves more than this against the monotonic one has stepped, in milliseconds.
pub const STEP_MS: u64 = 60_000;

/// One reading, taken once per batch of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Hybrid time in microseconds since the Unix epoch: never goes back within a process.
    pub us: u64,
    /// Wall time in milliseconds since the Unix epoch: may step.
    pub wall_ms: u64,
}

impl Now {
    /// By how much the wall clock is ahead of the hybrid one, in milliseconds.
    pub fn lead_ms(self) -> i64 {
        self.wall_ms.cast_signed() - (self.us / 1000).cast_signed()
    }

    /// How far the wall clock has stepped since its lead was `usual_ms`, in milliseconds; none when it only drifts.
    pub fn step_since(self, usual_ms: i64) -> Option<i64> {
        let lead_ms = self.lead_ms();
        (lead_ms.abs_diff(usual_ms) > STEP_MS).then(|| lead_ms - usual_ms)
    }
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
        Now { us: self.started_us + elapsed_us, wall_ms: wall_ms() }
    }

    /// The instant at which [`Now::us`] will be `us`.
    pub fn instant_at(&self, us: u64) -> Instant {
        self.started + Duration::from_micros(us.saturating_sub(self.started_us))
    }
}

/// The wall clock, milliseconds since the Unix epoch.
pub fn wall_ms() -> u64 {
    wall_us() / 1000
}

/// Wall time in microseconds since the Unix epoch; 0 before it.
pub fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    //! Goal: a step of the wall clock is told from its drift. Method: readings made by hand, on both sides of the bound.

    use super::*;

    const HOUR_US: u64 = 3_600_000_000;

    /// An hour after both clocks showed the same, with the wall clock `ms` off.
    fn off_by(ms: i64) -> Now {
        Now { us: HOUR_US, wall_ms: (HOUR_US / 1000).strict_add_signed(ms) }
    }

    #[test]
    fn a_clock_that_drifts_has_not_stepped() {
        for ms in [0, 1, -1, 60_000, -60_000] {
            assert_eq!(off_by(ms).step_since(0), None, "{ms} ms");
        }
    }

    #[test]
    fn a_clock_that_moves_by_more_than_a_minute_has_stepped_so_far() {
        for ms in [60_001, -60_001, 86_400_000, -3_000_000] {
            assert_eq!(off_by(ms).step_since(0), Some(ms));
        }
    }

    #[test]
    fn what_counts_is_the_lead_that_the_clock_had_before() {
        assert_eq!(off_by(-90_000).step_since(-90_000), None);
        assert_eq!(off_by(0).step_since(-90_000), Some(90_000));
    }
}
