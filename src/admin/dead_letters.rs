//! Calls about dead letters: looking at them, clearing them.

use serde::Serialize;
use serde_json::json;

use super::desk::Clerk;
use super::problem::Problem;
use super::queues::Envelope;
use super::server::{Answer, json};
use crate::ids::{DeviceId, Seq, UserId};
use crate::store::{DeadLetter, DeadReason};

/// `GET /v1/dead-letters`. A struct, for bodies must come out as they went in.
#[derive(Debug, Serialize)]
struct LettersPage {
    dead_letters: Vec<Letter>,
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Letter {
    reason: DeadReason,
    user: UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<DeviceId>,
    seq: Seq,
    buried_ms: u64,
    /// None when the record could not be read.
    message: Option<Envelope>,
}

impl Letter {
    fn new(letter: DeadLetter, bodies: bool) -> Self {
        Self {
            message: letter.message.as_deref().map(|message| Envelope::new(message, bodies)),
            reason: letter.reason,
            user: letter.user,
            device: letter.device,
            seq: letter.seq,
            buried_ms: letter.buried_ms,
        }
    }
}

impl Clerk {
    pub(super) async fn dead_letters(&self, after: Option<u64>, limit: usize, bodies: bool) -> Answer {
        // One more than asked for tells whether there are more.
        let mut letters = self.read(move |reader| reader.dead_letters(after, limit + 1)).await?;
        let more = letters.len() > limit;
        letters.truncate(limit);
        let next = letters.last().filter(|_| more).map(|(key, _)| key.to_string());
        let dead_letters = letters.into_iter().map(|(_, letter)| Letter::new(letter, bodies)).collect();
        json(&LettersPage { dead_letters, next })
    }

    pub(super) async fn clear_dead_letters(&self) -> Answer {
        let controls = std::sync::Arc::clone(&self.desk.controls);
        // Without an answer in time it may still happen, unlike a read.
        let cleared =
            self.blocking(move || controls.clear_dead_letters()).await.map_err(|_| Problem::no_answer())??;
        tracing::info!(cleared, "dead letters cleared by an operator");
        json(&json!({ "cleared": cleared }))
    }
}
