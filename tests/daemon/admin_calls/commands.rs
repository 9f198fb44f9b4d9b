//! Goal: every operator's command works on a real daemon, for people as a table and for scripts as JSON, and its
//! exit code says what came of it.
//! Method: the real binary beside the daemon, through the socket that the configuration names.

use std::process::Output;

use serde_json::{Value, json};

use super::{enter, get, register, send};
use crate::common::daemon::Daemon;

async fn run(daemon: &Daemon, args: &[&str]) -> Output {
    daemon.command(args, "").await
}

/// What it says on standard output; it must have worked.
async fn table(daemon: &Daemon, args: &[&str]) -> String {
    let output = run(daemon, args).await;
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The same with `--json`.
async fn document(daemon: &Daemon, args: &[&str]) -> Value {
    let text = table(daemon, &[args, &["--json"]].concat()).await;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
}

/// Exit code and complaint of a command that must not work.
async fn complaint(daemon: &Daemon, args: &[&str]) -> (i32, String) {
    let output = run(daemon, args).await;
    assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.starts_with("doorstep: ") && complaint.lines().count() == 1, "{args:?}: {complaint}");
    (output.status.code().unwrap(), complaint)
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_a_daemon_on_which_nothing_has_happened() {
    let daemon = Daemon::start(|_| ()).await;
    for (args, nothing) in [
        (&["users"][..], "no user has a device yet\n"),
        (&["users", "--online"], "nobody is online\n"),
        (&["queues"], "nothing is waiting\n"),
        (&["sessions"], "nobody is connected\n"),
        (&["dead-letters"], "there are no dead letters\n"),
        (&["dead-letters", "clear"], "cleared 0\n"),
    ] {
        assert_eq!(table(&daemon, args).await, nothing, "{args:?}");
        assert!(document(&daemon, args).await.is_object(), "{args:?}");
    }
    assert!(table(&daemon, &["health"]).await.contains("ready         yes"));
    assert!(table(&daemon, &["stats"]).await.contains("sessions            0"));
    assert_eq!(complaint(&daemon, &["user", "nobody"]).await.0, 1);
    assert_eq!(complaint(&daemon, &["queue", "nobody"]).await.0, 1);
    assert_eq!(complaint(&daemon, &["kick", "01K00000000000000000000000"]).await.0, 1);
    let (code, why) = complaint(&daemon, &["kick", "nonsense"]).await;
    assert!(code == 2 && why.contains("26 letters and digits"), "{code}: {why}");
    assert_eq!(complaint(&daemon, &["forget", "nobody", "phone"]).await.0, 1);
    assert_eq!(complaint(&daemon, &["user", "a/b"]).await.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_look_shows_what_the_api_tells() {
    let daemon = Daemon::start(|_| ()).await;
    register(&daemon, "Jürgen %", "old phone").await;
    let seq = send(&daemon, "alice", "Jürgen %", "m1", json!({"text": "see you"})).await.to_string();
    let alice = enter(&daemon, "alice", "laptop").await;
    for (args, path, shown) in [
        (&["users"][..], "/v1/users", vec!["Jürgen %", "alice", "online", "offline"]),
        (&["users", "--online"], "/v1/users?online=true", vec!["alice"]),
        (&["user", "Jürgen %"], "/v1/users/J%C3%BCrgen%20%25", vec!["old phone", "no sessions", "1 message, "]),
        (&["user", "alice"], "/v1/users/alice", vec!["laptop", alice.session(), "127.0.0.1:"]),
        (&["queues"], "/v1/queues", vec!["Jürgen %"]),
        (&["queues", "--sort", "age", "--limit", "1"], "/v1/queues?sort=age&limit=1", vec!["Jürgen %"]),
        (&["queue", "Jürgen %"], "/v1/queues/J%C3%BCrgen%20%25", vec!["messages  1", "old phone"]),
        (&["queue", "Jürgen %", "peek"], "/v1/queues/J%C3%BCrgen%20%25/messages", vec![&seq, "alice", "m1"]),
        (
            &["queue", "Jürgen %", "peek", "--bodies"],
            "/v1/queues/J%C3%BCrgen%20%25/messages?bodies=true",
            vec![r#"{"text":"see you"}"#],
        ),
        (&["sessions"], "/v1/sessions", vec![alice.session(), "laptop"]),
        (&["dead-letters"], "/v1/dead-letters", vec!["there are no dead letters"]),
    ] {
        let text = table(&daemon, args).await;
        for word in shown {
            assert!(text.contains(word), "{args:?} does not show {word}:\n{text}");
        }
        assert!(text.lines().all(|line| !line.ends_with(' ')), "{text:?}");
        assert_eq!(document(&daemon, args).await, get(&daemon, path).await, "{args:?}");
    }
    assert!(!table(&daemon, &["queue", "Jürgen %", "peek"]).await.contains("see you"), "a body that nobody asked for");
    assert_eq!(get(&daemon, "/v1/queues").await["queues"][0]["messages"], 1, "looking consumed nothing");
    let stats = document(&daemon, &["stats"]).await;
    assert_eq!(stats["sessions"], 1, "{stats}");
    assert_eq!(document(&daemon, &["health"]).await["ready"], true);
}

/// Regression: answers were parsed into values that cannot hold every JSON, and bodies shown as rewritten.
#[tokio::test(flavor = "multi_thread")]
async fn any_body_is_shown_just_as_it_was_sent() {
    let daemon = Daemon::start(|_| ()).await;
    let bodies = ["1e999", r#""\ud800""#, r#"{"x": 1.50,  "a":1}"#, r#"{"a":1,"a":2}"#, "null"];
    for body in bodies {
        table(&daemon, &["send", "--from", "alice", "--to", "bob", body]).await;
    }
    let looks = |args: &'static [&'static str]| {
        let daemon = &daemon;
        async move {
            let shown = table(daemon, args).await;
            let json = table(daemon, &[args, &["--json"]].concat()).await;
            for body in bodies {
                assert!(shown.contains(body), "{args:?} does not show {body}: {shown}");
                assert!(json.contains(&format!("\"body\":{body}")), "{args:?} does not tell {body}: {json}");
            }
        }
    };
    looks(&["queue", "bob", "peek", "--bodies"]).await;
    table(&daemon, &["queue", "bob", "purge"]).await;
    looks(&["dead-letters", "--bodies"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_say_where_they_go_on() {
    let daemon = Daemon::start(|_| ()).await;
    for user in ["it's", "rex", "zoe"] {
        register(&daemon, user, "phone").await;
    }
    let page = table(&daemon, &["users", "--limit", "1"]).await;
    assert!(page.contains("it's") && page.contains("more: --after"), "{page}");
    let page = table(&daemon, &["users", "--limit", "1", "--after", "it's"]).await;
    assert!(page.contains("rex") && page.contains("more: --after rex"), "{page}");
    for (args, more) in
        [(&["users"][..], "zzz"), (&["sessions"], "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), (&["dead-letters"], "9")]
    {
        assert_eq!(table(&daemon, &[args, &["--after", more]].concat()).await, "nothing more\n", "{args:?}");
    }
    let page = table(&daemon, &["users", "--after", "rex"]).await;
    assert!(page.contains("zoe") && !page.contains("more"), "{page}");
    assert_eq!(run(&daemon, &["users", "--limit", "0"]).await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_made_once_and_told() {
    let daemon = Daemon::start(|_| ()).await;
    register(&daemon, "bob", "phone").await;
    let send = &["send", "--from", "alice", "--to", "bob", "--id", "m1", "see you"];
    assert!(table(&daemon, send).await.starts_with("accepted: stored until read (id m1, seq "));
    let repeat = document(&daemon, &[&send[..], &["--retry"]].concat()).await;
    assert_eq!((&repeat["id"], &repeat["stored"]), (&"m1".into(), &true.into()), "{repeat}");
    let piped = daemon.command(&["send", "--from", "alice", "--to", "bob", "-"], "[1, 2.50]").await;
    assert!(piped.status.success(), "{piped:?}");
    let page = get(&daemon, "/v1/queues/bob/messages?bodies=true").await;
    let bodies: Vec<_> =
        page["messages"].as_array().unwrap().iter().map(|message| message["body"].to_string()).collect();
    assert_eq!(bodies, [r#"{"text":"see you"}"#, "[1,2.5]"], "{page}");
    let (code, why) =
        complaint(&daemon, &["send", "--from", "alice", "--to", "bob", "--id", "m1", "another body"]).await;
    assert!(code == 1 && why.contains("id_reused"), "{code}: {why}");
    for wrong in [["--from", "a/b", "--to", "bob"], ["--from", "a", "--to", "b/"]] {
        let output = run(&daemon, &[&["send"], &wrong[..], &["x"]].concat()).await;
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{complaint}");
        assert!(complaint.contains("a user name must not contain '/'"), "{complaint}");
    }

    let seq = page["messages"][0]["seq"].to_string();
    assert_eq!(
        table(&daemon, &["queue", "bob", "purge", "--only", &seq]).await,
        "purged 1; see doorstep dead-letters\n"
    );
    assert_eq!(complaint(&daemon, &["queue", "bob", "purge", "--only", &seq]).await.0, 1);
    assert_eq!(document(&daemon, &["queue", "bob", "purge"]).await, json!({"user": "bob", "purged": 1}));
    assert_eq!(table(&daemon, &["queue", "bob", "purge"]).await, "nothing to purge\n");
    let letters = table(&daemon, &["dead-letters", "--bodies"]).await;
    assert!(letters.contains("purged") && letters.contains("see you"), "{letters}");
    let back = table(&daemon, &["dead-letters", "requeue", "0"]).await;
    assert!(back.starts_with("put back into the inbox of bob (seq "), "{back}");
    let (code, why) = complaint(&daemon, &["dead-letters", "requeue", "0"]).await;
    assert!(code == 1 && why.contains("there is no such dead letter"), "{code}: {why}");
    assert_eq!(run(&daemon, &["dead-letters", "requeue", "first"]).await.status.code(), Some(2));
    table(&daemon, &["queue", "bob", "purge"]).await;
    assert_eq!(table(&daemon, &["dead-letters", "clear"]).await, "cleared 2\n");

    let mut bob = enter(&daemon, "bob", "phone").await;
    let session = bob.session().to_owned();
    assert_eq!(table(&daemon, &["kick", &session]).await, "removed the session of bob on phone\n");
    assert_eq!(bob.expect_close().await.0, 4410);
    assert_eq!(table(&daemon, &["forget", "bob", "phone"]).await, "forgot device phone of bob\n");
    assert_eq!(complaint(&daemon, &["forget", "bob", "phone"]).await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_75_and_no_daemon_is_3() {
    let mut daemon = Daemon::start(|settings| {
        settings.set("queue.max_messages", 1);
    })
    .await;
    table(&daemon, &["send", "--from", "alice", "--to", "bob", "one"]).await;
    assert_eq!(complaint(&daemon, &["send", "--from", "alice", "--to", "bob", "two"]).await.0, 75);
    assert_eq!(document(&daemon, &["drain"]).await, json!({"draining": true}));
    assert_eq!(daemon.exit().await.code(), Some(0));
    for killed in [false, true] {
        if killed {
            // A socket that nobody answers any more is no daemon either.
            daemon.restart().await;
            daemon.kill9();
            assert!(daemon.socket().exists());
        }
        let session = "01K00000000000000000000000";
        for args in [
            &["stats"][..],
            &["health"],
            &["users"],
            &["user", "bob"],
            &["queues"],
            &["queue", "bob"],
            &["queue", "bob", "peek"],
            &["queue", "bob", "purge"],
            &["sessions"],
            &["kick", session],
            &["forget", "bob", "phone"],
            &["dead-letters"],
            &["dead-letters", "clear"],
            &["dead-letters", "requeue", "1"],
            &["send", "--from", "a", "--to", "b", "x"],
            &["drain"],
            &["stats", "--json"],
        ] {
            let (code, why) = complaint(&daemon, args).await;
            assert_eq!(code, 3, "{args:?}: {why}");
            assert!(why.contains("doorstep.sock") && why.contains("doorstep serve"), "{args:?}: {why}");
        }
    }
}
