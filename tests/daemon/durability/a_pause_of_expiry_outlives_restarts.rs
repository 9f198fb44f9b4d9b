//! Goal: a clock that went back expires nothing that people still wait for: expiry is paused until an
//! operator says that the clock is right.
//! Method: a store whose alive stamp lies in the future of the wall clock it is opened with. A step in mid
//! life cannot be made without the right to set the machine's clock.

use std::time::Duration;

use doorstep::clock::wall_us;
use doorstep::store::memory::MemoryEngine;
use serde_json::json;

use super::support::{accepted, receive, say};
use crate::common::client::{Options, TestClient};
use crate::common::inside::Inside;
use crate::common::wait;

/// Long enough to be taken on a slow machine.
const TTL_MS: u64 = 1500;

#[tokio::test(flavor = "multi_thread")]
async fn a_start_before_the_alive_stamp_pauses_expiry_until_an_operator_resumes_it() {
    let mut inside = Inside::start_on(MemoryEngine::new(), |config| config.queue.expiry_grace = Duration::ZERO).await;
    for device in ["phone", "laptop"] {
        enter(&inside, "bob", device).await.leave().await;
    }
    assert!(!is_paused(&inside).await);
    let mut alice = enter(&inside, "alice", "chat").await;
    accepted(
        &say(&mut alice, json!({"type": "send", "id": "m1", "to": "bob", "body": 1, "ttl_ms": TTL_MS})).await,
        true,
    );
    let expired_ms = wall_us() / 1000 + TTL_MS;
    drop(alice);
    inside.stop().await.unwrap();

    inside.clock_behind = Duration::from_secs(24 * 3600);
    inside.begin().await;
    assert!(is_paused(&inside).await);
    wait::until("the message to be past its time", async || (wall_us() / 1000 > expired_ms).then_some(())).await;
    let mut phone = inside.connect(&Options::of("bob", "phone")).await;
    receive(&mut phone, "m1", false).await;
    phone.expect("caught_up").await;
    drop(phone);

    let (status, resumed) = inside.admin("POST", "/v1/expiry/resume").await;
    assert_eq!((status, &resumed["was_paused"]), (200, &json!(true)), "{resumed}");
    assert!(!is_paused(&inside).await);
    // The phone's session may not be gone yet, and what is on its way to a session does not expire.
    wait::until("the phone to be gone", async || {
        let (_, sessions) = inside.admin("GET", "/v1/sessions").await;
        sessions["sessions"].as_array()?.is_empty().then_some(())
    })
    .await;
    let mut laptop = inside.connect(&Options::of("bob", "laptop")).await;
    laptop.expect("caught_up").await;
    wait::until("the dead letter", async || {
        let (_, page) = inside.admin("GET", "/v1/dead-letters").await;
        (page["dead_letters"][0]["reason"] == "expired").then_some(())
    })
    .await;
}

/// A deploy in the middle of a pause must not do what the pause is there to prevent.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_a_restart_and_its_end_does_too() {
    let mut inside = Inside::start(|_| {}).await;
    inside.stop().await.unwrap();
    inside.clock_behind = Duration::from_secs(24 * 3600);
    inside.begin().await;
    inside.stop().await.unwrap();
    inside.clock_behind = Duration::ZERO;
    inside.begin().await;
    assert!(is_paused(&inside).await, "nobody has said yet that the clock is right");

    inside.admin("POST", "/v1/expiry/resume").await;
    inside.stop().await.unwrap();
    inside.begin().await;
    assert!(!is_paused(&inside).await);
    inside.stop().await.unwrap();
}

async fn is_paused(inside: &Inside) -> bool {
    inside.admin("GET", "/v1/health").await.1["expiry_paused"].as_bool().unwrap()
}

async fn enter(inside: &Inside, user: &str, device: &str) -> TestClient {
    let mut client = inside.connect(&Options::of(user, device)).await;
    client.expect("caught_up").await;
    client
}
