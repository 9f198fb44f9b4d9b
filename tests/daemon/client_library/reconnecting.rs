//! Connections that end: when to come back, how soon, with what token.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use doorstep::client::{Client, Closed, Event, Options, TokenProvider};
use doorstep::clock::wall_us;
use doorstep::presence::PresenceState;
use serde_json::json;

use crate::client_library::script::{Peer, Server, connected, next, user, welcome};

/// Every call yields another token: t1, t2, …
fn fresh_tokens() -> TokenProvider {
    let calls = Arc::new(AtomicUsize::new(0));
    TokenProvider::new(move || {
        let n = calls.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Ok(format!("t{n}")) }
    })
}

#[tokio::test]
async fn it_comes_back_after_passing_ends() {
    let server = Server::start().await;
    let (_client, mut events) = server.client();
    for code in [1001, 1011, 1012, 4408, 4429, 4999] {
        let mut peer = server.welcome().await;
        connected(&mut events).await;
        peer.close(code).await;
        match next(&mut events).await {
            Event::Disconnected { close_code, .. } => assert_eq!(close_code, Some(code)),
            other => panic!("after {code}: {other:?}"),
        }
    }
    server.welcome().await;
    connected(&mut events).await;
}

#[tokio::test]
async fn it_comes_back_when_the_router_asked_to_and_not_sooner() {
    let server = Server::start().await;
    let (_client, mut events) = server.client();
    let mut peer = server.welcome().await;
    connected(&mut events).await;
    peer.say(json!({"type": "goodbye", "code": 1012, "reason": "restarting", "retry_after_ms": 400})).await;
    peer.close(1012).await;
    let closed_at = Instant::now();
    match next(&mut events).await {
        Event::Disconnected { close_code: Some(1012), reason, retry_in } => {
            assert_eq!((reason.as_str(), retry_in), ("restarting", Duration::from_millis(400)));
        }
        other => panic!("{other:?}"),
    }
    server.welcome().await;
    assert!(closed_at.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn a_refused_upgrade_is_understood() {
    let server = Server::start().await;
    let (_client, mut events) = server.client();
    server.refuse("503 Service Unavailable\r\nretry-after: 0").await;
    assert!(matches!(next(&mut events).await, Event::Disconnected { close_code: Some(1012), .. }));
    server.refuse("403 Forbidden").await;
    let Event::Closed(Closed::Refused { close_code, .. }) = next(&mut events).await else { panic!("went on") };
    assert_eq!(close_code, 4403);
}

#[tokio::test]
async fn a_status_said_while_it_connects_is_not_lost() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.accept().await;
    assert_eq!(peer.hello["status"], "online");
    client.set_status(PresenceState::Busy, None).await.unwrap();
    // Answered, so that the status before it is noted.
    client.watch([user("bob")]).await.unwrap();
    peer.say(welcome()).await;
    connected(&mut events).await;
    peer.hear_a("watch").await;
    assert_eq!(peer.hear_a("status").await["state"], "busy");
}

#[tokio::test]
async fn silence_is_taken_for_death() {
    let server = Server::start().await;
    let (_client, mut events) = server.client();
    let silent = server.welcome_with(json!({"heartbeat_ms": 500})).await;
    connected(&mut events).await;
    // The connection stays open; only nothing comes any more.
    server.welcome().await;
    assert!(matches!(next(&mut events).await, Event::Disconnected { close_code: None, .. }));
    drop(silent);
}

#[tokio::test]
async fn a_message_that_comes_in_slowly_is_a_sign_of_life() {
    let server = Server::start().await;
    let (_client, mut events) = server.client();
    let mut peer = server.welcome_with(json!({"heartbeat_ms": 500})).await;
    connected(&mut events).await;
    // One frame over more than twice the longest silence.
    let message = json!({"type": "message", "seq": 1, "id": "a", "from": "bob", "body": "slow", "ts_ms": 1});
    let mut bytes = message.to_string().into_bytes();
    bytes.splice(0..0, [0x81, u8::try_from(bytes.len()).unwrap()]);
    let mut slowly = tokio::time::interval(Duration::from_millis(500));
    for part in bytes.chunks(bytes.len().div_ceil(6)) {
        slowly.tick().await;
        peer.say_raw(part).await;
    }
    assert!(matches!(next(&mut events).await, Event::Message(message) if message.seq.0 == 1));
}

#[tokio::test]
async fn a_hello_without_answer_is_given_up() {
    let server = Server::start().await;
    let options = Options { connect_timeout: Duration::from_secs(1), ..server.options() };
    let (_client, mut events) = Client::connect(options);
    let mute = server.accept().await;
    server.welcome().await;
    connected(&mut events).await;
    drop(mute);
}

#[tokio::test]
async fn a_refused_token_is_replaced_and_the_same_one_not_tried_again() {
    let server = Server::start().await;
    let (_client, mut events) = Client::connect(server.options().token(fresh_tokens()));
    let mut peer = server.accept().await;
    assert_eq!(peer.hello["token"], "t1");
    peer.close(4401).await;
    let mut peer = server.accept().await;
    assert_eq!(peer.hello["token"], "t2");
    peer.say(welcome()).await;
    connected(&mut events).await;

    let (_client, mut events) = Client::connect(server.options().token(TokenProvider::fixed("old")));
    let mut peer = server.accept().await;
    assert_eq!(peer.hello["token"], "old");
    peer.close(4401).await;
    while !matches!(next(&mut events).await, Event::Closed(Closed::NotAuthenticated { .. })) {}
}

/// A welcome for a token that ends in a moment.
async fn welcome_for_a_moment(peer: &mut Peer) {
    let mut frame = welcome();
    frame["expires_ms"] = json!(wall_us() / 1000 + 2500);
    peer.say(frame).await;
}

#[tokio::test]
async fn a_renewal_that_the_router_refuses_is_tried_again_and_not_taken_for_done() {
    let server = Server::start().await;
    let (_client, mut events) = Client::connect(server.options().token(fresh_tokens()));
    let mut peer = server.accept().await;
    welcome_for_a_moment(&mut peer).await;
    assert_eq!(peer.hear_a("token").await["token"], "t2");
    peer.say(json!({"type": "error", "code": "forbidden", "reason": "not valid yet", "ref": "token"})).await;
    assert_eq!(peer.hear_a("token").await["token"], "t3");
    peer.say(json!({"type": "error", "code": "rate_limited", "reason": "slowly", "ref": "token"})).await;
    assert_eq!(peer.hear_a("token").await["token"], "t4");
    peer.say(json!({"type": "token_ok", "expires_ms": wall_us() / 1000 + 60_000})).await;
    connected(&mut events).await;
    for _ in 0..2 {
        assert!(matches!(next(&mut events).await, Event::Refused { about: Some(about), .. } if about == "token"));
    }
}

#[tokio::test]
async fn only_a_token_that_was_shown_to_hold_is_taken_for_the_one_in_use() {
    let server = Server::start().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let first_old = TokenProvider::new(move || {
        let first = calls.fetch_add(1, Ordering::Relaxed) == 0;
        async move { Ok(if first { "old" } else { "new" }.to_owned()) }
    });
    let (_client, mut events) = Client::connect(server.options().token(first_old));
    let mut peer = server.accept().await;
    welcome_for_a_moment(&mut peer).await;
    assert_eq!(peer.hear_a("token").await["token"], "new");
    // The old one ends before the new one is looked at. That says nothing of the new one.
    peer.close(4401).await;
    assert_eq!(server.welcome().await.hello["token"], "new");
    connected(&mut events).await;
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let server = Server::start().await;
    let (_client, _events) = Client::connect(server.options().token(fresh_tokens()));
    let mut peer = server.accept().await;
    welcome_for_a_moment(&mut peer).await;
    assert_eq!(peer.hear_a("token").await["token"], "t2");
    peer.say(json!({"type": "token_ok", "expires_ms": wall_us() / 1000 + 2500})).await;
    assert_eq!(peer.hear_a("token").await["token"], "t3");
}
