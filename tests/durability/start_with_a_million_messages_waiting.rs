//! Goal: a start does not look at what waits: with a million messages waiting the router is up in about a
//! second and has read at most a hundred records, after a clean stop and after a SIGKILL.
//! Method: the store is filled through the engine, with records as the published format describes them;
//! then the real binary is started on it. What is asserted is processor time, which a busy machine does not
//! change; the time on the clock is printed. `DOORSTEP_WAITING` sets another number of messages.

use std::path::Path;
use std::time::{Duration, Instant};

use doorstep::clock::wall_us;
use doorstep::ids::{MessageId, UserId};
use doorstep::message::Message;
use doorstep::store::FjallEngine;
use doorstep::store::engine::{Change, Engine, Keyspace};
use xxhash_rust::xxh3::xxh3_64;

use super::common::client::TestClient;
use super::common::daemon::Daemon;
use super::support::metric;

const MESSAGES: u64 = 1_000_000;
const USERS: u64 = 1_000;
const SENDER: &str = "alice";
/// A build without optimisation spends most of it on the engine's journal, which has a fixed bound.
const CPU_TIME_MAX: Duration = Duration::from_secs(6);
const RECORDS_MAX: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_not_look_at_what_waits() {
    let mut daemon = Daemon::start(|_| ()).await;
    assert!(daemon.terminate().await.success());
    let wanted = std::env::var("DOORSTEP_WAITING").map_or(MESSAGES, |text| text.parse().unwrap());
    let (path, filling) = (daemon.data_dir(), Instant::now());
    tokio::task::spawn_blocking(move || fill(&path, wanted / USERS)).await.unwrap();
    println!("{wanted} messages were stored in {:.1?}", filling.elapsed());
    for after in ["a clean stop", "a kill"] {
        let starting = Instant::now();
        daemon.restart().await;
        let (took, cpu_time) = (starting.elapsed(), daemon.cpu_time());
        let read = metric(&daemon, "doorstep_start_records_read_total").await;
        println!("after {after}: up in {took:.1?}, {cpu_time:.1?} of them busy, {read} records read");
        assert!(cpu_time < CPU_TIME_MAX, "the start after {after} took {cpu_time:?} of processor time");
        assert!(read <= RECORDS_MAX, "{read} records were read at the start after {after}");
        let (_, stats) = daemon.admin("GET", "/v1/stats").await;
        assert_eq!(stats["queues"]["messages"], wanted, "and all of it is still there");
        let mut client = TestClient::connect(&daemon, "user-7", "phone").await;
        assert_eq!(client.welcome["pending"], wanted / USERS);
        assert_eq!(client.expect("message").await["from"], SENDER);
        daemon.kill9();
    }
}

/// Stores messages a user at a time, with older seqs than the router has given out.
fn fill(path: &Path, each: u64) {
    let engine = FjallEngine::open(path, 8 << 20).unwrap();
    let now_us = wall_us();
    let (sender, first) = (UserId::new(SENDER).unwrap(), now_us - 3_600_000_000);
    let (mut messages, mut bytes) = (0, 0);
    for user in 0..USERS {
        let mut tally = [0, 0];
        let mut changes = Vec::new();
        for number in 0..each {
            let (seq, body) = (first + user * each + number, format!("{{\"number\":{number}}}"));
            let id = MessageId::new(&format!("m{number}")).unwrap();
            tally[0] += 1;
            tally[1] += Message::weight_of(body.as_bytes(), &id, &sender);
            let key = [format!("user-{user}\0").as_bytes(), &seq.to_be_bytes()].concat();
            let mut fields = vec![0];
            for number in [now_us / 1000, now_us / 1000 + 86_400_000, tally[0], tally[1]] {
                fields.extend(number.to_be_bytes());
            }
            for text in [id.as_str(), SENDER] {
                fields.push(text.len() as u8);
                fields.extend(text.as_bytes());
            }
            fields.extend(body.as_bytes());
            changes.push(Change { keyspace: Keyspace::Inbox, key, value: Some(record(&fields)) });
        }
        (messages, bytes) = (messages + tally[0], bytes + tally[1]);
        let totals = [messages.to_be_bytes(), bytes.to_be_bytes()].concat();
        changes.push(Change { keyspace: Keyspace::Meta, key: b"totals".to_vec(), value: Some(record(&totals)) });
        engine.commit(changes).unwrap();
    }
}

/// Version, checksum, fields.
fn record(fields: &[u8]) -> Vec<u8> {
    [&[1][..], &xxh3_64(fields).to_be_bytes(), fields].concat()
}
