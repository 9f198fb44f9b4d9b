//! Goal: the list of dead letters has pages, shows bodies only when asked, and is empty once cleared; a letter that is put
//! back is in the inbox or in the list, once, whatever ends the daemon.
//! Method: messages purged by an operator, across restarts and kills.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{call, column, get, refused, register, send, walk};
use crate::common::client::{Options, TestClient};
use crate::common::daemon::{Daemon, admin_call};
use crate::common::wait;

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_oldest_first_until_cleared() {
    let mut daemon = Daemon::start(|_| ()).await;
    assert_eq!(get(&daemon, "/v1/dead-letters").await, json!({"dead_letters": [], "next": null}));
    let mut seqs = Vec::new();
    for n in 0..5 {
        seqs.push(send(&daemon, "alice", "bob", &format!("m{n}"), json!({"secret": n})).await);
        call(&daemon, "DELETE", "/v1/queues/bob").await;
    }
    daemon.kill9();
    daemon.restart().await;
    for limit in [1, 2, 5, 1000] {
        assert_eq!(walk(&daemon, "/v1/dead-letters", "dead_letters", "seq", limit).await, seqs, "pages of {limit}");
    }
    let page = get(&daemon, "/v1/dead-letters?limit=1").await;
    let letter = &page["dead_letters"][0];
    assert_eq!(
        (&letter["reason"], &letter["user"], &letter["message"]["id"]),
        (&"purged".into(), &"bob".into(), &"m0".into()),
        "{page}"
    );
    assert_eq!((&letter["message"]["body"], &letter["device"]), (&Value::Null, &Value::Null), "{page}");
    let page = get(&daemon, "/v1/dead-letters?bodies=true").await;
    let bodies: Vec<_> =
        column(&page["dead_letters"], "message").into_iter().map(|message| &message["body"]["secret"]).collect();
    assert_eq!(bodies, [0, 1, 2, 3, 4]);
    assert_eq!(call(&daemon, "DELETE", "/v1/dead-letters").await, json!({"cleared": 5}));
    assert_eq!(call(&daemon, "DELETE", "/v1/dead-letters").await, json!({"cleared": 0}));
    assert_eq!(get(&daemon, "/v1/dead-letters").await["dead_letters"], json!([]));
    daemon.restart().await;
    assert_eq!(get(&daemon, "/v1/dead-letters").await["dead_letters"], json!([]), "gone for good");
}

/// Where each message to bob is: how often in his inbox, how often in the list.
async fn places(daemon: &Daemon) -> BTreeMap<String, (usize, usize)> {
    let mut places = BTreeMap::new();
    let inbox = get(daemon, "/v1/queues/bob/messages?limit=1000").await;
    for id in column(&inbox["messages"], "id") {
        places.entry(id.as_str().unwrap().to_owned()).or_insert((0, 0)).0 += 1;
    }
    let letters = get(daemon, "/v1/dead-letters?limit=1000").await;
    for message in column(&letters["dead_letters"], "message") {
        places.entry(message["id"].as_str().unwrap().to_owned()).or_insert((0, 0)).1 += 1;
    }
    places
}

/// The key of the letter that holds this message.
async fn key_of(daemon: &Daemon, id: &str) -> Option<String> {
    let letters = get(daemon, "/v1/dead-letters?limit=1000").await;
    let letters = letters["dead_letters"].as_array().unwrap();
    let found = letters.iter().find(|letter| letter["message"]["id"] == id);
    found.map(|letter| letter["key"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_put_back_is_delivered_to_every_device_and_marked() {
    let mut daemon = Daemon::start(|_| ()).await;
    register(&daemon, "bob", "phone").await;
    register(&daemon, "bob", "laptop").await;
    let first = send(&daemon, "alice", "bob", "m1", json!({"text": "see you"})).await;
    call(&daemon, "DELETE", "/v1/queues/bob").await;
    let last = send(&daemon, "alice", "bob", "m2", json!(2)).await;
    let letter = get(&daemon, "/v1/dead-letters").await["dead_letters"][0].clone();
    daemon.restart().await;
    let back = call(&daemon, "POST", &format!("/v1/dead-letters/{}/requeue", letter["key"].as_str().unwrap())).await;
    let seq = back["seq"].as_u64().unwrap();
    assert!(back["user"] == "bob" && seq > last, "{back}");
    assert_eq!(get(&daemon, "/v1/dead-letters").await["dead_letters"], json!([]));
    // It is no new send: dedupe knows the first place, and no second body.
    assert_eq!(send(&daemon, "alice", "bob", "m1", json!({"text": "see you"})).await, first);
    let other = json!({"from": "alice", "to": "bob", "id": "m1", "body": 1});
    assert_eq!(daemon.admin_with("POST", "/v1/messages", &other).await.1["code"], "id_reused");
    daemon.kill9();
    daemon.restart().await;
    for device in ["phone", "laptop"] {
        let mut bob = TestClient::open(&daemon, Options::of("bob", device)).await;
        assert_eq!(bob.pick("message").await["id"], "m2");
        let message = bob.expect("message").await;
        assert_eq!((&message["seq"], &message["redelivered"]), (&seq.into(), &true.into()), "{message}");
        for (field, was) in [("id", "id"), ("from", "from"), ("ts_ms", "ts_ms")] {
            assert_eq!(message[field], letter["message"][was], "{message}");
        }
        assert_eq!(message["body"], json!({"text": "see you"}));
        bob.ack(seq).await;
        bob.leave().await;
    }
    until_empty(&daemon).await;
}

/// Acks are on their way to the disk for a moment.
async fn until_empty(daemon: &Daemon) {
    wait::until("an empty inbox", async || {
        let none_waits = get(daemon, "/v1/queues/bob").await["messages"] == 0;
        let none_is_stored = get(daemon, "/v1/queues/bob/messages").await["messages"] == json!([]);
        (none_waits && none_is_stored).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_there_gets_it_at_once() {
    let daemon = Daemon::start(|_| ()).await;
    register(&daemon, "bob", "phone").await;
    send(&daemon, "alice", "bob", "m1", json!(1)).await;
    call(&daemon, "DELETE", "/v1/queues/bob").await;
    let mut bob = super::enter(&daemon, "bob", "phone").await;
    let (socket, key) = (daemon.socket(), key_of(&daemon, "m1").await.unwrap());
    let path = format!("/v1/dead-letters/{key}/requeue");
    let asked = tokio::spawn(async move { admin_call(&socket, "POST", &path, bytes::Bytes::new()).await });
    let message = bob.expect("message").await;
    assert_eq!(message["redelivered"], true, "{message}");
    // Acknowledged before it is stored or after: the letter leaves the list either way.
    bob.ack(message["seq"].as_u64().unwrap()).await;
    let (status, back) = asked.await.unwrap();
    assert_eq!((status, &back["seq"]), (200, &message["seq"]), "{back}");
    assert_eq!(key_of(&daemon, "m1").await, None);
    until_empty(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_leaves_a_letter_in_one_place() {
    let mut daemon = Daemon::start(|_| ()).await;
    register(&daemon, "bob", "phone").await;
    let ids: Vec<String> = (0..6).map(|n| format!("m{n}")).collect();
    for id in &ids {
        send(&daemon, "alice", "bob", id, json!("x")).await;
    }
    call(&daemon, "DELETE", "/v1/queues/bob").await;
    for (n, id) in ids.iter().enumerate() {
        let key = key_of(&daemon, id).await.expect("it was not put back yet");
        let (socket, path) = (daemon.socket(), format!("/v1/dead-letters/{key}/requeue"));
        let asked = tokio::spawn(async move {
            // The answer may never come.
            let call = std::panic::AssertUnwindSafe(admin_call(&socket, "POST", &path, bytes::Bytes::new()));
            futures::FutureExt::catch_unwind(call).await.ok()
        });
        // Earlier and later, by what else the daemon is asked first.
        for _ in 0..n {
            get(&daemon, "/v1/health").await;
        }
        daemon.kill9();
        let answered = asked.await.unwrap().is_some_and(|(status, _)| status == 200);
        daemon.restart().await;
        let places = places(&daemon).await;
        assert_eq!(places.len(), ids.len(), "{places:?}");
        for (id, place) in &places {
            assert!([(1, 0), (0, 1)].contains(place), "{id} is {} times in the inbox, {} times dead", place.0, place.1);
        }
        assert!(!answered || places[id] == (1, 0), "{id} was said to be stored: {places:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_put_back_one_message() {
    let daemon = Daemon::start(|_| ()).await;
    for n in 0..8 {
        let user = format!("u{n}");
        send(&daemon, "alice", &user, "m1", json!(n)).await;
        call(&daemon, "DELETE", &format!("/v1/queues/{user}")).await;
        let path = format!("/v1/dead-letters/{}/requeue", key_of(&daemon, "m1").await.unwrap());
        let (one, other) = futures::join!(daemon.admin("POST", &path), daemon.admin("POST", &path));
        let mut statuses = [one.0, other.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 404], "{one:?} {other:?}");
        assert_eq!(get(&daemon, &format!("/v1/queues/{user}")).await["messages"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_stays_in_the_list() {
    let mut daemon = Daemon::start(|settings| {
        settings.set("queue.max_messages", 1);
    })
    .await;
    register(&daemon, "bob", "phone").await;
    send(&daemon, "alice", "bob", "m1", json!(1)).await;
    call(&daemon, "DELETE", "/v1/queues/bob").await;
    send(&daemon, "alice", "bob", "m2", json!(2)).await;
    let path = format!("/v1/dead-letters/{}/requeue", key_of(&daemon, "m1").await.unwrap());
    refused(&daemon, "POST", &path, 429, "queue_full").await;
    refused(&daemon, "POST", "/v1/dead-letters/7/requeue", 404, "not_found").await;
    refused(&daemon, "POST", "/v1/dead-letters/m1/requeue", 400, "bad_request").await;
    call(&daemon, "DELETE", "/v1/queues/bob").await;
    daemon.settings().set("store.min_free", "1000000GiB");
    daemon.restart().await;
    refused(&daemon, "POST", &path, 503, "storage_unavailable").await;
    assert_eq!(places(&daemon).await.into_values().collect::<Vec<_>>(), [(0, 1), (0, 1)]);
    daemon.settings().set("store.min_free", "1MiB");
    daemon.restart().await;
    call(&daemon, "POST", &path).await;
    assert_eq!(places(&daemon).await["m1"], (1, 0));
}
