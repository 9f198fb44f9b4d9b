//! Reads from the store, off the async threads: what an owner has asked for, and how much of it is under way.
//!
//! Parts of an inbox are read two at a time by threads that give way to everything else, and the next one when an owner
//! has dealt with the last: a thousand users who catch up at the same moment stand in line here, and not before those
//! who talk. Whatever is read comes back as a report through the owner's mailbox.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::command::{Command, Report};
use super::core::SWEEP_PAGE_MESSAGES;
use super::effect::ReadPage;
use super::router::Router;
use super::shard::World;
use crate::ids::{Seq, UserId};
use crate::patience::{Patience, give_way};
use crate::store::reader::Reader;
use crate::store::{DedupeKey, StoreError};

/// Of each owner. Enough that one is read while another one is sent, and that one on which the disk hangs holds nobody
/// up. With more of them on one core, those who talk wait several times as long.
pub const PARTS_AT_ONCE: usize = 2;

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
            let read = self.reading(soon);
            // Detached on purpose: its result is a report.
            drop(tokio::task::spawn_blocking(move || {
                // A crowd that comes in at once comes after those who are there.
                give_way(Patience::Short);
                read();
            }));
        }
        while self.parts_under_way < PARTS_AT_ONCE
            && let Some(part) = self.parts.pop_front()
        {
            self.parts_under_way += 1;
            self.world.background.run(self.reading(vec![part]));
        }
    }

    fn reading(&self, reads: Vec<Read>) -> impl FnOnce() + Send + use<> {
        let (reader, router) = (self.world.reader.clone(), self.world.router.clone());
        let (shard, page_bytes) = (self.shard, self.page_bytes);
        move || read_all(&reader, &router, shard, page_bytes, reads)
    }
}

/// Reads one after the other and reports each to its owner, in the order in which they were asked for.
fn read_all(reader: &Reader, router: &Router, shard: usize, page_bytes: u64, reads: Vec<Read>) {
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
        if router.send_blocking(shard, smallvec::smallvec![report.into()]).is_err() {
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

#[cfg(test)]
mod tests {
    //! Goal: parts of inboxes are read a few at a time, and what cannot be read is said. Method: the test plays the
    //! owner and empties its mailbox; it waits with a limit, so that it fails rather than hangs.

    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::{Clock, wall_ms};
    use crate::config::Config;
    use crate::ids::SessionId;
    use crate::logged::logged;
    use crate::metrics::Metrics;
    use crate::patience::Background;
    use crate::routing::events::Events;
    use crate::routing::outstanding::Outstanding;
    use crate::routing::presence_view::PresenceView;
    use crate::routing::reporter::OwnersReporter;
    use crate::routing::router::Batch;
    use crate::routing::testing::{device, user};
    use crate::store::memory::MemoryEngine;
    use crate::store::writer::Cellar;
    use crate::store::{FoundLetter, LoadedUser};

    const LIMIT: Duration = Duration::from_secs(20);

    /// What the only owner of a router wants read, of an empty store, and its mailbox.
    fn reads() -> (Reads, mpsc::Receiver<Batch>) {
        let (config, metrics) = (Config::default(), Metrics::new());
        let (router, mut mailboxes) = Router::to_test(1, 16);
        let engine = MemoryEngine::new();
        let cellar = Cellar::open_on(engine, &config.store, &config.queue, metrics, wall_ms()).unwrap();
        let (reader, clock) = (cellar.reader.clone(), Clock::start(cellar.boot.floor.0 + 1));
        // Nobody hears of commits: there are none.
        let reporter = OwnersReporter::new(Router::to_test(1, 1).0);
        let writer = cellar.start(1, clock, Arc::new(reporter)).unwrap();
        let (view, outstanding) = (PresenceView::default(), Outstanding::new(1));
        let background = Background::start("background", PARTS_AT_ONCE).unwrap();
        let world = World { clock, reader, writer, background, view, events: Events::default(), outstanding, router };
        (Reads::new(0, world, config.store.page_bytes), mailboxes.remove(0))
    }

    fn page() -> Read {
        let (user, device, session) = (user("bob"), device("phone"), SessionId(1));
        let (after, upto) = (Seq::ZERO, Seq(10));
        Read::Page(Box::new(ReadPage { user, device, session, after, upto, max_messages: 1, max_bytes: 1 }))
    }

    fn sweep() -> Read {
        Read::Sweep { user: user("bob"), job: 1, after: Seq::ZERO, upto: Seq(10) }
    }

    /// What the owner is told next.
    async fn next(mailbox: &mut mpsc::Receiver<Batch>) -> Command {
        let batch = tokio::time::timeout(LIMIT, mailbox.recv()).await.expect("waited in vain");
        batch.expect("it is still there").into_iter().next().expect("no batch is empty")
    }

    #[tokio::test]
    async fn a_few_parts_are_read_at_once_and_the_next_when_one_was_dealt_with() {
        let (mut reads, mut mailbox) = reads();
        for _ in 0..PARTS_AT_ONCE / 2 + 1 {
            reads.ask(page());
            reads.ask(sweep());
        }
        reads.start();
        assert_eq!(reads.parts.len(), 2, "they stand in line");
        let mut parts = Vec::new();
        for _ in 0..PARTS_AT_ONCE {
            parts.push(next(&mut mailbox).await);
        }
        // What is small does not stand behind them, and makes no room for another one.
        reads.ask(Read::Load(user("bob")));
        reads.start();
        let loaded = next(&mut mailbox).await;
        assert!(matches!(&loaded, Command::Report(report) if matches!(**report, Report::Loaded { .. })));
        reads.note(&loaded);
        reads.start();
        assert_eq!(reads.parts.len(), 2);
        for left in [1, 0] {
            reads.note(&parts.pop().unwrap());
            reads.start();
            assert_eq!(reads.parts.len(), left);
            next(&mut mailbox).await;
        }
    }

    #[test]
    fn what_could_not_be_read_is_logged_and_what_could_is_not() {
        fn broken<T>() -> Result<T, StoreError> {
            Err(StoreError::Read("broken".to_owned()))
        }
        let (user, device, session) = (user("bob"), device("phone"), SessionId(1));
        let key = DedupeKey { recipient: user.clone(), from: user.clone(), id: "m1".parse().unwrap() };
        let reports = [
            Report::Loaded { user: user.clone(), result: broken() },
            Report::Page { user: user.clone(), device, session, result: broken() },
            Report::Sweep { user: user.clone(), job: 1, result: broken() },
            Report::Dedupe { key, result: broken() },
            Report::Letter { user: user.clone(), letter: 1, result: broken() },
            Report::Loaded { user: user.clone(), result: Ok(LoadedUser::default()) },
            Report::Letter { user, letter: 1, result: Ok(FoundLetter::Absent) },
        ];
        let lines = logged(|| reports.iter().for_each(log_read_error));
        let is_said = |line: &String| line.contains("ERROR") && line.contains("read: broken");
        assert!(lines.len() == 5 && lines.iter().all(is_said), "{lines:?}");
    }
}
