//! `POST /v1/messages`: sends as an application server does, and waits until the message is safe.
//!
//! It must never say that a message was not taken once an owner has it: then the only negative answer is
//! `unknown_outcome`, unless the owner itself says otherwise.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::desk::Clerk;
use super::problem::Problem;
use super::server::{Answer, json};
use crate::codes::Code;
use crate::ids::{MessageId, Seq, UserId};
use crate::limits;
use crate::message::Message;
use crate::routing::command::{Command, Send};
use crate::routing::session_handle::{self, Answers, Outcome};
use crate::shutdown::Phase;

/// How long the request's body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// How much longer than the owner we wait for its answer: it is the one to say `unknown_outcome`.
pub(super) const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// The request. Unknown fields are errors: a misspelt `ttl_ms` would otherwise mean "keep it for weeks".
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Letter {
    from: UserId,
    to: UserId,
    id: Option<MessageId>,
    body: Box<RawValue>,
    ttl_ms: Option<u64>,
    #[serde(default)]
    retry: bool,
}

impl Clerk {
    pub(super) async fn send(&self, body: Incoming) -> Answer {
        let letter = self.read_letter(body).await?;
        self.refuse_early(&letter.from)?;
        let id = letter.id.clone().map_or_else(new_id, Ok)?;
        let to = letter.to.clone();
        let outcome = self.deliver(letter, id.clone()).await?;
        match outcome {
            Outcome::Accepted { seq, stored } => json(&json!({ "id": id, "to": to, "seq": seq, "stored": stored })),
            Outcome::Rejected { code, reason, retry_after_ms } => Err(Problem::refused(code, reason, retry_after_ms)),
        }
    }

    async fn read_letter(&self, body: Incoming) -> Result<Letter, Problem> {
        let body_bytes_max = self.desk.config.limits.body_bytes;
        let body = Limited::new(body, body_bytes_max + limits::ENVELOPE_BYTES_MAX);
        let text = match tokio::time::timeout(BODY_WAIT, body.collect()).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large(body_bytes_max)),
            Ok(Err(error)) => return Err(Problem::bad_request(error.to_string())),
            Err(_) => return Err(Problem::request_timeout()),
        };
        let letter = parse(&text)?;
        if letter.body.get().len() > body_bytes_max { Err(too_large(body_bytes_max)) } else { Ok(letter) }
    }

    /// What needs no owner to be refused, as at the front door.
    pub(super) fn refuse_early(&self, sender: &UserId) -> Result<(), Problem> {
        if self.shutdown.phase() >= Phase::Draining {
            return Err(Problem::refused(Code::ShuttingDown, "the daemon is draining", None));
        }
        if self.desk.outstanding.is_full(sender) {
            return Err(Problem::refused(Code::QueueFull, "this sender has too many messages waiting", None));
        }
        Ok(())
    }

    /// How long a message may wait at most.
    pub(super) fn ttl_max_ms(&self) -> u64 {
        u64::try_from(self.desk.config.queue.ttl.as_millis()).unwrap_or(u64::MAX)
    }

    async fn deliver(&self, letter: Letter, id: MessageId) -> Result<Outcome, Problem> {
        let queue = &self.desk.config.queue;
        let (slot, outcome) = slot();
        let now = self.desk.clock.now();
        let ttl_max_ms = self.ttl_max_ms();
        let to = letter.to.clone();
        let ttl_ms = letter.ttl_ms.unwrap_or(ttl_max_ms).min(ttl_max_ms);
        let message = Arc::new(Message {
            seq: Seq::ZERO,
            id,
            from: letter.from,
            body: Bytes::copy_from_slice(letter.body.get().as_bytes()),
            ts_ms: now.wall_ms,
            expires_ms: now.wall_ms.saturating_add(ttl_ms),
            retry: letter.retry,
        });
        let keys = self.desk.router.keys();
        let send = Command::Send(Send::new(keys, letter.to, message, Arc::new(slot), now.us));
        let asked = async {
            self.desk.router.ask(&to, send).await?;
            outcome.await.map_err(|_| Problem::no_answer())
        };
        let wait = queue.accept_timeout + ANSWER_MARGIN;
        tokio::time::timeout(wait, asked).await.unwrap_or_else(|_| Err(Problem::no_answer()))
    }
}

fn too_large(max: usize) -> Problem {
    Problem::refused(Code::TooLarge, format!("a body has at most {max} bytes"), None)
}

fn new_id() -> Result<MessageId, Problem> {
    MessageId::new(&ulid::Ulid::r#gen().to_string()).map_err(|error| Problem::internal(error.to_string()))
}

pub(super) fn parse(text: &[u8]) -> Result<Letter, Problem> {
    // serde_json's own words name the field and the place, never the contents of the body.
    let letter: Letter = serde_json::from_slice(text).map_err(|error| Problem::bad_request(error.to_string()))?;
    if letter.ttl_ms == Some(0) {
        return Err(Problem::bad_request("ttl_ms must be at least 1"));
    }
    // The body will be one level down in a frame.
    if depth(letter.body.get()) >= limits::JSON_DEPTH_MAX {
        return Err(Problem::bad_request(format!("the body nests deeper than {} levels", limits::JSON_DEPTH_MAX - 1)));
    }
    Ok(letter)
}

/// Levels of nesting of a JSON text that is known to be well-formed (raw values are read without a limit).
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

/// The sender's side of this one send. If the owner drops it unanswered, the waiting side learns that too.
struct Slot(Mutex<Option<oneshot::Sender<Outcome>>>);

fn slot() -> (Slot, oneshot::Receiver<Outcome>) {
    let (sender, receiver) = oneshot::channel();
    (Slot(Mutex::new(Some(sender))), receiver)
}

impl Answers for Slot {
    fn answer(&self, answer: session_handle::Answer) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // An error means that nobody waits any more: the caller hung up.
        let _hung_up = waiting.is_some_and(|waiting| waiting.send(answer.outcome).is_err());
    }

    fn wake(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_kept_byte_for_byte() {
        let letter = parse(br#"{"from":"a","to":"b","body": {"n": 1.00e2,  "n":[]} }"#).unwrap();
        assert_eq!(letter.body.get(), r#"{"n": 1.00e2,  "n":[]}"#);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "",
            "[]",
            r#"{"from":"a","to":"b"}"#,
            r#"{"from":"a","to":"b/c","body":1}"#,
            r#"{"from":"","to":"b","body":1}"#,
            r#"{"from":"a","to":"b","body":1,"ttl":5}"#,
            r#"{"from":"a","to":"b","body":1,"ttl_ms":0}"#,
            r#"{"from":"a","to":"b","body":1,"ttl_ms":-1}"#,
            r#"{"from":"a","to":"b","body":1,"id":"has space"}"#,
            r#"{"from":"a","to":"b","body":1} {}"#,
        ] {
            assert_eq!(parse(bad.as_bytes()).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn a_body_nests_as_deep_as_a_frame_can_carry() {
        let nested = |levels: usize| {
            let body = "[".repeat(levels) + &"]".repeat(levels);
            parse(format!(r#"{{"from":"a","to":"b","body":{body}}}"#).as_bytes())
        };
        assert!(nested(limits::JSON_DEPTH_MAX - 1).is_ok());
        assert_eq!(nested(limits::JSON_DEPTH_MAX).unwrap_err().status, 400);
        assert_eq!(nested(10_000).unwrap_err().status, 400);
        assert_eq!(depth(r#"{"a":"[[[\"[[","b":[{}]}"#), 3);
    }
}
