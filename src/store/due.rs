//! The two memories that keep the due index cheap: what was put already, and where it begins.
//!
//! Both may forget at any time at the cost of a little work; neither may ever claim too much.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ids::UserId;

/// Due entries that are remembered as put; about 400 KiB when full.
const REMEMBERED_MAX: usize = 8192;

/// Which due entries were put lately, so that a thousand messages to one user that expire in the
/// same minute put one entry and not a thousand. Held by the commit thread alone.
pub struct DueMemory {
    places: Vec<Option<(UserId, u64)>>,
    hasher: RandomState,
}

impl Default for DueMemory {
    fn default() -> Self {
        Self { places: vec![None; REMEMBERED_MAX], hasher: RandomState::new() }
    }
}

impl DueMemory {
    /// True when this is new, and so has to be put. What was remembered in its place is forgotten.
    pub fn remember(&mut self, user: &UserId, minute: u64) -> bool {
        let Some(place) = self.place(user, minute) else { return true };
        if place.as_ref().is_some_and(|(known, at)| *at == minute && known == user) {
            return false;
        }
        *place = Some((user.clone(), minute));
        true
    }

    /// The entry is being dropped.
    pub fn forget(&mut self, user: &UserId, minute: u64) {
        if let Some(place) = self.place(user, minute)
            && place.as_ref().is_some_and(|(known, at)| *at == minute && known == user)
        {
            *place = None;
        }
    }

    fn place(&mut self, user: &UserId, minute: u64) -> Option<&mut Option<(UserId, u64)>> {
        let place = self.hasher.hash_one((user, minute)) % REMEMBERED_MAX as u64;
        self.places.get_mut(place as usize)
    }
}

/// Where the due index begins, so that asking it every second does not walk over what was dropped.
///
/// A reader may raise the beginning only when nothing was added since before it looked.
#[derive(Debug, Default)]
pub struct DueHint(Mutex<Hint>);

#[derive(Debug, Default, Clone, Copy)]
pub struct Hint {
    from_minute: u64,
    additions: u64,
}

impl Hint {
    pub fn beginning(self) -> u64 {
        self.from_minute
    }
}

impl DueHint {
    pub fn look(&self) -> Hint {
        *self.lock()
    }

    /// A look from `hint` on found nothing before `minute`.
    pub fn raise(&self, hint: Hint, minute: u64) {
        let mut now = self.lock();
        if now.additions == hint.additions {
            now.from_minute = now.from_minute.max(minute);
        }
    }

    /// Entries from this minute on were added, and are visible.
    pub fn added(&self, minute: u64) {
        let mut now = self.lock();
        now.from_minute = now.from_minute.min(minute);
        now.additions += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Hint> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_put_once_until_it_is_dropped() {
        let (mut due, bob) = (DueMemory::default(), UserId::new("bob").unwrap());
        assert!(due.remember(&bob, 5));
        assert!(!due.remember(&bob, 5));
        assert!(due.remember(&bob, 6));
        due.forget(&bob, 5);
        assert!(due.remember(&bob, 5));
    }

    #[test]
    fn nobody_is_taken_for_another_who_was_remembered_in_the_same_place() {
        let mut due = DueMemory::default();
        // Twice as many as there are places: most of them find someone else there, or themselves at another time.
        for n in 0..2 * REMEMBERED_MAX {
            let user = UserId::new(&format!("user{n}")).unwrap();
            assert!(due.remember(&user, 5), "{user} at a minute that others have");
        }
        let bob = UserId::new("bob").unwrap();
        assert!((0..2 * REMEMBERED_MAX as u64).all(|minute| due.remember(&bob, minute)));
    }

    #[test]
    fn an_entry_that_is_dropped_takes_no_other_along_from_the_same_place() {
        let (mut due, bob) = (DueMemory::default(), UserId::new("bob").unwrap());
        assert!(due.remember(&bob, 5));
        // So many that some of them would have been in the same place.
        (6..40 * REMEMBERED_MAX as u64).for_each(|minute| due.forget(&bob, minute));
        assert!(!due.remember(&bob, 5));
    }

    #[test]
    fn an_entry_added_while_someone_looked_is_not_passed_over() {
        let due = DueHint::default();
        due.raise(due.look(), 50);
        assert_eq!(due.look().beginning(), 50);

        let looked = due.look();
        due.added(60);
        due.raise(looked, 70);
        assert_eq!(due.look().beginning(), 50, "the look may have missed minute 60");

        due.raise(due.look(), 60);
        due.added(10);
        assert_eq!(due.look().beginning(), 10);
    }
}
