//! Goal: a record that decayed on the disk costs its message and nothing else: it is logged as an error
//! and listed among the dead letters as `corrupt`, its neighbours arrive in order, the queue empties.
//! Method: bytes of stored records are changed through the engine while the router is stopped. A control
//! pair talks on while it finds them, and its memory is measured.

use std::collections::BTreeSet;

use doorstep::store::engine::Keyspace;
use serde_json::json;

use crate::common::client::{Options, TestClient};
use crate::common::control_pair::ControlPair;
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::traffic::collect;
use crate::common::wait;
use crate::lifecycle::place;

const MESSAGES: usize = 5;
/// By how much the daemon's memory may grow, whatever it finds.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn one_in_the_middle() {
    decay(&[2], true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ones_at_the_ends() {
    decay(&[0, 4], true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_there_are() {
    decay(&[0, 1, 2, 3, 4], true).await;
}

/// Nobody has a cursor yet; the first device begins at what is left.
#[tokio::test(flavor = "multi_thread")]
async fn before_the_user_ever_came() {
    decay(&[0, 3], false).await;
}

async fn decay(damaged: &[usize], registered: bool) {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    if registered {
        collect(&daemon, "bob", "phone", &history).await;
    }
    let seqs = fill(&daemon, &history).await;
    assert!(daemon.terminate().await.success());
    let bad: BTreeSet<u64> = damaged.iter().map(|at| seqs[*at]).collect();
    place::inside(&daemon.data_dir(), |engine| damage(engine, &bad));
    daemon.restart().await;
    let pair = ControlPair::start(&daemon, "control").await;
    let before = daemon.rss_bytes();

    let got = collect(&daemon, "bob", "phone", &history).await;
    let got: Vec<u64> = got.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    let sound: Vec<u64> = seqs.iter().filter(|seq| !bad.contains(seq)).copied().collect();
    assert_eq!(got, sound, "the neighbours, in order");
    wait::until("bob's queue to be empty", async || {
        let (_, queue) = daemon.admin("GET", "/v1/queues/bob").await;
        (queue["messages"] == 0 && queue["bytes"] == 0).then_some(())
    })
    .await;
    assert_buried(&daemon, &bad).await;
    daemon.record_dead_letters(&history).await;
    let witness = pair.finish().await;
    assert_eq!(witness.report.deliveries, witness.messages, "the control pair lost something");
    let grown = daemon.peak_rss_bytes().saturating_sub(before);
    assert!(grown <= GROWTH_BYTES_MAX, "the daemon's memory grew by {grown} bytes");

    // Life goes on behind it, over a restart too.
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    alice.expect("caught_up").await;
    alice.send("bob", "later", "hello").await;
    alice.expect("accepted").await;
    assert!(daemon.terminate().await.success());
    daemon.restart().await;
    let got = collect(&daemon, "bob", "phone", &history).await;
    assert_eq!(got.iter().map(|message| &message["id"]).collect::<Vec<_>>(), ["later"]);
    assert_buried(&daemon, &bad).await;
    assert_nothing_left(&daemon).await;
    let report = history.assert_clean();
    assert_eq!(report.accepted(), MESSAGES as u64 + 1);
}

/// Neither of what could be read nor of what could not.
async fn assert_nothing_left(daemon: &Daemon) {
    wait::until("the disk to be empty", async || {
        let (_, stats) = daemon.admin("GET", "/v1/stats").await;
        let (_, page) = daemon.admin("GET", "/v1/queues/bob/messages").await;
        let is_empty = page["messages"] == json!([]) && page["corrupt"] == json!([]);
        (is_empty && stats["queues"]["messages"] == 0).then_some(())
    })
    .await;
}

/// Alice leaves messages for bob; returns their seqs.
async fn fill(daemon: &Daemon, history: &History) -> Vec<u64> {
    let mut alice = TestClient::open(daemon, Options::of("alice", "phone").record(history)).await;
    alice.expect("caught_up").await;
    let mut seqs = Vec::new();
    for n in 0..MESSAGES {
        alice.send("bob", &format!("m{n}"), json!({"n": n, "text": "precious"})).await;
        seqs.push(alice.expect("accepted").await["seq"].as_u64().unwrap());
    }
    alice.leave().await;
    seqs
}

/// Changes one bit of each of these records, each somewhere else.
fn damage(engine: &doorstep::store::FjallEngine, seqs: &BTreeSet<u64>) {
    let mut damaged = 0;
    for (key, mut record) in place::all(engine, Keyspace::Inbox) {
        let seq = u64::from_be_bytes(*key.last_chunk().unwrap());
        if seqs.contains(&seq) {
            let at = damaged * 17 % record.len();
            record[at] ^= 1;
            place::put(engine, Keyspace::Inbox, &key, record);
            damaged += 1;
        }
    }
    assert_eq!(damaged, seqs.len());
}

/// Each of them is a dead letter once, and the log has an error that names its user and place.
async fn assert_buried(daemon: &Daemon, seqs: &BTreeSet<u64>) {
    let page = wait::until("the dead letters", async || {
        let (_, page) = daemon.admin("GET", "/v1/dead-letters").await;
        (page["dead_letters"].as_array().is_some_and(|letters| letters.len() >= seqs.len())).then_some(page)
    })
    .await;
    let letters = page["dead_letters"].as_array().unwrap();
    for letter in letters {
        assert_eq!((&letter["reason"], &letter["user"]), (&json!("corrupt"), &json!("bob")), "{letter}");
        assert!(letter["message"].is_null(), "nothing of it could be read: {letter}");
    }
    let listed: Vec<u64> = letters.iter().map(|letter| letter["seq"].as_u64().unwrap()).collect();
    assert_eq!(listed.len(), seqs.len(), "once each: {listed:?}");
    assert_eq!(&listed.into_iter().collect::<BTreeSet<_>>(), seqs);
    for seq in seqs {
        let tells = |line: &str| line.contains("ERROR") && line.contains("bob") && line.contains(&seq.to_string());
        wait::until("an error in the log", async || daemon.log().lines().any(tells).then_some(())).await;
    }
}
