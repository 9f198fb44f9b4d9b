//! Goal: an ephemeral message goes to the sessions that are live now, and leaves no trace: no seq, no
//! answer, no ack, nothing on disk, nothing for who comes later.
//! Method: send some to a user with one device here and one away, to a user who is away, to nobody;
//! durable messages in between show what came when.

use serde_json::json;

use crate::common::client::TestClient;
use crate::common::daemon::Daemon;
use crate::delivery::exchange::{accepted, counter, expect_silence, seq, until_empty, waiting};

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_to_live_sessions_only_and_leaves_no_trace() {
    // One owner for all, so that what comes later shows what did not come.
    let daemon = Daemon::start(|settings| {
        settings.set("routing.shards", 1);
    })
    .await;
    let mut phone = TestClient::connect(&daemon, "bob", "phone").await;
    phone.expect("caught_up").await;
    let mut tablet = TestClient::connect(&daemon, "bob", "tablet").await;
    tablet.expect("caught_up").await;
    TestClient::connect(&daemon, "bob", "laptop").await.leave().await;
    let mut alice = TestClient::connect(&daemon, "alice", "phone").await;
    alice.expect("caught_up").await;

    alice.say(json!({"type": "send", "to": "bob", "body": {"typing": true}, "ephemeral": true})).await;
    alice.say(json!({"type": "send", "id": "e", "to": "bob", "body": 2, "ephemeral": true})).await;
    for away in ["bobby", "nobody"] {
        alice.say(json!({"type": "send", "id": "e", "to": away, "body": 3, "ephemeral": true})).await;
    }
    alice.send("bob", "durable", 4).await;
    for device in [&mut phone, &mut tablet] {
        let first = device.expect("message").await;
        assert_eq!((&first["ephemeral"], &first["from"]), (&true.into(), &"alice".into()), "{first}");
        assert_eq!(first["body"], json!({"typing": true}));
        assert!(first.get("seq").is_none() && first.get("id").is_none(), "{first}");
        let second = device.expect("message").await;
        assert_eq!((&second["id"], second.get("seq")), (&"e".into(), None), "{second}");
        let durable = device.expect("message").await;
        assert_eq!((&durable["id"], durable.get("ephemeral")), (&"durable".into(), None), "{durable}");
        device.ack(seq(&durable)).await;
    }
    let answer = alice.expect("accepted").await;
    assert_eq!(answer["id"], "durable", "only that one is answered");
    expect_silence(&mut alice).await;
    assert_eq!(waiting(&daemon, "bob").await, 1, "the laptop lacks the durable one and no other");

    let mut laptop = TestClient::connect(&daemon, "bob", "laptop").await;
    assert_eq!(laptop.welcome["pending"], 1);
    let message = laptop.expect("message").await;
    assert_eq!(message["id"], "durable");
    laptop.ack(seq(&message)).await;
    laptop.expect("caught_up").await;
    until_empty(&daemon, "bob").await;
    assert_eq!(daemon.admin("GET", "/v1/users/bobby").await.0, 404, "no trace of who was away");
    let mut bobby = TestClient::connect(&daemon, "bobby", "phone").await;
    bobby.expect("caught_up").await;
    expect_silence(&mut bobby).await;
    assert_eq!(counter(&daemon, "stored_messages").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_window_does_not_keep_it_away_and_it_takes_no_place_in_one() {
    let daemon = Daemon::start(|_| ()).await;
    let options = crate::common::client::Options::of("bob", "phone").hello("window", 1);
    let mut bob = TestClient::open(&daemon, options).await;
    bob.expect("caught_up").await;
    let mut alice = TestClient::connect(&daemon, "alice", "phone").await;
    for name in ["first", "second"] {
        alice.send("bob", name, 1).await;
    }
    let first = bob.expect("message").await;
    alice.say(json!({"type": "send", "id": "e", "to": "bob", "body": 2, "ephemeral": true})).await;
    assert_eq!(bob.expect("message").await["ephemeral"], true, "its window is full, its socket is not");
    bob.ack(seq(&first)).await;
    assert_eq!(bob.expect("message").await["id"], "second");
    accepted(&mut alice, 2).await;
}
