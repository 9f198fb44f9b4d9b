//! Goal: a send that the disk does not settle in time is answered all the same, with the truth: nobody
//! knows. When the disk moves again the message arrives, once.
//! Method: hold the commits of the engine in memory for longer than a short `accept_timeout`.

use std::time::Duration;

use doorstep::store::memory::MemoryEngine;

use super::support::{accepted, receive, rejected, retry};
use crate::common::client::{Options, TestClient};
use crate::common::history::History;
use crate::common::inside::Inside;
use crate::common::wait;

#[tokio::test(flavor = "multi_thread")]
async fn every_send_is_answered_in_time_and_arrives_once() {
    let history = History::new();
    let inside = Inside::start_on(MemoryEngine::new(), |config| {
        config.queue.accept_timeout = Duration::from_millis(200);
    })
    .await;
    let options = |user, device| Options::of(user, device).record(&history);
    inside.connect(&options("bob", "phone")).await.leave().await;
    let mut alice = inside.connect(&options("alice", "chat")).await;
    alice.expect("caught_up").await;

    let gate = inside.engine.hold_commits();
    for id in ["m1", "m2", "m3"] {
        alice.send("bob", id, "stuck").await;
    }
    for id in ["m1", "m2", "m3"] {
        let answer = alice.recv().await;
        assert_eq!(answer["id"], id, "{answer}");
        rejected(&answer, "unknown_outcome");
    }
    rejected(&retry(&mut alice, "bob", "m2", "stuck").await, "unknown_outcome");
    let (_, health) = inside.admin("GET", "/v1/health").await;
    assert!(health["commit_running_ms"].as_u64() >= Some(200), "an operator sees what it hangs on: {health}");
    drop(gate);

    let second = until_accepted(&mut alice, "m2").await;
    let first = until_accepted(&mut alice, "m1").await;
    let third = until_accepted(&mut alice, "m3").await;
    assert!(first < second && second < third, "they keep the places they got: {first}, {second}, {third}");
    let mut bob = inside.connect(&options("bob", "phone")).await;
    for (id, seq) in [("m1", first), ("m2", second), ("m3", third)] {
        assert_eq!(receive(&mut bob, id, false).await, seq);
    }
    bob.expect("caught_up").await;
    wait::until("the disk to be at rest", async || {
        (inside.admin("GET", "/v1/health").await.1["commit_running_ms"] == 0).then_some(())
    })
    .await;
    history.assert_clean();
}

/// The disk moves, but a slow machine may take longer than the short timeout to say so.
async fn until_accepted(client: &mut TestClient, id: &str) -> u64 {
    wait::until("the outcome", async || {
        let answer = retry(client, "bob", id, "stuck").await;
        (answer["code"] != "unknown_outcome").then(|| accepted(&answer, true))
    })
    .await
}
