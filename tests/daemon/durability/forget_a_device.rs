//! Goal: a device that is forgotten, by itself or by an operator, holds nothing up any more; what only it
//! lacked is dead-lettered, and the last device's backlog is kept for the next.
//! Method: each way of forgetting, looked at from the inbox, the dead letters and the next device.

use serde_json::json;

use super::support::{accepted, dead_letters, enter, receive, register, send, waiting};
use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::wait;

#[tokio::test]
async fn an_operator_forgets_a_device_that_is_away() {
    let history = History::new();
    let daemon = Daemon::start(|_| ()).await;
    register(&daemon, &history, "bob", "laptop").await;
    let (first, second) = phone_has_two(&daemon, &history).await;
    assert_eq!(waiting(&daemon, "bob").await, 2, "the laptop lacks both");

    let (status, _) = daemon.admin("DELETE", "/v1/users/bob/devices/laptop").await;
    assert!((200..300).contains(&status), "{status}");
    history.forgotten("bob", "laptop");
    assert_eq!(waiting(&daemon, "bob").await, 0);
    let letters = dead_letters(&daemon).await;
    let seqs: Vec<_> = letters.iter().map(|letter| letter["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [first, second], "{letters:?}");
    for letter in &letters {
        assert_eq!((&letter["reason"], &letter["device"]), (&json!("device_forgotten"), &json!("laptop")), "{letter}");
    }
    let (status, _) = daemon.admin("DELETE", "/v1/users/bob/devices/laptop").await;
    assert_eq!(status, 404, "it is not there any more");
    // It comes back as a new device, from now on.
    let laptop = enter(&daemon, &history, "bob", "laptop").await;
    assert_eq!(laptop.welcome["registered"], true);
    history.assert_clean();
}

#[tokio::test]
async fn an_operator_forgets_a_device_that_is_there() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    register(&daemon, &history, "bob", "phone").await;
    let mut laptop = enter(&daemon, &history, "bob", "laptop").await;
    let (status, _) = daemon.admin("DELETE", "/v1/users/bob/devices/laptop").await;
    assert!((200..300).contains(&status), "{status}");
    assert_eq!(laptop.expect_close().await.0, 4410);
    history.forgotten("bob", "laptop");
    daemon.kill9();
    daemon.restart().await;
    let (_, user) = daemon.admin("GET", "/v1/users/bob").await;
    let devices: Vec<_> = user["devices"].as_array().unwrap().iter().map(|device| &device["device"]).collect();
    assert_eq!(devices, ["phone"], "forgotten for good: {user}");
}

#[tokio::test]
async fn a_device_forgets_itself() {
    let history = History::new();
    let daemon = Daemon::start(|_| ()).await;
    register(&daemon, &history, "bob", "laptop").await;
    let (first, _) = phone_has_two(&daemon, &history).await;
    let mut laptop = TestClient::open(&daemon, Options::of("bob", "laptop").record(&history)).await;
    assert_eq!(receive(&mut laptop, "m1", false).await, first);
    receive(&mut laptop, "m2", false).await;
    laptop.expect("caught_up").await;
    // It has acknowledged one of the two when it logs out.
    laptop.ack(first).await;
    laptop.say(json!({"type": "forget"})).await;
    assert_eq!(laptop.expect_close().await.0, 1000);
    history.forgotten("bob", "laptop");
    assert_eq!(waiting(&daemon, "bob").await, 0);
    let letters = dead_letters(&daemon).await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((&letters[0]["reason"], &letters[0]["message"]["id"]), (&json!("device_forgotten"), &json!("m2")));
    history.assert_clean();
}

#[tokio::test]
async fn forgetting_the_last_device_keeps_the_backlog_for_the_next() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    register(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    accepted(&send(&mut alice, "bob", "m1", "one").await, true);
    let (status, _) = daemon.admin("DELETE", "/v1/users/bob/devices/phone").await;
    assert!((200..300).contains(&status), "{status}");
    history.forgotten("bob", "phone");
    accepted(&send(&mut alice, "bob", "m2", "two").await, true);
    assert_eq!(dead_letters(&daemon).await.len(), 0);
    assert_eq!(waiting(&daemon, "bob").await, 2);
    assert!(daemon.terminate().await.success());
    daemon.restart().await;
    let mut tablet = TestClient::open(&daemon, Options::of("bob", "tablet").record(&history)).await;
    assert_eq!(tablet.welcome["registered"], true);
    receive(&mut tablet, "m1", false).await;
    receive(&mut tablet, "m2", false).await;
    history.assert_clean();
}

/// Two messages that the phone has and acknowledged; their seqs.
async fn phone_has_two(daemon: &Daemon, history: &History) -> (u64, u64) {
    let mut phone = enter(daemon, history, "bob", "phone").await;
    let mut alice = enter(daemon, history, "alice", "chat").await;
    let first = accepted(&send(&mut alice, "bob", "m1", "one").await, true);
    let second = accepted(&send(&mut alice, "bob", "m2", "two").await, true);
    receive(&mut phone, "m1", false).await;
    receive(&mut phone, "m2", false).await;
    phone.ack(second).await;
    wait::until("the phone's ack to count", async || {
        let (_, user) = daemon.admin("GET", "/v1/users/bob").await;
        let devices = user["devices"].as_array()?;
        devices.iter().any(|device| device["device"] == "phone" && device["cursor"] == second).then_some(())
    })
    .await;
    phone.leave().await;
    (first, second)
}
