//! Goal: a disk that breaks in the midst of load costs no accepted message. The store is poisoned, the log
//! says what the disk said, every sender gets an answer with a code that tells, what needs no disk goes on,
//! the exit code is 75; and once the disk is repaired everything accepted is there, over a power cut too.
//! Method: the real daemon on a disk of the tests' own; EIO on a write, EIO on a sync, a full disk, and a
//! remount as read-only, each while senders have many sends unanswered. The history checker judges. No control
//! pair talks beside it: on such a disk its durable sends are refused, as the contract says.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::traffic::{Sent, Traffic, collect};
use crate::common::wait;
use crate::shim::Disk;
use crate::shim::cut::Unsynced;
use crate::shim::faults::Fault;

/// The code that asks a supervisor to try again later.
const TRY_AGAIN_LATER: i32 = 75;
const SENDERS: [&str; 3] = ["alice", "abel", "ada"];
/// The last one is there.
const RECIPIENTS: [&str; 3] = ["bob", "cid", "dot"];
/// What a send may be told whose message was given to a disk that broke.
const CODES: [&str; 2] = ["unknown_outcome", "storage_unavailable"];

/// How a disk breaks, how that is repaired, and what it says.
#[derive(Clone, Copy)]
struct Trouble {
    begin: fn(&Disk),
    end: fn(&Disk),
    says: &'static str,
}

const WRITES: Trouble = Trouble {
    begin: |disk| disk.set(Fault::Writes, true),
    end: |disk| disk.set(Fault::Writes, false),
    says: "Input/output error",
};
const SYNCS: Trouble = Trouble {
    begin: |disk| disk.set(Fault::Syncs, true),
    end: |disk| disk.set(Fault::Syncs, false),
    says: "Input/output error",
};
const FULL: Trouble =
    Trouble { begin: |disk| disk.leave_room(16 << 10), end: Disk::make_room, says: "No space left on device" };
const READ_ONLY: Trouble = Trouble {
    begin: |disk| disk.set(Fault::ReadOnly, true),
    end: |disk| disk.set(Fault::ReadOnly, false),
    says: "Read-only file system",
};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_loses_nothing() {
    breaks(WRITES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_loses_nothing() {
    breaks(SYNCS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_loses_nothing() {
    breaks(FULL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_becomes_read_only_loses_nothing() {
    breaks(READ_ONLY).await;
}

async fn breaks(trouble: Trouble) {
    let Some(mut disk) = Disk::mount() else { return };
    let history = History::new();
    let mut daemon = start_on(&disk, "1h").await;
    for user in RECIPIENTS {
        assert!(collect(&daemon, user, "phone", &history).await.is_empty());
    }
    let (sent, mut doubtful) = (under_load(&mut daemon, &disk, trouble, &history).await, Vec::new());
    for (name, seen) in SENDERS.iter().zip(&sent) {
        doubtful.extend(seen.answers.values().filter(|answer| answer["code"] == "unknown_outcome").map(|answer| {
            let (id, to) = (answer["id"].as_str().unwrap().to_owned(), answer["to"].as_str().unwrap().to_owned());
            ((*name).to_owned(), id, to)
        }));
    }

    (trouble.end)(&disk);
    daemon.restart().await;
    // Whatever the disk has of them: from now on they are accepted.
    for (name, id, to) in &doubtful {
        let number: u64 = id.rsplit_once(':').unwrap().1.parse().unwrap();
        let mut sender = TestClient::open(&daemon, Options::of(name, "again").record(&history)).await;
        sender.expect("caught_up").await;
        let body = json!({"n": number});
        sender.say(json!({"type": "send", "id": id, "to": to, "body": body, "retry": true})).await;
        sender.expect("accepted").await;
    }
    disk.cut();
    daemon.kill9();
    disk.power_up(Unsynced::Lost);
    daemon.restart().await;
    for user in RECIPIENTS {
        collect(&daemon, user, "phone", &history).await;
    }
    let report = history.assert_clean();
    println!("{} doubtful; {report}", doubtful.len());
    assert!(report.accepted_stored > 300, "too little happened: {report}");
    assert!(daemon.terminate().await.success());
}

/// Breaks the disk in full swing, looks at what goes on and what does not, and stops the router.
async fn under_load(daemon: &mut Daemon, disk: &Disk, trouble: Trouble, history: &History) -> Vec<Sent> {
    let mut traffic = Traffic::start(daemon, history, &SENDERS, &RECIPIENTS).await;
    let dot = TestClient::open(daemon, Options::of("dot", "phone").record(history)).await;
    traffic.receive(dot, true);
    let mut eve = TestClient::open(daemon, Options::of("eve", "phone").record(history)).await;
    let mut fay = TestClient::open(daemon, Options::of("fay", "phone").record(history)).await;
    for client in [&mut eve, &mut fay] {
        client.expect("caught_up").await;
    }
    traffic.in_full_swing(300, 20).await;
    (trouble.begin)(disk);
    wait::until("the poisoned store", async || {
        let (status, health) = daemon.admin("GET", "/v1/health").await;
        (health["store"] == "poisoned").then(|| assert_eq!(status, 503, "{health}"))
    })
    .await;
    let says = |line: &str| line.contains("ERROR") && line.contains(trouble.says);
    assert!(daemon.log().lines().any(says), "no error in the log says {:?}: {}", trouble.says, daemon.log());
    assert!(disk.failed() > 0);

    // What needs no disk goes on.
    eve.say(json!({"type": "send", "to": "fay", "body": "typing", "ephemeral": true})).await;
    assert_eq!(fay.expect("message").await["body"], "typing");
    fay.say(json!({"type": "watch", "users": ["eve"]})).await;
    assert_eq!(fay.expect("presence").await["users"][0]["state"], "online");
    for to in ["fay", "bob"] {
        eve.send(to, to, "refused").await;
        assert_eq!(eve.expect("rejected").await["code"], "storage_unavailable");
    }
    traffic.turned_down().await;
    assert_eq!(daemon.terminate().await.code(), Some(TRY_AGAIN_LATER));
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    let (sent, _) = traffic.ended().await;
    sent.iter().for_each(assert_told);
    sent
}

/// Whoever sent was answered, and a refusal says why.
fn assert_told(seen: &Sent) {
    assert_eq!(seen.unanswered().collect::<Vec<_>>(), [""; 0], "a send got no answer");
    let refusal = |answer: &Value| answer["code"].as_str().map(ToOwned::to_owned);
    let codes: BTreeSet<String> = seen.answers.values().filter_map(refusal).collect();
    assert!(!codes.is_empty() && codes.iter().all(|code| CODES.contains(&code.as_str())), "{codes:?}");
}

/// And by itself, when the grace is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_breaks_ends_in_75() {
    for trouble in [WRITES, SYNCS, FULL, READ_ONLY] {
        let Some(disk) = Disk::mount() else { return };
        let history = History::new();
        let mut daemon = start_on(&disk, "100ms").await;
        let traffic = Traffic::start(&daemon, &history, &SENDERS, &RECIPIENTS).await;
        traffic.in_full_swing(100, 10).await;
        (trouble.begin)(&disk);
        assert_eq!(daemon.exit().await.code(), Some(TRY_AGAIN_LATER), "{}", daemon.log());
        let (sent, _) = traffic.ended().await;
        assert!(sent.iter().all(|seen| seen.end.code == 1012), "they are told to come back");
        (trouble.end)(&disk);
        daemon.restart().await;
        for user in RECIPIENTS {
            collect(&daemon, user, "phone", &history).await;
        }
        history.assert_clean();
    }
}

/// Where it cannot write it does not start, and says what it could not write. Nothing is lost by the attempts.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_broken_at_the_start_is_refused() {
    for trouble in [WRITES, SYNCS, READ_ONLY] {
        let Some(disk) = Disk::mount() else { return };
        let history = History::new();
        let mut daemon = start_on(&disk, "1h").await;
        let traffic = Traffic::start(&daemon, &history, &SENDERS, &RECIPIENTS).await;
        traffic.in_full_swing(100, 10).await;
        daemon.kill9();
        drop(traffic.ended().await);
        (trouble.begin)(&disk);
        let Err(exited) = daemon.try_restart().await else { panic!("it started on a disk that says {}", trouble.says) };
        assert!([1, TRY_AGAIN_LATER].contains(&exited.status.code().unwrap()), "{}", exited.stderr);
        let last = exited.stderr.lines().last().unwrap_or_default();
        assert!(last.contains(trouble.says), "the last words do not say {}: {}", trouble.says, exited.stderr);
        assert!(!exited.stderr.contains("panicked"), "{}", exited.stderr);
        (trouble.end)(&disk);
        daemon.restart().await;
        for user in RECIPIENTS {
            collect(&daemon, user, "phone", &history).await;
        }
        history.assert_clean();
    }
}

/// Without a limit that would refuse anything before the disk is full.
async fn start_on(disk: &Disk, poison_grace: &str) -> Daemon {
    Daemon::start(|settings| {
        settings
            .set("store.path", disk.store().to_str().unwrap())
            .set("store.min_free", "0B")
            .set("store.poison_grace", poison_grace);
    })
    .await
}
