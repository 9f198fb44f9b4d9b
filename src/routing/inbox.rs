//! One user's inbox: what is assigned and not settled, how far each device has come, what may be
//! pushed to whom. Pure; every decision about a delivery is made here and nowhere else.
//!
//! A message goes one of two ways: every registered device acknowledges it before it had to go to disk
//! (handed over, never written), or it is committed and leaves the disk when the last device that
//! lacks it acknowledges. `pending` holds it until it is known which.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use super::core::{Core, REMOVALS_MAX, TAKEN_OUT_MAX};
use super::dedupe::{KnownState, Place};
use super::device::{Device, Reading};
use super::effect::{Effect, ReadPage};
use super::requeueing::Reply;
use super::send_key::SendKey;
use super::session_handle::{Answer, Delivery, Outcome, Sender};
use crate::ids::{DeviceId, Seq, SessionId, UserId};
use crate::message::{Message, Tally};
use crate::planted::{Bug, planted};
use crate::store::{Ticket, What, Write};

/// Sends that wait for one message's outcome, repeats included.
pub const WAITERS_MAX: usize = 16;

/// A message that is assigned and not settled.
pub struct Entry {
    pub message: Arc<Message>,
    pub tally: Tally,
    pub origin: Origin,
    /// The hold on it in the store's writer, once it was given there: always a prefix of the pending entries.
    pub submitted: Option<Ticket>,
    /// Its commit failed: it lives in memory only, until handed over or the daemon ends.
    pub failed: bool,
    /// Handed over. It stays until the writer has said whether it was written all the same.
    pub done: bool,
    pub hold_until_us: u64,
    pub answer_until_us: u64,
    pub waiters: SmallVec<[Sender; 1]>,
}

/// How a message came into the inbox.
pub enum Origin {
    /// It was sent: what dedupe knows of it, and where.
    Send { digest: u64, key: SendKey, known_at: Place },
    /// It was a dead letter of this number, which leaves its list when the message is stored.
    DeadLetter { letter: u64, letter_bytes: u64, reply: Option<Reply> },
}

impl Entry {
    /// Somebody is to be told what becomes of it.
    pub fn is_waited_for(&self) -> bool {
        !self.waiters.is_empty() || matches!(self.origin, Origin::DeadLetter { reply: Some(_), .. })
    }

    pub fn is_letter(&self) -> bool {
        matches!(self.origin, Origin::DeadLetter { .. })
    }

    /// Who put it back, if it was a dead letter and that one was not told yet.
    pub fn take_reply(&mut self) -> Option<Reply> {
        if let Origin::DeadLetter { reply, .. } = &mut self.origin { reply.take() } else { None }
    }

    /// The write that stores it. A dead letter is not called back: it would stay in its list.
    fn write(&self, ticket: Ticket) -> What {
        let (message, tally) = (self.message.clone(), self.tally);
        match self.origin {
            Origin::Send { digest, .. } => What::Append { message, tally, digest, ticket },
            Origin::DeadLetter { letter, letter_bytes, .. } => What::Requeue { message, tally, letter, letter_bytes },
        }
    }
}

#[derive(Default)]
pub struct Inbox {
    pub devices: Vec<Device>,
    pub pending: VecDeque<Entry>,
    /// The last seq assigned.
    pub last: Seq,
    /// Up to and including the last message assigned.
    pub tally: Tally,
    /// Just before the first message that is still there: what quotas count from without a device.
    pub base: Tally,
    /// No message at or below this is on disk.
    pub front: Seq,
    /// Backlogs are exact, not upper bounds.
    pub counted: bool,
    /// An expiry that had to stop: behind what it goes on, and the due entry that it is for.
    pub expiring: Option<(Seq, u64)>,
    /// The highest seq known to have been committed.
    pub stored_upto: Seq,
    /// An operator purges up to here: nothing at or below is pushed any more.
    pub purged_upto: Seq,
    /// The purge is still under way.
    pub purging: bool,
    /// Acknowledged by all and still on disk: seq and weight, to be removed with the next change.
    pub removals: Vec<(Seq, u64)>,
    /// Messages taken out by expiry and the like that wait to be given to the writer.
    pub taken_out: usize,
    /// Taken out by expiry, purge and the like; true once committed. A page that was read before may
    /// still show them.
    pub leaving: BTreeMap<Seq, bool>,
}

impl Inbox {
    /// Everything up to here is acknowledged by every device that counts; none without a device.
    pub fn handed_over_upto(&self) -> Option<Seq> {
        self.devices.iter().filter(|device| !device.leaving).map(|device| device.cursor).min()
    }

    /// True when nothing at or below `seq` is lacking anywhere.
    pub fn is_handed_over(&self, seq: Seq) -> bool {
        self.handed_over_upto().is_some_and(|upto| seq <= upto)
    }

    /// Removals and dead letters that the disk has not taken yet hold a replay back: memory stays bounded.
    pub fn is_clogged(&self) -> bool {
        self.removals.len() >= REMOVALS_MAX || self.taken_out >= TAKEN_OUT_MAX
    }

    /// What the least-behind device lacks: what quotas judge.
    pub fn backlog(&self) -> Tally {
        let done = self.devices.iter().filter(|device| !device.leaving).map(|device| device.done);
        self.tally.since(done.max_by_key(|done| done.messages).unwrap_or(self.base))
    }

    /// A message has left, and not because every device has it.
    pub fn spare(&mut self, seq: Seq, weight: u64) {
        for device in self.devices.iter_mut().filter(|device| device.cursor < seq) {
            device.is_spared(weight);
        }
        if seq > self.front {
            self.base = self.base.plus(weight);
        }
    }

    pub fn device_index(&self, name: &str) -> Option<usize> {
        self.devices.iter().position(|device| device.name.as_str() == name)
    }

    pub fn device_with(&mut self, session: SessionId) -> Option<(usize, &mut Device)> {
        self.devices.iter_mut().enumerate().find(|(_, device)| device.session_is(session))
    }

    /// The device whose session has asked for a page.
    pub fn reader(&mut self, name: &DeviceId, session: SessionId) -> Option<(usize, &mut Device)> {
        // Planted: the page of a session that was replaced begins where that one stood, not this one.
        let is_it = |device: &Device| device.session_is(session) || (planted(Bug::StalePage) && device.name == *name);
        self.devices.iter_mut().enumerate().find(|(_, device)| is_it(device))
    }

    pub fn entry_mut(&mut self, seq: Seq) -> Option<&mut Entry> {
        let at = self.pending.binary_search_by_key(&seq, |entry| entry.message.seq).ok()?;
        self.pending.get_mut(at)
    }

    /// A dead letter is on its way back to disk.
    pub fn letter_is_pending(&self) -> bool {
        self.pending.iter().any(|entry| entry.is_letter() && !entry.failed)
    }

    /// Everything at or below is either on disk or gone; above it lies in `pending`.
    pub fn settled_upto(&self) -> Seq {
        self.pending.front().map_or(self.last, |entry| Seq(entry.message.seq.0 - 1))
    }

    /// What is pending at or below `upto` and not handed over.
    pub fn unsettled_upto(&self, upto: Seq) -> impl Iterator<Item = &Entry> {
        self.pending.iter().take_while(move |entry| entry.message.seq <= upto).filter(|entry| !entry.done)
    }

    /// The tally just before the first pending message.
    pub fn settled_tally(&self) -> Tally {
        self.pending.front().map_or(self.tally, |entry| before(entry.tally, &entry.message))
    }

    /// Takes a freshly assigned message in and pushes it to every device that is live and has room.
    /// True when all of them were: then the disk may be spared. Otherwise it has to be stored.
    pub fn append(&mut self, entry: Entry, core: &mut Core) -> bool {
        let before = self.last;
        self.last = entry.message.seq;
        self.tally = entry.tally;
        core.unsettled.appends += 1;
        core.unsettled.bytes += entry.message.weight();
        core.metrics.pending_appends.inc();
        let mut all = false;
        for (n, device) in self.devices.iter_mut().filter(|device| !device.leaving).enumerate() {
            let pushed = push_live(device, before, &entry, core);
            all = pushed && (all || n == 0);
        }
        self.pending.push_back(entry);
        all
    }

    /// Gives every pending append up to and including `upto` to the writer, in order and without a gap.
    pub fn submit(&mut self, user: &UserId, upto: Seq, core: &mut Core) {
        let from = self.pending.partition_point(|entry| entry.submitted.is_some());
        for entry in self.pending.iter_mut().skip(from).take_while(|entry| entry.message.seq <= upto) {
            let ticket = entry.submitted.insert(Ticket::default()).clone();
            if entry.done {
                ticket.cancel();
            }
            let what = entry.write(ticket);
            core.act(Effect::Write(Write { user: user.clone(), what }));
            if planted(Bug::AckBeforeSync) {
                // The writer has it and nothing is synced: a crash takes what was accepted.
                let outcome = Outcome::Accepted { seq: entry.message.seq, stored: true };
                answer_all(std::mem::take(&mut entry.waiters), user, &entry.message, outcome, core);
            }
        }
    }

    /// Answers what every device has acknowledged by now. A dead letter is done as well, but safe only once it is
    /// stored: until then it is still in its list.
    pub fn settle(&mut self, user: &UserId, core: &mut Core) {
        let Some(upto) = self.handed_over_upto() else { return };
        let begun = self.devices.iter().filter(|device| !device.leaving).map(|device| device.start).min();
        for entry in self.pending.iter_mut().take_while(|entry| entry.message.seq <= upto) {
            // What an operator purged was skipped, not acknowledged; and what was meant only for a device
            // that has been forgotten since was acknowledged by nobody.
            let seq = entry.message.seq;
            if entry.done || seq <= self.purged_upto || begun.is_none_or(|begun| seq <= begun) {
                continue;
            }
            entry.done = true;
            let Origin::Send { key, known_at, .. } = entry.origin else { continue };
            let waiting = std::mem::take(&mut entry.waiters);
            core.metrics.accepted_handed_over.inc_by(waiting.len() as u64);
            answer_all(waiting, user, &entry.message, Outcome::Accepted { seq, stored: false }, core);
            let is_with_writer = entry.submitted.is_some();
            let state = if is_with_writer { KnownState::Withdrawn } else { KnownState::HandedOver };
            core.dedupe.settle(known_at, key, seq, state);
            if let Some(ticket) = entry.submitted.as_ref().filter(|_| core.settings.spares_the_disk()) {
                core.act(Effect::Cancel(ticket.clone()));
            }
        }
        self.trim(core);
    }

    /// Lets go of pending entries of which nothing more is to be heard.
    pub fn trim(&mut self, core: &mut Core) {
        while self.pending.front().is_some_and(|entry| entry.done && (entry.submitted.is_none() || entry.failed)) {
            if let Some(entry) = self.pending.pop_front() {
                released(&entry, core);
                if entry.submitted.is_none() {
                    core.metrics.elided.inc();
                }
            }
        }
    }

    /// Pushes what the device may have: pages from disk until nothing committed is left behind its
    /// position, then pending messages, while there is room.
    pub fn pump(&mut self, at: usize, user: &UserId, core: &mut Core) {
        // Once the daemon drains, what is in flight is all that goes out: so it comes to an end.
        if core.draining {
            return;
        }
        let clogged = self.is_clogged();
        let Self { devices, pending, purged_upto, purging, stored_upto, last, tally, .. } = self;
        let Some(device) = devices.get_mut(at) else { return };
        let pushed_before = device.pushed_upto;
        let Some(session) = device.session.as_mut() else { return };
        // What a purge takes out must not be passed over before it is out: an ack of what comes after
        // would count for it.
        if session.reading.is_some() || (*purging && session.position < *purged_upto) {
            return;
        }
        if session.position < *stored_upto {
            let max_messages =
                (session.window - session.in_flight.len().min(session.window)).min(core.settings.page_messages);
            let max_bytes = session.window_bytes.saturating_sub(session.in_flight_bytes).min(core.settings.page_bytes);
            if max_messages == 0 || max_bytes == 0 || clogged {
                return;
            }
            let (after, upto) = (session.position, *stored_upto);
            session.reading = Some(Reading { after, upto });
            let page = ReadPage {
                user: user.clone(),
                device: device.name.clone(),
                session: session.id,
                after,
                upto,
                max_messages,
                max_bytes,
            };
            core.act(Effect::ReadPage(Box::new(page)));
            return;
        }
        let from = pending.partition_point(|entry| entry.message.seq <= session.position);
        let mut live = true;
        for entry in pending.iter().skip(from) {
            let seq = entry.message.seq;
            if seq <= *purged_upto && entry.failed {
                // It will never come to disk to be taken out there.
                session.position = seq;
                continue;
            }
            live = seq > *purged_upto && session.has_room(entry.message.weight());
            if !live {
                break;
            }
            push(session, pushed_before, &entry.message, entry.tally, core);
        }
        if live {
            session.position = *last;
        }
        if live && session.in_flight.is_empty() {
            // Whatever is not acknowledged by now is gone in a visible way (expired, purged).
            device.advance(*last, *tally);
        }
        self.announce_caught_up(at, core);
    }

    /// `caught_up`, once, when all that was there at attach has been pushed.
    fn announce_caught_up(&mut self, at: usize, core: &mut Core) {
        let Some(device) = self.devices.get_mut(at) else { return };
        let cursor = device.cursor;
        let Some(session) = device.session.as_mut() else { return };
        if !session.is_caught_up && session.position >= session.catch_up_to {
            session.is_caught_up = true;
            // Never above what was pushed: a client may acknowledge it.
            let seq = session.catch_up_to.min(session.pushed).max(cursor);
            core.act(Effect::CaughtUp(session.handle.clone(), seq));
        }
    }

    /// A page for this session has come: `messages` of it may be pushed, everything up to `position`
    /// was looked at.
    pub fn push_page(&mut self, at: usize, messages: Vec<(Arc<Message>, Tally)>, position: Seq, core: &mut Core) {
        let Some(device) = self.devices.get_mut(at) else { return };
        let pushed_before = device.pushed_upto;
        let Some(session) = device.session.as_mut() else { return };
        for (message, tally) in &messages {
            push(session, pushed_before, message, *tally, core);
        }
        session.position = session.position.max(position);
        if let Some((message, tally)) = messages.last().filter(|_| planted(Bug::TrimOnPush)) {
            // A session that ends without an ack takes what was pushed to it along.
            device.advance(message.seq, *tally);
        }
        self.announce_caught_up(at, core);
    }

    /// Lets go of the memory of messages that no page read earlier can show any more.
    pub fn forget_leaving(&mut self, sweeping: Option<Reading>) {
        if self.leaving.is_empty() {
            return;
        }
        let readings: SmallVec<[Reading; 8]> =
            self.devices.iter().filter_map(|device| device.session.as_ref()?.reading).chain(sweeping).collect();
        self.leaving.retain(|seq, committed| {
            !*committed || readings.iter().any(|reading| reading.after < *seq && *seq <= reading.upto)
        });
    }
}

/// The tally just before `message`, given the one up to and including it.
pub fn before(tally: Tally, message: &Message) -> Tally {
    Tally { messages: tally.messages.saturating_sub(1), bytes: tally.bytes.saturating_sub(message.weight()) }
}

/// An entry leaves `pending`.
pub fn released(entry: &Entry, core: &mut Core) {
    core.unsettled.appends -= 1;
    core.unsettled.bytes -= entry.message.weight();
    core.metrics.pending_appends.dec();
}

/// Tells everyone who waits for this message what became of it.
pub fn answer_all(
    waiters: SmallVec<[Sender; 1]>,
    to: &UserId,
    message: &Arc<Message>,
    outcome: Outcome,
    core: &mut Core,
) {
    for sender in waiters {
        let answer = Answer { message: message.clone(), to: to.clone(), outcome: outcome.clone() };
        core.act(Effect::Answer(sender, answer));
    }
}

/// Pushes a new message if nothing before it is missing there and the window has room.
fn push_live(device: &mut Device, before: Seq, entry: &Entry, core: &mut Core) -> bool {
    let pushed_before = device.pushed_upto;
    let Some(session) = device.session.as_mut() else { return false };
    if session.position < before || session.reading.is_some() || !session.has_room(entry.message.weight()) {
        return false;
    }
    push(session, pushed_before, &entry.message, entry.tally, core);
    true
}

fn push(
    session: &mut super::device::Attached,
    pushed_before: Seq,
    message: &Arc<Message>,
    tally: Tally,
    core: &mut Core,
) {
    let redelivered = message.retry || message.seq <= pushed_before;
    session.carry(message.clone(), tally);
    core.metrics.deliveries.inc();
    if redelivered {
        core.metrics.redeliveries.inc();
    }
    core.act(Effect::Deliver(session.handle.clone(), Delivery { message: message.clone(), redelivered }));
}
