//! Goal: the dashboard shows its own browser everything the admin socket says, changes what that browser asks for, and
//! does neither for anybody else. Method: the real command beside a real daemon, spoken to in plain HTTP.

use doorstep::pages::DASHBOARD;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;

use super::{Response, ask};
use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::wait;

struct Dashboard {
    child: Child,
    port: u16,
    key: String,
}

impl Dashboard {
    async fn start(daemon: &Daemon) -> Self {
        let mut child = daemon.start_command(&["dashboard"]);
        let mut address = String::new();
        let mut stdout = BufReader::new(child.stdout.as_mut().unwrap());
        wait::within("an address", stdout.read_line(&mut address)).await.unwrap();
        let (host, key) = address.trim().split_once("/?key=").unwrap();
        let port = host.strip_prefix("http://127.0.0.1:").unwrap().parse().unwrap();
        Self { child, port, key: key.to_owned() }
    }

    /// A request with these further lines in its head.
    async fn ask(&self, line: &str, more: &str) -> Response {
        let port = self.port;
        let head = format!("{line} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n{more}\r\n");
        ask(port, &[&head]).await
    }

    /// Trades the key for a cookie, as a line of a head.
    async fn enter(&self) -> String {
        let response = self.ask(&format!("GET /?key={}", self.key), "").await;
        assert_eq!((response.status(), response.header("location")), (303, Some("/")));
        let cookie = response.header("set-cookie").unwrap();
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
        format!("cookie: {}\r\n", cookie.split(';').next().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_the_api_open_with_the_key_and_the_key_opens_once() {
    let daemon = Daemon::start(|_| {}).await;
    let dashboard = Dashboard::start(&daemon).await;
    for line in ["GET /", "GET /v1/stats", "GET /?key=0", "DELETE /v1/queues/bob", "GET /metrics"] {
        assert_eq!(dashboard.ask(line, "").await.status(), 403, "{line}");
    }
    let cookie = dashboard.enter().await;
    assert_eq!(dashboard.ask(&format!("GET /?key={}", dashboard.key), "").await.status(), 403, "traded already");
    assert_eq!(dashboard.ask(&format!("GET /?key={}", dashboard.key), &cookie).await.status(), 303, "a reload");
    for page in DASHBOARD {
        let response = dashboard.ask(&format!("GET {}", page.path), &cookie).await;
        assert_eq!((response.status(), response.header("content-type")), (200, Some(page.content_type)));
        assert_eq!(response.body.as_bytes(), page.bytes, "{}", page.path);
        assert!(response.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    }
    assert_eq!(dashboard.ask("GET /nowhere", &cookie).await.status(), 404);
    let config = dashboard.ask("GET /v1/config", &cookie).await;
    let (_, straight) = daemon.admin("GET", "/v1/config").await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&config.body).unwrap(), straight);
    assert!(dashboard.ask("GET /metrics", &cookie).await.body.ends_with("# EOF\n"));
    let missing = dashboard.ask("GET /v1/queues/nobody", &cookie).await;
    assert_eq!((missing.status(), missing.header("content-type")), (404, Some("application/problem+json")));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_page_itself_changes_anything() {
    let daemon = Daemon::start(|_| {}).await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone")).await;
    alice.send("bob", "m", "hello").await;
    alice.pick("accepted").await;
    let dashboard = Dashboard::start(&daemon).await;
    let cookie = dashboard.enter().await;
    let purge = "DELETE /v1/queues/bob";
    for more in [
        cookie.clone(),
        format!("{cookie}origin: http://evil.example\r\nx-doorstep-dashboard: 1\r\n"),
        "x-doorstep-dashboard: 1\r\n".to_owned(),
    ] {
        assert_eq!(dashboard.ask(purge, &more).await.status(), 403, "{more}");
    }
    let elsewhere = format!("GET /v1/stats HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n{cookie}\r\n");
    assert_eq!(ask(dashboard.port, &[&elsewhere]).await.status(), 403);
    assert_eq!(daemon.admin("GET", "/v1/queues/bob").await.1["messages"], 1);
    let own = format!("{cookie}origin: http://127.0.0.1:{}\r\nx-doorstep-dashboard: 1\r\n", dashboard.port);
    let purged = dashboard.ask(purge, &own).await;
    assert_eq!(purged.status(), 200, "{}", purged.body);
    assert_eq!(daemon.admin("GET", "/v1/dead-letters").await.1["dead_letters"][0]["reason"], "purged");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_flow_through_as_they_happen() {
    let daemon = Daemon::start(|_| {}).await;
    let dashboard = Dashboard::start(&daemon).await;
    let cookie = dashboard.enter().await;
    let mut stream = TcpStream::connect(("127.0.0.1", dashboard.port)).await.unwrap();
    let head = format!("GET /v1/events HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n{cookie}\r\n", dashboard.port);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut heard = String::new();
    until_hears(&mut stream, &mut heard, "event: stats").await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone")).await;
    alice.expect("caught_up").await;
    until_hears(&mut stream, &mut heard, "event: session_opened").await;
    assert!(heard.contains("content-type: text/event-stream"), "{heard}");
}

async fn until_hears(stream: &mut TcpStream, heard: &mut String, what: &str) {
    wait::within(what, async {
        while !heard.contains(what) {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).await.unwrap();
            assert!(count > 0, "the stream ended: {heard}");
            heard.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_gone_is_told_and_found_again() {
    let mut daemon = Daemon::start(|_| {}).await;
    let mut dashboard = Dashboard::start(&daemon).await;
    let cookie = dashboard.enter().await;
    daemon.kill9();
    let gone = dashboard.ask("GET /v1/stats", &cookie).await;
    assert_eq!((gone.status(), gone.header("content-type")), (502, Some("application/problem+json")));
    assert!(gone.body.contains("no daemon is listening"), "{}", gone.body);
    daemon.restart().await;
    assert_eq!(dashboard.ask("GET /v1/stats", &cookie).await.status(), 200);
    let pid = Pid::from_raw(dashboard.child.id().unwrap() as i32).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(wait::within("the end of the dashboard", dashboard.child.wait()).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_there_is_no_dashboard() {
    let mut daemon = Daemon::start(|_| {}).await;
    daemon.kill9();
    let output = daemon.command(&["dashboard"], "").await;
    assert_eq!(output.status.code(), Some(3));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("no daemon is listening"), "{complaint}");
}
