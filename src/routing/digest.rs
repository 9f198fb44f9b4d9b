//! What decides the future of a shard, poured into a hasher: for tests that explore states and turn back
//! where they have been before.
//!
//! Of two states that pour the same, neither can be told from the other by what it does from here on. So
//! every struct is taken apart field by field: a new field does not compile until somebody has decided
//! whether it decides anything. What is left out says why; what cannot be poured is an error, never silence.

use std::cmp::Reverse;
use std::hash::{Hash, Hasher};
use std::mem::discriminant;

use super::command::{Attach, Command, Report, Requeue, Send};
use super::core::{Core, Seqs, Unsettled};
use super::dedupe::{Admitted, Dedupe, Known};
use super::device::{Attached, Device, InFlight, Reading};
use super::inbox::{Entry, Inbox, Origin};
use super::line::Line;
use super::state::{Slot, State};
use super::timers::Timers;
use super::user::{After, Outgoing, REFRESH_US, User};
use crate::message::{Message, Tally};
use crate::store::{DeviceRecord, Op, Page, StoreError, Stored, Ticket, What, Write};

type Poured = Result<(), &'static str>;

/// How instants are told apart.
#[derive(Clone, Copy)]
struct Times {
    now_us: u64,
    far_us: u64,
}

impl Times {
    fn until(self, us: u64) -> u64 {
        if us >= self.far_us { u64::MAX } else { us.saturating_sub(self.now_us) }
    }

    fn until_any(self, us: Option<u64>) -> Option<u64> {
        us.map(|us| self.until(us))
    }
}

impl State {
    /// Pours all that decides what this state does with the commands to come, as long as they all come before
    /// `far_us`. Times count from the last command: those that are over are alike, and so are those at `far_us`
    /// and after.
    pub fn pour(&self, far_us: u64, h: &mut impl Hasher) -> Poured {
        let Self { core, users, loading, drains, drain_look_us } = self;
        let times = Times { now_us: core.now.us, far_us };
        (loading, drains.len(), times.until(*drain_look_us)).hash(h);
        pour_core(core, times, h);
        let mut slots: Vec<_> = users.iter().collect();
        slots.sort_unstable_by_key(|(name, _)| *name);
        slots.into_iter().try_for_each(|(name, slot)| {
            name.hash(h);
            match slot {
                Slot::Loading(line) => pour_line(line, times, h),
                Slot::Here(user) => pour_user(user, core.last_token, times, h),
            }
        })
    }

    /// How many tokens ago this one was given out. Tokens are only ever compared with each other, so their
    /// distance from the last one says all there is to them.
    pub fn token_age(&self, token: u64) -> u64 {
        self.core.last_token - token
    }

    /// Pours a write that was handed to the store.
    pub fn pour_write(&self, write: &Write, h: &mut impl Hasher) {
        let Write { user, what } = write;
        user.hash(h);
        match what {
            What::Append { message, tally, digest, ticket } => {
                pour_message(message, h);
                pour_tally(*tally, h);
                (digest, ticket.is_cancelled()).hash(h);
            }
            What::Requeue { message, tally, letter, letter_bytes } => {
                pour_message(message, h);
                pour_tally(*tally, h);
                (letter, letter_bytes).hash(h);
            }
            What::Change { token, ops } => {
                (self.token_age(*token), ops.len()).hash(h);
                ops.iter().for_each(|op| pour_op(op, h));
            }
        }
    }
}

/// Not the settings, the same for a whole exploration; not `now`, from which times count; not the
/// effects, of which there are none between two commands; not whether anybody watches; not the metrics, which only count; not the tokens
/// (see [`State::token_age`]).
fn pour_core(core: &Core, times: Times, h: &mut impl Hasher) {
    let Core {
        settings,
        now: _,
        effects: _,
        seqs: Seqs { last, ceiling },
        dedupe,
        timers,
        ack_time,
        unsettled: Unsettled { appends, bytes, waiting_bytes },
        storage,
        total_bytes,
        expiry_paused,
        draining,
        is_heard: _,
        maybe_pushed_upto,
        floor,
        metrics: _,
        started_us,
        usual_lead_ms,
        last_token: _,
    } = core;
    (last, ceiling, appends, bytes, waiting_bytes, discriminant(storage), total_bytes).hash(h);
    (expiry_paused, draining, maybe_pushed_upto, floor, usual_lead_ms).hash(h);
    if settings.commit_delay_max_us > settings.commit_delay_us {
        ack_time.hash(h);
    }
    times.until(started_us + settings.expiry_grace_us).hash(h);
    pour_dedupe(dedupe, times, h);
    let Timers { hold, accept, linger, look } = timers;
    for line in [hold, accept, linger, look] {
        let mut line: Vec<_> = line.iter().map(|Reverse((due_us, user))| (times.until(*due_us), user)).collect();
        line.sort_unstable();
        line.hash(h);
    }
}

/// In the order of admission.
fn pour_dedupe(dedupe: &Dedupe, times: Times, h: &mut impl Hasher) {
    let Dedupe { max: _, window_us, order, places: _, first: _, faded } = dedupe;
    (dedupe.len(), order.len()).hash(h);
    for Admitted { key, known: Known { seq, digest, state }, until_us } in order {
        (times.until(*until_us), seq, digest, discriminant(state), key).hash(h);
    }
    if faded.filters.iter().any(|filter| !filter.is_empty()) {
        (&faded.filters, times.until(faded.since_us + window_us)).hash(h);
    }
}

fn pour_line(line: &Line, times: Times, h: &mut impl Hasher) -> Poured {
    let Line { waiting, answers_us } = line;
    (waiting.len(), times.until_any(*answers_us)).hash(h);
    waiting.iter().try_for_each(|command| {
        discriminant(command).hash(h);
        match command {
            Command::Attach(attach) => pour_attach(attach, h),
            Command::Detach { user: _, device: _, session, clean, code: _ } => (session, clean).hash(h),
            Command::Send(send) => pour_send(send, h),
            Command::Requeue(requeue) => pour_requeue(requeue, h),
            // A page for a session of before the record left memory, and was asked for again.
            Command::Report(report) => return pour_report(report, h),
            _ => return Err("a command waits for a record, and nobody has said what of it decides anything"),
        }
        Ok(())
    })
}

fn pour_report(report: &Report, h: &mut impl Hasher) -> Poured {
    let Report::Page { user: _, device: _, session, result } = report else {
        return Err("a report waits for a record, and nobody has said what of it decides anything");
    };
    session.hash(h);
    pour_page(result, h);
    Ok(())
}

fn pour_page(page: &Result<Page, StoreError>, h: &mut impl Hasher) {
    page.is_ok().hash(h);
    let Ok(Page { messages, corrupt, end }) = page else { return };
    (messages.len(), corrupt, end).hash(h);
    for Stored { message, tally } in messages {
        pour_message(message, h);
        pour_tally(*tally, h);
    }
}

/// The id stands for the session; texts and addresses are for people.
fn pour_attach(attach: &Attach, h: &mut impl Hasher) {
    let Attach { user, device, session, state, text: _, window, window_bytes, peer: _ } = attach;
    (user, device, session.id(), discriminant(state), window, window_bytes).hash(h);
}

/// What it is known by follows from the rest.
fn pour_send(send: &Send, h: &mut impl Hasher) {
    let Send { to, message, sender: _, taken_us, key: _, digest: _ } = send;
    (to, taken_us).hash(h);
    pour_message(message, h);
}

/// Who asked is told, and that is all.
fn pour_requeue(requeue: &Requeue, h: &mut impl Hasher) {
    let Requeue { user, letter, ttl_ms, taken_us, reply: _ } = requeue;
    (user, letter, ttl_ms, taken_us).hash(h);
}

/// Of presence only what is written down and when others are told: it is a picture and never decides a delivery.
fn pour_user(user: &User, last_token: u64, times: Times, h: &mut impl Hasher) -> Poured {
    let User {
        name: _,
        inbox,
        presence,
        looked_up,
        looking_up,
        dedupe_unsure_until_us,
        letters,
        reading_letter,
        outgoing: Outgoing { ops, after, in_flight },
        sweep,
        sweeps,
        again,
        hold_timer,
        answers_us,
        record_dirty,
        refreshed_us,
    } = user;
    if sweep.is_some() || !sweeps.is_empty() || !again.is_empty() {
        return Err("a job is under way, and nobody has said what of it decides anything");
    }
    pour_inbox(inbox, times, h);
    let linger = times.until_any(presence.linger_until_us);
    (linger, presence.is_visible(), presence.watchers(), record_dirty).hash(h);
    (looking_up, hold_timer, times.until_any(*answers_us)).hash(h);
    (times.until(*dedupe_unsure_until_us), times.until(refreshed_us + REFRESH_US)).hash(h);
    looked_up.len().hash(h);
    looked_up.iter().for_each(|send| pour_send(send, h));
    (reading_letter, letters.len()).hash(h);
    letters.iter().for_each(|requeue| pour_requeue(requeue, h));
    ops.len().hash(h);
    ops.iter().for_each(|op| pour_op(op, h));
    pour_steps(after, h);
    in_flight.is_some().hash(h);
    if let Some((token, after)) = in_flight {
        (last_token - token).hash(h);
        pour_steps(after, h);
    }
    Ok(())
}

fn pour_steps(after: &[After], h: &mut impl Hasher) {
    after.len().hash(h);
    for step in after {
        discriminant(step).hash(h);
        match step {
            After::Registered(device) => device.hash(h),
            After::Left(seqs) => seqs.hash(h),
            After::Swept(job) => job.hash(h),
            // It is told to those who watch, and decides nothing.
            After::Buried { .. } => {}
        }
    }
}

fn pour_inbox(inbox: &Inbox, times: Times, h: &mut impl Hasher) {
    let Inbox {
        devices,
        pending,
        last,
        tally,
        base,
        front,
        counted,
        expiring,
        stored_upto,
        purged_upto,
        purging,
        removals,
        taken_out,
        leaving,
    } = inbox;
    pour_tally(*tally, h);
    pour_tally(*base, h);
    (last, front, counted, expiring, stored_upto, purged_upto, purging, removals, taken_out, leaving).hash(h);
    devices.len().hash(h);
    devices.iter().for_each(|device| pour_device(device, h));
    pending.len().hash(h);
    pending.iter().for_each(|entry| pour_entry(entry, times, h));
}

/// Of those who wait for an answer only how many there are: they get the same one, whoever they are.
fn pour_entry(entry: &Entry, times: Times, h: &mut impl Hasher) {
    let Entry { message, tally, origin, submitted, failed, done, hold_until_us, answer_until_us, waiters } = entry;
    pour_message(message, h);
    pour_tally(*tally, h);
    match origin {
        Origin::Send { digest, key: _, known_at: _ } => digest.hash(h),
        Origin::DeadLetter { letter, letter_bytes, reply } => (letter, letter_bytes, reply.is_some()).hash(h),
    }
    (discriminant(origin), submitted.as_ref().map(Ticket::is_cancelled), failed, done).hash(h);
    (times.until(*hold_until_us), times.until(*answer_until_us), waiters.len()).hash(h);
}

fn pour_device(device: &Device, h: &mut impl Hasher) {
    let Device {
        name,
        start,
        cursor,
        done,
        pushed_upto,
        last_seen_ms,
        gap,
        dirty,
        written,
        registering,
        leaving,
        waiting,
        session,
    } = device;
    pour_tally(*done, h);
    (name, start, cursor, pushed_upto, last_seen_ms, gap, dirty, written, registering, leaving).hash(h);
    (waiting.is_some(), session.is_some()).hash(h);
    waiting.iter().for_each(|attach| pour_attach(attach, h));
    session.iter().for_each(|session| pour_session(session, h));
}

fn pour_session(session: &Attached, h: &mut impl Hasher) {
    let Attached {
        handle: _,
        id,
        window,
        window_bytes,
        in_flight,
        in_flight_bytes,
        position,
        pushed,
        reading,
        catch_up_to,
        is_caught_up,
        state,
        text: _,
        peer: _,
        attached_ms,
        told_gap,
    } = session;
    let reading = reading.map(|Reading { after, upto }| (after, upto));
    (id, window, window_bytes, in_flight_bytes, position, pushed, reading).hash(h);
    (!is_caught_up).then_some(catch_up_to).hash(h);
    (discriminant(state), attached_ms, told_gap, in_flight.len()).hash(h);
    for InFlight { message, tally, gone } in in_flight {
        (message.seq, gone).hash(h);
        pour_tally(*tally, h);
    }
}

fn pour_message(message: &Message, h: &mut impl Hasher) {
    let Message { seq, id, from, body, ts_ms, expires_ms, retry } = message;
    (seq, id, from, body, ts_ms, expires_ms, retry).hash(h);
}

pub fn pour_tally(tally: Tally, h: &mut impl Hasher) {
    let Tally { messages, bytes } = tally;
    (messages, bytes).hash(h);
}

pub fn pour_record(record: &DeviceRecord, h: &mut impl Hasher) {
    let DeviceRecord { start, cursor, pushed_upto, last_seen_ms, gap } = record;
    (start, cursor, pushed_upto, last_seen_ms, gap).hash(h);
}

/// Of a presence record only that there is one, and of a dead letter which message it is.
fn pour_op(op: &Op, h: &mut impl Hasher) {
    discriminant(op).hash(h);
    match op {
        Op::Remove { seq, bytes } => (seq, bytes).hash(h),
        Op::PutDevice { device, record } => {
            device.hash(h);
            pour_record(record, h);
        }
        Op::DropDevice { device } => device.hash(h),
        Op::PutUser { record: _ } => {}
        Op::PutDue { at_ms } | Op::DropDue { at_ms } => at_ms.hash(h),
        Op::Bury { letter } => letter.seq.hash(h),
    }
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
