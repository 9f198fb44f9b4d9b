//! Goal: a watcher that does not read costs one entry a user, not one a change; when it reads again it
//! learns the latest and is spared what was in between.
//! Method: stop the watcher's socket up with messages that it does not read, change one user's presence
//! a thousand times, then read on and count.

use serde_json::json;

use crate::common::client::{Heard, Options, TestClient};
use crate::common::daemon::Daemon;
use crate::exchange::accepted;
use crate::roster::{Roster, hear, watch};

const CHANGES: usize = 1000;
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
    watch(&mut wendy, "bob").await;
    let mut alice = TestClient::connect(&daemon, "alice", "phone").await;
    let body = "x".repeat(STOPPER_BYTES);
    for number in 0..STOPPERS {
        let send = format!(r#"{{"type":"send","id":"m-{number}","to":"wendy","body":"{body}"}}"#);
        alice.speaker.say_text(&send).await.unwrap();
    }
    accepted(&mut alice, STOPPERS).await;
    let mut bob = TestClient::connect(&daemon, "bob", "phone").await;
    for number in 0..CHANGES {
        bob.say(json!({"type": "status", "state": "online", "text": format!("change {number}")})).await;
        // Each is known to be applied before the next is made: nothing is coalesced on the way in.
        hear(&mut bob, "bob").await;
    }
    bob.leave().await;

    let (mut roster, mut frames, mut messages) = (Roster::default(), 0, 0);
    let mut last = serde_json::Value::Null;
    while last["state"] != "offline" {
        match wendy.listener.next().await {
            Heard::Frame(frame) if frame["type"] == "presence" => {
                frames += 1;
                last = frame["users"][0].clone();
                roster.learn(&frame);
            }
            Heard::Frame(frame) => messages += usize::from(frame["type"] == "message"),
            end => panic!("{end:?}"),
        }
    }
    assert!(messages > STOPPERS / 2, "the socket was not stopped up: {messages} messages before the news");
    assert!(frames < CHANGES / 10, "{frames} frames for {CHANGES} changes");
    assert_eq!(roster.until(&mut wendy, "bob", "offline").await, last);
}
