//! Goal: whoever opens the gateway's address in a browser gets the demo page, and no client notices that it is there.
//! Method: plain requests, whole and in pieces, beside clients; and in the modes that have no demo.

use doorstep::pages::DEMO;

use super::{Response, ask};
use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;

async fn get(daemon: &Daemon, path: &str) -> Response {
    ask(daemon.port(), &[&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_of_the_page_is_there_as_it_is() {
    let daemon = Daemon::start(|_| {}).await;
    for page in DEMO {
        let response = get(&daemon, page.path).await;
        assert_eq!(response.status(), 200, "{}", page.path);
        assert_eq!(response.header("content-type"), Some(page.content_type));
        assert!(response.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        assert_eq!(response.body.as_bytes(), page.bytes, "{}", page.path);
    }
    let (_, stats) = daemon.admin("GET", "/v1/stats").await;
    assert_eq!(stats["counters"]["hellos_refused"], 0, "looking at a page is no failed hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_pieces_is_the_same_request() {
    let daemon = Daemon::start(|_| {}).await;
    let request = "HEAD /?as=bob HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let pieces: Vec<&str> = request.split_inclusive("").collect();
    let response = ask(daemon.port(), &pieces).await;
    assert_eq!((response.status(), response.body.as_str()), (200, ""));
    assert_eq!(response.header("content-length"), Some(DEMO[0].bytes.len().to_string().as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_else_is_answered_as_before() {
    let daemon = Daemon::start(|_| {}).await;
    assert_eq!(get(&daemon, "/nowhere").await.status(), 426);
    assert_eq!(get(&daemon, "/v1/connect").await.status(), 426);
    assert_eq!(ask(daemon.port(), &["POST / HTTP/1.1\r\nhost: a\r\n\r\n"]).await.status(), 405);
    assert_eq!(ask(daemon.port(), &["what is this\r\n\r\n"]).await.status(), 400);
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone")).await;
    alice.expect("caught_up").await;
    alice.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_costs_no_more_than_half_a_hello() {
    let daemon = Daemon::start(|settings| {
        settings.set("gateway.hello_timeout", "50ms");
    })
    .await;
    assert_eq!(ask(daemon.port(), &["GET / HTTP/1.1\r\nhost: loc"]).await.status(), 408);
    let endless = "x".repeat(100_000);
    let response = ask(daemon.port(), &["GET / HTTP/1.1\r\nhost: ", &endless]).await;
    assert!([400, 408].contains(&response.status()), "{}", response.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_page_where_nobody_wants_one() {
    let daemon = Daemon::start(|settings| {
        settings.set("gateway.demo", false);
    })
    .await;
    assert_eq!(get(&daemon, "/").await.status(), 426);
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "0123456789abcdef0123456789abcdef").unwrap();
    let daemon = Daemon::start(|settings| {
        settings.set("auth.mode", "jwt").set("auth.key_file", key.path().to_str().unwrap());
    })
    .await;
    assert_eq!(get(&daemon, "/").await.status(), 426, "a page that lets people name themselves");
}
