//! Goal: who is invisible cannot be told from who is not there: nothing a watcher can ask for or hear
//! changes from the moment it began, whatever the user does meanwhile.
//! Method: an invisible user does everything there is to do, while a watcher listens and everything that
//! shows presence is looked at again and again.

use serde_json::{Value, json};

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::delivery::exchange::{accepted, seq};
use crate::delivery::roster::{
    at_the_side_door, expect_unchanged, hear, last_seen_ms, now_ms, online, say_status, until_sessions, version, watch,
};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_changes_from_the_moment_it_began() {
    let daemon = Daemon::start(|settings| {
        settings.set("presence.linger", "0s");
    })
    .await;
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    wendy.expect("caught_up").await;
    let mut bob = TestClient::connect(&daemon, "bob", "phone").await;
    bob.expect("caught_up").await;
    let online = watch(&mut wendy, "bob").await;
    assert_eq!(online["state"], "online");

    let before_ms = now_ms();
    bob.say(json!({"type": "status", "state": "invisible", "text": "hiding"})).await;
    let own = hear(&mut bob, "bob").await;
    assert_eq!((&own["state"], &own["text"]), (&"invisible".into(), &"hiding".into()), "oneself may know");
    let vanished = hear(&mut wendy, "bob").await;
    assert_eq!((&vanished["state"], vanished.get("text")), (&"offline".into(), None));
    assert!(version(&vanished) > version(&online));
    assert!((before_ms..=now_ms()).contains(&last_seen_ms(&vanished)), "{vanished}");

    // Takes, sends, says the same again, brings a second device, loses it, comes back.
    wendy.send("bob", "to-bob", 1).await;
    let message = bob.pick("message").await;
    bob.ack(seq(&message)).await;
    accepted(&mut wendy, 1).await;
    bob.send("carol", "from-bob", 1).await;
    accepted(&mut bob, 1).await;
    assert_nothing_shows(&daemon, &mut wendy, &vanished).await;
    bob.say(json!({"type": "status", "state": "invisible", "text": "still hiding"})).await;
    assert_eq!(hear(&mut bob, "bob").await["text"], "still hiding");
    let hidden = |device: &str| Options::of("bob", device).hello("status", "invisible");
    let laptop = TestClient::open(&daemon, hidden("laptop")).await;
    assert_nothing_shows(&daemon, &mut wendy, &vanished).await;
    laptop.leave().await;
    drop(bob);
    let bob = TestClient::open(&daemon, hidden("phone")).await;
    assert_nothing_shows(&daemon, &mut wendy, &vanished).await;
    bob.leave().await;
    until_sessions(&daemon, "bob", 0).await;
    assert_nothing_shows(&daemon, &mut wendy, &vanished).await;

    let _bob = TestClient::connect(&daemon, "bob", "phone").await;
    let back = hear(&mut wendy, "bob").await;
    assert_eq!(back["state"], "online");
    assert!(version(&back) > version(&vanished));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_invisible_was_never_there() {
    let mut daemon = Daemon::start(|_| ()).await;
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    wendy.expect("caught_up").await;
    let unknown = watch(&mut wendy, "bob").await;
    let hidden = Options::of("bob", "phone").hello("status", "invisible");
    let bob = TestClient::open(&daemon, hidden.clone()).await;
    assert_nothing_shows(&daemon, &mut wendy, &unknown).await;
    let nobody = watch(&mut wendy, "nobody").await;
    assert_eq!(keys(&unknown), keys(&nobody));
    drop(bob);
    until_sessions(&daemon, "bob", 0).await;
    assert_nothing_shows(&daemon, &mut wendy, &unknown).await;

    // The router's end tells no more of him than of anybody else.
    let _bob = TestClient::open(&daemon, hidden.clone()).await;
    assert!(daemon.terminate().await.success());
    daemon.restart().await;
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    wendy.expect("caught_up").await;
    let (bob, nobody) = (watch(&mut wendy, "bob").await, watch(&mut wendy, "nobody").await);
    assert_eq!((keys(&bob), &bob["version"]), (keys(&nobody), &nobody["version"]));
    let _bob = TestClient::open(&daemon, hidden).await;
    assert_nothing_shows(&daemon, &mut wendy, &bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_visible_device_is_enough_to_be_seen() {
    let daemon = Daemon::start(|_| ()).await;
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    let mut phone = TestClient::open(&daemon, Options::of("bob", "phone").hello("status", "invisible")).await;
    let mut laptop = TestClient::open(&daemon, Options::of("bob", "laptop").hello("status", "away")).await;
    assert_eq!(watch(&mut wendy, "bob").await["state"], "away");
    say_status(&mut laptop, "invisible").await;
    assert_eq!(hear(&mut wendy, "bob").await["state"], "offline");
    say_status(&mut phone, "busy").await;
    assert_eq!(hear(&mut wendy, "bob").await["state"], "busy");
}

/// Neither what is heard, nor what is asked for, nor any page for operators that shows what others see.
async fn assert_nothing_shows(daemon: &Daemon, wendy: &mut TestClient, frozen: &Value) {
    expect_unchanged(wendy, "bob", frozen).await;
    assert_eq!(&at_the_side_door(daemon, "bob").await, frozen);
    assert!(online(daemon).await.iter().all(|user| user != "bob"));
    let (status, page) = daemon.admin("GET", "/v1/users/bob").await;
    assert!(status != 200 || &page["presence"] == frozen, "{page}");
    let (_, list) = daemon.admin("GET", "/v1/users").await;
    let lines = list["users"].as_array().unwrap();
    assert!(lines.iter().all(|line| line["user"] != "bob" || line["state"] == "offline"), "{list}");
}

fn keys(entry: &Value) -> Vec<&String> {
    entry.as_object().unwrap().keys().collect()
}
