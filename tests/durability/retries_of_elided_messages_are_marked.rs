//! Goal: a message that was handed over and never stored is forgotten by a restart; its retry is then
//! delivered once more, and says so.
//! Method: hand a message over, end the router (in order and by SIGKILL), retry it on the next one.

use super::common::daemon::Daemon;
use super::common::history::History;
use super::support::{accepted, enter, receive, retry, send};

#[tokio::test]
async fn after_a_kill() {
    retried_after(async |daemon| daemon.kill9()).await;
}

#[tokio::test]
async fn after_an_orderly_stop() {
    retried_after(async |daemon| {
        assert!(daemon.terminate().await.success());
    })
    .await;
}

async fn retried_after(end: impl AsyncFnOnce(&mut Daemon)) {
    let history = History::new();
    let mut daemon = Daemon::start(|settings| {
        settings.set("store.commit_delay", "1s");
    })
    .await;
    let mut bob = enter(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    alice.send("bob", "m1", "one").await;
    let seq = receive(&mut bob, "m1", false).await;
    bob.ack(seq).await;
    assert_eq!(accepted(&alice.recv().await, false), seq);

    end(&mut daemon).await;
    daemon.restart().await;
    let mut bob = enter(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
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
    let mut bob = super::common::client::TestClient::connect(&daemon, "bob", "phone").await;
    assert_eq!(receive(&mut bob, "m2", false).await, stored);
}
