//! Goal: whoever takes slowly is served from disk at its own pace: it costs the router a window of
//! memory, its senders nothing, and in the end it has everything and is live again.
//! Method: pour at a client that holds its acks back, look at what it has in flight and at the process's
//! memory, then let it catch up.

use serde_json::json;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::delivery::exchange::{
    accepted, device, expect_silence, ids, numbered, pour, seq, take, until_empty, until_live,
};

const WINDOW: usize = 8;
const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_consumer_falls_behind_and_catches_up_in_order() {
    const SENT: usize = 500;
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("store.page_messages", 5);
    })
    .await;
    let bob = Options::of("bob", "phone").hello("window", WINDOW).record(&history);
    let mut bob = TestClient::open(&daemon, bob).await;
    bob.expect("caught_up").await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    let answers = pour(&mut alice, &["bob"], "m", SENT).await;
    assert!(answers.iter().all(|answer| answer["stored"] == true), "nothing was acknowledged");

    let mut first = Vec::new();
    for _ in 0..WINDOW {
        first.push(bob.expect("message").await);
    }
    expect_silence(&mut bob).await;
    let line = device(&daemon, "bob", "phone").await;
    assert_eq!((&line["in_flight"], &line["backlog_messages"]), (&WINDOW.into(), &SENT.into()), "{line}");
    assert_eq!(line["live"], false, "{line}");

    bob.ack(seq(&first[WINDOW - 1])).await;
    first.extend(take(&mut bob, SENT - WINDOW).await);
    assert_eq!(ids(&first), numbered("m", SENT));
    until_empty(&daemon, "bob").await;
    until_live(&daemon, "bob", "phone").await;
    let (messages, _) = tokio::join!(take(&mut bob, 20), pour(&mut alice, &["bob"], "live", 20));
    assert_eq!(ids(&messages), numbered("live", 20));
    // `caught_up` belongs to the attach; falling behind later brings no second one.
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_behind_a_slow_consumer_is_not_held_in_memory() {
    const BODY_BYTES: usize = 60_000;
    /// 228 MiB in all.
    const SENT: usize = 4000;
    /// However far the disk is behind: the store gathers up to 80 MiB (five times 16) before it makes writers
    /// wait for a table, and the rest is room for the allocator. Half of what is queued.
    const BOUND_MIB: u64 = 112;
    let daemon = Daemon::start(|_| ()).await;
    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").hello("window", WINDOW)).await;
    bob.expect("caught_up").await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone")).await;
    let before = daemon.rss_bytes();
    let body = "x".repeat(BODY_BYTES);
    for batch in 0..SENT / 40 {
        for number in 0..40 {
            let send = format!(r#"{{"type":"send","id":"{batch}-{number}","to":"bob","body":"{body}"}}"#);
            alice.speaker.say_text(&send).await.unwrap();
        }
        accepted(&mut alice, 40).await;
    }
    let line = device(&daemon, "bob", "phone").await;
    assert_eq!(line["backlog_messages"], SENT, "{line}");
    assert!(line["in_flight"].as_u64().unwrap() <= WINDOW as u64, "{line}");
    let grown = daemon.rss_bytes().saturating_sub(before);
    let queued = (SENT * BODY_BYTES) as u64;
    assert!(grown < BOUND_MIB * MIB, "{} MiB for a queue of {} MiB", grown / MIB, queued / MIB);
    // It goes on from where it was, in the middle of all that.
    let message = bob.expect("message").await;
    assert_eq!(message["id"], "0-0");
    bob.ack(seq(&message)).await;
    bob.say(json!({"type": "ping", "n": 1})).await;
    bob.pick("pong").await;
    assert_eq!(ids(&take(&mut bob, 20).await)[19], "0-20");
}
