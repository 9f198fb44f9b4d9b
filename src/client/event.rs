//! What the application hears from its client.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::codes::Code;
use crate::ids::{MessageId, Seq, UserId};
use crate::presence::PresenceInfo;
use crate::protocol::server_frames::WelcomeFrame;

use super::outgoing::{Accepted, SendError};

/// One thing that happened. [`Event::Closed`] is always the last.
#[derive(Debug, Clone)]
pub enum Event {
    /// A session began; it came after [`Event::Disconnected`] or is the first.
    Connected(WelcomeFrame),
    /// A durable message, handed over exactly once by this client.
    Message(Incoming),
    /// Everything that waited when the session began has been handed over.
    CaughtUp { seq: Seq },
    /// A message that is neither stored nor acked: typing, cursors.
    Ephemeral(Ephemeral),
    /// Changes of watched users and of oneself; each user's versions only rise.
    Presence(Vec<PresenceInfo>),
    /// A durable send was not taken now; the client repeats it. Told once for every new `code`.
    PutOff { id: MessageId, to: UserId, code: Code, reason: String },
    /// A send of an earlier process, found in [`super::Options::storage`], has its answer.
    Settled { id: MessageId, to: UserId, result: Result<Accepted, SendError> },
    /// The router did not like something that was not a durable send.
    Refused { code: Code, reason: String, about: Option<String> },
    /// A session ended or an attempt to connect failed; the next attempt is `retry_in` away.
    Disconnected { close_code: Option<u16>, reason: String, retry_in: Duration },
    /// The client is at its end and will not come back.
    Closed(Closed),
}

/// A durable message. It counts as done, and is acked, when the application takes the next event,
/// or calls [`super::Events::done`].
#[derive(Debug, Clone)]
pub struct Incoming {
    pub seq: Seq,
    /// With `from` the name of the message, for ever.
    pub id: MessageId,
    pub from: UserId,
    /// One JSON value as its sender wrote it.
    pub body: Box<RawValue>,
    /// When the router took it, milliseconds since the Unix epoch.
    pub ts_ms: u64,
    /// This device may have seen it before, in an earlier process.
    pub redelivered: bool,
}

/// A message that only live sessions get.
#[derive(Debug, Clone)]
pub struct Ephemeral {
    pub from: UserId,
    pub body: Box<RawValue>,
    pub ts_ms: u64,
}

/// Why the client ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The application wished it, or the device was unregistered.
    #[error("closed")]
    Done,
    /// The router's close code says that coming back would be wrong: 4409 replaced by a newer session
    /// of this device, 4410 removed by an operator, 4403, 4400 and others of the protocol's table.
    #[error("{reason} ({close_code})")]
    Refused { close_code: u16, reason: String },
    /// The router does not accept the token, and there is no other.
    #[error("not authenticated: {reason}")]
    NotAuthenticated { reason: String },
    /// Nothing can be at this address, or the router took the client for someone else than before:
    /// going on would mix two inboxes.
    #[error("{reason}")]
    Impossible { reason: String },
    /// [`super::Options::storage`] failed: nothing that the client promises would hold.
    #[error("{reason}")]
    Storage { reason: String },
}
