//! Users who come once in a while, say something to themselves, and often have their device forgotten: the
//! router meets many names and should not remember more of them than it must.

use std::time::Duration;

use serde_json::json;

use super::cast;
use super::town::Town;
use crate::common::client::{Heard, TestClient};

const PACE: Duration = Duration::from_millis(200);
/// What turns the message away for now.
const TRY_AGAIN: [&str; 2] = ["shutting_down", "unknown_outcome"];

pub struct Passer {
    number: usize,
    window: u64,
    town: Town,
    rng: fastrand::Rng,
}

/// What somebody came for.
struct Errand {
    user: String,
    id: String,
    visits: usize,
    received: bool,
}

impl Passer {
    pub fn new(number: usize, window: u64, town: &Town, rng: fastrand::Rng) -> Self {
        Self { number, window, town: town.clone(), rng }
    }

    /// Returns the names for which something may still be waiting.
    pub async fn walk(mut self) -> Vec<String> {
        let (mut errands, mut unsure) = (0, Vec::new());
        while !self.town.is_over() {
            let user = format!("passer-{}-{}", self.number, self.rng.usize(..cast::PASSER_NAMES));
            let id = format!("{user}-{}-{errands}", self.window);
            let mut errand = Errand { user, id, visits: 0, received: false };
            // One that is cut short is done again, so that nothing is left behind.
            while !self.visit(&mut errand).await {}
            self.town.count("visits of passers-by");
            if errand.visits > 1 {
                // A repeat that was not recognised is a second message.
                unsure.push(errand.user);
            }
            errands += 1;
            self.town.pause(PACE).await;
        }
        unsure
    }

    /// False when the connection ended before everything was done.
    async fn visit(&mut self, errand: &mut Errand) -> bool {
        let options = self.town.options(&errand.user, "phone");
        let mut client = self.town.session(&options, false).await;
        let mut send = json!({"type": "send", "id": errand.id, "to": errand.user, "body": {"note": errand.id}});
        if errand.visits > 0 {
            send["retry"] = true.into();
        }
        errand.visits += 1;
        for frame in [json!({"type": "status", "state": "away", "text": "passing"}), send] {
            // What cannot be written is noticed by reading.
            let _broken = client.speaker.say(&frame).await.is_err();
        }
        let mut accepted = false;
        while !(accepted && errand.received) {
            let frame = match client.listener.next().await {
                Heard::Frame(frame) => frame,
                end => {
                    self.town.ended(&end);
                    return false;
                }
            };
            if frame["type"] == "message" && frame["seq"].is_u64() {
                errand.received |= frame["id"] == *errand.id;
                let ack = json!({"type": "ack", "seq": frame["seq"]});
                let _broken = client.speaker.say(&ack).await.is_err();
            }
            if frame["type"] == "rejected" {
                assert!(TRY_AGAIN.contains(&frame["code"].as_str().unwrap()), "{frame}");
                return false;
            }
            accepted |= frame["type"] == "accepted";
        }
        let forgets = errand.visits == 1 && self.rng.bool();
        self.depart(client, &errand.user, forgets).await;
        true
    }

    async fn depart(&mut self, mut client: TestClient, user: &str, forgets: bool) {
        if !forgets {
            let _broken = client.speaker.close(1000).await.is_err();
            return;
        }
        if client.speaker.say(&json!({"type": "forget"})).await.is_err() {
            return;
        }
        loop {
            match client.listener.next().await {
                Heard::Frame(_) => {}
                Heard::Closed { code: 1000, .. } => break,
                end => return self.town.ended(&end),
            }
        }
        self.town.history.forgotten(user, "phone");
        self.town.count("devices forgotten");
    }
}
