//! Goal: an ack counts for what was pushed in its own session, and for nothing else: above that it is
//! refused, at or below the cursor it is ignored, and from a session that was replaced it does nothing.
//! (Pages of replaced sessions have a file of their own.)
//! Method: say such acks and see what the queue and the next session know of them. A status serves as a
//! fence: its answer comes from the owner that judges the acks.

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::delivery::exchange::{expect_silence, fence, ids, numbered, pour, seq, take, until_empty, waiting};

const WINDOW: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_above_what_was_pushed_is_refused_and_has_no_effect() {
    let history = History::new();
    let daemon = Daemon::start(|_| ()).await;
    let bob = Options::of("bob", "phone").hello("window", WINDOW).record(&history);
    TestClient::open(&daemon, bob.clone()).await.leave().await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    let answers = pour(&mut alice, &["bob"], "m", 10).await;

    let mut bob = TestClient::open(&daemon, bob).await;
    let mut pushed = 0;
    for _ in 0..WINDOW {
        pushed = seq(&bob.expect("message").await);
    }
    let assigned = seq(answers.last().unwrap());
    for above in [pushed + 1, assigned, assigned + 1, (1 << 53) - 1] {
        bob.ack(above).await;
        let error = bob.expect("error").await;
        assert_eq!(error["code"], "bad_request", "{error}");
    }
    expect_silence(&mut bob).await;
    assert_eq!(waiting(&daemon, "bob").await, 10);
    bob.ack(pushed).await;
    assert_eq!(ids(&take(&mut bob, 10 - WINDOW).await), numbered("m", 10)[WINDOW..]);
    until_empty(&daemon, "bob").await;
    bob.expect("caught_up").await;
    assert!(history.check().faults.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_at_or_below_the_cursor_is_ignored() {
    let history = History::new();
    let daemon = Daemon::start(|_| ()).await;
    let options = Options::of("bob", "phone").record(&history);
    let mut bob = TestClient::open(&daemon, options.clone()).await;
    let empty = seq(&bob.expect("caught_up").await);
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    let (messages, _) = tokio::join!(take(&mut bob, 4), pour(&mut alice, &["bob"], "m", 4));
    let cursor = seq(&messages[3]);
    for below in [cursor, seq(&messages[0]), 1, empty, 0] {
        bob.ack(below).await;
    }
    expect_silence(&mut bob).await;
    bob.leave().await;

    // In a session that was pushed nothing as well: `caught_up` names the cursor, so a client may ack it.
    let mut bob = TestClient::open(&daemon, options).await;
    assert_eq!(bob.welcome["cursor"], cursor);
    assert_eq!(seq(&bob.expect("caught_up").await), cursor);
    for below in [cursor, cursor - 1] {
        bob.ack(below).await;
    }
    expect_silence(&mut bob).await;
    let (messages, _) = tokio::join!(take(&mut bob, 2), pour(&mut alice, &["bob"], "n", 2));
    assert_eq!(ids(&messages), numbered("n", 2));
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_of_a_session_that_was_replaced_does_nothing() {
    let history = History::new();
    let daemon = Daemon::start(|_| ()).await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    pour(&mut alice, &["bob"], "m", 5).await;
    let mut old = TestClient::open(&daemon, Options::of("bob", "phone")).await;
    let mut last = 0;
    for _ in 0..5 {
        last = seq(&old.expect("message").await);
    }
    let mut new = TestClient::open(&daemon, Options::of("bob", "phone")).await;
    for seq in [last - 1, last] {
        // The connection may be gone already, which is as good.
        let ack = serde_json::json!({"type": "ack", "seq": seq});
        let _gone = old.speaker.say(&ack).await.is_err();
    }
    old.expect("caught_up").await;
    assert_eq!(old.expect_close().await.0, 4409);
    fence(&mut new, "settled").await;
    assert_eq!(waiting(&daemon, "bob").await, 5, "nobody has acknowledged anything");
    let newest = TestClient::open(&daemon, Options::of("bob", "phone")).await;
    assert_eq!(newest.welcome["pending"], 5);
}
