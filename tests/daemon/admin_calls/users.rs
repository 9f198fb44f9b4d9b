//! Goal: the calls about users: the list and its pages, one of them, presence, forgetting a device.
//! Method: users in every state, named in every way, some known to the store only.

use serde_json::{Value, json};

use super::{call, column, enter, get, percent_encoded, refused, register, send, walk};
use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::wait;

#[tokio::test(flavor = "multi_thread")]
async fn the_list_has_everyone_once_in_order_whatever_the_page() {
    let mut daemon = Daemon::start(|_| ()).await;
    let mut names = vec!["Jürgen %&=?#+", "a,b", " ", "🙂", "alice", "bob", "zoe", "%41"];
    for name in &names {
        register(&daemon, name, "phone").await;
    }
    daemon.restart().await;
    let _online = enter(&daemon, "bob", "phone").await;
    let _too = enter(&daemon, "newcomer", "phone").await;
    names.push("newcomer");
    names.sort_unstable();
    for limit in [1, 2, 3, 100] {
        assert_eq!(walk(&daemon, "/v1/users", "users", "user", limit).await, names, "pages of {limit}");
    }
    assert_eq!(walk(&daemon, "/v1/users?online=true", "users", "user", 1).await, ["bob", "newcomer"]);
    let page = get(&daemon, "/v1/users?limit=100").await;
    let bob = page["users"].as_array().unwrap().iter().find(|user| user["user"] == "bob").unwrap();
    assert_eq!(bob["state"], "online", "{page}");
    assert_eq!(column(&page["users"], "state").iter().filter(|state| **state == "offline").count(), 7, "{page}");
    for name in names {
        let user = get(&daemon, &format!("/v1/users/{}", percent_encoded(name))).await;
        assert_eq!(user["user"], name, "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_is_described_alike_from_memory_and_from_disk() {
    let mut daemon = Daemon::start(|_| ()).await;
    register(&daemon, "bob", "phone").await;
    let seq = send(&daemon, "alice", "bob", "m1", json!("waiting")).await;
    let mut bob = TestClient::open(&daemon, Options::of("bob", "laptop").hello("window", 9)).await;
    bob.expect("caught_up").await;
    let second = send(&daemon, "alice", "bob", "m2", json!("for both")).await;
    bob.expect("message").await;
    let user = get(&daemon, "/v1/users/bob").await;
    assert_eq!(
        (&user["own_state"], &user["last_assigned"], &user["watchers"]),
        (&"online".into(), &second.into(), &0.into()),
        "{user}"
    );
    let devices = user["devices"].as_array().unwrap();
    let phone = devices.iter().find(|device| device["device"] == "phone").unwrap();
    let laptop = devices.iter().find(|device| device["device"] == "laptop").unwrap();
    assert_eq!(
        (&phone["backlog_messages"], &phone["cursor"], &phone["in_flight"]),
        (&2.into(), &0.into(), &0.into()),
        "{user}"
    );
    assert_eq!(
        (&laptop["backlog_messages"], &laptop["cursor"], &laptop["in_flight"]),
        (&1.into(), &seq.into(), &1.into()),
        "{user}"
    );
    let session = &user["sessions"][0];
    assert_eq!(
        (&session["session"], &session["window"], &session["in_flight"]),
        (&bob.session().into(), &9.into(), &1.into()),
        "{user}"
    );
    assert_eq!(session["device"], "laptop");
    bob.ack(second).await;
    wait::until("the ack", async || {
        let user = get(&daemon, "/v1/users/bob").await;
        (user["devices"][1]["backlog_messages"] == 0 || user["devices"][0]["backlog_messages"] == 0).then_some(())
    })
    .await;
    bob.leave().await;
    assert!(daemon.terminate().await.success());
    daemon.restart().await;
    let user = get(&daemon, "/v1/users/bob").await;
    let mut backlogs: Vec<_> =
        column(&user["devices"], "backlog_messages").into_iter().map(|n| n.as_u64().unwrap()).collect();
    backlogs.sort_unstable();
    assert_eq!(backlogs, [0, 2], "{user}");
    assert_eq!((&user["sessions"], &user["presence"]["state"]), (&json!([]), &"offline".into()), "{user}");
    assert!(user["presence"]["last_seen_ms"].is_u64(), "{user}");
    refused(&daemon, "GET", "/v1/users/nobody", 404, "not_found").await;
    assert_eq!(get(&daemon, "/v1/stats").await["users_loaded"], 0, "nobody was loaded for a look");
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_what_watchers_see() {
    let daemon = Daemon::start(|_| ()).await;
    let mut alice = enter(&daemon, "alice", "phone").await;
    alice.say(json!({"type": "status", "state": "busy", "text": "in a call"})).await;
    alice.expect("presence").await;
    let mut ghost = TestClient::open(&daemon, Options::of("ghost", "phone").hello("status", "invisible")).await;
    ghost.expect("caught_up").await;
    let presence = get(&daemon, "/v1/presence?users=ghost,alice,nobody,a%2Cb").await;
    assert_eq!(column(&presence["users"], "user"), ["ghost", "alice", "nobody", "a,b"]);
    assert_eq!(column(&presence["users"], "state"), ["offline", "busy", "offline", "offline"]);
    assert_eq!(presence["users"][1]["text"], "in a call");
    let unseen = &presence["users"][2]["version"];
    assert!(unseen.as_u64().unwrap() < presence["users"][1]["version"].as_u64().unwrap(), "{presence}");
    assert_eq!(unseen, &presence["users"][3]["version"], "all who were never seen are alike");
    assert!(!presence["users"][0].to_string().contains("invisible"));
    // Operators are told, and only by the call about one user.
    assert_eq!(get(&daemon, "/v1/users/ghost").await["own_state"], "invisible");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_forgotten_with_its_session_and_what_only_it_lacked() {
    let daemon = Daemon::start(|_| ()).await;
    register(&daemon, "bob", "old phone").await;
    let seq = send(&daemon, "alice", "bob", "m1", json!("for the old phone")).await;
    let mut laptop = enter(&daemon, "bob", "laptop").await;
    let mut old = enter(&daemon, "bob", "old phone").await;
    assert_eq!(old.pick("message").await["seq"], seq);
    let done = call(&daemon, "DELETE", "/v1/users/bob/devices/old%20phone").await;
    assert_eq!(done, json!({"user": "bob", "device": "old phone", "forgotten": true}));
    assert_eq!(old.expect_close().await.0, 4410);
    let user = get(&daemon, "/v1/users/bob").await;
    assert_eq!(column(&user["devices"], "device"), ["laptop"], "{user}");
    let letters = get(&daemon, "/v1/dead-letters").await;
    let letter = &letters["dead_letters"][0];
    assert_eq!(
        (&letter["reason"], &letter["device"], &letter["seq"]),
        (&"device_forgotten".into(), &"old phone".into(), &seq.into()),
        "{letters}"
    );
    refused(&daemon, "DELETE", "/v1/users/bob/devices/old%20phone", 404, "not_found").await;
    refused(&daemon, "DELETE", "/v1/users/nobody/devices/phone", 404, "not_found").await;
    laptop.say(json!({"type": "ping"})).await;
    laptop.expect("pong").await;
    assert_eq!(enter(&daemon, "bob", "old phone").await.welcome["registered"], true);
    // With the last device the backlog stays, for the next one.
    register(&daemon, "carol", "phone").await;
    send(&daemon, "alice", "carol", "m2", json!("stays")).await;
    call(&daemon, "DELETE", "/v1/users/carol/devices/phone").await;
    let queue: Value = get(&daemon, "/v1/queues/carol").await;
    assert_eq!((&queue["messages"], &queue["devices"]), (&1.into(), &json!([])), "{queue}");
    assert_eq!(enter_and_read(&daemon, "carol").await, "m2");
}

/// Regression: being loaded, by a failed call or an empty one, made a user known and moved its version.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_becomes_known_by_being_asked_about() {
    let daemon = Daemon::start(|_| ()).await;
    let version = async || get(&daemon, "/v1/presence?users=nobody").await["users"][0]["version"].clone();
    let before = version().await;
    refused(&daemon, "DELETE", "/v1/queues/nobody", 404, "not_found").await;
    refused(&daemon, "DELETE", "/v1/queues/nobody/messages/1", 404, "not_found").await;
    refused(&daemon, "DELETE", "/v1/users/nobody/devices/phone", 404, "not_found").await;
    assert_eq!(get(&daemon, "/v1/stats").await["users_loaded"], 1, "the calls were told to its owner");
    for path in ["/v1/users/nobody", "/v1/queues/nobody", "/v1/queues/nobody/messages"] {
        refused(&daemon, "GET", path, 404, "not_found").await;
    }
    assert_eq!(version().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    let daemon = Daemon::start(|_| ()).await;
    register(&daemon, "alice", "phone").await;
    let session = "01K00000000000000000000000";
    for (path, missing) in [
        ("/v1/users/alice/devices/nope", "user alice has no device nope"),
        ("/v1/users/nobody/devices/phone", "nothing is known of user nobody"),
        ("/v1/queues/alice/messages/1", "there is no message 1 in the inbox of user alice"),
        ("/v1/queues/nobody/messages/1", "nothing is known of user nobody"),
        ("/v1/queues/nobody", "nothing is known of user nobody"),
        (&format!("/v1/sessions/{session}"), &format!("there is no session {session}")),
    ] {
        let (status, problem) = daemon.admin("DELETE", path).await;
        assert_eq!((status, &problem["detail"]), (404, &missing.into()), "{path}");
    }
    let (status, problem) = daemon.admin("DELETE", "/v1/sessions/nope").await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(status == 400 && detail.contains("26 letters and digits"), "{problem}");
}

/// Regression: a name with a space in it could add fields to a log line.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_cannot_forge_a_field_of_the_log() {
    let daemon = Daemon::start(|_| ()).await;
    let name = "bob purged=7";
    register(&daemon, name, "old phone").await;
    call(&daemon, "DELETE", &format!("/v1/users/{}/devices/old%20phone", percent_encoded(name))).await;
    let line = wait::until("a line about it", async || {
        daemon.log().lines().find(|line| line.contains("device forgotten")).map(str::to_owned)
    })
    .await;
    assert!(line.contains(r#"user="bob purged=7" device="old phone""#), "{line}");
}

async fn enter_and_read(daemon: &Daemon, user: &str) -> Value {
    let mut client = TestClient::connect(daemon, user, "next").await;
    client.pick("message").await["id"].clone()
}
