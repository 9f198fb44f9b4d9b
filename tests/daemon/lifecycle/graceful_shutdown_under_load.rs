//! Goal: SIGTERM in the middle of traffic is a form of delivery. What was read is answered, everyone is
//! told goodbye and when to come back, the exit code is 0, and after the next start nothing is missing
//! and nothing is marked as redelivered that its device had not been given.
//! Method: senders with hundreds of sends unanswered; recipients that acknowledge, that only read, and
//! that are away; a signal; a restart; everyone collects what is theirs.

use std::collections::{HashMap, HashSet};

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::traffic::{Received, Sent, Traffic, collect};

const SENDERS: [&str; 6] = ["s1", "s2", "s3", "s4", "s5", "s6"];
/// Name, and whether it is there, and whether it acknowledges.
const RECIPIENTS: [(&str, bool, bool); 7] = [
    ("swift", true, true),
    ("nimble", true, true),
    ("quick", true, true),
    ("mute", true, false),
    ("silent", true, false),
    ("away", false, false),
    ("unknown", false, false),
];
const SPREAD_MS: u64 = 3000;

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_answers_says_goodbye_and_loses_nothing() {
    let history = History::new();
    let mut daemon = Daemon::start(|settings| {
        // Long enough for those who acknowledge to do so before the disk is asked, on a busy machine too.
        settings.set("store.commit_delay", "200ms");
        settings.set("shutdown.reconnect_spread", format!("{SPREAD_MS}ms")).set("routing.shards", 2);
    })
    .await;
    // Has a device, and is not there. `unknown` never was.
    collect(&daemon, "away", "phone", &history).await;
    let (sent, received) = stop_under_load(&mut daemon, &history).await;
    assert_told(&sent, &received);

    daemon.restart().await;
    let given: HashMap<String, HashSet<String>> = received.into_iter().map(|seen| (seen.who, seen.ids)).collect();
    let unanswered: HashSet<&String> = sent.iter().flat_map(Sent::unanswered).collect();
    for (user, _, _) in RECIPIENTS {
        for message in collect(&daemon, user, "phone", &history).await {
            let id = message["id"].as_str().unwrap().to_owned();
            let was_given = given.get(&format!("{user}/phone")).is_some_and(|ids| ids.contains(&id));
            assert_eq!(message["redelivered"] == true, was_given, "{user} was given it before: {was_given}: {message}");
            assert!(!unanswered.contains(&id), "what nobody read is not delivered: {message}");
        }
    }
    let report = history.assert_clean();
    assert!(report.rejected.keys().all(|code| code == "shutting_down"), "{report}");
    assert!(report.accepted_stored > 0 && report.accepted_handed_over > 0, "both ways must have been taken: {report}");
    assert!(daemon.terminate().await.success());
}

async fn stop_under_load(daemon: &mut Daemon, history: &History) -> (Vec<Sent>, Vec<Received>) {
    let names = RECIPIENTS.map(|(name, _, _)| name);
    let mut present = Vec::new();
    for (name, _, acks) in RECIPIENTS.into_iter().filter(|(_, is_there, _)| *is_there) {
        present.push((TestClient::open(daemon, Options::of(name, "phone").record(history)).await, acks));
    }
    let mut traffic = Traffic::start(daemon, history, &SENDERS, &names).await;
    for (client, acks) in present {
        traffic.receive(client, acks);
    }
    traffic.in_full_swing(1500, 50).await;
    assert!(daemon.terminate().await.success(), "an orderly stop is exit code 0");
    traffic.ended().await
}

/// Everyone was answered and told when to come back, and not all at the same time.
fn assert_told(sent: &[Sent], received: &[Received]) {
    sent.iter().for_each(Sent::assert_no_answer_is_missing);
    let ends = sent.iter().map(|seen| &seen.end).chain(received.iter().map(|seen| &seen.end));
    let mut delays: Vec<u64> = ends.map(crate::common::traffic::End::retry_after_ms).collect();
    assert_eq!(delays.len(), SENDERS.len() + 5);
    delays.sort_unstable();
    let (least, most) = (delays[0], delays[delays.len() - 1]);
    assert!((1..=SPREAD_MS + 1000).contains(&least) && most <= SPREAD_MS + 1000, "{delays:?}");
    // By how much is chance; that all come at the same moment is none.
    assert!(least < most, "not all at once: {delays:?}");
}
