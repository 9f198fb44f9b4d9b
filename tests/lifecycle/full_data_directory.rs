//! Goal: a disk that is full or failing degrades the router and never makes it lie. Little space:
//! durable sends are refused, acks go on and make room. A sync that failed: sends are refused or end
//! unknown, the exit code is 75 after `store.poison_grace`, and after a restart with room everything
//! that was accepted is there.
//! Method: a small file system filled to the brim, where this user may mount one; and, everywhere, the
//! engine in memory with its faults on demand, under the whole router in this process.

use std::sync::Arc;
use std::time::Duration;

use doorstep::config::Config;
use doorstep::daemon::{Daemon as InProcess, DaemonError};
use doorstep::store::memory::{MemoryEngine, Unsynced};
use doorstep::store::writer::Cellar;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::wait;
use crate::place::SmallDisk;
use crate::traffic::collect;

/// The code that asks a supervisor to try again later.
const TRY_AGAIN_LATER: i32 = 75;
const MIN_FREE: u64 = 8 << 20;

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
async fn a_full_disk_ends_in_75_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let history = History::new();
    let mut daemon = Daemon::start(|settings| {
        settings
            .set("store.path", disk.store().to_str().unwrap())
            .set("store.min_free", "0B")
            .set("store.poison_grace", "1s")
            .set("queue.accept_timeout", "3s");
    })
    .await;
    let mut alice = sender(&daemon.url(), &history).await;
    assert_eq!(send(&mut alice, "bob", "before").await["type"], "accepted");
    disk.fill(0);
    // Some room may be left in the block that the journal has begun.
    let mut n = 0;
    let code = loop {
        n += 1;
        assert!(n < 10_000, "a full disk takes everything");
        let answer = send(&mut alice, "bob", &format!("m{n}")).await;
        if answer["type"] == "rejected" {
            break answer["code"].as_str().unwrap().to_owned();
        }
    };
    assert!(["unknown_outcome", "storage_unavailable"].contains(&&*code), "{code}");
    assert_eq!(send(&mut alice, "carol", "m0").await["code"], "storage_unavailable", "nothing is tried any more");
    let (status, health) = daemon.admin("GET", "/v1/health").await;
    assert_eq!((status, &health["store"]), (503, &json!("poisoned")), "{health}");
    let goodbye = alice.expect("goodbye").await;
    assert_eq!(goodbye["code"], 1012, "{goodbye}");
    assert_eq!(daemon.exit().await.code(), Some(TRY_AGAIN_LATER));

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
async fn a_failed_sync_poisons_and_what_was_accepted_survives_either_way() {
    for unsynced in [Unsynced::Lost, Unsynced::Kept] {
        let history = History::new();
        let engine = MemoryEngine::new();
        let house = House::start(&engine).await;
        let mut bob = TestClient::attempt(&house.url, &Options::of("bob", "phone").record(&history)).await.unwrap();
        bob.expect("caught_up").await;
        let mut alice = sender(&house.url, &history).await;
        assert_eq!(send(&mut alice, "carol", "kept").await["stored"], true);

        engine.fail_syncs(1);
        assert_eq!(send(&mut alice, "carol", "doubtful").await["code"], "unknown_outcome");
        assert_eq!(send(&mut alice, "carol", "refused").await["code"], "storage_unavailable");
        assert_eq!(send(&mut alice, "bob", "refused").await["code"], "storage_unavailable");
        // Live things go on.
        let typing = json!({"type": "send", "to": "bob", "body": "typing", "ephemeral": true});
        alice.say(typing).await;
        assert_eq!(bob.expect("message").await["ephemeral"], true);
        alice.say(json!({"type": "watch", "users": ["bob"]})).await;
        assert_eq!(alice.expect("presence").await["users"][0]["state"], "online");
        // Bob may be sent away before her, which she would hear.
        alice.say(json!({"type": "unwatch", "users": ["bob"]})).await;

        let error = wait::within("the end", house.running).await.unwrap().unwrap_err();
        assert!(matches!(error, DaemonError::Poisoned), "{error}");
        assert_eq!(i32::from(error.exit_code()), TRY_AGAIN_LATER);
        assert_eq!(alice.expect_close().await.0, 1012);
        drop((alice, bob));

        let house = House::start(&engine.crash(unsynced)).await;
        let mut alice = sender(&house.url, &history).await;
        alice.say(json!({"type": "send", "id": "doubtful", "to": "carol", "body": "hello", "retry": true})).await;
        alice.expect("accepted").await;
        let mut carol = TestClient::attempt(&house.url, &Options::of("carol", "phone").record(&history)).await.unwrap();
        for id in ["kept", "doubtful"] {
            let message = carol.expect("message").await;
            assert_eq!(message["id"], id, "{unsynced:?}: {message}");
            carol.ack(message["seq"].as_u64().unwrap()).await;
        }
        carol.expect("caught_up").await;
        history.assert_clean();
        house.stop().await;
    }
}

/// The very last sync is one like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_mark_that_cannot_be_synced_ends_in_75() {
    let engine = MemoryEngine::new();
    let house = House::start(&engine).await;
    engine.fail_syncs(1);
    house.stop.send(()).unwrap();
    let error = wait::within("the end", house.running).await.unwrap().unwrap_err();
    assert_eq!(i32::from(error.exit_code()), TRY_AGAIN_LATER, "{error}");
}

/// A thread of the storage engine may die and leave a commit waiting for it: the end must not wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_under_a_commit_ends_in_75() {
    let history = History::new();
    let engine = MemoryEngine::new();
    let house = House::start(&engine).await;
    let mut alice = sender(&house.url, &history).await;
    let gate = engine.hold_commits();
    alice.send("bob", "m1", "hello").await;
    wait::until("the commit that hangs", async || engine.holds_a_commit().then_some(())).await;
    engine.poison();
    let error = wait::within("the end", house.running).await.unwrap().unwrap_err();
    assert!(matches!(error, DaemonError::Poisoned), "{error}");
    drop(gate);
}

/// A message that was pushed and is being stored when the sync fails may have been seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_after_a_push_leaves_the_outcome_unknown() {
    let history = History::new();
    let engine = MemoryEngine::new();
    let house = House::start(&engine).await;
    let mut bob = TestClient::attempt(&house.url, &Options::of("bob", "phone").record(&history)).await.unwrap();
    bob.expect("caught_up").await;
    let mut alice = sender(&house.url, &history).await;
    engine.fail_syncs(1);
    let answer = send(&mut alice, "bob", "m1").await;
    assert_eq!(answer["code"], "unknown_outcome", "{answer}");
    let pushed = bob.expect("message").await;
    assert_eq!(pushed["id"], "m1", "it went out before the disk was tried");
    bob.ack(pushed["seq"].as_u64().unwrap()).await;
    assert!(wait::within("the end", house.running).await.unwrap().is_err());
    drop((alice, bob));

    let house = House::start(&engine.crash(Unsynced::Lost)).await;
    let mut alice = sender(&house.url, &history).await;
    alice.say(json!({"type": "send", "id": "m1", "to": "bob", "body": "hello", "retry": true})).await;
    alice.expect("accepted").await;
    let mut bob = TestClient::attempt(&house.url, &Options::of("bob", "phone").record(&history)).await.unwrap();
    let again = bob.expect("message").await;
    assert_eq!((&again["id"], &again["redelivered"]), (&json!("m1"), &json!(true)), "{again}");
    bob.ack(again["seq"].as_u64().unwrap()).await;
    bob.expect("caught_up").await;
    history.assert_clean();
    house.stop().await;
}

/// A whole router in this process.
struct House {
    url: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), DaemonError>>,
    _dir: tempfile::TempDir,
}

impl House {
    async fn start(engine: &Arc<MemoryEngine>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.gateway.listen = "127.0.0.1:0".parse().unwrap();
        config.admin.socket = dir.path().join("doorstep.sock");
        config.store.poison_grace = Duration::from_millis(500);
        let engine = engine.clone();
        let daemon = InProcess::start_with(config, move |store, queue, metrics| {
            Cellar::open_on(engine, store, queue, metrics, doorstep::clock::wall_us() / 1000)
        })
        .await
        .unwrap();
        let url = format!("ws://{}/v1/connect", daemon.address());
        let (stop, asked) = oneshot::channel();
        let running = tokio::spawn(daemon.run(async move {
            // Whoever drops the other end wants it to go on.
            if asked.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        Self { url, stop, running, _dir: dir }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        wait::within("the orderly end", self.running).await.unwrap().unwrap();
    }
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
