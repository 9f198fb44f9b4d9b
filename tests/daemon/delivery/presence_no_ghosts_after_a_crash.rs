//! Goal: presence is what is connected now: a router that was killed knows nobody to be online when it
//! comes back, whatever it had told before; and `last_seen` is not lost with an orderly stop.
//! Method: kill it with sessions open and one lingering, and look everywhere presence shows.

use std::time::Duration;

use doorstep::store::memory::Unsynced;
use serde_json::json;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::inside::Inside;
use crate::delivery::exchange::accepted;
use crate::delivery::roster::{at_the_side_door, last_seen_ms, now_ms, online, until_sessions, watch};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_online_until_they_are_back() {
    let mut daemon = Daemon::start(|settings| {
        settings.set("presence.linger", "10m");
    })
    .await;
    let _bob = TestClient::connect(&daemon, "bob", "phone").await;
    let _bobs_laptop = TestClient::connect(&daemon, "bob", "laptop").await;
    drop(TestClient::connect(&daemon, "lingering", "phone").await);
    let mut before = online(&daemon).await;
    before.sort();
    assert_eq!(before, ["bob", "lingering"]);

    daemon.kill9();
    daemon.restart().await;
    assert!(online(&daemon).await.is_empty());
    let (_, stats) = daemon.admin("GET", "/v1/stats").await;
    assert_eq!((&stats["sessions"], &stats["users_online"]), (&0.into(), &0.into()), "{stats}");
    let (_, sessions) = daemon.admin("GET", "/v1/sessions").await;
    assert_eq!(sessions["sessions"], json!([]));
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    for user in ["bob", "lingering"] {
        assert_eq!(watch(&mut wendy, user).await["state"], "offline");
        assert_eq!(at_the_side_door(&daemon, user).await["state"], "offline");
    }
    let _bob = TestClient::connect(&daemon, "bob", "phone").await;
    assert_eq!(crate::delivery::roster::hear(&mut wendy, "bob").await["state"], "online");
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_does_not_believe_in_ghosts() {
    // What waited for a ghost's ack would wait for ever.
    let mut inside = Inside::start_patient(|config| config.presence.linger = Duration::from_secs(600)).await;
    let _bob = inside.connect(&Options::of("bob", "phone")).await;
    drop(inside.connect(&Options::of("lingering", "phone")).await);
    until_sessions(&inside, "lingering", 0).await;
    inside.crash(Unsynced::Lost).await;
    inside.begin().await;
    let mut wendy = inside.connect(&Options::of("wendy", "phone")).await;
    for user in ["bob", "lingering"] {
        wendy.send(user, "m", 1).await;
        assert_eq!(accepted(&mut wendy, 1).await[0]["stored"], true);
    }
    let mut bob = inside.connect(&Options::of("bob", "phone")).await;
    assert_eq!(bob.expect("message").await["id"], "m");
}

#[tokio::test(flavor = "multi_thread")]
async fn last_seen_survives_a_restart() {
    let mut daemon = Daemon::start(|_| ()).await;
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    let came_ms = now_ms();
    let _staying = TestClient::connect(&daemon, "staying", "phone").await;
    TestClient::connect(&daemon, "leaving", "phone").await.leave().await;
    let gone = watch(&mut wendy, "leaving").await;
    assert_eq!(gone["state"], "offline");
    assert!(daemon.terminate().await.success());
    let stopped_ms = now_ms();
    daemon.restart().await;
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    assert_eq!(watch(&mut wendy, "leaving").await["last_seen_ms"], gone["last_seen_ms"]);
    let staying = watch(&mut wendy, "staying").await;
    assert_eq!(staying["state"], "offline");
    assert!((came_ms..=stopped_ms).contains(&last_seen_ms(&staying)), "{staying}");
    assert!(watch(&mut wendy, "nobody").await.get("last_seen_ms").is_none());
}
