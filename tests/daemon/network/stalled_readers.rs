//! Goal: a device that stops reading for a while holds up nobody, costs the daemon no more than its window, and
//! reads on as if nothing had been, in the same session.
//! Method: a stall of the whole connection while far more is sent than any buffer on the way holds; a control pair
//! talks meanwhile.

use serde_json::json;

use super::conversation::enter;
use crate::common::control_pair::ControlPair;
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::proxy::{Plan, Proxy};

const MESSAGES: usize = 3000;
const BODY_BYTES: usize = 2000;
/// Sends that bob keeps unanswered.
const OPEN: usize = 100;
/// Of the daemon, while 6 MB are sent to somebody who does not read: windows, sockets, the memtable of
/// the inboxes (16 MiB at most) and what any daemon allocates once.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_reading_for_a_while_misses_nothing() {
    let daemon = Daemon::start(|_| {}).await;
    let proxy = Proxy::start(daemon.port(), Plan::default).await;
    let mut pair = ControlPair::start(&daemon, "control").await;
    pair.rounds_more(30).await;
    let history = History::new();
    let mut alice = enter(&proxy.url(), &history, "alice", &[("window", 64)]).await;
    let mut bob = enter(&daemon.url(), &history, "bob", &[]).await;
    let rss_before = daemon.rss_bytes();

    proxy.stall();
    let padding = "x".repeat(BODY_BYTES);
    let mut stored = 0;
    for number in 0..MESSAGES + OPEN {
        if number < MESSAGES {
            bob.send("alice", &format!("m-{number}"), json!({"number": number, "padding": padding})).await;
        }
        if number >= OPEN {
            // Nobody acknowledges anything, so this is what being on disk looks like.
            assert_eq!(bob.expect("accepted").await["stored"], true);
            stored += 1;
        }
    }
    assert_eq!(stored, MESSAGES);
    pair.rounds_more(5).await;
    let grown = daemon.peak_rss_bytes().saturating_sub(rss_before);
    assert!(grown < GROWTH_BYTES_MAX, "the daemon's memory grew by {grown} bytes");

    proxy.flow();
    for number in 0..MESSAGES {
        let message = alice.expect("message").await;
        assert_eq!(message["body"]["number"], number, "{}", message["id"]);
        if number % 10 == 9 || number + 1 == MESSAGES {
            alice.ack(message["seq"].as_u64().unwrap()).await;
        }
    }
    alice.expect_nothing().await;
    alice.leave().await;
    bob.leave().await;
    let report = history.assert_clean();
    assert_eq!((proxy.accepted(), report.redeliveries), (1, 0), "it was one session: {report}");
    let witness = pair.finish().await;
    println!("memory grew by {} KiB; the pair's slowest round took {:?}", grown >> 10, witness.slowest_round);
}
