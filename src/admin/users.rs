//! Calls about users: the list, one of them, presence, forgetting a device.
//!
//! Who is in memory is described by the owner; who is not, by the store. Nobody is loaded for a look.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::desk::Clerk;
use super::problem::Problem;
use super::server::{Answer, json};
use crate::ids::{DeviceId, Seq, UserId};
use crate::message::Tally;
use crate::presence::{PresenceInfo, PresenceState};
use crate::routing::command::{Command, DeviceView, SessionView, UserView};
use crate::store::{LoadedDevice, LoadedUser};

/// `GET /v1/users/{user}`: the owner's picture, or the store's in the same words.
#[derive(Debug, Serialize)]
struct UserPage {
    user: UserId,
    presence: PresenceInfo,
    /// The state as the user set it; differs from `presence.state` when invisible.
    own_state: PresenceState,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_assigned: Option<Seq>,
    backlog_messages: u64,
    backlog_bytes: u64,
    watchers: usize,
    devices: Vec<DeviceLine>,
    sessions: Vec<SessionView>,
}

/// One device and how far it is.
#[derive(Debug, Serialize)]
pub(super) struct DeviceLine {
    pub device: DeviceId,
    pub cursor: Seq,
    pub pushed_upto: Seq,
    pub last_seen_ms: u64,
    pub backlog_messages: u64,
    pub backlog_bytes: u64,
    pub in_flight: u64,
    pub live: bool,
}

impl Clerk {
    pub(super) async fn users(&self, after: Option<UserId>, limit: usize, online: bool) -> Answer {
        // One more than asked for tells whether there are more.
        let wanted = limit + 1;
        let present = self.desk.view.list(after.as_ref(), wanted);
        let mut users: BTreeMap<UserId, Option<PresenceInfo>> =
            present.into_iter().map(|info| (info.user.clone(), Some(info))).collect();
        if !online {
            let registered = self.read(move |reader| reader.users(after.as_ref(), wanted)).await?;
            for user in registered {
                users.entry(user).or_insert(None);
            }
        }
        let more = users.len() > limit;
        let lines: Vec<_> = users.into_iter().take(limit).map(line).collect();
        let next = lines.last().filter(|_| more).and_then(|line| line.get("user").cloned());
        json(&json!({ "users": lines, "next": next }))
    }

    pub(super) async fn user(&self, user: UserId) -> Answer {
        json(&self.page_of(&user).await?)
    }

    /// Being in memory makes nobody known: a failed call or a watcher is enough for that.
    async fn page_of(&self, user: &UserId) -> Result<UserPage, Problem> {
        let page = match self.user_in_memory(user).await? {
            Some(view) => page_of_view(view),
            None => {
                let loaded = self.load(user).await?;
                page_of_loaded(&loaded, self.offline(&loaded, user))
            }
        };
        let seen = page.presence.last_seen_ms.is_some() || page.presence.version > self.desk.presence_floor;
        if seen || !page.devices.is_empty() || page.backlog_messages > 0 { Ok(page) } else { Err(nobody(user)) }
    }

    pub(super) async fn forget_device(&self, user: UserId, device: DeviceId) -> Answer {
        let command = |reply| Command::ForgetDevice { user: user.clone(), device: device.clone(), reply };
        match self.tell(&user, command).await {
            Err(problem) if problem.status == StatusCode::NOT_FOUND => {
                self.page_of(&user).await?;
                return Err(Problem::not_found(format!("user {user} has no device {device}")));
            }
            told => told?,
        }
        tracing::info!(?user, ?device, "device forgotten by an operator");
        json(&json!({ "user": user, "device": device, "forgotten": true }))
    }

    /// In the order asked for; a user of whom nothing is known is simply offline.
    pub(super) async fn presence(&self, users: Vec<UserId>) -> Answer {
        let mut found = Vec::with_capacity(users.len());
        for user in users {
            found.push(self.presence_of(user).await?);
        }
        json(&json!({ "users": found }))
    }

    async fn presence_of(&self, user: UserId) -> Result<PresenceInfo, Problem> {
        if let Some(info) = self.desk.view.look(&user) {
            return Ok(info);
        }
        // Offline, or invisible, which must look the same: both ways tell the frozen `last_seen_ms`.
        match self.user_in_memory(&user).await? {
            Some(view) => Ok(view.presence),
            None => Ok(self.offline(&self.load(&user).await?, &user)),
        }
    }

    /// The presence of a user who is not in memory, as its owner would tell it.
    fn offline(&self, loaded: &LoadedUser, user: &UserId) -> PresenceInfo {
        let record = &loaded.record;
        PresenceInfo {
            user: user.clone(),
            state: PresenceState::Offline,
            text: None,
            last_seen_ms: (record.last_seen_ms > 0).then_some(record.last_seen_ms),
            version: record.presence_version.max(self.desk.presence_floor),
        }
    }

    pub(super) async fn load(&self, user: &UserId) -> Result<LoadedUser, Problem> {
        let user = user.clone();
        self.read(move |reader| reader.load(&user)).await
    }
}

pub(super) fn nobody(user: &UserId) -> Problem {
    Problem::not_found(format!("nothing is known of user {user}"))
}

fn line((user, info): (UserId, Option<PresenceInfo>)) -> serde_json::Value {
    match info {
        Some(info) => json!(info),
        None => json!({ "user": user, "state": PresenceState::Offline }),
    }
}

fn page_of_view(view: UserView) -> UserPage {
    let sessions = view.devices.iter().filter_map(|device| device.session.clone()).collect();
    UserPage {
        user: view.user,
        presence: view.presence,
        own_state: view.own_state,
        last_assigned: Some(view.last_assigned),
        backlog_messages: view.backlog_messages,
        backlog_bytes: view.backlog_bytes,
        watchers: view.watchers,
        devices: view.devices.into_iter().map(DeviceLine::from).collect(),
        sessions,
    }
}

fn page_of_loaded(loaded: &LoadedUser, presence: PresenceInfo) -> UserPage {
    let last = loaded.last.map(|(_, tally)| tally);
    let devices: Vec<_> = loaded.devices.iter().map(|device| DeviceLine::of_loaded(device, last)).collect();
    // Quotas judge the least-behind device; without any, all that lies there is behind.
    let least = devices.iter().min_by_key(|device| device.backlog_messages);
    let (backlog_messages, backlog_bytes) = match (least, loaded.first, last) {
        (Some(device), _, _) => (device.backlog_messages, device.backlog_bytes),
        (None, Some((_, first, weight)), Some(last)) => {
            let rest = last.since(first);
            (rest.messages + 1, rest.bytes + weight)
        }
        (None, _, _) => (0, 0),
    };
    UserPage {
        user: presence.user.clone(),
        presence,
        own_state: PresenceState::Offline,
        last_assigned: loaded.last.map(|(seq, _)| seq),
        backlog_messages,
        backlog_bytes,
        watchers: 0,
        devices,
        sessions: Vec::new(),
    }
}

impl DeviceLine {
    /// `last` is the tally of the inbox's last message.
    pub(super) fn of_loaded(loaded: &LoadedDevice, last: Option<Tally>) -> Self {
        let backlog = match (last, loaded.base) {
            (Some(last), Some(base)) => last.since(base),
            _ => Tally::default(),
        };
        Self {
            device: loaded.device.clone(),
            cursor: loaded.record.cursor,
            pushed_upto: loaded.record.pushed_upto,
            last_seen_ms: loaded.record.last_seen_ms,
            backlog_messages: backlog.messages,
            backlog_bytes: backlog.bytes,
            in_flight: 0,
            live: false,
        }
    }
}

impl From<DeviceView> for DeviceLine {
    fn from(view: DeviceView) -> Self {
        Self {
            device: view.device,
            cursor: view.cursor,
            pushed_upto: view.pushed_upto,
            last_seen_ms: view.last_seen_ms,
            backlog_messages: view.backlog_messages,
            backlog_bytes: view.backlog_bytes,
            in_flight: view.in_flight,
            live: view.live,
        }
    }
}
