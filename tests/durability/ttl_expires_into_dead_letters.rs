//! Goal: a message that nobody fetched in time is not delivered any more, and is kept as a dead letter; one
//! that is on its way to a session does not expire; nothing expires in the grace after a start.
//! Method: short times to live; a condition on the clock, then the device comes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::common::client::{Options, TestClient};
use super::common::daemon::Daemon;
use super::common::history::History;
use super::common::wait;
use super::support::{accepted, dead_letters, enter, receive, register, say, send, waiting};

const TTL: Duration = Duration::from_millis(100);

#[tokio::test]
async fn what_waited_too_long_is_a_dead_letter() {
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("queue.expiry_grace", "0s");
    })
    .await;
    register(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    let first = accepted(&say(&mut alice, short_lived("m1", "gone")).await, true);
    accepted(&send(&mut alice, "bob", "m2", "stays").await, true);
    accepted(&say(&mut alice, short_lived("m3", "gone as well")).await, true);
    time_passes().await;

    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    let seq = receive(&mut bob, "m2", false).await;
    bob.expect("caught_up").await;
    bob.ack(seq).await;
    wait::until("the inbox to be empty", async || (waiting(&daemon, "bob").await == 0).then_some(())).await;
    let letters = dead_letters(&daemon).await;
    assert_eq!(letters.len(), 2, "{letters:?}");
    let letter = &letters[0];
    assert_eq!((&letter["reason"], &letter["user"], &letter["seq"]), (&json!("expired"), &json!("bob"), &json!(first)));
    assert_eq!((&letter["message"]["id"], &letter["message"]["body"]), (&json!("m1"), &json!("gone")));
    daemon.record_dead_letters(&history).await;
    history.assert_clean();
}

#[tokio::test]
async fn what_is_in_flight_does_not_expire() {
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("queue.expiry_grace", "0s");
    })
    .await;
    register(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    accepted(&say(&mut alice, short_lived("m1", "just in time")).await, true);
    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    match bob.recv().await {
        frame if frame["type"] == "message" => {
            let seq = frame["seq"].as_u64().unwrap();
            bob.expect("caught_up").await;
            time_passes().await;
            // Beside it another device reads the inbox, and finds it expired: it is left alone.
            bob.ack(seq).await;
            wait::until("the inbox to be empty", async || (waiting(&daemon, "bob").await == 0).then_some(())).await;
            assert_eq!(dead_letters(&daemon).await.len(), 0);
        }
        // The machine was so slow that it had expired before: then it must be a dead letter.
        _ => {
            wait::until("the dead letter", async || (dead_letters(&daemon).await.len() == 1).then_some(())).await;
            daemon.record_dead_letters(&history).await;
        }
    }
    history.assert_clean();
}

#[tokio::test]
async fn nothing_expires_in_the_grace_after_a_start() {
    let history = History::new();
    let daemon = Daemon::start(|_| ()).await;
    register(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    accepted(&say(&mut alice, short_lived("m1", "late")).await, true);
    time_passes().await;
    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    receive(&mut bob, "m1", false).await;
    history.assert_clean();
}

fn short_lived(id: &str, body: &str) -> serde_json::Value {
    json!({"type": "send", "id": id, "to": "bob", "body": body, "ttl_ms": TTL.as_millis() as u64})
}

/// Until everything that was sent with [`TTL`] has expired.
async fn time_passes() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let until = now() + TTL;
    wait::until("the time to live to be over", async || (now() > until).then_some(())).await;
}
