//! The last minutes of one figure. Pure.

use std::collections::VecDeque;

/// Samples that are kept, one a second.
pub(super) const SAMPLES_MAX: usize = 300;

#[derive(Debug, Default, Clone)]
pub(super) struct Series {
    samples: VecDeque<f64>,
}

impl Series {
    pub(super) fn push(&mut self, value: f64) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(value);
    }

    pub(super) fn last(&self) -> Option<f64> {
        self.samples.back().copied()
    }

    /// The latest `width` samples, the newest last, scaled so that the greatest of them is `top`.
    pub(super) fn scaled(&self, width: usize, top: u64) -> Vec<u64> {
        let skip = self.samples.len().saturating_sub(width);
        let shown = self.samples.iter().skip(skip);
        let greatest = shown.clone().copied().fold(0.0, f64::max);
        let scale = if greatest > 0.0 { top as f64 / greatest } else { 0.0 };
        shown.map(|value| (value * scale).round() as u64).collect()
    }
}

/// A counter that only rises, as a rate.
#[derive(Debug, Default, Clone)]
pub(super) struct Meter {
    before: Option<(u64, u64)>,
}

impl Meter {
    /// A second since the last reading; none for the first, and after a restart, when it is behind what it was.
    pub(super) fn read(&mut self, count: u64, at_ms: u64) -> Option<f64> {
        let (before, before_ms) = self.before.replace((count, at_ms))?;
        let over_ms = at_ms.checked_sub(before_ms).filter(|over_ms| *over_ms > 0)?;
        Some(count.checked_sub(before)? as f64 * 1000.0 / over_ms as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_keeps_the_latest_and_scales_to_the_greatest_that_is_shown() {
        let mut series = Series::default();
        assert_eq!((series.last(), series.scaled(4, 8)), (None, vec![]));
        for value in 0..SAMPLES_MAX + 10 {
            series.push(value as f64);
        }
        assert_eq!(series.samples.len(), SAMPLES_MAX);
        assert_eq!(series.last(), Some((SAMPLES_MAX + 9) as f64));
        let mut falling = Series::default();
        [80.0, 4.0, 2.0, 0.0].into_iter().for_each(|value| falling.push(value));
        assert_eq!(falling.scaled(3, 8), vec![8, 4, 0]);
        assert_eq!(Series { samples: VecDeque::from([0.0, 0.0]) }.scaled(2, 8), vec![0, 0]);
    }

    #[test]
    fn a_meter_tells_nothing_it_cannot_know() {
        let mut meter = Meter::default();
        assert_eq!(meter.read(10, 1000), None);
        assert_eq!(meter.read(40, 3000), Some(15.0));
        assert_eq!(meter.read(40, 3000), None, "no time has passed");
        assert_eq!(meter.read(5, 4000), None, "the daemon has been started again");
        assert_eq!(meter.read(6, 5000), Some(1.0));
    }
}
