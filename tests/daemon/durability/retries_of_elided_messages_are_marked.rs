//! Goal: a message that was handed over and never stored is forgotten by a restart; its retry is then
//! delivered once more, and says so.
//! Method: hand a message over, end the router (in order and by a crash), retry it on the next one.

use doorstep::store::memory::Unsynced;

use super::support::{accepted, receive, retry, send};
use crate::common::client::Options;
use crate::common::history::History;
use crate::common::inside::Inside;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash() {
    retried_after(async |daemon| daemon.crash(Unsynced::Kept).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_orderly_stop() {
    retried_after(async |daemon| daemon.stop().await.unwrap()).await;
}

async fn retried_after(end: impl AsyncFnOnce(&mut Inside)) {
    let history = History::new();
    let mut daemon = Inside::start_patient(|_| ()).await;
    let mut bob = daemon.enter(&history, "bob", "phone").await;
    let mut alice = daemon.enter(&history, "alice", "chat").await;
    alice.send("bob", "m1", "one").await;
    let seq = receive(&mut bob, "m1", false).await;
    bob.ack(seq).await;
    assert_eq!(accepted(&alice.recv().await, false), seq);

    end(&mut daemon).await;
    daemon.begin().await;
    let mut bob = daemon.enter(&history, "bob", "phone").await;
    let mut alice = daemon.enter(&history, "alice", "chat").await;
    alice.say(serde_json::json!({"type": "send", "id": "m1", "to": "bob", "body": "one", "retry": true})).await;
    let again = receive(&mut bob, "m1", true).await;
    assert!(again > seq, "it has a new place: {again} after {seq}");
    bob.ack(again).await;
    assert_eq!(accepted(&alice.recv().await, false), again);
    // From here on it is known again.
    assert_eq!(accepted(&retry(&mut alice, "bob", "m1", "one").await, false), again);
    // And what is no retry is not marked.
    bob.leave().await;
    let stored = accepted(&send(&mut alice, "bob", "m2", "two").await, true);
    let mut bob = daemon.connect(&Options::of("bob", "phone")).await;
    assert_eq!(receive(&mut bob, "m2", false).await, stored);
}
