//! Goal: when the commit of a message fails that was pushed already, its sender is told that the outcome is
//! unknown, which is true; the store is poisoned, and live traffic goes on for the grace. (How it ends then
//! is tested beside the full disk.) What is repeated on the next one arrives, marked.
//! Method: the engine in memory fails one sync; afterwards the power goes, once with and once without what
//! was not synced.

use std::time::Duration;

use doorstep::store::memory::Unsynced;
use serde_json::json;

use super::support::{accepted, receive, rejected, retry, send};
use crate::common::client::Options;
use crate::common::history::History;
use crate::common::inside::Inside;

/// Longer than the test: here it is looked at what goes on meanwhile.
const GRACE: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn the_batch_was_lost() {
    poisoned(Unsynced::Lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_batch_reached_the_disk_after_all() {
    poisoned(Unsynced::Kept).await;
}

async fn poisoned(unsynced: Unsynced) {
    let history = History::new();
    let mut inside = Inside::start_patient(|config| config.store.poison_grace = GRACE).await;
    // Bob's laptop is away, so what is sent to Bob must be stored; Carol has one device, which is there.
    inside.enter(&history, "bob", "laptop").await.leave().await;
    let mut phone = inside.enter(&history, "bob", "phone").await;
    let mut carol = inside.enter(&history, "carol", "phone").await;
    let mut alice = inside.enter(&history, "alice", "chat").await;
    alice.send("carol", "held", "in flight, and held back from the disk").await;
    let held = receive(&mut carol, "held", false).await;

    inside.engine.fail_syncs(1);
    alice.send("bob", "m1", "one").await;
    let first = receive(&mut phone, "m1", false).await;
    rejected(&alice.recv().await, "unknown_outcome");
    rejected(&retry(&mut alice, "bob", "m1", "one").await, "unknown_outcome");
    rejected(&send(&mut alice, "bob", "m2", "two").await, "storage_unavailable");
    rejected(&send(&mut alice, "carol", "m3", "three").await, "storage_unavailable");

    // What is in flight is still handed over; what needs no disk goes on.
    carol.ack(held).await;
    assert_eq!(accepted(&alice.recv().await, false), held);
    alice.say(json!({"type": "send", "to": "bob", "body": "typing", "ephemeral": true})).await;
    assert_eq!(phone.expect("message").await["ephemeral"], true);
    let (status, health) = inside.admin("GET", "/v1/health").await;
    assert_eq!((status, &health["store"], &health["live"]), (503, &json!("poisoned"), &json!(true)));

    inside.crash(unsynced).await;
    drop((alice, phone, carol));
    inside.begin().await;
    let mut alice = inside.enter(&history, "alice", "chat").await;
    let again = accepted(&retry(&mut alice, "bob", "m1", "one").await, true);
    match unsynced {
        Unsynced::Kept => assert_eq!(again, first, "it was stored and is recognised"),
        Unsynced::Lost => assert!(again > first, "it is taken afresh"),
    }
    for device in ["phone", "laptop"] {
        let mut bob = inside.connect(&Options::of("bob", device).record(&history)).await;
        assert_eq!(receive(&mut bob, "m1", true).await, again);
        bob.ack(again).await;
        bob.expect("caught_up").await;
    }
    history.assert_clean();
}
