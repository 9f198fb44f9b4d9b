//! The store as its contract describes it, in plain memory: what was synced, and what waits for that.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use doorstep::ids::{DeviceId, MessageId, Seq, UserId};
use doorstep::message::{Message, Tally};
use doorstep::routing::digest::{pour_record, pour_tally};
use doorstep::routing::state::State;
use doorstep::store::{
    CommitReport, DedupeKey, DedupeRecord, DeviceRecord, LoadedDevice, LoadedUser, Op, Page, StoreError, Stored, What,
    Write, Written,
};

use super::cast::device_no;
use super::mistakes::Mistake;

#[derive(Default)]
pub struct Disk {
    pub inbox: Vec<Stored>,
    pub devices: Vec<(DeviceId, DeviceRecord)>,
    pub known: Vec<(UserId, MessageId, DedupeRecord)>,
    pub queue: VecDeque<Write>,
    /// A sync has failed: nothing is written any more by this process.
    pub poisoned: bool,
    pub ceiling: u64,
    /// The highest ceiling that was found after an unclean stop.
    pub unclean_upto: Option<u64>,
    /// Used otherwise than its contract says.
    pub misused: Option<String>,
    /// A write that an owner has called back was passed over.
    pub passed_over: bool,
}

impl Disk {
    pub fn has(&self, seq: u64) -> bool {
        self.inbox.iter().any(|stored| stored.message.seq.0 == seq)
    }

    /// One batch of the first `count` writes that wait. With `fail` the sync fails; whether the batch is on disk
    /// all the same (`anyway`) nobody in the process may know.
    pub fn commit(&mut self, count: usize, fail: bool, anyway: bool, mistake: Option<Mistake>) -> CommitReport {
        let failed = fail || self.poisoned;
        let forgets = mistake == Some(Mistake::ReportBeforeSync);
        let applied = !self.poisoned && (!fail || anyway) && !forgets;
        let written = self.queue.drain(..count).collect::<Vec<_>>();
        let written = written.into_iter().map(|write| self.write(write, applied, mistake)).collect();
        self.poisoned = failed;
        CommitReport { written, error: failed.then(|| StoreError::Write("the disk is on fire".into())) }
    }

    fn write(&mut self, Write { user, what }: Write, applied: bool, mistake: Option<Mistake>) -> Written {
        match what {
            What::Append { message, tally, digest, ticket } => {
                let (seq, stored) = (message.seq, !ticket.is_cancelled());
                self.passed_over |= !stored;
                if stored && applied {
                    self.append(message, tally, digest);
                }
                let claims = stored || mistake == Some(Mistake::CalledBackIsStored);
                Written::Append { user, seq, stored: claims }
            }
            What::Requeue { message, .. } => {
                let seq = message.seq;
                self.misuse(|| format!("nobody has put {seq} back"));
                Written::Append { user, seq, stored: false }
            }
            What::Change { token, ops } => {
                if applied {
                    ops.into_iter().for_each(|op| self.change(op, mistake));
                }
                Written::Change { user, token }
            }
        }
    }

    fn append(&mut self, message: Arc<Message>, tally: Tally, digest: u64) {
        if self.inbox.last().is_some_and(|last| last.message.seq >= message.seq) {
            self.misuse(|| format!("{} reaches the disk out of order", message.seq));
        }
        self.known.retain(|(from, id, _)| (from, id) != (&message.from, &message.id));
        self.known.push((message.from.clone(), message.id.clone(), DedupeRecord { seq: message.seq, digest }));
        self.inbox.push(Stored { message, tally });
    }

    fn change(&mut self, op: Op, mistake: Option<Mistake>) {
        match op {
            Op::Remove { seq, .. } => {
                let there = self.inbox.len();
                self.inbox.retain(|stored| stored.message.seq != seq);
                if self.inbox.len() == there {
                    self.misuse(|| format!("{seq} is removed, but it is not on disk"));
                }
            }
            Op::PutDevice { .. } if mistake == Some(Mistake::CursorsAreNotWritten) && !self.devices.is_empty() => {}
            Op::PutDevice { device, record } => {
                self.devices.retain(|(name, _)| *name != device);
                self.devices.push((device, record));
                self.devices.sort_by(|a, b| a.0.cmp(&b.0));
            }
            Op::PutUser { .. } | Op::PutDue { .. } | Op::DropDue { .. } => {}
            Op::DropDevice { .. } | Op::Bury { .. } => self.misuse(|| format!("nobody asked for {op:?}")),
        }
    }

    fn misuse(&mut self, what: impl FnOnce() -> String) {
        self.misused.get_or_insert_with(what);
    }

    pub fn load(&self) -> LoadedUser {
        let least = self.devices.iter().map(|(_, record)| record.cursor).min().unwrap_or(Seq::ZERO);
        let behind = |cursor: Seq| self.inbox.iter().find(move |stored| stored.message.seq > cursor);
        let first = behind(least);
        let device = |(device, record): &(DeviceId, DeviceRecord)| LoadedDevice {
            device: device.clone(),
            record: record.clone(),
            base: behind(record.cursor).map(before),
        };
        LoadedUser {
            devices: self.devices.iter().map(device).collect(),
            first: first.map(|stored| (stored.message.seq, stored.tally, stored.message.weight())),
            last: first.and(self.inbox.last()).map(|stored| (stored.message.seq, stored.tally)),
            has_dedupe: !self.known.is_empty(),
            ..LoadedUser::default()
        }
    }

    pub fn page(&self, (after, upto): (Seq, Seq), max_messages: usize, mistake: Option<Mistake>) -> Page {
        let range = self.inbox.iter().filter(|stored| after < stored.message.seq && stored.message.seq <= upto);
        let there = range.clone().count();
        let end = there <= max_messages || mistake == Some(Mistake::ShortPageIsTheEnd);
        Page { messages: range.take(max_messages).cloned().collect(), end, ..Page::default() }
    }

    pub fn look_up(&self, key: &DedupeKey) -> Option<DedupeRecord> {
        self.known.iter().find(|(from, id, _)| (from, id) == (&key.from, &key.id)).map(|(_, _, record)| *record)
    }

    /// The process is gone: what waited for the writer is gone with it.
    pub fn crash(&mut self) {
        self.queue.clear();
        self.poisoned = false;
        self.unclean_upto = Some(self.ceiling);
    }

    /// The seqs on disk say which messages there are, and with them what is known for dedupe.
    pub fn pour(&self, state: &State, h: &mut impl Hasher) {
        (self.poisoned, self.ceiling, self.unclean_upto, self.inbox.len(), self.devices.len()).hash(h);
        for stored in &self.inbox {
            stored.message.seq.hash(h);
            pour_tally(stored.tally, h);
        }
        for (device, record) in &self.devices {
            device_no(device).hash(h);
            pour_record(record, h);
        }
        (self.known.len(), self.queue.len()).hash(h);
        self.known.iter().for_each(|(from, id, known)| (from, id, known.seq).hash(h));
        self.queue.iter().for_each(|write| state.pour_write(write, h));
    }
}

fn before(stored: &Stored) -> Tally {
    let Tally { messages, bytes } = stored.tally;
    Tally { messages: messages - 1, bytes: bytes - stored.message.weight() }
}
