//! Everything one may ask of an owner, with its reply channel.
//!
//! Commands for a user go to the shard that owns the user, in batches, through one FIFO; their order
//! there is the order of things. Only [`Query`] has a mailbox of its own, polled first.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::send_key::{SendKey, SendKeys};
use super::session_handle::{Sender, Session};
use crate::codes::{CloseCode, Code};
use crate::ids::{DeviceId, Seq, SessionId, UserId};
use crate::message::Message;
use crate::presence::{PresenceInfo, PresenceState};
use crate::store::{CommitReport, DedupeKey, DedupeRecord, FoundLetter, LoadedUser, Page, StoreError, StoreState};

/// One thing asked of an owner. What is large and rare is in a box, so that a batch of what is frequent stays small.
pub enum Command {
    /// A session wants to be the live one of its device. Answered with `welcome` or `close`.
    Attach(Box<Attach>),
    /// The connection is gone. `clean` when the client closed with 1000 (presence does not linger).
    Detach {
        user: UserId,
        device: DeviceId,
        session: SessionId,
        clean: bool,
        /// What the gateway itself closed it with, for those who watch.
        code: Option<CloseCode>,
    },
    /// A durable message to `to`. Answered through `sender`.
    Send(Send),
    /// A message for the sessions that are live now; `to` decides the owner.
    SendEphemeral {
        to: UserId,
        ephemeral: Box<super::session_handle::Ephemeral>,
    },
    /// Everything pushed to this session up to and including `seq` is done.
    Ack {
        user: UserId,
        device: DeviceId,
        session: SessionId,
        seq: Seq,
    },
    /// The session's own state.
    Status {
        user: UserId,
        session: SessionId,
        state: PresenceState,
        text: Option<String>,
    },
    /// `session` wants to know of `user`: a snapshot now, changes from now on.
    Watch {
        user: UserId,
        session: Session,
    },
    Unwatch {
        user: UserId,
        session: SessionId,
    },
    /// The session's device is unregistered, then closed with 1000.
    Forget {
        user: UserId,
        device: DeviceId,
        session: SessionId,
    },
    /// An operator unregisters a device; a live session of it is closed with 4410.
    ForgetDevice {
        user: UserId,
        device: DeviceId,
        reply: oneshot::Sender<Result<(), NotDone>>,
    },
    /// An operator removes a session (4410).
    Kick {
        user: UserId,
        session: SessionId,
        reply: oneshot::Sender<Result<(), NotDone>>,
    },
    /// Takes what waits out of an inbox, up to the last seq at this moment, or one message.
    Purge {
        user: UserId,
        only: Option<Seq>,
        reply: oneshot::Sender<Result<u64, NotDone>>,
    },
    /// An operator puts a dead letter back at the tail of the inbox that it came from.
    Requeue(Requeue),
    /// The store says that it is time to look at this user.
    Due {
        user: UserId,
        at_ms: u64,
    },
    /// What a load, a page, a look-up or a commit came to.
    Report(Box<Report>),
    /// No seq above this may be given out.
    Ceiling(Seq),
    Storage(StoreState),
    /// The wall clock stepped, or an operator says it is right again.
    PauseExpiry(bool),
    /// Every held append is due now; answered when no send is pending and every cursor is written.
    Drain {
        reply: oneshot::Sender<()>,
    },
    /// Every session is closed with `goodbye`.
    CloseAll {
        closing: super::session_handle::Closing,
        spread_ms: u64,
    },
    /// A timer that the owner asked for has come.
    Tick,
}

pub struct Attach {
    pub user: UserId,
    pub device: DeviceId,
    pub session: Session,
    pub state: PresenceState,
    pub text: Option<String>,
    /// Messages and bytes that may be in flight; at least 1.
    pub window: u32,
    pub window_bytes: u64,
    /// Where it comes from, for operators.
    pub peer: String,
}

pub struct Send {
    pub to: UserId,
    /// Without a place, which the owner gives it. Its end is capped by `queue.ttl`.
    pub message: Arc<Message>,
    pub sender: Sender,
    /// When the gateway took it, hybrid microseconds; `queue.accept_timeout` runs from here.
    pub taken_us: u64,
    pub(super) key: SendKey,
    /// Of the body: a repeat has the same.
    pub(super) digest: u64,
}

impl Send {
    pub fn new(keys: SendKeys, to: UserId, message: Arc<Message>, sender: Sender, taken_us: u64) -> Self {
        let key = keys.key(&to, &message.from, &message.id);
        let digest = xxhash_rust::xxh3::xxh3_64(&message.body);
        Self { to, message, sender, taken_us, key, digest }
    }
}

pub struct Requeue {
    pub user: UserId,
    /// Its number in the dead-letter list.
    pub letter: u64,
    /// How long it may wait from now on.
    pub ttl_ms: u64,
    /// When the call came, hybrid microseconds; `queue.accept_timeout` runs from here.
    pub taken_us: u64,
    /// Told the message's new place once it is stored there.
    pub reply: oneshot::Sender<Result<Seq, NotRequeued>>,
}

/// What the world reports back. Generations make old ones harmless.
pub enum Report {
    Loaded {
        user: UserId,
        result: Result<LoadedUser, StoreError>,
    },
    Page {
        user: UserId,
        device: DeviceId,
        session: SessionId,
        result: Result<Page, StoreError>,
    },
    /// A page read for an operator's or the clock's work on an inbox (purge, expiry, lapse, forget).
    Sweep {
        user: UserId,
        job: u64,
        result: Result<Page, StoreError>,
    },
    Dedupe {
        key: DedupeKey,
        result: Result<Option<DedupeRecord>, StoreError>,
    },
    /// What the dead-letter list holds under a number.
    Letter {
        user: UserId,
        letter: u64,
        result: Result<FoundLetter, StoreError>,
    },
    Committed(CommitReport),
}

impl From<Report> for Command {
    fn from(report: Report) -> Self {
        Self::Report(Box::new(report))
    }
}

impl From<Attach> for Command {
    fn from(attach: Attach) -> Self {
        Self::Attach(Box::new(attach))
    }
}

/// Why an operator's call did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    #[error("there is no such user, device, session or message")]
    NotFound,
    #[error("the store cannot take it now")]
    Storage,
    #[error("too much is going on; try again")]
    Busy,
}

/// Why a dead letter was not put back. It is still in its list, unless the code is `unknown_outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRequeued {
    NotFound,
    /// There is no message in it that could be read.
    Unreadable,
    /// As a send to this user would have been.
    Refused {
        code: Code,
        reason: &'static str,
        retry_after_ms: Option<u64>,
    },
}

/// Questions of operators: answered between batches, never change anything.
pub enum Query {
    /// None when the user is not in memory (the store knows all there is to know then).
    User {
        user: UserId,
        reply: oneshot::Sender<Option<UserView>>,
    },
    Sessions {
        after: Option<SessionId>,
        limit: usize,
        reply: oneshot::Sender<Vec<SessionView>>,
    },
    Stats {
        reply: oneshot::Sender<ShardStats>,
    },
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct UserView {
    pub user: UserId,
    pub presence: PresenceInfo,
    /// The state as the user set it; differs from `presence.state` when invisible.
    pub own_state: PresenceState,
    pub last_assigned: Seq,
    pub devices: Vec<DeviceView>,
    pub watchers: usize,
    /// What the least-behind device lacks: what quotas judge.
    pub backlog_messages: u64,
    pub backlog_bytes: u64,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct DeviceView {
    pub device: DeviceId,
    pub cursor: Seq,
    pub pushed_upto: Seq,
    pub last_seen_ms: u64,
    pub backlog_messages: u64,
    pub backlog_bytes: u64,
    pub in_flight: u64,
    pub live: bool,
    pub session: Option<SessionView>,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct SessionView {
    pub session: SessionId,
    pub user: UserId,
    pub device: DeviceId,
    pub state: PresenceState,
    pub peer: String,
    pub attached_ms: u64,
    pub window: u32,
    pub in_flight: u64,
}

#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct ShardStats {
    pub shard: usize,
    pub users_loaded: u64,
    pub sessions: u64,
    pub pending_appends: u64,
    pub pending_append_bytes: u64,
    pub dedupe_entries: u64,
    pub mailbox_batches: u64,
    /// How long devices usually take to acknowledge a message.
    pub usual_ack_us: u64,
}
