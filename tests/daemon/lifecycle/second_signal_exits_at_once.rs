//! Goal: whoever asks twice means it: a second signal ends the router at once, although an orderly stop
//! is under way and would take longer. What was accepted is there after the next start.
//! Method: traffic, an operator's call that never ends and so holds up the stop, two signals.

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::traffic::{Sent, Traffic, collect};
use crate::common::wait;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_and_loses_nothing() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    let bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    // Reads nothing, so it never answers the goodbye.
    let deaf = TestClient::open(&daemon, Options::of("deaf", "phone").record(&history)).await;
    let mut traffic = Traffic::start(&daemon, &history, &["alice", "carol"], &["bob", "dave", "deaf"]).await;
    traffic.receive(bob, true);
    traffic.in_full_swing(500, 30).await;
    let _call = half_a_call(&daemon).await;

    daemon.signal(Signal::TERM);
    wait::until("the first signal to be heard", async || daemon.log().contains("asked to stop").then_some(())).await;
    daemon.signal(Signal::INT);
    let status = daemon.exit().await;
    assert_eq!(status.code(), Some(1), "it was cut short, and says so: {status}");
    let log = daemon.log();
    assert!(log.contains("a second signal"), "{log}");
    assert!(!log.contains("stopped"), "the orderly end was not waited for: {log}");

    drop(deaf);
    let (sent, _received) = traffic.ended().await;
    assert!(sent.iter().map(|seen| seen.answers.len()).sum::<usize>() >= 500);
    assert!(sent.iter().all(|seen: &Sent| seen.ids.len() >= seen.answers.len()));
    daemon.restart().await;
    for user in ["bob", "dave", "deaf"] {
        collect(&daemon, user, "phone", &history).await;
    }
    history.assert_clean();
}

/// The head of a call whose body never comes: the door waits for calls that are under way.
async fn half_a_call(daemon: &Daemon) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.socket()).await.unwrap();
    let head = "POST /v1/messages HTTP/1.1\r\nhost: doorstep\r\ncontent-length: 64\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}
