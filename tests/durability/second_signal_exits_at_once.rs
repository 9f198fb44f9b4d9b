//! Goal: whoever signals a second time does not want to wait: the router ends at once, with 1, and what was
//! accepted is safe all the same.
//! Method: a client that does not answer the close holds an orderly end up for a second; the second signal
//! comes within it.

use rustix::process::Signal;

use super::common::client::{Options, TestClient};
use super::common::daemon::Daemon;
use super::common::history::History;
use super::common::wait;
use super::support::{accepted, enter, receive, register, send};

#[tokio::test]
async fn the_second_signal_ends_it() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    register(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    let seq = accepted(&send(&mut alice, "bob", "m1", "one").await, true);
    // From here on Alice neither reads nor answers.
    daemon.signal(Signal::TERM);
    wait::until("the end to have begun", async || daemon.log().contains("asked to stop").then_some(())).await;
    daemon.signal(Signal::INT);
    let status = daemon.exit().await;
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(!daemon.log().contains("stopped"), "it did not wait for the orderly end");

    daemon.restart().await;
    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    // It was no clean stop, so this may have been pushed for all that the new one knows.
    assert_eq!(receive(&mut bob, "m1", true).await, seq);
    drop(alice);
    history.assert_clean();
}
