//! Who gets in. Method: real sockets, real HTTP; the test lets nobody in whom the gateway did not announce.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;

use crate::config::{Auth, Config};
use crate::cores::Cores;
use crate::gateway::testing::{Client, House, config, open, soon};
use crate::gateway::{Desk, Gateway, GatewayError};
use crate::presence::PresenceState;
use crate::shutdown::{self, Phase};

async fn status_of(house: &House, path: &str, headers: &[(&'static str, &str)]) -> u16 {
    match Client::try_connect(house.address, path, headers).await {
        Ok(_) => 101,
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn only_the_right_path_origin_and_subprotocol_get_an_upgrade() {
    let house = open(config());
    assert_eq!(status_of(&house, "/v1/connect", &[]).await, 101, "no subprotocol is ours");
    assert_eq!(status_of(&house, "/v1/connect?x=1", &[("sec-websocket-protocol", "mqtt, doorstep.v1")]).await, 101);
    assert_eq!(status_of(&house, "/v1/connect", &[("sec-websocket-protocol", "mqtt")]).await, 400);
    assert_eq!(status_of(&house, "/", &[]).await, 404);
    assert_eq!(status_of(&house, "/v1/connect", &[("origin", "http://localhost:5173")]).await, 101);
    assert_eq!(status_of(&house, "/v1/connect", &[("origin", "https://evil.example")]).await, 403);
    assert_eq!(status_of(&house, "/v1/connect", &[("origin", "null")]).await, 403);
}

#[tokio::test]
async fn a_list_of_origins_replaces_the_default() {
    let mut config = config();
    config.gateway.allowed_origins = vec!["https://app.example".into()];
    let house = open(config);
    assert_eq!(status_of(&house, "/v1/connect", &[("origin", "https://app.example")]).await, 101);
    assert_eq!(status_of(&house, "/v1/connect", &[("origin", "http://localhost")]).await, 403);
    assert_eq!(status_of(&house, "/v1/connect", &[]).await, 101, "what is no browser sends none");
}

/// Everything the server says to raw bytes, up to the end of the stream.
async fn raw(house: &House, request: &str) -> String {
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the end of the answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn what_is_no_upgrade_is_answered_in_http() {
    let house = open(config());
    assert!(raw(&house, "GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 426 "));
    assert!(raw(&house, "POST /v1/connect HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 405 "));
    assert!(raw(&house, "\x16\x03\x01 what is this\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn a_hello_is_taken_with_its_device_status_and_window() {
    let mut house = open(config());
    let mut client = Client::connect(house.address).await;
    client.say(r#"{"type":"hello","user":"bob","device":"phone","status":"away","window":7}"#).await;
    let attach = house.owner.attach().await;
    assert_eq!((attach.user.as_str(), attach.device.as_str()), ("bob", "phone"));
    assert_eq!((attach.state, attach.window), (PresenceState::Away, 7));
    let welcome = client.hear().await;
    assert_eq!(welcome["limits"]["window"], 7);
    assert_eq!(welcome["session"], attach.session.id().to_string());
    assert!(welcome.get("expires_ms").is_none());

    let mut greedy = Client::connect(house.address).await;
    greedy.say(r#"{"type":"hello","user":"carol","window":1000000}"#).await;
    let attach = house.owner.attach().await;
    assert_eq!((attach.window, attach.device.as_str()), (config().limits.window, "default"));
}

#[tokio::test]
async fn a_bad_hello_is_refused_with_the_right_code_and_never_attached() {
    let mut house = open(config());
    let long = format!(r#"{{"type":"hello","user":"{}"}}"#, "x".repeat(129));
    for (hello, code) in [
        (r#"{"type":"ack","seq":1}"#, 4400),
        ("what?", 4400),
        (r#"{"type":"hello"}"#, 4400),
        (r#"{"type":"hello","user":"a/b"}"#, 4400),
        (&long, 4400),
        (r#"{"type":"hello","user":"bob","device":""}"#, 4400),
        (r#"{"type":"hello","user":"bob","window":0}"#, 4400),
        (r#"{"type":"hello","user":"bob","status":"offline"}"#, 4400),
    ] {
        let mut client = Client::connect(house.address).await;
        client.say(hello).await;
        let (closed, goodbye) = client.end().await;
        assert_eq!(closed, code, "{hello}");
        assert_eq!((&goodbye["type"], goodbye["code"].as_u64()), (&"goodbye".into(), Some(code.into())), "{hello}");
    }
    assert!(house.owner.is_idle());
    assert_eq!(house.metrics.hellos_refused.get(), 8);
}

/// Regression: the developer of a client was told that hello was unusable, and not why.
#[tokio::test]
async fn a_malformed_hello_is_told_what_is_wrong_with_it() {
    let house = open(config());
    for (hello, why) in [
        (r#"{"type":"hello","user":"bob","window":"7"}"#, "window"),
        (r#"{"type":"hello","user":null}"#, "user"),
        (r#"{"type":"hello","user":"bob""#, "JSON"),
    ] {
        let mut client = Client::connect(house.address).await;
        client.say(hello).await;
        let (closed, goodbye) = client.end().await;
        let reason = goodbye["reason"].as_str().unwrap();
        assert_eq!((closed, &goodbye["code"]), (4400, &4400.into()), "{hello}");
        assert!(reason.starts_with("the first frame is not a usable hello: ") && reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn a_client_that_says_no_hello_is_closed_in_time() {
    let mut config = config();
    config.gateway.hello_timeout = Duration::from_millis(100);
    let house = open(config);
    let mut client = Client::connect(house.address).await;
    assert_eq!(client.end().await.0, 4408);
    assert!(raw(&house, "GET /v1/conn").await.starts_with("HTTP/1.1 408 "), "half a request is no hello either");
}

#[tokio::test]
async fn half_open_connections_lock_nobody_out() {
    let mut config = config();
    config.limits.max_handshakes = 3;
    config.limits.max_connections = 5;
    let mut house = open(config);
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.push(TcpStream::connect(house.address).await.unwrap());
    }
    let (_bob, _) = house.enter("bob").await;
    let (_carol, _) = house.enter("carol").await;
    // The oldest went, one for each that came: the last to come may still be there.
    let mut end = [0; 512];
    soon("the oldest to be closed", flood[0].read(&mut end)).await.unwrap();
    let mut silent = Client::connect(house.address).await;
    for _ in 0..3 {
        flood.push(TcpStream::connect(house.address).await.unwrap());
    }
    assert_eq!(silent.end().await.0, 4429, "one that got as far as the upgrade is told");
}

#[tokio::test]
async fn a_full_house_says_so() {
    let mut config = config();
    config.limits.max_connections = 2;
    let mut house = open(config);
    let (_bob, _) = house.enter("bob").await;
    let (_carol, _) = house.enter("carol").await;
    assert_eq!(status_of(&house, "/v1/connect", &[]).await, 503);
    assert_eq!(house.metrics.connects_refused.get(), 1);
}

#[tokio::test]
async fn a_user_may_only_have_so_many_connections() {
    let mut config = config();
    // The owner holds sessions to this; connections may be twice as many, so that each can be taken over.
    config.limits.connections_per_user = 1;
    let mut house = open(config);
    let (first, session) = house.enter("bob").await;
    let (_second, _) = house.enter("bob").await;
    let mut third = Client::connect(house.address).await;
    third.say(r#"{"type":"hello","user":"bob"}"#).await;
    let (code, goodbye) = third.end().await;
    assert_eq!(code, 4429);
    assert!(goodbye["retry_after_ms"].as_u64().is_some());
    drop(first);
    house.owner.detach(&session).await;
}

#[tokio::test]
async fn a_draining_house_lets_nobody_in_and_sends_the_half_entered_away() {
    let house = open(config());
    let mut client = Client::connect(house.address).await;
    house.announcer.announce(Phase::Draining);
    assert_eq!(client.end().await.0, 1012);
    let refused = soon("the door to shut", async {
        while TcpStream::connect(house.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    refused.await;
    house.announcer.announce(Phase::Closing);
    soon("the gateway to end", house.running).await.unwrap();
}

fn bind_error(config: Config) -> GatewayError {
    let (router, _mailboxes) = crate::routing::router::Router::to_test(1, 1);
    let outstanding = crate::routing::outstanding::Outstanding::new(1);
    let (metrics, clock) = (crate::metrics::Metrics::new(), crate::clock::Clock::start(0));
    let desk = Desk { router, outstanding, metrics, clock };
    let (_announcer, listener) = shutdown::channel();
    match Gateway::bind(config.into(), Cores::here(), desk, listener) {
        Ok(_) => panic!("bound"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_named() {
    let house = open(config());
    let mut second = config();
    second.gateway.listen = house.address;
    let error = bind_error(second).to_string();
    assert_eq!(error, format!("{} is in use by another process", house.address));

    let mut open_to_all = config();
    open_to_all.gateway.listen = "0.0.0.0:0".parse().unwrap();
    assert!(matches!(open_to_all.auth, Auth::None));
    assert!(matches!(bind_error(open_to_all), GatewayError::OpenToAll { .. }));
}
