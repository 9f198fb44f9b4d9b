//! Connections that end: when to come back, how soon, with what token.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use doorstep::client::{Client, Closed, Event, Options, TokenProvider};
use doorstep::clock::wall_us;
use serde_json::json;

use crate::script::{Server, connected, next, welcome};

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
async fn a_refused_token_is_replaced_and_the_same_one_not_tried_for_ever() {
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
    for _ in 0..2 {
        let mut peer = server.accept().await;
        assert_eq!(peer.hello["token"], "old");
        peer.close(4401).await;
    }
    while !matches!(next(&mut events).await, Event::Closed(Closed::NotAuthenticated { .. })) {}
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let server = Server::start().await;
    let (_client, _events) = Client::connect(server.options().token(fresh_tokens()));
    let mut peer = server.accept().await;
    let mut frame = welcome();
    frame["expires_ms"] = json!(wall_us() / 1000 + 2500);
    peer.say(frame).await;
    assert_eq!(peer.hear_a("token").await["token"], "t2");
    peer.say(json!({"type": "token_ok", "expires_ms": wall_us() / 1000 + 2500})).await;
    assert_eq!(peer.hear_a("token").await["token"], "t3");
}
