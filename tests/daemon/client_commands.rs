//! Goal: `doorstep chat` and `doorstep bench` keep the promise at the hands of people.
//! Method: the real commands against a real daemon, their input and output through pipes.

use std::process::Output;

use crate::common::daemon::Daemon;
use crate::common::wait;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

async fn chat(daemon: &Daemon, me: &str, to: &str, input: &str) -> Vec<String> {
    let output = daemon.command(&["chat", "--as", me, "--to", to, "--url", &daemon.url()], input).await;
    assert!(output.status.success(), "{output:?}");
    lines(&output)
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

/// What others wrote, and the ticks: everything that is no note.
fn said(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).filter(|line| !line.starts_with('*')).collect()
}

#[tokio::test]
async fn what_was_said_to_an_absent_user_waits_over_a_crash_and_arrives_once() {
    let mut daemon = Daemon::start(|_| {}).await;
    let alice = chat(&daemon, "alice", "bob", "one\ntwo\n//three\n").await;
    assert_eq!(said(&alice), ["✓ queued: one", "✓ queued: two", "✓ queued: /three"]);
    assert!(alice.contains(&"* bob is offline".to_owned()), "{alice:?}");
    daemon.kill9();
    daemon.restart().await;
    let bob = chat(&daemon, "bob", "alice", "").await;
    assert!(bob.contains(&"* 3 messages waited for you".to_owned()), "{bob:?}");
    assert_eq!(said(&bob).len(), 3);
    for (line, text) in said(&bob).into_iter().zip(["one", "two", "/three"]) {
        assert!(line.starts_with(&format!("alice: {text}")), "{line}");
    }
    assert_eq!(said(&chat(&daemon, "bob", "alice", "").await), [""; 0], "everything shown was acked");
}

#[tokio::test]
async fn a_chat_without_a_router_says_so_and_how_to_start_one() {
    let mut daemon = Daemon::start(|_| {}).await;
    daemon.kill9();
    for command in [&["chat", "--as", "alice", "--url"][..], &["bench", "--url"]] {
        let output = daemon.command(&[command, &[&daemon.url()]].concat(), "").await;
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("doorstep serve"));
    }
}

#[tokio::test]
async fn a_line_that_nobody_can_take_is_a_failure() {
    let daemon = Daemon::start(|settings| {
        settings.set("limits.body_bytes", "64B");
    })
    .await;
    let long = "x".repeat(100);
    let args = ["chat", "--as", "alice", "--to", "bob", "--url", &daemon.url()];
    let output = daemon.command(&args, &format!("{long}\nshort\n")).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&lines(&output))[0].starts_with("✗ not accepted: xxx"));
    assert_eq!(said(&lines(&output))[1], "✓ queued: short");
}

/// Regression: with a full disk people were told that there was no answer, and not why.
#[tokio::test]
async fn a_line_that_the_disk_cannot_take_is_tried_on_and_told_why() {
    let daemon = Daemon::start(|settings| {
        settings.set("store.min_free", "1024TiB");
    })
    .await;
    let mut chat = daemon.start_command(&["chat", "--as", "alice", "--to", "bob", "--url", &daemon.url()]);
    chat.stdin.as_mut().unwrap().write_all(b"hi\n").await.unwrap();
    let mut lines = BufReader::new(chat.stdout.take().unwrap()).lines();
    let mention = wait::within("a word about the delay", async {
        loop {
            let line = lines.next_line().await.unwrap().unwrap();
            if line.contains("still trying") {
                return line;
            }
        }
    });
    let mention = mention.await;
    assert!(mention.starts_with("* not taken yet: ") && mention.contains("(storage_unavailable)"), "{mention}");
}

/// Regression: an interrupted bench left its users behind and told nothing.
#[tokio::test]
async fn an_interrupted_bench_tells_what_it_measured_and_leaves_nothing_behind() {
    let daemon = Daemon::start(|_| {}).await;
    let args = ["bench", "--pairs", "3", "--duration", "1h", "--warmup", "0s", "--json", "--url", &daemon.url()];
    let bench = daemon.start_command(&args);
    wait::until("some deliveries", async || {
        let (_, stats) = daemon.admin("GET", "/v1/stats").await;
        (stats["counters"]["deliveries"].as_u64() > Some(100)).then_some(())
    })
    .await;
    let pid = rustix::process::Pid::from_raw(bench.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = bench.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["delivered"].as_u64() > Some(0) && report["duration_s"].as_f64() < Some(60.0), "{report}");
    assert_eq!(report["faults"]["lost"], 0, "{report}");
    wait::until("every device is unregistered", async || {
        let (_, users) = daemon.admin("GET", "/v1/users").await;
        (users["users"] == serde_json::json!([])).then_some(())
    })
    .await;
}

/// Regression: it could only say that there was no token.
#[tokio::test]
async fn a_bench_signs_its_own_tokens_where_it_has_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "a secret of the tests, long enough").unwrap();
    let daemon = Daemon::start(|settings| {
        settings.set("auth.mode", "jwt").set("auth.key_file", secret.to_str().unwrap());
    })
    .await;
    let args = ["bench", "--pairs", "2", "--duration", "1s", "--warmup", "0s", "--verify", "--url", &daemon.url()];
    let output = daemon.command(&args, "").await;
    assert!(output.status.success(), "{output:?}");
    let mut stranger = tokio::process::Command::new(env!("CARGO_BIN_EXE_doorstep"));
    let output = stranger.args(args).current_dir(dir.path()).output().await.unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("the router wants tokens") && complaint.contains("--config"), "{complaint}");
    let output = daemon.command(&["chat", "--as", "alice", "--to", "bob", "--url", &daemon.url()], "hi\n").await;
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("--token") && complaint.contains("DOORSTEP_TOKEN"), "{complaint}");
}

#[tokio::test]
async fn a_short_bench_verifies_and_leaves_nothing_behind() {
    let daemon = Daemon::start(|_| {}).await;
    let args = "bench --pairs 5 --window 8 --duration 1s --warmup 200ms --verify --json --url".split(' ');
    let url = daemon.url();
    let args: Vec<&str> = args.chain([url.as_str()]).collect();
    let output = daemon.command(&args, "").await;
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["delivered"].as_u64().unwrap() > 0, "{report}");
    let latency = |kind: &str, name: &str| report[kind][name].as_f64().unwrap();
    assert!(latency("delivery_us", "p50") > 0.0);
    assert!(latency("accept_us", "p50") <= latency("accept_us", "max"));
    wait::until("every device is unregistered", async || {
        let (_, users) = daemon.admin("GET", "/v1/users").await;
        (users["users"] == serde_json::json!([])).then_some(())
    })
    .await;
    let (_, queues) = daemon.admin("GET", "/v1/queues").await;
    assert_eq!(queues["queues"], serde_json::json!([]), "{queues}");
}

#[tokio::test]
async fn a_bench_tells_people_how_it_goes_and_what_came_of_it() {
    let daemon = Daemon::start(|_| {}).await;
    let args = "bench --pairs 2 --window 4 --duration 2s --warmup 100ms --url".split(' ');
    let url = daemon.url();
    let args: Vec<&str> = args.chain([url.as_str()]).collect();
    let output = daemon.command(&args, "").await;
    assert!(output.status.success(), "{output:?}");
    let figures = lines(&output);
    let row = |name: &str| -> Vec<String> {
        let line = figures.iter().find_map(|line| line.trim_start().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {figures:#?}")).split_whitespace().map(str::to_owned).collect()
    };
    let delivered = row("delivered");
    assert_eq!(delivered[1], "messages/s", "{figures:#?}");
    assert!(delivered[0].parse::<u64>().unwrap() > 0, "{figures:#?}");
    let names = row("latency (µs)");
    let arrive: Vec<f64> = row("to arrive").iter().map(|figure| figure.parse().unwrap()).collect();
    assert_eq!(arrive.len(), names.len(), "{figures:#?}");
    let percentile = |name: &str| arrive[names.iter().position(|found| found == name).unwrap()];
    assert!(percentile("p50") > 0.0 && percentile("p50") <= percentile("p99"), "{figures:#?}");
    // While it runs, on the other stream, so that the figures can be piped on.
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(progress.lines().any(|line| line.trim().ends_with("messages/s")), "{progress}");
}

#[tokio::test]
async fn two_who_chat_see_what_the_other_says_and_that_it_arrived() {
    let daemon = Daemon::start(|_| {}).await;
    let mut alice = daemon.talk(&["chat", "--as", "alice", "--to", "bob", "--url", &daemon.url()]);
    let mut bob = daemon.talk(&["chat", "--as", "bob", "--to", "alice", "--url", &daemon.url()]);
    alice.until_hears("* bob is online").await;
    bob.until_hears("* alice is online").await;
    alice.say("hello").await;
    bob.until_hears("alice: hello").await;
    alice.until_hears("✓✓ delivered: hello").await;
    bob.say("hello yourself").await;
    alice.until_hears("bob: hello yourself").await;
    bob.until_hears("✓✓ delivered: hello yourself").await;
}
