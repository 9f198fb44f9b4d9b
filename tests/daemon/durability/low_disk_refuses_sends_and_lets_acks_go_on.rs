//! Goal: below `store.min_free` durable sends are refused, while everything that frees space goes on; when
//! there is room again, so do sends.
//! Method: the real binary with a `min_free` that no disk has; the engine in memory with a disk that fills
//! up and empties again in one life. No control pair talks beside it: its durable sends are refused as well,
//! as the contract says.

use doorstep::store::memory::MemoryEngine;

use super::support::{accepted, enter, metric, receive, register, rejected, send, waiting};
use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::inside::Inside;
use crate::common::wait;

#[tokio::test]
async fn a_backlog_can_be_drained_on_a_full_disk() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    register(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    for id in ["m1", "m2", "m3"] {
        accepted(&send(&mut alice, "bob", id, "stored while there was room").await, true);
    }
    assert!(daemon.terminate().await.success());
    drop(alice);
    daemon.settings().set("store.min_free", "1024TiB");
    daemon.restart().await;

    let (status, health) = daemon.admin("GET", "/v1/health").await;
    assert_eq!((status, &health["store"]), (200, &"low".into()), "{health}");
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    rejected(&send(&mut alice, "bob", "m4", "no room").await, "storage_unavailable");
    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    for id in ["m1", "m2", "m3"] {
        let seq = receive(&mut bob, id, false).await;
        bob.ack(seq).await;
    }
    bob.expect("caught_up").await;
    // Nobody waits for an ack to be written, so that is looked for.
    let stored = async || metric(&daemon, "doorstep_stored_messages").await;
    wait::until("the acks to be written", async || (stored().await == 0).then_some(())).await;
    assert_eq!(waiting(&daemon, "bob").await, 0);
    // A new device is a small thing, and may be what drains a queue.
    register(&daemon, &history, "carol", "phone").await;
    drop(bob);
    daemon.kill9();
    daemon.restart().await;
    let bob = enter(&daemon, &history, "bob", "phone").await;
    assert_eq!(bob.welcome["pending"], 0, "the acks were written");
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_go_on_when_there_is_room_again() {
    let history = History::new();
    let inside = Inside::start_on(MemoryEngine::new(), |config| config.store.min_free = 1000).await;
    let mut alice = inside.connect(&Options::of("alice", "chat").record(&history)).await;
    alice.expect("caught_up").await;
    accepted(&send(&mut alice, "bob", "m0", "room").await, true);
    let mut number = 0;
    let mut until_answer = async |wanted: &str| {
        wait::until(wanted, async || {
            number += 1;
            let answer = send(&mut alice, "bob", &format!("m{number}"), "is there room?").await;
            let name = answer.get("code").unwrap_or(&answer["type"]);
            (name == wanted).then_some(())
        })
        .await;
    };
    inside.engine.set_disk_free(Some(999));
    until_answer("storage_unavailable").await;
    // Just above the limit is not enough: it would be below again with the next message.
    inside.engine.set_disk_free(Some(2000));
    until_answer("accepted").await;
    let (_, health) = inside.admin("GET", "/v1/health").await;
    assert_eq!(health["store"], "ok");
    let mut bob = inside.connect(&Options::of("bob", "phone").record(&history)).await;
    while bob.recv().await["type"] == "message" {}
    history.assert_clean();
}
