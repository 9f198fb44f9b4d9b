//! What the application says and hears about one message it sends. Types only.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::codes::Code;
use crate::ids::{MessageId, Seq, UserId};

/// A message on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub id: MessageId,
    pub to: UserId,
    /// One JSON value, relayed byte for byte.
    pub body: Box<RawValue>,
    /// How long it may wait for its recipient; the router's own limit when `None`.
    pub ttl: Option<Duration>,
    /// How long the client goes on trying; [`super::Options::send_timeout`] when `None`.
    pub timeout: Option<Duration>,
    /// It may have been taken in an earlier attempt, perhaps of an earlier process.
    pub retry: bool,
}

impl Outgoing {
    /// A message with an id of its own.
    ///
    /// # Errors
    /// When `body` cannot be written as JSON.
    pub fn new(to: &UserId, body: &(impl Serialize + ?Sized)) -> serde_json::Result<Self> {
        let body = serde_json::value::to_raw_value(body)?;
        Ok(Self { id: fresh_id(), to: to.clone(), body, ttl: None, timeout: None, retry: false })
    }

    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Sends under an id of an earlier attempt, marked as a repeat of it.
    #[must_use]
    pub fn repeating(self, id: MessageId) -> Self {
        Self { id, retry: true, ..self }
    }
}

/// A ULID: no two messages of a user may share an id, whichever device they come from.
#[allow(clippy::unwrap_used, reason = "26 letters and digits are a message id")]
pub fn fresh_id() -> MessageId {
    MessageId::new(&ulid::Ulid::r#gen().to_string()).unwrap()
}

/// The message is safe: stored, or acknowledged by every device of its recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub id: MessageId,
    pub seq: Seq,
    /// It waits on the router's disk for some device of the recipient; otherwise it was handed over.
    pub stored: bool,
}

/// The message is not known to be safe.
#[derive(Debug, Clone, thiserror::Error)]
#[error("message {id} to {to} was not accepted: {cause}{}", if *.maybe_taken { " (it may have been taken)" } else { "" })]
pub struct SendError {
    pub id: MessageId,
    pub to: UserId,
    /// `false`: it was certainly not taken. `true`: it may still arrive; to be sure, send it again
    /// with [`Outgoing::repeating`], which cannot make it two messages.
    pub maybe_taken: bool,
    pub cause: SendFailure,
}

/// Why a message is not known to be safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendFailure {
    /// The router does not want it, and would not want it later either.
    #[error("{reason} ({code})")]
    Rejected { code: Code, reason: String },
    /// The time was over; `last` is what the router said last, if it said anything.
    #[error("no acceptance in time{}", match .last { Some(code) => format!(", last answer {code}"), None => String::new() })]
    TimedOut { last: Option<Code> },
    /// A message with this id to this recipient is still being sent.
    #[error("it is being sent already")]
    AlreadyPending,
    /// The client has ended.
    #[error("the client is closed")]
    Closed,
    /// The client has ended before the answer came. The message is in [`super::Options::storage`], and the next client
    /// with it sends it again.
    #[error("the client is closed; it is kept and will be sent again")]
    Kept,
    /// The body is not JSON.
    #[error("{0}")]
    Body(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_the_words_of_the_wire() {
        let rejected = SendFailure::Rejected { code: Code::IdReused, reason: "used before".to_owned() };
        assert_eq!(rejected.to_string(), "used before (id_reused)");
        let timed_out = SendFailure::TimedOut { last: Some(Code::StorageUnavailable) };
        assert_eq!(timed_out.to_string(), "no acceptance in time, last answer storage_unavailable");
    }
}
