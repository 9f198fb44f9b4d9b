//! What has a bound, and when something is due: the part of the books that is about how much and how long.

use doorstep::routing::User;

use super::disk::Disk;
use super::ledger::{Ledger, Msg};

/// The refusal that speaks of the recipient's own queue, not of the router's.
const OWN_QUEUE: &str = "the recipient's queue is full";

impl Ledger {
    /// A message is taken only by a disk that is well, and into a queue that has room for it.
    pub fn check_may_be_taken(&self, user: u8, seq: u64, disk: &Disk) {
        let desk = &self.desks[usize::from(user)];
        assert!(!desk.refuses, "u{user}: {seq} is taken while the disk cannot take it");
        let lacks = |msg: &&Msg, dev: usize| {
            let device = &desk.devices[dev];
            msg.seq > device.cursor.max(device.start) && !self.is_excused(user, dev as u8, msg, disk)
        };
        let behind = |dev: usize| desk.messages.iter().filter(|msg| lacks(msg, dev)).count();
        let least = self.counting(user).map(|(dev, _)| behind(dev)).min();
        let least = least.filter(|_| self.quota_is_known).unwrap_or(0);
        assert!(least < self.max_messages, "u{user}: {seq} is taken, and every device lacks {least} already");
    }

    /// Live sessions of a user whose connections are not known to be gone.
    pub fn there(&self, user: u8) -> usize {
        let sessions = self.desks[usize::from(user)].devices.iter().filter_map(|dev| dev.session);
        sessions.filter(|session| !self.sessions[*session as usize].detached).count()
    }

    /// A queue is not full when some device has everything.
    pub fn check_quota_is_full(&self, user: u8, reason: &str) {
        let tail = self.tail(user);
        let someone = self.counting(user).find(|(_, dev)| reason == OWN_QUEUE && dev.has_acked(tail));
        if let Some((dev, _)) = someone {
            panic!("u{user}: a send is refused because the queue is full, and d{dev} has everything");
        }
    }

    /// What was pushed everywhere is held back for a moment, and then goes to disk.
    pub fn check_not_held_for_long(&self, user: u8, here: &User, until_us: u64) {
        let held = here.inbox.pending.iter().filter(|entry| entry.submitted.is_none() && !entry.done);
        for seq in held.map(|entry| entry.message.seq.0) {
            let late = self.find(user, seq).is_some_and(|msg| msg.routed_us <= until_us);
            assert!(!late, "u{user}: {seq} is held back for too long");
        }
    }

    /// A session asks to be let in, the first one since its device was registered: should that be forgotten by then, it
    /// is registered anew.
    pub fn note_first_hello(&mut self, user: u8, dev: u8, session: u32) {
        let tail = self.tail(user);
        let device = &mut self.desks[usize::from(user)].devices[usize::from(dev)];
        if device.first_hello.is_none() {
            device.first_hello = Some((session as usize, tail));
        }
    }

    /// A further device is not given what was there before it came.
    pub fn check_begins_at_the_end(&self, user: u8, dev: u8, start: u64) {
        let devices = &self.desks[usize::from(user)].devices;
        let Some((session, tail)) = devices[usize::from(dev)].first_hello else { return };
        let further = self.counting(user).any(|(_, other)| other.since <= session);
        // What is gone, or went with an earlier process, leaves no trace in an inbox.
        let there = |msg: &&Msg| !msg.is_settled() && !msg.dead && (msg.run == self.run || msg.stored);
        let mut before = self.desks[usize::from(user)].messages.iter().filter(|msg| msg.seq > start && msg.seq <= tail);
        if let Some(msg) = before.find(|msg| further && there(msg)) {
            panic!("u{user}/d{dev} is a further device and begins at {start}, before {}, which was there", msg.seq);
        }
    }
}
