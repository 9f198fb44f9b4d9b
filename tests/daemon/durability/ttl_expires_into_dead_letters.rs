//! Goal: a message that nobody fetched in time is not delivered any more, and is kept as a dead letter; one
//! that is on its way to a session does not expire; nothing expires in the grace after a start.
//! Method: short times to live; a condition on the clock, then the device comes. (Where nobody comes is a hazard of its own.)

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::support::{accepted, dead_letters, enter, metric, receive, register, rejected, say, send, waiting};
use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::wait;

const TTL: Duration = Duration::from_millis(400);

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
    wait::until("the dead letters", async || (dead_letters(&daemon).await.len() == 2).then_some(())).await;
    let letters = dead_letters(&daemon).await;
    let letter = &letters[0];
    assert_eq!((&letter["reason"], &letter["user"], &letter["seq"]), (&json!("expired"), &json!("bob"), &json!(first)));
    assert_eq!((&letter["message"]["id"], &letter["message"]["body"]), (&json!("m1"), &json!("gone")));
    daemon.record_dead_letters(&history).await;
    history.assert_clean();
}

/// A time to live that is over when the owner looks: the sender is told, and nobody gets it.
#[tokio::test]
async fn what_comes_too_late_is_rejected_to_its_sender() {
    const BURST: usize = 100;
    let history = History::new();
    let daemon = Daemon::start(|_| ()).await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    let (mut sent, mut late) = (0, Vec::new());
    wait::until("one that comes too late", async || {
        for number in sent..sent + BURST {
            let send = json!({"type": "send", "id": format!("m{number}"), "to": "bob", "body": number, "ttl_ms": 1});
            alice.speaker.queue(&send).await.unwrap();
        }
        alice.speaker.flush().await.unwrap();
        sent += BURST;
        for _ in 0..BURST {
            let answer = alice.recv().await;
            if answer["type"] == "rejected" {
                rejected(&answer, "expired");
                late.push(answer["id"].clone());
            }
        }
        (!late.is_empty()).then_some(())
    })
    .await;
    // Nothing expires in the grace after a start, so the others are all there.
    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    for _ in 0..sent - late.len() {
        let message = bob.expect("message").await;
        assert!(!late.contains(&message["id"]), "it was rejected: {message}");
        bob.ack(message["seq"].as_u64().unwrap()).await;
    }
    bob.expect("caught_up").await;
    history.assert_clean();
}

#[tokio::test]
async fn what_is_in_flight_does_not_expire() {
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("queue.expiry_grace", "0s");
    })
    .await;
    register(&daemon, &history, "bob", "laptop").await;
    let mut phone = enter(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    let seq = accepted(&say(&mut alice, short_lived("m1", "on its way")).await, true);
    assert_eq!(receive(&mut phone, "m1", false).await, seq);
    time_passes().await;
    // The other device reads the inbox now: what one device is just being given, it is given as well.
    let mut laptop = TestClient::open(&daemon, Options::of("bob", "laptop").record(&history)).await;
    assert_eq!(receive(&mut laptop, "m1", false).await, seq);
    laptop.expect("caught_up").await;
    phone.ack(seq).await;
    laptop.ack(seq).await;
    wait::until("the inbox to be empty", async || (waiting(&daemon, "bob").await == 0).then_some(())).await;
    assert_eq!(dead_letters(&daemon).await.len(), 0);
    history.assert_clean();
}

#[tokio::test]
async fn a_device_that_came_later_does_not_count_as_having_had_it() {
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("queue.expiry_grace", "0s");
    })
    .await;
    register(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    accepted(&say(&mut alice, short_lived("m1", "for the phone alone")).await, true);
    // It begins behind the message, which it was never meant to have.
    register(&daemon, &history, "bob", "laptop").await;
    time_passes().await;
    enter(&daemon, &history, "bob", "phone").await.leave().await;
    let letters = async || (!dead_letters(&daemon).await.is_empty()).then_some(());
    wait::until("the dead letter of what nobody had", letters).await;
    daemon.record_dead_letters(&history).await;
    history.assert_clean();
}

#[tokio::test]
async fn once_a_device_has_had_it_its_expiry_is_only_counted() {
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("queue.expiry_grace", "0s");
    })
    .await;
    register(&daemon, &history, "bob", "laptop").await;
    let mut phone = enter(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    accepted(&say(&mut alice, short_lived("m1", "seen on the phone")).await, true);
    let seq = receive(&mut phone, "m1", false).await;
    phone.ack(seq).await;
    time_passes().await;
    wait::until("the phone's ack to count", async || {
        let (_, user) = daemon.admin("GET", "/v1/users/bob").await;
        let devices = user["devices"].as_array()?;
        devices.iter().any(|device| device["cursor"] == seq).then_some(())
    })
    .await;
    enter(&daemon, &history, "bob", "laptop").await.leave().await;
    wait::until("the inbox to be empty", async || (waiting(&daemon, "bob").await == 0).then_some(())).await;
    assert_eq!(metric(&daemon, "doorstep_expired_total").await, 1);
    assert_eq!(dead_letters(&daemon).await.len(), 0);
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
