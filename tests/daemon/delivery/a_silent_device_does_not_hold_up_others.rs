//! Goal: a device that is connected and never acknowledges anything costs nobody but itself: the user's
//! other device, and everybody else, get their messages as if it were not there.
//! Method: one mute device with a full window beside a lively one; a control pair beside both.

use crate::common::client::{Options, TestClient};
use crate::common::control_pair::ControlPair;
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::delivery::exchange::{device, ids, numbered, pour, take};

#[tokio::test(flavor = "multi_thread")]
async fn the_other_device_and_other_users_are_served_as_usual() {
    const SENT: usize = 400;
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("routing.shards", 1);
    })
    .await;
    let mut pair = ControlPair::start(&daemon, "control").await;
    let mute = Options::of("bob", "mute").hello("window", 4);
    let mut mute = TestClient::open(&daemon, mute).await;
    mute.expect("caught_up").await;
    let mut lively = TestClient::open(&daemon, Options::of("bob", "lively").record(&history)).await;
    lively.expect("caught_up").await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;

    let (messages, answers) = tokio::join!(take(&mut lively, SENT), pour(&mut alice, &["bob"], "m", SENT));
    assert_eq!(ids(&messages), numbered("m", SENT));
    assert!(answers.iter().all(|answer| answer["stored"] == true), "the mute one still lacks them");
    pair.rounds_more(5).await;

    let line = device(&daemon, "bob", "mute").await;
    assert_eq!((&line["in_flight"], &line["backlog_messages"]), (&4.into(), &SENT.into()), "{line}");
    let line = device(&daemon, "bob", "lively").await;
    assert_eq!(line["live"], true, "{line}");
    for expected in numbered("m", 4) {
        assert_eq!(mute.expect("message").await["id"], *expected, "what fits its window is there");
    }
    history.assert_clean();
    pair.finish().await;
}
