//! Goal: a router that cannot start says why, in words that name the place, and touches nothing of whoever
//! is there; what a killed one left behind does not stand in the way.
//! Method: a second router on each thing that the first one holds; stores and sockets that are not ours.

use std::os::unix::net::UnixListener;

use doorstep::store::FjallEngine;
use doorstep::store::engine::{Change, Engine, Keyspace};
use xxhash_rust::xxh3::xxh3_64;

use super::common::daemon::{Daemon, Exited};
use super::common::history::History;
use super::support::{accepted, enter, send};

#[tokio::test]
async fn a_live_admin_socket_is_refused() {
    let first = Daemon::start(|_| ()).await;
    let socket = text(&first.socket());
    let exited = refused(Daemon::try_start(|settings| _ = settings.set("admin.socket", socket.clone())).await);
    says(&exited, &[&socket]);
    still_works(&first).await;
}

#[tokio::test]
async fn a_stale_admin_socket_is_replaced() {
    let mut daemon = Daemon::start(|_| ()).await;
    daemon.kill9();
    assert!(daemon.socket().exists(), "a killed router leaves its socket");
    daemon.restart().await;
    assert_eq!(daemon.admin("GET", "/v1/health").await.0, 200);
}

#[tokio::test]
async fn what_is_not_a_socket_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("precious");
    std::fs::write(&file, "precious").unwrap();
    let exited = refused(Daemon::try_start(|settings| _ = settings.set("admin.socket", text(&file))).await);
    says(&exited, &[&text(&file), "not a socket"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn a_store_in_use_is_refused_with_its_path() {
    let first = Daemon::start(|_| ()).await;
    let data = text(&first.data_dir());
    let exited = refused(Daemon::try_start(|settings| _ = settings.set("store.path", data.clone())).await);
    says(&exited, &[&data, "in use"]);
    still_works(&first).await;
}

#[tokio::test]
async fn a_port_in_use_says_so() {
    let first = Daemon::start(|_| ()).await;
    let address = format!("127.0.0.1:{}", first.port());
    let exited = refused(Daemon::try_start(|settings| _ = settings.set("gateway.listen", address.clone())).await);
    says(&exited, &[&address, "in use"]);
    still_works(&first).await;
}

#[tokio::test]
async fn a_port_in_use_leaves_the_store_clean() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    accepted(&send(&mut alice, "bob", "m1", "one").await, true);
    drop(alice);
    assert!(daemon.terminate().await.success());
    let other = std::net::TcpListener::bind(("127.0.0.1", daemon.port())).unwrap();
    let exited = daemon.try_restart().await.expect_err("the port is taken");
    says(&exited, &["in use"]);
    drop(other);
    daemon.restart().await;
    // Nothing is marked: neither the failed start nor the clean stop before it pushed anything.
    let mut bob = super::common::client::TestClient::connect(&daemon, "bob", "phone").await;
    let message = bob.expect("message").await;
    assert!(message["redelivered"].is_null(), "{message}");
}

#[tokio::test]
async fn a_store_of_a_newer_format_is_refused_and_left_as_it_is() {
    let mut daemon = Daemon::start(|_| ()).await;
    assert!(daemon.terminate().await.success());
    let data = daemon.data_dir();
    let newer = 7u64.to_be_bytes();
    let value = [&[1][..], &xxh3_64(&newer).to_be_bytes(), &newer].concat();
    let engine = FjallEngine::open(&data, 1 << 20).unwrap();
    let change = Change { keyspace: Keyspace::Meta, key: b"format".to_vec(), value: Some(value.clone()) };
    engine.commit(vec![change]).unwrap();
    drop(engine);
    let exited = daemon.try_restart().await.expect_err("it is newer");
    says(&exited, &[&text(&data), "format 7"]);
    let engine = FjallEngine::open(&data, 1 << 20).unwrap();
    assert_eq!(engine.get(Keyspace::Meta, b"format").unwrap(), Some(value));
}

#[tokio::test]
async fn a_socket_of_another_program_that_listens_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("other.sock");
    let _other = UnixListener::bind(&path).unwrap();
    let exited = refused(Daemon::try_start(|settings| _ = settings.set("admin.socket", text(&path))).await);
    says(&exited, &[&text(&path)]);
    assert!(path.exists());
}

fn refused(started: Result<Daemon, Exited>) -> Exited {
    match started {
        Ok(_) => panic!("it should not have started"),
        Err(exited) => exited,
    }
}

/// It ended with 1 and said all of this, on standard error.
fn says(exited: &Exited, parts: &[&str]) {
    assert_eq!(exited.status.code(), Some(1), "{}", exited.stderr);
    for part in parts {
        assert!(exited.stderr.contains(part), "{part:?} is missing in: {}", exited.stderr);
    }
}

async fn still_works(daemon: &Daemon) {
    let history = History::new();
    assert_eq!(daemon.admin("GET", "/v1/health").await.0, 200);
    let mut alice = enter(daemon, &history, "alice", "chat").await;
    accepted(&send(&mut alice, "bob", "m1", "one").await, true);
}

fn text(path: &std::path::Path) -> String {
    path.to_str().unwrap().to_owned()
}
