//! Goal: a start does not look at what waits: with a million messages waiting the router is up in about a
//! second and has read at most a hundred records, after a clean stop and after a SIGKILL.
//! Method: the store is filled through its own writer, in batches far larger than real ones; then the real
//! binary is started on it. `DOORSTEP_WAITING` sets another number of messages.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use doorstep::clock::{Clock, wall_us};
use doorstep::config::Config;
use doorstep::ids::{MessageId, Seq, UserId};
use doorstep::message::{Message, Tally};
use doorstep::metrics::Metrics;
use doorstep::store::writer::Cellar;
use doorstep::store::{CommitReport, Reporter, StoreState, Ticket, What, Write};

use super::common::client::TestClient;
use super::common::daemon::Daemon;
use super::support::metric;

const MESSAGES: u64 = 1_000_000;
const USERS: u64 = 1_000;
const BATCH: u64 = 20_000;
/// Far more than "about a second", for a busy machine and a build without optimisation; still far less
/// than looking at a million records takes.
const START_MAX: Duration = Duration::from_secs(5);
const RECORDS_MAX: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_not_look_at_what_waits() {
    let mut daemon = Daemon::start(|_| ()).await;
    assert!(daemon.terminate().await.success());
    let wanted = std::env::var("DOORSTEP_WAITING").map_or(MESSAGES, |text| text.parse().unwrap());
    let (path, filling) = (daemon.data_dir(), Instant::now());
    tokio::task::spawn_blocking(move || fill(&path, wanted)).await.unwrap();
    println!("{wanted} messages were stored in {:.1?}", filling.elapsed());
    for after in ["a clean stop", "a kill"] {
        let starting = Instant::now();
        daemon.restart().await;
        let took = starting.elapsed();
        let read = metric(&daemon, "doorstep_start_records_read_total").await;
        println!("after {after} it was up in {took:.1?} and had read {read} records");
        assert!(took < START_MAX, "the start after {after} took {took:?}");
        assert!(read <= RECORDS_MAX, "{read} records were read at the start after {after}");
        let (_, stats) = daemon.admin("GET", "/v1/stats").await;
        assert_eq!(stats["queues"]["messages"], wanted, "and all of it is still there");
        let mut client = TestClient::connect(&daemon, "user-7", "phone").await;
        assert_eq!(client.welcome["pending"], wanted / USERS);
        client.expect("message").await;
        daemon.kill9();
    }
}

/// Stores messages as the router would, only in larger batches.
fn fill(path: &Path, wanted: u64) {
    let config = Config::default();
    let store = doorstep::config::Store { path: path.to_owned(), min_free: 0, ..config.store };
    let cellar = Cellar::open(&store, &config.queue, Metrics::new()).unwrap();
    let clock = Clock::start(cellar.boot.floor.0);
    // Two batches ahead of the disk at most.
    let (done, reports) = sync_channel(2);
    let writer = cellar.start(1, clock, Arc::new(Gauge(done))).unwrap();
    let first = clock.now().us;
    let users: Vec<_> = (0..USERS).map(|n| UserId::new(&format!("user-{n}")).unwrap()).collect();
    let mut tallies = vec![Tally::default(); users.len()];
    let mut under_way = 0;
    for batch in 0..wanted.div_ceil(BATCH) {
        let numbers = batch * BATCH..((batch + 1) * BATCH).min(wanted);
        let writes = numbers.map(|n| {
            let user = (n % USERS) as usize;
            let message = message(Seq(first + n), n);
            tallies[user] = tallies[user].plus(message.weight());
            let (tally, ticket) = (tallies[user], Ticket::default());
            Write {
                user: users[user].clone(),
                what: What::Append { message: Arc::new(message), tally, digest: n, ticket },
            }
        });
        writer.submit(0, writes.collect());
        under_way += 1;
        if under_way > 2 {
            reports.recv().unwrap();
            under_way -= 1;
        }
    }
    (0..under_way).for_each(|_| reports.recv().unwrap());
    writer.close(true).unwrap();
}

fn message(seq: Seq, number: u64) -> Message {
    let now_ms = wall_us() / 1000;
    Message {
        seq,
        id: MessageId::new(&format!("m{number}")).unwrap(),
        from: UserId::new("alice").unwrap(),
        body: format!("{{\"number\":{number}}}").into(),
        ts_ms: now_ms,
        expires_ms: now_ms + 86_400_000,
        retry: false,
    }
}

/// Says when a batch is on disk.
struct Gauge(SyncSender<()>);

impl Reporter for Gauge {
    fn committed(&self, _shard: usize, report: CommitReport) {
        assert!(report.error.is_none(), "{report:?}");
        self.0.send(()).unwrap();
    }

    fn ceiling(&self, _ceiling: Seq) {}

    fn state(&self, _state: StoreState) {}
}
