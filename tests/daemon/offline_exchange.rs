//! Goal: the main job. What was accepted for somebody who is away is there when they come, also when the
//! router was killed in between, and gone once it is acknowledged.
//! Method: a real router, raw clients, every frame held against its schema and the whole exchange against
//! the contract; beside it a control pair where nothing is killed.

use crate::common::client::{Options, TestClient};
use crate::common::control_pair::ControlPair;
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::wait;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_for_someone_who_is_away_survives_a_kill() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "chat").record(&history)).await;
    alice.expect("caught_up").await;
    for id in ["m1", "m2", "m3"] {
        alice.send("bob", id, format!("hello {id}")).await;
        let accepted = alice.expect("accepted").await;
        assert_eq!(accepted["stored"], true, "nobody took it, so it must be on disk: {accepted}");
    }
    assert_eq!(waiting(&daemon).await, 3);

    daemon.kill9();
    daemon.restart().await;
    assert_eq!(waiting(&daemon).await, 3);

    let mut bob = TestClient::open(&daemon, Options::of("bob", "chat").record(&history)).await;
    for id in ["m1", "m2", "m3"] {
        let message = bob.expect("message").await;
        assert_eq!((&message["id"], &message["body"]), (&id.into(), &format!("hello {id}").into()));
        bob.ack(message["seq"].as_u64().unwrap()).await;
    }
    bob.expect("caught_up").await;
    wait::until("bob's queue to be empty", async || (waiting(&daemon).await == 0).then_some(())).await;
    let shown = daemon.command(&["queues"], "").await;
    assert!(shown.status.success() && !String::from_utf8_lossy(&shown.stdout).contains("bob"), "{shown:?}");
    let report = history.assert_clean();
    assert_eq!((report.accepted(), report.deliveries), (3, 3));
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_beside_them_does_not_disturb_a_pair() {
    let daemon = Daemon::start(|_| ()).await;
    let mut pair = ControlPair::start(&daemon, "control").await;
    let mut first = TestClient::connect(&daemon, "carol", "phone").await;
    first.expect("caught_up").await;
    let second = TestClient::connect(&daemon, "carol", "phone").await;
    assert_ne!(first.session(), second.session());
    assert_eq!(first.expect_close().await.0, 4409);
    pair.rounds_more(20).await;
    let witness = pair.finish().await;
    assert_eq!(witness.report.deliveries, witness.messages);
}

/// Messages in bob's queue, as the admin socket tells them.
async fn waiting(daemon: &Daemon) -> u64 {
    let (status, queue) = daemon.admin("GET", "/v1/queues/bob").await;
    assert_eq!(status, 200, "{queue}");
    queue["messages"].as_u64().unwrap()
}
