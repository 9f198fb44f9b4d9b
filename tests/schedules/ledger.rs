//! The contract, kept as books: what senders and devices were told, and what they may conclude from it.
//!
//! Independent of routing: it knows commands and effects only, and panics as soon as a promise is broken.

use std::collections::VecDeque;

use doorstep::codes::Code;
use doorstep::message::Message;
use doorstep::presence::PresenceState;
use doorstep::routing::core::Settings;
use doorstep::routing::session_handle::{Answer, Outcome};

use super::cast::{DEVICES, SHARDS, USERS, body_no, device_no, id_no, user_no};
use super::disk::{Committed, Disk};
use super::requeueing::Shown;

/// A message that was routed: it was seen in an effect.
pub struct Msg {
    pub seq: u64,
    pub from: u8,
    pub id: u8,
    body: u8,
    pub retry: bool,
    pub expires_ms: u64,
    pub routed_us: u64,
    pub run: u32,
    /// The send that became this message; none if it was a dead letter.
    pub origin: Option<u32>,
    /// The number of the letter that it was.
    pub letter: Option<u64>,
    pub accepted: bool,
    /// It was on disk at some time.
    pub stored: bool,
    /// Every device that counted has acknowledged it.
    pub handed: bool,
    /// The owner has asked for its removal; forgotten at a crash that came first.
    pub removing: bool,
    pub removed: bool,
    /// A crash took it; it had not been accepted.
    pub vanished: bool,
    /// It is in the dead letters, or on its way there.
    pub dead: bool,
    /// Devices for which it lapsed, as bits.
    pub lapsed: u8,
}

impl Msg {
    /// Nobody lacks it any more.
    pub fn is_settled(&self) -> bool {
        self.handed || self.removing || self.removed || self.vanished
    }
}

#[derive(Default)]
pub struct Dev {
    pub registered: bool,
    pub welcomed: bool,
    /// It was told that something up to here lapsed; what did is written down later.
    pub gap_upto: u64,
    /// Somebody asked for it to be forgotten; nothing is kept for it from then on.
    pub forgetting: bool,
    /// Messages above this are for it.
    pub start: u64,
    /// Everything up to here was acknowledged.
    pub cursor: u64,
    /// Every seq that was ever pushed to it, and every one of those that it acknowledged, in order.
    pub seen: Vec<u64>,
    pub acked: Vec<u64>,
    pub session: Option<u32>,
    pub last_seen_ms: u64,
    /// The clock may have forgotten it with the present command.
    pub unseen: bool,
    /// It was told that what lapsed up to here did.
    pub told_upto: u64,
    /// The number of sessions that had asked to be let in when it was registered.
    pub since: usize,
    /// The first session of a device that is not registered yet, and the last seq at that time.
    pub first_hello: Option<(usize, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Asked,
    Live,
    Over,
}

pub struct Sess {
    pub user: u8,
    pub dev: u8,
    pub phase: Phase,
    /// The connection is gone and the owner has been told.
    pub detached: bool,
    /// The client closed with 1000.
    pub clean: bool,
    pub window: u32,
    pub window_bytes: u64,
    pub state: PresenceState,
    pub in_flight: VecDeque<(u64, u64)>,
    /// The highest seq pushed in this session.
    pub last: u64,
    /// Where it began, and the last seq that was given out by then.
    pub cursor: u64,
    pub tail: u64,
    pub caught_up: bool,
}

pub struct Sent {
    pub session: u8,
    pub from: u8,
    pub to: u8,
    pub id: u8,
    pub body: u8,
    pub retry: bool,
    taken_us: u64,
    pub answered: bool,
}

/// What is known of one user.
#[derive(Default)]
pub struct Desk {
    pub messages: Vec<Msg>,
    pub devices: [Dev; DEVICES],
    /// Somebody asked for everything up to here to be purged.
    pub purged_upto: u64,
    pub purged_one: Vec<u64>,
    /// When a device was last forgotten, this was the last seq; what it alone lacked may still be written down
    /// as forgotten.
    pub forgotten_upto: u64,
    /// Its owner, and what that knows: the latest wall time at which expiry was running, whether it is paused,
    /// and whether anything is wrong with the disk.
    pub owner: u8,
    pub expired_upto_ms: u64,
    pub expiry_paused: bool,
    pub refuses: bool,
}

pub struct Ledger {
    pub desks: [Desk; USERS],
    pub sessions: Vec<Sess>,
    pub sent: Vec<Sent>,
    pub open: Vec<u32>,
    pub run: u32,
    /// Of each owner.
    last_seq: [u64; SHARDS],
    pub window_us: u64,
    /// Dedupe may have forgotten what was handed over.
    pub forgetful: bool,
    accept_timeout_us: u64,
    pub device_expiry_ms: u64,
    pub max_messages: usize,
    /// No device is being registered, whose empty backlog would be the least already.
    pub quota_is_known: bool,
    /// What an owner is being shown.
    pub shown: Option<Shown>,
    /// Messages of each user that wait on disk, as owners count them for senders.
    pub outstanding: [i64; USERS],
}

impl Ledger {
    pub fn new(settings: &Settings, forgetful: bool) -> Self {
        Self {
            desks: Default::default(),
            sessions: Vec::new(),
            sent: Vec::new(),
            open: Vec::new(),
            run: 0,
            last_seq: [0; SHARDS],
            window_us: settings.dedupe_window_us,
            forgetful,
            accept_timeout_us: settings.accept_timeout_us,
            device_expiry_ms: settings.device_expiry_ms,
            max_messages: settings.max_messages as usize,
            quota_is_known: false,
            shown: None,
            outstanding: [0; USERS],
        }
    }

    /// Owners begin in good faith.
    pub fn owned_by(&mut self, owners: [u8; USERS]) {
        for (desk, owner) in self.desks.iter_mut().zip(owners) {
            (desk.owner, desk.refuses) = (owner, false);
        }
    }

    /// Everyone whom this owner owns.
    pub fn owned(&mut self, owner: usize) -> impl Iterator<Item = &mut Desk> {
        self.desks.iter_mut().filter(move |desk| usize::from(desk.owner) == owner)
    }

    pub fn tail(&self, user: u8) -> u64 {
        self.desks[usize::from(user)].messages.last().map_or(0, |msg| msg.seq)
    }

    pub fn send(&mut self, sent: Sent) -> u32 {
        self.sent.push(sent);
        let no = self.sent.len() as u32 - 1;
        self.open.push(no);
        no
    }

    pub fn attach(&mut self, sess: Sess) -> u32 {
        self.sessions.push(sess);
        self.sessions.len() as u32 - 1
    }

    pub fn session(&mut self, session: u32) -> &mut Sess {
        &mut self.sessions[session as usize]
    }

    /// The live session of a device.
    pub fn live(&self, user: u8, dev: u8) -> Option<u32> {
        self.desks[usize::from(user)].devices[usize::from(dev)].session
    }

    /// A message shows itself, in whatever effect. The first time it must be what a sender asked for.
    pub fn meet(&mut self, user: u8, message: &Message, now_us: u64, disk: &Disk) {
        let seq = message.seq.0;
        let owner = usize::from(self.desks[usize::from(user)].owner);
        if seq <= self.last_seq[owner] {
            let known = self.find(user, seq).unwrap_or_else(|| panic!("u{user}: {seq} was given out out of order"));
            assert!(
                (known.from, known.id) == (user_no(&message.from), id_no(&message.id)),
                "u{user}: {seq} was used for two messages"
            );
            return;
        }
        assert!(seq <= disk.ceiling, "u{user}: {seq} is above the ceiling {}", disk.ceiling);
        self.last_seq[owner] = seq;
        let (from, id, body) = (user_no(&message.from), id_no(&message.id), body_no(&message.body));
        let shown = self.shown.take();
        let origin = match &shown {
            Some(shown) => {
                self.comes_back(user, shown, message);
                None
            }
            None => Some(self.origin_of(user, message, now_us)),
        };
        self.check_may_be_taken(user, seq, disk);
        self.desks[usize::from(user)].messages.push(Msg {
            seq,
            from,
            id,
            body,
            retry: message.retry,
            expires_ms: message.expires_ms,
            routed_us: now_us,
            run: self.run,
            origin,
            letter: shown.map(|shown| shown.letter()),
            accepted: false,
            stored: false,
            handed: false,
            removing: false,
            removed: false,
            vanished: false,
            dead: false,
            lapsed: 0,
        });
    }

    pub fn find(&self, user: u8, seq: u64) -> Option<&Msg> {
        let messages = &self.desks[usize::from(user)].messages;
        messages.binary_search_by_key(&seq, |msg| msg.seq).ok().map(|at| &messages[at])
    }

    pub fn find_mut(&mut self, user: u8, seq: u64) -> &mut Msg {
        let messages = &mut self.desks[usize::from(user)].messages;
        let at = messages.binary_search_by_key(&seq, |msg| msg.seq);
        let at = at.unwrap_or_else(|_| panic!("u{user}: nobody has ever seen {seq}"));
        &mut messages[at]
    }

    pub fn answer(&mut self, no: u32, answer: &Answer, disk: &Disk) {
        let sent = &mut self.sent[no as usize];
        assert!(!sent.answered, "send {no} is answered twice: {:?}", answer.outcome);
        sent.answered = true;
        self.open.retain(|open| *open != no);
        let Sent { from, to, id, body, .. } = self.sent[no as usize];
        assert!((user_no(&answer.to), id_no(&answer.message.id)) == (to, id), "send {no} got somebody else's answer");
        match answer.outcome {
            Outcome::Accepted { seq, stored } => self.accepted(no, seq.0, stored, disk),
            Outcome::Rejected { code: Code::UnknownOutcome, .. } => {}
            Outcome::Rejected { code: Code::IdReused, .. } => {
                let other = |msg: &Msg| (msg.from, msg.id) == (from, id) && msg.body != body;
                let reused = self.desks[usize::from(to)].messages.iter().any(other);
                assert!(reused, "send {no} is the first with this id");
            }
            Outcome::Rejected { code, reason, .. } => {
                self.check_quota_is_full(to, reason);
                let paused = self.desks[usize::from(to)].expiry_paused;
                assert!(code != Code::Expired || !paused, "send {no} expires though expiry is paused");
                let taken = self.desks[usize::from(to)].messages.iter().rev().find(|msg| msg.origin == Some(no));
                assert!(taken.is_none(), "send {no} was routed and is refused with {code:?}");
            }
        }
    }

    /// Accepted means safe, at this very moment.
    fn accepted(&mut self, no: u32, seq: u64, stored: bool, disk: &Disk) {
        let Sent { from, to, id, body, .. } = self.sent[no as usize];
        let handed = self.is_handed_over(to, seq);
        let msg = self.find_mut(to, seq);
        assert!((msg.from, msg.id, msg.body) == (from, id, body), "send {no} is accepted as another message: {seq}");
        msg.handed |= handed;
        msg.accepted = true;
        let on_disk = disk.has(to, seq) || msg.removed;
        assert!(
            on_disk || msg.handed,
            "send {no} is accepted (stored: {stored}), but {seq} is neither safe on disk nor handed over"
        );
        assert!(if stored { msg.stored } else { msg.handed }, "send {no} is accepted with stored: {stored}");
    }

    /// Acknowledged by every device that is registered for it, of which there is at least one.
    pub fn is_handed_over(&self, user: u8, seq: u64) -> bool {
        let Some(msg) = self.find(user, seq) else { return false };
        let acked = self.counting(user).any(|(_, dev)| dev.has_acked(seq));
        msg.handed || (acked && self.nobody_lacks(user, msg))
    }

    /// Every device has it, has lost it visibly, or was never meant to have it.
    pub fn nobody_lacks(&self, user: u8, msg: &Msg) -> bool {
        let done =
            |(no, dev): (usize, &Dev)| dev.has_acked(msg.seq) || dev.start >= msg.seq || msg.lapsed & (1 << no) != 0;
        self.counting(user).all(done)
    }

    pub fn counting(&self, user: u8) -> impl Iterator<Item = (usize, &Dev)> {
        let devices = self.desks[usize::from(user)].devices.iter().enumerate();
        devices.filter(|(_, dev)| dev.registered && !dev.forgetting)
    }

    /// Notes what is handed over by now, among what came after `after`.
    pub fn note_handed_over(&mut self, user: u8, after: u64) {
        let messages = &self.desks[usize::from(user)].messages;
        let from = messages.partition_point(|msg| msg.seq <= after);
        for at in from..messages.len() {
            let msg = &self.desks[usize::from(user)].messages[at];
            if !msg.is_settled() && self.is_handed_over(user, msg.seq) {
                self.desks[usize::from(user)].messages[at].handed = true;
            }
        }
    }

    pub fn committed(&mut self, done: &Committed, disk: &Disk) {
        for (user, dev, start) in &done.enrolled {
            self.enrol(*user, *dev, *start, disk);
        }
        for (user, seq) in &done.stored {
            self.find_mut(*user, *seq).stored = true;
        }
        for (user, seq) in &done.removed {
            self.find_mut(*user, *seq).removed = true;
        }
    }

    /// A registration was committed. A user's first device gets everything that waits.
    fn enrol(&mut self, user: u8, dev: u8, start: u64, disk: &Disk) {
        let desk = &self.desks[usize::from(user)];
        let first = desk.devices.iter().all(|dev| !dev.registered);
        let mut missed =
            desk.messages.iter().filter(|msg| msg.accepted && msg.seq <= start && msg.seq > desk.forgotten_upto);
        if let Some(msg) = missed.find(|msg| first && !self.is_excused(user, dev, msg, disk)) {
            panic!("u{user}/d{dev} is the first device and begins at {start}, past {}", msg.seq);
        }
        self.check_begins_at_the_end(user, dev, start);
        let (since, told_upto) = (self.sessions.len(), self.tail(user));
        let mut known = disk.rooms[usize::from(user)].devices.iter();
        let record = known.find(|(name, _)| device_no(name) == dev);
        let last_seen_ms = record.map_or(0, |(_, record)| record.last_seen_ms);
        let device = &mut self.desks[usize::from(user)].devices[usize::from(dev)];
        *device = Dev { registered: true, start, cursor: start, last_seen_ms, since, told_upto, ..Dev::default() };
    }

    /// Every send is answered within the time that the owner has for it.
    pub fn check_answers(&self, now_us: u64) {
        let late = |no: &&u32| self.sent[**no as usize].taken_us + self.accept_timeout_us <= now_us;
        if let Some(no) = self.open.iter().find(late) {
            panic!("send {no} has no answer in time");
        }
    }

    /// The disk has failed: what was asked of it and not reported by now will never be.
    pub fn poison(&mut self, disk: &Disk) {
        for (user, desk) in self.desks.iter_mut().enumerate() {
            desk.messages.iter_mut().for_each(|msg| msg.see_again(user, disk));
        }
    }

    /// The process is gone. Whatever was accepted is on disk or was handed over. The next one has other owners.
    pub fn crash(&mut self, owners: [u8; USERS], disk: &Disk) {
        self.run += 1;
        self.last_seq = [self.last_seq.into_iter().max().unwrap_or_default(); SHARDS];
        self.owned_by(owners);
        self.open.clear();
        self.outstanding = [0; USERS];
        for sess in &mut self.sessions {
            sess.phase = Phase::Over;
        }
        for (user, desk) in self.desks.iter_mut().enumerate() {
            (desk.purged_upto, desk.purged_one) = (0, Vec::new());
            for msg in &mut desk.messages {
                msg.see_again(user, disk);
                if disk.has(user as u8, msg.seq) {
                    msg.handed = false;
                } else if !msg.removed && !msg.handed {
                    assert!(!msg.accepted, "u{user}: the crash took {}, which was accepted", msg.seq);
                    msg.vanished = true;
                }
            }
            let tail = desk.messages.last().map_or(0, |msg| msg.seq);
            for (no, dev) in desk.devices.iter_mut().enumerate() {
                dev.restart(user, no, tail, disk);
            }
        }
    }
}

impl Msg {
    /// What was only asked for has not happened; what is on disk has.
    fn see_again(&mut self, user: usize, disk: &Disk) {
        let letters = disk.dead.iter().filter(|(of, seq, _)| (usize::from(*of), *seq) == (user, self.seq));
        self.lapsed = letters.clone().filter_map(|letter| letter.2).fold(0, |bits, dev| bits | 1 << dev);
        self.dead = letters.clone().any(|letter| letter.2.is_none());
        self.removing = false;
    }
}

impl Dev {
    pub fn has_acked(&self, seq: u64) -> bool {
        self.acked.binary_search(&seq).is_ok()
    }

    /// What is left of it after a restart is what is on disk.
    fn restart(&mut self, user: usize, no: usize, tail: u64, disk: &Disk) {
        let name = doorstep::ids::DeviceId::new(&format!("d{no}")).unwrap();
        let Some(record) = disk.device(user as u8, &name) else {
            assert!(!self.registered || self.forgetting, "u{user}/d{no} was registered, and the crash took it");
            *self = Self::default();
            return;
        };
        if !self.registered {
            // What lapsed by then did for another device of that name, which was forgotten.
            (self.registered, self.start, self.told_upto) = (true, record.start.0, tail);
        }
        (self.session, self.first_hello) = (None, None);
        self.forgetting = false;
        self.cursor = record.cursor.0;
        // Acks that were not written down are forgotten: what they were for goes out again. So are those of a
        // device of that name which was forgotten before this one was registered.
        self.acked.retain(|seq| *seq > self.start && *seq <= record.cursor.0);
        self.last_seen_ms = record.last_seen_ms;
    }
}

impl Sess {
    pub fn new(user: u8, dev: u8, window: u32, window_bytes: u64, state: PresenceState) -> Self {
        Self {
            user,
            dev,
            phase: Phase::Asked,
            detached: false,
            clean: false,
            window,
            window_bytes,
            state,
            in_flight: VecDeque::new(),
            last: 0,
            cursor: 0,
            tail: 0,
            caught_up: false,
        }
    }
}

impl Sent {
    pub fn new(session: u8, (from, to): (u8, u8), (id, body): (u8, u8), retry: bool, taken_us: u64) -> Self {
        Self { session, from, to, id, body, retry, taken_us, answered: false }
    }
}
