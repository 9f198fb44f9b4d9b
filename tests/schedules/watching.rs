//! Presence as watchers may see it: versions, lingering, and nothing that leaks from `invisible`.

use doorstep::clock::Now;
use doorstep::presence::{PresenceInfo, PresenceState};

use super::cast::{USERS, WATCHERS, user_no};
use super::ledger::Ledger;

/// What was told of one user.
#[derive(Default)]
struct Told {
    latest: Option<(u32, PresenceInfo)>,
    /// When its last session ended, and whether watchers are to be told at once.
    left: Option<(u64, bool)>,
}

pub struct Watching {
    told: [Told; USERS],
    watches: [[Option<PresenceInfo>; USERS]; WATCHERS],
    subscribed: [[bool; USERS]; WATCHERS],
    linger_us: u64,
}

impl Watching {
    pub fn new(linger_us: u64) -> Self {
        Self { told: Default::default(), watches: Default::default(), subscribed: Default::default(), linger_us }
    }

    pub fn subscribe(&mut self, watcher: usize, user: u8, on: bool) {
        self.subscribed[watcher][usize::from(user)] = on;
        self.watches[watcher][usize::from(user)] = None;
    }

    pub fn is_subscribed(&self, watcher: usize, user: u8) -> bool {
        self.subscribed[watcher][usize::from(user)]
    }

    /// The process is gone, and its watchers with it.
    pub fn restart(&mut self) {
        (self.watches, self.subscribed) = Default::default();
        self.told.iter_mut().for_each(|told| told.left = None);
    }

    /// The last session of `user` ended: watchers learn of it at once, or after the linger.
    pub fn left(&mut self, user: u8, now_us: u64, at_once: bool) {
        self.told[usize::from(user)].left = Some((now_us, at_once));
    }

    /// Somebody is told of `user`; `watcher` is none for what is published to everyone.
    pub fn tell(&mut self, watcher: Option<usize>, info: &PresenceInfo, run: u32) {
        let user = usize::from(user_no(&info.user));
        assert_ne!(info.state, PresenceState::Invisible, "u{user}: watchers are told of invisible");
        assert!(info.state != PresenceState::Offline || info.text.is_none(), "u{user}: a text leaks: {info:?}");
        match &self.told[user].latest {
            Some((_, told)) if told.version == info.version => {
                assert_eq!(told, info, "u{user}: one version, two pictures")
            }
            Some((in_run, told)) => {
                assert!(told.version < info.version, "u{user}: a version goes back: {told:?}, then {info:?}");
                let changed = (told.state, &told.text) != (info.state, &info.text);
                assert!(changed || *in_run != run, "u{user}: a change that changes nothing: {told:?}, then {info:?}");
            }
            None => {}
        }
        self.told[user].latest = Some((run, info.clone()));
        if let Some(watcher) = watcher {
            self.watches[watcher][user] = Some(info.clone());
        }
    }

    /// What is seen of a user in memory follows from its sessions.
    pub fn check(&self, user: u8, info: &PresenceInfo, ledger: &Ledger, now: Now) {
        let at = usize::from(user);
        let sessions = ledger.desks[at].devices.iter().filter_map(|dev| dev.session);
        let states = sessions.map(|session| ledger.sessions[session as usize].state);
        match (states.max(), self.told[at].left) {
            (Some(state), _) => {
                assert_eq!(info.state, state.visible(), "u{user} is seen otherwise than its sessions say");
            }
            (None, Some((left_us, at_once))) if !at_once && now.us < left_us + self.linger_us => {}
            (None, _) => assert_eq!(info.state, PresenceState::Offline, "u{user} is a ghost"),
        }
        for (watcher, watches) in self.watches.iter().enumerate() {
            let Some(seen) = watches[at].as_ref().filter(|_| self.subscribed[watcher][at]) else { continue };
            assert_eq!(seen, info, "watcher {watcher} of u{user} sees an old picture");
        }
    }
}
