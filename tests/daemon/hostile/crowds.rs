//! Goal: there is an end to connections, devices and watches, the one too many is told so, and a place that
//! is given back is free again.
//! Method: fill every place, ask for one more, give one back, ask again.

use serde_json::json;

use crate::common::client::{Options, Refused, TestClient};
use crate::common::wait;
use crate::hostile::raw::Raw;
use crate::hostile::siege::{Siege, get, is_well, until_connections};

async fn enter(siege: &Siege, user: &str, device: &str) -> TestClient {
    let mut client = TestClient::connect(&siege.daemon, user, device).await;
    client.expect("caught_up").await;
    client
}

async fn attempt(siege: &Siege, user: &str, device: &str) -> Result<TestClient, Refused> {
    TestClient::attempt(&siege.daemon.url(), &Options::of(user, device)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_in_all_is_answered_503_until_one_leaves() {
    // Two of them are the pair's.
    let siege = Siege::begin(|settings| {
        settings.set("limits.max_connections", 6);
    })
    .await;
    let mut crowd = Vec::new();
    for n in 0..4 {
        crowd.push(enter(&siege, &format!("user-{n}"), "phone").await);
    }
    for _ in 0..50 {
        let refused = attempt(&siege, "late", "phone").await.err();
        assert!(matches!(refused, Some(Refused::Upgrade(503))), "{refused:?}");
    }
    for client in &mut crowd {
        is_well(client).await;
    }
    crowd.pop().unwrap().leave().await;
    until_connections(&siege.daemon, 5).await;
    let mut late = enter(&siege, "late", "phone").await;
    is_well(&mut late).await;
    let stats = get(&siege.daemon, "/v1/stats").await;
    assert_eq!(stats["counters"]["connects_refused"], 50, "{stats}");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_say_nothing_make_room_for_those_who_do() {
    let siege = Siege::begin(|settings| {
        settings.set("limits.max_connections", 6);
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(Raw::connect(&siege.daemon).await);
    }
    for n in 0..4 {
        silent.push(Raw::connect(&siege.daemon).await);
        let mut honest =
            wait::until("a place", async || attempt(&siege, &format!("user-{n}"), "phone").await.ok()).await;
        honest.expect("caught_up").await;
        is_well(&mut honest).await;
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_of_one_user_is_closed_with_4429_and_a_time_to_wait() {
    let siege = Siege::begin(|settings| {
        settings.set("limits.connections_per_user", 3).set("queue.max_devices_per_user", 100);
    })
    .await;
    let mut sessions = Vec::new();
    for n in 0..3 {
        sessions.push(enter(&siege, "mallory", &format!("device-{n}")).await);
    }
    for n in 3..20 {
        let mut one_more = Raw::connect(&siege.daemon).await;
        one_more.upgrade().await;
        one_more
            .say(&json!({"type": "hello", "user": "mallory", "device": format!("device-{n}")}).to_string())
            .await
            .unwrap();
        match one_more.next().await {
            crate::hostile::raw::Got::Frame(goodbye) => {
                assert_eq!(goodbye["code"], 4429, "{goodbye}");
                assert!(goodbye["retry_after_ms"].is_u64(), "{goodbye}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(one_more.next().await, crate::hostile::raw::Got::Closed(4429));
    }
    for client in &mut sessions {
        is_well(client).await;
    }
    let mallory = get(&siege.daemon, "/v1/users/mallory").await;
    assert_eq!(mallory["devices"].as_array().unwrap().len(), 3, "no device was registered in vain: {mallory}");
    // It is this user's limit and nobody else's, and a place that is given back is free.
    enter(&siege, "bob", "phone").await.leave().await;
    sessions.pop().unwrap().leave().await;
    let again = wait::until("a place", async || attempt(&siege, "mallory", "device-0x").await.ok()).await;
    assert_eq!(again.welcome["registered"], true);
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_all_its_connections_can_still_replace_one() {
    // The network changed: the old connection still looks alive, and the client comes back on a new one.
    let siege = Siege::begin(|settings| {
        settings.set("limits.connections_per_user", 1);
    })
    .await;
    let mut old = enter(&siege, "mallory", "phone").await;
    let mut new = enter(&siege, "mallory", "phone").await;
    assert_eq!(old.expect_close().await.0, 4409);
    is_well(&mut new).await;
    let refused = attempt(&siege, "mallory", "laptop").await.err();
    assert!(matches!(refused, Some(Refused::Closed { code: 4429, .. })), "{refused:?}");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_too_many_is_refused_with_4403_until_one_is_forgotten() {
    let siege = Siege::begin(|settings| {
        settings.set("queue.max_devices_per_user", 3);
    })
    .await;
    for n in 0..3 {
        enter(&siege, "mallory", &format!("device-{n}")).await.leave().await;
    }
    for n in 3..20 {
        let refused = attempt(&siege, "mallory", &format!("device-{n}")).await.err();
        assert!(matches!(refused, Some(Refused::Closed { code: 4403, .. })), "{refused:?}");
    }
    // Those it has are as good as before.
    let mut known = enter(&siege, "mallory", "device-1").await;
    known.say(json!({"type": "forget"})).await;
    assert_eq!(known.expect_close().await.0, 1000);
    assert_eq!(enter(&siege, "mallory", "device-4").await.welcome["registered"], true);
    let mallory = get(&siege.daemon, "/v1/users/mallory").await;
    assert_eq!(mallory["devices"].as_array().unwrap().len(), 3, "{mallory}");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_too_many_is_refused_whole_and_ends_nothing() {
    let siege = Siege::begin(|settings| {
        settings.set("presence.max_watched", 300);
    })
    .await;
    let mut mallory = enter(&siege, "mallory", "phone").await;
    let users = |range: std::ops::Range<u32>| range.map(|n| format!("user-{n}")).collect::<Vec<_>>();
    for range in [0..200, 200..300] {
        assert_eq!(watch(&mut mallory, &users(range.clone())).await, Ok(range.len()));
    }
    for range in [300..301, 299..301] {
        assert_eq!(watch(&mut mallory, &users(range)).await, Err("bad_request".to_owned()));
        is_well(&mut mallory).await;
    }
    // These are watched already.
    assert_eq!(watch(&mut mallory, &users(0..256)).await, Ok(256));
    mallory.say(json!({"type": "unwatch", "users": ["user-0"]})).await;
    assert_eq!(watch(&mut mallory, &users(300..301)).await, Ok(1));
    // What is watched is still watched.
    let mut user = enter(&siege, "user-1", "phone").await;
    let change = mallory.expect("presence").await;
    assert_eq!((&change["users"][0]["user"], &change["users"][0]["state"]), (&"user-1".into(), &"online".into()));
    is_well(&mut user).await;
    siege.end().await;
}

/// Watches `users`, later if that was too fast: of how many the snapshot told, or the code of the error.
async fn watch(client: &mut TestClient, users: &[String]) -> Result<usize, String> {
    wait::until("leave to watch", async || {
        client.say(json!({"type": "watch", "users": users})).await;
        let mut told = 0;
        while told < users.len() {
            let answer = client.recv().await;
            if answer["type"] == "error" {
                assert_eq!(answer["ref"], "watch", "{answer}");
                let code = answer["code"].as_str().unwrap().to_owned();
                return (code != "rate_limited").then_some(Err(code));
            }
            told += answer["users"].as_array().unwrap().len();
        }
        Some(Ok(told))
    })
    .await
}
