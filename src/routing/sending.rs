//! What happens to a send: is it known, may it be taken, which way does it go. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::smallvec;

use super::command::{Requeue, Send};
use super::core::{Core, RETRY_AFTER_MS};
use super::dedupe::{Known, KnownState};
use super::effect::Effect;
use super::events::EventKind;
use super::inbox::{Entry, Origin, WAITERS_MAX, answer_all, released};
use super::requeueing::{refuse_letter, requeued};
use super::session_handle::{Answer, Ephemeral, Outcome};
use super::timers::Kind;
use super::user::User;
use crate::codes::Code;
use crate::ids::{Seq, SessionId, UserId};
use crate::message::Message;
use crate::store::{DeadReason, DedupeKey, DedupeRecord, StoreError, StoreState};

/// Why a message is not taken, in words, and when to try again.
pub type Refusal = (Code, &'static str, Option<u64>);

/// A refusal: certainly not taken.
pub fn refuse(send: &Send, code: Code, reason: &'static str, retry_after_ms: Option<u64>, core: &mut Core) {
    core.metrics.rejected.inc();
    let outcome = Outcome::Rejected { code, reason, retry_after_ms };
    let answer = Answer { message: send.message.clone(), to: send.to.clone(), outcome };
    core.act(Effect::Answer(send.sender.clone(), answer));
}

pub fn refuse_busy(send: &Send, core: &mut Core) {
    refuse(send, Code::Overloaded, "too much is going on for this user", Some(RETRY_AFTER_MS), core);
}

impl Send {
    /// What it counts for, in bytes.
    pub fn weight(&self) -> u64 {
        self.message.weight()
    }

    /// By then it has its answer, hybrid microseconds.
    pub fn answer_until_us(&self, core: &Core) -> u64 {
        self.taken_us.saturating_add(core.settings.accept_timeout_us)
    }
}

impl User {
    /// Sends to one user are judged strictly one after the other, look-ups included.
    pub fn send(&mut self, send: Send, core: &mut Core) {
        if self.looked_up.is_empty() && !self.looking_up {
            self.judge(send, None, core);
        } else if self.looked_up.len() < core.settings.load_queue && core.takes_waiting(&send) {
            core.answer_by(&self.name, &mut self.answers_us, send.answer_until_us(core));
            self.looked_up.push_back(send);
        } else {
            refuse_busy(&send, core);
        }
    }

    /// Known → the same answer again. Unknown → routed. Not sure → the store is asked first.
    fn judge(&mut self, send: Send, durable: Option<Option<DedupeRecord>>, core: &mut Core) {
        if core.draining {
            return refuse(&send, Code::ShuttingDown, "the router is shutting down", None, core);
        }
        let known = core.dedupe.look(send.key);
        match (known, durable) {
            (Some(known), _) => self.repeat(&send, known, core),
            (None, Some(Some(record))) => {
                let known = Known { seq: record.seq, digest: record.digest, state: KnownState::Stored };
                self.repeat(&send, known, core);
            }
            (None, None) if !self.dedupe_is_complete(send.key, core) => {
                if !core.takes_waiting(&send) {
                    return refuse_busy(&send, core);
                }
                let Message { id, from, .. } = &*send.message;
                let key = DedupeKey { recipient: send.to.clone(), from: from.clone(), id: id.clone() };
                core.answer_by(&self.name, &mut self.answers_us, send.answer_until_us(core));
                self.looked_up.push_front(send);
                self.looking_up = true;
                core.act(Effect::LookUp(key));
            }
            (None, _) => self.route(send, core),
        }
    }

    /// The store has said whether it knows the first of the waiting sends.
    pub fn dedupe_answer(
        &mut self,
        key: &DedupeKey,
        result: Result<Option<DedupeRecord>, StoreError>,
        core: &mut Core,
    ) {
        self.looking_up = false;
        let mut waiting = std::mem::take(&mut self.looked_up);
        waiting.iter().for_each(|send| core.lets_go(send));
        // The one that it was for may have been answered meanwhile, because it waited too long.
        let first_is_it =
            waiting.front().is_some_and(|send| send.message.id == key.id && send.message.from == key.from);
        if let Some(send) = first_is_it.then(|| waiting.pop_front()).flatten() {
            match result {
                Ok(record) => self.judge(send, Some(record), core),
                Err(_) => {
                    refuse(&send, Code::StorageUnavailable, "the store cannot be read", Some(RETRY_AFTER_MS), core);
                }
            }
        }
        for send in waiting {
            self.send(send, core);
        }
    }

    fn repeat(&mut self, send: &Send, known: Known, core: &mut Core) {
        if known.digest != send.digest {
            return refuse(send, Code::IdReused, "this id was used for another body", None, core);
        }
        core.metrics.deduped.inc();
        let stored = match known.state {
            KnownState::HandedOver | KnownState::Withdrawn => false,
            KnownState::Stored => true,
            KnownState::Pending => return self.join(send, known.seq, core),
        };
        let outcome = Outcome::Accepted { seq: known.seq, stored };
        let answer = Answer { message: send.message.clone(), to: send.to.clone(), outcome };
        core.act(Effect::Answer(send.sender.clone(), answer));
    }

    /// A repeat of a send that has no answer yet gets the same answer, when there is one.
    fn join(&mut self, send: &Send, seq: Seq, core: &mut Core) {
        let until_us = send.answer_until_us(core);
        match self.inbox.entry_mut(seq) {
            Some(entry) if !entry.failed && entry.waiters.len() < WAITERS_MAX => {
                // Who waits longest decides when all of them are told.
                let others_us = if entry.waiters.is_empty() { u64::MAX } else { entry.answer_until_us };
                entry.answer_until_us = until_us.min(others_us);
                entry.waiters.push(send.sender.clone());
                core.answer_by(&self.name, &mut self.answers_us, until_us);
            }
            Some(_) | None => {
                core.metrics.unknown_outcomes.inc();
                let reason = "an earlier send of this id has no outcome yet";
                refuse(send, Code::UnknownOutcome, reason, Some(RETRY_AFTER_MS), core);
            }
        }
    }

    fn route(&mut self, send: Send, core: &mut Core) {
        let seq = match self.admit_next(send.answer_until_us(core), send.message.expires_ms, send.weight(), core) {
            Ok(seq) => seq,
            Err((code, reason, retry)) => return refuse(&send, code, reason, retry, core),
        };
        core.metrics.sends.inc();
        let answer_until_us = send.answer_until_us(core);
        let Send { mut message, sender, key, digest, .. } = send;
        let known_at = core.dedupe.admit(key, seq, digest, core.now.us);
        // Nobody else has it yet, so nothing is copied.
        Arc::make_mut(&mut message).seq = seq;
        let entry = Entry {
            tally: self.inbox.tally.plus(message.weight()),
            message,
            origin: Origin::Send { digest, key, known_at },
            submitted: None,
            failed: false,
            done: false,
            hold_until_us: core.hold_until_us(),
            answer_until_us,
            waiters: smallvec![sender],
        };
        let hold_until_us = entry.hold_until_us;
        if self.inbox.append(entry, core) && core.settings.spares_the_disk() {
            self.hold(hold_until_us, core);
        } else {
            self.inbox.submit(&self.name, seq, core);
        }
        core.answer_by(&self.name, &mut self.answers_us, answer_until_us);
        self.lapse_if_far_behind(core);
    }

    /// The place of a new message, if it may be taken.
    pub fn admit_next(
        &mut self,
        answer_until_us: u64,
        expires_ms: u64,
        weight: u64,
        core: &mut Core,
    ) -> Result<Seq, Refusal> {
        if let Err(refusal) = self.admit(answer_until_us, expires_ms, weight, core) {
            if refusal.0 == Code::QueueFull {
                self.count_if_inexact(core);
            }
            return Err(refusal);
        }
        let reason = "the store has not raised its seq ceiling";
        core.seqs.next(core.now).ok_or((Code::StorageUnavailable, reason, Some(RETRY_AFTER_MS)))
    }

    /// Whether a new message may be taken; what refuses is a bound that is full, never an old message.
    fn admit(&self, answer_until_us: u64, expires_ms: u64, weight: u64, core: &Core) -> Result<(), Refusal> {
        let later = Some(RETRY_AFTER_MS);
        if core.now.us >= answer_until_us {
            return Err((Code::Overloaded, "the router could not look at it in time", later));
        }
        if core.now.wall_ms >= expires_ms && !core.expiry_paused {
            return Err((Code::Expired, "its time to live was over before it could be taken", None));
        }
        match core.storage {
            StoreState::Ok => {}
            StoreState::Low => return Err((Code::StorageUnavailable, "the disk is almost full", later)),
            StoreState::Poisoned => return Err((Code::StorageUnavailable, "the disk has failed", later)),
        }
        let unsettled = core.unsettled;
        if unsettled.appends >= core.settings.pending_appends
            || unsettled.all_bytes() + weight > core.settings.pending_append_bytes
        {
            return Err((Code::Overloaded, "the disk does not keep up", later));
        }
        let backlog = self.inbox.backlog();
        if backlog.messages >= core.settings.max_messages || backlog.bytes + weight > core.settings.max_bytes {
            return Err((Code::QueueFull, "the recipient's queue is full", later));
        }
        if core.total_bytes.saturating_add(weight) > core.settings.max_total_bytes {
            return Err((Code::QueueFull, "the router's queues are full", later));
        }
        Ok(())
    }

    /// Every device was pushed to: the disk is spared for a moment.
    fn hold(&mut self, until_us: u64, core: &mut Core) {
        if !self.hold_timer {
            self.hold_timer = true;
            core.timers.wait(Kind::Hold, &self.name, until_us);
        }
    }

    /// What was held long enough goes to disk.
    pub fn hold_over(&mut self, core: &mut Core) {
        self.hold_timer = false;
        let held = || self.inbox.pending.iter().filter(|entry| entry.submitted.is_none() && !entry.done);
        let due = held().take_while(|entry| entry.hold_until_us <= core.now.us).last().map(|entry| entry.message.seq);
        let next_us = held().map(|entry| entry.hold_until_us).find(|until| *until > core.now.us);
        if let Some(seq) = due {
            self.inbox.submit(&self.name, seq, core);
        }
        if let Some(until_us) = next_us {
            self.hold(until_us, core);
        }
    }

    /// Sends that waited too long are told so: pushed or handed to the writer, they may still arrive.
    pub fn answers_due(&mut self, core: &mut Core) {
        let now_us = core.now.us;
        if self.answers_us.is_some_and(|called| called > now_us) {
            return;
        }
        self.answers_us = None;
        let name = self.name.clone();
        let late = |entry: &&mut Entry| entry.is_waited_for() && entry.answer_until_us <= now_us;
        for entry in self.inbox.pending.iter_mut().filter(late) {
            unknown_outcome(entry, &name, "it was not settled in time", core);
        }
        let late = |send: &Send| send.answer_until_us(core) <= now_us;
        let (gone, stay): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.looked_up).into_iter().partition(late);
        self.looked_up = stay;
        // A look-up that was for one of them is still under way; its answer makes the next one ask.
        for send in gone {
            core.lets_go(&send);
            refuse(&send, Code::StorageUnavailable, "the store did not answer in time", Some(RETRY_AFTER_MS), core);
        }
        let timeout_us = core.settings.accept_timeout_us;
        let late = |requeue: &Requeue| requeue.taken_us.saturating_add(timeout_us) <= now_us;
        let refusal = (Code::StorageUnavailable, "the store did not answer in time", Some(RETRY_AFTER_MS));
        self.refuse_letters(late, refusal, core);
        let pending = self.inbox.pending.iter().filter(|entry| entry.is_waited_for());
        let answers = pending.map(|entry| entry.answer_until_us);
        let answers = answers.chain(self.looked_up.iter().map(|send| send.answer_until_us(core)));
        if let Some(due_us) = answers.chain(self.letters.iter().map(|letter| letter.answer_until_us(core))).min() {
            core.answer_by(&self.name, &mut self.answers_us, due_us);
        }
    }

    pub fn refuse_looked_up(&mut self, core: &mut Core) {
        for send in std::mem::take(&mut self.looked_up) {
            core.lets_go(&send);
            refuse(&send, Code::ShuttingDown, "the router is shutting down", None, core);
        }
    }

    /// The writer's word on an append.
    pub fn append_committed(&mut self, seq: Seq, stored: bool, core: &mut Core) {
        let Ok(at) = self.inbox.pending.binary_search_by_key(&seq, |entry| entry.message.seq) else { return };
        let Some(entry) = self.inbox.pending.remove(at) else { return };
        released(&entry, core);
        if stored {
            self.inbox.stored_upto = self.inbox.stored_upto.max(seq);
            self.stored(entry, core);
        } else if let Origin::Send { key, known_at, .. } = entry.origin {
            // Called back in time, which the writer has counted.
            core.dedupe.settle(known_at, key, seq, KnownState::HandedOver);
        }
        self.inbox.trim(core);
        self.resume_forget(true, core);
        self.note_held_back_cursors();
        // A device that stood at the end of memory may now have something to read from disk.
        for at in 0..self.inbox.devices.len() {
            self.inbox.pump(at, &self.name, core);
        }
        self.next_letter(core);
    }

    /// Cursors that could not be written down while a message below them was unsettled.
    pub fn note_held_back_cursors(&mut self) {
        let settled = self.inbox.settled_upto();
        for device in self.inbox.devices.iter_mut().filter(|device| device.cursor.min(settled) > device.written) {
            device.dirty = true;
        }
    }

    fn stored(&mut self, mut entry: Entry, core: &mut Core) {
        let seq = entry.message.seq;
        let waiting = std::mem::take(&mut entry.waiters);
        core.metrics.accepted_stored.inc_by(waiting.len() as u64);
        answer_all(waiting, &self.name, &entry.message, Outcome::Accepted { seq, stored: true }, core);
        core.tell(|| EventKind::Spilled { user: self.name.clone(), bytes: entry.message.weight() });
        match entry.origin {
            Origin::Send { key, known_at, .. } => core.dedupe.settle(known_at, key, seq, KnownState::Stored),
            Origin::DeadLetter { reply, .. } => requeued(reply, seq, core),
        }
        if entry.done {
            // Acknowledged by all while the batch was being cut.
            self.inbox.removals.push((seq, entry.message.weight()));
            self.inbox.front = self.inbox.front.max(seq);
            return;
        }
        core.act(Effect::Outstanding { from: entry.message.from.clone(), waits: true });
        if seq <= self.inbox.purged_upto {
            core.metrics.purged.inc();
            self.end_undelivered(&entry.message, DeadReason::Purged, core);
        } else if self.inbox.is_handed_over(seq) {
            // The only device that lacked it was forgotten while it was being written.
            core.metrics.forgotten.inc();
            self.end_undelivered(&entry.message, DeadReason::DeviceForgotten, core);
        }
    }

    fn end_undelivered(&mut self, message: &Arc<Message>, reason: DeadReason, core: &mut Core) {
        self.dispose(message, reason, None, core);
        self.left(vec![message.seq]);
    }

    /// The commit failed: nobody knows what is on disk.
    pub fn append_failed(&mut self, seq: Seq, core: &mut Core) {
        let name = self.name.clone();
        if let Some(entry) = self.inbox.entry_mut(seq) {
            entry.failed = true;
            unknown_outcome(entry, &name, "the disk failed", core);
        }
        self.inbox.trim(core);
        self.resume_forget(false, core);
        self.next_letter(core);
    }

    pub fn ack(&mut self, session: SessionId, seq: Seq, core: &mut Core) {
        let Some((at, device)) = self.inbox.device_with(session) else { return };
        let cursor = device.cursor;
        let Some(attached) = device.session.as_mut() else { return };
        // At or below the cursor it says nothing new, also in a session that was pushed nothing yet: there
        // `caught_up` names the cursor, and a client may acknowledge what it was told.
        if seq > attached.pushed.max(cursor) {
            let handle = attached.handle.clone();
            let reason = "nothing that high was pushed in this session";
            return core.act(Effect::Error(handle, Code::BadRequest, reason, "ack"));
        }
        core.metrics.acks.inc();
        let mut covered = attached.acked(seq);
        let (told_gap, replayed_upto) = (attached.told_gap, attached.catch_up_to);
        // What lapsed while it was in flight was seen to when it lapsed.
        covered.retain(|flight| flight.message.seq > cursor);
        for flight in covered.iter().filter(|flight| !flight.gone) {
            device.is_spared(flight.message.weight());
        }
        if let Some(first) = covered.first().filter(|flight| flight.message.seq > replayed_upto) {
            core.note_ack(first.message.seq);
        }
        if let Some(last) = covered.last() {
            device.advance(seq, last.tally);
        }
        // It has read its welcome, and with it that it missed something.
        device.dirty |= told_gap && std::mem::take(&mut device.gap);
        // Before settling: what is settled by this very ack was never on disk.
        let on_disk = self.inbox.settled_upto();
        self.settle(core);
        self.remove_handed_over(&covered, on_disk, core);
        self.inbox.pump(at, &self.name, core);
    }

    /// Answers what is handed over by now.
    pub fn settle(&mut self, core: &mut Core) {
        self.inbox.settle(&self.name, core);
    }

    /// Of what a device has just acknowledged, whatever nobody lacks any more leaves the disk, if it was
    /// at or below `on_disk` and so there. What was pending then is not: its commit report decides.
    fn remove_handed_over(&mut self, covered: &[super::device::InFlight], on_disk: Seq, core: &mut Core) {
        let Some(upto) = self.inbox.handed_over_upto() else { return };
        for flight in covered.iter().filter(|flight| !flight.gone && flight.message.seq <= upto.min(on_disk)) {
            self.inbox.removals.push((flight.message.seq, flight.message.weight()));
            core.act(Effect::Outstanding { from: flight.message.from.clone(), waits: false });
        }
        self.inbox.front = self.inbox.front.max(upto.min(self.inbox.settled_upto()));
    }

    pub fn send_ephemeral(&mut self, ephemeral: &Ephemeral, core: &mut Core) {
        core.metrics.sends_ephemeral.inc();
        for session in self.inbox.devices.iter().filter_map(|device| device.session.as_ref()) {
            core.act(Effect::DeliverEphemeral(session.handle.clone(), Box::new(ephemeral.clone())));
        }
    }
}

/// Whoever waits for this message is told that it may have been taken.
fn unknown_outcome(entry: &mut Entry, to: &UserId, reason: &'static str, core: &mut Core) {
    if let Some(reply) = entry.take_reply() {
        refuse_letter(reply, (Code::UnknownOutcome, reason, Some(RETRY_AFTER_MS)), core);
    }
    let waiting = std::mem::take(&mut entry.waiters);
    core.metrics.unknown_outcomes.inc_by(waiting.len() as u64);
    let outcome = Outcome::Rejected { code: Code::UnknownOutcome, reason, retry_after_ms: Some(RETRY_AFTER_MS) };
    answer_all(waiting, to, &entry.message, outcome, core);
}
