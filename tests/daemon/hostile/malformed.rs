//! Goal: a frame that cannot be used is answered with the documented code, has no effect, and costs the
//! session nothing; too many of them end it with 4400.
//! Method: a table of frames by kind of fault, each followed by a ping to which only the pong may come.

use serde_json::{Value, json};

use crate::common::client::TestClient;
use crate::common::daemon::Settings;
use crate::hostile::raw::Raw;
use crate::hostile::siege::{Siege, get, is_well};

fn patient(settings: &mut Settings) {
    settings.set("limits.malformed_frames", 1_000_000);
}

/// Says `text`, which is to be answered with `error` and nothing else.
async fn is_error(client: &mut TestClient, text: &str, code: &str, about: Option<&str>) {
    client.speaker.say_text(text).await.unwrap();
    let shown: String = text.chars().take(80).collect();
    let answer = client.expect("error").await;
    assert_eq!((&answer["code"], answer["ref"].as_str()), (&code.into(), about), "{shown}");
    assert!(answer["reason"].as_str().unwrap().len() < 200, "{shown}: {answer}");
    is_well(client).await;
}

/// Says `text`, which is to be answered with `rejected` and nothing else.
async fn is_rejected(client: &mut TestClient, text: &str, code: &str) -> Value {
    client.speaker.say_text(text).await.unwrap();
    let answer = client.expect("rejected").await;
    assert_eq!(answer["code"], code, "{}: {answer}", text.chars().take(80).collect::<String>());
    is_well(client).await;
    answer
}

async fn mallory(siege: &Siege) -> TestClient {
    let mut client = TestClient::connect(&siege.daemon, "mallory", "phone").await;
    client.expect("caught_up").await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_one_json_object_is_an_error() {
    let siege = Siege::begin(patient).await;
    let mut mallory = mallory(&siege).await;
    let long = format!("\"{}\"", "x".repeat(60_000));
    let texts = [
        "",
        " ",
        "\n",
        "{",
        "}",
        "[]",
        "[{\"type\":\"ping\"}]",
        "null",
        "true",
        "7",
        "-",
        "NaN",
        "\"ping\"",
        &long,
        "{}",
        "{}{}",
        "{\"type\":\"ping\"}{\"type\":\"ping\"}",
        "{\"type\":\"ping\"} x",
        "{\"type\":\"ping\"",
        "{\"type\":\"ping\",}",
        "{'type':'ping'}",
        "{type:\"ping\"}",
        "{\"type\" \"ping\"}",
        "{\"type\":\"ping\\\"}",
        "{\"type\":\"pi\nng\"}",
        "\u{feff}{\"type\":\"ping\"}",
        "{\"type\":\"ping\"}\u{0}",
        "{\"type\":\"ping\",\"x\":01}",
        "{\"type\":\"ping\",\"x\":+1}",
        "{\"type\":\"ping\",\"x\":\"\\x\"}",
        "{\"type\":\"ping\",\"x\":\"\\u12\"}",
        "{\"type\":\"ping\" /* */}",
        "<ping/>",
        "{\"seq\":7}",
        "{\"type\":null}",
        "{\"type\":7}",
        "{\"type\":[\"ping\"]}",
        "{\"type\":{\"type\":\"ping\"}}",
        "{\"type\":\"\\ud800\"}",
    ];
    for text in texts {
        is_error(&mut mallory, text, "bad_request", None).await;
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_the_wrong_type_is_an_error_about_its_frame() {
    let siege = Siege::begin(patient).await;
    let mut mallory = mallory(&siege).await;
    let by_frame: &[(&str, &[&str])] = &[
        (
            "ack",
            &[
                "",
                "\"seq\":null",
                "\"seq\":\"7\"",
                "\"seq\":-1",
                "\"seq\":1.0",
                "\"seq\":1e3",
                "\"seq\":[7]",
                "\"seq\":9007199254740992",
                "\"seq\":18446744073709551617",
                "\"seq\":true",
                "\"seq\":1,\"seq\":1",
            ],
        ),
        (
            "status",
            &[
                "",
                "\"state\":null",
                "\"state\":\"offline\"",
                "\"state\":\"Online\"",
                "\"state\":1",
                "\"state\":\"away\",\"text\":7",
                "\"state\":\"away\",\"text\":null",
                "\"state\":\"away\",\"text\":\"\\udc00\"",
            ],
        ),
        (
            "watch",
            &[
                "",
                "\"users\":\"alice\"",
                "\"users\":null",
                "\"users\":[7]",
                "\"users\":[null]",
                "\"users\":{\"0\":\"alice\"}",
                "\"users\":[[\"alice\"]]",
                "\"users\":[\"\"]",
                "\"users\":[\"a/b\"]",
                "\"users\":[\"ok\",\"a\\u0000b\"]",
            ],
        ),
        ("unwatch", &["", "\"users\":\"alice\"", "\"users\":[\"a/b\"]"]),
        ("token", &["", "\"token\":null", "\"token\":7", "\"token\":\"no tokens in this mode\""]),
        ("ping", &["\"n\":null", "\"n\":\"1\"", "\"n\":-1", "\"n\":0.5", "\"n\":9007199254740992", "\"n\":1,\"n\":2"]),
        ("hello", &["", "\"user\":\"mallory\"", "\"window\":0", "\"user\":null"]),
    ];
    for (kind, fields) in by_frame {
        for field in *fields {
            let comma = if field.is_empty() { "" } else { "," };
            let text = format!("{{\"type\":\"{kind}\"{comma}{field}}}");
            is_error(&mut mallory, &text, "bad_request", Some(kind)).await;
        }
    }
    let text = "x".repeat(141);
    is_error(
        &mut mallory,
        &json!({"type": "status", "state": "away", "text": text}).to_string(),
        "bad_request",
        Some("status"),
    )
    .await;
    let users: Vec<_> = (0..257).map(|n| format!("user-{n}")).collect();
    is_error(&mut mallory, &json!({"type": "watch", "users": users}).to_string(), "bad_request", Some("watch")).await;
    let seen = get(&siege.daemon, "/v1/users/mallory").await;
    assert_eq!(seen["presence"]["state"], "online", "none of it had an effect: {seen}");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_an_unknown_type_is_told_apart_and_never_ends_the_session() {
    // Even a session that may not send a single malformed frame more.
    let siege = Siege::begin(|settings| {
        settings.set("limits.malformed_frames", 1);
    })
    .await;
    let mut mallory = mallory(&siege).await;
    for kind in [
        "subscribe",
        "Send",
        "SEND",
        " send",
        "",
        "welcome",
        "message",
        "accepted",
        "error",
        "goodbye",
        "receipt",
        "__proto__",
    ] {
        let text = json!({"type": kind, "id": "1", "to": "bob", "body": 0, "seq": 1}).to_string();
        is_error(&mut mallory, &text, "unknown_type", Some(kind)).await;
    }
    let long = "é".repeat(30_000);
    is_error(&mut mallory, &json!({"type": long}).to_string(), "unknown_type", Some(&"é".repeat(32))).await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_cannot_be_used_is_rejected_by_the_name_it_gave() {
    let siege = Siege::begin(patient).await;
    let mut mallory = mallory(&siege).await;
    let faults = [
        "\"to\":\"bob\"",
        "\"to\":7,\"body\":0",
        "\"to\":null,\"body\":0",
        "\"to\":[\"bob\",\"carol\"],\"body\":0",
        "\"body\":0",
        "\"to\":\"bob\",\"body\":0,\"ttl_ms\":0",
        "\"to\":\"bob\",\"body\":0,\"ttl_ms\":-5",
        "\"to\":\"bob\",\"body\":0,\"ttl_ms\":\"1s\"",
        "\"to\":\"bob\",\"body\":0,\"ttl_ms\":9007199254740992",
        "\"to\":\"bob\",\"body\":0,\"retry\":1",
        "\"to\":\"bob\",\"body\":0,\"retry\":null",
        "\"to\":\"bob\",\"body\":0,\"ephemeral\":\"yes\"",
        "\"to\":\"bob\",\"body\":0,\"receipt\":true",
        "\"to\":\"bob\",\"body\":0,\"body\":1",
        "\"to\":\"bob\",\"to\":\"bob\",\"body\":0",
        "\"to\":\"\",\"body\":0",
        "\"to\":\"a/b\",\"body\":0",
        "\"to\":\"..\\/..\",\"body\":0",
        "\"to\":\"a\\nb\",\"body\":0",
        "\"to\":\"a\\u0000\",\"body\":0",
        "\"to\":\"\\u007f\",\"body\":0",
        "\"to\":\"\\u0085\",\"body\":0",
        "\"to\":\"\\ud800\",\"body\":0",
    ];
    for (n, fault) in faults.iter().enumerate() {
        let answer =
            is_rejected(&mut mallory, &format!("{{\"type\":\"send\",\"id\":\"m{n}\",{fault}}}"), "bad_request").await;
        assert_eq!(answer["id"], format!("m{n}"), "{answer}");
    }
    // Too long to be a name, so it is not repeated either.
    let long = "n".repeat(129);
    let answer = is_rejected(
        &mut mallory,
        &json!({"type": "send", "id": "m", "to": long, "body": 0}).to_string(),
        "bad_request",
    )
    .await;
    assert!(answer.get("to").is_none() && answer["id"] == "m", "{answer}");
    let bob = siege.daemon.admin("GET", "/v1/users/bob").await;
    assert_eq!(bob.0, 404, "nothing was taken for bob: {}", bob.1);
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_id_is_rejected_and_a_send_without_one_is_an_error() {
    let siege = Siege::begin(patient).await;
    let mut mallory = mallory(&siege).await;
    for id in ["", " ", "a b", "a/b", "ä", "a\u{0}", "a\n", "🙂", "{}", "a'b", "%41", "a,b", "\u{202e}"] {
        let answer = is_rejected(
            &mut mallory,
            &json!({"type": "send", "id": id, "to": "bob", "body": 0}).to_string(),
            "bad_request",
        )
        .await;
        assert_eq!((&answer["id"], &answer["to"]), (&id.into(), &"bob".into()));
    }
    for id in [json!("x".repeat(65)), json!("x".repeat(60_000))] {
        let answer = is_rejected(
            &mut mallory,
            &json!({"type": "send", "id": id, "to": "bob", "body": 0}).to_string(),
            "bad_request",
        )
        .await;
        assert!(answer.get("id").is_none() && answer["to"] == "bob", "{answer}");
    }
    for id in [json!(7), json!(null), json!(["m"])] {
        is_error(
            &mut mallory,
            &json!({"type": "send", "id": id, "to": "bob", "body": 0}).to_string(),
            "bad_request",
            Some("send"),
        )
        .await;
    }
    is_error(&mut mallory, r#"{"type":"send","to":"bob","body":0}"#, "bad_request", Some("send")).await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nesting_has_an_end_and_the_stack_has_room_for_it() {
    let siege = Siege::begin(patient).await;
    let mut mallory = mallory(&siege).await;
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let send = |id: &str, body: &str| format!("{{\"type\":\"send\",\"id\":\"{id}\",\"to\":\"bob\",\"body\":{body}}}");
    for (n, levels) in [127, 128, 1_000, 30_000].into_iter().enumerate() {
        let answer = is_rejected(&mut mallory, &send(&format!("m{n}"), &nested(levels)), "bad_request").await;
        assert_eq!(answer["id"], format!("m{n}"));
    }
    let objects = format!("{}0{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    is_rejected(&mut mallory, &send("objects", &objects), "bad_request").await;
    let deep = nested(30_000);
    for text in [
        format!("{{\"type\":\"ping\",\"x\":{deep}}}"),
        format!("{{\"type\":\"watch\",\"users\":{deep}}}"),
        format!("{{\"type\":\"ack\",\"seq\":{deep}}}"),
    ] {
        let kind = serde_json::from_str::<Value>(&text.replace(&deep, "0")).unwrap()["type"].clone();
        is_error(&mut mallory, &text, "bad_request", kind.as_str()).await;
    }
    for text in [deep.clone(), "[".repeat(120_000), "{\"a\":".repeat(20_000), format!("{{\"type\":{deep}}}")] {
        is_error(&mut mallory, &text, "bad_request", None).await;
    }
    // The deepest that is allowed arrives.
    mallory.speaker.say_text(&send("deepest", &nested(126))).await.unwrap();
    assert_eq!(mallory.expect("accepted").await["id"], "deepest");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_is_not_wrong_and_arrives_byte_for_byte() {
    let siege = Siege::begin(patient).await;
    let long = "ü".repeat(64);
    let names = ["\u{202e}evil", " ", "..", "%2F", "<script>", "' OR 1=1 --", "🙂🙂", "control", &long, "a\\b", "{}"];
    // Some of these no common library can read; a router need not.
    let bodies = ["1e999", "-0", "\"\\ud800\"", "{\"a\":1,\"a\":2}", "[ 1 , 2.50 ]", "\"\\u0000\"", "null", "\"\""];
    let mut mallory = mallory(&siege).await;
    for name in names {
        let to = serde_json::to_string(name).unwrap();
        let mut odd = Raw::connect(&siege.daemon).await.enter(name).await;
        assert!(odd.next_text().await.unwrap().contains("caught_up"));
        for (n, body) in bodies.iter().enumerate() {
            let send = format!("\"x\":[{{}}],\"type\":\"send\",\"id\":\"o{n}\",\"to\":{to},\"body\":{body},\"y\":null");
            mallory.speaker.say_text(&format!("{{{send}}}")).await.unwrap();
            let text = odd.next_text().await.unwrap();
            assert!(text.contains(&format!("\"body\":{body}}}")) && text.contains("\"mallory\""), "{text}");
            assert_eq!(mallory.expect("accepted").await["to"], name);
        }
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_malformed_frames_end_the_session_with_4400() {
    let siege = Siege::begin(|settings| {
        settings.set("limits.malformed_frames", 3);
    })
    .await;
    for bad in ["", "{\"type\":\"ack\",\"seq\":-1}", "{\"type\":\"send\",\"id\":\"1\",\"to\":\"bob\"}"] {
        let mut mallory = mallory(&siege).await;
        for _ in 0..3 {
            mallory.speaker.say_text(bad).await.unwrap();
            mallory.recv().await;
            is_well(&mut mallory).await;
        }
        mallory.speaker.say_text(bad).await.unwrap();
        let answer = mallory.recv().await;
        assert!(answer["type"] == "error" || answer["type"] == "rejected", "the last one is answered too: {answer}");
        let goodbye = mallory.expect("goodbye").await;
        assert_eq!(goodbye["code"], 4400);
        assert_eq!(mallory.expect_close().await.0, 4400);
    }
    siege.end().await;
}
