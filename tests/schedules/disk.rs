//! The store as its contract describes it, in plain memory: what was committed, what waits for the
//! writer, and what a crash leaves of it.
//!
//! It checks that every stored message leaves exactly once; it judges nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use doorstep::ids::{DeviceId, Seq, UserId};
use doorstep::message::{Message, Tally};
use doorstep::routing::effect::ReadPage;
use doorstep::store::{
    CommitReport, DeadReason, DedupeKey, DedupeRecord, DeviceRecord, FoundLetter, LoadedDevice, LoadedUser, Op, Page,
    StoreError, Stored, UserRecord, What, Write, Written,
};

use super::cast::{USERS, device_no, id_no, user_no};

/// What a damaged record is heavier by than the message it was.
const RAW_EXTRA: u64 = 9;

#[derive(Clone)]
pub struct Kept {
    pub message: Arc<Message>,
    tally: Tally,
    pub corrupt: bool,
}

struct Known {
    from: u8,
    id: u8,
    record: DedupeRecord,
    put_us: u64,
}

/// All that is on disk of one user.
#[derive(Default)]
pub struct Room {
    pub inbox: Vec<Kept>,
    pub devices: Vec<(DeviceId, DeviceRecord)>,
    record: UserRecord,
    known: Vec<Known>,
}

/// What one commit did, for the ledger.
#[derive(Default)]
pub struct Committed {
    pub stored: Vec<(u8, u64)>,
    pub removed: Vec<(u8, u64)>,
    /// Devices that were not there before, with their cursors.
    pub enrolled: Vec<(u8, u8, u64)>,
}

pub struct Disk {
    pub rooms: [Room; USERS],
    pub queue: VecDeque<Write>,
    pub poisoned: bool,
    /// No seq above this may be given out.
    pub ceiling: u64,
    /// The highest ceiling that was found after an unclean stop, ever.
    pub unclean_upto: u64,
    pub window_us: u64,
    /// Of each dead letter the user, the seq, and the device for which it lapsed.
    pub dead: Vec<(u8, u64, Option<u8>)>,
    /// The dead-letter list by number, without the messages that cannot be read.
    pub letters: BTreeMap<u64, (UserId, Option<Arc<Message>>)>,
    /// Whose letter each one was, whatever became of it.
    pub letters_of: Vec<u8>,
    /// Letters below have fallen out of the list.
    letters_from: u64,
    pub total_bytes: u64,
    /// A record was damaged, ever.
    pub damaged: bool,
}

impl Disk {
    pub fn new(window_us: u64) -> Self {
        Self {
            rooms: Default::default(),
            queue: VecDeque::new(),
            poisoned: false,
            ceiling: 0,
            unclean_upto: 0,
            window_us,
            dead: Vec::new(),
            letters: BTreeMap::new(),
            letters_of: Vec::new(),
            letters_from: 0,
            total_bytes: 0,
            damaged: false,
        }
    }

    pub fn has(&self, user: u8, seq: u64) -> bool {
        self.kept(user, seq).is_some()
    }

    pub fn kept(&self, user: u8, seq: u64) -> Option<&Kept> {
        let inbox = &self.rooms[usize::from(user)].inbox;
        inbox.binary_search_by_key(&seq, |kept| kept.message.seq.0).ok().map(|at| &inbox[at])
    }

    pub fn device(&self, user: u8, device: &DeviceId) -> Option<&DeviceRecord> {
        self.rooms[usize::from(user)].devices.iter().find(|(name, _)| name == device).map(|(_, record)| record)
    }

    pub fn messages(&self) -> usize {
        self.rooms.iter().map(|room| room.inbox.len()).sum()
    }

    /// One batch: the first `count` writes that wait. With `fail` the sync fails; whether the batch is
    /// on disk all the same (`anyway`) nobody in the process may know.
    pub fn commit(
        &mut self,
        count: usize,
        fail: bool,
        anyway: bool,
        now_us: u64,
        done: &mut Committed,
    ) -> CommitReport {
        let failed = fail || self.poisoned;
        let applied = !self.poisoned && (!fail || anyway);
        let mut written = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(Write { user, what }) = self.queue.pop_front() else { break };
            written.push(match what {
                What::Append { message, tally, digest, ticket } => {
                    let (seq, stored) = (message.seq, !ticket.is_cancelled());
                    if stored && applied {
                        self.know(&user, &message, digest, now_us);
                        self.append(&user, message, tally);
                        done.stored.push((user_no(&user), seq.0));
                    }
                    Written::Append { user, seq, stored }
                }
                What::Requeue { message, tally, letter, .. } => {
                    let seq = message.seq;
                    if applied {
                        let gone = self.letters.remove(&letter).is_none();
                        assert!(!gone || letter < self.letters_from, "{user}: letter {letter} goes back twice");
                        self.append(&user, message, tally);
                        done.stored.push((user_no(&user), seq.0));
                    }
                    Written::Append { user, seq, stored: true }
                }
                What::Change { token, ops } => {
                    if applied {
                        ops.into_iter().for_each(|op| self.change(&user, op, done));
                    }
                    Written::Change { user, token }
                }
            });
        }
        self.poisoned = failed;
        CommitReport { written, error: failed.then(|| StoreError::Write("the disk is on fire".into())) }
    }

    /// The oldest letter falls out of the list.
    pub fn drop_letter(&mut self) {
        if let Some((letter, _)) = self.letters.pop_first() {
            self.letters_from = letter + 1;
        }
    }

    pub fn letter(&self, letter: u64) -> FoundLetter {
        match self.letters.get(&letter) {
            None => FoundLetter::Absent,
            Some((_, None)) => FoundLetter::Unreadable,
            Some((user, Some(message))) => {
                FoundLetter::Whole { user: user.clone(), message: message.clone(), bytes: message.weight() }
            }
        }
    }

    fn know(&mut self, user: &UserId, message: &Message, digest: u64, put_us: u64) {
        let room = &mut self.rooms[usize::from(user_no(user))];
        let record = DedupeRecord { seq: message.seq, digest };
        let (from, id) = (user_no(&message.from), id_no(&message.id));
        room.known.retain(|known| (known.from, known.id) != (from, id));
        room.known.push(Known { from, id, record, put_us });
    }

    fn append(&mut self, user: &UserId, message: Arc<Message>, tally: Tally) {
        let room = &mut self.rooms[usize::from(user_no(user))];
        assert!(
            room.inbox.last().is_none_or(|last| last.message.seq < message.seq),
            "appends of a user reach the disk in order: {} is there before {}",
            room.inbox.last().map(|last| last.message.seq).unwrap_or_default(),
            message.seq
        );
        self.total_bytes += message.weight();
        room.inbox.push(Kept { message, tally, corrupt: false });
    }

    fn change(&mut self, user: &UserId, op: Op, done: &mut Committed) {
        let no = user_no(user);
        let room = &mut self.rooms[usize::from(no)];
        match op {
            Op::Remove { seq, bytes } => {
                let at = room.inbox.binary_search_by_key(&seq, |kept| kept.message.seq);
                let at = at.unwrap_or_else(|_| panic!("{user}: {seq} is removed, but it is not on disk"));
                let kept = room.inbox.remove(at);
                let weight = kept.message.weight();
                assert!(
                    bytes == weight || (kept.corrupt && bytes == weight + RAW_EXTRA),
                    "{user}: {seq} weighs {weight}, not {bytes}"
                );
                self.total_bytes -= weight;
                done.removed.push((no, seq.0));
            }
            Op::PutDevice { device, record } => {
                let known = room.devices.len();
                room.devices.retain(|(name, _)| *name != device);
                if room.devices.len() == known {
                    done.enrolled.push((no, device_no(&device), record.cursor.0));
                }
                room.devices.push((device, record));
                room.devices.sort_by(|a, b| a.0.cmp(&b.0));
            }
            Op::DropDevice { device } => room.devices.retain(|(name, _)| *name != device),
            Op::PutUser { record } => room.record = record,
            Op::PutDue { .. } | Op::DropDue { .. } => {}
            Op::Bury { letter } => {
                let lapsed = letter.device.as_ref().filter(|_| letter.reason == DeadReason::Lapsed);
                self.dead.push((no, letter.seq.0, lapsed.map(device_no)));
                self.letters.insert(self.letters_of.len() as u64, (user.clone(), letter.message));
                self.letters_of.push(no);
            }
        }
    }

    pub fn load(&self, user: u8, now_us: u64) -> LoadedUser {
        let room = &self.rooms[usize::from(user)];
        let least = room.devices.iter().map(|(_, record)| record.cursor).min().unwrap_or(Seq::ZERO);
        let behind = |cursor: Seq| room.inbox.iter().find(move |kept| kept.message.seq > cursor);
        let first = behind(least);
        LoadedUser {
            record: room.record.clone(),
            devices: room
                .devices
                .iter()
                .map(|(device, record)| LoadedDevice {
                    device: device.clone(),
                    record: record.clone(),
                    base: behind(record.cursor).map(Kept::before),
                })
                .collect(),
            first: first.map(|kept| (kept.message.seq, kept.tally, kept.message.weight())),
            last: first.and(room.inbox.last()).map(|kept| (kept.message.seq, kept.tally)),
            has_dedupe: room.known.iter().any(|known| now_us <= known.put_us + self.window_us),
        }
    }

    pub fn page_for(&self, ask: &ReadPage) -> Page {
        self.page(user_no(&ask.user), ask.after, ask.upto, ask.max_messages, ask.max_bytes)
    }

    pub fn page(&self, user: u8, after: Seq, upto: Seq, max_messages: usize, max_bytes: u64) -> Page {
        let mut page = Page { end: true, ..Page::default() };
        let mut bytes = 0;
        let inbox = &self.rooms[usize::from(user)].inbox;
        let from = inbox.partition_point(|kept| kept.message.seq <= after);
        for kept in inbox[from..].iter().take_while(|kept| kept.message.seq <= upto) {
            let taken = page.messages.len() + page.corrupt.len();
            let weight = kept.message.weight();
            if taken > 0 && (taken >= max_messages || bytes + weight > max_bytes) {
                page.end = false;
                break;
            }
            bytes += weight;
            if kept.corrupt {
                page.corrupt.push((kept.message.seq, weight + RAW_EXTRA));
            } else {
                page.messages.push(Stored { message: kept.message.clone(), tally: kept.tally });
            }
        }
        page
    }

    pub fn look_up(&self, key: &DedupeKey, now_us: u64) -> Option<DedupeRecord> {
        let (from, id) = (user_no(&key.from), id_no(&key.id));
        let known = self.rooms[usize::from(user_no(&key.recipient))].known.iter();
        let mut fresh = known.filter(|known| now_us <= known.put_us + self.window_us);
        fresh.find(|known| (known.from, known.id) == (from, id)).map(|known| known.record)
    }

    /// The process is gone: what waited for the writer is gone with it.
    pub fn crash(&mut self) {
        self.queue.clear();
        self.poisoned = false;
        self.unclean_upto = self.ceiling;
    }

    /// A message that was removed on disk must have been lacked by nobody, and one that every device
    /// has behind it must be gone: nobody would ever look at it again.
    pub fn check_no_orphans(&self) {
        for (user, room) in self.rooms.iter().enumerate() {
            let Some(least) = room.devices.iter().map(|(_, record)| record.cursor).min() else { continue };
            let orphan = room.inbox.iter().find(|kept| kept.message.seq <= least);
            if let Some(kept) = orphan {
                panic!("u{user}: {} is on disk, and every cursor on disk is behind it ({least})", kept.message.seq);
            }
        }
    }
}

impl Kept {
    fn before(&self) -> Tally {
        let Tally { messages, bytes } = self.tally;
        Tally { messages: messages - 1, bytes: bytes - self.message.weight() }
    }
}
