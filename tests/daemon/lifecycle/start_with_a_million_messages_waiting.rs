//! Goal: a start does not depend on what waits. With a million messages on disk the router is up about
//! as fast as with none, it has read a handful of records, and a user is loaded when somebody asks.
//! Method: ten messages of one user, stored by a router, are copied under the names of 100,000 others
//! through the engine, in synced batches, with all that belongs to them; the last batches are still in
//! the journals, which is the only thing that a start has to go through.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorstep::store::FjallEngine;
use doorstep::store::engine::{Engine, Keyspace};
use xxhash_rust::xxh3::xxh3_64;

use crate::common::client::TestClient;
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::traffic::collect;
use crate::common::wait;
use crate::lifecycle::place;

const USERS: u64 = 100_000;
const MESSAGES_OF_EACH: u64 = 10;
/// Dedupe has forgotten the rest: it remembers an hour or two of what may wait for a month.
const RECENT_USERS: u64 = 10_000;
/// Users of one synced batch.
const BATCH_USERS: u64 = 1000;
const TEMPLATE: &str = "u-000000";
/// Records that a start may read, whatever waits.
const READS_MAX: u64 = 100;
/// A start takes about a second in a release build on an idle machine. This one is neither; a start that
/// went through what waits would take longer even so.
const START_MAX: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_start_reads_a_handful_of_records_and_loads_nobody() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    for n in 0..MESSAGES_OF_EACH {
        let body = serde_json::json!({"from": "alice", "to": TEMPLATE, "id": format!("m{n}"), "body": {"n": n}});
        assert_eq!(daemon.admin_with("POST", "/v1/messages", &body).await.0, 200);
    }
    assert!(daemon.terminate().await.success());
    let empty = timed_restart(&mut daemon).await;
    assert!(daemon.terminate().await.success());

    let begun = Instant::now();
    fill(&daemon.data_dir()).await;
    let built = begun.elapsed();
    let full = timed_restart(&mut daemon).await;
    println!("built in {built:?}; a start with 10 messages took {empty:?}, with a million {full:?}");
    assert!(full < START_MAX, "a start with a million messages waiting took {full:?}");

    let reads = counter(&daemon, "doorstep_start_records_read_total").await;
    assert!((1..=READS_MAX).contains(&reads), "{reads} records were read at the start");
    let (_, stats) = daemon.admin("GET", "/v1/stats").await;
    assert_eq!(stats["queues"]["messages"], USERS * MESSAGES_OF_EACH, "{stats}");
    assert_eq!(stats["users_loaded"], 0, "nobody has asked for anyone: {stats}");

    let someone = TestClient::connect(&daemon, "u-077777", "phone").await;
    assert_eq!(someone.welcome["pending"], MESSAGES_OF_EACH, "{}", someone.welcome);
    let got = collect(&daemon, "u-099999", "phone", &history).await;
    let bodies: Vec<u64> = got.iter().map(|message| message["body"]["n"].as_u64().unwrap()).collect();
    assert_eq!(bodies, (0..MESSAGES_OF_EACH).collect::<Vec<_>>());
    let (_, stats) = daemon.admin("GET", "/v1/stats").await;
    assert!(stats["users_loaded"].as_u64().unwrap() <= 2, "two have come: {stats}");
    assert!(daemon.terminate().await.success());
}

/// Until it listens, as a newcomer sees it.
async fn timed_restart(daemon: &mut Daemon) -> Duration {
    let begun = Instant::now();
    daemon.restart().await;
    begun.elapsed()
}

/// Leaves a store as a router that was killed would: the engine has had the time to let go of journals
/// that it does not need any more, and no reason to write out what is in the last one.
async fn fill(data: &Path) {
    let engine = Arc::new(FjallEngine::open(data, 64 << 20).unwrap());
    let ours = engine.clone();
    tokio::task::spawn_blocking(move || multiply(&ours)).await.unwrap();
    let is_journal = |path: &Path| path.extension().is_some_and(|extension| extension == "jnl");
    wait::until("the older journals to be let go", async || {
        let entries = fs::read_dir(data).unwrap();
        (entries.filter(|entry| is_journal(&entry.as_ref().unwrap().path())).count() == 1).then_some(())
    })
    .await;
}

/// Gives everyone what the template user has: messages, what dedupe knows of them, when to look at them.
fn multiply(engine: &FjallEngine) {
    let records = |keyspaces: &[Keyspace]| -> Vec<_> {
        let of = |keyspace: &Keyspace| {
            let keyspace = *keyspace;
            place::all(engine, keyspace).into_iter().map(move |(key, value)| (keyspace, key, value))
        };
        keyspaces.iter().flat_map(of).collect()
    };
    let lasting = records(&[Keyspace::Inbox, Keyspace::Due]);
    let fading = records(&[Keyspace::Dedupe0, Keyspace::Dedupe1]);
    assert!(lasting.len() as u64 > MESSAGES_OF_EACH && fading.len() as u64 == MESSAGES_OF_EACH);
    for batch in 0..USERS / BATCH_USERS {
        let mut changes = Vec::new();
        for user in batch * BATCH_USERS..(batch + 1) * BATCH_USERS {
            let name = format!("u-{user:06}");
            let known = if user >= USERS - RECENT_USERS { &fading[..] } else { &[] };
            let entries = lasting.iter().chain(known);
            changes.extend(entries.map(|(keyspace, key, value)| (*keyspace, renamed(*keyspace, key, &name), value)));
        }
        engine.commit(&changes.iter().map(place::change).collect::<Vec<_>>()).unwrap();
    }
    let [messages, bytes] = place::numbers(engine, "totals")[..] else { panic!("two numbers") };
    place::put_numbers(engine, "totals", &[messages * USERS, bytes * USERS]);
}

/// The key as it would be with another name. Of what dedupe knows only where it lies is made right: it is there to
/// be many, and nobody looks for it.
fn renamed(keyspace: Keyspace, key: &[u8], name: &str) -> Vec<u8> {
    let mut key = key.to_vec();
    if let Some(at) = key.windows(TEMPLATE.len()).position(|part| part == TEMPLATE.as_bytes()) {
        key[at..at + TEMPLATE.len()].copy_from_slice(name.as_bytes());
    }
    if matches!(keyspace, Keyspace::Inbox | Keyspace::Dedupe0 | Keyspace::Dedupe1) {
        key[..4].copy_from_slice(&(xxh3_64(name.as_bytes()) as u32).to_be_bytes());
    }
    key
}

async fn counter(daemon: &Daemon, name: &str) -> u64 {
    let (status, text) = daemon.admin("GET", "/metrics").await;
    assert_eq!(status, 200);
    let text = text.as_str().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
}
