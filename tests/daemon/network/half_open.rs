//! Goal: who is gone without a word is noticed, on either side and in bounded time, and nothing is lost by it.
//! Method: a proxy that from some moment on swallows everything, or reads nothing any more, and closes neither
//! side.

use std::time::{Duration, Instant};

use doorstep::client::{Client, Event, Options};
use doorstep::ids::{DeviceId, UserId};
use futures::StreamExt;
use serde_json::json;

use super::conversation::{drain, enter, until_sessions};
use crate::common::client::TestClient;
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::proxy::{Cut, Plan, Proxy};
use crate::common::wait;

const HEARTBEAT: &str = "1s";
const LINGER: &str = "500ms";
/// Two heartbeats and the linger take two seconds and a half. Far above that for a machine that is busy, and far below
/// the minute that the heartbeat takes by default.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

async fn start() -> (Daemon, Proxy) {
    let daemon = Daemon::start(|settings| {
        settings.set("gateway.heartbeat", HEARTBEAT).set("presence.linger", LINGER);
    })
    .await;
    let proxy = Proxy::start(daemon.port(), Plan::default).await;
    (daemon, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_is_let_go_and_gets_everything_later() {
    let (daemon, proxy) = start().await;
    let proxy = &proxy;
    let gone = async || proxy.cut(Cut::Vanish);
    is_let_go(&daemon, proxy, gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_on_is_let_go_and_gets_everything_later() {
    let (daemon, proxy) = start().await;
    let proxy = &proxy;
    let gone = async || proxy.stall();
    is_let_go(&daemon, proxy, gone).await;
}

async fn is_let_go(daemon: &Daemon, proxy: &Proxy, gone: impl AsyncFnOnce()) {
    let history = History::new();
    let mut watcher = enter(&daemon.url(), &history, "carol", &[]).await;
    let mut bob = enter(&daemon.url(), &history, "bob", &[]).await;
    let alice = enter(&proxy.url(), &history, "alice", &[]).await;
    watcher.say(json!({"type": "watch", "users": ["alice"]})).await;
    assert_eq!(watcher.pick("presence").await["users"][0]["state"], "online");

    gone().await;
    let began = Instant::now();
    bob.send("alice", "m-1", "into the void").await;
    assert_eq!(bob.pick("accepted").await["stored"], true, "no ack came, so it must be on disk");
    // Whoever does not read answers no ping either.
    let away = tokio::select! {
        presence = watcher.pick("presence") => presence,
        frame = bob.recv() => panic!("{frame} where nothing should come"),
    };
    assert_eq!(away["users"][0]["state"], "offline", "{away}");
    assert!(began.elapsed() < NOTICED_WITHIN, "it took {:?}", began.elapsed());
    until_sessions(daemon, "alice", 0).await;
    bob.send("alice", "m-2", "to nobody there").await;
    assert_eq!(bob.pick("accepted").await["stored"], true);
    drop(alice);

    let options = crate::common::client::Options::of("alice", "phone").record(&history);
    let mut alice = TestClient::attempt(&proxy.url(), &options).await.unwrap();
    let first = alice.expect("message").await;
    assert_eq!((&first["id"], &first["redelivered"]), (&"m-1".into(), &true.into()), "{first}");
    let second = alice.expect("message").await;
    assert_eq!((&second["id"], &second["redelivered"]), (&"m-2".into(), &serde_json::Value::Null), "{second}");
    alice.ack(second["seq"].as_u64().unwrap()).await;
    alice.expect("caught_up").await;
    assert_eq!(watcher.pick("presence").await["users"][0]["state"], "online");
    alice.leave().await;
    drain(&daemon.url(), &options).await;
    drop((bob, watcher));
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_leaves_a_router_that_vanished() {
    let (daemon, proxy) = start().await;
    let history = History::new();
    let mut bob = enter(&daemon.url(), &history, "bob", &[]).await;
    let options = Options::new(proxy.url(), DeviceId::new("phone").unwrap()).user(UserId::new("alice").unwrap());
    let (client, mut events) = Client::connect(Options { backoff_max: Duration::from_millis(200), ..options });
    until_connected(&mut events).await;
    proxy.cut(Cut::Vanish);
    let began = Instant::now();
    let to = UserId::new("bob").unwrap();
    // It is answered when the library has noticed, come back and repeated it.
    let sending = async { client.send(&to, &json!("anybody there?")).await.unwrap() };
    let hearing = async {
        loop {
            match wait::within("the library to notice", events.next()).await {
                Some(Event::Disconnected { close_code, .. }) => break assert_eq!(close_code, None),
                Some(Event::CaughtUp { .. } | Event::Presence(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(began.elapsed() < NOTICED_WITHIN, "it took {:?}", began.elapsed());
        until_connected(&mut events).await;
    };
    let reading = async {
        let message = bob.expect("message").await;
        bob.ack(message["seq"].as_u64().unwrap()).await;
        message
    };
    let (accepted, (), message) = tokio::join!(sending, hearing, reading);
    assert_eq!(message["seq"].as_u64().unwrap(), accepted.seq.0);
    assert_eq!(message["redelivered"], true, "it is a repeat that the router does not know");
    bob.expect_nothing().await;
    assert_eq!(proxy.accepted(), 2);
}

async fn until_connected(events: &mut doorstep::client::Events) {
    loop {
        match wait::within("a session", events.next()).await {
            Some(Event::Connected(_)) => return,
            Some(Event::CaughtUp { .. } | Event::Presence(_) | Event::Disconnected { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}
