//! Goal: when an older hello of a device arrives after a newer one, there is one session at any time, the one whose
//! hello came last, and nothing is lost between the two.
//! Method: two connections of one device on roads of different length, both upgraded before either says hello;
//! somebody writes to the device all the time.

use std::time::Duration;

use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::conversation::{drain, enter, until_sessions};
use crate::common::client::{Heard, Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::proxy::{Plan, Proxy, Way};
use crate::common::wait;

const RACES: u64 = 8;
/// Read by the newer one before it is replaced, and by the older one before the race ends.
const READ: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn an_older_hello_that_comes_late_takes_over_and_loses_nothing() {
    let daemon = Daemon::start(|_| {}).await;
    let history = History::new();
    let mut bob = enter(&daemon.url(), &history, "bob", &[]).await;
    let options = Options::of("alice", "phone").record(&history);
    drain(&daemon.url(), &options).await;
    let (enough, mut stop) = tokio::sync::watch::channel(false);
    let writing = tokio::spawn(async move {
        let mut pace = interval(Duration::from_millis(2));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sent, mut answered) = (0, 0);
        while !*stop.borrow_and_update() || answered < sent {
            tokio::select! {
                _tick = pace.tick(), if !*stop.borrow() && sent < answered + 100 => {
                    bob.send("alice", &format!("m-{sent}"), sent).await;
                    sent += 1;
                }
                frame = bob.recv() => {
                    assert_eq!(frame["type"], "accepted", "{frame}");
                    answered += 1;
                }
                _change = stop.changed() => {}
            }
        }
        bob.leave().await;
        sent
    });
    for race in 0..RACES {
        let delay = Duration::from_millis(50 + 20 * race);
        run(&daemon, &options, delay).await;
    }
    enough.send_replace(true);
    let sent = wait::within("the end of the writing", writing).await.unwrap();
    drain(&daemon.url(), &options).await;
    let report = history.assert_clean();
    assert!(sent > 100 && report.accepted() == sent, "{report}");
}

async fn run(daemon: &Daemon, options: &Options, delay: Duration) {
    let slow = Way { delay, ..Way::default() };
    let slow = Plan { up: slow, down: Way::default() };
    let slow = Proxy::start(daemon.port(), move || slow.clone()).await;
    let mut older = TestClient::dial(&slow.url(), options).await.unwrap();
    let mut newer = TestClient::dial(&daemon.url(), options).await.unwrap();
    let older_hello = older.greet(options).await.unwrap();
    let newer_hello = newer.greet(options).await.unwrap();
    let mut newer = newer.welcomed(options, newer_hello).await.unwrap();
    let replaced = async {
        let mut read = 0;
        loop {
            match newer.listener.next().await {
                Heard::Frame(frame) if frame["type"] == "message" => {
                    read += 1;
                    // Sometimes nothing is acknowledged, and the other has to get it again. It may be too late.
                    if delay.as_millis() % 40 == 10 {
                        let ack = json!({"type": "ack", "seq": frame["seq"]});
                        let _broken = newer.speaker.say(&ack).await.is_err();
                    }
                }
                Heard::Frame(_) => {}
                Heard::Closed { code, .. } => break assert_eq!(code, 4409),
                end => panic!("{end:?}"),
            }
        }
        println!("after {delay:?} it was replaced, and had read {read}");
    };
    let welcomed = async {
        let mut older = older.welcomed(options, older_hello).await.unwrap();
        for _ in 0..READ {
            let message = older.pick("message").await;
            older.ack(message["seq"].as_u64().unwrap()).await;
        }
        older
    };
    let ((), older) = wait::within("the takeover", async { tokio::join!(replaced, welcomed) }).await;
    assert_eq!(until_sessions(daemon, "alice", 1).await, [older.session()]);
}
