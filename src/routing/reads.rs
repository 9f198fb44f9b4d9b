//! Reads from the store, off the async threads: what an owner has asked for, and how much of it is under way.
//!
//! Parts of an inbox are read a few at a time, and the next one when an owner has dealt with the last: a
//! thousand users who catch up at the same moment stand in line here, and not before those who talk. Whatever is
//! read comes back as a report through the owner's mailbox.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::command::{Command, Report};
use super::core::SWEEP_PAGE_MESSAGES;
use super::effect::ReadPage;
use super::shard::World;
use crate::ids::{Seq, UserId};
use crate::patience::give_way;
use crate::store::{DedupeKey, StoreError};

/// Enough that one is read while another one is sent, and that one on which the disk hangs holds nobody up.
const PARTS_AT_ONCE: usize = 4;

/// Something to be read.
pub enum Read {
    Load(UserId),
    LookUp(DedupeKey),
    Letter { user: UserId, letter: u64 },
    Page(Box<ReadPage>),
    Sweep { user: UserId, job: u64, after: Seq, upto: Seq },
}

/// What one owner wants read. A session has at most one page under way, and a user one read of any other kind, so
/// the line is no longer than there are of those.
pub struct Reads {
    shard: usize,
    world: World,
    page_bytes: u64,
    /// Small, and somebody waits for the answer.
    soon: Vec<Read>,
    /// Parts of inboxes, in the order in which they were asked for.
    parts: VecDeque<Read>,
    parts_under_way: usize,
}

impl Reads {
    pub fn new(shard: usize, world: World, page_bytes: u64) -> Self {
        Self { shard, world, page_bytes, soon: Vec::new(), parts: VecDeque::new(), parts_under_way: 0 }
    }

    pub fn ask(&mut self, read: Read) {
        match read {
            Read::Load(_) | Read::LookUp(_) | Read::Letter { .. } => self.soon.push(read),
            Read::Page(_) | Read::Sweep { .. } => self.parts.push_back(read),
        }
    }

    /// What the owner is about to deal with may be a part that was read.
    pub fn note(&mut self, command: &Command) {
        let Command::Report(report) = command else { return };
        if matches!(**report, Report::Page { .. } | Report::Sweep { .. }) {
            self.parts_under_way = self.parts_under_way.saturating_sub(1);
        }
    }

    pub fn start(&mut self) {
        if !self.soon.is_empty() {
            let soon = std::mem::take(&mut self.soon);
            self.spawn(soon);
        }
        while self.parts_under_way < PARTS_AT_ONCE
            && let Some(part) = self.parts.pop_front()
        {
            self.parts_under_way += 1;
            self.spawn(vec![part]);
        }
    }

    fn spawn(&self, reads: Vec<Read>) {
        let (world, shard, page_bytes) = (self.world.clone(), self.shard, self.page_bytes);
        // Detached on purpose: its result is a report.
        drop(tokio::task::spawn_blocking(move || read_all(&world, shard, page_bytes, reads)));
    }
}

/// Reads one after the other and reports each to its owner, in the order in which they were asked for.
fn read_all(world: &World, shard: usize, page_bytes: u64, reads: Vec<Read>) {
    let reader = &world.reader;
    // Those who talk come before those who catch up.
    give_way();
    for read in reads {
        let report = match read {
            Read::Load(user) => Report::Loaded { result: whatever_happens(|| reader.load(&user)), user },
            Read::LookUp(key) => Report::Dedupe { result: whatever_happens(|| reader.dedupe(&key)), key },
            Read::Letter { user, letter } => {
                Report::Letter { result: whatever_happens(|| reader.dead_letter(letter)), user, letter }
            }
            Read::Page(ask) => {
                let ReadPage { user, device, session, after, upto, max_messages, max_bytes } = *ask;
                let result = whatever_happens(|| reader.page(&user, after, upto, max_messages, max_bytes));
                Report::Page { result, user, device, session }
            }
            Read::Sweep { user, job, after, upto } => {
                let result = whatever_happens(|| reader.page(&user, after, upto, SWEEP_PAGE_MESSAGES, page_bytes));
                Report::Sweep { result, user, job }
            }
        };
        log_read_error(&report);
        if world.router.send_blocking(shard, smallvec::smallvec![report.into()]).is_err() {
            return;
        }
    }
}

/// An owner waits for every answer: without one, a user would stay away, or keep a place in the line, for good.
fn whatever_happens<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let panicked = |_| Err(StoreError::Read("the thread that read it has panicked".into()));
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(panicked)
}

fn log_read_error(report: &Report) {
    let error = match report {
        Report::Loaded { result: Err(error), .. }
        | Report::Page { result: Err(error), .. }
        | Report::Sweep { result: Err(error), .. }
        | Report::Dedupe { result: Err(error), .. }
        | Report::Letter { result: Err(error), .. } => error,
        _ => return,
    };
    tracing::error!(%error, "the store could not be read");
}
