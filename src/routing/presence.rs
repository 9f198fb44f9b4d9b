//! One user's presence: what its sessions say, what watchers see, and who watches. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::core::Core;
use super::effect::Effect;
use super::events::EventKind;
use super::session_handle::Session;
use crate::ids::{Seq, SessionId, UserId};
use crate::presence::{PresenceInfo, PresenceState};
use crate::store::UserRecord;

/// At the ceiling versions go on one by one. Nobody's presence changes as often as this while the store
/// is kept from raising it.
const VERSIONS_AT_CEILING: u64 = 1_000_000;

/// The version of whoever is offline since before the start, `floor` being that of seqs. Nobody has a lower one, in
/// memory or not, and whoever was seen since has a higher one.
pub fn version_floor(floor: Seq) -> u64 {
    floor.0 + VERSIONS_AT_CEILING
}

#[derive(Default)]
pub struct Presence {
    /// The most available of the sessions' states; `Offline` without a session.
    own: Option<(PresenceState, Option<Arc<str>>)>,
    /// The version of that for the user's own sessions; it goes on while the visible one is frozen.
    own_version: u64,
    /// What watchers were last told.
    visible: Visible,
    watchers: HashMap<SessionId, Session>,
    /// Until then watchers are not told that the last session has gone.
    pub linger_until_us: Option<u64>,
}

struct Visible {
    state: PresenceState,
    text: Option<Arc<str>>,
    version: u64,
    last_seen_ms: u64,
}

impl Default for Visible {
    fn default() -> Self {
        Self { state: PresenceState::Offline, text: None, version: 0, last_seen_ms: 0 }
    }
}

impl Presence {
    /// A router that starts has no ghosts: whatever was, the user begins offline.
    pub fn load(record: &UserRecord) -> Self {
        let visible =
            Visible { version: record.presence_version, last_seen_ms: record.last_seen_ms, ..Visible::default() };
        Self { visible, ..Self::default() }
    }

    pub fn record(&self) -> UserRecord {
        UserRecord { last_seen_ms: self.visible.last_seen_ms, presence_version: self.visible.version }
    }

    pub fn has_watchers(&self) -> bool {
        !self.watchers.is_empty()
    }

    pub fn watchers(&self) -> usize {
        self.watchers.len()
    }

    pub fn is_visible(&self) -> bool {
        self.visible.state != PresenceState::Offline
    }

    /// As others may see it.
    pub fn info(&self, user: &UserId) -> PresenceInfo {
        let seen = self.visible.last_seen_ms;
        PresenceInfo {
            user: user.clone(),
            state: self.visible.state,
            text: self.visible.text.clone(),
            last_seen_ms: (!self.is_visible() && seen > 0).then_some(seen),
            version: self.visible.version,
        }
    }

    pub fn own_state(&self) -> PresenceState {
        self.own.as_ref().map_or(PresenceState::Offline, |own| own.0)
    }

    /// As the user's own sessions see it: `invisible` by its name.
    pub fn own_info(&self, user: &UserId) -> PresenceInfo {
        let mut info = self.info(user);
        if let Some((state, text)) = &self.own {
            info.state = *state;
            info.text = text.clone();
            info.last_seen_ms = None;
            info.version = self.own_version.max(info.version);
        }
        info
    }

    /// The watcher gets a snapshot now and changes from now on.
    pub fn watch(&mut self, user: &UserId, session: Session, core: &mut Core) {
        core.act(Effect::Presence(session.clone(), self.info(user)));
        self.watchers.insert(session.id(), session);
    }

    pub fn unwatch(&mut self, session: SessionId) {
        self.watchers.remove(&session);
    }

    /// Takes over what the sessions say now (`None`: there is none) and tells watchers when what they
    /// may see has changed. True when the user's record has to be written.
    pub fn update(&mut self, user: &UserId, own: Option<(PresenceState, Option<Arc<str>>)>, core: &mut Core) -> bool {
        let lingers = own.is_none() && self.linger_until_us.is_some_and(|until| until > core.now.us);
        if lingers {
            return false;
        }
        self.linger_until_us = None;
        let (state, text) = own.clone().unwrap_or((PresenceState::Offline, None));
        if own != self.own {
            self.own_version = core.seqs.time(core.now).max(self.own_version + 1).max(self.visible.version + 1);
            self.own = own;
        }
        let state = state.visible();
        let text = if state == PresenceState::Offline { None } else { text };
        if state == self.visible.state && text == self.visible.text {
            return false;
        }
        // What others see changes only with what the sessions say, so this was raised just now, above either.
        self.visible.version = self.own_version;
        self.visible.state = state;
        self.visible.text = text;
        // Whoever is seen to change is there, or was until now.
        self.visible.last_seen_ms = core.now.wall_ms;
        self.announce(user, core);
        true
    }

    /// Notes that the user is still there. Says nothing of one who is invisible: the moment at which
    /// it vanished is all that anyone may learn.
    pub fn refresh(&mut self, now_ms: u64) -> bool {
        if self.is_visible() {
            self.visible.last_seen_ms = now_ms;
        }
        self.is_visible()
    }

    fn announce(&self, user: &UserId, core: &mut Core) {
        core.metrics.presence_changes.inc();
        let info = self.info(user);
        for session in self.watchers.values() {
            core.act(Effect::Presence(session.clone(), info.clone()));
        }
        core.tell(|| EventKind::Presence(info.clone()));
        core.act(Effect::Paint { online: self.is_visible(), info });
    }
}
