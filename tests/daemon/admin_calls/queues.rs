//! Goal: the calls about inboxes: who has a backlog, how much, a look inside that consumes nothing, purging.
//! Method: backlogs of known size; every look is taken twice, and afterwards all of it is delivered.

use serde_json::{Value, json};

use super::{call, column, enter, get, refused, register, send, walk};
use crate::common::daemon::Daemon;
use crate::common::wait;

/// `count` messages for `to`, named `m0`, `m1` …; their seqs.
async fn fill(daemon: &Daemon, to: &str, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    for n in 0..count {
        seqs.push(send(daemon, "alice", to, &format!("m{n}"), json!({"n": n})).await);
    }
    assert!(seqs.is_sorted());
    seqs
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_the_heaviest_and_the_oldest_queue_come_first() {
    let daemon = Daemon::start(|_| ()).await;
    send(&daemon, "alice", "oldest", "m", json!(1)).await;
    send(&daemon, "alice", "heaviest", "m", json!("x".repeat(10_000))).await;
    fill(&daemon, "longest", 5).await;
    let _empty = enter(&daemon, "nothing waits", "phone").await;
    for (sort, first) in
        [("", "longest"), ("?sort=depth", "longest"), ("?sort=bytes", "heaviest"), ("?sort=age", "oldest")]
    {
        let page = get(&daemon, &format!("/v1/queues{sort}")).await;
        assert_eq!(page["complete"], true);
        assert_eq!(page["queues"].as_array().unwrap().len(), 3, "{page}");
        assert_eq!(page["queues"][0]["user"], first, "{page}");
        let joint = if sort.is_empty() { "?" } else { "&" };
        let one = get(&daemon, &format!("/v1/queues{sort}{joint}limit=1")).await;
        assert_eq!(one["queues"], json!([page["queues"][0]]), "{one}");
    }
    let longest = &get(&daemon, "/v1/queues").await["queues"][0];
    let alone = get(&daemon, "/v1/queues/longest").await;
    for field in ["messages", "bytes", "oldest_ms"] {
        assert_eq!(longest[field], alone[field], "{field}: {longest} and {alone}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_what_the_device_furthest_behind_lacks() {
    let mut daemon = Daemon::start(|_| ()).await;
    refused(&daemon, "GET", "/v1/queues/bob", 404, "not_found").await;
    refused(&daemon, "GET", "/v1/queues/bob/messages", 404, "not_found").await;
    let seqs = fill(&daemon, "bob", 4).await;
    let without = get(&daemon, "/v1/queues/bob").await;
    assert_eq!((&without["messages"], &without["devices"]), (&4.into(), &json!([])), "{without}");
    let mut bob = enter(&daemon, "bob", "phone").await;
    for _ in 0..4 {
        bob.expect("message").await;
    }
    register(&daemon, "bob", "laptop").await;
    bob.ack(seqs[1]).await;
    wait::until("the ack", async || (get(&daemon, "/v1/queues/bob").await["messages"] == 2).then_some(())).await;
    bob.leave().await;
    assert!(daemon.terminate().await.success());
    daemon.restart().await;
    let queue = get(&daemon, "/v1/queues/bob").await;
    assert_eq!((&queue["messages"], queue["devices"].as_array().unwrap().len()), (&2.into(), 2), "{queue}");
    let mut bob = enter(&daemon, "bob", "phone").await;
    bob.ack(seqs[3]).await;
    wait::until("an empty queue", async || (get(&daemon, "/v1/queues/bob").await["messages"] == 0).then_some(())).await;
    assert_eq!(get(&daemon, "/v1/queues").await["queues"], json!([]), "an empty queue is in no list");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peek_shows_all_of_it_in_pages_and_consumes_nothing() {
    let daemon = Daemon::start(|_| ()).await;
    register(&daemon, "bob", "phone").await;
    let seqs = fill(&daemon, "bob", 7).await;
    let path = "/v1/queues/bob/messages";
    for limit in [1, 3, 7, 100] {
        assert_eq!(walk(&daemon, path, "messages", "seq", limit).await, seqs, "pages of {limit}");
    }
    let page = get(&daemon, path).await;
    let first = &page["messages"][0];
    assert_eq!(
        (&first["id"], &first["from"], &first["retry"]),
        (&"m0".into(), &"alice".into(), &false.into()),
        "{page}"
    );
    assert_eq!((&first["body_bytes"], &first["body"]), (&7.into(), &Value::Null), "no bodies unless asked for: {page}");
    let bodies = get(&daemon, &format!("{path}?bodies=true&from={}&limit=2", seqs[5])).await;
    assert_eq!(column(&bodies["messages"], "body"), [&json!({"n": 5}), &json!({"n": 6})]);
    assert_eq!(bodies["next"], Value::Null);
    let behind = get(&daemon, &format!("{path}?after={}", seqs[5])).await;
    assert_eq!(column(&behind["messages"], "id"), ["m6"]);
    let beyond = get(&daemon, &format!("{path}?after={}", seqs[6])).await;
    assert_eq!((&beyond["messages"], &beyond["corrupt"]), (&json!([]), &json!([])));

    let mut bob = crate::common::client::TestClient::connect(&daemon, "bob", "phone").await;
    for seq in seqs {
        let message = bob.expect("message").await;
        assert_eq!((&message["seq"], &message["redelivered"]), (&seq.into(), &Value::Null), "a peek is no delivery");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_out_what_waits_and_buries_it() {
    let daemon = Daemon::start(|_| ()).await;
    register(&daemon, "bob", "phone").await;
    let seqs = fill(&daemon, "bob", 5).await;
    let one = call(&daemon, "DELETE", &format!("/v1/queues/bob/messages/{}", seqs[2])).await;
    assert_eq!(one, json!({"user": "bob", "purged": 1}));
    refused(&daemon, "DELETE", &format!("/v1/queues/bob/messages/{}", seqs[2]), 404, "not_found").await;
    refused(&daemon, "DELETE", "/v1/queues/bob/messages/1", 404, "not_found").await;
    let page = get(&daemon, "/v1/queues/bob/messages").await;
    assert_eq!(column(&page["messages"], "id"), ["m0", "m1", "m3", "m4"]);
    assert_eq!(call(&daemon, "DELETE", "/v1/queues/bob").await, json!({"user": "bob", "purged": 4}));
    assert_eq!(get(&daemon, "/v1/queues/bob").await["messages"], 0);
    assert_eq!(get(&daemon, "/v1/stats").await["queues"], json!({"messages": 0, "bytes": 0}));
    assert_eq!(call(&daemon, "DELETE", "/v1/queues/bob").await["purged"], 0, "there is nothing more");
    let letters = get(&daemon, "/v1/dead-letters").await;
    let mut buried: Vec<_> =
        column(&letters["dead_letters"], "seq").into_iter().map(|seq| seq.as_u64().unwrap()).collect();
    buried.sort_unstable();
    assert_eq!(buried, seqs, "{letters}");
    assert!(column(&letters["dead_letters"], "reason").iter().all(|reason| **reason == "purged"), "{letters}");
    // What comes after it is delivered, and nothing of what went before.
    send(&daemon, "alice", "bob", "after", json!(0)).await;
    let mut bob = crate::common::client::TestClient::connect(&daemon, "bob", "phone").await;
    assert_eq!(bob.expect("message").await["id"], "after");
    bob.expect("caught_up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_beside_a_live_session_calls_nothing_back() {
    let daemon = Daemon::start(|settings| {
        settings.set("limits.window", 2);
    })
    .await;
    let mut bob = enter(&daemon, "bob", "phone").await;
    let seqs = fill(&daemon, "bob", 5).await;
    for seq in &seqs[..2] {
        assert_eq!(bob.expect("message").await["seq"], *seq);
    }
    let purged = call(&daemon, "DELETE", "/v1/queues/bob").await["purged"].as_u64().unwrap();
    assert_eq!(purged, 5, "what is on its way is not acknowledged yet");
    bob.ack(seqs[1]).await;
    send(&daemon, "alice", "bob", "after", json!(0)).await;
    let message = bob.expect("message").await;
    assert_eq!(message["id"], "after", "what was purged is not pushed any more");
    bob.ack(message["seq"].as_u64().unwrap()).await;
    wait::until("an empty queue", async || (get(&daemon, "/v1/queues/bob").await["messages"] == 0).then_some(())).await;
}
