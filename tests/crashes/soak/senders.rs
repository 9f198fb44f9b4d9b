//! Users who send without a pause, lose their connections and repeat what was not answered. Must never
//! leave a message behind: at the end of a window each has its answer.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::cast;
use super::town::Town;
use crate::common::client::{Heard, Speaker, TestClient};

/// Of one sender: so many messages so often.
const BURST: usize = 5;
const PACE: Duration = Duration::from_millis(100);
/// Unanswered at once.
const OPEN_MAX: usize = 100;
const BODY_BYTES_MAX: usize = 1500;
/// For those who have no device and never come.
const SHORT_TTL_MS: u64 = 2000;
/// After these a message goes out again.
const TRY_AGAIN: [&str; 5] = ["unknown_outcome", "storage_unavailable", "overloaded", "shutting_down", "rate_limited"];

#[derive(Debug, Clone)]
struct Mail {
    id: String,
    to: String,
    body: Value,
    ttl_ms: Option<u64>,
    tried: bool,
}

impl Mail {
    fn frame(&self) -> Value {
        let mut frame = json!({"type": "send", "id": self.id, "to": self.to, "body": self.body});
        if self.tried {
            frame["retry"] = true.into();
        }
        if let Some(ttl_ms) = self.ttl_ms {
            frame["ttl_ms"] = ttl_ms.into();
        }
        frame
    }
}

pub struct Sender {
    user: String,
    town: Town,
    rng: fastrand::Rng,
    /// Without an answer, in the order sent.
    open: VecDeque<Mail>,
    /// So many of `open` were written in the present session.
    written: usize,
    latest: Option<Mail>,
    /// Ids of answered messages that were sent once more.
    repeats: Vec<String>,
    made: u64,
}

impl Sender {
    pub fn new(number: usize, window: u64, town: &Town, rng: fastrand::Rng) -> Self {
        let user = format!("sender-{number}");
        let (open, repeats, town) = (VecDeque::new(), Vec::new(), town.clone());
        // An id is never used again in a later window.
        let made = window * 1_000_000;
        Self { user, town, rng, open, written: 0, latest: None, repeats, made }
    }

    /// Until the window is over and everything is answered.
    pub async fn work(mut self) {
        loop {
            let options = self.town.options(&self.user, "pen");
            let rough = self.rng.u8(..3) == 0 && !self.town.is_over();
            let client = self.town.session(&options, rough).await;
            if self.session(client).await {
                return;
            }
        }
    }

    /// True when nothing is left to do.
    async fn session(&mut self, client: TestClient) -> bool {
        let (mut speaker, mut listener) = client.into_halves();
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        (self.written, self.repeats) = (0, Vec::new());
        loop {
            if self.town.is_over() && self.open.is_empty() && self.repeats.is_empty() {
                // A connection that broke just now needs no goodbye.
                let _broken = speaker.close(1000).await.is_err();
                return true;
            }
            tokio::select! {
                _tick = pace.tick() => {
                    // What cannot be written is noticed by reading.
                    let _broken = self.speak(&mut speaker).await.is_err();
                }
                heard = listener.next() => match heard {
                    Heard::Frame(frame) => self.hear(&frame),
                    end => {
                        self.town.ended(&end);
                        return false;
                    }
                },
            }
        }
    }

    async fn speak(&mut self, speaker: &mut Speaker) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        if !self.town.is_over() {
            while self.open.len() < OPEN_MAX && self.open.len() < self.written + BURST {
                let mail = self.make();
                self.open.push_back(mail);
            }
            self.extras(speaker).await?;
        }
        while self.written < self.open.len() {
            let mail = &mut self.open[self.written];
            if mail.tried {
                self.town.count("retries of unanswered sends");
            }
            let frame = mail.frame();
            mail.tried = true;
            self.written += 1;
            speaker.queue(&frame).await?;
        }
        speaker.flush().await
    }

    /// Now and then something ephemeral, and a repeat of what was answered already.
    async fn extras(&mut self, speaker: &mut Speaker) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        if self.rng.bool() {
            let to = cast::user(self.rng.usize(..cast::USERS));
            self.town.count("ephemeral sends");
            speaker.queue(&json!({"type": "send", "to": to, "body": "typing", "ephemeral": true})).await?;
        }
        if self.rng.u8(..10) == 0 && self.repeats.is_empty() {
            let Some(mail) = self.latest.clone() else { return Ok(()) };
            self.repeats.push(mail.id.clone());
            self.town.count("repeats of answered sends");
            speaker.queue(&mail.frame()).await?;
        }
        Ok(())
    }

    fn make(&mut self) -> Mail {
        self.made += 1;
        let body = json!({"number": self.made, "padding": "x".repeat(self.rng.usize(..BODY_BYTES_MAX))});
        let id = format!("{}-{}", self.user, self.made);
        if self.rng.u8(..100) == 0 {
            let to = format!("nobody-{}", self.rng.u8(..50));
            self.town.count("sends to nobody, with a short ttl");
            return Mail { id, to, body, ttl_ms: Some(SHORT_TTL_MS), tried: false };
        }
        let to = cast::user(self.rng.usize(..cast::USERS));
        Mail { id, to, body, ttl_ms: None, tried: false }
    }

    fn hear(&mut self, frame: &Value) {
        let kind = frame["type"].as_str().unwrap();
        if !["accepted", "rejected"].contains(&kind) {
            return assert!(["caught_up", "goodbye"].contains(&kind), "{} got {frame}", self.user);
        }
        let id = frame["id"].as_str().unwrap_or_default();
        if let Some(at) = self.repeats.iter().position(|repeat| repeat == id) {
            self.repeats.remove(at);
            return;
        }
        let at = self.open.iter().take(self.written).position(|mail| mail.id == id);
        let Some(at) = at else {
            // Only what is ephemeral is not in the list, and is told of only when turned away.
            return assert!(kind == "rejected" && id.is_empty(), "{} got {frame}", self.user);
        };
        self.written -= 1;
        let mail = self.open.remove(at).unwrap();
        if kind == "accepted" {
            self.latest = Some(Mail { tried: true, ..mail });
            return;
        }
        let code = frame["code"].as_str().unwrap();
        self.town.count(&format!("sends turned away: {code}"));
        if mail.ttl_ms.is_none() || code != "expired" {
            assert!(TRY_AGAIN.contains(&code), "{frame}");
            self.open.push_back(mail);
        }
    }
}
