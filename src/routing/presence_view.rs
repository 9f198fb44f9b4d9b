//! The published picture of who is where: painted by owners only, read by anyone who can live with a
//! slightly old one (admin, pages). It never decides a delivery.

use std::sync::Arc;

use crate::ids::UserId;
use crate::maps::SharedUserMap;
use crate::presence::PresenceInfo;

/// Users that are visibly online, as watchers see them. A clone is another handle on the same map.
#[derive(Debug, Clone, Default)]
pub struct PresenceView(Arc<SharedUserMap<PresenceInfo>>);

impl PresenceView {
    /// Owners only.
    pub(super) fn paint(&self, info: PresenceInfo, online: bool) {
        if online {
            self.0.insert(info.user.clone(), info);
        } else {
            self.0.remove(&info.user);
        }
    }

    /// None when the user is not visibly online.
    pub fn look(&self, user: &UserId) -> Option<PresenceInfo> {
        self.0.get(user).map(|entry| entry.value().clone())
    }

    pub fn online(&self) -> usize {
        self.0.len()
    }

    /// Online users in name order after `after`, at most `limit`.
    pub fn list(&self, after: Option<&UserId>, limit: usize) -> Vec<PresenceInfo> {
        let mut users: Vec<_> =
            self.0.iter().filter(|e| after.is_none_or(|a| e.key() > a)).map(|e| e.value().clone()).collect();
        users.sort_by(|a, b| a.user.cmp(&b.user));
        users.truncate(limit);
        users
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::PresenceState;

    fn online(name: &str) -> PresenceInfo {
        let (user, state) = (name.parse().unwrap(), PresenceState::Online);
        PresenceInfo { user, state, text: None, last_seen_ms: None, version: 1 }
    }

    #[test]
    fn a_list_goes_on_behind_the_last_name_of_the_page_before() {
        let view = PresenceView::default();
        ["dave", "anna", "carol", "bob"].into_iter().for_each(|name| view.paint(online(name), true));
        view.paint(online("carol"), false);
        let names = |after: Option<&str>, limit| -> Vec<String> {
            let after = after.map(|name| name.parse().unwrap());
            view.list(after.as_ref(), limit).into_iter().map(|info| info.user.to_string()).collect()
        };
        assert_eq!(names(None, 2), ["anna", "bob"]);
        assert_eq!(names(Some("bob"), 2), ["dave"]);
        assert_eq!(names(Some("bert"), 2), ["bob", "dave"]);
        assert_eq!((names(Some("dave"), 2).len(), view.online()), (0, 3));
    }
}
