//! Goal: after a restart a whole crowd of clients comes back at once, and each gets its backlog, whole and in order,
//! with what it had before marked; after an orderly stop they were told to come spread over the time that is
//! configured.
//! Method: raw clients that cost little, with one message unacknowledged at the stop and two at the kill; all
//! try again at the same moment, with the usual back-off, and there are five times as many as may be in a
//! handshake.
//!
//! `DOORSTEP_CLIENTS` is how many there are; `.ci/proofs/reconnects` takes five thousand.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::task::JoinSet;

use super::light::{Letter, Light, Return, wait_out};
use crate::common::client::TestClient;
use crate::common::daemon::Daemon;
use crate::common::wait;

const CLIENTS: usize = 1000;
/// Descriptors that are no clients; the daemon keeps so many for itself.
const OTHER_DESCRIPTORS: u64 = 512;
const SPREAD: Duration = Duration::from_secs(1);
/// Sends that the writer keeps unanswered.
const OPEN: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_comes_back_at_once() {
    let crowd = crowd();
    let mut daemon = Daemon::start(|settings| {
        settings.set("shutdown.reconnect_spread", "1s").set("gateway.heartbeat", "5m").set("log.level", "warn");
        settings.set("limits.max_handshakes", (crowd / 5) as i64);
    })
    .await;
    let clients = come(&daemon, vec![Duration::ZERO; crowd], "for the first time", &[]).await;
    let clients = write(&daemon, clients, "first").await;

    let ends: JoinSet<_> =
        numbered(clients).map(|(number, client)| async move { (number, client.end().await) }).collect();
    assert!(daemon.terminate().await.success());
    let waits: Vec<Duration> = join(ends).await.into_iter().map(|wait| wait.expect("a time to come back")).collect();
    let (first, last) = (*waits.iter().min().unwrap(), *waits.iter().max().unwrap());
    assert!(last - first <= SPREAD, "from {first:?} to {last:?} is more than was configured");
    let early = waits.iter().filter(|wait| **wait < first + SPREAD / 2).count();
    assert!((crowd / 4..crowd * 3 / 4).contains(&early), "{early} of {crowd} in the first half is no spread");
    daemon.restart().await;
    let clients = come(&daemon, waits, "after an orderly stop", &[("first", true)]).await;
    let clients = write(&daemon, clients, "second").await;

    daemon.kill9();
    daemon.restart().await;
    drop(clients);
    let clients =
        come(&daemon, vec![Duration::ZERO; crowd], "after kill -9", &[("first", true), ("second", true)]).await;
    drop(clients);
    let stats = wait::until("all to be acknowledged", async || {
        let (_, stats) = daemon.admin("GET", "/v1/stats").await;
        (stats["queues"]["messages"] == 0).then_some(stats)
    });
    println!("connections at the end: {}", stats.await["counters"]["connects"]);
}

/// How many there are to be, with the soft limit of descriptors as high as it may be.
fn crowd() -> usize {
    let crowd = std::env::var("DOORSTEP_CLIENTS").map_or(CLIENTS, |text| text.parse().expect("a number of clients"));
    let limit = getrlimit(Resource::Nofile);
    // What came of it is seen by looking again.
    let _refused = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_err();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let wanted = crowd as u64 + OTHER_DESCRIPTORS;
    assert!(limit >= wanted, "{limit} open files are too few for {crowd} clients; {wanted} are needed (ulimit -Hn)");
    crowd
}

/// Everybody comes after a wait of its own, and finds `backlog`: what it is, and whether it is marked.
async fn come(daemon: &Daemon, waits: Vec<Duration>, when: &str, backlog: &[(&str, bool)]) -> Vec<Light> {
    let (port, began, last) = (daemon.port(), Instant::now(), backlog.len() == 2);
    let coming: JoinSet<_> = numbered(waits)
        .map(|(number, wait)| async move {
            wait_out(wait).await;
            let mut back = Light::come(port, &format!("user-{number}")).await;
            if let Some(letter) = back.backlog.last().filter(|_| last) {
                back.client.ack(letter.seq).await;
            }
            (number, back)
        })
        .collect();
    let back: Vec<Return> = join(coming).await;
    let tries: Vec<u64> = back.iter().map(|back| back.tries).collect();
    println!(
        "{} clients came {when} within {:.1?}; {} tries, {} at most for one",
        back.len(),
        began.elapsed(),
        tries.iter().sum::<u64>(),
        tries.iter().max().unwrap()
    );
    for (number, back) in back.iter().enumerate() {
        let found: Vec<_> = back.backlog.iter().map(|letter| (letter.id.clone(), letter.redelivered)).collect();
        let wanted: Vec<_> = backlog.iter().map(|(id, marked)| (format!("{id}-{number}"), *marked)).collect();
        assert_eq!(found, wanted, "user-{number}, {when}");
        assert!(back.backlog.is_sorted_by_key(|letter| letter.seq), "{:?}", back.backlog);
    }
    back.into_iter().map(|back| back.client).collect()
}

/// One message to each, which it gets and does not acknowledge.
async fn write(daemon: &Daemon, clients: Vec<Light>, name: &str) -> Vec<Light> {
    let crowd = clients.len();
    let wanted = name.to_owned();
    let hearing: JoinSet<_> = numbered(clients)
        .map(move |(number, mut client)| {
            let wanted = format!("{wanted}-{number}");
            async move {
                let Letter { id, redelivered, .. } = client.letter().await;
                assert_eq!((id, redelivered), (wanted, false));
                (number, client)
            }
        })
        .collect();
    let mut writer = TestClient::connect(daemon, "writer", "pen").await;
    writer.expect("caught_up").await;
    for number in 0..crowd + OPEN {
        if number < crowd {
            writer.send(&format!("user-{number}"), &format!("{name}-{number}"), json!({"number": number})).await;
        }
        if number >= OPEN {
            assert_eq!(writer.expect("accepted").await["stored"], true, "nobody has acknowledged it");
        }
    }
    writer.leave().await;
    join(hearing).await
}

fn numbered<T>(all: Vec<T>) -> impl Iterator<Item = (usize, T)> {
    all.into_iter().enumerate()
}

/// What the tasks come to, in the order of their numbers.
async fn join<T: 'static>(mut tasks: JoinSet<(usize, T)>) -> Vec<T> {
    let mut done = Vec::new();
    while let Some(ended) = wait::within("somebody of the crowd", tasks.join_next()).await {
        done.push(ended.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic())));
    }
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}
