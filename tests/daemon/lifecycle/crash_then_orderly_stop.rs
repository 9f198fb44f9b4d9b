//! Goal: what was pushed before a crash is marked when it comes again, however many orderly stops lie in
//! between: only the device itself could say that it never saw it.
//! Method: a device that was pushed to and acknowledged nothing, a kill, and runs of the router in which
//! the device does not come: one that ends in order, and one that may not even begin.

use serde_json::{Value, json};

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::traffic::collect;

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_does_not_forget_the_crash_before_it() {
    let history = History::new();
    let mut daemon = pushed_and_killed(&history).await;
    for _ in 0..2 {
        daemon.restart().await;
        assert!(daemon.terminate().await.success());
    }
    daemon.restart().await;
    assert_marked(&daemon, &history).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_refused_does_not_forget_it_either() {
    let history = History::new();
    let other = Daemon::start(|_| ()).await;
    let mut daemon = pushed_and_killed(&history).await;
    daemon.move_to(other.port());
    assert!(daemon.try_restart().await.is_err(), "the port is taken");
    daemon.restart_anywhere().await;
    assert_marked(&daemon, &history).await;
}

/// Bob's phone was given `old` and said nothing; then the router was killed.
async fn pushed_and_killed(history: &History) -> Daemon {
    let mut daemon = Daemon::start(|_| ()).await;
    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(history)).await;
    bob.expect("caught_up").await;
    send(&daemon, "old", history).await;
    bob.expect("message").await;
    daemon.kill9();
    daemon
}

/// The old message is marked, one that came after the crash is not.
async fn assert_marked(daemon: &Daemon, history: &History) {
    send(daemon, "new", history).await;
    let got = collect(daemon, "bob", "phone", history).await;
    let marks: Vec<_> = got.iter().map(|message| (&message["id"], &message["redelivered"])).collect();
    assert_eq!(marks, [(&json!("old"), &json!(true)), (&json!("new"), &Value::Null)]);
    history.assert_clean();
}

async fn send(daemon: &Daemon, id: &str, history: &History) {
    let mut alice = TestClient::open(daemon, Options::of("alice", "phone").record(history)).await;
    alice.expect("caught_up").await;
    alice.send("bob", id, "hello").await;
    alice.expect("accepted").await;
    alice.leave().await;
}
