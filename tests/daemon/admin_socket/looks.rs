//! Goal: looking tells the truth and changes nothing. Method: put things into the store and into the
//! played owners, look at them in every way there is, and hold the answers and what was touched against it.

use super::*;
use doorstep::store::{DeadLetter, DeadReason, DeviceRecord, UserRecord};

const BODIES: [&str; 3] = [r#"{"z": 1.00, "a":[]}"#, "\"two\"", "3e2"];

fn register(house: &House, user: &str, device: &str, cursor: u64) {
    let record = DeviceRecord { cursor: Seq(cursor), last_seen_ms: 4, ..DeviceRecord::default() };
    house.change(user, Op::PutDevice { device: id(device), record });
}

fn bury(house: &House, user: &str, seq: u64) {
    let message = Some(Arc::new(message(seq, BODIES[0])));
    let buried_ms = clock::wall_us() / 1000;
    let letter =
        DeadLetter { reason: DeadReason::Expired, user: id(user), device: None, seq: Seq(seq), message, buried_ms };
    house.change(user, Op::Bury { letter });
}

#[tokio::test]
async fn a_queue_on_disk_is_counted_from_its_ends() {
    let house = House::open().await;
    house.store("bob", &BODIES);
    register(&house, "bob", "phone", 1001);
    let queue = house.get("/v1/queues/bob").await.good();
    // Nobody lacks 1001, though it was not removed yet.
    assert_eq!((&queue["messages"], &queue["oldest_ms"]), (&2.into(), &1_001_002.into()), "{queue}");
    let bytes: u64 = BODIES.iter().skip(1).map(|body| message(1001, body).weight()).sum();
    assert_eq!(queue["bytes"], bytes);
    assert_eq!(queue["devices"][0]["device"], "phone");
    assert_eq!(queue["devices"][0]["backlog_messages"], 2);
    let queues = house.get("/v1/queues?sort=age").await.good();
    assert_eq!((&queues["queues"][0]["user"], &queues["complete"]), (&"bob".into(), &true.into()));
}

#[tokio::test]
async fn a_queue_in_memory_is_told_by_its_owner() {
    let house = House::open().await;
    house.store("bob", &BODIES);
    house.play(|play| play.users.extend([(id("bob"), in_memory("bob"))]));
    let queue = house.get("/v1/queues/bob").await.good();
    // The phone is done with 1001, whether or not the disk knows.
    assert_eq!((&queue["messages"], &queue["oldest_ms"]), (&1.into(), &1_001_002.into()), "{queue}");
    assert_eq!(queue["devices"][0]["live"], true);
}

#[tokio::test]
async fn a_user_with_a_device_and_nothing_waiting_has_an_empty_queue() {
    let house = House::open().await;
    register(&house, "bob", "phone", 5);
    let queue = house.get("/v1/queues/bob").await.good();
    assert_eq!((&queue["messages"], queue.get("oldest_ms")), (&0.into(), None));
    assert_eq!(house.get("/v1/queues/carol").await.problem(404), "not_found");
    assert_eq!(house.get("/v1/queues/carol/messages").await.problem(404), "not_found");
    assert_eq!(house.get("/v1/users/carol").await.problem(404), "not_found");
}

#[tokio::test]
async fn peeking_goes_page_by_page_and_shows_bodies_only_when_asked() {
    let house = House::open().await;
    house.store("bob", &BODIES);
    let first = house.get("/v1/queues/bob/messages?limit=2").await.good();
    let seqs = |page: &Value| page["messages"].as_array().unwrap().iter().map(|m| m["seq"].clone()).collect::<Vec<_>>();
    assert_eq!(seqs(&first), [1001, 1002]);
    assert!(first["messages"][0].get("body").is_none());
    let next = first["next"].as_str().unwrap();
    let second = house.get(&format!("/v1/queues/bob/messages?limit=2&after={next}")).await.good();
    assert_eq!(seqs(&second), [1003]);
    assert_eq!(second["next"], Value::Null);
    let from = house.get("/v1/queues/bob/messages?from=1002&bodies=true").await;
    assert_eq!(seqs(&from.good()), [1002, 1003]);
    let all = house.get("/v1/queues/bob/messages?bodies=true").await.text;
    assert!(BODIES.iter().all(|body| all.contains(&format!("\"body\":{body}"))), "byte for byte: {all}");
}

#[tokio::test]
async fn a_user_is_described_by_the_owner_or_else_by_the_store() {
    let house = House::open().await;
    house.store("carol", &BODIES);
    register(&house, "carol", "laptop", 1002);
    house.change("carol", Op::PutUser { record: UserRecord { last_seen_ms: 8, presence_version: 99 } });
    house.play(|play| play.users.extend([(id("bob"), in_memory("bob"))]));

    let bob = house.get("/v1/users/bob").await.good();
    assert_eq!((&bob["own_state"], &bob["presence"]["state"]), (&"invisible".into(), &"offline".into()));
    assert_eq!(bob["sessions"][0]["session"], SessionId(7).to_string());
    assert_eq!(bob["devices"][0]["backlog_messages"], 1);

    let carol = house.get("/v1/users/carol").await.good();
    assert_eq!((&carol["presence"]["version"], &carol["presence"]["last_seen_ms"]), (&99.into(), &8.into()));
    assert_eq!((&carol["devices"][0]["cursor"], &carol["backlog_messages"]), (&1002.into(), &1.into()));
    assert_eq!(carol["last_assigned"], 1003);
}

#[tokio::test]
async fn presence_does_not_tell_who_is_invisible() {
    let house = House::open().await;
    house.play(|play| play.users.extend([(id("bob"), in_memory("bob"))]));
    house.change("carol", Op::PutUser { record: UserRecord { last_seen_ms: 8, presence_version: 99 } });
    let page = house.get("/v1/presence?users=carol,bob,nobody").await.good();
    let users: Vec<_> = page["users"].as_array().unwrap().iter().map(|user| &user["user"]).collect();
    assert_eq!(users, ["carol", "bob", "nobody"], "in the order asked for");
    assert!(page["users"].as_array().unwrap().iter().all(|user| user["state"] == "offline"), "{page}");
    assert_eq!((&page["users"][0]["version"], &page["users"][2]["version"]), (&99.into(), &0.into()));
}

#[tokio::test]
async fn users_are_listed_page_by_page() {
    let house = House::open().await;
    for user in ["ann", "Jürgen", "bob"] {
        register(&house, user, "phone", 0);
    }
    let mut seen = Vec::new();
    let mut target = "/v1/users?limit=1".to_owned();
    loop {
        let page = house.get(&target).await.good();
        seen.extend(page["users"].as_array().unwrap().iter().map(|user| user["user"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/v1/users?limit=1&after={}", next.replace('ü', "%C3%BC"));
    }
    assert_eq!(seen, ["Jürgen", "ann", "bob"]);
    assert_eq!(house.get("/v1/users?online=true").await.good()["users"], serde_json::json!([]));
}

#[tokio::test]
async fn sessions_of_all_shards_are_one_list_in_order() {
    let house = House::open().await;
    let users = ["a", "b", "c", "d", "e", "f", "g"];
    house.play(|play| {
        play.sessions = users.iter().zip(1..).map(|(user, number)| session(number, user, "phone")).collect();
    });
    let (mut seen, mut target) = (Vec::new(), "/v1/sessions?limit=3".to_owned());
    loop {
        let page = house.get(&target).await.good();
        seen.extend(page["sessions"].as_array().unwrap().iter().map(|view| view["user"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/v1/sessions?limit=3&after={next}");
    }
    assert_eq!(seen, users);
}

#[tokio::test]
async fn dead_letters_come_page_by_page() {
    let house = House::open().await;
    (1..=3).for_each(|seq| bury(&house, "bob", seq));
    let first = house.get("/v1/dead-letters?limit=2").await.good();
    assert_eq!(first["dead_letters"][0]["reason"], "expired");
    assert!(first["dead_letters"][0]["message"].get("body").is_none());
    let next = first["next"].as_str().unwrap();
    let second = house.get(&format!("/v1/dead-letters?limit=2&bodies=true&after={next}")).await;
    assert!(second.text.contains(BODIES[0]), "{}", second.text);
    let second = second.good();
    assert_eq!((&second["dead_letters"][0]["seq"], &second["next"]), (&3.into(), &Value::Null));
}

#[tokio::test]
async fn health_says_what_is_wrong() {
    let house = House::open().await;
    let well = house.get("/v1/health").await.good();
    assert_eq!((&well["live"], &well["ready"], &well["store"]), (&true.into(), &true.into(), &"ok".into()));
    assert!(well["ceiling_left_ms"].as_u64().unwrap() > 60_000, "{well}");

    house.expiry_paused.store(true, Ordering::SeqCst);
    house.controls.poisoned.store(true, Ordering::SeqCst);
    let ill = house.get("/v1/health").await;
    assert_eq!((ill.status, &ill.json()["store"]), (503, &"poisoned".into()));
    assert_eq!(ill.json()["expiry_paused"], true);
    house.controls.poisoned.store(false, Ordering::SeqCst);

    house.owners[1].abort();
    let stuck = house.get("/v1/health").await;
    assert_eq!((stuck.status, &stuck.json()["live"]), (503, &false.into()));

    house.announcer.announce(shutdown::Phase::Draining);
    assert_eq!(house.get("/v1/health").await.json()["draining"], true, "the door stays open while draining");
}

#[tokio::test]
async fn figures_come_from_owners_store_and_counters() {
    let house = House::open().await;
    house.store("bob", &BODIES);
    let stats = house.get("/v1/stats").await.good();
    assert_eq!((&stats["users_loaded"], &stats["queues"]["messages"]), (&30.into(), &3.into()), "{stats}");
    assert_eq!(stats["shards"].as_array().unwrap().len(), SHARDS);
    assert!(stats["counters"]["commits"].as_i64().unwrap() >= 1, "{stats}");
    assert!(stats["commit_changes"]["mean"].as_f64().unwrap() > 0.0, "{stats}");
    assert_eq!(stats["elided_share"], Value::Null, "nothing was accepted yet");
}

#[tokio::test]
async fn looking_changes_nothing() {
    let house = House::open().await;
    house.store("bob", &BODIES);
    register(&house, "bob", "phone", 0);
    bury(&house, "bob", 1);
    house.play(|play| play.sessions = vec![session(1, "bob", "phone")]);
    let commits = house.engine.commits();
    let looks = [
        "/metrics",
        "/v1/health",
        "/v1/stats",
        "/v1/config",
        "/v1/users",
        "/v1/users/bob",
        "/v1/presence?users=bob,carol",
        "/v1/queues",
        "/v1/queues/bob",
        "/v1/queues/bob/messages?bodies=true",
        "/v1/sessions",
        "/v1/dead-letters?bodies=true",
    ];
    for look in looks {
        let (first, second) = (house.get(look).await, house.get(look).await);
        assert_eq!((first.status, second.status), (200, 200), "{look}: {}", first.text);
        if !["/v1/health", "/v1/stats"].contains(&look) {
            assert_eq!(first.text, second.text, "{look}");
        }
    }
    assert_eq!(house.heard(), Vec::<String>::new(), "no owner was told anything");
    assert_eq!(house.engine.commits(), commits, "nothing was written");
    let metrics = house.get("/metrics").await;
    assert!(metrics.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
}
