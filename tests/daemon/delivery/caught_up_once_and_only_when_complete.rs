//! Goal: `caught_up` comes once a session, when everything that waited at connect has been sent, and it
//! names a seq that the client may acknowledge.
//! Method: nothing waiting; a queue longer than the window, where it must not come before the last of it
//! is sent; and a session that falls behind later, which is no reason for a second one.

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::delivery::exchange::{expect_silence, ids, numbered, pour, seq, take, until_live};

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_waiting_it_comes_at_once_and_names_the_cursor() {
    let daemon = Daemon::start(|_| ()).await;
    let mut bob = TestClient::connect(&daemon, "bob", "phone").await;
    assert_eq!(bob.welcome["pending"], 0);
    let caught_up = bob.expect("caught_up").await;
    assert_eq!(caught_up["seq"], bob.welcome["cursor"]);
    expect_silence(&mut bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_the_last_of_what_was_there() {
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("store.page_messages", 2);
    })
    .await;
    let bob = Options::of("bob", "phone").hello("window", 1).record(&history);
    TestClient::open(&daemon, bob.clone()).await.leave().await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    pour(&mut alice, &["bob"], "early", 4).await;

    let mut bob = TestClient::open(&daemon, bob).await;
    // With a window of one nothing can come before an ack, so whatever comes shows its place exactly.
    pour(&mut alice, &["bob"], "late", 3).await;
    for number in 0..3 {
        let message = bob.expect("message").await;
        assert_eq!(message["id"], format!("early-{number}"));
        expect_silence(&mut bob).await;
        bob.ack(seq(&message)).await;
    }
    let last = bob.expect("message").await;
    assert_eq!(last["id"], "early-3");
    let caught_up = bob.expect("caught_up").await;
    assert_eq!(seq(&caught_up), seq(&last), "what came after the connect is not a part of it");
    bob.ack(seq(&caught_up)).await;
    assert_eq!(ids(&take(&mut bob, 3).await), numbered("late", 3));
    until_live(&daemon, "bob", "phone").await;
    expect_silence(&mut bob).await;
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn falling_behind_later_brings_no_second_one() {
    let history = History::new();
    let daemon = Daemon::start(|_| ()).await;
    let options = Options::of("bob", "phone").hello("window", 2).record(&history);
    let mut bob = TestClient::open(&daemon, options.clone()).await;
    bob.expect("caught_up").await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    pour(&mut alice, &["bob"], "m", 10).await;
    assert_eq!(ids(&take(&mut bob, 10).await), numbered("m", 10));
    until_live(&daemon, "bob", "phone").await;
    expect_silence(&mut bob).await;
    bob.leave().await;
    let mut bob = TestClient::open(&daemon, options).await;
    bob.expect("caught_up").await;
    expect_silence(&mut bob).await;
    history.assert_clean();
}
