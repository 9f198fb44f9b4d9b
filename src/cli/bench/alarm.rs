//! The time at which a task wants to be woken, if nothing else wakes it before.

use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// Whoever is woken by nothing looks this often whether the plan has changed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    at: Instant,
}

impl Alarm {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { sleep: Box::pin(tokio::time::sleep_until(now.into())), at: now }
    }

    /// Makes sure that it rings by `wake_at`; false when it rings already. It is left alone as long as it rings early
    /// enough: to set it anew at every turn would cost more than a look too many.
    pub(super) fn is_set(&mut self, cx: &mut Context<'_>, now: Instant, wake_at: Instant) -> bool {
        let wake_at = wake_at.min(now + LOOK_EVERY);
        if self.at > now && self.at <= wake_at {
            return true;
        }
        self.at = wake_at;
        self.sleep.as_mut().reset(wake_at.into());
        self.sleep.as_mut().poll(cx).is_pending()
    }
}
