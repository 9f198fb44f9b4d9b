//! Calls about dead letters: looking at them, putting one back, clearing them.

use serde::Serialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::desk::Clerk;
use super::messages::ANSWER_MARGIN;
use super::problem::Problem;
use super::queues::Envelope;
use super::server::{Answer, json};
use crate::ids::{DeviceId, Seq, UserId};
use crate::routing::command::{Command, NotRequeued, Requeue};
use crate::store::{DeadLetter, DeadReason, FoundLetter};

/// `GET /v1/dead-letters`. A struct, for bodies must come out as they went in.
#[derive(Debug, Serialize)]
struct LettersPage {
    dead_letters: Vec<Letter>,
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Letter {
    /// A number; it is not to be reckoned with.
    key: String,
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
    fn new(number: u64, letter: DeadLetter, bodies: bool) -> Self {
        Self {
            key: number.to_string(),
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
        let dead_letters = letters.into_iter().map(|(number, letter)| Letter::new(number, letter, bodies)).collect();
        json(&LettersPage { dead_letters, next })
    }

    /// Whose it was is in the letter, so it is looked at twice: here to find its owner, and by the owner, in whose line
    /// it is decided whether it is still there.
    pub(super) async fn requeue(&self, letter: u64) -> Answer {
        let found = self.read(move |reader| reader.dead_letter(letter)).await?;
        let (user, from) = match found {
            FoundLetter::Absent => return Err(NotRequeued::NotFound.into()),
            FoundLetter::Unreadable => return Err(NotRequeued::Unreadable.into()),
            FoundLetter::Whole { user, message, .. } => (user, message.from.clone()),
        };
        self.refuse_early(&from)?;
        let (reply, answer) = oneshot::channel();
        let (taken_us, ttl_ms) = (self.desk.clock.now().us, self.ttl_max_ms());
        let command = Command::Requeue(Requeue { user: user.clone(), letter, ttl_ms, taken_us, reply });
        let asked = async {
            self.desk.router.ask(&user, command).await?;
            // A reply dropped unanswered: the owner ended, and may or may not have got to it.
            answer.await.map_err(|_| Problem::no_answer())?.map_err(Problem::from)
        };
        let wait = self.desk.config.queue.accept_timeout + ANSWER_MARGIN;
        let seq = tokio::time::timeout(wait, asked).await.unwrap_or_else(|_| Err(Problem::no_answer()))?;
        tracing::info!(letter, ?user, %seq, "a dead letter was put back by an operator");
        json(&json!({ "user": user, "seq": seq }))
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
