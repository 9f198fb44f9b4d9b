//! When a session needs looking at: a ping, a verdict, the end of its token. Pure: time comes in from outside.

use std::time::{Duration, Instant};

/// Signs of life and last hours of one session.
#[derive(Debug)]
pub struct Vitals {
    heartbeat: Duration,
    /// This heartbeat with its jitter, so that sessions that began together do not beat together.
    beat: Duration,
    heard: Instant,
    /// When it was pinged, if nothing was heard since.
    pinged: Option<Instant>,
    token_ends: Option<Instant>,
    leave_by: Option<Instant>,
}

/// What there is to do about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    Well,
    /// Nothing was heard for a heartbeat: ask.
    Idle,
    /// Nothing was heard for two.
    Silent,
    TokenEnded,
    /// The daemon closes and the owner's goodbye did not come.
    LeftBehind,
}

impl Vitals {
    pub fn new(heartbeat: Duration, token_ends: Option<Instant>, now: Instant) -> Self {
        let beat = jittered(heartbeat);
        Self { heartbeat, beat, heard: now, pinged: None, token_ends, leave_by: None }
    }

    /// Anything received is a sign of life.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = None;
    }

    pub fn set_token_ends(&mut self, ends: Option<Instant>) {
        self.token_ends = ends;
    }

    pub fn leave_by(&mut self, end: Instant) {
        self.leave_by = Some(end);
    }

    /// When to [`look`](Self::look) next. Later than needed never; what is heard meanwhile may make it too early.
    pub fn due(&self) -> Instant {
        let ends = [self.token_ends, self.leave_by].into_iter().flatten();
        ends.fold(self.silent_at().unwrap_or(self.heard + self.beat), Instant::min)
    }

    /// When to give up waiting for the answer to a ping. Where the ping itself came late, because the session
    /// was held up by a full mailbox, the client still has time to answer.
    fn silent_at(&self) -> Option<Instant> {
        self.pinged.map(|pinged| (self.heard + self.heartbeat * 2).max(pinged + self.heartbeat / 2))
    }

    pub fn look(&mut self, now: Instant) -> Sign {
        let past = |end: Option<Instant>| end.is_some_and(|end| now >= end);
        let idle = now.saturating_duration_since(self.heard);
        if past(self.leave_by) {
            Sign::LeftBehind
        } else if past(self.token_ends) {
            Sign::TokenEnded
        } else if past(self.silent_at()) {
            Sign::Silent
        } else if self.pinged.is_none() && idle >= self.beat {
            self.pinged = Some(now);
            self.beat = jittered(self.heartbeat);
            Sign::Idle
        } else {
            Sign::Well
        }
    }
}

/// Ten percent more or less.
fn jittered(heartbeat: Duration) -> Duration {
    heartbeat.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(30);

    #[test]
    fn an_idle_session_is_pinged_once_and_given_up_after_two_heartbeats() {
        let start = Instant::now();
        let mut vitals = Vitals::new(BEAT, None, start);
        assert_eq!(vitals.look(start + BEAT * 8 / 10), Sign::Well);
        assert!(vitals.due() >= start + BEAT * 9 / 10 && vitals.due() <= start + BEAT * 11 / 10);
        assert_eq!(vitals.look(vitals.due()), Sign::Idle);
        assert_eq!(vitals.look(start + BEAT * 3 / 2), Sign::Well, "one ping is enough");
        assert_eq!(vitals.due(), start + BEAT * 2);
        assert_eq!(vitals.look(vitals.due()), Sign::Silent);
    }

    #[test]
    fn a_stall_of_our_own_is_not_held_against_the_client() {
        let start = Instant::now();
        let mut vitals = Vitals::new(BEAT, None, start);
        let late = start + BEAT * 5;
        assert_eq!(vitals.look(late), Sign::Idle, "nobody is given up unasked");
        assert_eq!(vitals.look(late), Sign::Well, "nor without time to answer");
        assert_eq!(vitals.look(late + BEAT / 2), Sign::Silent);
    }

    #[test]
    fn a_sign_of_life_starts_anew() {
        let start = Instant::now();
        let mut vitals = Vitals::new(BEAT, None, start);
        assert_eq!(vitals.look(start + BEAT * 2), Sign::Idle);
        let later = start + BEAT * 2 + Duration::from_secs(1);
        vitals.heard(later);
        assert_eq!(vitals.look(later), Sign::Well);
        assert!(vitals.due() > later);
    }

    #[test]
    fn the_earliest_end_wins() {
        let start = Instant::now();
        let mut vitals = Vitals::new(BEAT, Some(start + Duration::from_secs(5)), start);
        assert_eq!(vitals.due(), start + Duration::from_secs(5));
        vitals.leave_by(start + Duration::from_secs(3));
        assert_eq!(vitals.due(), start + Duration::from_secs(3));
        assert_eq!(vitals.look(start + Duration::from_secs(4)), Sign::LeftBehind);
        vitals.set_token_ends(None);
    }
}
