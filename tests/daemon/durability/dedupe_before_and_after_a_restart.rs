//! Goal: a retry is not a second message: it gets the answer that the first one got, its seq included,
//! and is not delivered again; another body under the same id is refused.
//! Method: repeats of stored, handed-over and pending messages; of the stored ones after a SIGKILL too.
//! That nothing more was delivered is shown by what comes next, not by waiting.

use doorstep::store::memory::MemoryEngine;
use serde_json::json;

use super::support::{accepted, enter, receive, register, rejected, retry, send};
use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::inside::Inside;
use crate::common::wait;

#[tokio::test]
async fn a_stored_message_is_recognised_even_after_a_kill() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    register(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    let first = accepted(&send(&mut alice, "bob", "m1", "one").await, true);
    let second = accepted(&send(&mut alice, "bob", "m2", "two").await, true);
    assert_eq!(accepted(&send(&mut alice, "bob", "m1", "one").await, true), first);
    rejected(&send(&mut alice, "bob", "m1", "another").await, "id_reused");

    daemon.kill9();
    daemon.restart().await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    assert_eq!(accepted(&retry(&mut alice, "bob", "m2", "two").await, true), second);
    assert_eq!(accepted(&retry(&mut alice, "bob", "m1", "one").await, true), first);
    rejected(&retry(&mut alice, "bob", "m1", "another").await, "id_reused");
    // The id is one sender's own, and one recipient's.
    let mut carol = enter(&daemon, &history, "carol", "chat").await;
    let third = accepted(&send(&mut carol, "bob", "m1", "carol's").await, true);
    accepted(&send(&mut alice, "dave", "m1", "dave's").await, true);

    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    // After an unclean stop nobody knows what was pushed, so all that is older is marked.
    assert_eq!(receive(&mut bob, "m1", true).await, first);
    assert_eq!(receive(&mut bob, "m2", true).await, second);
    assert_eq!(receive(&mut bob, "m1", false).await, third);
    bob.expect("caught_up").await;
    bob.ack(third).await;
    // Delivered and gone from the inbox, and still known.
    wait::until("the inbox to be empty", async || {
        let (_, queue) = daemon.admin("GET", "/v1/queues/bob").await;
        (queue["messages"] == 0).then_some(())
    })
    .await;
    assert_eq!(accepted(&retry(&mut alice, "bob", "m1", "one").await, true), first);
    let last = accepted(&send(&mut alice, "bob", "m3", "three").await, true);
    assert_eq!(receive(&mut bob, "m3", false).await, last);
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_handed_over_is_recognised() {
    let history = History::new();
    let inside = Inside::start_patient(|_| ()).await;
    let mut bob = inside.enter(&history, "bob", "phone").await;
    let mut alice = inside.enter(&history, "alice", "chat").await;
    alice.send("bob", "m1", "one").await;
    let seq = receive(&mut bob, "m1", false).await;
    bob.ack(seq).await;
    assert_eq!(accepted(&alice.recv().await, false), seq);
    assert_eq!(accepted(&send(&mut alice, "bob", "m1", "one").await, false), seq);
    assert_eq!(accepted(&retry(&mut alice, "bob", "m1", "one").await, false), seq);
    rejected(&send(&mut alice, "bob", "m1", "another").await, "id_reused");
    alice.send("bob", "m2", "two").await;
    receive(&mut bob, "m2", false).await;
    drop(alice);
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_of_a_pending_message_joins_it() {
    let history = History::new();
    let inside = Inside::start_on(MemoryEngine::new(), |_| ()).await;
    let options = |user, device| Options::of(user, device).record(&history);
    inside.connect(&options("bob", "phone")).await.leave().await;
    let (mut chat, mut web) =
        (inside.connect(&options("alice", "chat")).await, inside.connect(&options("alice", "web")).await);
    chat.expect("caught_up").await;
    web.expect("caught_up").await;
    let gate = inside.engine.hold_commits();
    chat.send("bob", "m1", "one").await;
    let again = json!({"type": "send", "id": "m1", "to": "bob", "body": "one", "retry": true});
    // A pong follows what was said before it: the first one is with the owner now.
    pass_by(&mut chat).await;
    web.say(json!({"type": "send", "id": "m1", "to": "bob", "body": "another"})).await;
    rejected(&web.recv().await, "id_reused");
    chat.say(again.clone()).await;
    web.say(again).await;
    pass_by(&mut chat).await;
    pass_by(&mut web).await;
    drop(gate);
    let seq = accepted(&chat.recv().await, true);
    assert_eq!(accepted(&chat.recv().await, true), seq);
    assert_eq!(accepted(&web.recv().await, true), seq);
    let mut bob = inside.connect(&options("bob", "phone")).await;
    assert_eq!(bob.expect("message").await["seq"], seq);
    assert_eq!(bob.expect("caught_up").await["seq"], seq);
    history.assert_clean();
}

/// Everything said so far has been handed to the owners.
async fn pass_by(client: &mut TestClient) {
    client.say(json!({"type": "ping", "n": 1})).await;
    client.expect("pong").await;
}
