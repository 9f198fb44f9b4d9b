//! Goal: what is no good upgrade request is answered as HTTP knows it, and the connection ends.
//! Method: a table of requests, written as bytes.

use crate::common::client::{Options, Refused, TestClient};
use crate::hostile::raw::{Raw, upgrade_request};
use crate::hostile::siege::{Siege, until_connections};

async fn status(siege: &Siege, request: &[u8]) -> (u16, String) {
    let mut raw = Raw::connect(&siege.daemon).await;
    raw.write(request).await.unwrap();
    raw.response().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_upgrade_gets_the_status_for_it() {
    let siege = Siege::begin(|_| ()).await;
    let good = upgrade_request("");
    let without = |line: &str| {
        let (before, after) = good.split_once(line).unwrap();
        format!("{before}{}", after.strip_prefix("\r\n").unwrap())
    };
    let cases: Vec<(u16, String)> = vec![
        (426, "GET /v1/connect HTTP/1.1\r\nhost: doorstep\r\n\r\n".to_owned()),
        (426, "GET /nowhere HTTP/1.1\r\nhost: doorstep\r\n\r\n".to_owned()),
        (426, without("connection: upgrade")),
        (426, without("upgrade: websocket")),
        (426, without("sec-websocket-version: 13")),
        (426, good.replace("version: 13", "version: 12")),
        (400, without("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")),
        (400, good.replace("HTTP/1.1", "HTTP/1.0")),
        (405, good.replace("GET ", "POST ")),
        (405, good.replace("GET ", "CONNECT ")),
        (405, "POST /v1/messages HTTP/1.1\r\nhost: doorstep\r\ncontent-length: 2\r\n\r\n{}".to_owned()),
        (404, good.replace("/v1/connect", "/")),
        (404, good.replace("/v1/connect", "/v1/connect/")),
        (404, good.replace("/v1/connect", "/v2/connect")),
        (404, good.replace("/v1/connect", "/V1/CONNECT")),
        (404, good.replace("/v1/connect", "//v1/connect")),
        (404, good.replace("/v1/connect", "/v1/../v1/connect")),
        (404, good.replace("/v1/connect", "/v1/%63onnect")),
        (404, good.replace("/v1/connect", "/v1/stats")),
        (404, good.replace("/v1/connect", "/metrics")),
        (404, good.replace("/v1/connect", "/../../etc/passwd")),
        (400, upgrade_request("sec-websocket-protocol: mqtt\r\n")),
        (400, upgrade_request("sec-websocket-protocol: doorstep.v2, doorstep\r\n")),
        (400, upgrade_request("sec-websocket-protocol: \r\n")),
        (400, upgrade_request("no colon\r\n")),
        (400, upgrade_request(": no name\r\n")),
        (400, upgrade_request("a name: with a space\r\n")),
        (400, good.replace("GET /v1/connect", "GET /v1/con nect")),
        (400, "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}".to_owned()),
        (400, "hello?\r\n\r\n".to_owned()),
        (400, "{\"type\":\"hello\",\"user\":\"mallory\"}\r\n\r\n".to_owned()),
    ];
    for (expected, request) in &cases {
        let (found, response) = status(&siege, request.as_bytes()).await;
        let shown: String = request.chars().take(120).collect();
        assert_eq!(found, *expected, "{shown:?} was answered {response:?}");
        assert!(response.to_lowercase().contains("connection: close"), "{response:?}");
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_heads_are_refused_before_they_are_collected() {
    let siege = Siege::begin(|_| ()).await;
    let long_header = upgrade_request(&format!("x-long: {}\r\n", "x".repeat(1 << 20)));
    let many_headers = upgrade_request(&"x-one-of-many: 1\r\n".repeat(200));
    let long_path = upgrade_request("").replace("/v1/connect", &format!("/v1/connect?{}", "x".repeat(1 << 20)));
    let endless = "x".repeat(1 << 20);
    for request in [long_header, many_headers, long_path, endless] {
        let mut raw = Raw::connect(&siege.daemon).await;
        // It may be refused before it is all written; then the answer may be lost with the connection.
        if raw.write(request.as_bytes()).await.is_ok() {
            let (found, response) = raw.response().await;
            assert!(found == 400 || found == 431, "{found}: {response:?}");
        }
    }
    until_connections(&siege.daemon, 2).await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_from_elsewhere_are_refused_with_403() {
    let siege = Siege::begin(|_| ()).await;
    let with_origin = |origin: &str| Options::of("mallory", "phone").header("origin", origin);
    for origin in [
        "https://evil.example",
        "http://evil.example:7400",
        "null",
        "file://",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://evil.example/127.0.0.1",
        "http://127.0.0.1@evil.example",
        "http://0.0.0.0",
        "",
    ] {
        let refused = TestClient::attempt(&siege.daemon.url(), &with_origin(origin)).await.err();
        assert!(matches!(refused, Some(Refused::Upgrade(403))), "{origin}: {refused:?}");
    }
    for origin in ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:8443"] {
        TestClient::open(&siege.daemon, with_origin(origin)).await.leave().await;
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_origins_on_the_list_are_let_in() {
    let siege = Siege::begin(|settings| {
        settings.set("gateway.allowed_origins", vec!["https://app.example".to_owned()]);
    })
    .await;
    let with_origin = |origin: &str| Options::of("mallory", "phone").header("origin", origin);
    for origin in [
        "http://app.example",
        "https://app.example:444",
        "https://app.example.evil.example",
        "https://xapp.example",
        "https://sub.app.example",
        "http://localhost",
        "https://app.example/",
        "*",
    ] {
        let refused = TestClient::attempt(&siege.daemon.url(), &with_origin(origin)).await.err();
        assert!(matches!(refused, Some(Refused::Upgrade(403))), "{origin}: {refused:?}");
    }
    TestClient::open(&siege.daemon, with_origin("https://app.example")).await.leave().await;
    // What is no browser sends no origin.
    TestClient::connect(&siege.daemon, "mallory", "phone").await.leave().await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subprotocol_is_ours_or_none() {
    let siege = Siege::begin(|_| ()).await;
    let offer = |offer: &str| Options::of("mallory", "phone").header("sec-websocket-protocol", offer);
    for other in ["mqtt", "doorstep.v2", "doorstep.v10", "DOORSTEP.V1"] {
        let refused = TestClient::attempt(&siege.daemon.url(), &offer(other)).await.err();
        assert!(matches!(refused, Some(Refused::Upgrade(400))), "{other}: {refused:?}");
    }
    TestClient::open(&siege.daemon, offer("mqtt, doorstep.v1")).await.leave().await;
    siege.end().await;
}
