//! Load for tests that stop the router under it: senders that keep many sends unanswered, receivers
//! that read to the very end, and what they saw. Must never reconnect or repeat by itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::common::client::{Heard, Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::wait;

/// Sends that one sender keeps unanswered.
pub const IN_FLIGHT: u64 = 64;
/// An end whose session was not closed in order.
pub const NO_CODE: u16 = 0;

/// How a session ended.
#[derive(Debug, Default)]
pub struct End {
    pub goodbye: Option<Value>,
    /// The code of the close frame, or [`NO_CODE`].
    pub code: u16,
}

/// What a sender saw.
#[derive(Debug)]
pub struct Sent {
    /// Ids in the order of sending.
    pub ids: Vec<String>,
    pub answers: HashMap<String, Value>,
    pub end: End,
}

impl Sent {
    /// Sends that never got an answer.
    pub fn unanswered(&self) -> impl Iterator<Item = &String> {
        self.ids.iter().filter(|id| !self.answers.contains_key(*id))
    }

    /// What is read is answered, and reading is in order: before a send that was taken, none may lack
    /// its answer. What was still in the socket when the router left is another matter.
    pub fn assert_no_answer_is_missing(&self) {
        let last_taken = self.ids.iter().rposition(|id| self.answers.get(id).is_some_and(|a| a["type"] == "accepted"));
        let missing = self.ids.iter().take(last_taken.unwrap_or(0)).find(|id| !self.answers.contains_key(*id));
        assert_eq!(missing, None, "of {} sends, up to the {last_taken:?}th", self.ids.len());
    }
}

/// What a receiver was given.
#[derive(Debug)]
pub struct Received {
    /// Who it was, as `user/device`.
    pub who: String,
    pub ids: HashSet<String>,
    pub end: End,
}

/// Senders and receivers at work.
pub struct Traffic {
    senders: JoinSet<Sent>,
    receivers: JoinSet<Received>,
    sent: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
}

impl Traffic {
    /// Every one of `senders` writes to all of `to` in turn, until it is turned down or the session ends.
    pub async fn start(daemon: &Daemon, history: &History, senders: &[&str], to: &[&str]) -> Self {
        let mut traffic =
            Self { senders: JoinSet::new(), receivers: JoinSet::new(), sent: Arc::default(), answered: Arc::default() };
        for name in senders {
            let client = TestClient::open(daemon, Options::of(name, "sender").record(history)).await;
            let to = to.iter().map(|name| (*name).to_owned()).collect();
            let counters = (traffic.sent.clone(), traffic.answered.clone());
            traffic.senders.spawn(pour(client, (*name).to_owned(), to, counters));
        }
        traffic
    }

    /// A receiver that reads everything and acknowledges it, or nothing of it.
    pub fn receive(&mut self, client: TestClient, acks: bool) {
        self.receivers.spawn(drink(client, acks));
    }

    /// Returns at a moment when much was answered and much is not.
    pub async fn in_full_swing(&self, answered: u64, unanswered: u64) {
        wait::until("traffic in full swing", async || {
            let done = self.answered.load(Ordering::SeqCst);
            let waiting = self.sent.load(Ordering::SeqCst).saturating_sub(done);
            (done >= answered && waiting >= unanswered).then_some(())
        })
        .await;
    }

    /// Waits until every sender was turned down, and has an answer to each of its sends.
    #[allow(dead_code, reason = "not every test that includes this waits for it")]
    pub async fn turned_down(&self) {
        wait::until("an answer to every send", async || {
            // Who goes on sending has always many unanswered.
            let done = self.answered.load(Ordering::SeqCst);
            (done == self.sent.load(Ordering::SeqCst)).then_some(())
        })
        .await;
    }

    /// Waits until every session has ended.
    pub async fn ended(self) -> (Vec<Sent>, Vec<Received>) {
        (self.senders.join_all().await, self.receivers.join_all().await)
    }
}

/// Connects, takes and acknowledges everything that waits, and leaves. Returns the messages.
pub async fn collect(daemon: &Daemon, user: &str, device: &str, history: &History) -> Vec<Value> {
    let mut client = TestClient::open(daemon, Options::of(user, device).record(history)).await;
    let mut messages = Vec::new();
    loop {
        let frame = client.recv().await;
        if frame["type"] == "message" {
            client.ack(frame["seq"].as_u64().unwrap()).await;
            messages.push(frame);
        } else {
            assert_eq!(frame["type"], "caught_up", "{frame}");
            break;
        }
    }
    client.leave().await;
    messages
}

async fn pour(
    client: TestClient,
    name: String,
    to: Vec<String>,
    (sent, answered): (Arc<AtomicU64>, Arc<AtomicU64>),
) -> Sent {
    let (mut speaker, mut listener) = client.into_halves();
    let mut seen = Sent { ids: Vec::new(), answers: HashMap::new(), end: End::default() };
    let mut goes_on = true;
    loop {
        while goes_on && (seen.ids.len() - seen.answers.len()) < IN_FLIGHT as usize {
            let number = seen.ids.len();
            let (id, to) = (format!("{name}:{number}"), &to[number % to.len()]);
            let send = json!({"type": "send", "id": id, "to": to, "body": {"n": number}});
            goes_on = speaker.queue(&send).await.is_ok();
            seen.ids.push(id);
            sent.fetch_add(1, Ordering::SeqCst);
        }
        goes_on = goes_on && speaker.flush().await.is_ok();
        match listener.next().await {
            Heard::Frame(frame) if frame["type"] == "accepted" || frame["type"] == "rejected" => {
                goes_on = goes_on && frame["type"] == "accepted";
                seen.answers.insert(frame["id"].as_str().unwrap().to_owned(), frame);
                answered.fetch_add(1, Ordering::SeqCst);
            }
            heard => {
                if seen.end.hear(heard) {
                    return seen;
                }
            }
        }
    }
}

async fn drink(client: TestClient, acks: bool) -> Received {
    let who = format!("{}/{}", client.welcome["user"].as_str().unwrap(), client.welcome["device"].as_str().unwrap());
    let (mut speaker, mut listener) = client.into_halves();
    let mut seen = Received { who, ids: HashSet::new(), end: End::default() };
    loop {
        // A receiver may have nothing to hear for as long as the test takes.
        let Some(heard) = listener.next_within(4 * wait::PATIENCE).await else { panic!("{} waits forever", seen.who) };
        match heard {
            Heard::Frame(frame) if frame["type"] == "message" => {
                seen.ids.insert(frame["id"].as_str().unwrap().to_owned());
                // The router may be gone already; then the message will come again.
                let _gone = acks && speaker.say(&json!({"type": "ack", "seq": frame["seq"]})).await.is_err();
            }
            heard => {
                if seen.end.hear(heard) {
                    return seen;
                }
            }
        }
    }
}

impl End {
    /// Whether that was the end.
    fn hear(&mut self, heard: Heard) -> bool {
        match heard {
            Heard::Frame(frame) if frame["type"] == "goodbye" => self.goodbye = Some(frame),
            Heard::Frame(frame) => assert_eq!(frame["type"], "caught_up", "{frame}"),
            Heard::Closed { code, .. } => {
                self.code = code;
                return true;
            }
            Heard::Gone(_) => {
                self.code = NO_CODE;
                return true;
            }
        }
        false
    }

    /// The router is coming back: 1012, and how long to stay away.
    pub fn retry_after_ms(&self) -> u64 {
        assert_eq!(self.code, 1012, "{self:?}");
        let goodbye = self.goodbye.as_ref().expect("a goodbye before the close");
        assert_eq!(goodbye["code"], 1012, "{goodbye}");
        goodbye["retry_after_ms"].as_u64().expect("how long to stay away")
    }
}
