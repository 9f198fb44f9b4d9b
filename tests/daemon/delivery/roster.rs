//! What a watcher knows: the latest of each user, what is older dropped, as the contract tells clients to.
//! Must never take a version for news that is not above the one it has.

use std::collections::{HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::common::client::TestClient;
use crate::common::daemon::Desk;
use crate::common::wait;

#[derive(Default)]
pub struct Roster(HashMap<String, Value>);

impl Roster {
    /// Takes the news of one `presence` frame in.
    pub fn learn(&mut self, frame: &Value) {
        for entry in frame["users"].as_array().unwrap() {
            let user = entry["user"].as_str().unwrap().to_owned();
            if self.0.get(&user).is_none_or(|known| version(known) < version(entry)) {
                self.0.insert(user, entry.clone());
            }
        }
    }

    /// Watches `users` and learns how they stand.
    pub async fn watch(&mut self, watcher: &mut TestClient, users: &[&str]) {
        watcher.say(json!({"type": "watch", "users": users})).await;
        let mut missing: HashSet<&str> = users.iter().copied().collect();
        while !missing.is_empty() {
            let frame = watcher.pick("presence").await;
            self.learn(&frame);
            for entry in frame["users"].as_array().unwrap() {
                missing.remove(entry["user"].as_str().unwrap());
            }
        }
    }

    /// Listens until `user` is in `state`, as far as this watcher knows.
    pub async fn until(&mut self, watcher: &mut TestClient, user: &str, state: &str) -> Value {
        while self.0.get(user).is_none_or(|known| known["state"] != state) {
            self.learn(&watcher.pick("presence").await);
        }
        self.0[user].clone()
    }
}

/// Asks for a snapshot of one user and returns it. What comes of other users meanwhile is dropped.
pub async fn watch(watcher: &mut TestClient, user: &str) -> Value {
    watcher.say(json!({"type": "watch", "users": [user]})).await;
    hear(watcher, user).await
}

/// The next thing that is said of this user.
pub async fn hear(watcher: &mut TestClient, user: &str) -> Value {
    loop {
        let frame = watcher.pick("presence").await;
        let found = frame["users"].as_array().unwrap().iter().find(|entry| entry["user"] == user);
        if let Some(entry) = found {
            return entry.clone();
        }
    }
}

/// Nothing has been said of this user since `known`: what comes next is the snapshot that its owner gives
/// after all that it had to say before, and it is the same down to its version.
pub async fn expect_unchanged(watcher: &mut TestClient, user: &str, known: &Value) {
    watcher.say(json!({"type": "watch", "users": [user]})).await;
    let frame = watcher.expect("presence").await;
    assert_eq!(frame["users"], json!([known]), "nothing has changed");
}

/// Waits until the owner of this user has dealt with the end of all but `count` of its sessions.
pub async fn until_sessions(daemon: &impl Desk, user: &str, count: usize) {
    let what = format!("{user} to have {count} sessions");
    wait::until(&what, async || {
        let (_, page) = daemon.ask("GET", "/v1/sessions").await;
        let sessions = page["sessions"].as_array().unwrap();
        (sessions.iter().filter(|session| session["user"] == user).count() == count).then_some(())
    })
    .await;
}

pub async fn say_status(client: &mut TestClient, state: &str) {
    client.say(json!({"type": "status", "state": state})).await;
}

/// What the side door tells of one user.
pub async fn at_the_side_door(daemon: &impl Desk, user: &str) -> Value {
    let (status, page) = daemon.ask("GET", &format!("/v1/presence?users={user}")).await;
    assert_eq!(status, 200, "{page}");
    page["users"][0].clone()
}

/// Names of the users that are visibly online.
pub async fn online(daemon: &impl Desk) -> Vec<String> {
    let (status, page) = daemon.ask("GET", "/v1/users?online=true").await;
    assert_eq!(status, 200, "{page}");
    page["users"].as_array().unwrap().iter().map(|entry| entry["user"].as_str().unwrap().to_owned()).collect()
}

pub fn version(entry: &Value) -> u64 {
    entry["version"].as_u64().unwrap_or_else(|| panic!("no version in {entry}"))
}

pub fn last_seen_ms(entry: &Value) -> u64 {
    entry["last_seen_ms"].as_u64().unwrap_or_else(|| panic!("no last_seen_ms in {entry}"))
}

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}
