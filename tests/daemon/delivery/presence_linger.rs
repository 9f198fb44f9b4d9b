//! Goal: who changes networks does not flicker: watchers hear `offline` only when the linger is over, at
//! once when the client closed with 1000, and never when it was back in time. Routing never lingers.
//! Method: a linger far longer than the test, where nothing may be heard, and a short one that must pass.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::inside::Inside;
use crate::delivery::exchange::accepted;
use crate::delivery::roster::{
    at_the_side_door, expect_unchanged, hear, last_seen_ms, now_ms, online, until_sessions, version, watch,
};

async fn lingering(linger: &str) -> Daemon {
    Daemon::start(|settings| {
        settings.set("presence.linger", linger);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_absence_is_not_seen() {
    let daemon = lingering("10m").await;
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    wendy.expect("caught_up").await;
    let bob = TestClient::connect(&daemon, "bob", "phone").await;
    let before = watch(&mut wendy, "bob").await;
    assert_eq!(before["state"], "online");

    drop(bob);
    until_sessions(&daemon, "bob", 0).await;
    expect_unchanged(&mut wendy, "bob", &before).await;
    assert_eq!(at_the_side_door(&daemon, "bob").await, before, "the side door sees what watchers see");
    let mut bob = TestClient::connect(&daemon, "bob", "phone").await;
    expect_unchanged(&mut wendy, "bob", &before).await;
    bob.say(json!({"type": "status", "state": "online", "text": "back"})).await;
    let after = hear(&mut wendy, "bob").await;
    assert_eq!((&after["state"], &after["text"]), (&"online".into(), &"back".into()));
    assert!(version(&after) > version(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_absence_is_seen_when_the_linger_is_over() {
    const LINGER: Duration = Duration::from_millis(400);
    let daemon = lingering("400ms").await;
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    wendy.expect("caught_up").await;
    let bob = TestClient::connect(&daemon, "bob", "phone").await;
    let before = watch(&mut wendy, "bob").await;
    let (gone, gone_ms) = (Instant::now(), now_ms());
    drop(bob);
    let offline = hear(&mut wendy, "bob").await;
    assert_eq!(offline["state"], "offline");
    assert!(gone.elapsed() >= LINGER, "told after {:?}", gone.elapsed());
    assert!(version(&offline) > version(&before) && last_seen_ms(&offline) >= gone_ms);
    assert!(online(&daemon).await.iter().all(|user| user != "bob"));

    // One of two devices that goes is no absence at all, and the other's going begins the linger anew.
    let phone = TestClient::connect(&daemon, "bob", "phone").await;
    let back = hear(&mut wendy, "bob").await;
    assert_eq!(back["state"], "online");
    let laptop = TestClient::connect(&daemon, "bob", "laptop").await;
    drop(phone);
    until_sessions(&daemon, "bob", 1).await;
    expect_unchanged(&mut wendy, "bob", &back).await;
    let gone = Instant::now();
    drop(laptop);
    assert_eq!(hear(&mut wendy, "bob").await["state"], "offline");
    assert!(gone.elapsed() >= LINGER, "told after {:?}", gone.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_goodbye_is_gone_at_once() {
    let daemon = lingering("10m").await;
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    let bob = TestClient::connect(&daemon, "bob", "phone").await;
    assert_eq!(watch(&mut wendy, "bob").await["state"], "online");
    bob.leave().await;
    assert_eq!(hear(&mut wendy, "bob").await["state"], "offline");

    // A polite second device does not end the linger that an impolite first one began; an absent user
    // who comes back only to say goodbye is gone at once as well.
    drop(TestClient::connect(&daemon, "bob", "phone").await);
    assert_eq!(hear(&mut wendy, "bob").await["state"], "online");
    until_sessions(&daemon, "bob", 0).await;
    TestClient::connect(&daemon, "bob", "phone").await.leave().await;
    assert_eq!(hear(&mut wendy, "bob").await["state"], "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_never_lingers() {
    // Were the one who lingers taken for one who is there, the message would wait for an ack, for ever.
    let inside = Inside::start_patient(|config| config.presence.linger = Duration::from_secs(600)).await;
    drop(inside.connect(&Options::of("bob", "phone")).await);
    until_sessions(&inside, "bob", 0).await;
    assert_eq!(at_the_side_door(&inside, "bob").await["state"], "online", "it lingers");
    let mut alice = inside.connect(&Options::of("alice", "phone")).await;
    alice.send("bob", "m", 1).await;
    assert_eq!(accepted(&mut alice, 1).await[0]["stored"], true, "nobody was there to take it");
}
