//! Goal: a watcher that does not read costs one entry a user, not one a change; when it reads again it
//! learns the latest and is spared what was in between.
//! Method: stop the watcher's socket up with messages that it does not read, change the presence of some users
//! as often as each may at once, then read on and count.

use std::collections::HashSet;

use serde_json::json;

use crate::common::client::{Heard, Options, TestClient};
use crate::common::daemon::Daemon;
use crate::delivery::exchange::accepted;
use crate::delivery::roster::{Roster, hear};

const BOBS: usize = 20;
const CHANGES_EACH: usize = 19;
/// More than the server's side of the socket takes; the watcher's own takes next to nothing.
const STOPPERS: usize = 160;
const STOPPER_BYTES: usize = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_does_not_read_is_told_the_latest_only() {
    let daemon = Daemon::start(|settings| {
        settings.set("limits.window_bytes", "64MiB").set("limits.window", 1024).set("limits.sends_in_flight", 1024);
    })
    .await;
    let mut wendy = TestClient::open(&daemon, Options::of("wendy", "phone").narrow()).await;
    let bobs: Vec<_> = (0..BOBS).map(|number| format!("bob-{number}")).collect();
    Roster::default().watch(&mut wendy, &bobs.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut alice = TestClient::connect(&daemon, "alice", "phone").await;
    let body = "x".repeat(STOPPER_BYTES);
    for number in 0..STOPPERS {
        let send = format!(r#"{{"type":"send","id":"m-{number}","to":"wendy","body":"{body}"}}"#);
        alice.speaker.say_text(&send).await.unwrap();
    }
    accepted(&mut alice, STOPPERS).await;
    for name in &bobs {
        let mut bob = TestClient::connect(&daemon, name, "phone").await;
        for number in 0..CHANGES_EACH {
            bob.say(json!({"type": "status", "state": "online", "text": format!("change {number}")})).await;
            // Each is known to be applied before the next is made: nothing is coalesced on the way in.
            hear(&mut bob, name).await;
        }
        bob.leave().await;
    }

    let (mut left, mut entries, mut messages) = (HashSet::new(), 0, 0);
    while left.len() < BOBS {
        match wendy.listener.next().await {
            Heard::Frame(frame) if frame["type"] == "presence" => {
                for entry in frame["users"].as_array().unwrap() {
                    entries += 1;
                    let user = entry["user"].as_str().unwrap().to_owned();
                    assert!(!left.contains(&user), "{user} had left for good: {entry}");
                    if entry["state"] == "offline" {
                        left.insert(user);
                    }
                }
            }
            Heard::Frame(frame) => messages += usize::from(frame["type"] == "message"),
            end => panic!("{end:?}"),
        }
    }
    assert!(messages > STOPPERS / 2, "the socket was not stopped up: {messages} messages before the news");
    assert!(entries <= 2 * BOBS, "{entries} entries for {} changes", BOBS * CHANGES_EACH);
}
