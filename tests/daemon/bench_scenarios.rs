//! Goal: every scenario of `doorstep bench` runs to its end, tells figures that can be true, and leaves nothing behind.
//! Method: the real command against a real daemon, with loads that take no longer than a second or two; no figure is
//! compared with a time.

use crate::common::daemon::Daemon;
use crate::common::wait;
use serde_json::{Value, json};

/// Runs a scenario; its report. Everybody must be gone afterwards, and nothing left waiting.
async fn bench(daemon: &Daemon, scenario: &str) -> Value {
    let (url, socket) = (daemon.url(), daemon.socket());
    let target = ["--json", "--url", &url, "--socket", socket.to_str().unwrap()];
    let args: Vec<&str> = std::iter::once("bench").chain(scenario.split(' ')).chain(target).collect();
    let output = daemon.command(&args, "").await;
    assert!(output.status.success(), "{scenario}: {output:?}");
    wait::until("every device is unregistered", async || {
        let (_, users) = daemon.admin("GET", "/v1/users").await;
        (users["users"] == json!([])).then_some(())
    })
    .await;
    let (_, queues) = daemon.admin("GET", "/v1/queues").await;
    assert_eq!(queues["queues"], json!([]), "{scenario}: {queues}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {report}"))
}

fn assert_clean(report: &Value) {
    let faults = report["faults"].as_object().unwrap();
    assert!(!faults.is_empty() && faults.values().all(|count| count == 0), "{report}");
}

#[tokio::test]
async fn relay_tells_what_it_cost_the_router() {
    let daemon = Daemon::start(|_| {}).await;
    let report = bench(&daemon, "relay --pairs 3 --window 4 --duration 1s --warmup 100ms").await;
    assert_clean(&report);
    assert!(number(&report, "/messages_per_second") > 0.0, "{report}");
    assert!(number(&report, "/server/cpu_us_per_message") > 0.0, "{report}");
    assert!(number(&report, "/server/rss_mib") > 0.0, "{report}");
    assert!(number(&report, "/load_generator/cpu_share") > 0.0, "{report}");
}

#[tokio::test]
async fn client_tells_what_an_application_gets() {
    let daemon = Daemon::start(|_| {}).await;
    let report = bench(&daemon, "client --pairs 3 --duration 1s --warmup 100ms --verify").await;
    assert_clean(&report);
    assert!(number(&report, "/messages_per_second") > 0.0, "{report}");
    assert!(number(&report, "/accept_us/p50") > 0.0, "{report}");
    assert_eq!(number(&report, "/reconnects"), 0.0, "{report}");
}

#[tokio::test]
async fn client_outlives_a_router_that_is_killed() {
    let mut daemon = Daemon::start(|_| {}).await;
    let (url, socket) = (daemon.url(), daemon.socket());
    let work = ["bench", "client", "--pairs", "3", "--duration", "3s", "--warmup", "0s", "--verify"];
    let target = ["--json", "--url", &url, "--socket", socket.to_str().unwrap()];
    let running = daemon.start_command(&[&work[..], &target].concat());
    wait::until("there is traffic", async || {
        let (_, stats) = daemon.admin("GET", "/v1/stats").await;
        (number(&stats, "/counters/accepted_handed_over") > 100.0).then_some(())
    })
    .await;
    let port = daemon.port();
    daemon.kill9();
    daemon.move_to(port);
    daemon.restart().await;
    let output = running.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_clean(&report);
    assert!(number(&report, "/reconnects") > 0.0, "{report}");
}

/// A client would go on trying; whoever asks for figures wants to know that there is no router.
#[tokio::test]
async fn client_without_a_router_says_so() {
    let mut daemon = Daemon::start(|_| {}).await;
    daemon.kill9();
    let output = daemon.command(&["bench", "client", "--pairs", "1", "--url", &daemon.url()], "").await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[tokio::test]
async fn a_router_that_cannot_be_looked_at_is_left_out_of_the_report() {
    let daemon = Daemon::start(|_| {}).await;
    let args = ["bench", "relay", "--pairs", "1", "--duration", "1s", "--warmup", "0s", "--url", &daemon.url()];
    let output = daemon.command(&args, "").await;
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("unknown: --server-pid, or --socket"), "{table}");
}

#[tokio::test]
async fn latency_keeps_to_its_rate() {
    let daemon = Daemon::start(|_| {}).await;
    let report = bench(&daemon, "latency --pairs 4 --rate 200 --duration 2s --warmup 100ms --verify").await;
    assert_clean(&report);
    // What is due in two seconds, and a little for the edges.
    let delivered = number(&report, "/delivered");
    assert!(delivered > 0.0 && delivered <= 440.0, "{report}");
    assert!(number(&report, "/delivery_us/p50") > 0.0, "{report}");
}

#[tokio::test]
async fn spill_is_stored_and_arrives_afterwards() {
    let daemon = Daemon::start(|_| {}).await;
    let report = bench(&daemon, "spill --senders 3 --users 7 --messages 100 --window 8 --verify").await;
    assert_clean(&report);
    assert_eq!((number(&report, "/accepted"), number(&report, "/stored_share")), (100.0, 1.0), "{report}");
    assert!((1.0..=100.0).contains(&number(&report, "/commits")), "{report}");
}

#[tokio::test]
async fn spill_wants_a_user_for_every_sender() {
    let daemon = Daemon::start(|_| {}).await;
    let args = ["bench", "spill", "--senders", "3", "--users", "2", "--url", &daemon.url()];
    let output = daemon.command(&args, "").await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[tokio::test]
async fn replay_brings_everything_with_live_pairs_beside_it() {
    let daemon = Daemon::start(|_| {}).await;
    let spill = "--senders 3 --users 7 --messages 500 --window 8 --verify";
    let report = bench(&daemon, &format!("replay {spill} --at-once 2 --live-pairs 2 --live-rate 100")).await;
    assert_clean(&report);
    assert_eq!(number(&report, "/delivered"), 500.0, "{report}");
    assert!(number(&report, "/live_delivery/before_us/p99") > 0.0, "{report}");
}

/// Regression: with more users than the router lets in at a time, the first stayed and the last knocked in vain.
#[tokio::test]
async fn more_come_back_than_are_let_in_at_the_same_time() {
    let daemon = Daemon::start(|settings| {
        settings.set("limits.max_connections", 100);
    })
    .await;
    let spill = "--senders 3 --users 150 --messages 300 --window 8 --staying 149 --verify";
    let report = bench(&daemon, &format!("replay {spill} --at-once 5")).await;
    assert_clean(&report);
    assert_eq!(number(&report, "/delivered"), 300.0, "{report}");
}

#[tokio::test]
async fn idle_connections_are_counted_and_weighed() {
    let daemon = Daemon::start(|_| {}).await;
    let report = bench(&daemon, "idle --connections 50 --duration 1s --warmup 100ms").await;
    assert_eq!(number(&report, "/connections"), 50.0, "{report}");
    assert!(number(&report, "/server/rss_mib") > 0.0, "{report}");
}

/// More come at once than may be on the doorstep: who is turned away knocks again.
#[tokio::test]
async fn a_storm_ends_with_everybody_inside() {
    let daemon = Daemon::start(|settings| {
        settings.set("limits.max_handshakes", 4);
    })
    .await;
    // Whoever fills the mailboxes comes in like this as well, and is not patient; so there are few.
    let report = bench(&daemon, "storm --connections 4 --backlog 3 --verify").await;
    assert_clean(&report);
    assert_eq!((number(&report, "/connections"), number(&report, "/delivered")), (4.0, 12.0), "{report}");
    assert!(number(&report, "/all_let_in_s") <= number(&report, "/all_caught_up_s"), "{report}");
}

#[tokio::test]
async fn presence_reaches_every_watcher() {
    let daemon = Daemon::start(|_| {}).await;
    let work = "presence --watchers 6 --changes 4 --arrivals 5 --watchers-each 3 --within 100ms";
    let report = bench(&daemon, work).await;
    assert_eq!((number(&report, "/entries"), number(&report, "/untold")), ((6 * 4 + 5 * 3) as f64, 0.0), "{report}");
}
