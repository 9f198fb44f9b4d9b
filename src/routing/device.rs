//! One device of a user: how far it has acknowledged, and the session that serves it now. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use super::command::Attach;
use super::session_handle::Session;
use crate::ids::{DeviceId, Seq, SessionId};
use crate::message::{Message, Tally};
use crate::presence::PresenceState;
use crate::store::DeviceRecord;

pub struct Device {
    pub name: DeviceId,
    /// The cursor with which it was registered: what is at or below was never meant for it.
    pub start: Seq,
    /// Everything up to here was acknowledged, or is gone in a way that was made visible.
    pub cursor: Seq,
    /// Backlog = tally of the inbox − this. The inbox's tally at the cursor, and what has left from above it.
    pub done: Tally,
    /// Highest seq pushed in sessions before the present one.
    pub pushed_upto: Seq,
    pub last_seen_ms: u64,
    pub gap: bool,
    /// Differs from what is on disk.
    pub dirty: bool,
    /// The cursor as it was last given to the writer.
    pub written: Seq,
    /// Its first hello is being committed; it counts as registered for what must be kept.
    pub registering: bool,
    /// It is being forgotten: nothing is kept for it any more.
    pub leaving: bool,
    /// A session that waits for the registration to be committed.
    pub waiting: Option<Attach>,
    pub session: Option<Attached>,
}

/// A message on its way to a session.
pub struct InFlight {
    pub message: Arc<Message>,
    pub tally: Tally,
    /// It has left the inbox (purged) while on its way: its ack removes nothing.
    pub gone: bool,
}

/// A page that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub after: Seq,
    pub upto: Seq,
}

/// A live session.
pub struct Attached {
    pub handle: Session,
    pub id: SessionId,
    pub window: usize,
    pub window_bytes: u64,
    pub in_flight: VecDeque<InFlight>,
    pub in_flight_bytes: u64,
    /// Everything up to here was pushed to this session or need not be.
    pub position: Seq,
    /// The highest seq pushed to this session.
    pub pushed: Seq,
    pub reading: Option<Reading>,
    /// What was there when it came: `caught_up` is due when the position reaches this.
    pub catch_up_to: Seq,
    /// That was sent.
    pub is_caught_up: bool,
    pub state: PresenceState,
    pub text: Option<Arc<str>>,
    pub peer: String,
    pub attached_ms: u64,
    /// Its welcome said that the device missed something.
    pub told_gap: bool,
}

impl Attached {
    pub fn new(attach: Attach, position: Seq, catch_up_to: Seq, now_ms: u64, told_gap: bool) -> Self {
        Self {
            id: attach.session.id(),
            handle: attach.session,
            window: attach.window.max(1) as usize,
            window_bytes: attach.window_bytes,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            position,
            pushed: Seq::ZERO,
            reading: None,
            catch_up_to,
            is_caught_up: false,
            state: attach.state,
            text: attach.text.map(Arc::from),
            peer: attach.peer,
            attached_ms: now_ms,
            told_gap,
        }
    }

    /// Room for a message of `weight` bytes. One message always fits an empty window.
    pub fn has_room(&self, weight: u64) -> bool {
        self.in_flight.is_empty()
            || (self.in_flight.len() < self.window && self.in_flight_bytes + weight <= self.window_bytes)
    }

    pub fn carry(&mut self, message: Arc<Message>, tally: Tally) {
        self.position = message.seq;
        self.pushed = message.seq;
        self.in_flight_bytes += message.weight();
        self.in_flight.push_back(InFlight { message, tally, gone: false });
    }

    /// What an ack up to `seq` covers.
    pub fn acked(&mut self, seq: Seq) -> SmallVec<[InFlight; 4]> {
        let count = self.in_flight.partition_point(|flight| flight.message.seq <= seq);
        let covered: SmallVec<[_; 4]> = self.in_flight.drain(..count).collect();
        self.in_flight_bytes -= covered.iter().map(|flight| flight.message.weight()).sum::<u64>();
        covered
    }

    pub fn carries(&self, seq: Seq) -> bool {
        self.in_flight.binary_search_by_key(&seq, |flight| flight.message.seq).is_ok()
    }

    fn mark_gone(&mut self, seq: Seq) {
        if let Ok(at) = self.in_flight.binary_search_by_key(&seq, |flight| flight.message.seq)
            && let Some(flight) = self.in_flight.get_mut(at)
        {
            flight.gone = true;
        }
    }
}

impl Device {
    pub fn new(name: DeviceId, cursor: Seq, done: Tally, now_ms: u64) -> Self {
        Self {
            name,
            start: cursor,
            cursor,
            done,
            pushed_upto: Seq::ZERO,
            last_seen_ms: now_ms,
            gap: false,
            dirty: true,
            written: cursor,
            registering: true,
            leaving: false,
            waiting: None,
            session: None,
        }
    }

    pub fn record(&self) -> DeviceRecord {
        DeviceRecord {
            start: self.start,
            cursor: self.cursor,
            pushed_upto: self.pushed_upto.max(self.session.as_ref().map_or(Seq::ZERO, |session| session.pushed)),
            last_seen_ms: self.last_seen_ms,
            gap: self.gap,
        }
    }

    /// What is to be written down. The cursor on disk never passes a message of which it is not known
    /// whether it was stored: such a message would stay there for ever, unseen, after a crash.
    pub fn record_upto(&self, settled: Seq) -> DeviceRecord {
        let record = self.record();
        DeviceRecord { cursor: record.cursor.min(settled).max(self.written), ..record }
    }

    /// It was meant to have this message and is done with it.
    pub fn has_had(&self, seq: Seq) -> bool {
        self.start < seq && seq <= self.cursor
    }

    pub fn session_is(&self, id: SessionId) -> bool {
        self.session.as_ref().is_some_and(|session| session.id == id)
    }

    pub fn carries(&self, seq: Seq) -> bool {
        self.session.as_ref().is_some_and(|session| session.carries(seq))
    }

    pub fn mark_gone(&mut self, seq: Seq) {
        if let Some(session) = &mut self.session {
            session.mark_gone(seq);
        }
    }

    /// It no longer lacks one message of this weight.
    pub fn is_spared(&mut self, weight: u64) {
        self.done = self.done.plus(weight);
    }

    /// The cursor moves up; it never moves back.
    pub fn advance(&mut self, cursor: Seq, done: Tally) {
        if cursor > self.cursor {
            self.cursor = cursor;
            self.dirty = true;
        }
        self.done = self.done.max(done);
    }
}
