//! Goal: the list of dead letters has pages, shows bodies only when asked, and is empty once cleared.
//! Method: messages purged by an operator, across a restart.

use serde_json::{Value, json};

use crate::common::daemon::Daemon;
use crate::{call, column, get, send, walk};

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_oldest_first_until_cleared() {
    let mut daemon = Daemon::start(|_| ()).await;
    assert_eq!(get(&daemon, "/v1/dead-letters").await, json!({"dead_letters": [], "next": null}));
    let mut seqs = Vec::new();
    for n in 0..5 {
        seqs.push(send(&daemon, "alice", "bob", &format!("m{n}"), json!({"secret": n})).await);
        call(&daemon, "DELETE", "/v1/queues/bob").await;
    }
    daemon.kill9();
    daemon.restart().await;
    for limit in [1, 2, 5, 1000] {
        assert_eq!(walk(&daemon, "/v1/dead-letters", "dead_letters", "seq", limit).await, seqs, "pages of {limit}");
    }
    let page = get(&daemon, "/v1/dead-letters?limit=1").await;
    let letter = &page["dead_letters"][0];
    assert_eq!(
        (&letter["reason"], &letter["user"], &letter["message"]["id"]),
        (&"purged".into(), &"bob".into(), &"m0".into()),
        "{page}"
    );
    assert_eq!((&letter["message"]["body"], &letter["device"]), (&Value::Null, &Value::Null), "{page}");
    let page = get(&daemon, "/v1/dead-letters?bodies=true").await;
    let bodies: Vec<_> =
        column(&page["dead_letters"], "message").into_iter().map(|message| &message["body"]["secret"]).collect();
    assert_eq!(bodies, [0, 1, 2, 3, 4]);
    assert_eq!(call(&daemon, "DELETE", "/v1/dead-letters").await, json!({"cleared": 5}));
    assert_eq!(call(&daemon, "DELETE", "/v1/dead-letters").await, json!({"cleared": 0}));
    assert_eq!(get(&daemon, "/v1/dead-letters").await["dead_letters"], json!([]));
    daemon.restart().await;
    assert_eq!(get(&daemon, "/v1/dead-letters").await["dead_letters"], json!([]), "gone for good");
}
