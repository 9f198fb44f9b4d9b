//! Work on an inbox that is not a delivery: purge, expiry, lapse, and what a forgotten device lacked. Pure.
//!
//! One job of a user runs at a time. It reads a page, turns it into one change (removals and dead
//! letters together), waits until that is committed, and reads on. A crash between two steps leaves
//! a smaller inbox and nothing undone: whatever was taken out is in the dead letters.

use tokio::sync::oneshot;

use super::attaching::{Leave, close};
use super::command::NotDone;
use super::core::{Core, SWEEPS_MAX};
use super::counting::Count;
use super::device::Reading;
use super::effect::Effect;
use super::forgetting::{Then, told};
use super::inbox::before;
use super::replaying::end_of;
use super::user::{After, User};
use crate::codes::CloseCode;
use crate::ids::{DeviceId, Seq};
use crate::message::Tally;
use crate::store::{DeadReason, Op, Page, StoreError, Stored};

/// How long an expired message that is on its way to a session is left alone, in milliseconds.
const LOOK_AGAIN_MS: u64 = 60_000;

/// Pages without anything expired after which an expiry goes no further for now. The due entry stays then, so
/// that it is asked for again and goes on.
const FRUITLESS_PAGES_MAX: u32 = 16;

/// What is to be done.
pub enum Work {
    /// Everything up to `upto`; `tally` is the inbox's there. `before` is how far the last purge went.
    Purge {
        upto: Seq,
        tally: Tally,
        before: Seq,
        count: u64,
        reply: oneshot::Sender<Result<u64, NotDone>>,
    },
    PurgeOne {
        seq: Seq,
        found: bool,
        reply: oneshot::Sender<Result<u64, NotDone>>,
    },
    /// What has expired. `fruitless` pages in a row held nothing that had.
    Expire {
        at_ms: u64,
        fruitless: u32,
    },
    /// A device is too far behind: it misses what is older than half the quota. `missed` something already.
    Lapse {
        device: DeviceId,
        missed: bool,
    },
    /// What is really there behind each device.
    Count(Count),
    /// A device is unregistered; what only it lacked is dead-lettered. That lies between its cursor and `upto`.
    /// Its registration stays until nothing up to `tail` is pending. `dropped` once it is gone.
    Forget {
        device: DeviceId,
        upto: Seq,
        tail: Seq,
        dropped: bool,
        then: Then,
    },
}

/// A job under way.
pub struct Sweep {
    pub id: u64,
    pub work: Work,
    /// The range of the page that is being read.
    pub reading: Option<Reading>,
    /// Where to go on once the present step is committed; none at the end.
    pub next: Option<Reading>,
    /// It has read everything and waits for what is pending.
    pub parked: bool,
}

impl User {
    pub fn purge(&mut self, only: Option<Seq>, reply: oneshot::Sender<Result<u64, NotDone>>, core: &mut Core) {
        if self.sweeps.len() >= SWEEPS_MAX {
            return core.act(Effect::ReplyCount(reply, Err(NotDone::Busy)));
        }
        let work = match only {
            Some(seq) if self.inbox.entry_mut(seq).is_some() => {
                return core.act(Effect::ReplyCount(reply, Err(NotDone::Busy)));
            }
            Some(seq) => Work::PurgeOne { seq, found: false, reply },
            None => Work::Purge { upto: self.inbox.last, tally: self.inbox.tally, before: Seq::ZERO, count: 0, reply },
        };
        self.enqueue(work, core);
    }

    /// The store says that it is time to look: messages or devices may have expired.
    pub fn due(&mut self, at_ms: u64, core: &mut Core) {
        let busy = self
            .sweep
            .iter()
            .map(|sweep| &sweep.work)
            .chain(&self.sweeps)
            .any(|work| matches!(work, Work::Expire { .. }));
        if busy || !core.expiry_runs() {
            return;
        }
        match self.inbox.expiring {
            // One pass after the other, each from the front to the end: this one's turn will come.
            Some((_, earlier_ms)) if earlier_ms < at_ms => return,
            Some((_, later_ms)) if later_ms > at_ms => self.inbox.expiring = None,
            _ => {}
        }
        let gone = |last_seen_ms: u64| last_seen_ms + core.settings.device_expiry_ms <= core.now.wall_ms;
        let idle = self.inbox.devices.iter().filter(|device| device.session.is_none() && device.waiting.is_none());
        let expired: Vec<_> =
            idle.filter(|device| gone(device.last_seen_ms)).map(|device| device.name.clone()).collect();
        for device in expired {
            self.forget_device(&device, None, core);
        }
        self.enqueue(Work::Expire { at_ms, fruitless: 0 }, core);
    }

    /// A device that is further behind than the quota while another is not must not block the user.
    pub fn lapse_if_far_behind(&mut self, core: &mut Core) {
        if self.inbox.devices.len() < 2 || self.sweep.is_some() || !self.sweeps.is_empty() {
            return;
        }
        let far =
            |backlog: Tally| backlog.messages > core.settings.max_messages || backlog.bytes > core.settings.max_bytes;
        if far(self.inbox.backlog()) {
            return;
        }
        let tally = self.inbox.tally;
        let behind = self.inbox.devices.iter().position(|device| !device.leaving && far(tally.since(device.done)));
        let Some(at) = behind else { return };
        if !self.inbox.counted {
            return self.count_if_inexact(core);
        }
        let Some(device) = self.inbox.devices.get(at).map(|device| device.name.clone()) else { return };
        if let Some(session) = self.take_session(at, Some(CloseCode::Internal), core) {
            close(&session, CloseCode::Internal, "too far behind: older messages lapsed", core);
            self.update_presence(Leave::Linger, core);
        }
        self.enqueue(Work::Lapse { device, missed: false }, core);
    }

    /// Whether a device is lapsing or about to.
    pub fn lapses(&self, name: &DeviceId) -> bool {
        let mut works = self.sweep.iter().map(|sweep| &sweep.work).chain(&self.sweeps);
        works.any(|work| matches!(work, Work::Lapse { device, .. } if device == name))
    }

    pub fn enqueue(&mut self, work: Work, core: &mut Core) {
        self.sweeps.push_back(work);
        self.next_sweep(core);
    }

    /// Begins the next job when none is running.
    fn next_sweep(&mut self, core: &mut Core) {
        if self.sweep.is_some() {
            return;
        }
        let Some(mut work) = self.sweeps.pop_front() else { return };
        let (front, stored) = (self.sweep_from(), self.inbox.stored_upto);
        let (after, upto) = match &mut work {
            Work::Purge { upto, before, count, .. } => {
                let upto = *upto;
                *before = self.inbox.purged_upto;
                // What is on its way to disk is taken out as soon as it is there.
                *count += self.inbox.unsettled_upto(upto).count() as u64;
                self.inbox.purging = true;
                self.inbox.purged_upto = self.inbox.purged_upto.max(upto);
                self.inbox.submit(&self.name, upto, core);
                (front, upto.min(stored))
            }
            Work::PurgeOne { seq, .. } => (Seq(seq.0.saturating_sub(1)), *seq),
            Work::Expire { .. } => {
                self.inbox.front = front;
                (front.max(self.inbox.expiring.map_or(Seq::ZERO, |(from, _)| from)), stored)
            }
            Work::Count(count) => {
                count.begin(self.inbox.settled_tally(), &self.inbox.devices);
                (front, stored)
            }
            Work::Lapse { device, .. } => (self.cursor_of(device), stored),
            Work::Forget { device, upto, .. } => (self.cursor_of(device), *upto),
        };
        let id = core.token();
        self.sweep = Some(Sweep { id, work, reading: None, next: None, parked: false });
        for at in 0..self.inbox.devices.len() {
            self.inbox.pump(at, &self.name, core);
        }
        self.read_on(Reading { after, upto }, core);
    }

    /// No message at or below this is on disk and lacking anywhere.
    pub fn sweep_from(&self) -> Seq {
        self.inbox.front.max(self.inbox.handed_over_upto().unwrap_or_default().min(self.inbox.settled_upto()))
    }

    fn cursor_of(&self, device: &DeviceId) -> Seq {
        self.inbox
            .device_index(device.as_str())
            .and_then(|at| self.inbox.devices.get(at))
            .map_or(Seq::ZERO, |d| d.cursor)
    }

    fn read_on(&mut self, reading: Reading, core: &mut Core) {
        let Some(sweep) = &mut self.sweep else { return };
        if reading.after >= reading.upto {
            return self.end_sweep(core);
        }
        sweep.reading = Some(reading);
        let (job, user) = (sweep.id, self.name.clone());
        core.act(Effect::ReadSweep { user, job, after: reading.after, upto: reading.upto });
    }

    /// A page of the running job has come.
    pub fn sweep_page(&mut self, job: u64, result: Result<Page, StoreError>, core: &mut Core) {
        let Some(mut sweep) = self.sweep.take_if(|sweep| sweep.id == job) else { return };
        let Some(reading) = sweep.reading.take() else { return };
        let Ok(page) = result else { return self.abandon(sweep.work, core) };
        let end = end_of(&page);
        let corrupt: Vec<(Seq, u64)> =
            page.corrupt.iter().copied().filter(|corrupt| self.is_waiting(&sweep.work, corrupt.0)).collect();
        let corrupt = corrupt.into_iter().filter(|corrupt| self.bury_corrupt(*corrupt, core)).map(|corrupt| corrupt.0);
        let corrupt = corrupt.collect();
        self.left(corrupt);
        let there: Vec<Stored> =
            page.messages.into_iter().filter(|stored| self.is_waiting(&sweep.work, stored.message.seq)).collect();
        let span = Reading { after: reading.after, upto: end };
        let go_on = self.step(&mut sweep.work, span, &there, core) && !page.end;
        sweep.next = go_on.then_some(Reading { after: end, upto: reading.upto });
        self.sweep = Some(sweep);
        self.forget_leaving();
        if self.outgoing.ops.is_empty() {
            self.swept(job, true, core);
        } else {
            self.outgoing.after.push(After::Swept(job));
        }
    }

    /// Whether a message that a page shows is still there for this job.
    fn is_waiting(&self, work: &Work, seq: Seq) -> bool {
        match work {
            Work::Forget { .. } => self.is_there(seq),
            // What is below has been seen to, and may be on its way out; a device that is forgotten since
            // makes no difference to that.
            _ => self.is_there(seq) && seq > self.sweep_from(),
        }
    }

    /// Does the job's work on one page; false when it has no need to read on.
    fn step(&mut self, work: &mut Work, span: Reading, there: &[Stored], core: &mut Core) -> bool {
        let mut left = Vec::new();
        let go_on = match work {
            Work::Purge { count, .. } => {
                left.extend(there.iter().map(|stored| stored.message.seq));
                self.dispose_all(there, DeadReason::Purged, None, core);
                core.metrics.purged.inc_by(left.len() as u64);
                *count += left.len() as u64;
                true
            }
            Work::PurgeOne { found, .. } => {
                left.extend(there.iter().map(|stored| stored.message.seq));
                self.dispose_all(there, DeadReason::Purged, None, core);
                core.metrics.purged.inc_by(left.len() as u64);
                *found = !left.is_empty();
                false
            }
            Work::Expire { at_ms, fruitless } => {
                left.extend(
                    there.iter().filter(|stored| self.expire_due(stored, core)).map(|stored| stored.message.seq),
                );
                self.note_front(span, there, &left);
                *fruitless = if left.is_empty() { *fruitless + 1 } else { 0 };
                let go_on = *fruitless < FRUITLESS_PAGES_MAX;
                self.inbox.expiring = (!go_on).then_some((span.upto, *at_ms));
                go_on
            }
            Work::Count(count) => {
                count.page(there, &self.inbox.devices);
                true
            }
            Work::Lapse { device, missed } => {
                let before = self.cursor_of(device);
                let go_on = self.lapse(device, there, &mut left, core);
                *missed |= self.cursor_of(device) > before;
                go_on
            }
            Work::Forget { device, .. } => {
                left.extend(there.iter().map(|stored| stored.message.seq));
                core.metrics.forgotten.inc_by(left.len() as u64);
                self.dispose_all(there, DeadReason::DeviceForgotten, Some(device.clone()), core);
                true
            }
        };
        self.left(left);
        go_on
    }

    fn dispose_all(&mut self, there: &[Stored], reason: DeadReason, device: Option<DeviceId>, core: &mut Core) {
        for stored in there {
            self.dispose(&stored.message, reason, device.clone(), core);
        }
    }

    fn expire_due(&mut self, stored: &Stored, core: &mut Core) -> bool {
        if self.has_expired(&stored.message, core) {
            self.expire(&stored.message, core);
            return true;
        }
        if core.is_expired(stored.message.expires_ms) {
            // On its way to a session: whatever becomes of that, someone looks again.
            self.outgoing.ops.push(Op::PutDue { at_ms: core.now.wall_ms + LOOK_AGAIN_MS });
        }
        false
    }

    /// The inbox now begins at the first message of the page that stays: backlogs shrink by what has
    /// gone before it, for devices that are not there as well.
    fn note_front(&mut self, span: Reading, there: &[Stored], left: &[Seq]) {
        // Something stayed on an earlier page: the front is there.
        if self.inbox.front < span.after {
            return;
        }
        let stays = there.iter().find(|stored| !left.contains(&stored.message.seq));
        let (front, base) = match (stays, there.last()) {
            (Some(stored), _) => (Seq(stored.message.seq.0 - 1), before(stored.tally, &stored.message)),
            (None, Some(last)) => (span.upto, last.tally),
            (None, None) => return,
        };
        self.inbox.front = self.inbox.front.max(front);
        self.raise_base(base);
        for device in self.inbox.devices.iter_mut().filter(|device| device.cursor <= front) {
            let cursor = device.cursor;
            device.advance(cursor, base);
        }
    }

    pub fn raise_base(&mut self, base: Tally) {
        self.inbox.base = self.inbox.base.max(base);
    }

    /// Moves a device's cursor over what it misses, until it is behind by half the quota or less.
    fn lapse(&mut self, name: &DeviceId, there: &[Stored], left: &mut Vec<Seq>, core: &mut Core) -> bool {
        let goal = (core.settings.max_messages / 2, core.settings.max_bytes / 2);
        for stored in there {
            let (tally, seq) = (self.inbox.tally, stored.message.seq);
            let Some(device) = self.inbox.device_index(name.as_str()).and_then(|at| self.inbox.devices.get_mut(at))
            else {
                return false;
            };
            let behind = tally.since(device.done);
            if device.leaving || (behind.messages <= goal.0 && behind.bytes <= goal.1) {
                return false;
            }
            if seq <= device.cursor {
                continue;
            }
            device.is_spared(stored.message.weight());
            device.advance(seq, stored.tally);
            device.gap = true;
            core.metrics.lapsed.inc();
            self.bury(&stored.message, DeadReason::Lapsed, Some(name.clone()), core);
            if self.inbox.is_handed_over(seq) {
                self.take_out(&stored.message, core);
                left.push(seq);
            }
        }
        true
    }

    /// The present step was committed.
    pub fn swept(&mut self, job: u64, ok: bool, core: &mut Core) {
        let Some(sweep) = self.sweep.take_if(|sweep| sweep.id == job) else { return };
        if !ok {
            return self.abandon(sweep.work, core);
        }
        let next = sweep.next;
        self.sweep = Some(sweep);
        match next {
            Some(reading) => self.read_on(reading, core),
            None => self.end_sweep(core),
        }
    }

    /// The job has seen everything: what is left is to say so, durably where it matters.
    fn end_sweep(&mut self, core: &mut Core) {
        let Some(sweep) = self.sweep.take() else { return };
        // What came while it ran looked for nobody who is behind. One in which nothing was missed would change nothing.
        let look_again = matches!(&sweep.work, Work::Lapse { missed: true, .. } | Work::Count(_));
        match sweep.work {
            Work::Purge { upto, tally, count, reply, .. } => {
                self.pass_over(upto, tally, core);
                core.act(Effect::ReplyCount(reply, Ok(count)));
            }
            Work::PurgeOne { found, reply, .. } => {
                core.act(Effect::ReplyCount(reply, if found { Ok(1) } else { Err(NotDone::NotFound) }));
            }
            Work::Expire { at_ms, fruitless } => {
                // Stopped half-way, or judged nothing because expiry was paused: somebody has to come back.
                if fruitless < FRUITLESS_PAGES_MAX && core.expiry_runs() {
                    self.inbox.expiring = None;
                    if !self.inbox.pending.is_empty() {
                        // No page has shown it, and what brings someone back to it may be the entry that goes now.
                        self.outgoing.ops.push(Op::PutDue { at_ms: core.now.wall_ms + LOOK_AGAIN_MS });
                    }
                    self.outgoing.ops.push(Op::DropDue { at_ms });
                }
            }
            Work::Lapse { .. } => {}
            Work::Count(count) => self.counted(&count),
            Work::Forget { then, dropped: true, .. } => told(then, Ok(()), core),
            Work::Forget { .. } => {
                self.sweep = Some(sweep);
                return self.drop_when_settled(core);
            }
        }
        self.forget_leaving();
        self.next_sweep(core);
        if look_again {
            self.lapse_if_far_behind(core);
        }
    }

    /// Devices that are not there have nothing left at or below `upto`, except what is still pending.
    fn pass_over(&mut self, upto: Seq, tally: Tally, core: &mut Core) {
        self.inbox.purging = false;
        let settled = self.inbox.settled_upto();
        let (upto, tally) = if settled < upto { (settled, self.inbox.settled_tally()) } else { (upto, tally) };
        self.raise_base(tally);
        self.inbox.front = self.inbox.front.max(upto);
        for at in 0..self.inbox.devices.len() {
            // What a device lacks that is being forgotten is seen to by that job, from its cursor on.
            if let Some(device) = self.inbox.devices.get_mut(at).filter(|device| !device.leaving) {
                // A session's cursor is moved by its acks, or when it has nothing left to acknowledge.
                let cursor = if device.session.is_some() { device.cursor } else { upto };
                device.advance(cursor, tally);
            }
            self.inbox.pump(at, &self.name, core);
        }
    }

    /// The store failed in the middle: who asked is told, and the next job may try. Nothing was kept for
    /// a device while it was being forgotten, so there is no way back for it: that is tried again.
    pub fn abandon(&mut self, work: Work, core: &mut Core) {
        match work {
            Work::Purge { before, reply, .. } => {
                core.act(Effect::ReplyCount(reply, Err(NotDone::Storage)));
                self.give_up_purge(before, core);
            }
            Work::PurgeOne { reply, .. } => core.act(Effect::ReplyCount(reply, Err(NotDone::Storage))),
            Work::Forget { device, upto, tail, dropped, then } => {
                told(then, Err(NotDone::Storage), core);
                if !dropped {
                    self.again.push(Work::Forget { device, upto, tail, dropped, then: Then::Nobody });
                }
            }
            Work::Expire { .. } => self.inbox.expiring = None,
            Work::Lapse { .. } | Work::Count(_) => {}
        }
        self.forget_leaving();
        self.next_sweep(core);
    }

    /// What is still there is delivered after all.
    fn give_up_purge(&mut self, before: Seq, core: &mut Core) {
        self.inbox.purging = false;
        self.inbox.purged_upto = before;
        self.settle(core);
        for at in 0..self.inbox.devices.len() {
            self.inbox.pump(at, &self.name, core);
        }
    }

    /// Takes up what had to be abandoned.
    pub fn sweep_again(&mut self, core: &mut Core) {
        self.sweeps.extend(self.again.drain(..));
        self.next_sweep(core);
    }
}
