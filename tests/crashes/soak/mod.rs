//! Goal: half an hour of everything at once, two restarts included, breaks no promise and leaves nothing behind:
//! memory, descriptors and disk space of the daemon stay level, and go back when all is drained.
//! Method: the real binary under a bounded load of senders, devices of many habits, passers-by and an operator
//! who looks. Every window of it is drained and judged by the history checker with a record of its own, so
//! that the test's memory stays bounded as well.
//!
//! `DOORSTEP_SOAK_MINUTES` is how long the load lasts. Under ten it is a rehearsal: levels are not judged.

mod cast;
mod desk;
mod devices;
mod gauges;
mod passers;
mod senders;
mod town;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::interval;

use crate::common::client::TestClient;
use crate::common::daemon::{Daemon, Settings};
use crate::common::history::{History, Report};
use crate::common::wait;
use devices::Device;
use gauges::Gauges;
use passers::Passer;
use senders::Sender;
use town::{Place, Town};

const MINUTES: u64 = 30;
/// Load between one drain and the next.
const WINDOW: Duration = Duration::from_secs(30);
/// Between two looks at the gauges.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// How long a repeat is recognised: until then the disk must remember.
const DEDUPE_WINDOW: Duration = Duration::from_secs(60);
/// What may lie on disk when nothing waits: journals of 64 MiB, which is the least that the storage engine takes,
/// a memtable of 16 MiB for the inboxes and of 4 for each of the others, and tables that are still to be merged.
const DISK_AT_REST_BYTES: u64 = 128 << 20;

fn configure(settings: &mut Settings) {
    settings
        .set("routing.evict_after", "5s")
        .set("presence.linger", "1s")
        .set("queue.dedupe_window", format!("{}s", DEDUPE_WINDOW.as_secs()))
        // Full within the first minutes, so that what is seen later is not its growth.
        .set("queue.dedupe_max", 20_000)
        // Likewise.
        .set("store.cache_bytes", "4MiB")
        .set("queue.expiry_grace", "1s")
        .set("store.dead_letters_bytes", "1MiB")
        .set("shutdown.reconnect_spread", "1s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half an hour; .ci/proofs/soak runs it"]
async fn a_long_mixed_load_breaks_nothing_and_leaves_nothing() {
    let minutes = std::env::var("DOORSTEP_SOAK_MINUTES").map_or(MINUTES, |text| text.parse().expect("minutes"));
    let (began, length) = (Instant::now(), Duration::from_secs(60 * minutes));
    let place = Arc::new(Place::new(Daemon::start(configure).await).await);
    let (end, over) = watch::channel(false);
    let desk = tokio::spawn(desk::look(place.clone(), over.clone()));
    let gauges = tokio::spawn(measure(place.clone(), over));
    let mut verdicts = JoinSet::new();
    // Both early, so that the last life is long enough to be judged.
    let mut stops = VecDeque::from([(length / 6, true), (length / 3, false)]);
    for number in 0.. {
        if began.elapsed() >= length {
            break;
        }
        let stop = stops.pop_front_if(|(due, _)| began.elapsed() >= *due).map(|(_, orderly)| orderly);
        let history = window(&place, number, stop).await;
        // Judged while the next window goes on; there are never more than two records.
        tell(&place, verdicts.join_next().await);
        verdicts.spawn_blocking(move || (number, history.assert_clean()));
        assert!(!desk.is_finished(), "the operator saw something that should not be: {:?}", desk.await);
    }
    tell(&place, verdicts.join_next().await);
    assert!(stops.is_empty(), "it was too short for two restarts");
    end.send_replace(true);
    desk.await.unwrap();
    let mut gauges = gauges.await.unwrap();
    println!("{}\n{gauges}", place.tally);
    let judged = gauges.assert_level();
    at_rest(&place, &mut gauges).await;
    println!("levels {}judged; all is well", if judged { "" } else { "not " });
}

fn tell(place: &Place, verdict: Option<Result<(u64, Report), JoinError>>) {
    let Some(verdict) = verdict else { return };
    let (number, report) = verdict.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()));
    print!("window {number}: {report}");
    for (what, times) in [
        ("durable sends", report.sent),
        ("accepted, stored", report.accepted_stored),
        ("accepted, handed over", report.accepted_handed_over),
        ("deliveries", report.deliveries),
        ("deliveries marked redelivered", report.redeliveries),
        ("sends cut off before an answer", report.unanswered),
    ] {
        place.tally.add(what, times);
    }
    place.tally.count("windows drained and judged");
}

async fn measure(place: Arc<Place>, over: watch::Receiver<bool>) -> Gauges {
    let (mut gauges, mut pace) = (Gauges::new(), interval(SAMPLE_EVERY));
    while !*over.borrow() {
        pace.tick().await;
        let daemon = place.daemon.read().await;
        let lives = ["orderly restarts", "restarts after kill -9"].map(|what| place.tally.of(what));
        gauges.sample(&daemon, lives.iter().sum::<u64>() as usize).await;
    }
    gauges
}

/// Load, an interruption in its middle if there is one, and a drain.
async fn window(place: &Arc<Place>, number: u64, stop: Option<bool>) -> History {
    let (town, end) = Town::open(place);
    // Everything from now on is owed to all devices.
    let entering = cast::devices().map(async |(user, device)| {
        let mut client = enter(&town, &user, device).await;
        assert_eq!(client.welcome["pending"], 0, "{user}/{device} had acknowledged everything");
        client.expect("caught_up").await;
        client.leave().await;
    });
    join_all(entering).await;
    let mut rng = fastrand::Rng::new();
    let mut devices = JoinSet::new();
    for (user, device) in cast::devices() {
        devices.spawn(Device::new(user, device, &town, rng.fork()).live());
    }
    let mut senders = JoinSet::new();
    for sender in 0..cast::SENDERS {
        senders.spawn(Sender::new(sender, number, &town, rng.fork()).work());
    }
    let mut passers = JoinSet::new();
    for passer in 0..cast::PASSERS {
        passers.spawn(Passer::new(passer, number, &town, rng.fork()).walk());
    }
    town.pause(WINDOW / 2).await;
    if let Some(orderly) = stop {
        place.restart(orderly).await;
    }
    town.pause(WINDOW / 2).await;
    end.send_replace(true);
    join(senders).await;
    join(devices).await;
    let unsure = join(passers).await;
    let passers = unsure.into_iter().flatten().map(|user| (user, "phone"));
    let draining = cast::devices().chain(passers).map(async |(user, device)| drain(&town, &user, device).await);
    join_all(draining).await;
    town.history
}

async fn drain(town: &Town, user: &str, device: &str) {
    let mut client = enter(town, user, device).await;
    loop {
        let frame = client.recv().await;
        match frame["type"].as_str().unwrap() {
            "caught_up" => break,
            "message" if frame["seq"].is_u64() => client.ack(frame["seq"].as_u64().unwrap()).await,
            // Somebody still types, or passes by.
            _ => {}
        }
    }
    client.leave().await;
}

async fn enter(town: &Town, user: &str, device: &str) -> TestClient {
    town.attempt(&town.options(user, device), false).await.unwrap_or_else(|| panic!("{user}/{device} was not let in"))
}

/// With nobody there and nothing waiting, everything is given back.
async fn at_rest(place: &Place, gauges: &mut Gauges) {
    let daemon = place.daemon.read().await;
    let mut last = None;
    let rest = wait::until_within(4 * DEDUPE_WINDOW, async || {
        let sample = gauges.sample(&daemon, usize::MAX).await;
        last = Some(sample);
        sample.is_at_rest(DISK_AT_REST_BYTES).then_some(sample)
    });
    let rest = rest.await;
    println!("at rest: {last:?}");
    assert!(rest.is_some(), "something is left: {last:?}");
}

async fn join<T: 'static>(mut tasks: JoinSet<T>) -> Vec<T> {
    let mut done = Vec::new();
    while let Some(ended) = wait::within("the end of an actor", tasks.join_next()).await {
        match ended {
            Ok(outcome) => done.push(outcome),
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
    done
}
