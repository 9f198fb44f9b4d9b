//! What a session is to an owner: a contract, fulfilled by the gateway (or by a node far away).
//!
//! Every method returns at once. Nothing here can be full: an owner pushes no more than the window
//! it granted, a session has no more answers outstanding than it reserved room for, presence is
//! coalesced to one entry a user, and an ephemeral delivery may be turned down.

use std::sync::Arc;

use crate::codes::{CloseCode, Code};
use crate::ids::{DeviceId, MessageId, Seq, SessionId, UserId};
use crate::message::Message;
use crate::presence::PresenceInfo;

/// A durable message on its way to one session.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub message: Arc<Message>,
    pub redelivered: bool,
}

/// A message that is neither stored nor acknowledged.
#[derive(Debug, Clone)]
pub struct Ephemeral {
    pub id: Option<MessageId>,
    pub from: UserId,
    pub body: bytes::Bytes,
    pub ts_ms: u64,
}

/// The outcome of one send, for its sender.
#[derive(Debug, Clone)]
pub struct Answer {
    pub message: Arc<Message>,
    pub to: UserId,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Safe: on disk (`stored`) or acknowledged by every device of the recipient.
    Accepted {
        seq: Seq,
        stored: bool,
    },
    Rejected {
        code: Code,
        reason: &'static str,
        retry_after_ms: Option<u64>,
    },
}

/// The first word to a session that was let in.
#[derive(Debug, Clone)]
pub struct Welcome {
    pub user: UserId,
    pub device: DeviceId,
    pub session: SessionId,
    /// This hello registered the device.
    pub registered: bool,
    /// The device lapsed: it missed messages that are in the dead letters.
    pub gap: bool,
    /// Messages waiting for it; may be an upper bound.
    pub pending: u64,
    pub cursor: Seq,
    /// The window granted (messages): the wish of the client, capped.
    pub window: u32,
}

/// Why the server ends a session.
#[derive(Debug, Clone)]
pub struct Closing {
    pub code: CloseCode,
    pub reason: &'static str,
    pub retry_after_ms: Option<u64>,
}

/// The sender's side of a send: a session, or an admin call.
pub trait Answers: Send + Sync + 'static {
    fn answer(&self, answer: Answer);
    /// Called once after a batch in which anything was handed to it.
    fn wake(&self);
}

/// A live session.
pub trait SessionHandle: Answers {
    fn id(&self) -> SessionId;
    fn welcome(&self, welcome: Welcome);
    fn deliver(&self, delivery: Delivery);
    fn caught_up(&self, seq: Seq);
    /// False when it has no room now; the delivery is dropped.
    fn deliver_ephemeral(&self, ephemeral: &Ephemeral) -> bool;
    /// Later information on the same user replaces what was not yet sent.
    fn presence(&self, users: &[PresenceInfo]);
    /// An `error` frame about a frame of this type.
    fn error(&self, code: Code, reason: &'static str, about: &'static str);
    /// `goodbye` and close, after everything handed over before. Calls after it do nothing.
    fn close(&self, closing: Closing);
}

pub type Session = Arc<dyn SessionHandle>;
pub type Sender = Arc<dyn Answers>;
