//! Goal: the calls about sessions: the list over all shards and its pages, removing one.
//! Method: sessions of many users on several shards; the one that is removed hears 4410, the others nothing.

use serde_json::json;

use super::{call, enter, get, refused, walk};
use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;

#[tokio::test(flavor = "multi_thread")]
async fn the_list_has_every_session_once_in_order_whatever_the_page() {
    let daemon = Daemon::start(|settings| {
        settings.set("routing.shards", 4);
    })
    .await;
    let mut clients = Vec::new();
    for n in 0..9 {
        clients.push(enter(&daemon, &format!("user-{}", n % 6), &format!("device-{}", n / 6)).await);
    }
    let mut ids: Vec<_> = clients.iter().map(|client| client.session().to_owned()).collect();
    ids.sort_unstable();
    for limit in [1, 2, 4, 9, 1000] {
        assert_eq!(walk(&daemon, "/v1/sessions", "sessions", "session", limit).await, ids, "pages of {limit}");
    }
    let away = TestClient::open(&daemon, Options::of("late", "phone").hello("status", "away").hello("window", 3)).await;
    let page = get(&daemon, &format!("/v1/sessions?after={}", ids[8])).await;
    let late = &page["sessions"][0];
    assert_eq!(
        (&late["session"], &late["user"], &late["device"]),
        (&away.session().into(), &"late".into(), &"phone".into()),
        "{page}"
    );
    assert_eq!((&late["state"], &late["window"], &late["in_flight"]), (&"away".into(), &3.into(), &0.into()), "{page}");
    assert!(late["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_removed_with_4410_and_its_device_stays() {
    let daemon = Daemon::start(|_| ()).await;
    let mut bob = enter(&daemon, "bob", "phone").await;
    let mut other = enter(&daemon, "bob", "laptop").await;
    let session = bob.session().to_owned();
    let done = call(&daemon, "DELETE", &format!("/v1/sessions/{session}")).await;
    assert_eq!(done, json!({"session": session, "user": "bob", "device": "phone", "removed": true}));
    assert_eq!(bob.expect("goodbye").await["code"], 4410);
    assert_eq!(bob.expect_close().await.0, 4410);
    refused(&daemon, "DELETE", &format!("/v1/sessions/{session}"), 404, "not_found").await;
    let user = get(&daemon, "/v1/users/bob").await;
    assert_eq!(
        (user["devices"].as_array().unwrap().len(), user["sessions"].as_array().unwrap().len()),
        (2, 1),
        "{user}"
    );
    other.say(json!({"type": "ping"})).await;
    other.expect("pong").await;
    assert_eq!(enter(&daemon, "bob", "phone").await.welcome["registered"], false);
}
