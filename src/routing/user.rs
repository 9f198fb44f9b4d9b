//! One user in memory: inbox, presence, and what is on its way to the store. Pure.
//!
//! At most one [`What::Change`] of a user is with the writer at a time; what comes up meanwhile is
//! gathered into the next one. So the writes of a user need no queue and no bound of their own.

use std::collections::VecDeque;

use super::command::{Command, Report, Requeue, Send};
use super::core::Core;
use super::device::Device;
use super::effect::Effect;
use super::events::EventKind;
use super::inbox::{Entry, Inbox};
use super::presence::{Presence, version_floor};
use super::send_key::SendKey;
use super::sweep::{Sweep, Work};
use crate::codes::Code;
use crate::ids::{DeviceId, Seq, UserId};
use crate::message::Tally;
use crate::planted::{Bug, planted};
use crate::store::{DeadReason, LoadedUser, Op, StoreState, What, Write};

/// Who is refreshed on disk this often, so that `last_seen` survives a crash, in microseconds.
pub(super) const REFRESH_US: u64 = 300_000_000;
/// Due times of devices are rounded up to this, so that they cost one entry an hour, in milliseconds.
const DUE_STEP_MS: u64 = 3_600_000;

pub struct User {
    pub name: UserId,
    pub inbox: Inbox,
    pub presence: Presence,
    /// Sends that wait for the store to say whether it knows the first of them.
    pub looked_up: VecDeque<Send>,
    /// The store has been asked about one of them; one question at a time.
    pub looking_up: bool,
    /// Until then the store may know sends to this user that were admitted before the router started, hybrid
    /// microseconds: they are older than `queue.dedupe_window` from then on.
    pub(super) dedupe_unsure_until_us: u64,
    /// Dead letters that wait to be put back; the first is being looked for, or waits for one that is on its way to disk.
    pub letters: VecDeque<Requeue>,
    /// The store has been asked for the first of them.
    pub reading_letter: bool,
    pub outgoing: Outgoing,
    pub sweep: Option<Sweep>,
    pub sweeps: VecDeque<Work>,
    /// Jobs that the store failed and that have to be done all the same.
    pub again: Vec<Work>,
    pub hold_timer: bool,
    /// When the timer calls for the next answer.
    pub answers_us: Option<u64>,
    /// Presence remnant differs from what is on disk.
    pub record_dirty: bool,
    pub(super) refreshed_us: u64,
}

/// Changes on their way to the store.
#[derive(Default)]
pub struct Outgoing {
    pub ops: Vec<Op>,
    pub after: Vec<After>,
    pub(super) in_flight: Option<(u64, Vec<After>)>,
}

/// What goes on once a change was committed (or failed).
pub enum After {
    Registered(DeviceId),
    /// These messages have left the disk.
    Left(Vec<Seq>),
    /// The sweep may take its next step, or is at its end.
    Swept(u64),
    /// So many messages are in the dead letters now; there are some who want to know.
    Buried {
        reason: DeadReason,
        device: Option<DeviceId>,
        messages: u64,
    },
}

impl Outgoing {
    /// One more message goes to the dead letters with the next change.
    pub fn note_burial(&mut self, reason: DeadReason, device: Option<&DeviceId>) {
        match self.after.last_mut() {
            Some(After::Buried { reason: earlier, device: of, messages })
                if (*earlier, of.as_ref()) == (reason, device) =>
            {
                *messages += 1;
            }
            _ => self.after.push(After::Buried { reason, device: device.cloned(), messages: 1 }),
        }
    }
}

impl User {
    pub fn new(name: UserId, loaded: LoadedUser, core: &mut Core) -> Self {
        core.look_later(&name);
        core.metrics.users_loaded.inc();
        let mut record = loaded.record.clone();
        // Whoever was there when the router stopped, however it stopped, is not there now, and the version
        // on disk may be the one under which watchers learned that they were.
        record.presence_version = record.presence_version.max(version_floor(core.floor));
        Self {
            inbox: load_inbox(&loaded, core),
            name,
            presence: Presence::load(&record),
            looked_up: VecDeque::new(),
            looking_up: false,
            // What was admitted since the start is known in memory, or has faded there.
            dedupe_unsure_until_us: if loaded.has_dedupe { core.dedupe_knows_all_from_us() } else { 0 },
            letters: VecDeque::new(),
            reading_letter: false,
            outgoing: Outgoing::default(),
            sweep: None,
            sweeps: VecDeque::new(),
            again: Vec::new(),
            hold_timer: false,
            answers_us: None,
            record_dirty: false,
            refreshed_us: core.now.us,
        }
    }

    /// Whether a send that memory does not know is new, without a look at the store.
    pub fn dedupe_is_complete(&self, key: SendKey, core: &Core) -> bool {
        let is_complete = core.now.us >= self.dedupe_unsure_until_us && !core.dedupe.may_be_stored(key);
        // Planted: what only the disk knows is routed a second time.
        is_complete || planted(Bug::DedupeInMemory)
    }

    /// Touches what a send to this user, or an ack, will need first.
    pub fn touch(&self) {
        let last = self.inbox.pending.back().map(|entry| entry.hold_until_us);
        let device = self.inbox.devices.first().and_then(|device| device.session.as_ref());
        let flight = device.and_then(|session| session.in_flight.front()).map(|flight| flight.gone);
        std::hint::black_box((last, flight));
    }

    /// Applies one command meant for this user.
    pub fn handle(&mut self, command: Command, core: &mut Core) {
        match command {
            Command::Attach(attach) => self.attach(*attach, core),
            Command::Detach { session, clean, code, .. } => self.detach(session, clean, code, core),
            Command::Send(send) => self.send(send, core),
            Command::SendEphemeral { ephemeral, .. } => self.send_ephemeral(&ephemeral, core),
            Command::Ack { session, seq, .. } => self.ack(session, seq, core),
            Command::Status { session, state, text, .. } => self.status(session, state, text, core),
            Command::Watch { session, .. } => self.presence.watch(&self.name, session, core),
            Command::Unwatch { session, .. } => self.presence.unwatch(session),
            Command::Forget { session, .. } => self.forget_own(session, core),
            Command::ForgetDevice { device, reply, .. } => self.forget_device(&device, Some(reply), core),
            Command::Kick { session, reply, .. } => self.kick(session, reply, core),
            Command::Purge { only, reply, .. } => self.purge(only, reply, core),
            Command::Requeue(requeue) => self.requeue(requeue, core),
            Command::Due { at_ms, .. } => self.due(at_ms, core),
            Command::Report(report) => self.report(*report, core),
            // The rest is not about one user; `state.rs` deals with it.
            _ => {}
        }
        self.flush_if_due(core);
    }

    fn report(&mut self, report: Report, core: &mut Core) {
        match report {
            Report::Page { device, session, result, .. } => self.page(&device, session, result, core),
            Report::Sweep { job, result, .. } => self.sweep_page(job, result, core),
            Report::Dedupe { key, result } => self.dedupe_answer(&key, result, core),
            Report::Letter { letter, result, .. } => self.letter_found(letter, result, core),
            // What is about more than a user, or about one who is not here yet.
            Report::Loaded { .. } | Report::Committed(_) => {}
        }
    }

    /// Something has to go to disk now (and is not waiting for an earlier change).
    pub fn flush_if_due(&mut self, core: &mut Core) {
        let leftover = self.inbox.handed_over_upto().is_none_or(|upto| self.inbox.stored_upto > upto);
        let cursors = (leftover || core.draining) && self.inbox.devices.iter().any(|device| device.dirty);
        if cursors
            || !self.inbox.removals.is_empty()
            || !self.outgoing.ops.is_empty()
            || !self.outgoing.after.is_empty()
            || (core.draining && self.record_dirty)
        {
            self.flush(core);
        }
    }

    /// Hands everything that differs from the disk to the writer, as one change.
    pub fn flush(&mut self, core: &mut Core) {
        if self.outgoing.in_flight.is_some() {
            return;
        }
        let mut ops = std::mem::take(&mut self.outgoing.ops);
        self.inbox.taken_out = 0;
        ops.extend(self.inbox.removals.drain(..).map(|(seq, bytes)| Op::Remove { seq, bytes }));
        let settled = self.inbox.settled_upto();
        // One that is being forgotten as well: if the process ends first, the device is still registered, and what
        // was in flight to it has to be marked when it goes out again.
        for device in self.inbox.devices.iter_mut().filter(|device| device.dirty) {
            let record = device.record_upto(settled);
            device.dirty = false;
            device.written = record.cursor;
            ops.push(Op::PutDevice { device: device.name.clone(), record });
            let due_ms = device.last_seen_ms + core.settings.device_expiry_ms;
            ops.push(Op::PutDue { at_ms: due_ms.next_multiple_of(DUE_STEP_MS) });
        }
        if self.record_dirty {
            self.record_dirty = false;
            ops.push(Op::PutUser { record: self.presence.record() });
        }
        let after = std::mem::take(&mut self.outgoing.after);
        if ops.is_empty() && after.is_empty() {
            return;
        }
        let token = core.token();
        self.outgoing.in_flight = Some((token, after));
        core.act(Effect::Write(Write { user: self.name.clone(), what: What::Change { token, ops } }));
    }

    /// The writer's word on a change of this user.
    pub fn change_committed(&mut self, token: u64, ok: bool, core: &mut Core) {
        match self.outgoing.in_flight.take() {
            Some((sent, after)) if sent == token => {
                for step in after {
                    self.after(step, ok, core);
                }
            }
            other => self.outgoing.in_flight = other,
        }
        // A replay may have waited for room among the removals.
        for at in 0..self.inbox.devices.len() {
            self.inbox.pump(at, &self.name, core);
        }
        self.flush_if_due(core);
    }

    fn after(&mut self, step: After, ok: bool, core: &mut Core) {
        match step {
            After::Registered(device) => self.registered(&device, ok, core),
            After::Left(seqs) => {
                for seq in seqs {
                    self.inbox.leaving.insert(seq, true);
                }
                self.forget_leaving();
            }
            After::Swept(job) => self.swept(job, ok, core),
            After::Buried { reason, device, messages } if ok => {
                core.tell(|| EventKind::DeadLetters { reason, user: self.name.clone(), device, messages });
            }
            After::Buried { .. } => {}
        }
    }

    pub fn forget_leaving(&mut self) {
        let sweeping = self.sweep.as_ref().and_then(|sweep| sweep.reading);
        self.inbox.forget_leaving(sweeping);
    }

    /// A regular look: refreshes what must survive a crash. True when the user may leave memory.
    pub fn look(&mut self, core: &mut Core) -> bool {
        if core.now.us >= self.refreshed_us + REFRESH_US {
            self.refresh(core);
        }
        // When the disk has failed, memory is all there is until the process ends.
        if core.storage == StoreState::Poisoned {
            return false;
        }
        self.sweep_again(core);
        if !self.is_idle() {
            return false;
        }
        self.note_held_back_cursors();
        self.flush(core);
        // Planted: what is loaded next may be older than what left.
        self.outgoing.in_flight.is_none() || planted(Bug::EvictUnreported)
    }

    fn refresh(&mut self, core: &mut Core) {
        self.refreshed_us = core.now.us;
        self.record_dirty |= self.presence.refresh(core.now.wall_ms);
        for device in self.inbox.devices.iter_mut().filter(|device| device.session.is_some()) {
            device.last_seen_ms = core.now.wall_ms;
            device.dirty = true;
        }
        self.flush(core);
    }

    /// Nothing would be lost or missed if the record left memory (once it is flushed).
    fn is_idle(&self) -> bool {
        self.inbox.devices.iter().all(|device| device.session.is_none() && device.waiting.is_none())
            && self.inbox.pending.is_empty()
            && self.inbox.leaving.is_empty()
            && !self.presence.has_watchers()
            && self.presence.linger_until_us.is_none()
            && self.looked_up.is_empty()
            && !self.looking_up
            && self.letters.is_empty()
            && !self.reading_letter
            && self.inbox.expiring.is_none_or(|(from, _)| from <= self.sweep_from())
            && self.sweep.is_none()
            && self.sweeps.is_empty()
            && self.again.is_empty()
    }

    /// What a drain waits for: every send is answered, and every cursor of a user who has left is written. One
    /// who is still there will be written when leaving.
    pub fn is_drained(&self) -> bool {
        let answered = self.looked_up.is_empty()
            && self.letters.is_empty()
            && !self.inbox.pending.iter().any(Entry::is_waited_for);
        let here = self.inbox.devices.iter().any(|device| device.session.is_some() || device.waiting.is_some());
        answered && (here || self.is_written())
    }

    fn is_written(&self) -> bool {
        self.outgoing.in_flight.is_none()
            && self.inbox.removals.is_empty()
            && !self.record_dirty
            && !self.inbox.devices.iter().any(|device| device.dirty)
    }

    /// Before a drain ends every append is due and every cursor is written.
    pub fn drain(&mut self, core: &mut Core) {
        self.refuse_looked_up(core);
        self.refuse_letters(|_| true, (Code::ShuttingDown, "the router is shutting down", None), core);
        self.inbox.submit(&self.name, self.inbox.last, core);
        if core.storage == StoreState::Poisoned {
            self.record_dirty = false;
            self.inbox.devices.iter_mut().for_each(|device| device.dirty = false);
        }
        self.flush_if_due(core);
    }
}

/// Builds the inbox that lies on disk.
fn load_inbox(loaded: &LoadedUser, core: &Core) -> Inbox {
    let (stored_upto, tally) = loaded.last.unwrap_or_default();
    let first = loaded.first.map(|(seq, tally, weight)| (seq, without(tally, weight)));
    let (front, base) = first.map_or((stored_upto, tally), |(seq, base)| (Seq(seq.0 - 1), base));
    let devices: Vec<Device> = loaded.devices.iter().map(|device| load_device(device, tally, core)).collect();
    let last = devices.iter().map(|device| device.cursor).chain([stored_upto]).max().unwrap_or_default();
    let counted = loaded.first.is_none();
    Inbox { devices, last, tally, base, front, stored_upto, counted, ..Inbox::default() }
}

fn load_device(loaded: &crate::store::LoadedDevice, tally: Tally, core: &Core) -> Device {
    let record = &loaded.record;
    let mut device =
        Device::new(loaded.device.clone(), record.cursor, loaded.base.unwrap_or(tally), record.last_seen_ms);
    device.start = record.start;
    device.pushed_upto = record.pushed_upto.max(core.maybe_pushed_upto);
    device.gap = record.gap;
    device.dirty = false;
    device.registering = false;
    device
}

fn without(tally: Tally, weight: u64) -> Tally {
    Tally { messages: tally.messages.saturating_sub(1), bytes: tally.bytes.saturating_sub(weight) }
}
