//! Goal: an owner never waits. Not for the disk, not for a read, not for a session that does not listen:
//! whatever is stuck, every owner goes on with everything that does not need it.
//! Method: the daemon has one thread for all its owners and sessions, so whoever blocks it stops everything,
//! the watchdog included. Commits and reads are held, and work that needs them is heaped on every owner;
//! then a pair of users of each owner talks, and operators ask. When the disk moves again nothing is lost.

use serde_json::{Value, json};
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Desk;
use crate::common::history::History;
use crate::common::wait;
use crate::delivery::exchange::{pour, take};
use crate::delivery::house::{HeldReads, House};

const OWNERS: usize = 4;
/// Sends that are stuck, for each owner. More than the window of a session, and than a batch of its frames.
const STUCK: usize = 300;
/// Exchanged by each pair while everything else is stuck.
const TALK: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_stuck_every_owner_goes_on() {
    let history = History::new();
    let engine = HeldReads::new();
    let floor = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let start = House::start(engine.clone(), |config| {
        config.routing.shards = OWNERS;
        config.limits.sends_in_flight = 2 * STUCK as u32;
        config.queue.accept_timeout = wait::PATIENCE;
    });
    let house = wait::within("the start", floor.spawn(start)).await.unwrap();
    let mut troubles = Vec::new();
    for owner in 0..OWNERS {
        troubles.push(Trouble::prepare(&house, &history, owner).await);
    }
    let mut pairs = Vec::new();
    for owner in 0..OWNERS {
        pairs.push(Pair::enter(&house, &history, owner).await);
    }

    let gate = engine.disk().hold_commits();
    engine.hold();
    let mut stuck = JoinSet::new();
    for trouble in troubles {
        stuck.spawn(trouble.make(house.url().to_owned(), history.clone()));
    }
    engine.until_come(OWNERS).await;
    wait::until("a commit to be held", async || engine.disk().holds_a_commit().then_some(())).await;

    for pair in &mut pairs {
        pair.talk().await;
    }
    let (status, stats) = wait::within("the numbers of every owner", house.ask("GET", "/v1/stats")).await;
    assert_eq!(status, 200, "{stats}");
    let (status, sessions) = wait::within("the sessions", house.ask("GET", "/v1/sessions")).await;
    assert_eq!((status, sessions["sessions"].as_array().map(Vec::len) >= Some(3 * OWNERS)), (200, true), "{sessions}");
    assert!(engine.disk().holds_a_commit() && stuck.try_join_next().is_none(), "all of it was stuck all the while");

    drop(gate);
    engine.let_all_go();
    wait::within("what was stuck", stuck.join_all()).await;
    history.assert_clean();
    drop(house);
    floor.shutdown_background();
}

/// The name of a user whose owner this is.
fn of_owner(owner: usize, role: &str) -> String {
    let mut names = (0..).map(|number| format!("{role}-{number}"));
    names.find(|name| xxh3_64(name.as_bytes()) % OWNERS as u64 == owner as u64).unwrap()
}

/// What needs the disk, or somebody who does not listen: a sender, a user with a device that is away, and
/// a user whose device does not read.
struct Trouble {
    sender: TestClient,
    away: String,
    deaf: TestClient,
}

impl Trouble {
    async fn prepare(house: &House, history: &History, owner: usize) -> Self {
        let away = of_owner(owner, "away");
        enter(house, history, &away).await.leave().await;
        let deaf = Options::of(&of_owner(owner, "deaf"), "phone").narrow().record(history);
        let mut deaf = house.open(deaf).await;
        deaf.expect("caught_up").await;
        let mut sender = enter(house, history, &of_owner(owner, "sender")).await;
        // There is something to be read for the one who is away.
        pour(&mut sender, &[&away], "before", 2).await;
        Self { sender, away, deaf }
    }

    /// Ends when the disk has moved again and everybody has what is theirs.
    async fn make(self, url: String, history: History) {
        let Self { mut sender, away, mut deaf } = self;
        let deaf_user = deaf.welcome["user"].as_str().unwrap().to_owned();
        for number in 0..STUCK {
            for to in [&away, &deaf_user] {
                let body = "x".repeat(2_000);
                let send = json!({"type": "send", "id": format!("stuck-{number}"), "to": to, "body": body});
                sender.speaker.queue(&send).await.unwrap();
            }
        }
        sender.speaker.flush().await.unwrap();
        // Its first page is held.
        let options = Options::of(&away, "phone").record(&history);
        let mut back = TestClient::attempt(&url, &options).await.unwrap();
        for _ in 0..2 * STUCK {
            let answer = sender.recv().await;
            assert_eq!(answer["type"], "accepted", "{answer}");
        }
        take(&mut back, 2 + STUCK).await;
        take(&mut deaf, STUCK).await;
    }
}

/// Two users of one owner who mind their own business; the first watches the second.
struct Pair {
    left: TestClient,
    right: TestClient,
}

impl Pair {
    async fn enter(house: &House, history: &History, owner: usize) -> Self {
        let right = enter(house, history, &of_owner(owner, "right")).await;
        let mut left = enter(house, history, &of_owner(owner, "left")).await;
        left.say(json!({"type": "watch", "users": [right.welcome["user"]]})).await;
        left.expect("presence").await;
        Self { left, right }
    }

    async fn talk(&mut self) {
        let names = [&self.left, &self.right].map(|client| client.welcome["user"].as_str().unwrap().to_owned());
        let there = [&*names[1]];
        let (_, answers) = tokio::join!(take(&mut self.right, TALK), pour(&mut self.left, &there, "talk", TALK));
        assert!(answers.iter().all(|answer| answer["stored"] == false), "the disk is stuck: {answers:?}");
        self.right.say(json!({"type": "send", "to": names[0], "body": "typing", "ephemeral": true})).await;
        let typing = self.left.expect("message").await;
        assert_eq!(typing["ephemeral"], true, "{typing}");
        self.right.say(json!({"type": "status", "state": "busy"})).await;
        let seen = self.left.expect("presence").await;
        assert_eq!(seen["users"][0]["state"], Value::from("busy"), "{seen}");
    }
}

async fn enter(house: &House, history: &History, user: &str) -> TestClient {
    let mut client = house.open(Options::of(user, "phone").record(history)).await;
    client.expect("caught_up").await;
    client
}
