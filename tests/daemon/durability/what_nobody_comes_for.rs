//! Goal: what is past its time goes although nobody touches the user: the router itself finds out, be it a
//! message or a device.
//! Method: the store is stopped with something in it that will be due, the index of what is due is put back
//! by more than an hour (it is kept in minutes for messages and in hours for devices, which is long for a
//! test), and the next life is left alone with it.

use std::ops::ControlFlow;
use std::time::Duration;

use doorstep::clock::wall_us;
use doorstep::store::engine::{Change, Engine, KeyRange, Keyspace, Order};
use doorstep::store::memory::MemoryEngine;
use serde_json::{Value, json};

use super::support::{accepted, receive, say};
use crate::common::client::Options;
use crate::common::history::History;
use crate::common::inside::Inside;
use crate::common::wait;

const SHORT: Duration = Duration::from_millis(400);
/// More than the coarser of the two steps of the index.
const PUT_BACK_MINUTES: u64 = 62;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_becomes_a_dead_letter() {
    let history = History::new();
    let mut inside = Inside::start(|config| config.queue.expiry_grace = Duration::ZERO).await;
    let seq = one_waits_for_the_phone(&inside, &history, SHORT).await;
    time_passes(&mut inside).await;
    until_buried(&inside, seq).await;
    let phone = inside.enter(&history, "bob", "phone").await;
    assert_eq!(phone.welcome["pending"], 0, "{}", phone.welcome);
}

/// A look at an inbox goes only so far at once, and then goes on from there.
#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_behind_thousands_that_stay() {
    const STAY: usize = 5_000;
    let history = History::new();
    let mut inside = Inside::start(|config| config.queue.expiry_grace = Duration::ZERO).await;
    let mut alice = inside.enter(&history, "alice", "chat").await;
    let numbers: Vec<_> = (0..STAY).collect();
    for some in numbers.chunks(200) {
        for number in some {
            alice.send("bob", &format!("stays-{number}"), "x").await;
        }
        for _ in some {
            accepted(&alice.recv().await, true);
        }
    }
    alice.leave().await;
    let seq = one_waits_for_the_phone(&inside, &history, SHORT).await;
    time_passes(&mut inside).await;
    until_buried(&inside, seq).await;
    let (_, queue) = inside.admin("GET", "/v1/queues/bob").await;
    assert_eq!(queue["messages"], STAY, "{queue}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_forgotten_and_what_the_last_one_lacked_is_kept_for_the_next() {
    let history = History::new();
    let configure = |config: &mut doorstep::config::Config| {
        config.queue.expiry_grace = Duration::ZERO;
        config.queue.device_expiry = SHORT;
    };
    let mut inside = Inside::start(configure).await;
    one_waits_for_the_phone(&inside, &history, Duration::from_secs(86_400)).await;
    time_passes(&mut inside).await;
    wait::until("the phone to be forgotten", async || {
        let (_, page) = inside.admin("GET", "/v1/users").await;
        page["users"].as_array()?.iter().all(|user: &Value| user["user"] != "bob").then_some(())
    })
    .await;
    history.forgotten("bob", "phone");
    let mut phone = inside.connect(&Options::of("bob", "phone").record(&history)).await;
    assert_eq!(phone.welcome["registered"], true, "{}", phone.welcome);
    receive(&mut phone, "m1", false).await;
    history.assert_clean();
}

/// Waits until this message, and no other, is a dead letter because it expired.
async fn until_buried(inside: &Inside, seq: u64) {
    let letters = wait::until("the dead letter", async || {
        let (_, page) = inside.admin("GET", "/v1/dead-letters").await;
        page["dead_letters"].as_array().filter(|letters| !letters.is_empty()).cloned()
    })
    .await;
    let found: Vec<_> = letters.iter().map(|letter| (&letter["reason"], &letter["seq"])).collect();
    assert_eq!(found, [(&json!("expired"), &json!(seq))], "{letters:?}");
}

/// A message that is stored for bob's phone, which is away.
async fn one_waits_for_the_phone(inside: &Inside, history: &History, ttl: Duration) -> u64 {
    inside.connect(&Options::of("bob", "phone").record(history)).await.leave().await;
    let mut alice = inside.enter(history, "alice", "chat").await;
    let send = json!({"type": "send", "id": "m1", "to": "bob", "body": 1, "ttl_ms": ttl.as_millis() as u64});
    accepted(&say(&mut alice, send).await, true)
}

/// Ends this life, lets [`SHORT`] be over, and begins the next one as if it were later still.
async fn time_passes(inside: &mut Inside) {
    inside.stop().await.unwrap();
    let over_us = wall_us() + SHORT.as_micros() as u64;
    wait::until("the short time to be over", async || (wall_us() > over_us).then_some(())).await;
    put_back(&inside.engine);
    inside.begin().await;
}

/// Every entry of the index of what is due, which names a minute and a user, is put back.
fn put_back(engine: &MemoryEngine) {
    let mut changes = Vec::new();
    let everything = KeyRange { from: Vec::new(), to: vec![0xff; 16] };
    let mut visit = |key: &[u8], value: &[u8]| {
        let (minute, user) = key.split_first_chunk().unwrap();
        let earlier = (u64::from_be_bytes(*minute) - PUT_BACK_MINUTES).to_be_bytes();
        changes.push((key.to_vec(), None));
        changes.push(([&earlier, user].concat(), Some(value.to_vec())));
        ControlFlow::Continue(())
    };
    engine.scan(Keyspace::Due, &everything, Order::Ascending, &mut visit).unwrap();
    assert!(!changes.is_empty(), "nothing will ever be due");
    let keyspace = Keyspace::Due;
    let changes = changes.iter().map(|(key, value)| Change { keyspace, key, value: value.as_deref() });
    engine.commit(&changes.collect::<Vec<_>>()).unwrap();
}
