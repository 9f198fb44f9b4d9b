//! Pages come back from the store: what of them is pushed, what has expired, what is unreadable. Pure.

use std::sync::Arc;

use super::attaching::{Leave, close};
use super::core::Core;
use super::effect::Effect;
use super::user::{After, User};
use crate::codes::CloseCode;
use crate::ids::{DeviceId, Seq, SessionId};
use crate::message::{Message, Tally};
use crate::planted::{Bug, planted};
use crate::store::{DeadLetter, DeadReason, Op, Page, StoreError, Stored};

impl User {
    /// A page for a session; one of an earlier session does nothing.
    pub fn page(&mut self, name: &DeviceId, session: SessionId, result: Result<Page, StoreError>, core: &mut Core) {
        let Some((at, device)) = self.inbox.reader(name, session) else { return };
        let Some(reading) = device.session.as_mut().and_then(|session| session.reading.take()) else { return };
        core.metrics.pages.inc();
        let Ok(page) = result else { return self.unreadable(at, core) };
        let position = match page.end {
            // What came meanwhile is on its way to disk, and no later page will be asked for.
            true if planted(Bug::LiveOnShortPage) => self.inbox.last,
            true => reading.upto,
            false => end_of(&page),
        };
        let mut left: Vec<Seq> =
            page.corrupt.iter().filter(|corrupt| self.bury_corrupt(**corrupt, core)).map(|corrupt| corrupt.0).collect();
        // Planted: what was taken out since is pushed, and its ack takes it out once more.
        let is_there = |stored: &Stored| self.is_there(stored.message.seq) || planted(Bug::PurgeRace);
        let there = page.messages.into_iter().filter(is_there);
        let (expired, fit): (Vec<_>, Vec<_>) = there.partition(|stored| self.has_expired(&stored.message, core));
        for Stored { message, .. } in expired {
            self.expire(&message, core);
            left.push(message.seq);
        }
        self.left(left);
        let fit: Vec<(Arc<Message>, Tally)> =
            fit.into_iter().map(|Stored { message, tally }| (message, tally)).collect();
        self.inbox.push_page(at, fit, position, core);
        self.forget_leaving();
        self.inbox.pump(at, &self.name, core);
    }

    /// The page could not be read: the session cannot be served in order, so it is closed.
    fn unreadable(&mut self, at: usize, core: &mut Core) {
        let code = CloseCode::Internal;
        if let Some(session) = self.take_session(at, Some(code), core) {
            close(&session, code, "the store cannot be read", core);
        }
        self.update_presence(Leave::AtOnce, core);
    }

    /// Not taken out since the page was read.
    pub fn is_there(&self, seq: Seq) -> bool {
        !self.inbox.leaving.contains_key(&seq)
    }

    /// The next change tells when these have left the disk.
    pub fn left(&mut self, seqs: Vec<Seq>) {
        if !seqs.is_empty() {
            self.outgoing.after.push(After::Left(seqs));
        }
    }

    /// A message on its way to any session does not expire.
    pub fn has_expired(&self, message: &Message, core: &Core) -> bool {
        core.is_expired(message.expires_ms) && !self.inbox.devices.iter().any(|device| device.carries(message.seq))
    }

    /// Takes an expired message out of the inbox. Dead-lettered when no device has had it; otherwise
    /// only counted.
    pub fn expire(&mut self, message: &Arc<Message>, core: &mut Core) {
        core.metrics.expired.inc();
        if self.inbox.devices.iter().any(|device| device.has_had(message.seq)) {
            self.take_out(message, core);
        } else {
            self.dispose(message, DeadReason::Expired, None, core);
        }
    }

    /// Takes a message out of the inbox and keeps it as a dead letter, in one change.
    pub fn dispose(&mut self, message: &Arc<Message>, reason: DeadReason, device: Option<DeviceId>, core: &mut Core) {
        self.take_out(message, core);
        self.bury(message, reason, device, core);
    }

    pub fn bury(&mut self, message: &Arc<Message>, reason: DeadReason, device: Option<DeviceId>, core: &mut Core) {
        let letter = DeadLetter {
            reason,
            user: self.name.clone(),
            device,
            seq: message.seq,
            message: Some(message.clone()),
            buried_ms: core.now.wall_ms,
        };
        self.bury_letter(letter, core);
    }

    /// Told to those who watch once it is committed.
    fn bury_letter(&mut self, letter: DeadLetter, core: &Core) {
        if core.is_heard {
            self.outgoing.note_burial(letter.reason, letter.device.as_ref());
        }
        self.outgoing.ops.push(Op::Bury { letter });
    }

    /// Out of the inbox on disk; whoever has it in flight removes nothing any more.
    pub fn take_out(&mut self, message: &Arc<Message>, core: &mut Core) {
        self.outgoing.ops.push(Op::Remove { seq: message.seq, bytes: message.weight() });
        self.inbox.taken_out += 1;
        self.inbox.leaving.insert(message.seq, false);
        self.inbox.devices.iter_mut().for_each(|device| device.mark_gone(message.seq));
        self.inbox.spare(message.seq, message.weight());
        core.act(Effect::Outstanding { from: message.from.clone(), waits: false });
    }

    /// A record that cannot be read leaves the inbox, visibly; replay goes on. False when it left before.
    pub fn bury_corrupt(&mut self, (seq, bytes): (Seq, u64), core: &mut Core) -> bool {
        if !self.is_there(seq) {
            return false;
        }
        core.metrics.corrupt.inc();
        self.inbox.taken_out += 1;
        self.inbox.leaving.insert(seq, false);
        // It may have been read, and pushed, while it was sound.
        self.inbox.devices.iter_mut().for_each(|device| device.mark_gone(seq));
        self.inbox.spare(seq, bytes);
        self.outgoing.ops.push(Op::Remove { seq, bytes });
        let letter = DeadLetter {
            reason: DeadReason::Corrupt,
            user: self.name.clone(),
            device: None,
            seq,
            message: None,
            buried_ms: core.now.wall_ms,
        };
        self.bury_letter(letter, core);
        true
    }
}

/// The last seq that a page shows.
pub fn end_of(page: &Page) -> Seq {
    let messages = page.messages.last().map(|stored| stored.message.seq);
    let corrupt = page.corrupt.last().map(|corrupt| corrupt.0);
    messages.max(corrupt).unwrap_or_default()
}
