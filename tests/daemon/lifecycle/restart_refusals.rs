//! Goal: a router that must not start says why, in words that name the thing, and leaves what was there
//! as it was. A leftover of a killed one is no obstacle.
//! Method: a second router in the way of a first, foreign things at the paths, a store of the future.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::{Daemon, Exited};
use crate::common::history::History;
use crate::common::traffic::collect;
use crate::lifecycle::place;

#[tokio::test(flavor = "multi_thread")]
async fn a_live_admin_socket_is_refused_and_its_router_goes_on() {
    let history = History::new();
    let first = Daemon::start(|_| ()).await;
    let refused = Daemon::try_start(|settings| {
        settings.set("admin.socket", text(&first.socket()));
    })
    .await;
    assert_refused(refused, &[&text(&first.socket())]);
    assert_works(&first, &history).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_a_killed_router_left_is_replaced() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    daemon.kill9();
    assert!(daemon.socket().exists(), "a killed router cannot tidy up");
    daemon.restart().await;
    assert_works(&daemon, &history).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_socket_is_left_alone() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    send_one(&daemon, "bob", "m1", &history).await;
    assert!(daemon.terminate().await.success());
    fs::write(daemon.socket(), "precious").unwrap();
    assert_refused(daemon.try_restart().await, &[&text(&daemon.socket())]);
    assert_eq!(fs::read_to_string(daemon.socket()).unwrap(), "precious");

    fs::remove_file(daemon.socket()).unwrap();
    daemon.restart().await;
    assert_untouched(&daemon, &history).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_is_refused_with_its_path() {
    let history = History::new();
    let mut first = Daemon::start(|_| ()).await;
    send_one(&first, "bob", "m1", &history).await;
    let refused = Daemon::try_start(|settings| {
        settings.set("store.path", text(&first.data_dir()));
    })
    .await;
    assert_refused(refused, &[&text(&first.data_dir()), "in use"]);
    assert_works(&first, &history).await;
    assert!(first.terminate().await.success());
    first.restart().await;
    assert_untouched(&first, &history).await;
}

/// The port is taken after the store was opened: that must not look like a crash afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_says_so_and_the_store_stays_clean() {
    let history = History::new();
    let (first, mut second) = (Daemon::start(|_| ()).await, Daemon::start(|_| ()).await);
    send_one(&second, "bob", "m1", &history).await;
    assert!(second.terminate().await.success());
    let address = format!("127.0.0.1:{}", first.port());
    second.move_to(first.port());
    assert_refused(second.try_restart().await, &[&address, "in use"]);
    assert!(!second.socket().exists(), "the admin socket of a start that failed does not stay");
    second.restart_anywhere().await;
    assert_untouched(&second, &history).await;
    assert_works(&first, &History::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_format_is_refused_and_stays_as_it_is() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    send_one(&daemon, "bob", "m1", &history).await;
    assert!(daemon.terminate().await.success());
    let data = daemon.data_dir();
    let ours = place::inside(&data, |engine| place::numbers(engine, "format"));
    for other in [&[1][..], &[7]] {
        place::inside(&data, |engine| place::put_numbers(engine, "format", other));
        let before = place::inside(&data, contents);
        assert_refused(daemon.try_restart().await, &[&text(&data), &format!("format {}", other[0]), "format 2 only"]);
        assert!(place::inside(&data, contents) == before, "the refusal changed the store");
    }
    place::inside(&data, |engine| place::put_numbers(engine, "format", &ours));
    daemon.restart().await;
    assert_untouched(&daemon, &history).await;
}

/// When the disk is bad, it knows best what is wrong. What it tells of its ordinary work is for those who ask.
#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_the_storage_engine_are_in_the_log() {
    let mut daemon = Daemon::start(|settings| {
        settings.set("log.level", "info,fjall=info");
    })
    .await;
    assert!(daemon.terminate().await.success());
    let data = daemon.data_dir();
    place::inside(&data, |engine| place::put_numbers(engine, "format", &[7]));
    let Err(exited) = daemon.try_restart().await else { panic!("it started") };
    assert!(exited.stderr.contains("Recovering database"), "{}", exited.stderr);
}

/// Every key and value of the store.
fn contents(engine: &doorstep::store::FjallEngine) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    doorstep::store::engine::Keyspace::ALL.map(|keyspace| place::all(engine, keyspace)).into()
}

fn assert_refused<T>(start: Result<T, Exited>, words: &[&str]) {
    let Err(exited) = start else { panic!("it started, where it had to refuse: {words:?}") };
    assert_eq!(exited.status.code(), Some(1), "{}", exited.stderr);
    let last = exited.stderr.lines().last().unwrap_or_default();
    for word in words {
        assert!(last.contains(word), "{word:?} is not in the last words: {}", exited.stderr);
    }
}

/// One message there and back: the router serves.
async fn assert_works(daemon: &Daemon, history: &History) {
    send_one(daemon, "erin", "w1", history).await;
    let got = collect(daemon, "erin", "phone", history).await;
    assert_eq!(got.len(), 1);
    assert_eq!(daemon.admin("GET", "/v1/health").await.0, 200);
    history.assert_clean();
}

/// The message that waited is there, and no unclean stop was seen in between: it is not marked.
async fn assert_untouched(daemon: &Daemon, history: &History) {
    let got = collect(daemon, "bob", "phone", history).await;
    assert_eq!(got.iter().map(|message| &message["id"]).collect::<Vec<_>>(), ["m1"]);
    assert_eq!(got[0]["redelivered"], Value::Null, "it was never pushed: {}", got[0]);
    history.assert_clean();
}

async fn send_one(daemon: &Daemon, to: &str, id: &str, history: &History) {
    let mut alice = TestClient::open(daemon, Options::of("alice", "phone").record(history)).await;
    alice.expect("caught_up").await;
    alice.send(to, id, "hello").await;
    assert_eq!(alice.expect("accepted").await["stored"], true);
    alice.leave().await;
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
