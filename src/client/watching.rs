//! Whom the application watches, and the newest that is known of each.
//!
//! Pure. It must never let an older presence replace a newer one.

use std::collections::HashMap;

use crate::ids::UserId;
use crate::presence::PresenceInfo;

/// Users that a client watches at most; the router's own limit is lower by default.
pub(super) const WATCHED_MAX: usize = 16_384;

/// Watched users and oneself, with the newest version known of each.
#[derive(Debug, Default)]
pub(super) struct Watching {
    versions: HashMap<UserId, Option<u64>>,
    /// Presence of oneself comes without watching.
    own: Option<(UserId, Option<u64>)>,
}

impl Watching {
    /// Adds `users`; all of them, or none when that would be too many.
    pub(super) fn add(&mut self, users: &[UserId]) -> bool {
        let new = users.iter().filter(|user| !self.versions.contains_key(*user)).count();
        if self.versions.len() + new > WATCHED_MAX {
            return false;
        }
        for user in users {
            self.versions.entry(user.clone()).or_default();
        }
        true
    }

    /// Returns those of `users` who were watched.
    pub(super) fn remove(&mut self, users: &[UserId]) -> Vec<UserId> {
        users.iter().filter(|user| self.versions.remove(*user).is_some()).cloned().collect()
    }

    /// Whether presence of `user` is wanted.
    pub(super) fn minds(&self, user: &UserId) -> bool {
        self.versions.contains_key(user) || self.own.as_ref().is_some_and(|(own, _)| own == user)
    }

    pub(super) fn users(&self) -> Vec<UserId> {
        self.versions.keys().cloned().collect()
    }

    pub(super) fn i_am(&mut self, user: &UserId) {
        if self.own.as_ref().is_none_or(|(own, _)| own != user) {
            self.own = Some((user.clone(), None));
        }
    }

    /// Keeps what is newer than everything known of its user.
    pub(super) fn newer(&mut self, users: Vec<PresenceInfo>) -> Vec<PresenceInfo> {
        users.into_iter().filter(|info| self.learn(info)).collect()
    }

    /// A repeat says nothing new, and users whom nobody watches any more are nobody's business.
    fn learn(&mut self, info: &PresenceInfo) -> bool {
        let watched = self.versions.get_mut(&info.user);
        let own = self.own.as_mut().filter(|(own, _)| *own == info.user).map(|(_, version)| version);
        let mut fresh = false;
        for known in watched.into_iter().chain(own) {
            if known.is_none_or(|known| info.version > known) {
                *known = Some(info.version);
                fresh = true;
            }
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::PresenceState;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn info(name: &str, version: u64) -> PresenceInfo {
        PresenceInfo { user: user(name), state: PresenceState::Online, text: None, last_seen_ms: None, version }
    }

    #[test]
    fn older_and_repeated_versions_are_dropped_user_by_user() {
        let mut watching = Watching::default();
        assert!(watching.add(&[user("bob"), user("carol")]));
        watching.i_am(&user("alice"));
        assert_eq!(watching.newer(vec![info("bob", 5), info("carol", 3), info("alice", 1)]).len(), 3);
        let later = vec![info("bob", 4), info("bob", 5), info("carol", 4), info("alice", 1), info("dave", 9)];
        assert_eq!(watching.newer(later), [info("carol", 4)]);
    }

    #[test]
    fn watching_again_starts_afresh_and_the_set_is_bounded() {
        let mut watching = Watching::default();
        watching.add(&[user("bob")]);
        watching.newer(vec![info("bob", 5)]);
        assert_eq!(watching.remove(&[user("bob"), user("bob"), user("dave")]), [user("bob")]);
        assert!(watching.newer(vec![info("bob", 6)]).is_empty());
        watching.add(&[user("bob")]);
        assert_eq!(watching.newer(vec![info("bob", 5)]), [info("bob", 5)]);
        let many: Vec<UserId> = (0..WATCHED_MAX).map(|n| user(&n.to_string())).collect();
        assert!(!watching.add(&many));
        assert_eq!(watching.users(), [user("bob")]);
    }
}
