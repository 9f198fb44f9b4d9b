//! Goal: a message that all devices acknowledge at once never touches the disk; one that any of them
//! cannot take now is stored.
//! Method: a `commit_delay` longer than the test, so that the passing of time is never the reason; then look
//! at what the sender was told, at the queues, and at the number of commits.

use crate::common::client::{Options, TestClient};
use crate::common::history::History;
use crate::common::inside::Inside;
use crate::delivery::exchange::{accepted, counter, pour, seq, take, until_empty, waiting};

const SENT: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn what_every_device_acknowledges_at_once_never_touches_the_disk() {
    let history = History::new();
    let daemon = patient().await;
    let mut phone = open(&daemon, &history, "bob", "phone").await;
    let mut laptop = open(&daemon, &history, "bob", "laptop").await;
    let mut alice = open(&daemon, &history, "alice", "phone").await;
    let commits = counter(&daemon, "commits").await;
    let (.., answers) =
        tokio::join!(take(&mut phone, SENT), take(&mut laptop, SENT), pour(&mut alice, &["bob"], "m", SENT));
    assert!(answers.iter().all(|answer| answer["stored"] == false), "{answers:?}");
    assert_eq!(counter(&daemon, "commits").await, commits, "the disk was not to be touched");
    assert_eq!(counter(&daemon, "elided").await, SENT as i64);
    assert_eq!(counter(&daemon, "stored_messages").await, 0);
    let (_, queues) = daemon.admin("GET", "/v1/queues").await;
    assert_eq!(queues["queues"], serde_json::json!([]), "{queues}");
    assert_eq!(waiting(&daemon, "bob").await, 0);
    let (_, peek) = daemon.admin("GET", "/v1/queues/bob/messages").await;
    assert_eq!(peek["messages"], serde_json::json!([]), "{peek}");
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_device_that_is_away_is_enough_for_the_disk() {
    let history = History::new();
    let daemon = patient().await;
    let mut phone = open(&daemon, &history, "bob", "phone").await;
    let laptop = open(&daemon, &history, "bob", "laptop").await;
    let mut alice = open(&daemon, &history, "alice", "phone").await;
    laptop.leave().await;
    let (_, answers) = tokio::join!(take(&mut phone, SENT), pour(&mut alice, &["bob"], "m", SENT));
    assert!(answers.iter().all(|answer| answer["stored"] == true), "{answers:?}");
    assert_eq!(waiting(&daemon, "bob").await, SENT as u64);
    let mut laptop = daemon.connect(&Options::of("bob", "laptop").record(&history)).await;
    take(&mut laptop, SENT).await;
    until_empty(&daemon, "bob").await;
    assert_eq!(counter(&daemon, "elided").await, 0);
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_does_not_acknowledge_in_time_is_enough_for_the_disk() {
    let history = History::new();
    let daemon = Inside::start(|_| ()).await;
    let mut bob = open(&daemon, &history, "bob", "phone").await;
    let mut alice = open(&daemon, &history, "alice", "phone").await;
    alice.send("bob", "m", 1).await;
    let message = bob.expect("message").await;
    let answer = &accepted(&mut alice, 1).await[0];
    assert_eq!((&answer["stored"], seq(answer)), (&true.into(), seq(&message)));
    assert_eq!(waiting(&daemon, "bob").await, 1);
    bob.ack(seq(&message)).await;
    until_empty(&daemon, "bob").await;
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_goes_to_disk_when_the_device_leaves() {
    let history = History::new();
    let daemon = patient().await;
    let mut bob = open(&daemon, &history, "bob", "phone").await;
    let mut alice = open(&daemon, &history, "alice", "phone").await;
    for number in 0..SENT {
        alice.send("bob", &format!("m-{number}"), number).await;
    }
    for _ in 0..SENT / 2 {
        bob.expect("message").await;
    }
    drop(bob);
    let answers = accepted(&mut alice, SENT).await;
    assert!(answers.iter().all(|answer| answer["stored"] == true), "{answers:?}");
    let mut bob = daemon.connect(&Options::of("bob", "phone").record(&history)).await;
    take(&mut bob, SENT).await;
    until_empty(&daemon, "bob").await;
    history.assert_clean();
}

async fn patient() -> Inside {
    Inside::start_patient(|_| ()).await
}

async fn open(daemon: &Inside, history: &History, user: &str, device: &str) -> TestClient {
    let mut client = daemon.connect(&Options::of(user, device).record(history)).await;
    client.expect("caught_up").await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_delay_everything_goes_to_disk() {
    let history = History::new();
    let daemon = Inside::start(|config| config.store.commit_delay = std::time::Duration::ZERO).await;
    let mut bob = open(&daemon, &history, "bob", "phone").await;
    let mut alice = open(&daemon, &history, "alice", "phone").await;
    tokio::join!(take(&mut bob, SENT), pour(&mut alice, &["bob"], "m", SENT));
    until_empty(&daemon, "bob").await;
    assert_eq!(counter(&daemon, "elided").await, 0);
    history.assert_clean();
}
