//! Goal: the calls about the daemon as a whole. Method: a daemon with one session and one message, and what each
//! call must say of it; then an orderly stop.

use serde_json::{Value, json};

use super::{enter, get, refused, register, send};
use crate::common::daemon::Daemon;
use crate::common::wait;

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_well_says_so() {
    let daemon = Daemon::start(|_| ()).await;
    let health = get(&daemon, "/v1/health").await;
    for (field, expected) in [
        ("live", json!(true)),
        ("ready", json!(true)),
        ("draining", json!(false)),
        ("store", json!("ok")),
        ("expiry_paused", json!(false)),
    ] {
        assert_eq!(health[field], expected, "{health}");
    }
    assert!(health["disk_free_bytes"].as_u64().unwrap() > 1 << 20, "{health}");
    assert!(health["ceiling_left_ms"].as_u64().unwrap() > 1_700_000, "{health}");
    assert_eq!(
        super::call(&daemon, "POST", "/v1/expiry/resume").await,
        json!({"was_paused": false, "expiry_paused": false})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_room_on_its_disk_is_ready_but_says_low() {
    let daemon = Daemon::start(|settings| {
        settings.set("store.min_free", "1000000GiB");
    })
    .await;
    let health = get(&daemon, "/v1/health").await;
    assert_eq!((&health["ready"], &health["store"]), (&true.into(), &"low".into()), "{health}");
    let request = json!({"from": "billing", "to": "bob", "body": 1});
    let (status, problem) = daemon.admin_with("POST", "/v1/messages", &request).await;
    assert_eq!((status, &problem["code"]), (503, &"storage_unavailable".into()), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_and_metrics_tell_the_same() {
    let daemon = Daemon::start(|settings| {
        settings.set("routing.shards", 3);
    })
    .await;
    let mut bob = enter(&daemon, "bob", "phone").await;
    let mut alice = enter(&daemon, "alice", "phone").await;
    for n in 0..3 {
        alice.send("bob", &format!("live{n}"), n).await;
        let message = bob.expect("message").await;
        bob.ack(message["seq"].as_u64().unwrap()).await;
        alice.expect("accepted").await;
    }
    for n in 0..2 {
        send(&daemon, "alice", "carol", &format!("later{n}"), json!(n)).await;
    }
    let stats = get(&daemon, "/v1/stats").await;
    let counters = &stats["counters"];
    assert_eq!(
        (&stats["sessions"], &stats["connections"], &stats["users_online"]),
        (&2.into(), &2.into(), &2.into()),
        "{stats}"
    );
    assert_eq!(stats["queues"]["messages"], 2, "{stats}");
    let of = |name: &str| counters[name].as_u64().unwrap();
    assert_eq!((of("sends"), of("accepted_handed_over") + of("accepted_stored")), (5, 5), "{stats}");
    let share = counters["accepted_handed_over"].as_f64().unwrap() / 5.0;
    assert_eq!(stats["elided_share"].as_f64().unwrap(), share, "{stats}");
    let shards = stats["shards"].as_array().unwrap();
    assert_eq!(super::column(&stats["shards"], "shard"), [0, 1, 2], "{stats}");
    assert_eq!(shards.iter().map(|shard| shard["sessions"].as_u64().unwrap()).sum::<u64>(), 2, "{stats}");
    assert!(stats["commit_seconds"]["p99"].as_f64().unwrap() > 0.0, "{stats}");

    let text = daemon.admin("GET", "/metrics").await.1;
    let metrics = parse(text.as_str().expect("metrics are text, not JSON"));
    for (name, value) in [("doorstep_sessions", 2.0), ("doorstep_stored_messages", 2.0), ("doorstep_connections", 2.0)]
    {
        assert_eq!(metrics[name], value, "{name}");
    }
    for (name, value) in counters.as_object().unwrap() {
        let plain = metrics.get(&format!("doorstep_{name}"));
        let found = plain.or_else(|| metrics.get(&format!("doorstep_{name}_total")));
        assert!(found.is_some(), "{name} is in stats and not in the metrics");
        // Levels and counts of what is going on by itself may have moved on.
        if ["sends", "deliveries", "stored_messages", "acks"].contains(&name.as_str()) {
            assert_eq!(found.copied(), value.as_f64(), "{name}");
        }
    }
}

/// Samples by name and labels. Every line must be a comment of a known kind or a sample, as OpenMetrics has it.
fn parse(text: &str) -> std::collections::BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "the end is missing: {text}");
    let mut samples = std::collections::BTreeMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let kind = comment.split(' ').next().unwrap();
            assert!(["HELP", "TYPE", "UNIT", "EOF"].contains(&kind), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
        assert!(name.starts_with("doorstep_"), "{line}");
        let twice = samples.insert(name.to_owned(), value.parse().unwrap_or_else(|_| panic!("not a number: {line}")));
        assert!(twice.is_none(), "{line} is there twice");
    }
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_appear_within_seconds() {
    let daemon = Daemon::start(|_| ()).await;
    let mut alice = enter(&daemon, "alice", "phone").await;
    let mut sent = 0;
    wait::until("a rate of sends", async || {
        alice.send("bob", &format!("m{sent}"), sent).await;
        alice.expect("accepted").await;
        sent += 1;
        let rate = get(&daemon, "/v1/stats").await["rates"]["sends_per_second"].as_f64();
        rate.filter(|rate| *rate > 0.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_in_effect_is_shown_without_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "hunter2, and enough more to make it 32 bytes").unwrap();
    let daemon = Daemon::start(|settings| {
        settings.set("auth.mode", "jwt").set("auth.key_file", key.to_str().unwrap()).set("limits.window", 17);
    })
    .await;
    let config = get(&daemon, "/v1/config").await;
    assert_eq!(config["limits"]["window"], 17, "{config}");
    assert_eq!(config["auth"]["mode"], "jwt", "{config}");
    assert!(!config.to_string().contains("hunter2"), "{config}");
    // Every key of the shipped file is there.
    let shipped: toml::Table = toml::from_str(doorstep::config::DEFAULT_TOML).unwrap();
    for (section, keys) in &shipped {
        for key in keys.as_table().unwrap().keys() {
            assert!(!config[section][key].is_null(), "{section}.{key} is not shown: {config}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_the_daemon_in_order_and_nothing_is_lost() {
    let mut daemon = Daemon::start(|_| ()).await;
    register(&daemon, "bob", "phone").await;
    let mut alice = enter(&daemon, "alice", "phone").await;
    alice.send("bob", "m1", "before the drain").await;
    alice.expect("accepted").await;
    let (status, body) = daemon.admin("POST", "/v1/drain").await;
    assert_eq!((status, body), (202, json!({"draining": true})));
    let goodbye = alice.expect("goodbye").await;
    assert_eq!(goodbye["code"], 1012, "{goodbye}");
    assert!(goodbye["retry_after_ms"].is_u64(), "{goodbye}");
    assert_eq!(alice.expect_close().await.0, 1012);
    assert_eq!(daemon.exit().await.code(), Some(0));
    assert!(!daemon.socket().exists(), "the socket is given back");
    daemon.restart().await;
    let mut bob = enter(&daemon, "bob", "phone").await;
    let message = bob.pick("message").await;
    assert_eq!((&message["id"], &message["redelivered"]), (&"m1".into(), &Value::Null), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_resource_is_where_it_should_be_and_nothing_else_is() {
    let daemon = Daemon::start(|_| ()).await;
    for path in [
        "/v1/health",
        "/v1/stats",
        "/metrics",
        "/v1/config",
        "/v1/users",
        "/v1/queues",
        "/v1/sessions",
        "/v1/dead-letters",
    ] {
        get(&daemon, path).await;
    }
    refused(&daemon, "GET", "/v1/event", 404, "not_found").await;
    refused(&daemon, "POST", "/v1/reload", 404, "not_found").await;
}
