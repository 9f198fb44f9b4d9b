//! Goal: a record that decayed costs that one message: it becomes a dead letter and an ERROR in the log, and
//! its neighbours are delivered.
//! Method: a byte of a stored record is flipped through the engine while the router is down.

use std::ops::ControlFlow;

use doorstep::store::FjallEngine;
use doorstep::store::engine::{Change, Engine, KeyRange, Keyspace, Order};
use serde_json::json;

use super::common::client::{Options, TestClient};
use super::common::daemon::Daemon;
use super::common::history::History;
use super::common::wait;
use super::support::{accepted, dead_letters, enter, receive, register, send, waiting};

/// Which of five are damaged: in the middle, at the front, at the end, neighbours.
const DAMAGES: [&[usize]; 4] = [&[2], &[0], &[4], &[1, 2]];

#[tokio::test]
async fn one_bad_record_costs_one_message() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    let mut seqs = Vec::new();
    for (number, _) in DAMAGES.iter().enumerate() {
        register(&daemon, &history, &user(number), "phone").await;
        let mut places = Vec::new();
        for id in ["m0", "m1", "m2", "m3", "m4"] {
            places.push(accepted(&send(&mut alice, &user(number), id, "of some length").await, true));
        }
        seqs.push(places);
    }
    drop(alice);
    assert!(daemon.terminate().await.success());
    damage(&daemon);
    daemon.restart().await;

    for (number, damaged) in DAMAGES.iter().enumerate() {
        let mut client = TestClient::open(&daemon, Options::of(&user(number), "phone").record(&history)).await;
        for (at, seq) in seqs[number].iter().enumerate().filter(|(at, _)| !damaged.contains(at)) {
            assert_eq!(receive(&mut client, &format!("m{at}"), false).await, *seq);
            client.ack(*seq).await;
        }
        client.expect("caught_up").await;
        let empty = async || (waiting(&daemon, &user(number)).await == 0).then_some(());
        wait::until("the inbox to be empty, the damaged ones included", empty).await;
        let own = wait::until("the dead letters", async || {
            let letters = dead_letters(&daemon).await.into_iter();
            let own: Vec<_> = letters.filter(|letter| letter["user"] == user(number)).collect();
            (own.len() == damaged.len()).then_some(own)
        })
        .await;
        let lost: Vec<_> = own.iter().map(|letter| letter["seq"].as_u64().unwrap()).collect();
        let expected: Vec<_> = damaged.iter().map(|at| seqs[number][*at]).collect();
        assert_eq!(lost, expected);
        assert!(own.iter().all(|letter| letter["reason"] == "corrupt" && letter["message"].is_null()), "{own:?}");
        for seq in lost {
            let said = |line: &str| line.contains("ERROR") && line.contains(&seq.to_string());
            wait::until("the damage in the log", async || daemon.log().lines().any(said).then_some(())).await;
        }
    }
    let totals = async || daemon.admin("GET", "/v1/stats").await.1["queues"].clone();
    wait::until("the totals to be of an empty store", async || {
        (totals().await == json!({"messages": 0, "bytes": 0})).then_some(())
    })
    .await;
    daemon.record_dead_letters(&history).await;
    history.assert_clean();
}

fn user(number: usize) -> String {
    format!("bob-{number}")
}

/// Flips one byte in each record that is to be damaged.
fn damage(daemon: &Daemon) {
    let engine = FjallEngine::open(&daemon.data_dir(), 1 << 20).unwrap();
    let mut records = Vec::new();
    let all = KeyRange { from: Vec::new(), to: vec![0xff; 200] };
    engine
        .scan(Keyspace::Inbox, &all, Order::Ascending, &mut |key, value| {
            records.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(records.len(), 5 * DAMAGES.len(), "users in order of name, messages in order of seq");
    let mut changes = Vec::new();
    for (number, damaged) in DAMAGES.iter().enumerate() {
        for at in *damaged {
            let (key, mut value) = records[number * 5 + at].clone();
            let middle = value.len() / 2;
            value[middle] ^= 0x10;
            changes.push(Change { keyspace: Keyspace::Inbox, key, value: Some(value) });
        }
    }
    engine.commit(changes).unwrap();
}
