//! Watches the engine from outside the commit thread, which may hang in a commit that never ends.
//!
//! It only ever finds out that the store is poisoned: nothing here writes, and nothing here heals.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::shared::Shared;
use super::{Reporter, StoreState};

/// How often the engine is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A commit that takes longer than this is worth a line in the log, once.
const LONG_COMMIT: Duration = Duration::from_secs(5);

/// Tells the reporter what has become of the store, each change once, whichever thread found it out.
pub struct Announcer {
    shared: Arc<Shared>,
    reporter: Arc<dyn Reporter>,
    /// What the reporter was told last.
    told: Mutex<StoreState>,
}

impl Announcer {
    pub fn new(shared: Arc<Shared>, reporter: Arc<dyn Reporter>) -> Self {
        Self { shared, reporter, told: Mutex::new(StoreState::Ok) }
    }

    /// The lock is held while the reporter is told: an older state never comes after a newer one.
    pub fn announce(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.shared.state();
        if std::mem::replace(&mut *told, state) != state {
            self.reporter.state(state);
        }
    }

    /// Until the other end of `ended` is dropped, or the store is poisoned.
    pub fn watch(&self, ended: &Receiver<Infallible>) {
        let mut is_said = false;
        while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            if self.shared.engine.is_poisoned() {
                tracing::error!("the storage engine has failed; the store takes nothing more until a restart");
                self.shared.enter(StoreState::Poisoned);
                return self.announce();
            }
            is_said = say_if_long(self.shared.commit_running(), is_said);
        }
    }
}

/// Says it once of each commit; true when it is said of the one that is running.
fn say_if_long(running: Duration, is_said: bool) -> bool {
    let is_long = running >= LONG_COMMIT;
    if is_long && !is_said {
        tracing::error!("a commit has been under way for five seconds: the disk does not answer");
    }
    is_long
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logged::logged;

    #[test]
    fn a_disk_that_does_not_answer_is_told_of_once_each_time() {
        let said = |seconds: &[u64]| {
            let look = |is_said, seconds: &u64| say_if_long(Duration::from_secs(*seconds), is_said);
            logged(|| assert_eq!(seconds.iter().fold(false, look), seconds.last() > Some(&4))).len()
        };
        assert_eq!([said(&[0, 4]), said(&[4, 5, 6, 600]), said(&[5, 6, 0, 1, 7, 8])], [0, 1, 2]);
    }
}
