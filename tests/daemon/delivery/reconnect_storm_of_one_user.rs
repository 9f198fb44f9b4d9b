//! Goal: a user whose devices come, go and push each other out as fast as they can still gets everything,
//! in order, and nothing twice without a mark.
//! Method: several connections fight for each of two devices while senders pour; some leave politely,
//! some vanish, some are replaced in mid-sentence. When the storm is over both devices take what is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::common::client::{Heard, Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::delivery::exchange::{accepted, counter, pour, take_until, until_empty};

const DEVICES: [&str; 2] = ["phone", "laptop"];
const SENDERS: usize = 3;
const EACH: usize = 200;
const CONNECTIONS_MIN: usize = 60;
/// Who hears nothing for so long tries another connection.
const RESTLESS: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_in_order_whoever_wins() {
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("store.page_messages", 4).set("limits.max_handshakes", 64);
    })
    .await;
    for device in DEVICES {
        TestClient::open(&daemon, Options::of("bob", device).record(&history)).await.leave().await;
    }
    let over = Arc::new(AtomicBool::new(false));
    let connections = Arc::new(AtomicUsize::new(0));
    let mut storm = JoinSet::new();
    for fighter in 0..6 {
        let options = Options::of("bob", DEVICES[fighter % 2]).hello("window", 3 + fighter).record(&history);
        storm.spawn(fight(daemon.url(), options, fighter, over.clone(), connections.clone()));
    }
    let mut senders = JoinSet::new();
    for number in 0..SENDERS {
        let options = Options::of(&format!("sender-{number}"), "phone").record(&history);
        let mut client = TestClient::open(&daemon, options).await;
        let connections = connections.clone();
        senders.spawn(async move {
            let mut burst = 0;
            while burst * 20 < EACH || connections.load(Ordering::Relaxed) < CONNECTIONS_MIN {
                pour(&mut client, &["bob"], &format!("m-{burst}"), 20).await;
                burst += 1;
            }
            client
        });
    }
    let mut senders = senders.join_all().await;
    over.store(true, Ordering::Relaxed);
    storm.join_all().await;
    assert!(counter(&daemon, "takeovers").await > 0, "nobody was replaced");

    senders[0].send("bob", "last", 1).await;
    for device in DEVICES {
        let mut bob = TestClient::open(&daemon, Options::of("bob", device).record(&history)).await;
        take_until(&mut bob, "last").await;
        bob.pick("caught_up").await;
    }
    accepted(&mut senders[0], 1).await;
    until_empty(&daemon, "bob").await;
    history.assert_clean();
}

/// Connects again and again; takes a little, acknowledges a part of it, and leaves one way or another.
async fn fight(url: String, options: Options, fighter: usize, over: Arc<AtomicBool>, connections: Arc<AtomicUsize>) {
    let mut round = fighter;
    while !over.load(Ordering::Relaxed) {
        round += 1;
        let Ok(mut client) = TestClient::attempt(&url, &options).await else { continue };
        connections.fetch_add(1, Ordering::Relaxed);
        for _ in 0..round % 9 {
            match client.listener.next_within(RESTLESS).await {
                Some(Heard::Frame(frame)) if frame["type"] == "message" && !round.is_multiple_of(4) => {
                    let ack = serde_json::json!({"type": "ack", "seq": frame["seq"]});
                    let _gone = client.speaker.say(&ack).await.is_err();
                }
                Some(Heard::Frame(_)) => {}
                Some(Heard::Closed { .. } | Heard::Gone(_)) | None => break,
            }
        }
        if round.is_multiple_of(3) {
            let _gone = client.speaker.close(1000).await.is_err();
        }
    }
}
