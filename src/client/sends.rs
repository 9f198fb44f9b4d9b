//! Messages on their way out, from the application's call to the router's answer.
//!
//! Pure: time and randomness are handed in. A message is repeated with the same id until it is
//! answered for good or its time is over. It must never let a message overtake an earlier one to the
//! same recipient that waits for its repeat, and never call a message "not taken" that may have been.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::codes::Code;
use crate::ids::{MessageId, UserId};
use crate::protocol::server_frames::{AcceptedFrame, RejectedFrame};

use super::event::Event;
use super::fitting::Unfit;
use super::outgoing::{Accepted, Outgoing, SendError, SendFailure};
use super::reconnect::Backoff;

/// Bytes that messages without a final answer may cost together; callers wait for room.
pub(super) const PENDING_BYTES_MAX: usize = 16 << 20;
/// What a message costs beside its body.
const PENDING_BYTES: usize = 4 << 10;
/// Back-off between repeats when the router names no time.
const REPEAT_MIN: Duration = Duration::from_millis(100);
const REPEAT_MAX: Duration = Duration::from_secs(5);
/// Longer than any connection on which a router said that it stops: its end is waited for.
const NEXT_CONNECTION: Duration = Duration::from_secs(1 << 30);

pub(super) type SendReply = oneshot::Sender<Result<Accepted, SendError>>;

/// A call of the application.
#[derive(Debug)]
pub(super) struct SendRequest {
    pub(super) message: Outgoing,
    pub(super) deadline: Instant,
    /// None when the caller was an earlier process.
    pub(super) reply: Option<SendReply>,
    /// Its share of [`PENDING_BYTES_MAX`]. Callers wait for it, and not the task: each caller knows its own
    /// deadline, while a task that is full would not even look at whose time is over. None when an earlier process let
    /// in more than there is room for.
    pub(super) _place: Option<OwnedSemaphorePermit>,
}

/// A message has its final answer.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) id: MessageId,
    pub(super) to: UserId,
    result: Result<Accepted, SendError>,
    /// None when the caller was an earlier process.
    reply: Option<SendReply>,
    is_told: bool,
    /// Free when it is told and written.
    _place: Option<OwnedSemaphorePermit>,
}

impl Settled {
    /// Whoever set a time is told when it is over, also when the storage hangs.
    pub(super) fn tell_in_time(&mut self) {
        let is_over = matches!(&self.result, Err(SendError { cause: SendFailure::TimedOut { .. }, .. }));
        if let Some(reply) = self.reply.take_if(|_| is_over) {
            drop(reply.send(self.result.clone()));
            self.is_told = true;
        }
    }

    /// Answers the caller; returns the event that tells it instead when that was an earlier process.
    pub(super) fn tell(self) -> Option<Event> {
        let Self { id, to, result, reply, is_told, _place } = self;
        let Some(reply) = reply else { return (!is_told).then_some(Event::Settled { id, to, result }) };
        // A caller that stopped listening does not miss the answer.
        drop(reply.send(result));
        None
    }
}

/// What a message needs of [`PENDING_BYTES_MAX`]; the largest need all of it.
pub(super) fn cost(message: &Outgoing) -> u32 {
    let cost = message.body.get().len().saturating_add(PENDING_BYTES).min(PENDING_BYTES_MAX);
    u32::try_from(cost).unwrap_or(u32::MAX)
}

#[derive(Debug)]
struct Pending {
    request: SendRequest,
    backoff: Backoff,
    not_before: Instant,
    last: Option<Code>,
    /// Some attempt went out whose outcome is unknown. Sticky: a later refusal says nothing of it.
    maybe_taken: bool,
}

/// All messages that have no final answer yet, numbered in the order of the calls.
#[derive(Debug)]
pub(super) struct Sends {
    pending: HashMap<u64, Pending>,
    /// The pending ones that are not in flight.
    waiting: BTreeSet<u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    numbers: HashMap<(MessageId, UserId), u64>,
    next_number: u64,
    /// Messages with lower numbers outlive the process; others stay here until they do.
    safe_below: u64,
    /// Nobody was told of these yet.
    settled: Vec<Settled>,
    rng: fastrand::Rng,
}

impl Sends {
    /// Whether messages have to be [`Self::safe_below`] before they go out.
    pub(super) fn new(keeps: bool, rng: fastrand::Rng) -> Self {
        Self {
            safe_below: if keeps { 0 } else { u64::MAX },
            settled: Vec::new(),
            pending: HashMap::new(),
            waiting: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            numbers: HashMap::new(),
            next_number: 0,
            rng,
        }
    }

    /// Returns the number of the message, unless one of this name is on its way.
    pub(super) fn submit(&mut self, request: SendRequest, now: Instant) -> Option<u64> {
        let key = (request.message.id.clone(), request.message.to.clone());
        if self.numbers.contains_key(&key) {
            // The other one is still to be settled, so that this is nothing to be kept.
            settled(request, Err(SendFailure::AlreadyPending), true).tell();
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.numbers.insert(key, number);
        self.deadlines.insert((request.deadline, number));
        self.waiting.insert(number);
        let maybe_taken = request.message.retry;
        let backoff = Backoff::new(REPEAT_MIN, REPEAT_MAX);
        self.pending.insert(number, Pending { request, backoff, not_before: now, last: None, maybe_taken });
        Some(number)
    }

    /// Messages with numbers below this one are safe, and may go out.
    pub(super) fn safe_below(&mut self, number: u64) {
        self.safe_below = self.safe_below.max(number);
    }

    /// What was settled since this was last asked, to be told.
    pub(super) fn take_settled(&mut self) -> Vec<Settled> {
        std::mem::take(&mut self.settled)
    }

    /// Passes every message that may go out now to `write`, oldest first, until `flight_max` are
    /// unanswered. A message that does not fit the connection is answered.
    pub(super) fn write_due(
        &mut self,
        now: Instant,
        flight_max: usize,
        mut write: impl FnMut(&Outgoing) -> Result<(), Unfit>,
    ) {
        let mut room = flight_max.saturating_sub(self.in_flight());
        let mut held: HashSet<UserId> = HashSet::new();
        let mut due = Vec::new();
        for number in &self.waiting {
            let Some(pending) = self.pending.get(number) else { continue };
            let to = &pending.request.message.to;
            if room == 0 || *number >= self.safe_below {
                break;
            } else if pending.not_before > now {
                held.insert(to.clone());
            } else if !held.contains(to) {
                due.push(*number);
                room -= 1;
            }
        }
        for number in due {
            self.write_one(number, &mut write);
        }
    }

    fn write_one(&mut self, number: u64, write: &mut impl FnMut(&Outgoing) -> Result<(), Unfit>) {
        let Some(pending) = self.pending.get_mut(&number) else { return };
        match write(&pending.request.message) {
            Ok(()) => {
                // Whatever goes out after this is a repeat.
                pending.request.message.retry = true;
                self.waiting.remove(&number);
            }
            Err(Unfit { code, reason }) => {
                self.finish(number, Err(SendFailure::Rejected { code, reason: reason.to_owned() }));
            }
        }
    }

    pub(super) fn accepted(&mut self, frame: AcceptedFrame) {
        let AcceptedFrame { id, to, seq, stored } = frame;
        let Some(number) = self.numbers.get(&(id.clone(), to)).copied() else { return };
        self.finish(number, Ok(Accepted { id, seq, stored }));
    }

    /// Says whether the rejection was about one of these messages.
    pub(super) fn rejected(&mut self, frame: &RejectedFrame, now: Instant) -> bool {
        let Some(number) = self.number_of(frame) else { return false };
        if !worth_a_repeat(frame.code) {
            let failure = SendFailure::Rejected { code: frame.code, reason: frame.reason.clone() };
            self.finish(number, Err(failure));
        } else if let Some(pending) = self.pending.get_mut(&number) {
            pending.last = Some(frame.code);
            pending.maybe_taken |= frame.code == Code::UnknownOutcome;
            pending.not_before = now
                + match frame.code {
                    Code::ShuttingDown => NEXT_CONNECTION,
                    _ => pending.backoff.next(frame.retry_after_ms.map(Duration::from_millis), &mut self.rng),
                };
            self.waiting.insert(number);
        }
        true
    }

    /// Says whether the rejection only puts one of these messages off, and is not what was heard of it last.
    pub(super) fn puts_off(&self, frame: &RejectedFrame) -> Option<(MessageId, UserId)> {
        let pending = self.pending.get(&self.number_of(frame)?)?;
        let news = worth_a_repeat(frame.code) && pending.last != Some(frame.code);
        news.then(|| (pending.request.message.id.clone(), pending.request.message.to.clone()))
    }

    fn number_of(&self, frame: &RejectedFrame) -> Option<u64> {
        let id = MessageId::new(frame.id.as_deref()?).ok()?;
        let to = UserId::new(frame.to.as_deref()?).ok()?;
        self.numbers.get(&(id, to)).copied()
    }

    /// The connection is gone: what was in flight may have been taken, and everything goes out again
    /// on the next connection, because what it was told to wait for may be gone with the old one.
    pub(super) fn disconnected(&mut self, now: Instant) {
        for (number, pending) in &mut self.pending {
            pending.maybe_taken |= self.waiting.insert(*number);
            pending.not_before = now;
        }
    }

    /// Answers everything whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((deadline, number)) = self.deadlines.first().copied()
            && deadline <= now
        {
            let last = self.pending.get(&number).and_then(|pending| pending.last);
            self.finish(number, Err(SendFailure::TimedOut { last }));
        }
    }

    /// When something is to be done next, [`Self::write_due`] just done; `online` counts repeats in.
    pub(super) fn wake_at(&self, online: bool, flight_max: usize) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        if !online || self.in_flight() >= flight_max {
            return deadline;
        }
        // Behind the first to a recipient the others wait, however long their own time has come: counted in,
        // they would keep waking the task for nothing.
        let mut held: HashSet<&UserId> = HashSet::new();
        let safe = self.waiting.range(..self.safe_below);
        let waiting = safe.filter_map(|number| self.pending.get(number));
        let first = waiting.filter(|pending| held.insert(&pending.request.message.to));
        first.map(|pending| pending.not_before).chain(deadline).min()
    }

    /// The client ends: every call gets its answer.
    pub(super) fn close(&mut self) {
        for number in self.numbers_in_order() {
            self.finish(number, Err(SendFailure::Closed));
        }
    }

    /// The client ends, and what is pending outlives it: it is not settled.
    pub(super) fn keep(&mut self) {
        for number in self.numbers_in_order() {
            self.finish(number, Err(SendFailure::Kept));
        }
        // The next client will hear what came of those of earlier processes.
        self.settled.retain(|settled| settled.reply.is_some());
    }

    fn numbers_in_order(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.pending.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    fn in_flight(&self) -> usize {
        self.pending.len().saturating_sub(self.waiting.len())
    }

    fn finish(&mut self, number: u64, result: Result<Accepted, SendFailure>) {
        let in_flight = !self.waiting.remove(&number);
        let Some(pending) = self.pending.remove(&number) else { return };
        let message = &pending.request.message;
        self.numbers.remove(&(message.id.clone(), message.to.clone()));
        self.deadlines.remove(&(pending.request.deadline, number));
        // A rejection is an answer; any other end leaves what is in flight unanswered.
        let unanswered = in_flight && !matches!(result, Err(SendFailure::Rejected { .. }));
        self.settled.push(settled(pending.request, result, pending.maybe_taken || unanswered));
    }
}

/// Whether a repeat with the same id may be accepted later.
fn worth_a_repeat(code: Code) -> bool {
    matches!(
        code,
        Code::RateLimited
            | Code::QueueFull
            | Code::Overloaded
            | Code::StorageUnavailable
            | Code::ShuttingDown
            | Code::UnknownOutcome
    )
}

fn settled(request: SendRequest, result: Result<Accepted, SendFailure>, maybe_taken: bool) -> Settled {
    let SendRequest { message: Outgoing { id, to, .. }, reply, _place, .. } = request;
    let result = result.map_err(|cause| SendError { id: id.clone(), to: to.clone(), maybe_taken, cause });
    Settled { id, to, result, reply, is_told: false, _place }
}

#[cfg(test)]
#[path = "sends_tests.rs"]
mod tests;
