//! Goal: a page that was asked for by a session and comes back when the device has another one does
//! nothing: it neither reaches the new session nor moves it on.
//! Method: hold the reads of the store in the hand and let them go in every order around takeovers; then
//! the same against the real store, many times, by chance.

use crate::common::client::{Heard, Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::delivery::exchange::{expect_silence, ids, numbered, pour, take, until_empty};
use crate::delivery::house::{HeldReads, House};

/// How many sessions in a row there are, each of which replaces the one before, and the order in which their reads are let
/// go. Two are read at once: the third is not begun before the first was let go.
const ORDERS: [(usize, &[usize]); 4] = [(2, &[1, 2]), (2, &[2, 1]), (3, &[2, 3]), (3, &[3, 2])];

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_sessions_that_were_replaced_do_nothing() {
    for (sessions_in_all, order) in ORDERS {
        let history = History::new();
        let reads = HeldReads::new();
        let house = House::start(reads.clone(), |config| config.store.page_messages = 4).await;
        let bob = Options::of("bob", "phone").record(&history);
        house.open(bob.clone()).await.leave().await;
        let mut alice = house.open(Options::of("alice", "phone").record(&history)).await;
        pour(&mut alice, &["bob"], "m", 10).await;

        reads.hold();
        let mut sessions = Vec::new();
        for number in 1..=sessions_in_all {
            sessions.push(house.open(bob.clone()).await);
            if number == 3 {
                reads.let_go(1);
            }
            reads.until_come(number).await;
        }
        let mut last = sessions.pop().unwrap();
        for mut replaced in sessions {
            assert_eq!(replaced.expect_close().await.0, 4409, "and no message before");
        }
        // Until its own page is there, the last session must not get anything.
        for number in order.iter().take_while(|number| **number != sessions_in_all) {
            reads.let_go(*number);
            expect_silence(&mut last).await;
        }
        reads.let_go(sessions_in_all);
        assert_eq!(ids(&expect_messages(&mut last, 4).await), numbered("m", 4), "{order:?}");
        reads.let_all_go();
        let messages = take(&mut last, 6).await;
        assert_eq!(ids(&messages), numbered("m", 10)[4..], "{order:?}");
        assert!(messages.iter().all(|message| message["redelivered"] != true), "nobody had them: {order:?}");
        last.expect("caught_up").await;
        history.assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_comes_after_its_session_left_does_nothing() {
    let history = History::new();
    let reads = HeldReads::new();
    let house = House::start(reads.clone(), |_| ()).await;
    let bob = Options::of("bob", "phone").record(&history);
    house.open(bob.clone()).await.leave().await;
    let mut alice = house.open(Options::of("alice", "phone").record(&history)).await;
    pour(&mut alice, &["bob"], "m", 3).await;
    reads.hold();
    let gone = house.open(bob.clone()).await;
    reads.until_come(1).await;
    gone.leave().await;
    reads.let_all_go();
    pour(&mut alice, &["bob"], "n", 3).await;
    let mut back = house.open(bob).await;
    let messages = take(&mut back, 6).await;
    assert_eq!(ids(&messages), [numbered("m", 3), numbered("n", 3)].concat());
    assert!(messages.iter().all(|message| message["redelivered"] != true), "the first session had nothing");
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn takeovers_at_any_point_of_a_replay_from_disk_lose_nothing() {
    const WAITING: usize = 120;
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("store.page_messages", 2);
    })
    .await;
    let bob = Options::of("bob", "phone").record(&history);
    TestClient::open(&daemon, bob.clone()).await.leave().await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    pour(&mut alice, &["bob"], "m", WAITING).await;
    for round in 0..30 {
        let mut session = TestClient::open(&daemon, bob.clone()).await;
        let newer = tokio::spawn({
            let (url, bob) = (daemon.url(), bob.clone());
            async move { TestClient::attempt(&url, &bob).await.unwrap() }
        });
        for _ in 0..round {
            if !matches!(session.listener.next().await, Heard::Frame(_)) {
                break;
            }
        }
        let _newer = newer.await.unwrap();
    }
    let mut last = TestClient::open(&daemon, bob).await;
    assert_eq!(ids(&take(&mut last, WAITING).await), numbered("m", WAITING));
    last.pick("caught_up").await;
    until_empty(&daemon, "bob").await;
    history.assert_clean();
}

/// The next messages, acknowledged by none but the last.
async fn expect_messages(client: &mut TestClient, count: usize) -> Vec<serde_json::Value> {
    let mut messages = Vec::new();
    while messages.len() < count {
        messages.push(client.expect("message").await);
    }
    messages
}
