//! Goal: users who catch up do not crowd out those who talk. However many come back at the same moment, an
//! owner has only a few parts of inboxes read at once, and the next one when it has dealt with one of them;
//! and a read that never ends as it should keeps no place in that line.
//! Method: hold the reads of the store in the hand, let twelve users with something waiting come back, see a
//! pair talk meanwhile, and let the reads go one by one.

use crate::common::client::{Options, TestClient};
use crate::common::history::History;
use crate::delivery::exchange::{ids, numbered, pour, take};
use crate::delivery::house::{HeldReads, House};

const USERS: usize = 12;
/// Parts of inboxes that one owner has read at once.
const AT_ONCE: usize = 2;
const WAITING: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_few_at_a_time_and_everyone_in_turn() {
    let history = History::new();
    let reads = HeldReads::new();
    let house = House::start(reads.clone(), |config| config.routing.shards = 1).await;
    let names: Vec<String> = (0..USERS).map(|number| format!("away-{number}")).collect();
    let enter = async |name: &str| {
        let mut client = house.open(Options::of(name, "phone").record(&history)).await;
        client.expect("caught_up").await;
        client
    };
    for name in &names {
        enter(name).await.leave().await;
    }
    let (mut left, mut right) = (enter("left").await, enter("right").await);
    pour(&mut left, &names.iter().map(String::as_str).collect::<Vec<_>>(), "m", WAITING).await;

    reads.hold();
    let mut back: Vec<TestClient> = Vec::new();
    for name in &names {
        back.push(house.open(Options::of(name, "phone").record(&history)).await);
    }
    reads.until_come(AT_ONCE).await;
    tokio::join!(take(&mut right, WAITING), pour(&mut left, &["right"], "talk", WAITING));
    for let_go in 0..USERS - AT_ONCE {
        assert_eq!(reads.come(), AT_ONCE + let_go, "as many as may be read at once, and those that were");
        reads.let_go(let_go + 1);
        reads.until_come(AT_ONCE + let_go + 1).await;
    }
    reads.let_all_go();
    for client in &mut back {
        assert_eq!(ids(&take(client, WAITING).await), numbered("m", WAITING));
        client.expect("caught_up").await;
    }
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_panics_ends_its_session_and_keeps_no_place_in_the_line() {
    let history = History::new();
    let reads = HeldReads::new();
    let house = House::start(reads.clone(), |config| config.routing.shards = 1).await;
    let options = Options::of("bob", "phone").record(&history);
    house.open(options.clone()).await.leave().await;
    let mut alice = house.open(Options::of("alice", "phone").record(&history)).await;
    pour(&mut alice, &["bob"], "m", WAITING).await;

    reads.panic_next(2 * AT_ONCE);
    for _ in 0..2 * AT_ONCE {
        assert_eq!(house.open(options.clone()).await.expect_close().await.0, 1011, "its messages cannot be read");
    }
    let mut bob = house.open(options).await;
    assert_eq!(ids(&take(&mut bob, WAITING).await), numbered("m", WAITING));
    history.assert_clean();
}
