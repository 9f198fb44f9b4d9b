//! The contract as books: what senders and devices were told, and whether that was true.
//!
//! Independent of routing: it knows commands and effects only. The first promise that breaks is noted.

use std::hash::Hash;

use doorstep::codes::Code;
use doorstep::message::Message;
use doorstep::routing::session_handle::Outcome;

use super::cast::{DEVICES, MOST, SENDERS, device_no, letter};
use super::disk::Disk;

/// What may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    Safe,
    Ordered,
    NoSeqTwice,
    Marked,
    CaughtUp,
    Answered,
    Store,
    Invariants,
    Panics,
    ComesToRest,
}

impl Promise {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Safe => "what was accepted is safe",
            Self::Ordered => "nothing is overtaken, and nothing left out",
            Self::NoSeqTwice => "no seq is used twice",
            Self::Marked => "what comes again is marked, and nothing else",
            Self::CaughtUp => "caught_up comes once, and when it is true",
            Self::Answered => "every send has one answer, and a true one",
            Self::Store => "the store is used as its contract says",
            Self::Invariants => "the invariants of the core hold",
            Self::Panics => "nothing panics",
            Self::ComesToRest => "everything accepted reaches every device in the end",
        }
    }
}

/// A message that was given its place.
#[derive(Hash)]
pub struct Msg {
    pub from: (u8, u8),
    pub seq: u64,
    pub accepted: bool,
    pub stored: bool,
    /// Every device that was registered by then had acknowledged it; whoever comes later does not lack it.
    pub handed: bool,
    /// A crash took it; nobody had been told that it was safe.
    pub lost: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    Asked,
    Live,
    /// The owner has closed it, and has not heard yet that the connection is gone.
    Closed,
    /// The client left before it was let in: what it is told then nobody hears.
    LeftEarly,
    Over,
}

#[derive(Clone, Hash)]
pub struct Sess {
    pub phase: Phase,
    /// What it was pushed, and how much of that is acknowledged.
    pub got: Vec<u64>,
    pub acked: usize,
    /// The last seq that was given out when it was welcomed.
    tail: u64,
    pub caught_up: bool,
}

#[derive(Default, Hash)]
pub struct Dev {
    /// Messages above this are for it; none while it is not on disk.
    pub start: Option<u64>,
    /// What was ever pushed to it, and what it ever acknowledged.
    pushed: Vec<u64>,
    acked: Vec<u64>,
    pub sessions: Vec<Sess>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sent {
    Not,
    Open,
    Accepted,
    Rejected,
    /// The router stopped before it answered.
    Unanswered,
}

#[derive(Hash)]
pub struct Books {
    pub msgs: Vec<Msg>,
    pub devs: [Dev; DEVICES],
    pub sent: [[Sent; MOST]; SENDERS],
    pub crashed: bool,
    /// A refusal may come of it.
    pub trouble: bool,
}

pub type Kept = Result<(), (Promise, String)>;

fn keep(holds: bool, promise: Promise, found: impl FnOnce() -> String) -> Kept {
    if holds { Ok(()) } else { Err((promise, found())) }
}

impl Books {
    pub fn new(trouble: bool) -> Self {
        let sent = [[Sent::Not; MOST]; SENDERS];
        Self { msgs: Vec::new(), devs: Default::default(), sent, crashed: false, trouble }
    }

    /// A message shows itself. The first time it must come after everything that ever came.
    pub fn meet(&mut self, message: &Message) -> Kept {
        let (seq, from) = (message.seq.0, letter(&message.id));
        if let Some(known) = self.msgs.iter().find(|msg| msg.seq == seq) {
            return keep(known.from == from && !known.lost, Promise::NoSeqTwice, || {
                format!("{seq} is {from:?} now and was {:?}", known.from)
            });
        }
        let last = self.tail();
        keep(seq > last, Promise::NoSeqTwice, || format!("{seq} is given out after {last}"))?;
        let mut earlier = self.msgs.iter().filter(|msg| msg.from.0 == from.0 && !message.retry);
        let overtaken = earlier.find(|msg| msg.from.1 > from.1);
        keep(overtaken.is_none(), Promise::Ordered, || format!("{from:?} takes its place after a later one"))?;
        let twin = self.msgs.iter().find(|msg| msg.from == from && msg.stored && !msg.lost);
        keep(twin.is_none(), Promise::Answered, || format!("the repeat {seq} of a stored one is a second message"))?;
        self.msgs.push(Msg { from, seq, accepted: false, stored: false, handed: false, lost: false });
        Ok(())
    }

    pub fn tail(&self) -> u64 {
        self.msgs.last().map_or(0, |msg| msg.seq)
    }

    pub fn answer(&mut self, from: (u8, u8), outcome: &Outcome, disk: &Disk) -> Kept {
        let sent = &mut self.sent[usize::from(from.0)][usize::from(from.1)];
        keep(*sent == Sent::Open, Promise::Answered, || format!("{from:?} is answered, and was {sent:?}"))?;
        match outcome {
            Outcome::Accepted { seq, .. } => {
                *sent = Sent::Accepted;
                let msg = self.msgs.iter_mut().find(|msg| msg.seq == seq.0 && msg.from == from && !msg.lost);
                let known = msg.map(|msg| msg.accepted = true);
                keep(known.is_some(), Promise::Answered, || format!("{from:?} is accepted as {seq}, which it is not"))?;
                self.check_safe(disk)
            }
            Outcome::Rejected { code, .. } => {
                *sent = Sent::Rejected;
                let taken = self.msgs.iter().any(|msg| msg.from == from && !msg.lost);
                keep(self.trouble, Promise::Answered, || format!("{from:?} is refused for nothing: {code:?}"))?;
                let certain = *code != Code::UnknownOutcome;
                keep(!(certain && taken), Promise::Answered, || format!("{from:?} was taken and is refused: {code:?}"))
            }
        }
    }

    /// What was accepted is on disk, or every device that is to have it has it, and there is one.
    pub fn check_safe(&mut self, disk: &Disk) -> Kept {
        self.note_handed();
        let safe = |msg: &Msg| msg.handed || disk.has(msg.seq);
        let lost = self.msgs.iter().find(|msg| msg.accepted && !safe(msg));
        keep(lost.is_none(), Promise::Safe, || {
            let seq = lost.map_or(0, |msg| msg.seq);
            format!("{seq} was accepted, and is neither on disk nor with every device")
        })
    }

    fn note_handed(&mut self) {
        let devs = &self.devs;
        for msg in self.msgs.iter_mut().filter(|msg| msg.accepted && !msg.handed) {
            let is_with = devs.iter().any(|dev| dev.acked.contains(&msg.seq));
            msg.handed = is_with && !devs.iter().any(|dev| dev.is_owed(msg));
        }
    }

    pub fn hello(&mut self, dev: usize) -> usize {
        let sessions = &mut self.devs[dev].sessions;
        sessions.push(Sess { phase: Phase::Asked, got: Vec::new(), acked: 0, tail: 0, caught_up: false });
        sessions.len() - 1
    }

    pub fn welcome(&mut self, dev: usize, no: usize, disk: &Disk) -> Kept {
        let tail = self.tail();
        let device = &mut self.devs[dev];
        let on_disk = disk.devices.iter().any(|(name, _)| device_no(name) == dev);
        keep(on_disk, Promise::Answered, || format!("d{dev} is welcomed, and not registered on disk"))?;
        let sess = &mut device.sessions[no];
        sess.tail = tail;
        match sess.phase {
            Phase::Asked => sess.phase = Phase::Live,
            Phase::LeftEarly => {}
            phase => return Err((Promise::Answered, format!("session {no} of d{dev} is welcomed, and is {phase:?}"))),
        }
        Ok(())
    }

    /// A message is pushed to a session: in order, nothing left out, marked if it came before.
    pub fn deliver(&mut self, dev: usize, no: usize, seq: u64, redelivered: bool) -> Kept {
        let came = self.devs[dev].pushed.contains(&seq);
        let phase = self.devs[dev].sessions[no].phase;
        let over = || format!("{seq} is pushed to session {no} of d{dev}, which is {phase:?}");
        keep(matches!(phase, Phase::Live | Phase::LeftEarly), Promise::Ordered, over)?;
        let sess = &self.devs[dev].sessions[no];
        let last = sess.got.last().copied().unwrap_or(0);
        keep(seq > last, Promise::Ordered, || format!("{seq} is pushed to d{dev} after {last}"))?;
        self.check_nothing_left_out(dev, no, seq - 1, Promise::Ordered)?;
        keep(!came || redelivered, Promise::Marked, || format!("{seq} comes to d{dev} again, unmarked"))?;
        let false_mark = redelivered && !came && !self.crashed;
        keep(!false_mark, Promise::Marked, || format!("{seq} is marked for d{dev}, and came never before"))?;
        let device = &mut self.devs[dev];
        if !came {
            let first = device.pushed.last().is_none_or(|last| *last < seq);
            keep(first, Promise::Ordered, || format!("{seq} comes to d{dev} after what comes later"))?;
            device.pushed.push(seq);
        }
        device.sessions[no].got.push(seq);
        Ok(())
    }

    fn check_nothing_left_out(&self, dev: usize, no: usize, upto: u64, promise: Promise) -> Kept {
        let device = &self.devs[dev];
        let owed = |msg: &&Msg| msg.seq <= upto && device.is_owed(msg);
        let left_out = self.msgs.iter().filter(owed).find(|msg| !device.sessions[no].got.contains(&msg.seq));
        keep(left_out.is_none(), promise, || {
            let seq = left_out.map_or(0, |msg| msg.seq);
            format!("session {no} of d{dev} goes on to {upto} and past, without {seq}")
        })
    }

    pub fn caught_up(&mut self, dev: usize, no: usize, seq: u64) -> Kept {
        let sess = &mut self.devs[dev].sessions[no];
        let twice = std::mem::replace(&mut sess.caught_up, true);
        keep(!twice, Promise::CaughtUp, || format!("session {no} of d{dev} is caught up twice"))?;
        let upto = sess.tail.max(seq);
        self.check_nothing_left_out(dev, no, upto, Promise::CaughtUp)
    }

    /// The client acknowledges all it has.
    pub fn ack(&mut self, dev: usize, no: usize) -> u64 {
        let device = &mut self.devs[dev];
        let sess = &mut device.sessions[no];
        for seq in sess.got.iter().skip(sess.acked) {
            if !device.acked.contains(seq) {
                device.acked.push(*seq);
            }
        }
        sess.acked = sess.got.len();
        let last = sess.got.last().copied().unwrap_or(0);
        self.note_handed();
        last
    }

    fn all_sessions(&self) -> Vec<(usize, usize)> {
        let devs = self.devs.iter().enumerate();
        devs.flat_map(|(dev, device)| (0..device.sessions.len()).map(move |no| (dev, no))).collect()
    }

    /// The session is at its end; what it got is of no use any more.
    pub fn end(&mut self, dev: usize, no: usize, phase: Phase) {
        let caught_up = phase != Phase::LeftEarly;
        self.devs[dev].sessions[no] = Sess { phase, got: Vec::new(), acked: 0, tail: 0, caught_up };
    }

    /// Looks at the disk after a commit.
    pub fn committed(&mut self, disk: &Disk) {
        self.msgs.iter_mut().for_each(|msg| msg.stored |= disk.has(msg.seq));
        for (name, record) in &disk.devices {
            let device = &mut self.devs[device_no(name)];
            device.start = device.start.or(Some(record.start.0));
        }
    }

    /// The process is gone; whatever was accepted must be safe all the same.
    pub fn crash(&mut self, disk: &Disk) -> Kept {
        self.committed(disk);
        self.crashed = true;
        let there = disk.devices.len();
        let known = self.devs.iter().filter(|dev| dev.start.is_some()).count();
        keep(there == known, Promise::Safe, || format!("{known} devices were registered, {there} are"))?;
        self.check_safe(disk)?;
        for msg in self.msgs.iter_mut().filter(|msg| !msg.accepted && !disk.has(msg.seq)) {
            msg.lost = true;
        }
        for sent in self.sent.iter_mut().flatten().filter(|sent| **sent == Sent::Open) {
            *sent = Sent::Unanswered;
        }
        for (dev, no) in self.all_sessions() {
            self.end(dev, no, Phase::Over);
        }
        Ok(())
    }

    pub fn check_rest(&self, disk: &Disk) -> Kept {
        let rest = |holds, found: &str| keep(holds, Promise::ComesToRest, || found.to_owned());
        let lacks = |msg: &&Msg| msg.accepted && self.devs.iter().any(|dev| dev.is_owed(msg));
        let lacking = self.msgs.iter().find(lacks);
        keep(lacking.is_none(), Promise::ComesToRest, || {
            format!("{} was accepted and never comes to every device", lacking.map_or(0, |msg| msg.seq))
        })?;
        rest(disk.inbox.is_empty(), "every device has everything, and the disk is not empty")?;
        rest(!self.sent.iter().flatten().any(|sent| *sent == Sent::Open), "a send is never answered")?;
        let sessions = || self.devs.iter().flat_map(|dev| &dev.sessions);
        rest(!sessions().any(|sess| sess.phase == Phase::Asked), "a session is never let in")?;
        rest(!sessions().any(|sess| sess.phase == Phase::Live && !sess.caught_up), "a session never catches up")
    }
}

impl Dev {
    /// Registered, meant to have it, and without having acknowledged it.
    fn is_owed(&self, msg: &Msg) -> bool {
        !msg.lost && !msg.handed && self.start.is_some_and(|start| start < msg.seq) && !self.acked.contains(&msg.seq)
    }

    /// The newest session whose client is there.
    pub fn newest(&self) -> Option<usize> {
        self.sessions.iter().rposition(|sess| matches!(sess.phase, Phase::Asked | Phase::Live))
    }
}

impl Sess {
    /// There is something to acknowledge.
    pub fn owes_ack(&self) -> bool {
        self.phase == Phase::Live && self.acked < self.got.len()
    }
}
