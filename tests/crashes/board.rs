//! What all actors of a round show each other, so that the crash can be put where it is wanted.
//! Must never be asked about the contract: that is the history's business.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

/// Of so many answers the latest are looked at to tell which way messages go just now.
pub const RECENT: usize = 64;
/// A round that has not come to where it should crash by then is ended all the same, and tried again.
const ROUND_MAX: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Board {
    sight: Mutex<Sight>,
    changed: Notify,
    /// Devices that wait for their time to come.
    progressed: Notify,
}

/// The state of the round as its clients see it.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// Sends written in this round and not answered yet.
    pub unanswered: usize,
    pub accepted: u64,
    /// Whether each of the latest accepted sends was stored.
    pub recent: VecDeque<bool>,
    /// Sessions that were told that they have their backlog.
    pub caught_up: usize,
    /// Sessions with a part of their backlog, which are not told that it is all.
    pub replaying: usize,
    /// Hellos written to a device that has a session, with the old session not closed yet.
    pub taking_over: usize,
    pub takeovers: u64,
    /// The crash is about to happen, or has: from now on ends are no surprise.
    pub over: bool,
}

impl Sight {
    pub fn recently_stored(&self) -> usize {
        self.recent.iter().filter(|stored| **stored).count()
    }

    pub fn recently_handed_over(&self) -> usize {
        self.recent.len() - self.recently_stored()
    }
}

impl Board {
    pub fn note(&self, change: impl FnOnce(&mut Sight)) {
        change(&mut self.sight.lock().unwrap());
        self.changed.notify_one();
        self.progressed.notify_waiters();
    }

    pub fn accepted(&self, stored: bool) {
        self.note(|sight| {
            sight.accepted += 1;
            sight.recent.push_back(stored);
            if sight.recent.len() > RECENT {
                sight.recent.pop_front();
            }
        });
    }

    pub fn look(&self) -> Sight {
        self.sight.lock().unwrap().clone()
    }

    pub fn is_over(&self) -> bool {
        self.sight.lock().unwrap().over
    }

    /// Waits until the round is where `wanted` says, and declares it over in the same moment; so it does when
    /// the round has not come there in time. Returns what was seen then.
    pub async fn over_when(&self, wanted: impl Fn(&Sight) -> bool) -> Sight {
        let waiting = async {
            loop {
                {
                    let mut sight = self.sight.lock().unwrap();
                    if wanted(&sight) {
                        sight.over = true;
                        return sight.clone();
                    }
                }
                self.changed.notified().await;
            }
        };
        let reached = tokio::time::timeout(ROUND_MAX, waiting).await;
        let sight = reached.unwrap_or_else(|_| {
            let mut sight = self.sight.lock().unwrap();
            sight.over = true;
            sight.clone()
        });
        self.progressed.notify_waiters();
        sight
    }

    /// Waits until the round is where `wanted` says; false when it ended before.
    pub async fn reached(&self, wanted: impl Fn(&Sight) -> bool) -> bool {
        loop {
            let news = self.progressed.notified();
            let sight = self.look();
            if sight.over || wanted(&sight) {
                return !sight.over;
            }
            news.await;
        }
    }
}
