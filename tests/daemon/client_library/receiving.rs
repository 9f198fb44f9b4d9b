//! Messages: once each, in order, acked only when the application is done; presence only forward; a
//! slow application hurts nobody.

use std::time::Instant;

use doorstep::client::Event;
use doorstep::presence::PresenceState;
use futures::{FutureExt, StreamExt};
use serde_json::json;

use crate::client_library::script::{Server, connected, next, next_message, user, within};

#[tokio::test]
async fn a_message_is_acked_when_the_application_comes_back_and_not_before() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.welcome().await;
    peer.deliver(10, "a", false).await;
    assert_eq!(next_message(&mut events).await, 10);
    // An answered ping proves that the client had every chance to ack.
    let ping = tokio::spawn(async move { client.ping().await });
    let frame = peer.hear_a("ping").await;
    peer.say(json!({"type": "pong", "n": frame["n"]})).await;
    within("the pong", ping).await.unwrap().unwrap();
    events.done();
    assert_eq!(peer.hear_a("ack").await["seq"], 10);
}

#[tokio::test]
async fn acks_are_cumulative_and_batched_and_the_first_goes_at_once() {
    let server = Server::start().await;
    let (_client, mut events) = server.client();
    let mut peer = server.welcome_with(json!({"window": 256})).await;
    let started = Instant::now();
    for seq in 1..=200 {
        peer.deliver(seq, &format!("m{seq}"), false).await;
    }
    for seq in 1..=200 {
        assert_eq!(next_message(&mut events).await, seq);
    }
    events.done();
    let mut acks = Vec::new();
    while acks.last() != Some(&200) {
        acks.push(peer.hear_a("ack").await["seq"].as_u64().unwrap());
    }
    assert!(acks.is_sorted_by(|a, b| a < b), "{acks:?}");
    // The first, full batches, the rest, and one for every 10 ms that it took.
    let most = 1 + 200 / 32 + 1 + started.elapsed().as_millis() / 10;
    assert!(acks.len() as u128 <= most, "{} acks for 200 messages, {most} allowed", acks.len());
}

#[tokio::test]
async fn a_redelivery_reaches_the_application_once_and_is_acked() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.welcome().await;
    peer.deliver(1, "a", false).await;
    peer.deliver(2, "b", false).await;
    assert_eq!(next_message(&mut events).await, 1);
    assert_eq!(next_message(&mut events).await, 2);
    assert_eq!(peer.hear_a("ack").await["seq"], 1);
    drop(peer);
    // The router lost the ack. 2 is still with the application; b comes once more as a repeat that
    // dedupe did not know, then something new.
    let mut peer = server.welcome().await;
    peer.deliver(1, "a", true).await;
    peer.deliver(2, "b", true).await;
    peer.deliver(3, "b", true).await;
    peer.deliver(4, "c", false).await;
    assert_eq!(peer.hear_a("ack").await["seq"], 1, "what the application is still busy with is not acked");
    assert_eq!(next_message(&mut events).await, 4);
    let ack = peer.hear_a("ack").await["seq"].as_u64().unwrap();
    assert!((2..=3).contains(&ack), "{ack}");
    client.close().now_or_never();
    let (frames, _) = peer.hear_out().await;
    assert!(frames.iter().all(|frame| frame["seq"] != 4), "4 was never done with");
}

#[tokio::test]
async fn a_slow_application_does_not_hold_up_answers_and_loses_no_message() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.welcome().await;
    connected(&mut events).await;
    let watching = tokio::spawn({
        let client = client.clone();
        async move { client.watch([user("bob")]).await }
    });
    assert_eq!(peer.hear_a("watch").await["users"], json!(["bob"]));
    within("the watch", watching).await.unwrap().unwrap();
    for seq in 1..=64 {
        peer.deliver(seq, &format!("m{seq}"), false).await;
    }
    for version in 1..=2000 {
        let info = json!({"user": "bob", "state": "busy", "version": version});
        peer.say(json!({"type": "presence", "users": [info]})).await;
        peer.say(json!({"type": "message", "from": "bob", "body": version, "ts_ms": 1, "ephemeral": true})).await;
    }
    // Nobody takes an event, and yet a send is answered.
    let sent = tokio::spawn(async move { client.send(&user("bob"), "hi").await });
    let frame = peer.hear_a("send").await;
    peer.accept(&frame, false).await;
    within("the answer", sent).await.unwrap().unwrap();
    let (mut seqs, mut version) = (Vec::new(), 0);
    while seqs.len() < 64 || version < 2000 {
        match next(&mut events).await {
            Event::Message(message) => seqs.push(message.seq.0),
            Event::Presence(users) => {
                assert!(users[0].version > version, "presence went back");
                version = users[0].version;
            }
            _ => {}
        }
    }
    assert_eq!(seqs, (1..=64).collect::<Vec<_>>());
}

#[tokio::test]
async fn older_presence_is_dropped_also_across_connections() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.welcome().await;
    let presence =
        |state, version| json!({"type": "presence", "users": [{"user": "bob", "state": state, "version": version}]});
    let watching = tokio::spawn(async move {
        client.watch([user("bob")]).await.unwrap();
        client
    });
    peer.hear_a("watch").await;
    peer.say(presence("online", 5)).await;
    peer.say(presence("away", 4)).await;
    let client = watching.await.unwrap();
    drop(peer);
    let mut peer = server.welcome().await;
    assert_eq!(peer.hear_a("watch").await["users"], json!(["bob"]), "watched again without being asked");
    peer.say(presence("away", 5)).await;
    peer.say(presence("offline", 6)).await;
    let mut states = Vec::new();
    while states.last() != Some(&PresenceState::Offline) {
        if let Event::Presence(users) = next(&mut events).await {
            states.extend(users.iter().map(|info| info.state));
        }
    }
    assert!(!states.contains(&PresenceState::Away), "{states:?}");
    drop(client);
}

#[tokio::test]
async fn an_unreadable_message_is_not_skipped_over() {
    let server = Server::start().await;
    let (_client, mut events) = server.client();
    let mut peer = server.welcome().await;
    peer.deliver(1, "a", false).await;
    peer.say(json!({"type": "message", "seq": "two", "id": "b", "from": "bob", "body": 2, "ts_ms": 1})).await;
    peer.say(json!({"type": "something_new", "of": "a later version"})).await;
    assert_eq!(next_message(&mut events).await, 1);
    // It comes again on the next connection, readable this time; nothing beyond 1 may be acked.
    let mut peer = server.welcome().await;
    peer.deliver(2, "b", true).await;
    assert_eq!(next_message(&mut events).await, 2);
    events.done();
    assert_eq!(peer.hear_a("ack").await["seq"], 2);
}

#[tokio::test]
async fn a_router_that_breaks_the_window_is_left_and_nothing_is_lost() {
    let server = Server::start().await;
    let (_client, mut events) = server.client();
    let mut peer = server.welcome_with(json!({"window": 4})).await;
    for seq in 1..=5 {
        peer.deliver(seq, &format!("m{seq}"), false).await;
    }
    let mut peer = server.welcome_with(json!({"window": 4})).await;
    let mut seqs = Vec::new();
    for seq in 1..=4 {
        peer.deliver(seq, &format!("m{seq}"), true).await;
    }
    for _ in 0..4 {
        seqs.push(next_message(&mut events).await);
    }
    events.done();
    while peer.hear_a("ack").await["seq"] != 4 {}
    peer.deliver(5, "m5", true).await;
    seqs.push(next_message(&mut events).await);
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_message_far_above_the_usual_limits_comes_in() {
    let server = Server::start().await;
    let (_client, mut events) = server.client();
    let mut peer = server.welcome().await;
    connected(&mut events).await;
    let body = "x".repeat(17 << 20);
    let bytes = body.len() + 2;
    peer.say(json!({"type": "message", "seq": 1, "id": "a", "from": "bob", "body": body, "ts_ms": 1})).await;
    match next(&mut events).await {
        Event::Message(message) => assert_eq!(message.body.get().len(), bytes),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn ephemerals_are_sent_and_heard_and_their_refusal_is_told() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.welcome().await;
    connected(&mut events).await;
    client.send_ephemeral(&user("bob"), &json!({"typing": true})).await.unwrap();
    let frame = peer.hear_a("send").await;
    assert_eq!((&frame["ephemeral"], &frame["body"]["typing"]), (&json!(true), &json!(true)));
    peer.say(json!({"type": "message", "from": "bob", "body": 1, "ts_ms": 1, "ephemeral": true})).await;
    assert!(matches!(next(&mut events).await, Event::Ephemeral(ephemeral) if ephemeral.from == user("bob")));
    peer.say(json!({"type": "rejected", "to": "bob", "code": "forbidden", "reason": "no"})).await;
    assert!(matches!(next(&mut events).await, Event::Refused { about: Some(about), .. } if about == "bob"));
    client.set_status(PresenceState::Busy, Some("in a call")).await.unwrap();
    assert_eq!(peer.hear_a("status").await["text"], "in a call");
    drop(peer);
    let mut peer = server.welcome().await;
    assert_eq!(peer.hello["status"], "busy");
    assert_eq!(peer.hear_a("status").await["text"], "in a call");
    assert!(!events.next().now_or_never().is_some_and(|event| matches!(event, Some(Event::Closed(_)))));
}
