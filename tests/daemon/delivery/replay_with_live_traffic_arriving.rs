//! Goal: what waits goes out first, what arrives meanwhile goes out behind it, and nothing falls into the
//! gap between the disk's last page and what is still on its way to the disk.
//! Method: a device comes back to a long queue with a window and pages of a few messages while a sender
//! goes on; and, with commits held back, exactly the moment at which a page is short because the next
//! messages are appended and not yet committed.

use doorstep::store::memory::MemoryEngine;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::inside::until_commit_held;
use crate::delivery::exchange::{accepted, id, ids, numbered, pour, seq, take, until_empty};
use crate::delivery::house::House;

const WAITING: usize = 300;
const LIVE: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_goes_first_and_live_messages_follow_it() {
    for (window, page) in [(1, 1), (4, 3), (64, 7)] {
        let history = History::new();
        let daemon = Daemon::start(|settings| {
            settings.set("store.page_messages", page);
        })
        .await;
        let bob = Options::of("bob", "phone").hello("window", window).record(&history);
        TestClient::open(&daemon, bob.clone()).await.leave().await;
        let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
        let (waiting, live) = if window == 1 { (WAITING / 5, LIVE / 5) } else { (WAITING, LIVE) };
        let answers = pour(&mut alice, &["bob"], "early", waiting).await;
        assert!(answers.iter().all(|answer| answer["stored"] == true), "nobody was there to take them");

        let mut bob = TestClient::open(&daemon, bob).await;
        assert_eq!(bob.welcome["pending"], waiting);
        let (messages, _) = tokio::join!(take(&mut bob, waiting + live), pour(&mut alice, &["bob"], "late", live));
        let expected = [numbered("early", waiting), numbered("late", live)].concat();
        assert_eq!(ids(&messages), expected, "window {window}, pages of {page}");
        bob.pick("caught_up").await;
        until_empty(&daemon, "bob").await;
        history.assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_page_does_not_hide_what_is_still_on_its_way_to_disk() {
    let history = History::new();
    let engine = MemoryEngine::new();
    let house = House::start(engine.clone(), |_| ()).await;
    let bob = Options::of("bob", "phone").record(&history);
    house.open(bob.clone()).await.leave().await;
    let mut alice = house.open(Options::of("alice", "phone").record(&history)).await;
    pour(&mut alice, &["bob"], "stored", 3).await;

    let gate = engine.hold_commits();
    for name in ["pending-0", "pending-1"] {
        alice.send("bob", name, name).await;
    }
    until_commit_held(&engine).await;
    let mut bob = house.open(bob).await;
    for expected in ["stored-0", "stored-1", "stored-2", "pending-0", "pending-1"] {
        let message = bob.expect("message").await;
        assert_eq!(id(&message), expected, "the disk ends before it, the inbox does not");
    }
    let caught_up = bob.expect("caught_up").await;
    drop(gate);
    accepted(&mut alice, 2).await;
    bob.ack(seq(&caught_up)).await;
    pour_and_take(&mut alice, &mut bob).await;
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_in_the_middle_of_a_replay_is_read_in_its_turn() {
    let history = History::new();
    let engine = MemoryEngine::new();
    let house = House::start(engine.clone(), |_| ()).await;
    let bob = Options::of("bob", "phone").hello("window", 2).record(&history);
    house.open(bob.clone()).await.leave().await;
    let mut alice = house.open(Options::of("alice", "phone").record(&history)).await;
    pour(&mut alice, &["bob"], "stored", 3).await;

    let gate = engine.hold_commits();
    for name in ["pending-0", "pending-1", "pending-2"] {
        alice.send("bob", name, name).await;
    }
    until_commit_held(&engine).await;
    let mut bob = house.open(bob).await;
    // With room for two: two from disk, then the last of the disk and the first of memory.
    let second = expect_two(&mut bob, "stored-0", "stored-1").await;
    bob.ack(second).await;
    let second = expect_two(&mut bob, "stored-2", "pending-0").await;
    // The rest moves from memory to disk before this device gets to it.
    drop(gate);
    accepted(&mut alice, 3).await;
    bob.ack(second).await;
    let rest = take(&mut bob, 2).await;
    assert_eq!(ids(&rest), ["pending-1", "pending-2"]);
    bob.pick("caught_up").await;
    pour_and_take(&mut alice, &mut bob).await;
    history.assert_clean();
}

/// Returns the seq of the second.
async fn expect_two(bob: &mut TestClient, first: &str, second: &str) -> u64 {
    let messages = [bob.expect("message").await, bob.expect("message").await];
    assert_eq!([id(&messages[0]), id(&messages[1])], [first, second]);
    seq(&messages[1])
}

/// The device is live again: what is sent now comes at once and in order.
async fn pour_and_take(alice: &mut TestClient, bob: &mut TestClient) {
    let (messages, _) = tokio::join!(take(bob, 20), pour(alice, &["bob"], "after", 20));
    assert_eq!(ids(&messages), numbered("after", 20));
}
