//! A message as the house carries it: an envelope and a body that nobody looks into.

use bytes::Bytes;

use crate::ids::{MessageId, Seq, UserId};

/// A durable message with its place in the recipient's inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// [`Seq::ZERO`] until it has its place.
    pub seq: Seq,
    pub id: MessageId,
    pub from: UserId,
    /// The body as the sender wrote it: one JSON value, relayed byte for byte.
    pub body: Bytes,
    /// Wall time at which the gateway took it, milliseconds since the Unix epoch.
    pub ts_ms: u64,
    /// Wall time from which it is no longer delivered, milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// A marked retry that dedupe did not know: every delivery of it says `redelivered`.
    pub retry: bool,
}

/// What a message counts for beside its body, its id and its sender, in bytes.
pub const ENVELOPE_WEIGHT: u64 = 64;

impl Message {
    /// What the message counts for in windows and quotas, in bytes.
    pub fn weight(&self) -> u64 {
        (self.body.len() + self.id.as_str().len() + self.from.as_str().len()) as u64 + ENVELOPE_WEIGHT
    }
}

/// How much has ever passed through an inbox up to and including one message.
///
/// Kept with every stored message, so that the backlog behind any cursor is the difference of two
/// tallies and nothing has to be counted, however long the queue. What has left from between the two
/// (expired, purged one by one) is still in that difference: it is an upper bound, which owners make
/// exact where it would cost somebody something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub messages: u64,
    /// Sum of [`Message::weight`].
    pub bytes: u64,
}

impl Tally {
    /// The tally after one more message of `weight` bytes.
    #[must_use]
    pub fn plus(self, weight: u64) -> Self {
        self.with(Self { messages: 1, bytes: weight })
    }

    /// Both together. A record may claim any tally, and none of them may stop the house: at the top it stays.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { messages: self.messages.saturating_add(other.messages), bytes: self.bytes.saturating_add(other.bytes) }
    }

    /// The later of two, each count by itself.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { messages: self.messages.max(other.messages), bytes: self.bytes.max(other.bytes) }
    }

    /// What lies between `earlier` and this; nothing if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(earlier.messages),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}
