//! Goal: that a user's record leaves memory and comes back is never to be noticed: not by a sender in
//! full flow, not by a device on its way in, not by whoever repeats a send.
//! Method: records leave memory after a few milliseconds, while senders and devices of many users come
//! and go at random; the daemon's counters prove that it happened often enough.

use tokio::task::JoinSet;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::wait;
use crate::delivery::exchange::{accepted, counter, id, ids, numbered, pour, take, until_empty};

const USERS: usize = 6;
const ROUNDS: usize = 12;
const BURST: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn leaving_memory_and_coming_back_is_never_noticed() {
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("routing.evict_after", "2ms").set("store.page_messages", 3);
    })
    .await;
    let mut tasks = JoinSet::new();
    for number in 0..USERS {
        let (url, history) = (daemon.url(), history.clone());
        tasks.spawn(come_and_go(url, history, format!("user-{number}")));
    }
    for result in tasks.join_all().await {
        assert_eq!(result, ROUNDS * BURST);
    }
    for number in 0..USERS {
        until_empty(&daemon, &format!("user-{number}")).await;
    }
    let report = history.assert_clean();
    assert_eq!(report.accepted() as usize, USERS * ROUNDS * BURST);
    let (loads, evictions) = (counter(&daemon, "loads").await, counter(&daemon, "evictions").await);
    assert!(loads > 3 * USERS as i64 && evictions > 2 * USERS as i64, "{loads} loads, {evictions} evictions");
}

/// A sender that pours in bursts, and a device that comes for a part of what waits and goes again.
/// Returns how many different messages the device had.
async fn come_and_go(url: String, history: History, user: String) -> usize {
    let open = async |name: &str, device: &str| {
        let options = Options::of(name, device).hello("window", 5).record(&history);
        TestClient::attempt(&url, &options).await.unwrap()
    };
    open(&user, "phone").await.leave().await;
    let sender = format!("to-{user}");
    let mut alice = open(&sender, "phone").await;
    let mut had = 0;
    for round in 0..ROUNDS {
        let prefix = format!("m-{round}");
        if round.is_multiple_of(3) {
            // A device on its way in while the burst is under way.
            let to = [&*user];
            let (mut phone, _) = tokio::join!(open(&user, "phone"), pour(&mut alice, &to, &prefix, BURST));
            had += take(&mut phone, (round + 1) * BURST - had).await.len();
            phone.leave().await;
        } else {
            pour(&mut alice, &[&user], &prefix, BURST).await;
        }
    }
    let mut phone = open(&user, "phone").await;
    had += take(&mut phone, ROUNDS * BURST - had).await.len();
    phone.leave().await;
    had
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_recognised_after_the_record_left_memory() {
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("routing.evict_after", "2ms").set("queue.dedupe_max", 1);
    })
    .await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    let first = pour(&mut alice, &["bob"], "m", 5).await;
    wait::until("all but alice to leave memory", async || (counter(&daemon, "users_loaded").await == 1).then_some(()))
        .await;
    let again = pour(&mut alice, &["bob"], "m", 5).await;
    for (first, again) in first.iter().zip(&again) {
        assert_eq!((id(first), &first["seq"]), (id(again), &again["seq"]));
    }
    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    assert_eq!(ids(&take(&mut bob, 5).await), numbered("m", 5));
    bob.expect("caught_up").await;
    alice.send("bob", "end", 1).await;
    assert_eq!(id(&bob.expect("message").await), "end", "nothing came twice");
    accepted(&mut alice, 1).await;
    history.assert_clean();
}
