//! Goal: an answer has the fields that `proto-docs/admin.md` shows, by the same names, and no others.
//! Method: a daemon in which something of everything can be seen; every call that the document shows an answer of is
//! made, and the fields of both are compared, wherever in the answer they are.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{call, enter, get, register, send};
use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::wait;

const ADMIN_MD: &str = include_str!("../../../proto-docs/admin.md");

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_fields_that_are_documented() {
    let daemon = Daemon::start(|settings| {
        settings.set("queue.max_messages", 2);
    })
    .await;
    let mut shown = documented();
    let mut agree = |call: &str, answer: &Value| {
        let at = shown.iter().position(|(heading, _)| heading == call);
        let (_, example) = shown.swap_remove(at.unwrap_or_else(|| panic!("{call} is shown with no answer")));
        assert_eq!(fields(answer), fields(&example), "{call}: {answer}");
    };

    agree("GET /v1/health", &get(&daemon, "/v1/health").await);
    agree("POST /v1/expiry/resume", &call(&daemon, "POST", "/v1/expiry/resume").await);
    let letter = json!({"from": "billing", "to": "bob", "id": "invoice-17", "body": {"text": "your invoice"}});
    register(&daemon, "bob", "phone").await;
    agree("POST /v1/messages", &daemon.admin_with("POST", "/v1/messages", &letter).await.1);

    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").hello("status", "busy")).await;
    bob.pick("caught_up").await;
    bob.say(json!({"type": "status", "state": "busy", "text": "in a call"})).await;
    bob.pick("presence").await;
    register(&daemon, "carol", "phone").await;
    agree("GET /v1/users", &get(&daemon, "/v1/users").await);
    agree("GET /v1/sessions", &get(&daemon, "/v1/sessions").await);
    let session = bob.session().to_owned();
    bob.say(json!({"type": "status", "state": "invisible"})).await;
    bob.pick("presence").await;
    agree("GET /v1/users/{user}", &get(&daemon, "/v1/users/bob").await);
    let _alice = enter(&daemon, "alice", "phone").await;
    agree("GET /v1/presence", &get(&daemon, "/v1/presence?users=alice,carol,nobody").await);

    agree("GET /v1/queues", &get(&daemon, "/v1/queues").await);
    agree("GET /v1/queues/{user}", &get(&daemon, "/v1/queues/bob").await);
    agree("GET /v1/queues/{user}/messages", &get(&daemon, "/v1/queues/bob/messages?limit=1&bodies=true").await);
    agree("DELETE /v1/sessions/{id}", &call(&daemon, "DELETE", &format!("/v1/sessions/{session}")).await);
    let seq = send(&daemon, "alice", "bob", "m2", json!({"text": "see you"})).await;
    let one = format!("/v1/queues/bob/messages/{seq}");
    agree("DELETE /v1/queues/{user}/messages/{seq}", &call(&daemon, "DELETE", &one).await);
    agree("DELETE /v1/queues/{user}", &call(&daemon, "DELETE", "/v1/queues/bob").await);
    agree("GET /v1/dead-letters", &get(&daemon, "/v1/dead-letters?bodies=true").await);
    let letters = get(&daemon, "/v1/dead-letters").await;
    let key = letters["dead_letters"][0]["key"].as_str().unwrap();
    let requeue = format!("/v1/dead-letters/{key}/requeue");
    agree("POST /v1/dead-letters/{key}/requeue", &call(&daemon, "POST", &requeue).await);
    agree("DELETE /v1/dead-letters", &call(&daemon, "DELETE", "/v1/dead-letters").await);
    agree("DELETE /v1/users/{user}/devices/{device}", &call(&daemon, "DELETE", "/v1/users/bob/devices/phone").await);
    for id in ["m1", "m2"] {
        send(&daemon, "alice", "dave", id, json!(1)).await;
    }
    let third = json!({"from": "alice", "to": "dave", "body": 1});
    agree("Errors", &daemon.admin_with("POST", "/v1/messages", &third).await.1);
    let stats = wait::until("the first rates", async || {
        let stats = get(&daemon, "/v1/stats").await;
        stats["rates"].is_object().then_some(stats)
    });
    agree("GET /v1/stats", &stats.await);
    agree("POST /v1/drain", &daemon.admin("POST", "/v1/drain").await.1);
    assert!(shown.is_empty(), "these are shown, and nobody asks for them: {shown:?}");
}

/// Every answer of the document, with the call that it is shown below.
fn documented() -> Vec<(String, Value)> {
    let mut answers = Vec::new();
    for part in ADMIN_MD.split("\n### ").skip(1) {
        let heading = part.lines().next().unwrap().replace('`', "");
        let Some((_, rest)) = part.split_once("```json\n") else { continue };
        let (json, _) = rest.split_once("```").unwrap();
        answers.push((heading, serde_json::from_str(json).unwrap()));
    }
    answers
}

/// The paths of all fields. What the members of a list have is taken together; the counters are no fields of their
/// own, and the document shows two of them.
fn fields(answer: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    note_fields(answer, "", &mut found);
    found
}

fn note_fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) if path != "/counters" => {
            for (name, value) in fields {
                let path = format!("{path}/{name}");
                note_fields(value, &path, found);
                found.insert(path);
            }
        }
        Value::Array(members) => members.iter().for_each(|member| note_fields(member, path, found)),
        _ => {}
    }
}
