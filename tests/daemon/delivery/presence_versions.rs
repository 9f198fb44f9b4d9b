//! Goal: the versions of a user's presence only go up, whatever happens to the router, so that a watcher
//! that drops what is older never ends with a stale state.
//! Method: a watcher that remembers what it had over orderly stops and kills, with users who stay, go,
//! linger, hide or never come; after each restart, and at the end, it must know the truth.

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::delivery::roster::{Roster, at_the_side_door, hear, say_status, version, watch};

const USERS: [&str; 5] = ["bob", "leaving", "lingering", "hidden", "nobody"];

#[derive(Debug, Clone, Copy)]
enum End {
    Stop,
    Kill,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_never_ends_with_a_stale_state() {
    use End::{Kill, Stop};
    ends_with_the_truth("1m", &[Stop, Kill, Stop]).await;
    ends_with_the_truth("3ms", &[Kill, Stop]).await;
}

async fn ends_with_the_truth(evict_after: &str, ends: &[End]) {
    let history = History::new();
    let mut daemon = Daemon::start(|settings| {
        settings.set("presence.linger", "10m").set("routing.evict_after", evict_after);
    })
    .await;
    let mut roster = Roster::default();
    for end in ends {
        let mut wendy = open(&daemon, &history, "wendy").await;
        roster.watch(&mut wendy, &USERS).await;
        for user in USERS {
            // Nobody has come back yet, and a watcher that thought otherwise must learn it.
            roster.until(&mut wendy, user, "offline").await;
        }
        let mut users = Vec::new();
        for user in &USERS[..4] {
            users.push(open(&daemon, &history, user).await);
            roster.until(&mut wendy, user, "online").await;
        }
        for (client, state) in users.iter_mut().zip(["busy", "away", "online", "invisible"]) {
            say_status(client, state).await;
        }
        roster.until(&mut wendy, "bob", "busy").await;
        roster.until(&mut wendy, "leaving", "away").await;
        roster.until(&mut wendy, "hidden", "offline").await;
        users.remove(1).leave().await;
        roster.until(&mut wendy, "leaving", "offline").await;
        drop(users.remove(1));
        for user in USERS {
            let seen = roster.until(&mut wendy, user, truth(user)).await;
            assert_eq!(at_the_side_door(&daemon, user).await["version"], seen["version"], "{user} before {end:?}");
        }
        match end {
            End::Stop => assert!(daemon.terminate().await.success()),
            End::Kill => daemon.kill9(),
        }
        daemon.restart().await;
    }
    let mut wendy = open(&daemon, &history, "wendy").await;
    roster.watch(&mut wendy, &USERS).await;
    for user in USERS {
        let seen = roster.until(&mut wendy, user, "offline").await;
        let truth = at_the_side_door(&daemon, user).await;
        assert_eq!(truth["state"], "offline", "{truth}");
        assert_eq!(seen, truth);
        history.presence_is(user, version(&truth), "offline");
    }
    history.assert_clean();
}

/// How each user stands at the end of a round, for watchers.
fn truth(user: &str) -> &'static str {
    match user {
        "bob" => "busy",
        "lingering" => "online",
        _ => "offline",
    }
}

async fn open(daemon: &Daemon, history: &History, user: &str) -> TestClient {
    TestClient::open(daemon, Options::of(user, "phone").record(history)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_has_a_version_of_its_own() {
    let daemon = Daemon::start(|_| ()).await;
    let mut bob = TestClient::connect(&daemon, "bob", "phone").await;
    let mut wendy = TestClient::connect(&daemon, "wendy", "phone").await;
    let mut last = version(&watch(&mut wendy, "bob").await);
    for state in ["away", "busy", "online", "invisible", "online", "away", "online"] {
        say_status(&mut bob, state).await;
        let change = hear(&mut wendy, "bob").await;
        assert_eq!(change["state"], if state == "invisible" { "offline" } else { state });
        assert!(version(&change) > last, "{change} after {last}");
        last = version(&change);
    }
}
