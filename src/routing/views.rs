//! What operators are shown of an owner's state. Reading only.

use super::command::{DeviceView, SessionView, ShardStats, UserView};
use super::device::{Attached, Device};
use super::state::State;
use super::user::User;
use crate::ids::{SessionId, UserId};

impl State {
    pub fn stats(&self, shard: usize, mailbox_batches: usize) -> ShardStats {
        let sessions =
            self.users().flat_map(|user| &user.inbox.devices).filter(|device| device.session.is_some()).count();
        let core = self.core();
        ShardStats {
            shard,
            users_loaded: self.users_loaded() as u64,
            sessions: sessions as u64,
            pending_appends: core.unsettled.appends as u64,
            pending_append_bytes: core.unsettled.bytes,
            dedupe_entries: core.dedupe.len() as u64,
            mailbox_batches: mailbox_batches as u64,
            usual_ack_us: core.ack_time.usual_us(),
        }
    }

    /// Sessions in order of their ids after `after`, at most `limit`.
    pub fn sessions(&self, after: Option<SessionId>, limit: usize) -> Vec<SessionView> {
        let mut views: Vec<_> = self
            .users()
            .flat_map(|user| user.inbox.devices.iter().filter_map(|device| session_view(&user.name, device)))
            .filter(|view| after.is_none_or(|after| view.session > after))
            .collect();
        views.sort_by_key(|view| view.session);
        views.truncate(limit);
        views
    }

    pub fn user_view(&self, user: &UserId) -> Option<UserView> {
        self.user(user).map(User::view)
    }
}

impl User {
    fn view(&self) -> UserView {
        let backlog = self.inbox.backlog();
        UserView {
            user: self.name.clone(),
            presence: self.presence.info(&self.name),
            own_state: self.presence.own_state(),
            last_assigned: self.inbox.last,
            devices: self.inbox.devices.iter().map(|device| self.device_view(device)).collect(),
            watchers: self.presence.watchers(),
            backlog_messages: backlog.messages,
            backlog_bytes: backlog.bytes,
        }
    }

    fn device_view(&self, device: &Device) -> DeviceView {
        let backlog = self.inbox.tally.since(device.done);
        let record = device.record();
        DeviceView {
            device: device.name.clone(),
            cursor: record.cursor,
            pushed_upto: record.pushed_upto,
            last_seen_ms: record.last_seen_ms,
            backlog_messages: backlog.messages,
            backlog_bytes: backlog.bytes,
            in_flight: device.session.as_ref().map_or(0, |session| session.in_flight.len() as u64),
            live: device.session.as_ref().is_some_and(|session| session.position == self.inbox.last),
            session: session_view(&self.name, device),
        }
    }
}

fn session_view(user: &UserId, device: &Device) -> Option<SessionView> {
    let session: &Attached = device.session.as_ref()?;
    Some(SessionView {
        session: session.id,
        user: user.clone(),
        device: device.name.clone(),
        state: session.state,
        peer: session.peer.clone(),
        attached_ms: session.attached_ms,
        window: session.window as u32,
        in_flight: session.in_flight.len() as u64,
    })
}
