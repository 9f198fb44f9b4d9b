//! Goal: whoever listens is told of each kind of thing that happens, in the fields that are documented, and holds
//! nobody up. Method: a daemon, a listener, and one of everything; then eight listeners, and an end among them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{call, enter, get, register, send};
use crate::common::daemon::Daemon;
use crate::common::feed::{Feed, parse_all};

const ADMIN_MD: &str = include_str!("../../../proto-docs/admin.md");

fn of<'a>(user: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |data| data["user"] == user
}

fn names(data: &Value) -> BTreeSet<&String> {
    data.as_object().unwrap().keys().collect()
}

/// The example of an event in the document must have these fields.
fn is_documented(kind: &str, data: &Value) {
    let part = ADMIN_MD.split("\n### `GET /v1/events`\n").nth(1).unwrap();
    let (_, shown) = part.split_once("```text\n").unwrap();
    let shown = parse_all(shown.split_once("```").unwrap().0);
    let example = shown.iter().find(|(shown, _)| shown == kind).unwrap_or_else(|| panic!("{kind} is not shown"));
    assert_eq!(names(data), names(&example.1), "{kind}: {data}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_event_is_told() {
    let daemon = Daemon::start(|_| ()).await;
    let mut feed = Feed::open(&daemon.socket()).await;
    let (kind, stats) = feed.next().await.unwrap();
    assert_eq!(kind, "stats", "at once");
    let mut plain = names(&stats);
    assert!(plain.remove(&"at_ms".to_owned()), "{stats}");
    assert_eq!(plain, names(&get(&daemon, "/v1/stats").await), "{stats}");
    feed.until("stats", |data| data["at_ms"].as_u64() > stats["at_ms"].as_u64()).await;

    let mut bob = enter(&daemon, "bob", "phone").await;
    let opened = feed.until("session_opened", of("bob")).await;
    assert_eq!((&opened["session"], &opened["device"]), (&bob.session().into(), &"phone".into()), "{opened}");
    is_documented("session_opened", &opened);
    let presence = feed.until("presence", of("bob")).await;
    assert_eq!((&presence["state"], &presence["last_seen_ms"]), (&"online".into(), &Value::Null), "{presence}");
    bob.say(json!({"type": "status", "state": "busy", "text": "in a call"})).await;
    let presence = feed.until("presence", of("bob")).await;
    is_documented("presence", &presence);
    assert_eq!((&presence["state"], &presence["text"]), (&"busy".into(), &"in a call".into()), "{presence}");
    bob.say(json!({"type": "status", "state": "invisible"})).await;
    let presence = feed.until("presence", of("bob")).await;
    assert_eq!(presence["state"], "offline", "as watchers see it: {presence}");
    assert!(presence["last_seen_ms"].is_u64() && presence["text"].is_null(), "{presence}");

    register(&daemon, "carol", "phone").await;
    let closed = feed.until("session_closed", of("carol")).await;
    assert_eq!(closed["code"], Value::Null, "she left by herself: {closed}");
    let mut stored = 0;
    for n in 0..3 {
        send(&daemon, "alice", "carol", &format!("m{n}"), json!(n)).await;
    }
    while stored < 3 {
        let spilled = feed.until("spilled", of("carol")).await;
        is_documented("spilled", &spilled);
        stored += spilled["messages"].as_u64().unwrap();
        assert!(spilled["bytes"].as_u64().unwrap() > 64 * spilled["messages"].as_u64().unwrap(), "{spilled}");
    }
    assert_eq!(stored, 3);
    call(&daemon, "DELETE", "/v1/queues/carol").await;
    let dead = feed.until("dead_letter", of("carol")).await;
    is_documented("dead_letter", &dead);
    assert_eq!((&dead["reason"], &dead["messages"]), (&"purged".into(), &3.into()), "{dead}");
    call(&daemon, "POST", "/v1/dead-letters/0/requeue").await;
    assert_eq!(feed.until("spilled", of("carol")).await["messages"], 1, "what is put back is put on disk");

    call(&daemon, "DELETE", &format!("/v1/sessions/{}", bob.session())).await;
    let closed = feed.until("session_closed", of("bob")).await;
    assert_eq!((&closed["session"], &closed["code"]), (&bob.session().into(), &4410.into()), "{closed}");
    is_documented("session_closed", &closed);
    let first = enter(&daemon, "bob", "phone").await;
    let _second = enter(&daemon, "bob", "phone").await;
    let closed = feed.until("session_closed", of("bob")).await;
    assert_eq!((&closed["session"], &closed["code"]), (&first.session().into(), &4409.into()), "{closed}");
    let dave = enter(&daemon, "dave", "phone").await;
    let (mut speaker, _listener) = dave.into_halves();
    speaker.say_binary(b"no text").await.unwrap();
    assert_eq!(feed.until("session_closed", of("dave")).await["code"], 1003, "closed by the gateway itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_may_listen_and_the_ninth_is_told_so() {
    let daemon = Daemon::start(|_| ()).await;
    let mut feeds = Vec::new();
    for _ in 0..8 {
        feeds.push(Feed::open(&daemon.socket()).await);
    }
    let Err((status, problem)) = Feed::try_open(&daemon.socket()).await else { panic!("there is room for a ninth") };
    assert_eq!((status, &problem["code"]), (429, &"too_many_listeners".into()), "{problem}");
    get(&daemon, "/v1/health").await;
    feeds.pop();
    crate::common::wait::until("room for another one", async || Feed::try_open(&daemon.socket()).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_daemon_and_does_not_hold_it_up() {
    let mut daemon = Daemon::start(|_| ()).await;
    let mut feed = Feed::open(&daemon.socket()).await;
    let _bob = enter(&daemon, "bob", "phone").await;
    feed.until("session_opened", of("bob")).await;
    assert_eq!(daemon.terminate().await.code(), Some(0));
    while let Some((kind, data)) = feed.next().await {
        assert!(["stats", "session_closed", "presence", "session_opened"].contains(&kind.as_str()), "{kind}: {data}");
    }
    assert!(!daemon.log().contains("admin calls were still under way"), "{}", daemon.log());
}
