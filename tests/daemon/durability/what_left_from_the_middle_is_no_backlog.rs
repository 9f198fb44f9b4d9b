//! Goal: what expired or was purged from the middle of a queue counts for nobody any more: not against the
//! quota, not as the lag of a device that is away. Also after the record was loaded anew, when all there is to
//! go by is the difference of two tallies.
//! Method: an operator purges messages one by one, as expiry would, and the quota is tried out.

use super::support::{accepted, enter, receive, register, rejected, send, waiting};
use crate::common::client::TestClient;
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::wait;

const QUOTA: u64 = 6;

#[tokio::test]
async fn a_queue_is_full_by_what_is_in_it() {
    let history = History::new();
    let mut daemon = Daemon::start(|settings| {
        settings.set("queue.max_messages", QUOTA as i64);
    })
    .await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    let mut seqs = Vec::new();
    for number in 0..QUOTA {
        seqs.push(accepted(&send(&mut alice, "bob", &format!("m{number}"), "x").await, true));
    }
    rejected(&send(&mut alice, "bob", "over", "x").await, "queue_full");
    // Neither the first nor the last.
    purge(&daemon, &seqs[1..4]).await;
    for number in 0..3 {
        accepted(&send(&mut alice, "bob", &format!("n{number}"), "x").await, true);
    }
    rejected(&send(&mut alice, "bob", "over", "x").await, "queue_full");
    let (_, queue) = daemon.admin("GET", "/v1/queues/bob").await;
    purge(&daemon, &seqs[4..5]).await;
    assert_eq!(queue["messages"], QUOTA, "{queue}");

    daemon.restart_anywhere().await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    wait::until("the queue to be counted", async || {
        let answer = send(&mut alice, "bob", "after", "x").await;
        if answer["type"] == "rejected" {
            rejected(&answer, "queue_full");
            return None;
        }
        Some(accepted(&answer, true))
    })
    .await;
    rejected(&send(&mut alice, "bob", "over", "x").await, "queue_full");
    assert_eq!(waiting(&daemon, "bob").await, QUOTA);
}

#[tokio::test]
async fn a_device_lapses_by_what_it_lacks() {
    let history = History::new();
    let mut daemon = Daemon::start(|settings| {
        settings.set("queue.max_messages", QUOTA as i64);
    })
    .await;
    register(&daemon, &history, "bob", "laptop").await;
    let mut phone = enter(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    let mut kept = vec![one(&mut alice, &mut phone, "first").await];
    for number in 0..3 * QUOTA {
        let seq = one(&mut alice, &mut phone, &format!("m{number}")).await;
        purge(&daemon, &[seq]).await;
    }
    daemon.restart_anywhere().await;
    let mut phone = enter(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    for id in ["second", "third", "fourth"] {
        kept.push(one(&mut alice, &mut phone, id).await);
    }
    let mut laptop = TestClient::connect(&daemon, "bob", "laptop").await;
    assert!(laptop.welcome["gap"].is_null(), "{}", laptop.welcome);
    for (seq, id) in kept.iter().zip(["first", "second", "third", "fourth"]) {
        // Whatever came before a restart like this one may have been pushed.
        assert_eq!(receive(&mut laptop, id, id == "first").await, *seq);
    }
    laptop.expect("caught_up").await;
}

/// Stored for the laptop, had by the phone.
async fn one(alice: &mut TestClient, phone: &mut TestClient, id: &str) -> u64 {
    alice.send("bob", id, "x").await;
    let seq = receive(phone, id, false).await;
    phone.ack(seq).await;
    accepted(&alice.recv().await, true)
}

async fn purge(daemon: &Daemon, seqs: &[u64]) {
    for seq in seqs {
        let (status, answer) = daemon.admin("DELETE", &format!("/v1/queues/bob/messages/{seq}")).await;
        assert_eq!(status, 200, "{answer}");
    }
}
