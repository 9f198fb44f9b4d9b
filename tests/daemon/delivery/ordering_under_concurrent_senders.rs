//! Goal: however many write at once, what one session sends to one recipient arrives in the order sent,
//! and all devices of the recipient see one and the same order.
//! Method: a dozen sessions pour at three users at once; of each user's two devices one has all the room
//! it wants and one so little that it lives from the disk. The checker judges every sender's order; the
//! two devices are compared with each other.

use tokio::task::JoinSet;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::delivery::exchange::{pour, seq, take, until_empty};

const RECIPIENTS: [&str; 3] = ["rosa", "rui", "ruth"];
const SENDERS: usize = 6;
const EACH: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn every_sender_keeps_its_order_and_every_device_sees_the_same_one() {
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("routing.shards", 3).set("store.page_messages", 5);
    })
    .await;
    let total = 2 * SENDERS * EACH;
    let mut readers = JoinSet::new();
    for user in RECIPIENTS {
        for (device, window) in [("wide", 256), ("narrow", 3)] {
            let options = Options::of(user, device).hello("window", window).record(&history);
            let mut client = TestClient::open(&daemon, options).await;
            client.expect("caught_up").await;
            readers.spawn(async move {
                let seqs: Vec<u64> = take(&mut client, total).await.iter().map(seq).collect();
                (user, seqs, client)
            });
        }
    }
    let mut writers = JoinSet::new();
    for number in 0..SENDERS {
        for device in ["left", "right"] {
            let options = Options::of(&format!("sender-{number}"), device).record(&history);
            let mut client = TestClient::open(&daemon, options).await;
            writers.spawn(async move {
                pour(&mut client, &RECIPIENTS, device, EACH).await;
                client
            });
        }
    }
    let _writers = writers.join_all().await;
    let mut orders = readers.join_all().await;
    orders.sort_by_key(|(user, ..)| *user);
    for pair in orders.chunks(2) {
        let [(user, one, _), (same, other, _)] = pair else { panic!("an odd reader") };
        assert_eq!(user, same);
        assert_eq!(one, other, "the devices of {user} saw different orders");
        until_empty(&daemon, user).await;
    }
    let report = history.assert_clean();
    assert_eq!(report.accepted() as usize, RECIPIENTS.len() * total);
    assert_eq!(report.redeliveries, 0, "nobody reconnected");
}
