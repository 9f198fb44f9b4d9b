//! Goal: bytes may come one by one and late; the conversation is the same, on one connection.
//! Method: a proxy that writes single bytes, or holds everything back with jitter, under a heartbeat that is not
//! much longer than the way there and back.

use std::time::Duration;

use serde_json::json;

use super::conversation::{self, Conversation, enter};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::proxy::{Plan, Proxy, Way};

/// Sent at once to somebody far away, and how many of them may be under way.
const BURST: usize = 60;
const WINDOW: u64 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_through_one_byte_at_a_time() {
    let daemon = Daemon::start(conversation::configure).await;
    let up = Way { bytewise: true, ..Way::default() };
    let plan = Plan { down: Way { head_whole: true, ..up.clone() }, up };
    let proxy = Proxy::start(daemon.port(), move || plan.clone()).await;
    let report = Conversation::new(0).hold(&daemon.url(), &proxy.url()).await;
    assert_eq!((proxy.accepted(), report.redeliveries), (1, 0), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_way_with_jitter_needs_no_second_connection() {
    let daemon = Daemon::start(|settings| {
        settings.set("gateway.heartbeat", "600ms");
    })
    .await;
    let way = Way { delay: Duration::from_millis(75), jitter: Duration::from_millis(50), ..Way::default() };
    let plan = Plan { up: way.clone(), down: way };
    let proxy = Proxy::start(daemon.port(), move || plan.clone()).await;
    let report = Conversation::new(0).hold(&daemon.url(), &proxy.url()).await;
    assert_eq!((proxy.accepted(), report.redeliveries), (1, 0), "{report}");

    let history = History::new();
    let mut near = enter(&proxy.url(), &history, "alice", &[("window", WINDOW)]).await;
    let mut far = enter(&daemon.url(), &history, "bob", &[]).await;
    for number in 0..BURST {
        far.send("alice", &format!("m-{number}"), json!({"number": number})).await;
    }
    let near_side = async {
        for number in 0..BURST {
            let message = near.expect("message").await;
            assert_eq!(message["body"]["number"], number, "{message}");
            if (number + 1) % (WINDOW as usize / 2) == 0 || number + 1 == BURST {
                near.ack(message["seq"].as_u64().unwrap()).await;
            }
        }
    };
    let far_side = async {
        for _ in 0..BURST {
            far.expect("accepted").await;
        }
    };
    // Both read all the time, or they would not answer to pings.
    tokio::join!(near_side, far_side);
    near.leave().await;
    far.leave().await;
    let report = history.assert_clean();
    assert_eq!((proxy.accepted(), report.redeliveries), (2, 0), "{report}");
}
