//! A short conversation of which one side may lose its connection at any moment, comes back and goes on.
//! Must never repeat what was answered, nor leave out what was not.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::interval;

use crate::common::client::{Heard, Options, TestClient};
use crate::common::daemon::{Daemon, Settings};
use crate::common::history::{History, Report};
use crate::common::wait;

/// Messages in each direction.
pub const STEPS: usize = 4;
/// Between two tries to connect.
const AGAIN: Duration = Duration::from_millis(20);

/// The same frames in the same order on every road, and as long: nothing is stored while both are there.
pub fn configure(settings: &mut Settings) {
    settings.set("routing.shards", 1).set("store.commit_delay", "500ms");
}

/// One conversation with a record of its own: `near` is on the bad road, `far` is not.
pub struct Conversation {
    near: String,
    far: String,
    history: History,
}

impl Conversation {
    /// Every name is as long as every other.
    pub fn new(number: usize) -> Self {
        Self { near: format!("near-{number:04}"), far: format!("far-{number:04}"), history: History::new() }
    }

    /// All of it, with the near side at `bad`; then what is left is drained, and the whole judged.
    pub async fn hold(&self, daemon_url: &str, bad: &str) -> Report {
        let far = self.enter(daemon_url, &self.far).await;
        let far = tokio::spawn(answer(far, self.near.clone()));
        // Registered, so that everything is owed to it; on the good road, or a reset could come before.
        self.enter(daemon_url, &self.near).await.leave().await;
        self.initiate(bad).await;
        let far = match wait::within("the far side", far).await {
            Ok(far) => far,
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        };
        far.leave().await;
        for user in [&self.near, &self.far] {
            drain(daemon_url, &self.options(user)).await;
        }
        self.history.assert_clean()
    }

    fn options(&self, user: &str) -> Options {
        Options::of(user, "phone").record(&self.history)
    }

    async fn enter(&self, url: &str, user: &str) -> TestClient {
        let mut client = TestClient::attempt(url, &self.options(user)).await.unwrap();
        client.expect("caught_up").await;
        client
    }

    /// Says each thing, and goes on when it was answered in both senses.
    async fn initiate(&self, url: &str) {
        let mut near = Near::default();
        let mut pace = interval(AGAIN);
        loop {
            pace.tick().await;
            let Ok(client) = TestClient::attempt(url, &self.options(&self.near)).await else { continue };
            if near.go_on(client, &self.far).await {
                return;
            }
        }
    }
}

/// What the near side knows, over all its connections.
#[derive(Default)]
struct Near {
    tried: HashSet<usize>,
    accepted: HashSet<String>,
    received: HashSet<String>,
}

impl Near {
    /// True when the conversation has come to its end, false when only the connection has.
    async fn go_on(&mut self, mut client: TestClient, to: &str) -> bool {
        if !self.until(&mut client, |_, frame| frame["type"] == "caught_up").await {
            return false;
        }
        for step in 0..STEPS {
            let (said, heard) = (format!("near-{step}"), format!("far-{step}"));
            if !self.accepted.contains(&said) {
                let mut frame = json!({"type": "send", "id": said, "to": to, "body": {"step": step}});
                if !self.tried.insert(step) {
                    frame["retry"] = true.into();
                }
                if client.speaker.say(&frame).await.is_err() {
                    return false;
                }
            }
            let both = |near: &Self, _: &Value| near.accepted.contains(&said) && near.received.contains(&heard);
            if !both(self, &Value::Null) && !self.until(&mut client, both).await {
                return false;
            }
        }
        // So that something comes after the last ack.
        client.speaker.say(&json!({"type": "ping", "n": 1})).await.is_ok()
            && self.until(&mut client, |_, frame| frame["type"] == "pong").await
    }

    /// Listens until `done`; false when the connection ends before.
    async fn until(&mut self, client: &mut TestClient, done: impl Fn(&Self, &Value) -> bool) -> bool {
        loop {
            let Heard::Frame(frame) = client.listener.next().await else { return false };
            let id = || frame["id"].as_str().unwrap().to_owned();
            match frame["type"].as_str().unwrap() {
                "accepted" => drop(self.accepted.insert(id())),
                "message" => {
                    self.received.insert(id());
                    let ack = json!({"type": "ack", "seq": frame["seq"]});
                    if client.speaker.say(&ack).await.is_err() {
                        return false;
                    }
                }
                "caught_up" | "pong" => {}
                _ => panic!("{frame}"),
            }
            if done(self, &frame) {
                return true;
            }
        }
    }
}

/// The far side acknowledges what it gets, answers each thing once, and ends when all is said.
async fn answer(mut client: TestClient, to: String) -> TestClient {
    let (mut answered, mut accepted) = (HashSet::new(), 0);
    while accepted < STEPS {
        let frame = client.recv().await;
        match frame["type"].as_str().unwrap() {
            "accepted" => accepted += 1,
            "message" => {
                client.ack(frame["seq"].as_u64().unwrap()).await;
                let step = frame["body"]["step"].as_u64().unwrap();
                if answered.insert(step) {
                    client.send(&to, &format!("far-{step}"), json!({"step": step})).await;
                }
            }
            _ => panic!("{frame}"),
        }
    }
    client
}

/// Takes and acknowledges whatever waits, on a good road, and sees that it is gone then.
pub async fn drain(url: &str, options: &Options) {
    let mut client = TestClient::attempt(url, options).await.unwrap();
    loop {
        let frame = client.recv().await;
        match frame["type"].as_str().unwrap() {
            "message" => client.ack(frame["seq"].as_u64().unwrap()).await,
            "caught_up" => break,
            _ => panic!("{frame}"),
        }
    }
    client.leave().await;
    let again = TestClient::attempt(url, options).await.unwrap();
    assert_eq!(again.welcome["pending"], 0, "{options:?} has acknowledged everything");
    again.leave().await;
}

/// A recorded session of `user` that has caught up, through whatever is at `url`.
pub async fn enter(url: &str, history: &History, user: &str, hello: &[(&str, u64)]) -> TestClient {
    let options = Options::of(user, "phone").record(history);
    let options = hello.iter().fold(options, |options, (field, value)| options.hello(field, *value));
    let mut client = TestClient::attempt(url, &options).await.unwrap();
    client.expect("caught_up").await;
    client
}

/// Waits until `user` has so many sessions, and returns their ids.
pub async fn until_sessions(daemon: &Daemon, user: &str, count: usize) -> Vec<String> {
    let path = format!("/v1/users/{user}");
    let what = format!("{count} sessions of {user}");
    wait::until(&what, async || {
        let (_, about) = daemon.admin("GET", &path).await;
        let sessions = about["sessions"].as_array()?;
        let ids = sessions.iter().map(|session| session["session"].as_str().unwrap().to_owned()).collect();
        (sessions.len() == count).then_some(ids)
    })
    .await
}
