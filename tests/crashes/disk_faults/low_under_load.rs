//! Goal: when space runs low under load, durable sends are refused and acks and removals go on; nothing is
//! poisoned, and when there is room again sends are taken, without a restart.
//! Method: the real daemon on a disk of the tests' own, of which all but half of `store.min_free` is taken away
//! while senders have many sends unanswered.

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::traffic::{Traffic, collect};
use crate::common::wait;
use crate::shim::Disk;

const MIN_FREE_BYTES: u64 = 8 << 20;
const SENDERS: [&str; 3] = ["alice", "abel", "ada"];
const RECIPIENTS: [&str; 2] = ["bob", "cid"];

#[tokio::test(flavor = "multi_thread")]
async fn low_space_under_load_refuses_sends_and_lets_acks_go_on() {
    let Some(disk) = Disk::mount() else { return };
    let history = History::new();
    let mut daemon = Daemon::start(|settings| {
        settings.set("store.path", disk.store().to_str().unwrap()).set("store.min_free", "8MiB");
    })
    .await;
    for user in RECIPIENTS {
        assert!(collect(&daemon, user, "phone", &history).await.is_empty());
    }
    let traffic = Traffic::start(&daemon, &history, &SENDERS, &RECIPIENTS).await;
    traffic.in_full_swing(300, 20).await;
    disk.leave_room(MIN_FREE_BYTES / 2);
    until_store_is(&daemon, "low").await;
    let mut late = TestClient::open(&daemon, Options::of("late", "phone").record(&history)).await;
    late.expect("caught_up").await;
    late.send("bob", "refused", "hello").await;
    assert_eq!(late.expect("rejected").await["code"], "storage_unavailable");

    for user in RECIPIENTS {
        collect(&daemon, user, "phone", &history).await;
    }
    wait::until("the queues to be empty", async || {
        let (_, stats) = daemon.admin("GET", "/v1/stats").await;
        (stats["queues"]["messages"] == 0).then_some(())
    })
    .await;
    assert_eq!(daemon.admin("GET", "/v1/health").await.1["store"], "low");

    disk.make_room();
    until_store_is(&daemon, "ok").await;
    late.send("bob", "refused", "hello").await;
    late.expect("accepted").await;
    assert_eq!(collect(&daemon, "bob", "phone", &history).await.len(), 1);
    assert!(daemon.terminate().await.success());
    let (sent, _) = traffic.ended().await;
    for seen in sent {
        let refusals = seen.answers.values().filter_map(|answer| answer["code"].as_str());
        assert!(refusals.clone().count() > 0, "a sender was never refused");
        assert!(refusals.clone().all(|code| code == "storage_unavailable"), "{:?}", refusals.collect::<Vec<_>>());
    }
    history.assert_clean();
    assert_eq!(disk.failed(), 0, "the disk was never full");
}

async fn until_store_is(daemon: &Daemon, state: &str) {
    wait::until(state, async || {
        let (_, health) = daemon.admin("GET", "/v1/health").await;
        (health["store"] == state).then_some(())
    })
    .await;
}
