//! Goal: half an hour of everything at once, two restarts included, breaks no promise and leaves nothing behind:
//! memory, descriptors and disk space of the daemon stay level, and go back when all is drained.
//! Method: the real binary under a bounded load of senders, devices of many habits, passers-by and an operator
//! who looks. Every window of it is drained and judged by the history checker with a record of its own, so
//! that the test's memory stays bounded as well.
//!
//! `DOORSTEP_SOAK_MINUTES` is how long the load lasts. Under ten it is a rehearsal: levels are not judged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in a test a broken expectation is a panic, and this one prints what it measured"
)]

mod cast;
#[path = "../common/mod.rs"]
mod common;
mod desk;
mod devices;
mod gauges;
mod passers;
#[allow(dead_code, reason = "of the network only the resets are needed here")]
#[path = "../network/proxy.rs"]
mod proxy;
mod senders;
mod town;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;

use common::client::TestClient;
use common::daemon::{Daemon, Settings};
use common::history::Report;
use common::wait;
use devices::Device;
use gauges::Gauges;
use passers::Passer;
use senders::Sender;
use town::{Place, Town};

const MINUTES: u64 = 30;
/// The load is cut into so many windows, each of at least [`WINDOW_MIN`].
const WINDOWS: u64 = 30;
const WINDOW_MIN: Duration = Duration::from_secs(10);
/// Looks at the gauges in one window.
const SAMPLES: u32 = 6;
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
        .set("queue.expiry_grace", "1s")
        .set("store.dead_letters_bytes", "1MiB")
        .set("shutdown.reconnect_spread", "1s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half an hour; .ci/proofs/soak runs it"]
async fn a_long_mixed_load_breaks_nothing_and_leaves_nothing() {
    let minutes = std::env::var("DOORSTEP_SOAK_MINUTES").map_or(MINUTES, |text| text.parse().expect("minutes"));
    let length = (Duration::from_secs(60 * minutes) / WINDOWS as u32).max(WINDOW_MIN);
    let windows = (60 * minutes / length.as_secs()).max(3) as usize;
    let place = Arc::new(Place::new(Daemon::start(configure).await).await);
    let (end, over) = watch::channel(false);
    let desk = tokio::spawn(desk::look(place.clone(), over));
    let mut gauges = Gauges::new();
    for number in 0..windows {
        // Both early, so that the last life is long enough to be judged.
        let stop = [(windows / 6, true), (windows / 3, false)].into_iter().find(|(at, _)| *at == number);
        let report = window(&place, &mut gauges, number, length, stop.map(|(_, orderly)| orderly)).await;
        println!("window {} of {windows}: {report}", number + 1);
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
        assert!(!desk.is_finished(), "the operator saw something that should not be: {:?}", desk.await);
    }
    end.send_replace(true);
    desk.await.unwrap();
    println!("{}\n{gauges}", place.tally);
    let judged = gauges.assert_level();
    at_rest(&place, &mut gauges).await;
    println!("levels {}judged; all is well", if judged { "" } else { "not " });
}

/// Load, an interruption in its middle if there is one, a drain and the verdict.
async fn window(
    place: &Arc<Place>,
    gauges: &mut Gauges,
    number: usize,
    length: Duration,
    stop: Option<bool>,
) -> Report {
    let (town, end) = Town::open(place);
    // Everything from now on is owed to all devices.
    for (user, device) in cast::devices() {
        let mut client = enter(&town, &user, device).await;
        assert_eq!(client.welcome["pending"], 0, "{user}/{device} had acknowledged everything");
        client.expect("caught_up").await;
        client.leave().await;
    }
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
    let mut ticks = interval(length / SAMPLES);
    ticks.tick().await;
    for tick in 1..=SAMPLES {
        ticks.tick().await;
        let lives = ["orderly restarts", "restarts after kill -9"].map(|what| place.tally.of(what));
        gauges.sample(&*place.daemon.read().await, lives.iter().sum::<u64>() as usize).await;
        if let Some(orderly) = stop.filter(|_| tick == SAMPLES / 2) {
            place.restart(orderly).await;
        }
    }
    end.send_replace(true);
    join(senders).await;
    join(devices).await;
    let unsure = join(passers).await;
    let passers = unsure.into_iter().flatten().map(|user| (user, "phone"));
    for (user, device) in cast::devices().chain(passers) {
        drain(&town, &user, device).await;
    }
    town.history.assert_clean()
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
