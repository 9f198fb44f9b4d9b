//! How fast clients may go and how many may come: rates of sends, connections of a user, open handshakes.
//! Everything counted here expires or is given back by a guard; nothing grows with users that are gone.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::mapref::entry::Entry;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::oneshot;

use crate::clock::Now;
use crate::config::Limits;
use crate::ids::UserId;
use crate::limits::WATCH_USERS_MAX;
use crate::maps::{Seeded, SharedUserMap};

/// Tokens a session may show a second.
const TOKENS_PER_SECOND: u32 = 5;
/// Status frames a second of one user.
const STATUSES_PER_SECOND: u32 = 20;

/// Rates of users, and a mould for those of sessions. What costs others much is counted by user, or a new
/// session would begin with a new share of it.
pub struct Rates {
    session: Quota,
    sends: UserRate,
    /// Names that a user asks to watch: each may cost an owner a read of the store, and a record in memory.
    names: UserRate,
    /// Changes of status: each may have to be told to every watcher.
    statuses: UserRate,
    clock: WakeClock,
}

/// One rate, for each user by itself.
type UserRate = RateLimiter<UserId, DashMapStateStore<UserId, Seeded>, WakeClock, NoOpMiddleware<Nanos>>;
type OwnRate = RateLimiter<NotKeyed, InMemoryState, WakeClock, NoOpMiddleware<Nanos>>;

/// When the last session woke up: one look at the clock serves all frames that came together.
#[derive(Debug, Clone, Default)]
struct WakeClock(Arc<AtomicU64>);

impl Clock for WakeClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

/// One session's own rates.
pub struct SessionRate {
    sends: OwnRate,
    /// Tokens that it shows: each costs the checking of a signature.
    tokens: OwnRate,
}

impl SessionRate {
    /// Counts one token; false when it is too fast.
    pub fn may_renew(&self) -> bool {
        self.tokens.check().is_ok()
    }
}

impl Rates {
    /// A user may ask to watch `max_watched` names at once, and as many again every second.
    pub fn new(limits: &Limits, max_watched: usize) -> Self {
        let names = max_watched.clamp(WATCH_USERS_MAX, u32::MAX as usize) as u32;
        let clock = WakeClock::default();
        let per_user =
            |times| RateLimiter::dashmap_with_clock_and_hasher(per_second(times), clock.clone(), Seeded::default());
        Self {
            session: per_second(limits.sends_per_second_per_session),
            sends: per_user(limits.sends_per_second_per_user),
            names: per_user(names),
            statuses: per_user(STATUSES_PER_SECOND),
            clock,
        }
    }

    /// It is `now`: to be said before anything is counted.
    pub fn wake(&self, now: Now) {
        self.clock.0.fetch_max(now.us.saturating_mul(1000), Ordering::Relaxed);
    }

    pub fn session(&self) -> SessionRate {
        SessionRate {
            sends: RateLimiter::direct_with_clock(self.session, self.clock.clone()),
            tokens: RateLimiter::direct_with_clock(per_second(TOKENS_PER_SECOND), self.clock.clone()),
        }
    }

    /// Counts one send.
    ///
    /// # Errors
    /// Too fast: how long to wait, in milliseconds.
    pub fn check(&self, session: &SessionRate, user: &UserId) -> Result<(), u64> {
        // The session first: what it is refused does not use up the share of the user's other sessions.
        let checked = session.sends.check().and_then(|()| self.sends.check_key(user));
        checked.map_err(|not_until| not_until.wait_time_from(self.clock.now()).as_millis() as u64 + 1)
    }

    /// Counts names to watch; false when it is too fast.
    pub fn may_watch(&self, user: &UserId, names: usize) -> bool {
        let names = NonZeroU32::new(names as u32);
        names.is_none_or(|names| matches!(self.names.check_key_n(user, names), Ok(Ok(()))))
    }

    /// Counts one change of status; false when it is too fast.
    pub fn may_change_status(&self, user: &UserId) -> bool {
        self.statuses.check_key(user).is_ok()
    }

    /// Forgets users who have asked for nothing for so long that their rate is as good as new.
    pub fn sweep(&self) {
        for rate in [&self.sends, &self.names, &self.statuses] {
            rate.retain_recent();
        }
    }
}

/// The configuration promises at least one; a burst of a second's worth is allowed.
fn per_second(sends: u32) -> Quota {
    Quota::per_second(NonZeroU32::new(sends).unwrap_or(NonZeroU32::MIN))
}

/// Connections of each user that is connected.
#[derive(Default)]
pub struct Users(SharedUserMap<usize>);

/// One of a user's connections, until dropped.
pub struct UserPlace {
    users: Arc<Users>,
    user: UserId,
}

impl Users {
    /// None when the user has `max` already.
    pub fn enter(self: &Arc<Self>, user: &UserId, max: usize) -> Option<UserPlace> {
        let mut count = self.0.entry(user.clone()).or_insert(0);
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(UserPlace { users: self.clone(), user: user.clone() })
    }
}

impl Drop for UserPlace {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.users.0.entry(self.user.clone()) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// Connections that have not said `hello` yet, oldest first. When one too many comes the oldest goes, so a
/// flood of them shortens everyone's time to say it but keeps nobody out.
pub struct Handshakes {
    max: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    places: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One open handshake, until dropped.
pub struct HandshakePlace {
    handshakes: Arc<Handshakes>,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

impl Handshakes {
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, open: Mutex::default() })
    }

    pub fn enter(self: &Arc<Self>) -> HandshakePlace {
        let (sender, evicted) = oneshot::channel();
        let mut open = self.lock();
        while open.places.len() >= self.max.max(1) {
            open.places.pop_first();
        }
        let number = open.next;
        open.next += 1;
        open.places.insert(number, sender);
        HandshakePlace { handshakes: self.clone(), number, evicted }
    }

    /// Makes room by closing the oldest; false when there is none.
    pub fn evict_oldest(&self) -> bool {
        self.lock().places.pop_first().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HandshakePlace {
    /// Returns when the place is taken away: its sender was dropped.
    pub async fn evicted(&mut self) {
        let _dropped = (&mut self.evicted).await.is_err();
    }
}

impl Drop for HandshakePlace {
    fn drop(&mut self) {
        self.handshakes.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn the_oldest_handshake_makes_room() {
        let handshakes = Handshakes::new(2);
        let mut first = handshakes.enter();
        let mut second = handshakes.enter();
        assert!(first.evicted().now_or_never().is_none());
        let mut third = handshakes.enter();
        assert!(first.evicted().now_or_never().is_some());
        assert!(second.evicted().now_or_never().is_none());
        drop(second);
        let _fourth = handshakes.enter();
        assert!(third.evicted().now_or_never().is_none(), "a place given back is used before anyone is sent away");
    }

    #[test]
    fn a_users_places_are_counted_and_given_back() {
        let users = Arc::new(Users::default());
        let bob = user("bob");
        let first = users.enter(&bob, 2).unwrap();
        let _second = users.enter(&bob, 2).unwrap();
        assert!(users.enter(&bob, 2).is_none());
        assert!(users.enter(&user("carol"), 2).is_some());
        drop(first);
        assert!(users.enter(&bob, 2).is_some());
        drop(_second);
        assert!(users.0.is_empty(), "nothing is kept of users who are gone");
    }

    #[test]
    fn a_users_sessions_share_the_users_rate() {
        let limits = crate::gateway::testing::config().limits;
        let limits = Limits { sends_per_second_per_session: 3, sends_per_second_per_user: 4, ..limits };
        let rates = Rates::new(&limits, 1000);
        let (one, two) = (rates.session(), rates.session());
        let bob = user("bob");
        let passed = (0..10).filter(|_| rates.check(&one, &bob).is_ok()).count();
        assert_eq!(passed, 3);
        let passed = (0..10).filter(|_| rates.check(&two, &bob).is_ok()).count();
        assert_eq!(passed, 1, "what the first session was refused cost the second nothing");
        let wait_ms = rates.check(&two, &bob).unwrap_err();
        assert!((1..=1001).contains(&wait_ms), "{wait_ms}");
    }

    #[test]
    fn a_new_session_brings_no_new_share_of_what_costs_others_much() {
        let rates = Rates::new(&crate::gateway::testing::config().limits, 1000);
        let (bob, carol) = (user("bob"), user("carol"));
        assert!(rates.may_watch(&bob, 1000) && !rates.may_watch(&bob, 256) && rates.may_watch(&carol, 256));
        let changed = (0..1000).filter(|_| rates.may_change_status(&bob)).count();
        assert!((20..1000).contains(&changed) && rates.may_change_status(&carol), "{changed}");
    }
}
