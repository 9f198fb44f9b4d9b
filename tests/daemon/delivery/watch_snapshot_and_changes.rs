//! Goal: who watches hears how things stand, then every change, until it has had enough; the most
//! available of a user's devices speaks for the user.
//! Method: one watcher, a few users, all on one owner, so that what comes later shows what did not come.

use serde_json::json;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::delivery::exchange::expect_silence_at;
use crate::delivery::roster::{Roster, expect_unchanged, hear, online, say_status, version, watch};

async fn one_owner() -> Daemon {
    Daemon::start(|settings| {
        settings.set("routing.shards", 1);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_everyone_then_what_changes() {
    let daemon = one_owner().await;
    let away = Options::of("bob", "phone").hello("status", "away");
    let mut bob = TestClient::open(&daemon, away).await;
    TestClient::connect(&daemon, "carol", "phone").await.leave().await;
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    let mut roster = Roster::default();
    roster.watch(&mut wendy, &["bob", "carol", "dave", "bob"]).await;
    let bobs = roster.until(&mut wendy, "bob", "away").await;
    let carols = roster.until(&mut wendy, "carol", "offline").await;
    let daves = roster.until(&mut wendy, "dave", "offline").await;
    assert!(bobs.get("last_seen_ms").is_none(), "he is here: {bobs}");
    assert!(carols["last_seen_ms"].is_u64() && daves.get("last_seen_ms").is_none(), "{carols} {daves}");

    bob.say(json!({"type": "status", "state": "busy", "text": "in a meeting"})).await;
    let busy = hear(&mut wendy, "bob").await;
    assert_eq!((&busy["state"], &busy["text"]), (&"busy".into(), &"in a meeting".into()));
    assert!(version(&busy) > version(&bobs));
    let _dave = TestClient::connect(&daemon, "dave", "phone").await;
    assert!(version(&hear(&mut wendy, "dave").await) > version(&daves));
    // The same again is no change.
    bob.say(json!({"type": "status", "state": "busy", "text": "in a meeting"})).await;
    hear(&mut bob, "bob").await;
    wendy.pick("caught_up").await;
    expect_unchanged(&mut wendy, "bob", &busy).await;
    assert_eq!(online(&daemon).await, ["bob", "dave", "wendy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_more_is_heard_after_unwatch_nor_in_another_session() {
    let daemon = one_owner().await;
    let mut bob = TestClient::connect(&daemon, "bob", "phone").await;
    let mut carol = TestClient::connect(&daemon, "carol", "phone").await;
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    wendy.expect("caught_up").await;
    watch(&mut wendy, "bob").await;
    wendy.say(json!({"type": "unwatch", "users": ["bob", "stranger"]})).await;
    watch(&mut wendy, "carol").await;
    say_status(&mut bob, "away").await;
    hear(&mut bob, "bob").await;
    say_status(&mut carol, "away").await;
    let frame = wendy.expect("presence").await;
    assert_eq!(frame["users"].as_array().unwrap().len(), 1, "only carol's: {frame}");
    assert_eq!(frame["users"][0]["user"], "carol");

    // A watch belongs to its session: neither a takeover nor a second device inherits it.
    let mut newer = TestClient::connect(&daemon, "wendy", "phone").await;
    assert_eq!(wendy.expect_close().await.0, 4409);
    let mut laptop = TestClient::connect(&daemon, "wendy", "laptop").await;
    newer.expect("caught_up").await;
    laptop.expect("caught_up").await;
    say_status(&mut carol, "busy").await;
    hear(&mut carol, "carol").await;
    expect_silence_at(&mut [&mut newer, &mut laptop]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_available_device_speaks_for_the_user() {
    let daemon = one_owner().await;
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    let mut phone = TestClient::open(&daemon, Options::of("bob", "phone").hello("status", "away")).await;
    assert_eq!(watch(&mut wendy, "bob").await["state"], "away");
    let laptop = TestClient::open(&daemon, Options::of("bob", "laptop").hello("status", "busy")).await;
    assert_eq!(hear(&mut wendy, "bob").await["state"], "busy");
    say_status(&mut phone, "online").await;
    assert_eq!(hear(&mut wendy, "bob").await["state"], "online");
    say_status(&mut phone, "away").await;
    assert_eq!(hear(&mut wendy, "bob").await["state"], "busy");
    laptop.leave().await;
    assert_eq!(hear(&mut wendy, "bob").await["state"], "away");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_told_to_all_own_sessions() {
    let daemon = one_owner().await;
    let mut phone = TestClient::connect(&daemon, "bob", "phone").await;
    let mut laptop = TestClient::connect(&daemon, "bob", "laptop").await;
    phone.say(json!({"type": "status", "state": "online", "text": "here"})).await;
    for device in [&mut phone, &mut laptop] {
        assert_eq!(hear(device, "bob").await["state"], "online");
    }
}
