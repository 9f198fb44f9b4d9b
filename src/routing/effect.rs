//! Everything an owner may ask of the world. The owner decides, its shell (`shard.rs`) carries out.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::command::{NotDone, NotRequeued};
use super::events::Event;
use super::session_handle::{Answer, Closing, Delivery, Ephemeral, Sender, Session, Welcome};
use crate::codes::Code;
use crate::ids::{DeviceId, Seq, SessionId, UserId};
use crate::presence::PresenceInfo;
use crate::store::{DedupeKey, Ticket, Write};

/// One thing to be done. Order matters within a session and towards the store.
pub enum Effect {
    Welcome(Session, Box<Welcome>),
    Deliver(Session, Delivery),
    DeliverEphemeral(Session, Box<Ephemeral>),
    CaughtUp(Session, Seq),
    Presence(Session, PresenceInfo),
    /// The last one is the type of the frame that it is about.
    Error(Session, Code, &'static str, &'static str),
    Close(Session, Closing),
    Answer(Sender, Answer),
    /// Read a user's record; comes back as `Report::Loaded`.
    Load(UserId),
    /// Read a part of an inbox for a session; comes back as `Report::Page`.
    ReadPage(Box<ReadPage>),
    /// Read a part of an inbox for a sweep; comes back as `Report::Sweep`.
    ReadSweep {
        user: UserId,
        job: u64,
        after: Seq,
        upto: Seq,
    },
    /// Ask the store whether it knows a send; comes back as `Report::Dedupe`.
    LookUp(DedupeKey),
    /// Look for a dead letter; comes back as `Report::Letter`.
    ReadLetter {
        user: UserId,
        letter: u64,
    },
    Write(Write),
    /// Advisory: the append is no longer needed on disk.
    Cancel(Ticket),
    /// Show the world what may be seen of a user.
    Paint {
        info: PresenceInfo,
        online: bool,
    },
    /// For those who watch what happens; there are some.
    Tell(Arc<Event>),
    /// A message of this sender began (or ceased) to wait on disk.
    Outstanding {
        from: UserId,
        waits: bool,
    },
    ReplyDone(oneshot::Sender<Result<(), NotDone>>, Result<(), NotDone>),
    ReplyCount(oneshot::Sender<Result<u64, NotDone>>, Result<u64, NotDone>),
    ReplyRequeued(oneshot::Sender<Result<Seq, NotRequeued>>, Result<Seq, NotRequeued>),
    Drained(oneshot::Sender<()>),
}

/// A page for one session: `after < seq <= upto`, within the room that the session has.
pub struct ReadPage {
    pub user: UserId,
    pub device: DeviceId,
    pub session: SessionId,
    pub after: Seq,
    pub upto: Seq,
    pub max_messages: usize,
    pub max_bytes: u64,
}
