//! Goal: a disk that is full or failing degrades the router and never makes it lie. Little space:
//! durable sends are refused, acks go on and make room. A sync that failed: sends are refused or end
//! unknown, the exit code is 75 after `store.poison_grace`, and after a restart with room everything
//! that was accepted is there.
//! Method: a small file system filled to the brim, where this user may mount one; and, everywhere, the
//! engine in memory with its faults on demand, under the whole router in this process. No control pair
//! talks beside it: on such a disk its durable sends are refused, as the contract says.

use std::time::Duration;

use doorstep::daemon::DaemonError;
use doorstep::store::memory::Unsynced;
use serde_json::{Value, json};

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::inside::Inside;
use crate::common::traffic::collect;
use crate::common::wait;
use crate::lifecycle::place::SmallDisk;

/// The code that asks a supervisor to try again later.
const TRY_AGAIN_LATER: i32 = 75;
const MIN_FREE: u64 = 8 << 20;
/// A grace that is not over before the test is: what a poisoned router does meanwhile and how it ends are
/// looked at apart.
const NO_END: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn below_min_free_sends_are_refused_and_acks_go_on() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("store.path", disk.store().to_str().unwrap()).set("store.min_free", "8MiB");
    })
    .await;
    let mut alice = sender(&daemon.url(), &history).await;
    for n in 0..5 {
        assert_eq!(send(&mut alice, "bob", &format!("m{n}")).await["type"], "accepted");
    }
    disk.fill(MIN_FREE / 2);
    until_store_is(&daemon, "low").await;
    assert_eq!(daemon.admin("GET", "/v1/health").await.0, 200, "it can still be drained by acks");
    assert_eq!(send(&mut alice, "bob", "refused").await["code"], "storage_unavailable");

    let got = collect(&daemon, "bob", "phone", &history).await;
    assert_eq!(got.len(), 5);
    wait::until("bob's queue to be empty", async || {
        let (_, queue) = daemon.admin("GET", "/v1/queues/bob").await;
        (queue["messages"] == 0).then_some(())
    })
    .await;

    disk.make_room();
    until_store_is(&daemon, "ok").await;
    assert_eq!(send(&mut alice, "bob", "refused").await["type"], "accepted", "tried afresh");
    assert_eq!(collect(&daemon, "bob", "phone", &history).await.len(), 1);
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_nothing_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let history = History::new();
    let mut daemon = start_on(&disk, "1h").await;
    let mut alice = sender(&daemon.url(), &history).await;
    assert_eq!(send(&mut alice, "bob", "before").await["type"], "accepted");
    disk.fill(0);
    let (n, refused) = until_refused(&mut alice).await;
    assert!(["unknown_outcome", "storage_unavailable"].contains(&refused["code"].as_str().unwrap()), "{refused}");
    assert_eq!(send(&mut alice, "carol", "m0").await["code"], "storage_unavailable", "nothing is tried any more");
    let (status, health) = daemon.admin("GET", "/v1/health").await;
    assert_eq!((status, &health["store"]), (503, &json!("poisoned")), "{health}");

    daemon.kill9();
    drop(alice);
    disk.make_room();
    daemon.restart().await;
    // What is unknown may be there or not; the sender repeats it and it is there once.
    let mut alice = sender(&daemon.url(), &history).await;
    let retry = json!({"type": "send", "id": format!("m{n}"), "to": "bob", "body": "hello", "retry": true});
    alice.say(retry).await;
    alice.expect("accepted").await;
    let got = collect(&daemon, "bob", "phone", &history).await;
    assert_eq!(got.len(), n + 1, "everything accepted is there, once");
    history.assert_clean();
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_in_75() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let mut daemon = start_on(&disk, "100ms").await;
    let mut alice = sender(&daemon.url(), &History::new()).await;
    disk.fill(0);
    until_refused(&mut alice).await;
    assert_eq!(alice.expect("goodbye").await["code"], 1012);
    assert_eq!(daemon.exit().await.code(), Some(TRY_AGAIN_LATER));
}

/// Without a limit that would refuse anything before the disk is full.
async fn start_on(disk: &SmallDisk, poison_grace: &str) -> Daemon {
    Daemon::start(|settings| {
        settings
            .set("store.path", disk.store().to_str().unwrap())
            .set("store.min_free", "0B")
            .set("store.poison_grace", poison_grace);
    })
    .await
}

/// Sends to bob until one is refused: how many it took, and the refusal. Some room may be left in the block
/// that the journal has begun.
async fn until_refused(alice: &mut TestClient) -> (usize, Value) {
    for n in 1..10_000 {
        let answer = send(alice, "bob", &format!("m{n}")).await;
        if answer["type"] == "rejected" {
            return (n, answer);
        }
    }
    panic!("a full disk takes everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_poisons_and_what_was_accepted_survives_either_way() {
    for unsynced in [Unsynced::Lost, Unsynced::Kept] {
        let history = History::new();
        let mut inside = Inside::start(|config| config.store.poison_grace = NO_END).await;
        let mut bob = inside.connect(&Options::of("bob", "phone").record(&history)).await;
        bob.expect("caught_up").await;
        let mut alice = sender(&inside.url(), &history).await;
        assert_eq!(send(&mut alice, "carol", "kept").await["stored"], true);

        inside.engine.fail_syncs(1);
        assert_eq!(send(&mut alice, "carol", "doubtful").await["code"], "unknown_outcome");
        assert_eq!(send(&mut alice, "carol", "refused").await["code"], "storage_unavailable");
        assert_eq!(send(&mut alice, "bob", "refused").await["code"], "storage_unavailable");
        // Live things go on.
        let typing = json!({"type": "send", "to": "bob", "body": "typing", "ephemeral": true});
        alice.say(typing).await;
        assert_eq!(bob.expect("message").await["ephemeral"], true);
        alice.say(json!({"type": "watch", "users": ["bob"]})).await;
        assert_eq!(alice.expect("presence").await["users"][0]["state"], "online");
        inside.crash(unsynced).await;
        drop((alice, bob));

        inside.begin().await;
        let mut alice = sender(&inside.url(), &history).await;
        alice.say(json!({"type": "send", "id": "doubtful", "to": "carol", "body": "hello", "retry": true})).await;
        alice.expect("accepted").await;
        let mut carol = inside.connect(&Options::of("carol", "phone").record(&history)).await;
        for id in ["kept", "doubtful"] {
            let message = carol.expect("message").await;
            assert_eq!(message["id"], id, "{unsynced:?}: {message}");
            carol.ack(message["seq"].as_u64().unwrap()).await;
        }
        carol.expect("caught_up").await;
        history.assert_clean();
        inside.stop().await.unwrap();
    }
}

/// The very last sync is one like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_mark_that_cannot_be_synced_ends_in_75() {
    let mut inside = Inside::start(|_| ()).await;
    inside.engine.fail_syncs(1);
    let error = inside.stop().await.unwrap_err();
    assert_eq!(i32::from(error.exit_code()), TRY_AGAIN_LATER, "{error}");
}

/// A thread of the storage engine may die and leave a commit waiting for it: the end must not wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_under_a_commit_ends_in_75() {
    let history = History::new();
    let mut inside = Inside::start(|config| config.store.poison_grace = Duration::from_millis(100)).await;
    let engine = inside.engine.clone();
    let mut alice = sender(&inside.url(), &history).await;
    let gate = engine.hold_commits();
    alice.send("bob", "m1", "hello").await;
    wait::until("the commit that hangs", async || engine.holds_a_commit().then_some(())).await;
    engine.poison();
    let error = inside.exit().await.unwrap_err();
    assert!(matches!(error, DaemonError::Poisoned), "{error}");
    drop(gate);
}

/// A message that was pushed and is being stored when the sync fails may have been seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_after_a_push_leaves_the_outcome_unknown() {
    let history = History::new();
    let mut inside = Inside::start(|config| config.store.poison_grace = NO_END).await;
    let mut bob = inside.connect(&Options::of("bob", "phone").record(&history)).await;
    bob.expect("caught_up").await;
    let mut alice = sender(&inside.url(), &history).await;
    inside.engine.fail_syncs(1);
    let answer = send(&mut alice, "bob", "m1").await;
    assert_eq!(answer["code"], "unknown_outcome", "{answer}");
    let pushed = bob.expect("message").await;
    assert_eq!(pushed["id"], "m1", "it went out before the disk was tried");
    bob.ack(pushed["seq"].as_u64().unwrap()).await;
    inside.crash(Unsynced::Lost).await;
    drop((alice, bob));

    inside.begin().await;
    let mut alice = sender(&inside.url(), &history).await;
    alice.say(json!({"type": "send", "id": "m1", "to": "bob", "body": "hello", "retry": true})).await;
    alice.expect("accepted").await;
    let mut bob = inside.connect(&Options::of("bob", "phone").record(&history)).await;
    let again = bob.expect("message").await;
    assert_eq!((&again["id"], &again["redelivered"]), (&json!("m1"), &json!(true)), "{again}");
    bob.ack(again["seq"].as_u64().unwrap()).await;
    bob.expect("caught_up").await;
    history.assert_clean();
    inside.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_ends_in_75_when_the_grace_is_over() {
    let mut inside = Inside::start(|config| config.store.poison_grace = Duration::from_millis(100)).await;
    let mut alice = sender(&inside.url(), &History::new()).await;
    inside.engine.fail_syncs(1);
    assert_eq!(send(&mut alice, "carol", "doubtful").await["code"], "unknown_outcome");
    let ended = inside.exit().await.unwrap_err();
    assert!(matches!(ended, DaemonError::Poisoned), "{ended}");
    assert_eq!(i32::from(ended.exit_code()), TRY_AGAIN_LATER);
    assert_eq!(alice.expect_close().await.0, 1012);
}

async fn sender(url: &str, history: &History) -> TestClient {
    let mut alice = TestClient::attempt(url, &Options::of("alice", "phone").record(history)).await.unwrap();
    alice.expect("caught_up").await;
    alice
}

/// Sends one message and returns the answer.
async fn send(client: &mut TestClient, to: &str, id: &str) -> Value {
    client.send(to, id, "hello").await;
    let answer = client.recv().await;
    assert_eq!(answer["id"], id, "{answer}");
    answer
}

async fn until_store_is(daemon: &Daemon, state: &str) {
    wait::until(state, async || (health_of(daemon).await["store"] == state).then_some(())).await;
}

async fn health_of(daemon: &Daemon) -> Value {
    daemon.admin("GET", "/v1/health").await.1
}
