//! Goal: nobody gets past without a usable hello in time; every other beginning ends with 4400 or 4408.
//! Method: a table of first frames, each on a connection of its own; then connections that say nothing.

use serde_json::{Value, json};

use crate::common::client::{Options, Refused, TestClient};
use crate::hostile::raw::{Got, Raw};
use crate::hostile::siege::{Siege, get, is_well, until_connections};

async fn first_frame(siege: &Siege, text: &str) -> Raw {
    let mut raw = Raw::connect(&siege.daemon).await;
    raw.upgrade().await;
    raw.say(text).await.unwrap();
    raw
}

async fn is_refused(siege: &Siege, text: &str, code: u16) {
    let mut raw = first_frame(siege, text).await;
    match raw.next().await {
        Got::Frame(goodbye) => {
            assert_eq!((&goodbye["type"], &goodbye["code"]), (&"goodbye".into(), &code.into()), "{text}")
        }
        other => panic!("{other:?} to {text}"),
    }
    assert_eq!(raw.next().await, Got::Closed(code), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_before_hello_ends_the_connection_with_4400() {
    let siege = Siege::begin(|_| ()).await;
    let frames = [
        json!({"type": "send", "id": "1", "to": "control-left", "body": "from nobody"}),
        json!({"type": "send", "to": "control-left", "body": "from nobody", "ephemeral": true}),
        json!({"type": "ack", "seq": 1}),
        json!({"type": "status", "state": "online"}),
        json!({"type": "watch", "users": ["control-left"]}),
        json!({"type": "unwatch", "users": ["control-left"]}),
        json!({"type": "token", "token": "x"}),
        json!({"type": "forget"}),
        json!({"type": "ping"}),
        json!({"type": "subscribe"}),
        json!({"type": "welcome"}),
        json!({"user": "mallory"}),
        json!([{"type": "hello", "user": "mallory"}]),
    ];
    for frame in &frames {
        is_refused(&siege, &frame.to_string(), 4400).await;
    }
    for text in ["", "{", "hello", "\u{feff}{\"type\":\"hello\",\"user\":\"mallory\"}"] {
        is_refused(&siege, text, 4400).await;
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_cannot_be_used_is_refused_with_4400() {
    let siege = Siege::begin(|_| ()).await;
    let window = |window: Value| json!({"type": "hello", "user": "mallory", "window": window});
    let user = |user: Value| json!({"type": "hello", "user": user});
    let device = |device: Value| json!({"type": "hello", "user": "mallory", "device": device});
    let status = |status: Value| json!({"type": "hello", "user": "mallory", "status": status});
    let hellos = [
        json!({"type": "hello"}),
        json!({"type": "hello", "device": "phone"}),
        json!({"type": "hello", "token": "eyJ.eyJ.x"}),
        json!({"type": "hello", "user": "mallory", "token": 7}),
        user(json!(null)),
        user(json!("")),
        user(json!("a/b")),
        user(json!("a\nb")),
        user(json!("a\u{0}")),
        user(json!("\u{7f}")),
        user(json!("x".repeat(129))),
        user(json!("ü".repeat(65))),
        user(json!(["mallory"])),
        user(json!(7)),
        device(json!(null)),
        device(json!("")),
        device(json!("a/b")),
        device(json!("x".repeat(65))),
        device(json!("\u{1b}[2J")),
        device(json!(1)),
        window(json!(0)),
        window(json!(-1)),
        window(json!(0.5)),
        window(json!(1u64 << 32)),
        window(json!("8")),
        window(json!(null)),
        status(json!("offline")),
        status(json!("here")),
        status(json!(null)),
        status(json!({"state": "away"})),
    ];
    for hello in &hellos {
        is_refused(&siege, &hello.to_string(), 4400).await;
    }
    is_refused(&siege, r#"{"type":"hello","user":"mallory","user":"control-left"}"#, 4400).await;
    is_refused(&siege, r#"{"type":"hello","user":"\ud800"}"#, 4400).await;
    let (status, body) = siege.daemon.admin("GET", "/v1/users/mallory").await;
    assert_eq!(status, 404, "none of them registered a device: {body}");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_an_endless_window_is_capped() {
    let siege = Siege::begin(|settings| {
        settings.set("limits.window", 4);
    })
    .await;
    let greedy = Options::of("mallory", "phone").hello("window", u32::MAX);
    let mallory = TestClient::open(&siege.daemon, greedy).await;
    assert_eq!(mallory.welcome["limits"]["window"], 4, "{}", mallory.welcome);
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_is_said_once_and_what_follows_it_at_once_is_heard() {
    let siege = Siege::begin(|_| ()).await;
    let mut raw = Raw::connect(&siege.daemon).await;
    raw.upgrade().await;
    let frames = [
        json!({"type": "hello", "user": "mallory", "device": "phone"}),
        json!({"type": "hello", "user": "control-left", "device": "control"}),
        json!({"type": "ping", "n": 1}),
    ];
    let bytes: Vec<u8> = frames
        .iter()
        .flat_map(|frame| {
            crate::hostile::raw::frame(
                crate::hostile::raw::FIN | crate::hostile::raw::TEXT,
                frame.to_string().as_bytes(),
            )
        })
        .collect();
    raw.write(&bytes).await.unwrap();
    let mut heard = Vec::new();
    while heard.len() < 4 {
        match raw.next().await {
            Got::Frame(frame) => heard.push(frame["type"].as_str().unwrap().to_owned()),
            other => panic!("{other:?} after {heard:?}"),
        }
    }
    heard.sort();
    assert_eq!(heard, ["caught_up", "error", "pong", "welcome"]);
    let seen = get(&siege.daemon, "/v1/users/mallory").await;
    assert_eq!(seen["devices"].as_array().unwrap().len(), 1, "{seen}");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_sent_away_in_time_with_4408() {
    let siege = Siege::begin(|settings| {
        settings.set("gateway.hello_timeout", "300ms");
    })
    .await;
    // Not even an upgrade: there is only HTTP to say it in.
    let mut silent = Raw::connect(&siege.daemon).await;
    assert_eq!(silent.response().await.0, 408);
    // An upgrade and no hello. Signs of life are no hello either.
    let mut upgraded = Raw::connect(&siege.daemon).await;
    upgraded.upgrade().await;
    for _ in 0..50 {
        upgraded
            .write(&crate::hostile::raw::frame(crate::hostile::raw::FIN | crate::hostile::raw::PING, b""))
            .await
            .unwrap();
    }
    assert_eq!(upgraded.close_code().await, Some(4408));
    // Half a hello.
    let mut half = Raw::connect(&siege.daemon).await;
    half.upgrade().await;
    half.write(&crate::hostile::raw::frame(crate::hostile::raw::TEXT, b"{\"type\":\"hello\",")).await.unwrap();
    assert_eq!(half.close_code().await, Some(4408));
    until_connections(&siege.daemon, 2).await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_hello_leaves_the_door_open_for_the_next() {
    let siege = Siege::begin(|_| ()).await;
    for _ in 0..200 {
        let nobody = TestClient::attempt(&siege.daemon.url(), &Options::blank()).await;
        assert!(matches!(nobody, Err(Refused::Closed { code: 4400, .. })));
    }
    let mut mallory = TestClient::connect(&siege.daemon, "mallory", "phone").await;
    mallory.expect("caught_up").await;
    is_well(&mut mallory).await;
    siege.end().await;
}
