//! Goal: a queue that is full rejects the new message with `queue_full` and never drops an old one; room
//! comes back with acks.
//! Method: each of the four quotas made small, filled up, checked, and drained.

use super::support::{accepted, enter, rejected, send, waiting};
use crate::common::client::{Options, TestClient};
use crate::common::daemon::{Daemon, Settings};
use crate::common::history::History;
use crate::common::wait;

/// Small enough for small quotas.
fn small_bodies(settings: &mut Settings) -> &mut Settings {
    settings.set("limits.body_bytes", "256B").set("limits.frame_bytes", "4KiB")
}

#[tokio::test]
async fn messages_of_one_user() {
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("queue.max_messages", 3);
    })
    .await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    let filled = fill(&mut alice, "bob", "m", "x").await;
    assert_eq!(filled, 3);
    // Another user's queue is another queue.
    accepted(&send(&mut alice, "carol", "c", "x").await, true);

    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    for number in 0..3 {
        let message = bob.expect("message").await;
        assert_eq!(message["id"], format!("m{number}"), "no old one was dropped");
        bob.ack(message["seq"].as_u64().unwrap()).await;
    }
    bob.expect("caught_up").await;
    wait::until("the queue to be drained", async || (waiting(&daemon, "bob").await == 0).then_some(())).await;
    bob.leave().await;
    // The one that was rejected is tried afresh, under the same id.
    accepted(&send(&mut alice, "bob", "m3", "x").await, true);
    let mut carol = TestClient::open(&daemon, Options::of("carol", "phone").record(&history)).await;
    carol.expect("message").await;
    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    assert_eq!(bob.expect("message").await["id"], "m3");
    history.assert_clean();
}

#[tokio::test]
async fn bytes_of_one_user() {
    let daemon = Daemon::start(|settings| {
        small_bodies(settings).set("queue.max_bytes", "4KiB");
    })
    .await;
    let history = History::new();
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    let filled = fill(&mut alice, "bob", "m", &"x".repeat(200)).await;
    assert!((10..20).contains(&filled), "4 KiB hold {filled} messages of 200 bytes");
    // What is small enough still fits in, and was not taken for the ones that did not.
    let (_, queue) = daemon.admin("GET", "/v1/queues/bob").await;
    assert!(queue["bytes"].as_u64().unwrap() <= 4096, "{queue}");
    assert_eq!(queue["messages"], filled);
}

#[tokio::test]
async fn bytes_of_all_users() {
    let daemon = Daemon::start(|settings| {
        small_bodies(settings).set("queue.max_total_bytes", "8KiB");
    })
    .await;
    let history = History::new();
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    let mut filled = 0;
    for user in ["bob", "carol", "dave"] {
        for number in 0..10 {
            let answer = send(&mut alice, user, &format!("{user}{number}"), &"x".repeat(200)).await;
            if answer["type"] == "accepted" {
                filled += 1;
            } else {
                rejected(&answer, "queue_full");
            }
        }
    }
    assert!((20..30).contains(&filled), "8 KiB hold {filled} messages of 200 bytes");
    rejected(&send(&mut alice, "eve", "e", &"x".repeat(200)).await, "queue_full");
}

#[tokio::test]
async fn messages_of_one_sender() {
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("queue.max_outstanding_per_sender", 3);
    })
    .await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    for user in ["bob", "carol", "dave"] {
        accepted(&send(&mut alice, user, user, "x").await, true);
    }
    rejected(&send(&mut alice, "eve", "eve", "x").await, "queue_full");
    let mut mallory = enter(&daemon, &history, "mallory", "chat").await;
    accepted(&send(&mut mallory, "eve", "eve", "x").await, true);
    // What is delivered is outstanding no more.
    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    let seq = bob.expect("message").await["seq"].as_u64().unwrap();
    bob.ack(seq).await;
    wait::until("room for one more", async || {
        let answer = send(&mut alice, "eve", "eve", "x").await;
        (answer["type"] == "accepted").then_some(())
    })
    .await;
}

/// Sends until the queue is full; how many were accepted.
async fn fill(client: &mut TestClient, to: &str, prefix: &str, body: &str) -> u64 {
    for number in 0..1000 {
        let answer = send(client, to, &format!("{prefix}{number}"), body).await;
        if answer["type"] == "rejected" {
            rejected(&answer, "queue_full");
            assert!(answer["retry_after_ms"].is_u64(), "it may be tried again: {answer}");
            return number;
        }
        accepted(&answer, true);
    }
    panic!("the queue is never full");
}
