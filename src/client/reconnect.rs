//! When to come back after a connection ended: the close-code table and the back-off.
//!
//! Pure: randomness comes from a generator that is handed in, time never enters.
//! It must never advise to come back after a code that says stay away: two clients of one
//! device would throw each other out for ever.

use std::time::Duration;

/// The longest wait that a server may ask for; a longer one is cut to this.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What to do after a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    /// The client's own wish was fulfilled.
    Done,
    /// Coming back would end the same way.
    Stop,
    /// Come back after `retry_after_ms`, or after a back-off when none was given.
    Retry,
    /// Come back, but not with the same token.
    NewToken,
}

/// The table of close codes; `None` is a connection that broke without one.
pub(super) fn advice(close_code: Option<u16>) -> Advice {
    match close_code {
        Some(1000) => Advice::Done,
        Some(1002 | 1003 | 1007 | 1009 | 4400 | 4403 | 4409 | 4410) => Advice::Stop,
        Some(4401) => Advice::NewToken,
        // Codes that this version does not know are taken for passing trouble: the back-off
        // keeps a wrong guess cheap, while giving up would need a person.
        _ => Advice::Retry,
    }
}

/// What an HTTP answer that refused the upgrade amounts to in close codes.
pub(super) fn close_code_of_status(status: u16) -> u16 {
    match status {
        401 => 4401,
        403 => 4403,
        408 => 4408,
        429 => 4429,
        503 => 1012,
        500.. => 1011,
        _ => 4400,
    }
}

/// Exponential back-off with full jitter: the wait is drawn from zero up to a bound that doubles.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// The first wait is drawn from zero to `min`, later ones from zero to at most `max`.
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), failures: 0 }
    }

    /// The wait before the next attempt; one that the server asked for wins.
    pub(super) fn next(&mut self, retry_after: Option<Duration>, rng: &mut fastrand::Rng) -> Duration {
        let bound = self.min.saturating_mul(1 << self.failures.min(20)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        match retry_after {
            Some(wait) => wait.min(RETRY_AFTER_MAX),
            None => bound.mul_f64(rng.f64()),
        }
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::CloseCode;

    #[test]
    fn the_close_code_table_says_what_the_protocol_says() {
        use CloseCode as C;
        let at_fault = [C::NoWebSocket, C::BinaryFrame, C::NotUtf8, C::FrameTooLarge, C::Malformed];
        let unwanted = [C::NotAllowed, C::Replaced, C::Removed];
        let back = [C::GoingAway, C::Restarting, C::Internal, C::Silent, C::TooMany];
        assert!(at_fault.iter().chain(&unwanted).all(|code| advice(Some(code.number())) == Advice::Stop));
        assert!(back.iter().all(|code| advice(Some(code.number())) == Advice::Retry));
        assert_eq!(advice(Some(C::Normal.number())), Advice::Done);
        assert_eq!(advice(Some(C::NotAuthenticated.number())), Advice::NewToken);
        assert_eq!(advice(None), Advice::Retry);
    }

    #[test]
    fn waits_stay_under_a_doubling_bound_and_spread_over_it() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut rng = fastrand::Rng::with_seed(7);
        let mut lowest = Duration::MAX;
        for _ in 0..200 {
            let mut backoff = Backoff::new(min, max);
            for attempt in 0..40 {
                let wait = backoff.next(None, &mut rng);
                assert!(wait <= min.saturating_mul(1 << attempt.min(20)).min(max));
                if attempt > 10 {
                    lowest = lowest.min(wait);
                }
            }
        }
        assert!(lowest < max / 10, "full jitter must reach down to short waits, lowest was {lowest:?}");
    }

    #[test]
    fn the_servers_wish_wins_but_not_for_ever() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(2));
        let mut rng = fastrand::Rng::with_seed(7);
        assert_eq!(backoff.next(Some(Duration::from_millis(750)), &mut rng), Duration::from_millis(750));
        assert_eq!(backoff.next(Some(Duration::MAX), &mut rng), RETRY_AFTER_MAX);
    }
}
